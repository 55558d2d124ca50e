"""The model's work of a refresh, slice by slice, shared with every worker that has nothing else to do.

Owns who predicts which slice. Storing it is predictions.py's: one process writes a project's predictions.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nerloop.documents import Prediction
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.tasks import Project, Task

if TYPE_CHECKING:
    from nerloop.predictor import Predictor

logger = logging.getLogger(__name__)

Row = tuple[Task, Prediction, float]
"""A task, what the model says of it, and its place in the order of tasks (lowest first)."""

TASKS_A_SLICE = 1000
CHARACTERS_A_SLICE = 100_000  # what a model holds in memory for a slice, and what is sent to Label Studio, grow with it
SLICES_AHEAD = 6
IDS_A_REQUEST = 500  # they stand in the address
PATIENCE_SECONDS = 900
"""After which a slice is predicted here though another worker has taken it: it died in the moment of taking it."""


@dataclass(frozen=True)
class Handed:
    """A slice on the queue, or with the worker that took it."""

    tasks: list[Task]
    job_id: str
    since: float = field(default_factory=time.monotonic)


def predicted(
    loop: Loop, project: Project, model: str, predictor: "Predictor", tasks: Iterable[Task]
) -> Iterator[list[Row]]:
    """Yield the predictions of tasks, a slice at a time and in any order of slices.

    What was read is put on the queue, some slices ahead; a worker that is free takes one, and this process takes back
    one that nobody has begun. So one worker alone does everything, and none that dies, or serves another version, is
    waited for. A thread reads on meanwhile: that takes as long as a small model's work.
    """
    waiting: list[Handed] = []
    room = threading.Semaphore(SLICES_AHEAD)
    closed = threading.Event()

    def read() -> None:
        for slice_ in slices(tasks):
            room.acquire()
            if closed.is_set():
                return
            ids = [task.id for task in slice_]
            waiting.append(Handed(slice_, loop.jobs.hand_out_slice(project.id, predictor.model_version, ids)))

    try:
        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(read)
            try:
                while not reading.done() or waiting:
                    rows = _next(loop, project, model, predictor, waiting)
                    if rows is None:  # all that was read is with other workers
                        loop.jobs.notice_dead_workers()
                        time.sleep(0.1)
                        continue
                    room.release()
                    yield rows
                reading.result()
            finally:
                closed.set()
                room.release()
    finally:
        for handed in waiting:
            loop.jobs.take_back_slice(handed.job_id)


def predict_slice(
    loop: Loop, binding: Binding, version: str, ids: Sequence[int]
) -> dict[int, tuple[Prediction, float]]:
    """Return {task id: (prediction, score)} for another worker's refresh; empty unless that version serves here too."""
    predictor = loop.serving.update(binding.model)
    if predictor.model_version != version:
        logger.warning("Project %s: %s serves here, not %s", binding.project_id, predictor.model_version, version)
        return {}
    project = loop.label_studio.project(binding.project_id)
    parts = (ids[start : start + IDS_A_REQUEST] for start in range(0, len(ids), IDS_A_REQUEST))
    tasks = [task for part in parts for task in loop.label_studio.tasks(project, ids=part, bare=True)]
    return {task.id: (made, score) for task, made, score in predict(loop, project, binding.model, predictor, tasks)}


def predict(loop: Loop, project: Project, model: str, predictor: "Predictor", tasks: Sequence[Task]) -> list[Row]:
    """Predict tasks here; those without a usable text get an empty prediction, so that none is left over."""
    from nerloop.pre_annotation import pre_annotate  # needs torch, which reconcile never loads

    unusable = [task.id for task in tasks if not task.text]
    if unusable:
        logger.warning(
            "Project %s: tasks %s have no text in field %r; nothing is predicted for them",
            project.id, unusable[:10], project.label_config.field,
        )  # fmt: skip
    texts = [task.text or "" for task in tasks]
    feedback = [task.feedback for task in tasks]
    terms = loop.terms.update(model)
    made = pre_annotate(predictor, project.label_config, texts, loop.settings, terms, feedback=feedback)
    return [(task, prediction, score) for task, (prediction, score) in zip(tasks, made, strict=True)]


def arranged(loop: Loop, project: Project, predictor: "Predictor", rows: Sequence[Row]) -> list[Row]:
    """Return the rows that come next with their scores dealt out among them anew: slices are ranked each by itself."""
    from nerloop.pre_annotation import rescore_head  # needs torch

    texts = [task.text or "" for task, _, _ in rows]
    made, scores = [row[1] for row in rows], [row[2] for row in rows]
    dealt = rescore_head(predictor, project.label_config, texts, made, scores, loop.settings)
    return [(task, prediction, score) for (task, prediction, _), score in zip(rows, dealt, strict=True)]


def slices(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Cut tasks into slices of a bounded number of tasks and characters, at least one task each."""
    slice_: list[Task] = []
    characters = 0
    for task in tasks:
        length = len(task.text or "")
        if slice_ and (len(slice_) == TASKS_A_SLICE or characters + length > CHARACTERS_A_SLICE):
            yield slice_
            slice_, characters = [], 0
        slice_.append(task)
        characters += length
    if slice_:
        yield slice_


def _next(loop: Loop, project: Project, model: str, predictor: "Predictor", waiting: list[Handed]) -> list[Row] | None:
    """Take one slice out of `waiting`: what another worker has done, else one that nobody has begun, predicted here."""
    for handed in tuple(waiting):  # it grows meanwhile
        late = time.monotonic() - handed.since > PATIENCE_SECONDS
        if late or loop.jobs.slice_has_ended(handed.job_id):
            waiting.remove(handed)
            made = loop.jobs.take_slice(handed.job_id) or {}
            if made.keys() != {task.id for task in handed.tasks}:
                return predict(loop, project, model, predictor, handed.tasks)
            return [(task, *made[task.id]) for task in handed.tasks]
    for handed in tuple(waiting):
        if loop.jobs.take_back_slice(handed.job_id):
            waiting.remove(handed)
            return predict(loop, project, model, predictor, handed.tasks)
    return None
