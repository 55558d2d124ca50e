"""The runs of fine-tunes in MLflow: snapshot, manifest, curves, checkpoint, decision. One experiment a model.

A run counts only once it is decided: the labels of one that ended before that are still new.
"""

import csv
import json
import logging
import os
import platform
import posixpath
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from nerloop.documents import Manifest, document_of
from nerloop.live_run import DECISION_TAG, REASON_TAG, LiveRun
from nerloop.mlflow_door import registry_errors
from nerloop.plots import plot_confusion, plot_reliability
from nerloop.versions import Candidate

logger = logging.getLogger(__name__)

ORDER_TAG = "nerloop.order"  # of decisions, since the clocks of two workers may disagree; with leading zeros
KEY_TAG = "nerloop.key"
METRIC_NAME = re.compile(r"[/\w.\- ]{1,250}")  # what MLflow takes; a label it refuses is still in the table
MAX_PARAM_LENGTH = 6000  # MLflow's own limit
MANIFEST = "manifest.json"
ERASED = "nerloop.erased."
"""Tag of a run, with the id of a document that was erased from its snapshot."""
ERASURE_BEGUN = "begun"


class Runs:
    """The runs of all models behind one MLflow client."""

    def __init__(self, client: MlflowClient, artifacts: Path | None) -> None:
        """`artifacts` is the folder for files where the address is a database; a server has its own store."""
        self._client = client
        # model → run, what was erased from it and its manifest, which nothing else changes
        self._manifests: dict[str, tuple[str, dict[str, str], Manifest]] = {}
        self._artifacts = artifacts

    def begin(self, model: str, key: str, parameters: Mapping[str, object]) -> LiveRun:
        """Return the run of a fine-tune that begins, or goes on: `key` says of which, as its labels and base do.

        Undecided runs of the model with another key are closed: nobody will go on with them.
        """
        with registry_errors(f"beginning a run of {model}"):
            found = self._client.search_runs([self._experiment(model)], order_by=["attributes.start_time DESC"])
            undecided = [run for run in found if DECISION_TAG not in run.data.tags and KEY_TAG in run.data.tags]
            mine = next((run.info.run_id for run in undecided if run.data.tags[KEY_TAG] == key), None)
            for run in undecided:
                if run.data.tags[KEY_TAG] != key and run.info.status != "KILLED":
                    stale = LiveRun(self._client, run.info.run_id)
                    stale.drop_state()
                    reason = "it was stopped before its end, and its labels or its base have changed since"
                    self._client.set_tag(stale.id, REASON_TAG, run.data.tags.get(REASON_TAG, reason))
                    self._client.set_terminated(stale.id, "KILLED")
                    logger.info("Closed run %s of %s: %s", stale.id, model, reason)
            if mine is None:
                mine = self._new(model, {KEY_TAG: key, **machine_tags()})
                texts = {name: str(value)[:MAX_PARAM_LENGTH] for name, value in parameters.items()}
                self._client.log_batch(mine, params=[Param(name, text) for name, text in texts.items()])
            else:
                self._client.update_run(mine, "RUNNING")
                logger.info("Goes on with run %s of %s, which was stopped before its end", mine, model)
            return LiveRun(self._client, mine)

    def running(self, model: str) -> list[LiveRun]:
        """Return the fine-tunes of a model that go on, or whose process has ended without a word."""
        with registry_errors(f"listing the runs of {model}"):
            experiment = self._client.get_experiment_by_name(_experiment_name(model))
            if experiment is None:
                return []
            found = self._client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
        tags = {run.info.run_id: run.data.tags for run in found}
        return [LiveRun(self._client, run) for run in tags if KEY_TAG in tags[run] and DECISION_TAG not in tags[run]]

    def store(self, model: str, snapshot: Path, manifest: Manifest, candidate: Candidate | None) -> str:
        """Store what a run read and made, and return its id; it is not decided yet.

        What was read is `snapshot`, and the other JSONL files of its folder.
        """
        run_id = (candidate.run_id if candidate else "") or self._new(model, {})
        with tempfile.TemporaryDirectory() as temporary:
            manifest_file = Path(temporary) / MANIFEST
            manifest_file.write_text(json.dumps(manifest), encoding="utf-8")
            self._client.log_artifact(run_id, str(manifest_file), "snapshot")
        for file in snapshot.parent.glob("*.jsonl"):
            self._client.log_artifact(run_id, str(file), "snapshot")
        if candidate is not None:
            self._client.log_artifacts(run_id, str(candidate.folder), "checkpoint")
            self._client.log_batch(run_id, metrics=_metrics(candidate))
            self._client.set_tag(run_id, "nerloop.dataset_fingerprint", candidate.dataset_fingerprint)
            self._store_evaluation(run_id, candidate)
        return run_id

    def decide(self, run_id: str, decision: str, reason: str) -> None:
        """Close a run. The decision is written last: a run without one counts for nothing, its labels are new.

        A decision stays: one that a second worker brings for the same run later would make its labels the last ones.
        """
        run = self._client.get_run(run_id)
        if DECISION_TAG in run.data.tags:
            return
        self._client.set_terminated(run_id)
        before = self._last_decided(run.info.experiment_id)
        order = int(before.data.tags.get(ORDER_TAG, 0)) + 1 if before else 1
        description = RunTag("mlflow.note.content", f"{decision}: {reason}")  # MLflow's page shows it first
        self._client.log_batch(run_id, tags=[description, RunTag(REASON_TAG, reason), RunTag(ORDER_TAG, f"{order:09}")])
        self._client.set_tag(run_id, DECISION_TAG, decision)

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
        """Return the manifest of the last decided run, promoted or not; empty before the first. It is fetched once."""
        with registry_errors(f"reading the last run of {model}"):
            experiment = self._client.get_experiment_by_name(_experiment_name(model))
            if experiment is None:
                return {}
            last = self._last_decided(experiment.experiment_id)
            if last is None:
                return {}
            run_id, erased = last.info.run_id, _erased(last.data.tags)
            if self._manifests.get(model, ("",))[:2] != (run_id, erased):
                self._manifests[model] = (run_id, erased, self.manifest(run_id))
            return self._manifests[model][2]

    def manifest(self, run_id: str) -> Manifest:
        """Return the manifest of a run: the annotations that its snapshot comes from."""
        with registry_errors(f"reading the manifest of run {run_id}"), tempfile.TemporaryDirectory() as temporary:
            path = self._client.download_artifacts(run_id, f"snapshot/{MANIFEST}", temporary)
            manifest: Manifest = json.loads(Path(path).read_text(encoding="utf-8"))
            return manifest

    def erased(self, run_id: str) -> dict[str, str]:
        """Return the documents that were erased from a run's snapshot, each with when, by whom and why."""
        with registry_errors(f"reading run {run_id}"):
            return _erased(self._client.get_run(run_id).data.tags)

    def all_of(self, model: str) -> dict[str, bool]:
        """Return the ids of all runs of a model, each with whether it is decided: its snapshot is then stored."""
        with registry_errors(f"listing the runs of {model}"):
            experiment = self._client.get_experiment_by_name(_experiment_name(model))
            if experiment is None:
                return {}
            found: dict[str, bool] = {}
            token = None
            while True:
                page = self._client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
                found |= {run.info.run_id: DECISION_TAG in run.data.tags for run in page}
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
        manifest. The run is tagged first, so that a repetition after a kill still says what was in it, and with `note`
        only when all is done: who keeps a copy of the manifest reads it again then.
        """
        with registry_errors(f"erasing {document_id} from run {run_id}"), tempfile.TemporaryDirectory() as temporary:
            # A run that ended before it stored a snapshot has none to download.
            names = [found.path for found in self._client.list_artifacts(run_id, "snapshot")]
            files = [Path(self._client.download_artifacts(run_id, name, temporary)) for name in names]
            changed = [path for path in files if _take_out(path, document_id, annotation_ids)]
            before = self.erased(run_id).get(document_id)
            if changed:
                self._client.set_tag(run_id, f"{ERASED}{document_id}", ERASURE_BEGUN)
            for path in changed:
                self._replace(run_id, path)
            if changed or before == ERASURE_BEGUN:
                self._client.set_tag(run_id, f"{ERASED}{document_id}", note)
        return bool(changed) or before is not None

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

    def _last_decided(self, experiment_id: str) -> Run | None:
        found = self._client.search_runs(
            [experiment_id],
            f"tags.`{DECISION_TAG}` != ''",
            order_by=[f"tags.`{ORDER_TAG}` DESC", "attributes.end_time DESC"],
            max_results=1,
        )
        return found[0] if found else None

    def _new(self, model: str, tags: dict[str, str]) -> str:
        name = f"{model} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        return str(self._client.create_run(self._experiment(model), run_name=name, tags=tags).info.run_id)

    def _store_evaluation(self, run_id: str, candidate: Candidate) -> None:
        """Store what was found on the gate documents: a table, and pictures where there is something to see."""
        if candidate.evaluation is None:
            return
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            with (folder / "per_label.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["label", "precision", "recall", "f1", "support"])
                for label, scores in candidate.evaluation.per_label.items():
                    writer.writerow([label, scores.precision, scores.recall, scores.f1, scores.support])
            plot_confusion(candidate.evaluation, folder / "confusion.svg")
            if candidate.calibration is not None:
                plot_reliability(candidate.calibration, folder / "reliability.svg")
            self._client.log_artifacts(run_id, str(folder), "evaluation")

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


def machine_tags() -> dict[str, str]:
    """Return what a run says of the machine that it runs on; no name and no address."""
    return {
        "machine.system": platform.platform(terse=True),
        "machine.processor": platform.processor() or platform.machine(),
        "machine.cores": str(os.cpu_count()),
        "machine.python": platform.python_version(),
        "machine.torch": version("torch"),
    }


def _erased(tags: Mapping[str, str]) -> dict[str, str]:
    return {tag.removeprefix(ERASED): note for tag, note in tags.items() if tag.startswith(ERASED)}


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
    per_label = candidate.evaluation.per_label if candidate.evaluation else {}
    values = {**candidate.metrics, **{f"gate_f1.{label}": scores.f1 for label, scores in per_label.items()}}
    return [Metric(name, value, now, 0) for name, value in values.items() if _may_be_named(name)]


def _may_be_named(metric: str) -> bool:
    return METRIC_NAME.fullmatch(metric) is not None and posixpath.normpath(metric) == metric
