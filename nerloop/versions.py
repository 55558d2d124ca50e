"""A candidate, the version it becomes and the production that serves, with the tags the registry keeps them in."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from nerloop.calibration import Calibration
from nerloop.errors import CheckpointCorrupt, FilesRemoved
from nerloop.evaluation import Evaluation
from nerloop.gate import Contest, Decision
from nerloop.promotions import STARTER_VERSION, Entry, Kind, version_name

VERSION = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,62})-v([1-9][0-9]*)")  # medical-v7
REMOVAL_BEGUN = "begun"


@dataclass(frozen=True)
class ModelVersion:
    """One candidate that was trained; its string, `medical-v7`, is Label Studio's `model_version`.

    `decision` is `passed` (the gate) until the promotion is decided, then `promoted` or `superseded`; or `rejected`.
    `replaces` is the generation in production when its training began, `parent` that generation's version. `reason`,
    `provisional`, `contests` and who forced it and why are the gate's: see `gate.Decision`. `base` is what
    its training started from, empty where that was not noted; a version that is not `trained_here` was registered from
    elsewhere, and what it learned from is not known. `files_removed` is when
    retention removed its checkpoint, `begun` before that, and empty while it is there.
    """

    model: str
    number: int
    labels: tuple[str, ...] = ()
    dataset_fingerprint: str = ""
    parent: str = ""
    replaces: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    decision: str = ""
    reason: str = ""
    provisional: bool = False
    contests: tuple[Contest, ...] = ()
    forced_by: str = ""
    forced_why: str = ""
    created_at: datetime | None = None
    run_id: str = ""
    base: str = ""
    trained_here: bool = True
    files_removed: str = ""

    def check_files(self) -> None:
        """Raise `FilesRemoved` where retention has removed the checkpoint."""
        if self.files_removed:
            raise FilesRemoved(
                f"{self}: its files were removed by retention (NERLOOP_KEEP_VERSIONS, NERLOOP_KEEP_DAYS), so that it "
                "can neither serve nor be downloaded; its decision and numbers are still there: "
                f"`nerloop lineage {self}`"
            )

    def __str__(self) -> str:
        return version_name(self.model, self.number)


def version_named(name: str) -> tuple[str, int] | None:
    """Return (model, number) of a version's name such as `medical-v7`; None for any other name."""
    found = VERSION.fullmatch(name)
    return (found[1], int(found[2])) if found else None


@dataclass(frozen=True)
class Production:
    """The version in production and the promotion that put it there; all empty while the starter serves."""

    generation: int = 0
    version: ModelVersion | None = None
    since: datetime | None = None

    @property
    def name(self) -> str:
        """The `model_version` that serves."""
        return STARTER_VERSION if self.version is None else str(self.version)


@dataclass(frozen=True)
class Candidate:
    """A trained checkpoint on disk with everything that must be known about it to decide and to trace it.

    `run_id` is the run that trained it, empty where it was trained elsewhere; `evaluation` and `calibration` are those
    on the gate documents. `trained_here` is False for one that somebody brings: the run's snapshot is then not what it
    learned from.
    """

    folder: Path
    labels: tuple[str, ...]
    dataset_fingerprint: str
    parent: str
    replaces: int
    metrics: Mapping[str, float]
    run_id: str = ""
    evaluation: Evaluation | None = None
    calibration: Calibration | None = None
    trained_here: bool = True

    @property
    def base(self) -> str:
        """What its training started from, as the checkpoint says; empty where it says nothing."""
        description = self.folder / "nerloop.json"
        if not description.exists():
            return ""
        made: dict[str, str] = json.loads(description.read_text(encoding="utf-8"))["made_from"]
        return f"{made['base']}@{made['revision']}" if made.get("revision") else made["base"]


def best_ever(promoted: Sequence[ModelVersion]) -> ModelVersion | None:
    """Return the version with the highest gate F1 of those promoted; a provisional one only where all are.

    Of equal ones the newest. The F1 were measured on the documents of their time, so they only choose who is run again.
    """
    scored = [version for version in promoted if "gate_f1" in version.metrics]
    reliable = [version for version in scored if not version.provisional]
    return max(reliable or scored, key=lambda version: (version.metrics["gate_f1"], version.number), default=None)


def outcome(decision: Decision) -> str:
    """Return the decision tag of a candidate that the gate has just judged."""
    return "passed" if decision.promote else "rejected"


def version_tags(candidate: Candidate, decision: Decision) -> dict[str, str]:
    """Return all tags of a new version."""
    return {
        "labels": json.dumps(candidate.labels, ensure_ascii=False),
        "dataset_fingerprint": candidate.dataset_fingerprint,
        "parent": candidate.parent,
        "replaces": str(candidate.replaces),
        "base": candidate.base,
        "trained_here": str(candidate.trained_here).lower(),
        "decision": outcome(decision),
        **gate_tags(decision),
        **metric_tags(candidate.metrics),
    }


def gate_tags(decision: Decision) -> dict[str, str]:
    """Return the tags that say what the gate decided."""
    forced = {"forced_by": decision.forced_by, "forced_why": decision.forced_why} if decision.forced_by else {}
    return {
        "reason": decision.reason,
        "contests": json.dumps(decision.rows(), ensure_ascii=False),
        "provisional": str(decision.provisional).lower(),
        **forced,
    }


def metric_tags(metrics: Mapping[str, float]) -> dict[str, str]:
    """Return a tag for each metric."""
    return {f"metric.{name}": str(value) for name, value in metrics.items()}


def read_version(found: Any) -> ModelVersion:
    """Read MLflow's entity; raises `CheckpointCorrupt` for a version that this product did not write."""
    tags: dict[str, str] = found.tags
    try:
        return ModelVersion(
            model=found.name,
            number=int(found.version),
            labels=tuple(json.loads(tags["labels"])),
            dataset_fingerprint=tags["dataset_fingerprint"],
            parent=tags["parent"],
            replaces=int(tags["replaces"]),
            metrics={k.removeprefix("metric."): float(v) for k, v in tags.items() if k.startswith("metric.")},
            decision=tags["decision"],
            reason=tags["reason"],
            provisional=tags.get("provisional") == "true",  # versions of before the gate had it lack these
            contests=tuple(Contest.of_row(row) for row in json.loads(tags.get("contests", "[]"))),
            forced_by=tags.get("forced_by", ""),
            forced_why=tags.get("forced_why", ""),
            created_at=time_of(found.creation_timestamp),
            run_id=found.run_id,
            base=tags.get("base", ""),
            trained_here=tags.get("trained_here") != "false",
            files_removed=tags.get("files_removed", ""),
        )
    except KeyError as missing:
        raise CheckpointCorrupt(f"{found.name} version {found.version} lacks the tag {missing}") from None


def entry_tags(entry: Entry) -> dict[str, str]:
    """Return the tags of an entry of a promotion log."""
    said = {"by": entry.by, "why": entry.why}
    return {
        "kind": entry.kind,
        "number": str(entry.number),
        "replaces": str(entry.replaces),
        **{key: value for key, value in said.items() if value},
    }


def read_entry(found: Any) -> Entry:
    """Read MLflow's entity of an entry; those of before there were kinds are promotions."""
    tags: dict[str, str] = found.tags
    return Entry(
        generation=int(found.version),
        number=int(tags["number"]),
        replaces=int(tags["replaces"]),
        kind=cast(Kind, tags.get("kind", "promotion")),
        by=tags.get("by", ""),
        why=tags.get("why", ""),
        at=time_of(found.creation_timestamp),
    )


def time_of(milliseconds: int) -> datetime:
    """Return the moment of MLflow's milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
