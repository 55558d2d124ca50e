"""When new labels start a fine-tune. Owns that rule; what a run makes of them is workers/training_run.py's."""

import logging
from collections import defaultdict

from nerloop.loop import Loop
from nerloop.project_state import Waiting
from nerloop.settings import Settings

logger = logging.getLogger(__name__)


def due(waiting: Waiting, threshold: int, settings: Settings, *, quiet: bool = False) -> str:
    """Return why a fine-tune is due, or an empty string.

    It is due when the threshold is reached and no new label has come for a while (so that a burst is one run), when
    twice as many wait though it is never quiet, or when a label has waited for the maximum age. `quiet` does not ask
    for the first of these pauses: what was due when it was queued stays so.
    """
    quiet = quiet or not 0 <= waiting.newest < settings.quiet_seconds  # below 0: Redis's clock was set back
    if waiting.count >= threshold and (quiet or waiting.count >= 2 * threshold):
        return f"{waiting.count} new labels (threshold {threshold})"
    if waiting.count and 0 < settings.max_age_seconds <= waiting.oldest:
        return f"{waiting.count} new labels, the first {waiting.oldest / 3600:.1f} hours ago"
    return ""


def queue_due(loop: Loop) -> None:
    """Queue the fine-tunes that are due, and again those whose worker was killed. Raises `QueueUnreachable`.

    At most one of a model is queued or running, and none while it cools down from a failure.
    """
    loop.jobs.notice_dead_workers()
    thresholds: dict[str, list[int]] = defaultdict(list)
    for binding in loop.state.bindings():
        thresholds[binding.model].append(binding.train_threshold)
    for model, given in thresholds.items():
        if loop.jobs.requeue_abandoned(model):
            continue
        why = due(loop.state.waiting(model), min(given), loop.settings)
        if why and loop.jobs.enqueue_fine_tune(model):
            logger.info("Model %s: %s", model, why)
