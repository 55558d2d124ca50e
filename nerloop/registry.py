"""The model registry: versions and the promotion log, in MLflow.

One registered model per business line holds the versions; a second, `<model>-promotions`, is the promotion log: its
version numbers are the total order that an alias cannot give. The alias `production` is set for people who look into
MLflow; the log alone decides.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow.exceptions import MlflowException

from nerloop.cache import fill, use
from nerloop.documents import Manifest
from nerloop.errors import RegistryError
from nerloop.gate import Decision
from nerloop.mlflow_door import open_client, registry_errors
from nerloop.promotions import PROMOTIONS_SUFFIX, Promotion, valid_promotions
from nerloop.runs import Runs
from nerloop.versions import (
    Candidate,
    ModelVersion,
    Production,
    gate_tags,
    metric_tags,
    outcome,
    read_version,
    time_of,
    version_tags,
)

PRODUCTION = "production"


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
            run_id = self.runs.store(model, snapshot, manifest, candidate)
            self._ensure_model(model)
            made = self._client.create_model_version(
                model, self.runs.checkpoint_uri(run_id), run_id, tags=version_tags(candidate, decision)
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
        with registry_errors(f"promoting {version}"):
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
        tags = {**gate_tags(decision), **metric_tags(metrics)}
        tags["provisional"] = tags.pop("provisional")  # written last: until then it is judged again
        with registry_errors(f"storing what the gate says of {version}"):
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
        if use(folder):
            return folder
        with registry_errors(f"downloading {version} to {cache}"):
            return fill(folder, fetch)

    def _promotion_log(self, model: str) -> Iterator[Promotion]:
        with registry_errors(f"reading the promotions of {model}"):
            entries = self._client.search_model_versions(f"name='{model}{PROMOTIONS_SUFFIX}'", max_results=10_000)
        for entry in entries:
            yield Promotion(
                int(entry.version),
                int(entry.tags["number"]),
                int(entry.tags["replaces"]),
                time_of(entry.creation_timestamp),
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

    def _ensure_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
