"""Erases a document for good wherever the loop keeps it. Owns the order: killed anywhere and run again, it goes on."""

import logging
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime

from nerloop.errors import BadInput
from nerloop.jobs import fine_tune_id
from nerloop.loop import Loop
from sync.label_copy import forget

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Erasure:
    """What was done, and what may still remember the document.

    `was_in_label_studio`: the task was there until now. `runs` held it in their snapshot. `versions` were trained on
    such a snapshot or go on from one that was; those in `serving` are in production. `running` are models whose
    fine-tune may have read the document before and store it later: erase again when it has ended.
    """

    document_id: str
    was_in_label_studio: bool
    runs: tuple[str, ...]
    versions: tuple[str, ...]
    serving: tuple[str, ...]
    running: tuple[str, ...]


def parse_document_id(document_id: str) -> tuple[int, int]:
    """Return (project, task) of a document id; raises `BadInput`."""
    project, dash, task = document_id.partition("-")
    if not (dash and project.isdecimal() and task.isdecimal()):
        raise BadInput(f"document {document_id!r}: give PROJECT-TASK as exports and snapshots have it, such as 3-17")
    return int(project), int(task)


def erase(loop: Loop, document_id: str, by: str, why: str) -> Erasure:
    """Delete a document's task in Label Studio and take it out of every snapshot of every run and all local copies.

    Raises `BadInput` on an id that is none or of another project's task, and what Label Studio or the registry raise.
    """
    project_id, task_id = parse_document_id(document_id)
    document_id = f"{project_id}-{task_id}"
    note = f"{datetime.now(UTC).isoformat(timespec='seconds')} by {by}: {why}"
    annotation_ids = loop.label_studio.annotation_ids(project_id, task_id)
    done: set[str] = set()
    # The snapshots first: old manifests do not say whose annotations they name, Label Studio does while it has them.
    runs = _erase_from_runs(loop, document_id, annotation_ids or [], note, done)
    if annotation_ids is not None:
        loop.label_studio.delete_task(task_id)
    models = sorted({binding.model for binding in loop.state.bindings()} | set(loop.registry.runs.models()))
    # Before the runs are looked at again: a fine-tune that ended until now is found there, any other is named.
    running = tuple(model for model in models if _is_running(loop, model))
    runs |= _erase_from_runs(loop, document_id, annotation_ids or [], note, done)
    _forget_local_copies(loop, project_id, task_id, models)
    versions, serving = _trained_on(loop, models, runs)
    erasure = Erasure(document_id, annotation_ids is not None, tuple(sorted(runs)), versions, serving, running)
    logger.info("Erased document %s, by %s: it was in %s runs", document_id, by, len(runs))
    return erasure


def _erase_from_runs(loop: Loop, document_id: str, annotation_ids: list[str], note: str, done: set[str]) -> set[str]:
    """Erase from the runs of all models, since a project may have fed another before; return those that held it.

    Decided runs are `done` after that and not looked at again; one that goes on may store its snapshot any moment.
    """
    held = set()
    for model in loop.registry.runs.models():
        for run_id, is_decided in loop.registry.runs.all_of(model).items():
            if run_id in done:
                continue
            if loop.registry.runs.erase(run_id, document_id, annotation_ids, note):
                held.add(run_id)
            if is_decided:
                done.add(run_id)
    return held


def _is_running(loop: Loop, model: str) -> bool:
    job = loop.jobs.status(fine_tune_id(model))
    return job is not None and job.state == "started"


def _forget_local_copies(loop: Loop, project_id: int, task_id: int, models: list[str]) -> None:
    """Remove what this machine keeps of the document beside Label Studio and registry.

    That is the copy of its project's labels, and what fine-tunes that ended have left.
    """
    forget(loop.settings, project_id, task_id)
    for model in models:
        if not _is_running(loop, model):
            shutil.rmtree(loop.settings.home / "work" / model, ignore_errors=True)


def _trained_on(loop: Loop, models: list[str], runs: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the versions whose weights may remember what was in the runs' snapshots, and those that serve."""
    names: list[str] = []
    serving: list[str] = []
    for model in models:
        production = loop.registry.production(model).name
        for version in reversed(loop.registry.versions(model)):
            if version.base in names or (version.run_id in runs and version.trained_here):
                names.append(str(version))
                if str(version) == production:
                    serving.append(str(version))
    return tuple(names), tuple(serving)
