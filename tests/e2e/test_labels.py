"""The copy of a project's labels follows a real Label Studio through everything that happens to annotations."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nerloop.demo import DEMO_FOLDER, create_project
from nerloop.documents import labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.label_studio import LabelStudio
from nerloop.project_state import Binding
from nerloop.tasks import Project, Task
from sync.label_copy import label_copy
from sync.pull import new_labels, snapshot

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:12]


@pytest.fixture
def project(stack: Sandbox) -> Iterator[Project]:
    """A connected project, whose first ten tasks are annotated and whose threshold is out of reach."""
    label_studio = stack.loop.label_studio
    made = stack.connected_project("labels", GOLD, "--train-threshold", "1000")
    for task, document in zip(label_studio.tasks(made), GOLD[:10], strict=False):
        regions = made.label_config.regions(document.text, document.entities)
        label_studio.create_annotation(task.id, regions, lead_time=1, parent_prediction=None)
    yield made
    label_studio._call("DELETE", f"api/projects/{made.id}/")


def copied(stack: Sandbox, project: Project) -> list[Task]:
    with label_copy(stack.loop.label_studio, project, stack.loop.settings) as copy:
        return list(copy.tasks())


def annotated(label_studio: LabelStudio, project: Project) -> list[Task]:
    tasks = label_studio.tasks(project, annotated=True)
    return [replace(task, predictions=(), has_drafts=False) for task in tasks]


def test_whatever_happens_to_annotations_the_copy_is_what_label_studio_holds(stack: Sandbox, project: Project) -> None:
    label_studio = stack.loop.label_studio
    call = label_studio._call
    tasks = annotated(label_studio, project)
    first = [task.annotations[0].id for task in tasks]
    (unlabelled, _) = label_studio.tasks(project, annotated=False)
    assert copied(stack, project) == tasks
    assert {type(annotation.annotator) for task in tasks for annotation in task.annotations} == {int}

    acts = {
        "changed": lambda: call("PATCH", f"api/annotations/{first[0]}/", body={"result": []}),
        "made the ground truth": lambda: call("PATCH", f"api/annotations/{first[1]}/", body={"ground_truth": True}),
        "turned into a skip": lambda: call("PATCH", f"api/annotations/{first[2]}/", body={"was_cancelled": True}),
        "deleted": lambda: call("DELETE", f"api/annotations/{first[3]}/"),
        "deleted with its task": lambda: call("DELETE", f"api/tasks/{tasks[4].id}/"),
        "made": lambda: label_studio.create_annotation(unlabelled.id, [], lead_time=1, parent_prediction=None),
        "made a second time": lambda: label_studio.create_annotation(
            tasks[5].id, [], lead_time=1, parent_prediction=None
        ),
        "skipped beside another": lambda: call(
            "POST", f"api/tasks/{tasks[6].id}/annotations/", body={"result": [], "was_cancelled": True}
        ),
    }
    for name, act in acts.items():
        act()
        assert copied(stack, project) == annotated(label_studio, project), name


def test_labels_are_new_until_a_run_has_decided_on_them(stack: Sandbox, project: Project) -> None:
    loop = stack.loop
    path = loop.settings.home / "dataset.jsonl"

    taken = snapshot(loop, [Binding(project.id, "labels", 50)], [project], path)

    assert len(new_labels(loop, [project], {})) == 10
    assert new_labels(loop, [project], taken.manifest) == {}
    assert {(d.text, d.entities) for d in taken.documents} == {(d.text, tuple(sorted(d.entities))) for d in GOLD[:10]}


def test_a_deleted_project_is_forgotten(stack: Sandbox) -> None:
    loop = stack.loop
    made = create_project(loop.label_studio, "deleted", GOLD[:1], labels_of(GOLD))
    stack.run("connect", "--project", str(made.id), "--annotations", "majority", "--train-threshold", "1000")
    binding = loop.state.binding(made.id)
    assert binding is not None and binding.annotations == "majority"
    copied(stack, made)

    loop.label_studio._call("DELETE", f"api/projects/{made.id}/")

    wait_until(lambda: loop.state.binding(made.id) is None, 60, "reconcile to forget the binding")
    wait_until(lambda: not list(loop.settings.home.glob(f"labels/*/{made.id}.sqlite")), 60, "the copy to go")
