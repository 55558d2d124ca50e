"""Takes a correction of what a model found into Label Studio, where it is an annotation like any other.

A text that is no task yet becomes one that carries a mark, so that it is for training only: it was sent because a model
erred, and would bias what measures models. A text that is a task already keeps its side.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from nerloop.acquisition import FIRST
from nerloop.annotations import latest
from nerloop.documents import Entity, check_entity
from nerloop.errors import BadInput, ProjectNotFound
from nerloop.loop import Loop
from nerloop.near_duplicates import GRAM, NearDuplicates
from nerloop.tasks import FEEDBACK_FIELD, Project, Task
from sync.pull import side_of_task

logger = logging.getLogger(__name__)

SEARCHED_CHARACTERS = 40  # of a text, by which Label Studio finds a few tasks: they stand in the address of the request
MOST_COMPARED = 1000  # tasks that share a piece of a text, as where a form was filled in


@dataclass(frozen=True)
class Feedback:
    """What became of a correction: its task, and its annotation where there is one.

    `serves` says whether models learn from the text; `evaluation` also where it is nearly one that measures them.
    `repeated`: the same had been sent before.
    """

    task_id: int
    annotation_id: int | None
    serves: Literal["training", "evaluation"]
    repeated: bool


def send_feedback(
    loop: Loop, project_id: int, text: str, entities: Sequence[Entity] | None, by: str, model_version: str = ""
) -> Feedback:
    """Store what is right of a text, and return what became of it.

    `entities` None says only that the model is wrong: the text waits for an annotator, before all others. `by` and
    `model_version`, who says so and of which, stand in the mark. Raises `BadInput` on an empty text, a span outside of
    it or a label that the project lacks.
    """
    project = loop.label_studio.project(project_id)
    _check(project, text, entities)
    mark = f"{by}, {model_version}" if model_version else by
    with loop.state.feedback_lock(project_id):  # the same text twice at once makes one task
        task = _task_of(loop, project, text)
        known = task is not None
        if task is None:
            made = loop.label_studio.create_task(project, {project.label_config.field: text, FEEDBACK_FIELD: mark})
            task = loop.label_studio.task(project, made)
        side = side_of_task(task, loop.settings)
        annotation_id = _annotation_of(project, task, entities)
        repeated = annotation_id is not None or (known and entities is None and task.feedback)
        if entities is not None and not repeated:
            regions = project.label_config.regions(text, entities)
            annotation_id = loop.label_studio.create_annotation(task.id, regions, lead_time=0, parent_prediction=None)
        if entities is None and known and side == "train" and not repeated:
            _bring_forward(loop, project, task, mark)
    learns = side == "train" and not _nearly_held_out(loop, project, text)
    serves: Literal["training", "evaluation"] = "training" if learns else "evaluation"
    logger.info("Project %s: feedback on task %s, for %s%s", project_id, task.id, serves, ", again" if repeated else "")
    return Feedback(task.id, annotation_id, serves, repeated)


def learned_by(loop: Loop, model: str, annotation_id: int) -> str:
    """Return the version in production if an annotation was among what it was made from, else nothing."""
    version = loop.registry.production(model).version
    if version is None or not version.trained_here:
        return ""
    return str(version) if str(annotation_id) in loop.registry.runs.manifest(version.run_id) else ""


def _check(project: Project, text: str, entities: Sequence[Entity] | None) -> None:
    if not text.strip():
        raise BadInput("field 'text' is empty; send the text that the model was wrong about")
    if "\0" in text:
        raise BadInput("field 'text' holds a NUL character, which PostgreSQL cannot store; take it out")
    for entity in entities or ():
        check_entity(entity, text)
        if entity.label not in project.label_config.controls:
            raise BadInput(
                f"field 'label': project {project.id} has no label {entity.label!r}; "
                f"it has {', '.join(project.label_config.labels)}"
            )


def _task_of(loop: Loop, project: Project, text: str) -> Task | None:
    """Return the oldest task of exactly this text, or None."""
    found = loop.label_studio.tasks(project, containing=text.strip()[:SEARCHED_CHARACTERS])
    return next((task for task in found if task.text == text), None)


def _nearly_held_out(loop: Loop, project: Project, text: str) -> bool:
    """Tell whether a held-out task of the model says almost the same, so that the text is left out of training.

    Label Studio finds tasks by a piece of their text: three pieces, since texts that resemble one another so much share
    at least one. White space is not compared, so that no piece reaches over any.
    """
    same = NearDuplicates([text])
    for one in _fed_together(loop, project):
        for piece in _pieces(text):
            for task in islice(loop.label_studio.tasks(one, containing=piece, bare=True), MOST_COMPARED):
                if side_of_task(task, loop.settings) != "train" and same.resembles(task.text or ""):
                    return True
    return False


def _fed_together(loop: Loop, project: Project) -> Iterator[Project]:
    """Yield a project and the others that feed its model."""
    yield project
    bound = loop.state.binding(project.id)
    for other in loop.state.bound_to(bound.model) if bound else ():
        if other.project_id != project.id:
            with suppress(ProjectNotFound):  # it was deleted; reconcile forgets it
                yield loop.label_studio.project(other.project_id)


def _pieces(text: str) -> set[str]:
    """Return the beginning, the middle and the end of a text, without white space."""
    words = text.split()
    longest = max(words, key=len)
    middle = max(0, (len(longest) - SEARCHED_CHARACTERS) // 2)
    pieces = {
        words[0][:SEARCHED_CHARACTERS],
        longest[middle : middle + SEARCHED_CHARACTERS],
        words[-1][-SEARCHED_CHARACTERS:],
    }
    return {piece for piece in pieces if len(piece) >= GRAM} or {longest[:SEARCHED_CHARACTERS]}


def _annotation_of(project: Project, task: Task, entities: Sequence[Entity] | None) -> int | None:
    """Return the annotation of a task that counts now if it says just this, or None."""
    submitted = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    if entities is None or not submitted:
        return None
    last = latest(submitted)
    said, _ = project.label_config.entities(task.text or "", last.result)
    return last.id if set(said) == set(entities) else None


def _bring_forward(loop: Loop, project: Project, task: Task, mark: str) -> None:
    """Let a training task that waits be served next; what measures models comes up by chance and stays there."""
    loop.label_studio.mark_task(task.id, FEEDBACK_FIELD, mark)
    for prediction in task.predictions:
        if prediction.model_version == project.model_version:
            loop.label_studio.change_prediction(prediction.id, score=FIRST)
