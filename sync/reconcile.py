"""Compares what should be with what is, and queues what is missing. Owns that comparison; running it twice is harmless.

Webhooks, messages and Redis may all be lost: Label Studio and the registry say everything again.
"""

import logging
from collections.abc import Iterator

from nerloop.errors import ProjectNotFound
from nerloop.jobs import fine_tune_id
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.tasks import Project
from nerloop.troubles import Troubles
from sync.connect import stored_binding
from sync.label_copy import forget_others
from sync.notify import Event, notify
from sync.predictions import old_predictions, recent_versions
from sync.pull import new_labels
from sync.push import push
from sync.retention import apply_retention

logger = logging.getLogger(__name__)


def reconcile(loop: Loop, troubles: Troubles) -> None:
    """Rebuild bindings and the noted new labels; finish promotions and queue refreshes of stale predictions.

    What becomes of the labels is sync/trigger.py's. A project or model that cannot be read is logged, once while the
    trouble lasts, and left for the next time. Raises while Label Studio or Redis is down as a whole.
    """
    noted = loop.state.bindings()
    bound = list(_bound(loop, noted, troubles))
    found = [binding for binding, _ in bound]
    loop.state.correct_bindings(noted, found)
    _forget_gone(loop, noted, found)
    for model in sorted({binding.model for binding in found}):
        projects = [project for binding, project in bound if binding.model == model]
        with troubles.of(f"Counting the new labels of model {model}"):
            _count_new_labels(loop, model, projects)
        if loop.settings.memory_count:
            loop.jobs.enqueue_memory(model)
        with troubles.of(f"Finishing the promotions of model {model}"):
            for passed in (version for version in loop.registry.versions(model) if version.decision == "passed"):
                push(loop, passed)  # its worker ended before that, or it waited for a pause to end; the newest first
            loop.registry.point_alias(model)  # whoever changed production may have died before that
        with troubles.of(f"Looking for a fine-tune of model {model} that died"):
            _close_dead_run(loop, model)
        for project in projects:
            with troubles.of(f"Refreshing project {project.id}"):
                if _is_stale(loop, project, model):
                    loop.jobs.enqueue_refresh(project.id)
        with troubles.of(f"Removing old files of model {model}"):
            apply_retention(loop, model)  # last: a store that refuses to delete holds nothing else up


def _bound(loop: Loop, noted: list[Binding], troubles: Troubles) -> Iterator[tuple[Binding, Project]]:
    """Yield the bindings that Label Studio stores; a project that cannot be read keeps the one that was noted."""
    for project in loop.label_studio.projects():
        binding = next((known for known in noted if known.project_id == project.id), None)
        with troubles.of(f"Project {project.id}"):
            try:
                binding = stored_binding(loop.label_studio, loop.settings, project.id)
            except ProjectNotFound:  # deleted since the projects were listed
                binding = None
        if binding is not None:
            yield binding, project


def _forget_gone(loop: Loop, noted: list[Binding], found: list[Binding]) -> None:
    """Forget what is kept of projects that were deleted or disconnected, and of models that no project feeds now."""
    bound = {binding.project_id for binding in found}
    for binding in noted:
        if binding.project_id not in bound:
            logger.info("Project %s is gone or no longer connected; model %s", binding.project_id, binding.model)
    for model in {binding.model for binding in noted} - {binding.model for binding in found}:
        loop.state.forget_new_labels(model)
        loop.state.forget_memory(model)
    forget_others(loop.settings, bound)


def _count_new_labels(loop: Loop, model: str, projects: list[Project]) -> None:
    """Correct what is noted of a model; where one of its projects cannot be read, nothing can be said of any."""
    noted = loop.state.new_label_ids(model)
    loop.state.correct_new_labels(model, noted, new_labels(loop, projects, loop.registry.runs.last_manifest(model)))


def _close_dead_run(loop: Loop, model: str) -> None:
    """Say that a fine-tune failed whose process was ended before it could say so: by a person, or for want of memory.

    The runs are listed before the job is looked at, so that one that begins in between is not among them.
    """
    running = loop.registry.runs.running(model)
    job = loop.jobs.status(fine_tune_id(model)) if running else None
    if job is None or not job.has_failed:
        return
    reason = job.error or "it was stopped"
    for run in running:
        run.fail(reason)
    logger.warning("The fine-tune of %s ended without a word: %s", model, reason)
    notify(loop.settings, Event("failed", model, "", reason))


def _is_stale(loop: Loop, project: Project, model: str) -> bool:
    """Tell whether a project shows another version than production's, lacks predictions of it, or has old ones."""
    recent = recent_versions(loop, model)
    count, version = loop.label_studio.count_tasks, recent[0]
    if project.model_version != version and count(project.id, annotated=False):
        return True
    if count(project.id, annotated=False, lacking_version=version):
        return True
    return any(old_predictions(loop, project, recent))
