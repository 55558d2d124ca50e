"""Brings the predictions of a project's unlabelled tasks to the version in production. Owns the order of the steps.

First the tasks that come next, then the switch that shows the new version, then all the others in few big posts, and
the old predictions last. Killed anywhere and run again, it goes on: what is missing is asked of Label Studio each time.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from nerloop.errors import LabelStudioError, LabelStudioUnreachable
from nerloop.label_studio import LabelStudio
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.tasks import Project, Task, TaskPrediction
from nerloop.versions import Production

if TYPE_CHECKING:
    from nerloop.predictor import Predictor

logger = logging.getLogger(__name__)

FIRST_SLICE = 50
TASKS_A_POST = 5000  # Label Studio counts all tasks of the project at each post: few big posts, or it is quadratic
TRIES = 5


def refresh_predictions(
    loop: Loop, binding: Binding, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> str:
    """Give every unlabelled task one prediction of the version in production and return that version.

    Goes on until the version posted is still in production, or stands in for one that cannot be read. `on_progress`
    gets (done, total) tasks. Old predictions go only after the grace period, and only from tasks that nobody has worked
    on.
    """
    version = ""
    while True:
        project = loop.label_studio.project(binding.project_id)
        predictor = loop.serving.update(binding.model)
        if predictor.model_version == version:
            logger.warning("Project %s: stays with %s, which stands in for what is in production", project.id, version)
            return version
        version = predictor.model_version
        _post_predictions(loop, project, binding.model, predictor, on_progress)
        production = loop.registry.production(binding.model)
        if version == production.name:
            break
        logger.info("Project %s: %s is no longer in production; starting again", project.id, version)
    if grace_is_over(loop, production):
        deleted = _delete_old(loop.label_studio, project, version)
        logger.info("Project %s: deleted %s old predictions", project.id, deleted)
    return version


def grace_is_over(loop: Loop, production: Production) -> bool:
    """Tell whether pages that were open at the promotion have had time to submit what they show."""
    grace = timedelta(seconds=loop.settings.grace_seconds)
    return production.since is None or datetime.now(UTC) - production.since >= grace


def _post_predictions(
    loop: Loop, project: Project, model: str, predictor: "Predictor", on_progress: Callable[[int, int], None]
) -> None:
    label_studio, version = loop.label_studio, predictor.model_version
    total = label_studio.count_tasks(project.id, annotated=False, lacking_version=version)
    done = 0
    # Label Studio refuses a version without predictions; where every task is annotated, nobody would see one.
    if project.model_version != version and label_studio.count_tasks(project.id, annotated=False):
        first = [t for t in label_studio.next_tasks(project, FIRST_SLICE) if version not in _versions(t)]
        done = _post(loop, project, model, predictor, first)
        label_studio.update_project(project.id, model_version=version)
        on_progress(done, total)
        logger.info("Project %s: shows %s; %s of %s tasks have their prediction", project.id, version, done, total)
    for attempt in range(1, TRIES + 1):
        lacking = label_studio.tasks(project, annotated=False, lacking_version=version, bare=True)
        try:
            for chunk in _chunks(lacking, TASKS_A_POST):
                done += _post(loop, project, model, predictor, chunk)
                on_progress(done, total)
            break
        except LabelStudioUnreachable:
            raise
        except LabelStudioError as error:  # "database is locked": ask again what is missing, so that nothing doubles
            if attempt == TRIES:
                raise
            logger.warning("Project %s: %s; trying again", project.id, error)
            time.sleep(2**attempt)
    logger.info("Project %s: %s tasks have predictions of %s", project.id, done, version)


def _post(loop: Loop, project: Project, model: str, predictor: "Predictor", tasks: Sequence[Task]) -> int:
    """Predict and store one slice; tasks without a usable text get an empty prediction, so that none is left over."""
    from nerloop.pre_annotation import pre_annotate  # needs torch, which reconcile never loads

    if not tasks:
        return 0
    unusable = [task.id for task in tasks if not task.text]
    if unusable:
        logger.warning(
            "Project %s: tasks %s have no text in field %r; nothing is predicted for them",
            project.id, unusable[:10], project.label_config.field,
        )  # fmt: skip
    texts = [task.text or "" for task in tasks]
    terms = loop.terms.update(model)
    made = pre_annotate(predictor, project.label_config, texts, loop.settings, terms)
    rows = [(task, prediction, score) for task, (prediction, score) in zip(tasks, made, strict=True)]
    created = loop.label_studio.import_predictions(project, rows)
    if created != len(tasks):
        logger.error("Project %s: Label Studio stored %s of %s predictions", project.id, created, len(tasks))
    return created


def _delete_old(label_studio: LabelStudio, project: Project, version: str) -> int:
    deleted = 0
    for prediction in old_predictions(label_studio, project, version):
        label_studio.delete_prediction(prediction.id)
        deleted += 1
    return deleted


def old_predictions(label_studio: LabelStudio, project: Project, version: str) -> Iterator[TaskPrediction]:
    """Yield all but the newest prediction of the version, of tasks without annotation, skip or draft."""
    for task in label_studio.tasks(project, annotated=False, min_predictions=2):
        if task.annotations or task.has_drafts:
            continue
        kept = max((p for p in task.predictions if p.model_version == version), key=_id, default=None)
        if kept is None:
            continue
        yield from (prediction for prediction in task.predictions if prediction != kept)


def _id(prediction: TaskPrediction) -> int:
    return prediction.id


def _versions(task: Task) -> set[str]:
    return {prediction.model_version for prediction in task.predictions}


def _chunks(tasks: Iterable[Task], size: int) -> Iterator[list[Task]]:
    iterator = iter(tasks)
    while chunk := list(islice(iterator, size)):
        yield chunk
