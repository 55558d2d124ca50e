"""The runs of fine-tunes in MLflow: snapshot, manifest, curves, checkpoint, decision. One experiment a model.

A run counts only once it is decided: the labels of one that ended before that are still new.
"""

import json
import shutil
import tempfile
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from nerloop.documents import Manifest, document_of
from nerloop.mlflow_door import registry_errors
from nerloop.versions import Candidate

MANIFEST = "manifest.json"
ERASED = "nerloop.erased."
"""Tag of a run, with the id of a document that was erased from its snapshot."""


class Runs:
    """The runs of all models behind one MLflow client."""

    def __init__(self, client: MlflowClient, artifacts: Path | None) -> None:
        """`artifacts` is the folder for files where the address is a database; a server has its own store."""
        self._client = client
        self._artifacts = artifacts

    def store(self, model: str, snapshot: Path, manifest: Manifest, candidate: Candidate | None) -> str:
        """Store what a run read and made, and return its id; it is not decided yet."""
        run = self._client.create_run(
            self._experiment(model), run_name=f"{model} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        )
        run_id: str = run.info.run_id
        with tempfile.TemporaryDirectory() as temporary:
            manifest_file = Path(temporary) / MANIFEST
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

    def delete_checkpoint(self, run_id: str) -> None:
        """Remove the files of a run's checkpoint; what is gone already is fine."""
        with registry_errors(f"removing the checkpoint of run {run_id}"):
            where = self._client.get_run(run_id).info.artifact_uri
            get_artifact_repository(where, tracking_uri=self._client.tracking_uri).delete_artifacts("checkpoint")

    def last_manifest(self, model: str) -> Manifest:
        """Return the manifest of the last decided run, promoted or not; empty before the first."""
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
            return self.manifest(runs[0].info.run_id)

    def manifest(self, run_id: str) -> Manifest:
        """Return the manifest of a run: the annotations that its snapshot comes from."""
        with registry_errors(f"reading the manifest of run {run_id}"), tempfile.TemporaryDirectory() as temporary:
            path = self._client.download_artifacts(run_id, f"snapshot/{MANIFEST}", temporary)
            manifest: Manifest = json.loads(Path(path).read_text(encoding="utf-8"))
            return manifest

    def erased(self, run_id: str) -> dict[str, str]:
        """Return the documents that were erased from a run's snapshot, each with when, by whom and why."""
        with registry_errors(f"reading run {run_id}"):
            tags: dict[str, str] = self._client.get_run(run_id).data.tags
        return {tag.removeprefix(ERASED): note for tag, note in tags.items() if tag.startswith(ERASED)}

    def all_of(self, model: str) -> list[str]:
        """Return the ids of all runs of a model, decided or not."""
        with registry_errors(f"listing the runs of {model}"):
            experiment = self._client.get_experiment_by_name(_experiment_name(model))
            if experiment is None:
                return []
            found, token = [], None
            while True:
                page = self._client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
                found += [run.info.run_id for run in page]
                token = page.token
                if not token:
                    return found

    def models(self) -> list[str]:
        """Return every model that has runs, sorted."""
        with registry_errors("listing the models"):
            experiments = self._client.search_experiments(filter_string=f"name LIKE '{_experiment_name('%')}'")
        return sorted(experiment.name.removeprefix(_experiment_name("")) for experiment in experiments)

    def erase(self, run_id: str, document_id: str, annotation_ids: Collection[str], note: str) -> bool:
        """Take a document out of a run's snapshot; tell whether it is or ever was in it.

        Its line leaves each JSONL file; the annotations that the manifest says are its, and `annotation_ids`, leave the
        manifest. The run is tagged first, so that a repetition after a kill still says what was in it.
        """
        with registry_errors(f"erasing {document_id} from run {run_id}"), tempfile.TemporaryDirectory() as temporary:
            # A run that ended before it stored a snapshot has none to download.
            names = [found.path for found in self._client.list_artifacts(run_id, "snapshot")]
            files = [Path(self._client.download_artifacts(run_id, name, temporary)) for name in names]
            changed = [path for path in files if _take_out(path, document_id, annotation_ids)]
            if changed:
                self._client.set_tag(run_id, f"{ERASED}{document_id}", note)
            for path in changed:
                self._replace(run_id, path)
        return bool(changed) or document_id in self.erased(run_id)

    def _replace(self, run_id: str, path: Path) -> None:
        """Put a file in place of the one of that name in a run's snapshot; never half of it."""
        where = self._client.get_run(run_id).info.artifact_uri
        if not where.startswith("file:"):
            self._client.log_artifact(run_id, str(path), "snapshot")  # a server takes a file when it has all of it
            return
        target = Path(url2pathname(urlsplit(where).path)) / "snapshot" / path.name
        partial = target.with_name(f".{path.name}.partial")
        shutil.copyfile(path, partial)
        partial.replace(target)

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


def _take_out(path: Path, document_id: str, annotation_ids: Collection[str]) -> bool:
    """Rewrite a file of a snapshot without a document; tell whether anything of it was there."""
    if path.name == MANIFEST:
        try:
            manifest: Manifest = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return False  # half a manifest of a run that was killed: it counts for nothing and holds no text
        left = {
            key: entry
            for key, entry in manifest.items()
            if key not in annotation_ids and document_of(entry) != document_id
        }
        path.write_text(json.dumps(left), encoding="utf-8")
        return len(left) < len(manifest)
    if path.suffix != ".jsonl":
        return False
    rest = path.with_name(f"{path.name}.rest")
    found = False
    with path.open(encoding="utf-8", newline="\n") as lines, rest.open("w", encoding="utf-8", newline="\n") as out:
        for line in lines:
            if line.strip() and _may_be(line, document_id):
                found = True
            else:
                out.write(line)
    rest.replace(path)
    return found


def _may_be(line: str, document_id: str) -> bool:
    """Tell whether a line is a document's, or half a line that a killed run has left, which may be anybody's."""
    try:
        return bool(json.loads(line).get("id") == document_id)
    except ValueError:
        return True


def _metrics(candidate: Candidate) -> list[Metric]:
    now = int(datetime.now(UTC).timestamp() * 1000)
    curves = {"loss": candidate.loss_curve, "dev_f1": candidate.dev_f1_curve}
    points = [(name, step, value) for name, curve in curves.items() for step, value in enumerate(curve, start=1)]
    points += [(name, 0, value) for name, value in candidate.metrics.items()]
    return [Metric(name, value, now, step) for name, step, value in points]
