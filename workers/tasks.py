"""The jobs that RQ runs, by dotted name. Owns only their wiring: each builds its collaborators and calls one thing.

Torch and MLflow are imported in the functions: the processes that only queue or dispatch jobs never load them.
"""

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from rq import get_current_job

from nerloop.logs import set_up_logs
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.loop import Loop

logger = logging.getLogger(__name__)


def fine_tune(model: str, forced: bool = False) -> None:
    """Fine-tune a model and decide whether it is promoted; progress is in the job's meta."""
    from workers.training_run import TrainingRun

    TrainingRun(_loop(), _say).run(model, forced=forced)


def refresh_predictions(project_id: int) -> None:
    """Bring a project's predictions to the version in production; progress is in the job's meta."""
    from sync import predictions

    loop = _loop()
    binding = loop.state.binding(project_id)
    if binding is None:
        logger.warning("Project %s is bound to no model; nothing to refresh", project_id)
        return
    predictions.refresh_predictions(loop, binding, lambda done, total: _say({"done": done, "total": total}))


@cache
def _loop() -> "Loop":
    """Build the collaborators once a process, so that a worker that stays keeps its models."""
    from nerloop.loop import Loop

    set_up_logs()
    return Loop(Settings.load())


def _say(progress: dict[str, Any]) -> None:
    job = get_current_job()
    if job is not None:
        job.meta = progress
        job.save_meta()
