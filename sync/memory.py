"""Keeps label memory up to the labels, and the stored predictions of unlabelled tasks up to label memory.

Between two trainings, so that what was labelled here is proposed there within seconds; a refresh of predictions does
the same with every task. Running it twice changes nothing, and killed anywhere it goes on.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from nerloop.annotations import labelled
from nerloop.gazetteer import GAZETTEER, Gazetteer, Term
from nerloop.jobs import refresh_id
from nerloop.label_config import LabelConfig
from nerloop.label_memory import LABEL_MEMORY, remember
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.settings import Settings
from nerloop.tasks import Project, Task, TaskPrediction
from sync.label_copy import LabelCopy, label_copy
from sync.pull import side_of_task

logger = logging.getLogger(__name__)

TASKS_A_SURFACE = 100  # that come next; the others get it with the next refresh of predictions
PASS_SECONDS = 10  # then other jobs of the queue have their turn


@dataclass
class MemoryQueue:
    """Queues updates of label memory: one soon after each change of the labels, and more while they leave work over."""

    _seen: dict[str, set[str]] = field(default_factory=dict)

    def queue_due(self, loop: Loop) -> None:
        """Queue what is due now; to be called each second. Raises `QueueUnreachable`.

        A label that is corrected while it waits is not noted anew: reconcile queues an update each minute. While
        predictions are refreshed, their tasks are left alone.
        """
        if not loop.settings.memory_count:
            return
        for model in {binding.model for binding in loop.state.bindings()}:
            noted = loop.state.new_label_ids(model)
            if noted == self._seen.get(model) and not loop.state.has_pending_surfaces(model):
                continue
            if not _is_refreshing(loop, loop.state.bound_to(model)) and loop.jobs.enqueue_memory(model):
                self._seen[model] = noted


def update_memory(loop: Loop, model: str) -> None:
    """Make a model's memory anew where its labels have changed, and bring the predictions of waiting tasks up to it.

    The second waits where predictions are refreshed: what is being posted may not know the newest memory.
    """
    bound = loop.state.bound_to(model)
    projects = [loop.label_studio.project(binding.project_id) for binding in bound]
    changed = _remember(loop, model, bound, projects)
    pending = [*changed, *sorted(loop.state.pending_surfaces(model) - set(changed))]
    if _is_refreshing(loop, bound):
        return
    terms = loop.terms.update(model)
    until = time.monotonic() + PASS_SECONDS
    rewritten = 0
    for surface in pending:
        if time.monotonic() > until:
            break
        for project in projects:
            rewritten += _rewrite(loop, project, surface, terms)
        loop.state.remove_pending_surface(model, surface)
    if rewritten:
        logger.info("Model %s: label memory changed the predictions of %s tasks", model, rewritten)


def updated_result(
    prediction: TaskPrediction, text: str, config: LabelConfig, terms: Gazetteer
) -> list[dict[str, Any]] | None:
    """Return the regions of a stored prediction with the terms as they are now, or None where nothing changes.

    The model's own regions stay as they are, with their ids.
    """
    ours = [region for region in prediction.result if source_of(region)]
    models = [region for region in prediction.result if not source_of(region)]
    found, _ = config.entities(text, models)
    filled = terms.fill(text, found, config.shown_as(terms.labels))
    added = [entity for entity in filled if entity.source]
    if {_key(region) for region in ours} == {_key(region) for region in config.regions(text, added)}:
        return None
    return [*models, *config.regions(text, added)]


def source_of(region: object) -> str:
    """Return where a stored region comes from: label memory, a gazetteer, or the model, which is empty."""
    meta = region.get("meta") if isinstance(region, Mapping) else None
    said = meta.get("text") if isinstance(meta, Mapping) else None
    return next((source for source in (LABEL_MEMORY, GAZETTEER) if said == [source]), "")


def _remember(loop: Loop, model: str, bound: Sequence[Binding], projects: Sequence[Project]) -> list[str]:
    """Store the memory of a model unless the labels are as they were; return the surfaces whose label has changed."""
    settings = loop.settings
    with ExitStack() as stack:
        copies = [stack.enter_context(label_copy(loop.label_studio, project, settings)) for project in projects]
        basis = _basis(settings, bound, projects, copies)
        if basis == loop.state.memory_basis(model):
            return []
        documents = [
            found.document
            for binding, project, copy in zip(bound, projects, copies, strict=True)
            for task in copy.tasks()
            if _is_training_text(task, settings) and (found := labelled(project, task, binding.annotations))
        ]
    memory = remember(documents, settings.memory_count, settings.memory_agreement)
    before = loop.state.memory(model)
    changed = [s for s in sorted(memory.keys() | before.keys()) if _label(memory, s) != _label(before, s)]
    loop.state.save_memory(model, memory, basis, changed)
    if changed:
        logger.info("Model %s: %s surfaces in label memory, %s have changed", model, len(memory), len(changed))
    return changed


def _basis(
    settings: Settings, bound: Sequence[Binding], projects: Sequence[Project], copies: Sequence[LabelCopy]
) -> str:
    """Return a fingerprint of all that a memory depends on."""
    rules = [settings.memory_count, settings.memory_agreement, settings.dev_share, settings.gate_share]
    basis = hashlib.sha256(json.dumps(rules).encode())
    for binding, project, copy in zip(bound, projects, copies, strict=True):
        labels = [(number, content) for number, _, content, _ in copy.labels()]
        basis.update(json.dumps([project.id, binding.annotations, project.label_config_xml, labels]).encode())
    return basis.hexdigest()


def _rewrite(loop: Loop, project: Project, surface: str, terms: Gazetteer) -> int:
    """Bring the predictions of the tasks that hold a surface up to the terms; return how many were changed."""
    changed = 0
    for task in loop.label_studio.next_tasks(project, TASKS_A_SURFACE, containing=surface):
        shown = [p for p in task.predictions if p.model_version == project.model_version]
        if not shown or task.has_drafts or not _is_training_text(task, loop.settings):
            continue
        prediction = max(shown, key=lambda p: p.id)
        result = updated_result(prediction, task.text or "", project.label_config, terms)
        if result is not None:
            loop.label_studio.change_prediction(prediction.id, result=result)
            changed += 1
    return changed


def _is_training_text(task: Task, settings: Settings) -> bool:
    """Tell whether a task's text is on the training side: a held-out one neither teaches nor is told anything."""
    return bool(task.text) and side_of_task(task, settings) == "train"


def _label(memory: Mapping[str, Term], surface: str) -> str | None:
    return memory[surface].label if surface in memory else None


def _key(region: Mapping[str, Any]) -> tuple[Any, ...]:
    value = region["value"]
    return value["start"], value["end"], *value["labels"], source_of(region)


def _is_refreshing(loop: Loop, bound: Sequence[Binding]) -> bool:
    jobs = (loop.jobs.status(refresh_id(binding.project_id)) for binding in bound)
    return any(job is not None and job.state in {"queued", "started"} for job in jobs)
