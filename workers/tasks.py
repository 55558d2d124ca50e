"""The jobs that RQ runs, by dotted name. Owns only their wiring: each builds its collaborators and calls one thing.

Imported only where jobs run, since torch and MLflow come with it: they are queued by dotted name.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from rq import Retry, get_current_job

from nerloop.documents import Prediction
from nerloop.logs import set_up_logs
from nerloop.loop import Loop
from nerloop.settings import Settings
from sync import memory, predictions, slices
from sync.notify import Event, notify
from workers.training_run import TrainingRun

logger = logging.getLogger(__name__)


def fine_tune(model: str, forced: bool = False) -> None:
    """Fine-tune a model and decide whether it is promoted; progress is in the job's meta."""
    loop = _loop()
    try:
        TrainingRun(loop, _say).run(model, forced=forced)
    except Exception as error:
        notify(loop.settings, Event("failed", model, "", f"{type(error).__name__}: {error}"))
        raise


def refresh_predictions(project_id: int) -> Retry | None:
    """Bring a project's predictions to the version in production; progress is in the job's meta.

    Where other jobs have their turn, it is queued again behind them.
    """
    loop = _loop()
    binding = loop.state.binding(project_id)
    if binding is None:
        logger.warning("Project %s is bound to no model; nothing to refresh", project_id)
        return None
    ended = predictions.refresh_predictions(loop, binding, _say_how_far()) is not None
    return None if ended else Retry(max=sys.maxsize)


def predict_slice(project_id: int, version: str, task_ids: Sequence[int]) -> dict[int, tuple[Prediction, float]]:
    """Run the model on some tasks for a refresh of another worker, which stores what this returns."""
    loop = _loop()
    binding = loop.state.binding(project_id)
    return slices.predict_slice(loop, binding, version, task_ids) if binding else {}


def update_memory(model: str) -> None:
    """Bring a model's label memory up to the labels, and waiting tasks up to it."""
    memory.update_memory(_loop(), model)


@cache
def _loop() -> Loop:
    """Build the collaborators once a process, so that a worker that stays keeps its models."""
    set_up_logs()
    return Loop(Settings.load())


def _say_how_far() -> Callable[[int, int], None]:
    """Return what notes how many tasks are done of how many, and how many seconds are left at the pace so far."""
    began = time.monotonic()

    def say(done: int, total: int) -> None:
        left = round((time.monotonic() - began) / done * (total - done)) if done else None
        _say({"done": done, "total": total, "seconds_left": left})

    return say


def _say(progress: dict[str, Any]) -> None:
    job = get_current_job()
    if job is not None:
        job.meta = progress
        job.save_meta()
