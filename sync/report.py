"""What pre-labels were worth in a project, from its annotations in Label Studio. Owns finding what each began with.

The figures are corrections.py's and calibration.py's; the command line shows them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from nerloop.calibration import Calibration, calibration
from nerloop.corrections import Corrections, corrections
from nerloop.documents import Document
from nerloop.loop import Loop
from nerloop.tasks import Annotation, Project, Task, TaskPrediction, document_id

TASKS_A_REQUEST = 200  # their ids stand in the address


@dataclass(frozen=True)
class Report:
    """The pre-labels of a project and what became of them.

    `versions` maps each version to what annotators did to its pre-labels, oldest first. `accepted` says by confidence
    how many were accepted unchanged (the accuracy of its bins). Of `without` annotations nobody knows that they began
    with pre-labels.
    """

    project_id: int
    title: str
    versions: dict[str, Corrections]
    accepted: Calibration
    without: int


@dataclass(frozen=True)
class _Work:
    """A submitted annotation as a document, beside the prediction it began with, where one is known."""

    document: Document
    shown: TaskPrediction | None


def report(loop: Loop, project_id: int) -> Report:
    """Return the report of a project; raises what Label Studio raises."""
    project = loop.label_studio.project(project_id)
    works = list(_works(loop, project))
    versions: dict[str, Corrections] = {}
    gold, shown = [], []
    for work in works:
        if work.shown is None:
            continue
        version = work.shown.model_version
        done = corrections(work.shown.entities, work.document.entities)
        versions[version] = versions.get(version, Corrections()) + done
        gold.append(work.document)
        shown.append(Document(work.document.id, work.document.text, work.shown.entities))
    return Report(project.id, project.title, versions, calibration(gold, shown), len(works) - len(gold))


def _works(loop: Loop, project: Project) -> Iterator[_Work]:
    tasks = loop.label_studio.tasks(project, annotated=True)
    while batch := list(islice(tasks, TASKS_A_REQUEST)):
        lost = [task.id for task in batch if any(_has_lost(annotation) for annotation in task.annotations)]
        at_submit = loop.label_studio.predictions_at_submit(project, lost) if lost else {}
        for task in batch:
            yield from _works_on(project, task, at_submit)


def _works_on(project: Project, task: Task, at_submit: dict[int, TaskPrediction]) -> Iterator[_Work]:
    if task.text is None:
        return
    stored = {prediction.id: prediction for prediction in task.predictions}
    for annotation in task.annotations:
        if annotation.was_cancelled:
            continue
        shown = stored.get(annotation.parent_prediction or 0)
        if _has_lost(annotation):
            shown = _if_it_fits(project, task.text, annotation, at_submit.get(annotation.id))
        entities = project.label_config.entities(task.text, annotation.result)[0]
        yield _Work(Document(document_id(project.id, task.id), task.text, entities), shown)


def _has_lost(annotation: Annotation) -> bool:
    """Tell whether the prediction that an annotation began with was deleted."""
    return annotation.parent_prediction is None and annotation.holds_pre_labels and not annotation.was_cancelled


def _if_it_fits(
    project: Project, text: str, annotation: Annotation, at_submit: TaskPrediction | None
) -> TaskPrediction | None:
    """Return the prediction of the version shown at the submit, unless the page was opened under another version."""
    unchanged = project.label_config.entities(text, annotation.unchanged_regions)[0]
    return at_submit if at_submit is not None and set(unchanged) <= set(at_submit.entities) else None
