"""Where a version comes from and what became of it. Owns gathering it from the registry; the command line shows it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nerloop.promotions import PromotionLog
from nerloop.versions import ModelVersion

if TYPE_CHECKING:
    from nerloop.gate import Contest
    from nerloop.registry import Registry


@dataclass(frozen=True)
class Lineage:
    """A version with everything that must be known to trace it.

    `base` is what its training started from, empty where that was not noted; `parents` are what was in production when
    each began, newest first, down to the starter. `changes` are the entries of the promotion log that put it into
    production or took it out. `annotations` are the ids in Label Studio of what it learned from or was judged by; none
    where it was trained elsewhere (`trained_here`). `erased` counts the documents that were erased from its snapshot.
    """

    version: str
    created_at: str
    decision: str
    reason: str
    provisional: bool
    forced_by: str
    forced_why: str
    in_production: bool
    metrics: dict[str, float]
    contests: tuple["Contest", ...]
    changes: tuple[dict[str, Any], ...]
    run_id: str
    base: str
    trained_here: bool
    dataset_fingerprint: str
    erased: int
    parents: tuple[str, ...]
    files_removed: str
    annotations: tuple[int, ...]


def lineage(registry: "Registry", model: str, number: int) -> Lineage:
    """Return the lineage of a version; raises `RegistryError` where there is none."""
    version = registry.version(model, number)
    log = registry.promotion_log(model)
    manifest = registry.runs.manifest(version.run_id) if version.trained_here else {}
    return Lineage(
        version=str(version),
        created_at=version.created_at.isoformat(timespec="seconds") if version.created_at else "",
        decision=version.decision,
        reason=version.reason,
        provisional=version.provisional,
        forced_by=version.forced_by,
        forced_why=version.forced_why,
        in_production=log.number == number,
        metrics=version.metrics,
        contests=version.contests,
        changes=tuple(_changes(log, model, number)),
        run_id=version.run_id,
        base=version.base,
        trained_here=version.trained_here,
        dataset_fingerprint=version.dataset_fingerprint,
        erased=len(registry.runs.erased(version.run_id)),
        parents=_parents(version, registry.versions(model)),
        files_removed=version.files_removed,
        annotations=tuple(sorted(map(int, manifest))),
    )


def _changes(log: PromotionLog, model: str, number: int) -> list[dict[str, Any]]:
    changes, before = [], 0
    for entry in log.valid:
        if number in (entry.number, before):
            at = entry.at.isoformat(timespec="seconds") if entry.at else ""
            said = {"kind": entry.kind, "by": entry.by, "why": entry.why, "sentence": entry.sentence(model)}
            changes.append({"generation": entry.generation, "at": at, **said})
        before = entry.number
    return changes


def _parents(version: ModelVersion, versions: list[ModelVersion]) -> tuple[str, ...]:
    """Follow the parents as far as the registry knows them; a parent is always an older version."""
    parent_of = {str(one): one.parent for one in versions}
    chain = [version.parent]
    while chain[-1] in parent_of:
        chain.append(parent_of[chain[-1]])
    return tuple(chain)
