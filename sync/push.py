"""Puts a version into production and tells whoever must know. Owns the order; each step after the first may be lost."""

import logging

from nerloop.errors import QueueUnreachable
from nerloop.loop import Loop
from nerloop.versions import ModelVersion

logger = logging.getLogger(__name__)


def push(loop: Loop, version: ModelVersion) -> bool:
    """Promote a version over the generation it was trained against; tell whether it won.

    Replicas and predictions follow by message and job; where these are lost, polling and reconcile find the change.
    """
    if not loop.registry.promote(version):
        return False
    logger.info("Promoted %s: %s", version, version.reason)
    try:
        loop.state.say_promoted(version.model)
        for binding in loop.state.bindings():
            if binding.model == version.model:
                loop.jobs.enqueue_refresh(binding.project_id)
    except QueueUnreachable as error:
        logger.warning("Promoted %s, but could not say so: %s; reconcile will", version, error)
    return True
