"""Brings the predictions of a project's unlabelled tasks to the version in production. Owns the order of the steps.

First the tasks that come next, then the switch that shows the new version, then all the others; then the order of what
comes next now, and the old predictions last. While one post is stored the next slices are read and predicted
(slices.py). Killed anywhere and run again, it goes on: what is missing is asked of Label Studio each time.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from nerloop.acquisition import HEAD
from nerloop.errors import BadInput, LabelStudioError, LabelStudioUnreachable, RegistryError
from nerloop.label_studio import LabelStudio
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.promotions import version_name
from nerloop.tasks import Project, Task, TaskPrediction
from sync.slices import Row, arranged, predict, predicted

if TYPE_CHECKING:
    from nerloop.predictor import Predictor

logger = logging.getLogger(__name__)

FIRST_SLICE = 50
SLICES_A_POST = 5
"""At most 5,000 tasks and half a million characters, some 15 MB. Few, since each costs Label Studio a recount of all
the project's tasks where it runs without the feature flag of servers.py; and bounded, since SQLite is locked while it
writes and refuses an annotator who waits for 5 s. With posts of up to 10,000 tasks beside an annotator, on a machine
busy eight times over, none waited for more than 4.1 s."""
TURN_SECONDS = 30
"""For which a refresh goes on though other jobs wait: one of 100,000 tasks by a large model would take an hour."""
DELETING_SECONDS = 20
PAGE = 200  # tasks that are read at once before their old predictions go, so that a draft made meanwhile is seen soon
TRIES = 5


def refresh_predictions(
    loop: Loop, binding: Binding, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> str | None:
    """Give every unlabelled task one prediction of the version in production and return that version.

    Goes on until the version posted is still in production, or stands in for one that cannot be read. `on_progress`
    gets (done, total) tasks. Old predictions go as `old_predictions` says, some at a time: neither another version nor
    new tasks wait until all of them are gone.

    None means that other jobs wait, of other models, and that there is more to do when they have had their turn.
    """
    before = ""
    turn_ends = time.monotonic() + TURN_SECONDS

    def turn_is_over() -> bool:
        return time.monotonic() > turn_ends and loop.jobs.others_wait(binding.project_id, binding.model)

    while True:
        project = loop.label_studio.project(binding.project_id)
        meant = loop.registry.production(binding.model).name
        predictor = loop.serving.update(binding.model)
        version = predictor.model_version
        gave_way = _post_predictions(loop, project, binding, predictor, meant, turn_is_over, on_progress)
        if gave_way or turn_is_over():
            logger.info("Project %s: other jobs have their turn", project.id)
            return None
        if version == loop.registry.production(binding.model).name:
            if not _delete_some(loop, project, binding.model):
                return version
        elif version == before:
            logger.warning("Project %s: stays with %s, which stands in for what is in production", project.id, version)
            return version
        else:
            logger.info("Project %s: %s is no longer in production; starting again", project.id, version)
        before = version


def _post_predictions(
    loop: Loop,
    project: Project,
    binding: Binding,
    predictor: "Predictor",
    meant: str,
    turn_is_over: Callable[[], bool],
    on_progress: Callable[[int, int], None],
) -> bool:
    """Post what is lacking; stop between two posts when the version that was `meant` is no longer in production.

    And when its turn is over: tell whether it was.
    """
    label_studio, model, version = loop.label_studio, binding.model, predictor.model_version
    total = label_studio.count_tasks(project.id, annotated=False, lacking_version=version)
    done = 0
    gave_way = False
    # Label Studio refuses a version without predictions; where every task is annotated, nobody would see one.
    if project.model_version != version and label_studio.count_tasks(project.id, annotated=False):
        first = [t for t in label_studio.next_tasks(project, FIRST_SLICE) if version not in _versions(t)]
        if first:
            rows = arranged(loop, project, predictor, predict(loop, project, model, predictor, first))
            done = _store(label_studio, project, rows)
        label_studio.update_project(project.id, model_version=version)
        on_progress(done, total)
        logger.info("Project %s: shows %s; %s of %s tasks have their prediction", project.id, version, done, total)
    for attempt in range(1, TRIES + 1):
        lacking = label_studio.tasks(project, annotated=False, lacking_version=version, bare=True)
        try:
            for stored in _stored(label_studio, project, predicted(loop, project, model, predictor, lacking)):
                done += stored
                on_progress(done, total)
                if _is_replaced(loop, model, meant):
                    return False
                if gave_way := turn_is_over():
                    break
            break
        except LabelStudioUnreachable:
            raise
        except (LabelStudioError, BadInput) as error:  # "database is locked", or a task was deleted meanwhile
            if attempt == TRIES:
                raise
            logger.warning("Project %s: %s; asking again what is missing", project.id, error)
            time.sleep(2**attempt)
    if done:
        _arrange_head(loop, project, binding, predictor)
        left = label_studio.count_tasks(project.id, annotated=False, lacking_version=version)
        logger.info("Project %s: %s tasks got predictions of %s, %s have none", project.id, done, version, left)
    return gave_way


def _arrange_head(loop: Loop, project: Project, binding: Binding, predictor: "Predictor") -> None:
    """Bring the tasks that come next into the strategy's order of them all.

    Twice as many as start a fine-tune; more where the model knows none of the labels, and difference is all there is.
    """
    knows_labels = bool(project.label_config.shown_as(predictor.labels))
    count = min(HEAD, 2 * binding.train_threshold) if knows_labels else HEAD
    stored: dict[int, tuple[int, float]] = {}  # task id: id and score of its prediction
    head = []
    for task in loop.label_studio.next_tasks(project, count):
        for prediction in task.predictions:
            if prediction.model_version == predictor.model_version and prediction.score is not None:
                stored[task.id] = prediction.id, prediction.score
        if task.id in stored:
            head.append(task)
    rows = predict(loop, project, binding.model, predictor, head)
    for task, _, score in arranged(loop, project, predictor, [(t, made, stored[t.id][1]) for t, made, _ in rows]):
        prediction_id, before = stored[task.id]
        if score != before:
            loop.label_studio.change_prediction(prediction_id, score=score)


def _is_replaced(loop: Loop, model: str, meant: str) -> bool:
    """Tell whether another version is in production by now: after a promotion or a rollback nobody wants the rest."""
    try:
        return loop.registry.production(model).name != meant
    except RegistryError:  # asked again after the next post
        return False


def _stored(label_studio: LabelStudio, project: Project, slices: Iterable[list[Row]]) -> Iterator[int]:
    """Store slices as they come, and yield how many predictions each post stored.

    One post at a time, beside which the next slices are predicted: the longer Label Studio takes, the more of them the
    next post holds.
    """
    gathered: list[list[Row]] = []
    post: Future[int] | None = None
    with ThreadPoolExecutor(1) as poster:
        for slice_ in slices:
            gathered.append(slice_)
            if post is not None and (post.done() or len(gathered) == SLICES_A_POST):
                yield post.result()
                post = None
            if post is None:
                post = poster.submit(_store, label_studio, project, [row for rows in gathered for row in rows])
                gathered = []
        if post is not None:
            yield post.result()
        if gathered:
            yield _store(label_studio, project, [row for rows in gathered for row in rows])


def _store(label_studio: LabelStudio, project: Project, rows: list[Row]) -> int:
    created = label_studio.import_predictions(project, rows)
    if created != len(rows):
        logger.error("Project %s: Label Studio stored %s of %s predictions", project.id, created, len(rows))
    return created


def _delete_some(loop: Loop, project: Project, model: str) -> bool:
    """Delete old predictions for a while; tell whether there are more."""
    until = time.monotonic() + DELETING_SECONDS
    deleted = 0
    try:
        for prediction in old_predictions(loop, project, recent_versions(loop, model)):
            if time.monotonic() > until:
                return True
            loop.label_studio.delete_prediction(prediction.id)
            deleted += 1
        return False
    finally:
        if deleted:
            logger.info("Project %s: deleted %s old predictions", project.id, deleted)


def recent_versions(loop: Loop, model: str) -> list[str]:
    """Return the versions that were in production at some time of the grace period, the present one first."""
    grace = timedelta(seconds=loop.settings.grace_seconds)
    changes = loop.registry.promotion_log(model).valid
    numbers = [0, *(change.number for change in changes)]  # each until the change at its place, the last until now
    recent = [number for number, change in zip(numbers, changes, strict=False) if _age(change.at) < grace]
    return list(dict.fromkeys(version_name(model, number) for number in (numbers[-1], *reversed(recent))))


def old_predictions(loop: Loop, project: Project, recent: Sequence[str]) -> Iterator[TaskPrediction]:
    """Yield what no page that is open can name any more, of tasks without annotation, skip or draft.

    The newest prediction of each of the `recent_versions` stays, and all do until one of those has been there for the
    grace period. Label Studio refuses (400) what a page submits that names a prediction that is gone, and does not tell
    which pages are open.
    """
    grace = timedelta(seconds=loop.settings.grace_seconds)
    for task in loop.label_studio.tasks(project, annotated=False, min_predictions=len(recent) + 1, page_size=PAGE):
        if task.annotations or task.has_drafts:
            continue
        newest = {p.model_version: p for p in sorted(task.predictions, key=lambda p: p.id) if p.model_version in recent}
        if recent[0] in newest and any(_age(prediction.created_at) >= grace for prediction in newest.values()):
            yield from (prediction for prediction in task.predictions if prediction not in newest.values())


def _age(moment: datetime | None) -> timedelta:
    """Return how long ago something was, at least 0, since the clock it was dated by may differ; for ever, if ever."""
    return timedelta.max if moment is None else max(datetime.now(UTC) - moment, timedelta(0))


def _versions(task: Task) -> set[str]:
    return {prediction.model_version for prediction in task.predictions}
