"""The model registry: versions and the promotion log, in MLflow.

One registered model per business line holds the versions; a second, `<model>-promotions`, is the promotion log: its
version numbers are the total order that an alias cannot give. The alias `production` is set for people who look into
MLflow; the log alone decides.
"""

from collections.abc import Mapping
from pathlib import Path

from mlflow.exceptions import MlflowException

from nerloop.cache import fill, use
from nerloop.documents import Manifest
from nerloop.errors import RegistryError
from nerloop.gate import Decision
from nerloop.mlflow_door import open_client, registry_errors
from nerloop.promotions import PROMOTIONS_SUFFIX, Entry, Kind, PromotionLog, read_log
from nerloop.runs import Runs
from nerloop.versions import (
    Candidate,
    ModelVersion,
    Production,
    entry_tags,
    gate_tags,
    metric_tags,
    outcome,
    read_entry,
    read_version,
    version_tags,
)

PRODUCTION = "production"
NO_VERSION = "nerloop:///"  # source of entries that name no version; a server wants an absolute address
DESCRIPTION_LENGTH = 5000  # what MLflow's column holds


class Registry:
    """Versions and promotions behind one MLflow address (`sqlite:///…` or `http://…`)."""

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        """`artifacts` is the folder for files where the address is a database; a server has its own store.

        Raises `RegistryError` on an address that MLflow does not know.
        """
        self._client = open_client(uri)
        self.runs = Runs(self._client, artifacts)

    def check(self) -> None:
        """Raise `RegistryError` unless the registry answers (a new database is set up on the way)."""
        with registry_errors("reading the registry"):
            self._client.search_registered_models(max_results=1)

    def register(
        self, model: str, candidate: Candidate, snapshot: Path, manifest: Manifest, decision: Decision
    ) -> ModelVersion:
        """Store a candidate and what the gate said of it; the version becomes visible only with all its files.

        Raises `RegistryError`; then nothing is visible.
        """
        with registry_errors(f"registering a version of {model}"):
            before = [v for v in self.versions(model) if candidate.run_id and v.run_id == candidate.run_id]
            if before:  # whoever registered it died before the run was closed, or had the same job
                decided = "rejected" if before[0].decision == "rejected" else "passed"
                self.runs.decide(candidate.run_id, decided, before[0].reason)
                return before[0]
            run_id = self.runs.store(model, snapshot, manifest, candidate)
            self._ensure_model(model, f"Every candidate of the model {model}, rejected ones too; see docs/registry.md")
            made = self._client.create_model_version(
                model,
                self.runs.checkpoint_uri(run_id),
                run_id,
                tags=version_tags(candidate, decision),
                description=decision.reason[:DESCRIPTION_LENGTH],
            )
            self.runs.decide(run_id, outcome(decision), decision.reason)
        return self.version(model, int(made.version))

    def version(self, model: str, number: int) -> ModelVersion:
        """Return one version; raises `RegistryError` where there is none, saying which there are."""
        with registry_errors(f"reading {model}-v{number}"):
            try:
                return read_version(self._client.get_model_version(model, str(number)))
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
        with registry_errors(f"listing the versions of {model}"):
            found = self._client.search_model_versions(f"name='{model}'")
        return sorted((read_version(item) for item in found), key=lambda version: -version.number)

    def promoted(self, model: str) -> list[ModelVersion]:
        """Return every version that was in production, was not rolled back from and is still there, newest first."""
        line = self.promotion_log(model).line
        return [version for version in self.versions(model) if version.number in line]

    def production(self, model: str) -> Production:
        """Return what the promotion log says is in production."""
        log = self.promotion_log(model)
        if not log.valid:
            return Production()
        version = self.version(model, log.number) if log.number else None
        return Production(log.generation, version, log.valid[-1].at)

    def promotion_log(self, model: str) -> PromotionLog:
        """Return what the promotion log of a model says; empty for a model of which nothing was promoted."""
        with registry_errors(f"reading the promotions of {model}"):
            entries = self._client.search_model_versions(f"name='{model}{PROMOTIONS_SUFFIX}'", max_results=10_000)
            return read_log(map(read_entry, entries))

    def promote(self, version: ModelVersion) -> str:
        """Promote a version that passed, over the generation it `replaces`; return its decision from now on.

        `promoted`, `superseded`, or still `passed` while automatic promotion is paused. Safe to repeat: the same
        version over the same generation wins again.
        """
        kind: Kind = "forced" if version.forced_by else "promotion"
        with registry_errors(f"promoting {version}"):
            if self.promotion_log(version.model).takes(kind, version.replaces):
                entry = Entry(0, version.number, version.replaces, kind, version.forced_by, version.forced_why)
                self._append(version.model, entry)
            log = self.promotion_log(version.model)
            won = any(entry.number == version.number for entry in log.valid)  # or by hand, while it waited
            if not won and log.waits(kind, version.replaces):
                return version.decision
            self.point_alias(version.model)
            decision = "promoted" if won else "superseded"
            # The decision is written last: reconcile promotes again what stayed `passed`.
            self._client.set_model_version_tag(version.model, str(version.number), "decision", decision)
        return decision

    def append(self, model: str, kind: Kind, by: str, why: str, number: int = 0, replaces: int = 0) -> bool:
        """Append what somebody decided; tell whether a change of production was valid (a pause or resume always is)."""
        with registry_errors(f"writing to the promotion log of {model}"):
            generation = self._append(model, Entry(0, number, replaces, kind, by, why))
            log = self.point_alias(model)
            if kind in {"pause", "resume"}:
                return True
            won = any(entry.generation == generation for entry in log.valid)
            if won and number:
                self._client.set_model_version_tag(model, str(number), "decision", "promoted")
            return won

    def point_alias(self, model: str) -> PromotionLog:
        """Make the alias say what the log says, where it does not; return the log.

        Reads the log again after each write: a slow worker repairs what it wrote over a newer promotion's alias.
        """
        with registry_errors(f"pointing the alias of {model}"):
            while True:
                log = self.promotion_log(model)
                wanted = str(log.number) if log.number else None
                if self._alias(model) == wanted:
                    return log
                if wanted:
                    self._set_alias(model, wanted)
                else:
                    self._client.delete_registered_model_alias(model, PRODUCTION)

    def settle_provisional(self, version: ModelVersion, decision: Decision, metrics: Mapping[str, float]) -> None:
        """Replace what the gate said of a provisional promotion by what it says now; the run keeps the first words."""
        tags = {**gate_tags(decision), **metric_tags(metrics)}
        tags["provisional"] = tags.pop("provisional")  # written last: until then it is judged again
        with registry_errors(f"storing what the gate says of {version}"):
            self._client.update_model_version(version.model, str(version.number), decision.reason[:DESCRIPTION_LENGTH])
            for key, value in tags.items():
                self._client.set_model_version_tag(version.model, str(version.number), key, value)

    def mark_files(self, version: ModelVersion, removed: str) -> None:
        """Note when a version's checkpoint was removed, that it is about to be (`begun`), or that it stays (empty)."""
        with registry_errors(f"noting that files of {version} are removed"):
            self._client.set_model_version_tag(version.model, str(version.number), "files_removed", removed)

    def download(self, version: ModelVersion, cache: Path) -> Path:
        """Return the folder of a version's checkpoint, fetched into `cache` once and verified.

        Raises `FilesRemoved`, `CheckpointCorrupt` or `RegistryError`; the cache then holds nothing of it.
        """
        version.check_files()
        from nerloop import checkpoint  # needs torch, which who only reads the registry need not load

        def fetch(temporary: Path) -> Path:
            fetched = Path(self._client.download_artifacts(version.run_id, "checkpoint", str(temporary)))
            checkpoint.verify(fetched)
            return fetched

        folder = cache / str(version)
        if use(folder):
            return folder
        with registry_errors(f"downloading {version} to {cache}"):
            return fill(folder, fetch)

    def _append(self, model: str, entry: Entry) -> int:
        """Append an entry and return the generation that the registry gave it."""
        name = model + PROMOTIONS_SUFFIX
        self._ensure_model(name, f"Promotion log of {model}: its version numbers are the order; see docs/registry.md")
        made = self._client.create_model_version(
            name,
            f"models:/{model}/{entry.number}" if entry.number else f"{NO_VERSION}{entry.kind}",
            tags=entry_tags(entry),
            description=entry.sentence(model)[:DESCRIPTION_LENGTH],
        )
        return int(made.version)

    def _alias(self, model: str) -> str | None:
        try:
            found = self._client.get_registered_model(model).aliases.get(PRODUCTION)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # paused before its first version
        return None if found is None else str(found)

    def _set_alias(self, model: str, number: str) -> None:
        try:
            self._client.set_registered_model_alias(model, PRODUCTION, number)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # MLflow looks for the alias and inserts it where it is missing; another worker did so in between.
            self._client.set_registered_model_alias(model, PRODUCTION, number)

    def _ensure_model(self, name: str, description: str) -> None:
        try:
            self._client.create_registered_model(name, description=description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
