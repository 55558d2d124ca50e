"""Compares what should be with what is, and queues what is missing. Owns that comparison; running it twice is harmless.

Webhooks, messages and Redis may all be lost: Label Studio and the registry say everything again.
"""

import logging

from nerloop.errors import NerLoopError
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.tasks import Project
from nerloop.versions import Production
from sync.connect import bindings
from sync.predictions import grace_is_over, old_predictions
from sync.pull import new_labels
from sync.push import push
from sync.retention import apply_retention

logger = logging.getLogger(__name__)


def reconcile(loop: Loop) -> None:
    """Rebuild bindings and counts of new labels; queue fine-tunes that are due and refreshes of stale predictions.

    A project or model that cannot be read is logged and left for the next time. Raises while Label Studio or Redis
    is down as a whole.
    """
    noted = loop.state.bindings()
    found = list(bindings(loop.label_studio, loop.settings))
    loop.state.correct_bindings(noted, found)
    for model in sorted({binding.model for binding in found}):
        bound = [binding for binding in found if binding.model == model]
        try:
            _reconcile_model(loop, model, bound)
        except NerLoopError as error:
            logger.error("Model %s: %s", model, error)


def _reconcile_model(loop: Loop, model: str, bound: list[Binding]) -> None:
    noted = loop.state.new_label_ids(model)
    projects = [loop.label_studio.project(binding.project_id) for binding in bound]
    changed = new_labels(loop.label_studio, projects, loop.registry.runs.last_manifest(model))
    loop.state.correct_new_labels(model, noted, changed)
    threshold = min(binding.train_threshold for binding in bound)
    if len(changed) >= threshold and loop.jobs.enqueue_fine_tune(model):
        logger.info("Model %s: %s new labels (threshold %s)", model, len(changed), threshold)
    for passed in (version for version in loop.registry.versions(model) if version.decision == "passed"):
        push(loop, passed)  # its worker ended before the promotion, or it waited for a pause to end; the newest first
    loop.registry.point_alias(model)  # whoever changed production may have died before that
    production = loop.registry.production(model)
    for project in projects:
        if _is_stale(loop, project, production):
            loop.jobs.enqueue_refresh(project.id)
    apply_retention(loop, model)  # last: a store that refuses to delete holds nothing else up


def _is_stale(loop: Loop, project: Project, production: Production) -> bool:
    """Tell whether a project shows another version, lacks predictions of this one, or has old ones past their grace."""
    count, version = loop.label_studio.count_tasks, production.name
    if project.model_version != version and count(project.id, annotated=False):
        return True
    if count(project.id, annotated=False, lacking_version=version):
        return True
    return grace_is_over(loop, production) and any(old_predictions(loop.label_studio, project, version))
