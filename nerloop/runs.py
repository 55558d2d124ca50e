"""The runs of fine-tunes in MLflow: snapshot, manifest, curves, checkpoint, decision. One experiment a model.

A run counts only once it is decided: the labels of one that ended before that are still new.
"""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from nerloop.documents import Manifest
from nerloop.mlflow_door import registry_errors
from nerloop.versions import Candidate


class Runs:
    """The runs of all models behind one MLflow client."""

    def __init__(self, client: MlflowClient, artifacts: Path | None) -> None:
        """`artifacts` is the folder for files where the address is a database; a server has its own store."""
        self._client = client
        self._manifests: dict[str, tuple[str, Manifest]] = {}  # model → run and its manifest, which never changes
        self._artifacts = artifacts

    def store(self, model: str, snapshot: Path, manifest: Manifest, candidate: Candidate | None) -> str:
        """Store what a run read and made, and return its id; it is not decided yet."""
        run = self._client.create_run(
            self._experiment(model), run_name=f"{model} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        )
        run_id: str = run.info.run_id
        with tempfile.TemporaryDirectory() as temporary:
            manifest_file = Path(temporary) / "manifest.json"
            manifest_file.write_text(json.dumps(manifest), encoding="utf-8")
            self._client.log_artifact(run_id, str(manifest_file), "snapshot")
        self._client.log_artifact(run_id, str(snapshot), "snapshot")
        if candidate is not None:
            self._client.log_artifacts(run_id, str(candidate.folder), "checkpoint")
            self._client.log_batch(
                run_id,
                metrics=_metrics(candidate),
                params=[Param("labels", ",".join(candidate.labels)), Param("parent", candidate.parent)],
            )
        return run_id

    def decide(self, run_id: str, decision: str, reason: str) -> None:
        """Close a run. The decision is written last: a run without one counts for nothing, its labels are new."""
        self._client.set_terminated(run_id)
        self._client.log_batch(run_id, tags=[RunTag("nerloop.reason", reason), RunTag("nerloop.decision", decision)])

    def record_no_data(self, model: str, snapshot: Path, manifest: Manifest, reason: str) -> None:
        """Store that a run ended without a candidate, so that the same labels do not start it again."""
        with registry_errors(f"recording a run of {model}"):
            self.decide(self.store(model, snapshot, manifest, None), "no_data", reason)

    def checkpoint_uri(self, run_id: str) -> str:
        """Return where a run keeps its checkpoint."""
        return f"{self._client.get_run(run_id).info.artifact_uri}/checkpoint"

    def last_manifest(self, model: str) -> Manifest:
        """Return the manifest of the last decided run, promoted or not; empty before the first. It is fetched once."""
        with registry_errors(f"reading the last run of {model}"):
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


def _experiment_name(model: str) -> str:
    return f"nerloop/{model}"


def _metrics(candidate: Candidate) -> list[Metric]:
    now = int(datetime.now(UTC).timestamp() * 1000)
    curves = {"loss": candidate.loss_curve, "dev_f1": candidate.dev_f1_curve}
    points = [(name, step, value) for name, curve in curves.items() for step, value in enumerate(curve, start=1)]
    points += [(name, 0, value) for name, value in candidate.metrics.items()]
    return [Metric(name, value, now, step) for name, step, value in points]
