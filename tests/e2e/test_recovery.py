"""What was lost is found again: Redis flushed, webhooks undelivered, an interrupted promotion."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nerloop import checkpoint
from nerloop.demo import DEMO_FOLDER, annotate
from nerloop.documents import Prediction, Uncertainty, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.gate import Decision
from nerloop.jobs import refresh_id
from nerloop.project_state import Binding
from nerloop.promotions import STARTER_VERSION
from nerloop.starter import fresh_starter
from nerloop.tagger import adapt
from nerloop.tagging import Decoder
from nerloop.tasks import Project
from nerloop.versions import Candidate
from sync.predictions import old_predictions

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:30]


@pytest.fixture
def project(stack: Sandbox) -> Iterator[Project]:
    """A connected project of thirty tasks whose threshold is out of reach."""
    loop = stack.loop
    made = stack.connected_project("recovery", GOLD, "--train-threshold", "1000")
    yield made
    loop.label_studio._call("DELETE", f"api/projects/{made.id}/")


def new_labels(stack: Sandbox, project: Project) -> int:
    return stack.loop.state.new_labels(f"project-{project.id}")


def test_each_submitted_annotation_is_counted_by_its_webhook(stack: Sandbox, project: Project) -> None:
    list(annotate(stack.loop.label_studio, project, GOLD, 3))

    assert new_labels(stack, project) == 3


def test_flushing_redis_loses_nothing(stack: Sandbox, project: Project) -> None:
    list(annotate(stack.loop.label_studio, project, GOLD, 3))

    stack.loop.redis.flushall()

    wait_until(lambda: new_labels(stack, project) == 3, 60, "reconcile to count the labels again")
    wait_until(lambda: stack.loop.state.binding(project.id) is not None, 30, "the next one to know the binding")
    binding = stack.loop.state.binding(project.id)
    assert binding is not None
    assert (binding.model, binding.train_threshold) == (f"project-{project.id}", 1000)


def test_labels_whose_webhooks_got_lost_are_found(stack: Sandbox, project: Project) -> None:
    label_studio = stack.loop.label_studio
    for hook in label_studio.webhooks(project.id):
        label_studio.delete_webhook(hook["id"])

    submitted = {str(annotation_id) for annotation_id in annotate(label_studio, project, GOLD, 2)}

    wait_until(lambda: new_labels(stack, project) == 2, 60, "reconcile to find the labels")

    assert stack.loop.state.new_label_ids(f"project-{project.id}") == submitted


def test_tasks_imported_later_get_predictions_without_being_opened(stack: Sandbox, project: Project) -> None:
    stack.loop.label_studio.import_tasks(project.id, [{"data": {"text": "王芳明天去杭州市第一人民医院。"}}])

    wait_until(lambda: not stack.stale(project, STARTER_VERSION), 60, "a prediction of the new task")

    (task,) = [t for t in stack.loop.label_studio.tasks(project) if t.text and t.text.startswith("王芳")]
    assert [(e.start, e.end, e.label) for e in task.predictions[0].entities][:1] == [(0, 2, "PER")]


def test_a_refresh_whose_worker_is_killed_is_done_by_another(stack: Sandbox, project: Project) -> None:
    loop = stack.loop
    texts = [f"第{number}位患者王小明在北京协和医院就诊。" for number in range(3000)]
    loop.label_studio.import_tasks(project.id, [{"data": {"text": text}} for text in texts])
    loop.jobs.enqueue_refresh(project.id)
    running = refresh_id(project.id)
    wait_until(lambda: (status := loop.jobs.status(running)) is not None and status.state == "started", 60, "a refresh")

    stack.kill("worker-predict")

    wait_until(lambda: not stack.stale(project, STARTER_VERSION), 240, "another worker to finish the refresh")
    assert not loop.label_studio.count_tasks(project.id, annotated=False, min_predictions=2)


def test_a_skipped_task_does_not_keep_the_refresh_busy(stack: Sandbox, project: Project) -> None:
    loop = stack.loop
    task = next(iter(loop.label_studio.tasks(project)))
    older = Prediction((), 0.5, "older-v1", Uncertainty(0.5, -0.1, 0.2, 0.5))
    loop.label_studio._call("POST", f"api/tasks/{task.id}/annotations/", body={"result": [], "was_cancelled": True})
    loop.label_studio.import_predictions(project, [(task, older, 0.5)])

    assert not list(old_predictions(loop, project, [STARTER_VERSION]))


def test_a_project_without_unlabelled_tasks_takes_a_new_version_in_its_stride(stack: Sandbox) -> None:
    loop = stack.loop
    gold = read_jsonl(DEMO_FOLDER / "train.jsonl")[:60]
    project = stack.connected_project("all annotated", gold, "--model", "annotated", "--train-threshold", "1000")
    list(annotate(loop.label_studio, project, gold, len(gold)))

    stack.run("register", "lac", "--model", "annotated")

    refresh = refresh_id(project.id)
    wait_until(lambda: loop.jobs.status(refresh) is None, 60, "the refresh to end without a failure")
    loop.label_studio.import_tasks(project.id, [{"data": {"text": "李雷昨天到了南京。"}}])
    wait_until(
        lambda: loop.label_studio.project(project.id).model_version == loop.registry.production("annotated").name,
        60,
        "the next task to be shown with what is in production",
    )
    (waiting,) = loop.label_studio.tasks(project, annotated=False)
    assert waiting.predictions[-1].model_version == loop.registry.production("annotated").name


def test_a_version_that_passed_the_gate_is_promoted_though_its_worker_died(
    stack: Sandbox, project: Project, tmp_path: Path
) -> None:
    loop = stack.loop
    model = f"project-{project.id}"
    tagger = adapt(fresh_starter(), Decoder.flat(project.label_config.labels))
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), tmp_path / "made")
    (tmp_path / "dataset.jsonl").touch()
    candidate = Candidate(tmp_path / "made", project.label_config.labels, "", STARTER_VERSION, 0, {})
    loop.registry.register(model, candidate, tmp_path / "dataset.jsonl", {}, Decision(True, "better"))

    wait_until(lambda: loop.registry.production(model).name == f"{model}-v1", 60, "reconcile to promote it")

    assert loop.registry.production(model).generation == 1


def test_connecting_again_changes_nothing(stack: Sandbox, project: Project) -> None:
    label_studio = stack.loop.label_studio
    before = label_studio.ml_backends(project.id), label_studio.webhooks(project.id)

    stack.run("connect", "--project", str(project.id))

    after = label_studio.ml_backends(project.id), label_studio.webhooks(project.id)
    assert [b["id"] for b in before[0]] == [b["id"] for b in after[0]]
    assert [(h["id"], h["actions"], h["headers"]) for h in before[1]] == [
        (h["id"], h["actions"], h["headers"]) for h in after[1]
    ]
    assert label_studio.project(project.id).model_version == STARTER_VERSION
    assert stack.loop.state.binding(project.id) == Binding(project.id, f"project-{project.id}", 1000)


def test_a_process_that_is_killed_comes_back(stack: Sandbox) -> None:
    alive = stack.loop.state.replicas
    (before,) = alive()

    stack.kill("ml-backend")

    wait_until(lambda: any(replica != before for replica in alive()), 60, "a new replica")
    assert json.loads(stack.run("status", "--json").stdout)["processes"]["ml-backend"] == "RUNNING"
