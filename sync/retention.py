"""Which versions keep their checkpoint, and removing those of the others. Owns the rule; the records of all stay."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from nerloop.loop import Loop
from nerloop.promotions import PromotionLog
from nerloop.versions import REMOVAL_BEGUN, ModelVersion, best_ever

logger = logging.getLogger(__name__)


def apply_retention(loop: Loop, model: str) -> None:
    """Remove the checkpoints that need not be kept; decision, numbers and run of their versions stay readable.

    Asks two lists of the registry where there is nothing to do. Killed at any moment, the next call goes on.
    """
    for version in _superfluous(loop, model):
        loop.registry.mark_files(version, REMOVAL_BEGUN)
        # Somebody may have put it into production in between, and now sees the mark: look again before deleting.
        if version.number not in {one.number for one in _superfluous(loop, model)}:
            loop.registry.mark_files(version, "")
            continue
        loop.registry.runs.delete_checkpoint(version.run_id)
        loop.registry.mark_files(version, datetime.now(UTC).isoformat(timespec="seconds"))
        logger.info("Removed the files of %s, which need not be kept; its decision and numbers stay", version)


def _superfluous(loop: Loop, model: str) -> list[ModelVersion]:
    return superfluous(
        loop.registry.versions(model),
        loop.registry.promotion_log(model),
        loop.settings.keep_versions,
        datetime.now(UTC) - timedelta(days=loop.settings.keep_days),
    )


def superfluous(versions: Sequence[ModelVersion], log: PromotionLog, keep: int, since: datetime) -> list[ModelVersion]:
    """Return the versions whose checkpoint is still there and need not be.

    Kept are the `keep` newest of `versions` (newest first), what was in production at `since` or later, production,
    what a rollback goes back to, the best ever, and what passed the gate and waits.
    """
    best = best_ever([version for version in versions if version.number in log.line])
    kept = {
        log.number,
        log.previous,
        *(version.number for version in versions[:keep]),
        *(version.number for version in versions if version.decision == "passed"),
        *(one.number for one, after in pairwise(log.valid) if after.at is None or after.at >= since),
        *([best.number] if best else []),
    }
    return [v for v in versions if v.number not in kept and v.files_removed in {"", REMOVAL_BEGUN}]
