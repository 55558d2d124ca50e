"""A fine-tune's run in MLflow while it goes on: its curves, and the state from which any machine can go on.

A registry that is away costs a run nothing but what people see of it meanwhile: what could not be written follows.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from nerloop.errors import RegistryError
from nerloop.mlflow_door import registry_errors

logger = logging.getLogger(__name__)

STATE = "state"  # folder of artifacts, with one file named after the step it is of
STATE_TAG = "nerloop.state_step"
DECISION_TAG = "nerloop.decision"
REASON_TAG = "nerloop.reason"
AWAY_SECONDS = 60  # before a registry that is away is asked again: meanwhile nothing is trained, for seconds each time
SHARE_OF_TIME = 0.05  # of a run that storing its state may take; a large model's is stored less often


class LiveRun:
    """One run that is not decided yet."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.id = run_id
        self._client = client
        self._waiting: list[Metric] = []
        self._next_state = time.monotonic()
        self._away = False  # the registry, when it was asked last
        self._ask_again = 0.0

    def log_epoch(self, number: int, loss: float, dev_f1: float | None) -> None:
        """Add a point to the curves; while the registry is away it waits for a later one."""
        now = int(time.time() * 1000)
        self._waiting.append(Metric("loss", loss, now, number))
        if dev_f1 is not None:
            self._waiting.append(Metric("dev_f1", dev_f1, now, number))
        if time.monotonic() >= self._ask_again:
            self._write_curves()

    def keep_state(self, file: Path, step: int) -> None:
        """Store how far the fine-tune is, so that another machine can go on; as often as the share of time allows.

        The new file is there before the old one goes.
        """
        if time.monotonic() < max(self._next_state, self._ask_again) or not file.exists():
            return
        started = time.monotonic()
        with self._tried("storing how far it is"):
            before = self._client.get_run(self.id).data.tags.get(STATE_TAG)
            self._client.log_artifact(self.id, str(file), f"{STATE}/{step}")
            self._client.set_tag(self.id, STATE_TAG, str(step))
            if before is not None and before != str(step):
                self._delete(f"{STATE}/{before}")
        self._next_state = time.monotonic() + (time.monotonic() - started) / SHARE_OF_TIME

    def fetch_state(self, file: Path, step: int) -> bool:
        """Put the stored state into `file` where it is of a later step than `step`; tell whether it was.

        A state that cannot be fetched costs time, never the run.
        """
        with self._tried("fetching how far it was"):
            stored = self._client.get_run(self.id).data.tags.get(STATE_TAG)
            if stored is None or int(stored) <= step:
                return False
            folder = file.parent / "fetched"
            folder.mkdir(parents=True, exist_ok=True)
            fetched = self._client.download_artifacts(self.id, f"{STATE}/{stored}/{file.name}", str(folder))
            Path(fetched).replace(file)
            logger.info("Goes on from step %s, which another worker has stored", stored)
            return True
        return False

    def drop_state(self) -> None:
        """Remove what was stored: the run has ended."""
        self._write_curves()
        with self._tried("removing how far it was"):
            self._delete(STATE)

    def fail(self, reason: str) -> None:
        """Say that the run ended without a candidate; it goes on where the same fine-tune is tried again.

        A second worker with the same job, which has decided the run meanwhile, is believed.
        """
        self._write_curves()
        with self._tried("closing it"):
            if DECISION_TAG in self._client.get_run(self.id).data.tags:
                return
            self._client.set_tag(self.id, REASON_TAG, reason)
            self._client.set_terminated(self.id, "FAILED")

    def _write_curves(self) -> None:
        if self._waiting:
            with self._tried("writing the curves"):
                self._client.log_batch(self.id, metrics=self._waiting)
                self._waiting.clear()

    def _delete(self, folder: str) -> None:
        where = self._client.get_run(self.id).info.artifact_uri
        get_artifact_repository(where, tracking_uri=self._client.tracking_uri).delete_artifacts(folder)

    @contextlib.contextmanager
    def _tried(self, doing: str) -> Iterator[None]:
        """Log what the registry refuses, once while it lasts, and go on."""
        try:
            with registry_errors(doing):
                yield
            self._away = False
        except RegistryError as error:
            if not self._away:
                logger.warning("The fine-tune goes on, but the registry does not take part: %s", error)
            self._away = True
            self._ask_again = time.monotonic() + AWAY_SECONDS
