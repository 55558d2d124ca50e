"""Where each model and each project stands. Owns gathering it; the command line, the API and the console show it."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nerloop.errors import BadLabelConfig, ProjectNotFound
from nerloop.jobs import fine_tune_id, refresh_id
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.promotions import Entry, PromotionLog, version_name
from nerloop.tasks import Project

if TYPE_CHECKING:
    from nerloop.gate import Contest
    from nerloop.versions import ModelVersion


@dataclass(frozen=True)
class ModelStatus:
    """One model, from the registry and Redis alone: its training, what is in production, what people decided.

    `new_labels` are those of all its projects since its last training, and `train_threshold` is the lowest of theirs, 0
    where no project feeds it. `promotion` is why production was promoted, `provisional` whether too little judged it;
    `change` is the entry of the promotion log that put it there, of kind `change_kind`. While automatic promotion is
    paused, `paused` says since when, by whom and why, and `waiting` are the versions that passed the gate. `previous`
    is what a rollback would go back to. `last_decision` is about the newest version, `last_contests` are its numbers.
    """

    model: str
    new_labels: int
    train_threshold: int
    fine_tune: dict[str, Any] | None
    production: str
    f1: float | None
    provisional: bool
    promotion: str
    change: str
    change_kind: str
    previous: str
    paused: dict[str, str] | None
    waiting: tuple[str, ...]
    last_decision: str
    last_contests: tuple["Contest", ...]


@dataclass(frozen=True)
class ProjectStatus(ModelStatus):
    """One bound project and its model; `url` opens it.

    `dropped_entities` are those of the newest version's texts that overlap others, which its flat decoder cannot learn.
    """

    project_id: int
    title: str
    url: str
    labels: tuple[str, ...]
    tasks: int
    annotated: int
    refresh: dict[str, Any] | None
    dropped_entities: int
    shown_version: str
    fresh: int
    stale: int


def project_statuses(loop: Loop) -> list[ProjectStatus]:
    """Return the status of every bound project; raises what Label Studio, Redis or the registry raise.

    A project that was deleted is left out; reconcile forgets its binding.
    """
    statuses = []
    for binding in loop.state.bindings():
        with contextlib.suppress(ProjectNotFound):
            statuses.append(_status(loop, binding))
    return statuses


def model_status(loop: Loop, model: str) -> ModelStatus:
    """Return the status of a model; raises what Redis or the registry raise."""
    return _model_status(loop, model, loop.registry.versions(model))


def _model_status(loop: Loop, model: str, versions: Sequence["ModelVersion"]) -> ModelStatus:
    log = loop.registry.promotion_log(model)
    version = next((one for one in versions if one.number == log.number), None)  # none for the starter
    return ModelStatus(
        model=model,
        new_labels=loop.state.new_labels(model),
        train_threshold=min((binding.train_threshold for binding in loop.state.bound_to(model)), default=0),
        fine_tune=_job(loop, fine_tune_id(model)),
        production=version_name(model, log.number),
        f1=version.metrics.get("gate_f1") if version else None,
        provisional=version is not None and version.provisional,
        promotion=version.reason if version else "",
        change=log.valid[-1].sentence(model) if log.valid else "",
        change_kind=log.valid[-1].kind if log.valid else "",
        previous=version_name(model, log.previous) if log.number else "",
        paused=_pause(log.pause),
        waiting=tuple(map(str, waiting(versions, log))),
        last_decision=f"{versions[0]} {versions[0].decision}: {versions[0].reason}" if versions else "",
        last_contests=versions[0].contests if versions else (),
    )


def waiting(versions: Sequence["ModelVersion"], log: PromotionLog) -> list["ModelVersion"]:
    """Return the versions, in their order, that only the pause of automatic promotion keeps from production."""
    return [one for one in versions if one.decision == "passed" and log.waits("promotion", one.replaces)]


def _status(loop: Loop, binding: Binding) -> ProjectStatus:
    label_studio = loop.label_studio
    project = label_studio.project(binding.project_id)
    versions = loop.registry.versions(binding.model)
    model = _model_status(loop, binding.model, versions)
    unlabelled = label_studio.count_tasks(project.id, annotated=False)
    stale = label_studio.count_tasks(project.id, annotated=False, lacking_version=model.production)
    return ProjectStatus(
        **vars(model),
        project_id=project.id,
        title=project.title,
        url=loop.settings.project_page(project.id),
        labels=_labels(project),
        tasks=project.tasks,
        annotated=project.tasks - unlabelled,
        refresh=_job(loop, refresh_id(project.id)),
        dropped_entities=dropped_entities(binding, versions),
        shown_version=project.model_version,
        fresh=unlabelled - stale,
        stale=stale,
    )


def _labels(project: Project) -> tuple[str, ...]:
    try:
        return project.label_config.labels
    except BadLabelConfig:  # somebody has changed it since; `nerloop doctor` says what is wrong
        return ()


def _pause(entry: Entry | None) -> dict[str, str] | None:
    if entry is None:
        return None
    since = entry.at.isoformat(timespec="seconds") if entry.at else ""
    return {"since": since, "kind": entry.kind, "by": entry.by, "why": entry.why}


def dropped_entities(binding: Binding, versions: Sequence["ModelVersion"]) -> int:
    """Return how many entities the newest version could not learn because its project's decoder is flat."""
    if not versions or binding.decoder != "flat":
        return 0
    return int(versions[0].metrics.get("dropped_entities", 0))


def _job(loop: Loop, job_id: str) -> dict[str, Any] | None:
    job = loop.jobs.status(job_id)
    if job is None:
        return None
    return {"state": job.state, **job.progress, **({"error": job.error} if job.error else {})}
