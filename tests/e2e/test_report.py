"""What pre-labels were worth, told from what a real Label Studio holds after submits, refreshes and deletions."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nerloop.corrections import Corrections
from nerloop.demo import DEMO_FOLDER, annotate, create_project
from nerloop.documents import Entity, Prediction, Uncertainty, labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox
from nerloop.errors import BadInput
from nerloop.label_memory import LABEL_MEMORY
from nerloop.loop import Loop
from nerloop.pre_annotation import pre_annotate
from nerloop.promotions import STARTER_VERSION
from nerloop.split import side_of
from nerloop.tasks import Project, Task
from sync.predictions import old_predictions
from sync.report import report

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:60]


@pytest.fixture
def project(stack: Sandbox) -> Iterator[Project]:
    """A connected project with the starter's pre-labels."""
    label_studio = stack.loop.label_studio
    made = stack.connected_project("report", GOLD, "--train-threshold", "1000")
    yield made
    label_studio._call("DELETE", f"api/projects/{made.id}/")


def submit(stack: Sandbox, project: Project, *, changed: bool) -> Task:
    """Submit the next task that has pre-labels as Label Studio's page does: their regions, the first one changed."""
    label_studio = stack.loop.label_studio
    task = next(t for t in label_studio.tasks(project, annotated=False) if len(t.predictions[0].entities) > 1)
    prediction = label_studio._call("GET", f"api/predictions/{task.predictions[0].id}/")
    regions = [{**region, "origin": "prediction"} for region in prediction["result"]]
    if changed:
        regions[0]["origin"] = "prediction-changed"
        regions[0]["value"]["labels"] = ["DRUG"]
    label_studio.create_annotation(task.id, regions, lead_time=7.5, parent_prediction=prediction["id"])
    return task


def test_what_was_shown_is_known_after_a_refresh_and_after_its_prediction_is_deleted(
    stack: Sandbox, project: Project
) -> None:
    label_studio = stack.loop.label_studio
    kept, changed = submit(stack, project, changed=False), submit(stack, project, changed=True)
    shown = [len(task.predictions[0].entities) for task in (kept, changed)]
    expected = {STARTER_VERSION: Corrections(annotations=2, accepted=sum(shown) - 1, relabelled=1)}
    assert report(stack.loop, project.id).versions == expected

    # A promotion: newer predictions come, old ones go, from tasks that nobody has annotated.
    tasks = list(label_studio.tasks(project))
    newer = [replace(task.predictions[0], model_version="report-v1") for task in tasks]
    label_studio.import_predictions(project, [(t, p, 0.5) for t, p in zip(tasks, newer, strict=True)])
    label_studio.update_project(project.id, model_version="report-v1")
    assert {p.id for p in old_predictions(stack.loop, project, ["report-v1"])}.isdisjoint(
        {task.predictions[0].id for task in (kept, changed)}
    )
    assert report(stack.loop, project.id).versions == expected

    # Somebody deletes them by hand, whereby Label Studio forgets which prediction an annotation began with.
    for task in (kept, changed):
        label_studio.delete_prediction(task.predictions[0].id)
    annotations = [label_studio.task(project, task.id).annotations[0] for task in (kept, changed)]
    assert [(a.parent_prediction, a.lead_time, a.holds_pre_labels) for a in annotations] == [(None, 7.5, True)] * 2
    assert report(stack.loop, project.id).versions == expected

    # This is why predictions stay for a while after a promotion: a page that is still open could not submit any more.
    unlabelled = next(iter(label_studio.tasks(project, annotated=False)))
    with pytest.raises(BadInput, match="parent_prediction"):
        label_studio.create_annotation(unlabelled.id, [], lead_time=1, parent_prediction=kept.predictions[0].id)


def test_the_command_shows_each_version_and_what_confidence_was_worth(
    stack: Sandbox, project: Project, tmp_path: Path
) -> None:
    list(annotate(stack.loop.label_studio, project, GOLD, 12))
    stack.loop.label_studio.create_annotation(
        next(iter(stack.loop.label_studio.tasks(project, annotated=False))).id, [], lead_time=1, parent_prediction=None
    )

    found = json.loads(stack.run("report", "--project", str(project.id), "--json").stdout)
    screen = stack.run("report", "--project", str(project.id), "--plot", str(tmp_path / "curve.svg")).stdout

    (version,) = found["versions"]
    shown = sum(version[fate] for fate in ("accepted", "relabelled", "resized", "deleted"))
    assert (version["version"], version["annotations"], found["without_pre_labels"]) == (STARTER_VERSION, 12, 1)
    assert version["added"] > 0  # drugs and diseases, which the starter does not know
    assert sum(each["count"] for each in found["accepted_by_confidence"]) == shown
    assert STARTER_VERSION in screen and f"{version['accepted'] / shown:.1%}" in screen
    assert "Learning curve" in (tmp_path / "curve.svg").read_text(encoding="utf-8")


def test_what_label_memory_added_says_nothing_of_the_models_confidence(stack: Sandbox, project: Project) -> None:
    label_studio = stack.loop.label_studio
    task = next(iter(label_studio.tasks(project, annotated=False)))
    remembered = Entity(0, 2, "DRUG", 0.75, LABEL_MEMORY)
    made = Prediction((remembered,), 0.5, STARTER_VERSION, Uncertainty(0.5, -0.1, 0.2, 0.3))
    label_studio.import_predictions(project, [(task, made, 0.5)])
    shown = max(label_studio.task(project, task.id).predictions, key=lambda prediction: prediction.id)
    label_studio.create_annotation(task.id, shown.result, lead_time=3, parent_prediction=shown.id)

    found = report(stack.loop, project.id)

    assert found.versions == {STARTER_VERSION: Corrections(annotations=1, accepted=1)}
    assert found.accepted.entities == 0


def test_blind_tasks_show_nothing_and_tell_what_pre_labels_save(stack: Sandbox) -> None:
    settings = replace(
        stack.loop.settings, blind_held_out=True, dev_share=0.2, gate_share=0.2, random_share=0.5, train_threshold=1000
    )
    loop = Loop(settings)
    known = [replace(d, entities=tuple(e for e in d.entities if e.label in {"PER", "LOC", "ORG"})) for d in GOLD]
    project = create_project(loop.label_studio, "blind", known, labels_of(known))
    tasks = list(loop.label_studio.tasks(project))
    texts = [task.text or "" for task in tasks]
    made = pre_annotate(loop.serving.predictor("blind"), project.label_config, texts, settings)
    loop.label_studio.import_predictions(project, [(t, p, s) for t, (p, s) in zip(tasks, made, strict=True)])
    loop.label_studio.update_project(project.id, model_version=STARTER_VERSION)

    list(annotate(loop.label_studio, project, known, len(known)))

    held_out = [task for task in tasks if side_of(task.text or "", 0.2, 0.2) != "train"]
    annotated = {task.id: task for task in loop.label_studio.tasks(project)}
    assert {annotated[task.id].predictions[0].entities for task in held_out} == {()}
    assert all(annotated[task.id].annotations[0].parent_prediction for task in held_out)

    found = report(loop, project.id)

    assert found.versions[STARTER_VERSION].annotations == len(tasks) - len(held_out)
    assert found.bias is not None and found.bias.blind == len(held_out)
    assert found.bias.version == STARTER_VERSION and found.bias.right.entities > 0
    assert found.bias.time is not None and found.bias.time.blind_tasks == len(held_out)
    assert found.bias.time.tasks == found.bias.by_chance
    assert found.bias.time.interval[0] < found.bias.time.share < found.bias.time.interval[1]
    loop.label_studio._call("DELETE", f"api/projects/{project.id}/")
