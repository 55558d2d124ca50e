"""Where each project's loop stands. Owns gathering it; the command line shows it."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nerloop.errors import BadLabelConfig, ProjectNotFound
from nerloop.jobs import fine_tune_id, refresh_id
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.promotions import Entry, version_name
from nerloop.tasks import Project

if TYPE_CHECKING:
    from nerloop.gate import Contest
    from nerloop.versions import ModelVersion


@dataclass(frozen=True)
class ProjectStatus:
    """One bound project: labels since the last training, jobs, production, predictions; `url` opens it.

    `promotion` is why production was promoted, `provisional` whether too little judged it; `change` is the entry of the
    promotion log that put it there, of kind `change_kind`. While automatic promotion is paused, `paused` says since
    when, by whom and why, and `waiting` are the versions that passed the gate. `previous` is what a rollback would go
    back to. `last_decision` is about the newest version, and `last_contests` are its numbers.
    `dropped_entities` are those of the newest version's texts that overlap others, which its flat decoder cannot learn.
    """

    project_id: int
    title: str
    url: str
    model: str
    labels: tuple[str, ...]
    tasks: int
    annotated: int
    new_labels: int
    train_threshold: int
    fine_tune: dict[str, Any] | None
    refresh: dict[str, Any] | None
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


def _status(loop: Loop, binding: Binding) -> ProjectStatus:
    label_studio = loop.label_studio
    project = label_studio.project(binding.project_id)
    production = loop.registry.production(binding.model)
    versions = loop.registry.versions(binding.model)
    log = loop.registry.promotion_log(binding.model)
    version, serving = production.version, production.name
    unlabelled = label_studio.count_tasks(project.id, annotated=False)
    stale = label_studio.count_tasks(project.id, annotated=False, lacking_version=serving)
    return ProjectStatus(
        project_id=project.id,
        title=project.title,
        url=loop.settings.project_page(project.id),
        model=binding.model,
        labels=_labels(project),
        tasks=project.tasks,
        annotated=project.tasks - unlabelled,
        new_labels=loop.state.new_labels(binding.model),
        train_threshold=binding.train_threshold,
        fine_tune=_job(loop, fine_tune_id(binding.model)),
        refresh=_job(loop, refresh_id(project.id)),
        production=serving,
        f1=version.metrics.get("gate_f1") if version else None,
        provisional=version is not None and version.provisional,
        promotion=version.reason if version else "",
        change=log.valid[-1].sentence(binding.model) if log.valid else "",
        change_kind=log.valid[-1].kind if log.valid else "",
        previous=version_name(binding.model, log.previous) if log.number else "",
        paused=_pause(log.pause),
        waiting=tuple(
            str(one) for one in versions if one.decision == "passed" and log.waits("promotion", one.replaces)
        ),
        last_decision=f"{versions[0]} {versions[0].decision}: {versions[0].reason}" if versions else "",
        last_contests=versions[0].contests if versions else (),
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
