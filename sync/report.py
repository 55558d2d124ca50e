"""What pre-labels were worth in a project, from its annotations in Label Studio. Owns finding what each began with.

The figures are those of corrections.py, calibration.py, blind.py and stopping.py; the command line shows them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from nerloop.blind import Timed, TimeSaved, time_saved, wrong_that_pass
from nerloop.calibration import Calibration, calibration
from nerloop.corrections import Corrections, corrections
from nerloop.documents import Document, Entity
from nerloop.loop import Loop
from nerloop.project_state import default_model
from nerloop.settings import Settings
from nerloop.split import side_of
from nerloop.stopping import Advice, Point, advice, learning_curve
from nerloop.tasks import Annotation, Project, Task, TaskPrediction, document_id
from sync.connect import stored_binding
from sync.memory import source_of

TASKS_A_REQUEST = 200  # their ids stand in the address


@dataclass(frozen=True)
class Report:
    """The pre-labels of a project and what became of them.

    `versions` maps each version to what annotators did to its pre-labels, oldest first. `accepted` says by confidence
    how many of the model's own were accepted unchanged (the accuracy of its bins). Of `without` annotations nobody
    knows that they began with pre-labels. `bias` is None where held-out tasks are not labelled blind. `curve` and
    `advice` are the model's.
    """

    project_id: int
    title: str
    versions: dict[str, Corrections]
    accepted: Calibration
    without: int
    bias: "Bias | None"
    curve: tuple[Point, ...]
    advice: Advice

    def row(self) -> dict[str, Any]:
        """Return what `nerloop report --json` prints."""
        versions = [
            {"version": version, **asdict(done), "edits_per_annotation": done.edits_per_annotation}
            for version, done in self.versions.items()
        ]
        return {
            "project_id": self.project_id,
            "title": self.title,
            "versions": versions,
            "accepted_by_confidence": [asdict(each) for each in self.accepted.bins],
            "without_pre_labels": self.without,
            "bias": asdict(self.bias) if self.bias else None,
            "learning_curve": [asdict(point) for point in self.curve],
            "advice": asdict(self.advice),
        }


@dataclass(frozen=True)
class Bias:
    """What showing pre-labels does, by comparison with `blind` annotations that began with none.

    `time` is None while there are too few; the `by_chance` annotations are those that may be compared with the blind
    ones. `right` says by confidence how many of the entities that `version` finds in the blind texts are right, and
    `passed` estimates how many wrong pre-labels were accepted, of how many.
    """

    blind: int
    by_chance: int
    time: TimeSaved | None
    version: str
    right: Calibration
    passed: tuple[float, int] | None


@dataclass(frozen=True)
class _Work:
    """A submitted annotation as a document, beside the prediction it began with, where one is known."""

    document: Document
    annotation: Annotation
    shown: TaskPrediction | None


def report(loop: Loop, project_id: int) -> Report:
    """Return the report of a project; raises what Label Studio and the registry raise."""
    project = loop.label_studio.project(project_id)
    binding = stored_binding(loop.label_studio, loop.settings, project.id)
    model = binding.model if binding else default_model(project.id)
    works = list(_works(loop, project))
    blind = [work for work in works if _is_blind(work, loop.settings)]
    others = [work for work in works if not _is_blind(work, loop.settings)]
    versions: dict[str, Corrections] = {}
    gold, shown = [], []
    for work in others:
        if work.shown is None:
            continue
        version = work.shown.model_version
        done = corrections(work.shown.entities, work.document.entities)
        versions[version] = versions.get(version, Corrections()) + done
        gold.append(work.document)
        shown.append(replace(work.document, entities=_found_by_the_model(project, work.document.text, work.shown)))
    accepted = calibration(gold, shown)
    bias = _bias(loop, project, model, blind, others, accepted) if loop.settings.blind_held_out else None
    curve = learning_curve(loop.registry.versions(model))
    return Report(project.id, project.title, versions, accepted, len(others) - len(gold), bias, curve, advice(curve))


def _bias(
    loop: Loop, project: Project, model: str, blind: Sequence[_Work], others: Sequence[_Work], accepted: Calibration
) -> Bias:
    """Compare with blind tasks those that came up by chance too: those chosen as hard would take longer anyway."""
    from nerloop.pre_annotation import order_of
    from nerloop.predictor import found_in  # need torch, which no other figure does

    order = order_of(loop.settings)
    by_chance = [work for work in others if work.shown is not None and order.by_chance(work.document.text)]
    timed = [_timed(work, blind=kind is blind) for kind in (blind, by_chance) for work in kind]
    predictor = loop.serving.predictor(model)
    gold = [work.document for work in blind]
    found = found_in(gold, predictor.with_labels(project.label_config.shown_as(predictor.labels)))
    right = calibration(gold, found)
    passed = wrong_that_pass(accepted, right)
    return Bias(len(blind), len(by_chance), time_saved(timed), predictor.model_version, right, passed)


def _found_by_the_model(project: Project, text: str, shown: TaskPrediction) -> tuple[Entity, ...]:
    """Leave out what label memory and the gazetteer added: their scores are not the model's confidence."""
    return project.label_config.entities(text, [region for region in shown.result if not source_of(region)])[0]


def _is_blind(work: _Work, settings: Settings) -> bool:
    """Tell whether the annotator was shown nothing on purpose."""
    nothing = work.shown is None or not work.shown.entities
    held_out = side_of(work.document.text, settings.dev_share, settings.gate_share) != "train"
    return settings.blind_held_out and nothing and held_out


def _timed(work: _Work, *, blind: bool) -> Timed:
    seconds = work.annotation.lead_time or 0.0
    return Timed(work.annotation.annotator, seconds, len(work.document.text), blind)


def _works(loop: Loop, project: Project) -> Iterator[_Work]:
    tasks = loop.label_studio.tasks(project, annotated=True)
    while batch := list(islice(tasks, TASKS_A_REQUEST)):
        lost = [task.id for task in batch if any(_has_lost(annotation) for annotation in task.annotations)]
        at_submit = loop.label_studio.predictions_at_submit(project, lost) if lost else {}
        for task in batch:
            yield from _works_on(project, task, at_submit)


def _works_on(project: Project, task: Task, at_submit: dict[int, TaskPrediction]) -> Iterator[_Work]:
    if task.text is None or task.feedback:
        return  # feedback was chosen because a model erred, and says nothing of pre-labels as they are
    stored = {prediction.id: prediction for prediction in task.predictions}
    for annotation in task.annotations:
        if annotation.was_cancelled:
            continue
        shown = stored.get(annotation.parent_prediction or 0)
        if _has_lost(annotation):
            shown = _if_it_fits(project, task.text, annotation, at_submit.get(annotation.id))
        entities = project.label_config.entities(task.text, annotation.result)[0]
        yield _Work(Document(document_id(project.id, task.id), task.text, entities), annotation, shown)


def _has_lost(annotation: Annotation) -> bool:
    """Tell whether the prediction that an annotation began with was deleted."""
    return annotation.parent_prediction is None and annotation.holds_pre_labels and not annotation.was_cancelled


def _if_it_fits(
    project: Project, text: str, annotation: Annotation, at_submit: TaskPrediction | None
) -> TaskPrediction | None:
    """Return the prediction of the version shown at the submit, unless the page was opened under another version."""
    unchanged = project.label_config.entities(text, annotation.unchanged_regions)[0]
    return at_submit if at_submit is not None and set(unchanged) <= set(at_submit.entities) else None
