"""The model registry, the only door to MLflow: versions, the promotion log, and what each training run decided.

One registered model per business line holds the versions; a second, `<model>-promotions`, is the promotion log: its
version numbers are the total order that an alias cannot give. The alias `production` is set for people who look into
MLflow; the log alone decides. One experiment per model, one run per fine-tune.
"""

import errno
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from nerloop.cache import fill
from nerloop.documents import Manifest
from nerloop.errors import CheckpointCorrupt, RegistryError
from nerloop.gate import Contest, Decision
from nerloop.promotions import PROMOTIONS_SUFFIX, STARTER_VERSION, Promotion, valid_promotions

logger = logging.getLogger(__name__)

PRODUCTION = "production"
SQLITE = "sqlite:///"


@dataclass(frozen=True)
class ModelVersion:
    """One candidate that was trained; its string, `medical-v7`, is Label Studio's `model_version`.

    `decision` is `passed` (the gate) until the promotion is decided, then `promoted` or `superseded`; or `rejected`.
    `replaces` is the generation in production when its training began, `parent` that generation's version. `reason`,
    `provisional`, `contests` and who forced it and why are the gate's: see `gate.Decision`.
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

    def __str__(self) -> str:
        return f"{self.model}-v{self.number}"


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
    """A trained checkpoint on disk with everything that must be known about it to decide and to trace it."""

    folder: Path
    labels: tuple[str, ...]
    dataset_fingerprint: str
    parent: str
    replaces: int
    metrics: Mapping[str, float]
    loss_curve: Sequence[float]
    dev_f1_curve: Sequence[float]


class Registry:
    """Versions and promotions behind one MLflow address (`sqlite:///…` or `http://…`)."""

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        """`artifacts` is the folder for files where the address is a database; a server has its own store.

        Raises `RegistryError` on an address that MLflow does not know.
        """
        self._artifacts = artifacts
        self._manifests: dict[str, tuple[str, Manifest]] = {}  # model → run and its manifest, which never changes
        with self._errors("opening the registry"), _alone(uri):
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def check(self) -> None:
        """Raise `RegistryError` unless the registry answers (a new database is set up on the way)."""
        with self._errors("reading the registry"):
            self._client.search_registered_models(max_results=1)

    def register(
        self, model: str, candidate: Candidate, snapshot: Path, manifest: Manifest, decision: Decision
    ) -> ModelVersion:
        """Store a candidate and what the gate said of it; the version becomes visible only with all its files.

        Raises `RegistryError`; then nothing is visible.
        """
        with self._errors(f"registering a version of {model}"):
            run_id = self._run(model, snapshot, manifest, candidate)
            run = self._client.get_run(run_id)
            self._ensure_model(model)
            made = self._client.create_model_version(
                model, f"{run.info.artifact_uri}/checkpoint", run_id, tags=_version_tags(candidate, decision)
            )
            self._decide(run_id, (_outcome(decision), decision.reason))
        return self.version(model, int(made.version))

    def record_no_data(self, model: str, snapshot: Path, manifest: Manifest, reason: str) -> None:
        """Store that a run ended without a candidate, so that the same labels do not start it again."""
        with self._errors(f"recording a run of {model}"):
            self._decide(self._run(model, snapshot, manifest, None), ("no_data", reason))

    def version(self, model: str, number: int) -> ModelVersion:
        """Return one version; raises `RegistryError` where there is none, saying which there are."""
        with self._errors(f"reading {model}-v{number}"):
            try:
                return _model_version(self._client.get_model_version(model, str(number)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        there = self.versions(model)
        newest = f"the newest is v{there[0].number}" if there else "the registry has none"
        raise RegistryError(
            f"no version {number} of {model}: {newest}; are NERLOOP_HOME and NERLOOP_REGISTRY_URL those of its loop?"
        )

    def versions(self, model: str) -> list[ModelVersion]:
        """Return all versions, newest first; none for a model that was never trained."""
        with self._errors(f"listing the versions of {model}"):
            found = self._client.search_model_versions(f"name='{model}'")
        return sorted((_model_version(item) for item in found), key=lambda version: -version.number)

    def promoted(self, model: str) -> list[ModelVersion]:
        """Return every version that was ever in production and is still there, newest first."""
        numbers = {promotion.number for promotion in valid_promotions(self._promotion_log(model))}
        return [version for version in self.versions(model) if version.number in numbers]

    def production(self, model: str) -> Production:
        """Return what the promotion log says is in production."""
        valid = valid_promotions(self._promotion_log(model))
        if not valid:
            return Production()
        return Production(valid[-1].generation, self.version(model, valid[-1].number), valid[-1].at)

    def promote(self, version: ModelVersion) -> bool:
        """Append the promotion of a version over the generation it `replaces`; tell whether it won.

        Safe to repeat: the same version over the same generation wins again.
        """
        name = version.model + PROMOTIONS_SUFFIX
        with self._errors(f"promoting {version}"):
            self._ensure_model(name)
            self._client.create_model_version(
                name,
                f"models:/{version.model}/{version.number}",
                tags={"number": str(version.number), "replaces": str(version.replaces)},
            )
            valid = self._point_alias(version.model)
            won = any((p.number, p.replaces) == (version.number, version.replaces) for p in valid)
            decision = "promoted" if won else "superseded"
            # The decision is written last: reconcile promotes again what stayed `passed`.
            self._client.set_model_version_tag(version.model, str(version.number), "decision", decision)
        return won

    def settle_provisional(self, version: ModelVersion, decision: Decision, metrics: Mapping[str, float]) -> None:
        """Replace what the gate said of a provisional promotion by what it says now; the run keeps the first words."""
        tags = {**_gate_tags(decision), **_metric_tags(metrics)}
        tags["provisional"] = tags.pop("provisional")  # written last: until then it is judged again
        with self._errors(f"storing what the gate says of {version}"):
            for key, value in tags.items():
                self._client.set_model_version_tag(version.model, str(version.number), key, value)

    def download(self, version: ModelVersion, cache: Path) -> Path:
        """Return the folder of a version's checkpoint, fetched into `cache` once and verified.

        Raises `CheckpointCorrupt` or `RegistryError`; the cache then holds nothing of it.
        """
        from nerloop import checkpoint  # needs torch, which who only reads the registry need not load

        def fetch(temporary: Path) -> Path:
            fetched = Path(self._client.download_artifacts(version.run_id, "checkpoint", str(temporary)))
            checkpoint.verify(fetched)
            return fetched

        folder = cache / str(version)
        if folder.is_dir():
            return folder
        with self._errors(f"downloading {version} to {cache}"):
            return fill(folder, fetch)

    def last_manifest(self, model: str) -> Manifest:
        """Return the manifest of the last decided run, promoted or not; empty before the first. It is fetched once."""
        with self._errors(f"reading the last run of {model}"):
            experiment = self._client.get_experiment_by_name(_experiment_name(model))
            if experiment is None:
                return {}
            runs = self._client.search_runs(
                [experiment.experiment_id],
                "tags.`nerloop.decision` != ''",
                order_by=["attributes.end_time DESC"],
                max_results=1,
            )
            if not runs:
                return {}
            run_id = runs[0].info.run_id
            if self._manifests.get(model, ("",))[0] != run_id:
                with tempfile.TemporaryDirectory() as temporary:
                    path = self._client.download_artifacts(run_id, "snapshot/manifest.json", temporary)
                    self._manifests[model] = (run_id, json.loads(Path(path).read_text(encoding="utf-8")))
            return self._manifests[model][1]

    def _run(self, model: str, snapshot: Path, manifest: Manifest, candidate: Candidate | None) -> str:
        run = self._client.create_run(
            self._experiment(model), run_name=f"{model} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        )
        run_id: str = run.info.run_id
        now = int(datetime.now(UTC).timestamp() * 1000)
        with tempfile.TemporaryDirectory() as temporary:
            manifest_file = Path(temporary) / "manifest.json"
            manifest_file.write_text(json.dumps(manifest), encoding="utf-8")
            self._client.log_artifact(run_id, str(manifest_file), "snapshot")
        self._client.log_artifact(run_id, str(snapshot), "snapshot")
        if candidate is not None:
            self._client.log_artifacts(run_id, str(candidate.folder), "checkpoint")
            curves = {"loss": candidate.loss_curve, "dev_f1": candidate.dev_f1_curve}
            self._client.log_batch(
                run_id,
                metrics=[Metric(k, v, now, 0) for k, v in candidate.metrics.items()]
                + [Metric(k, v, now, step) for k, curve in curves.items() for step, v in enumerate(curve, start=1)],
                params=[Param("labels", ",".join(candidate.labels)), Param("parent", candidate.parent)],
            )
        return run_id

    def _decide(self, run_id: str, outcome: tuple[str, str]) -> None:
        """Close a run. The decision is written last: a run without one counts for nothing, its labels are new."""
        decision, reason = outcome
        self._client.set_terminated(run_id)
        self._client.log_batch(run_id, tags=[RunTag("nerloop.reason", reason), RunTag("nerloop.decision", decision)])

    def _promotion_log(self, model: str) -> Iterator[Promotion]:
        with self._errors(f"reading the promotions of {model}"):
            entries = self._client.search_model_versions(f"name='{model}{PROMOTIONS_SUFFIX}'", max_results=10_000)
        for entry in entries:
            yield Promotion(
                int(entry.version),
                int(entry.tags["number"]),
                int(entry.tags["replaces"]),
                _time(entry.creation_timestamp),
            )

    def _point_alias(self, model: str) -> list[Promotion]:
        """Point the alias to production; return the promotions that count.

        Reads the log again after each write: a slow worker repairs what it wrote over a newer promotion's alias.
        """
        written = None
        while (valid := valid_promotions(self._promotion_log(model))) and valid[-1] != written:
            written = valid[-1]
            self._set_alias(model, str(written.number))
        return valid

    def _set_alias(self, model: str, number: str) -> None:
        try:
            self._client.set_registered_model_alias(model, PRODUCTION, number)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # MLflow looks for the alias and inserts it where it is missing; another worker did so in between.
            self._client.set_registered_model_alias(model, PRODUCTION, number)

    def _experiment(self, model: str) -> str:
        name = _experiment_name(model)
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        location = None if self._artifacts is None else (self._artifacts / model).resolve().as_uri()
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException:
            experiment = self._client.get_experiment_by_name(name)  # another worker made it just now
            if experiment is None:
                raise
            return str(experiment.experiment_id)

    def _ensure_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn what MLflow raises into `RegistryError` with the fix; the address may hold a password."""
        try:
            yield
        except (MlflowException, OSError) as error:
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise RegistryError(f"{doing}: the disk is full; free space and run it again") from error
            if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EROFS, errno.ENOTDIR}:
                raise RegistryError(f"{doing}: {error}; check permissions, or set NERLOOP_HOME elsewhere") from error
            raise RegistryError(
                f"{doing}: {error}; is the registry in NERLOOP_REGISTRY_URL running and reachable?"
            ) from error


def _alone(uri: str) -> AbstractContextManager[object]:
    """Keep other processes waiting while MLflow sets up a new SQLite database: of two at once, one would fail."""
    if not uri.startswith(SQLITE):
        return nullcontext()
    database = Path(uri.removeprefix(SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock")


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _experiment_name(model: str) -> str:
    return f"nerloop/{model}"


def _outcome(decision: Decision) -> str:
    return "passed" if decision.promote else "rejected"


def _version_tags(candidate: Candidate, decision: Decision) -> dict[str, str]:
    return {
        "labels": json.dumps(candidate.labels, ensure_ascii=False),
        "dataset_fingerprint": candidate.dataset_fingerprint,
        "parent": candidate.parent,
        "replaces": str(candidate.replaces),
        "decision": _outcome(decision),
        **_gate_tags(decision),
        **_metric_tags(candidate.metrics),
    }


def _gate_tags(decision: Decision) -> dict[str, str]:
    forced = {"forced_by": decision.forced_by, "forced_why": decision.forced_why} if decision.forced_by else {}
    return {
        "reason": decision.reason,
        "contests": json.dumps(decision.rows(), ensure_ascii=False),
        "provisional": str(decision.provisional).lower(),
        **forced,
    }


def _metric_tags(metrics: Mapping[str, float]) -> dict[str, str]:
    return {f"metric.{name}": str(value) for name, value in metrics.items()}


def _model_version(found: object) -> ModelVersion:
    """Read MLflow's entity; raises `CheckpointCorrupt` for a version that this product did not write."""
    tags: dict[str, str] = found.tags  # type: ignore[attr-defined]  # mlflow's entities are untyped
    try:
        return ModelVersion(
            model=found.name,  # type: ignore[attr-defined]
            number=int(found.version),  # type: ignore[attr-defined]
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
            created_at=_time(found.creation_timestamp),  # type: ignore[attr-defined]
            run_id=found.run_id,  # type: ignore[attr-defined]
        )
    except KeyError as missing:
        raise CheckpointCorrupt(f"{found.name} version {found.version} lacks the tag {missing}") from None  # type: ignore[attr-defined]
