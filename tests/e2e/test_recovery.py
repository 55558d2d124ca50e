"""What was lost is found again: Redis flushed, webhooks undelivered, an interrupted promotion."""

import json
from collections.abc import Iterator

import pytest

from nerloop.demo import DEMO_FOLDER, annotate, create_project
from nerloop.documents import labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.promotions import STARTER_VERSION
from nerloop.tasks import Project

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:30]


@pytest.fixture
def project(stack: Sandbox) -> Iterator[Project]:
    """A connected project of thirty tasks whose threshold is out of reach."""
    loop = stack.loop
    made = create_project(loop.label_studio, "recovery", GOLD, labels_of(GOLD))
    stack.run("connect", "--project", str(made.id), "--train-threshold", "1000")
    wait_until(lambda: fresh(stack, made), 60, "the starter's predictions")
    yield made
    loop.label_studio._call("DELETE", f"api/projects/{made.id}/")


def fresh(stack: Sandbox, project: Project) -> bool:
    label_studio = stack.loop.label_studio
    shown = label_studio.project(project.id).model_version == STARTER_VERSION
    return shown and not label_studio.count_tasks(project.id, annotated=False, lacking_version=STARTER_VERSION)


def new_labels(stack: Sandbox, project: Project) -> int:
    return stack.loop.state.new_labels(f"project-{project.id}")


def test_each_submitted_annotation_is_counted_by_its_webhook(stack: Sandbox, project: Project) -> None:
    list(annotate(stack.loop.label_studio, project, GOLD, 3))

    assert new_labels(stack, project) == 3


def test_flushing_redis_loses_nothing(stack: Sandbox, project: Project) -> None:
    list(annotate(stack.loop.label_studio, project, GOLD, 3))

    stack.loop.redis.flushall()

    wait_until(lambda: new_labels(stack, project) == 3, 60, "reconcile to count the labels again")
    binding = stack.loop.state.binding(project.id)
    assert binding is not None
    assert (binding.model, binding.train_threshold) == (f"project-{project.id}", 1000)


def test_labels_whose_webhooks_got_lost_are_found(stack: Sandbox, project: Project) -> None:
    label_studio = stack.loop.label_studio
    for hook in label_studio.webhooks(project.id):
        label_studio.delete_webhook(hook["id"])

    list(annotate(label_studio, project, GOLD, 2))

    wait_until(lambda: new_labels(stack, project) == 2, 60, "reconcile to find the labels")


def test_tasks_imported_later_get_predictions_without_being_opened(stack: Sandbox, project: Project) -> None:
    stack.loop.label_studio.import_tasks(project.id, [{"data": {"text": "王芳明天去杭州市第一人民医院。"}}])

    wait_until(lambda: fresh(stack, project), 60, "a prediction of the new task")

    (task,) = [t for t in stack.loop.label_studio.tasks(project) if t.text and t.text.startswith("王芳")]
    assert [(e.start, e.end, e.label) for e in task.predictions[0].entities][:1] == [(0, 2, "PER")]


def test_connecting_again_changes_nothing(stack: Sandbox, project: Project) -> None:
    label_studio = stack.loop.label_studio
    before = label_studio.ml_backends(project.id), label_studio.webhooks(project.id)

    stack.run("connect", "--project", str(project.id), "--train-threshold", "1000")

    after = label_studio.ml_backends(project.id), label_studio.webhooks(project.id)
    assert [b["id"] for b in before[0]] == [b["id"] for b in after[0]]
    assert [(h["id"], h["actions"], h["headers"]) for h in before[1]] == [
        (h["id"], h["actions"], h["headers"]) for h in after[1]
    ]
    assert label_studio.project(project.id).model_version == STARTER_VERSION


def test_a_process_that_is_killed_comes_back(stack: Sandbox) -> None:
    alive = stack.loop.state.replicas
    (before,) = alive()

    stack.kill("ml-backend")

    wait_until(lambda: any(replica != before for replica in alive()), 60, "a new replica")
    assert json.loads(stack.run("status", "--json").stdout)["processes"]["ml-backend"] == "RUNNING"
