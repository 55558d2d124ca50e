"""An RQ worker that runs jobs in its own process, which stays warm, and whose death is noticed within minutes."""

import logging
import threading

from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.job import Job
from rq.worker import BaseWorker

logger = logging.getLogger(__name__)


class WarmWorker(SimpleWorker):  # type: ignore[misc]  # rq is untyped here
    """RQ's SimpleWorker with the heartbeat of its forking workers.

    SimpleWorker promises to be alive for as long as a job may take. Killed in a job of six hours, it would keep the
    job's name taken for six hours.
    """

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Return the seconds until the next heartbeat is overdue."""
        return int(BaseWorker.get_heartbeat_ttl(self, job, working_time))

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job here while a thread beats."""
        execution = self.prepare_execution(job)
        done = threading.Event()
        beating = threading.Thread(target=self._beat, args=(job, execution, done), daemon=True)
        beating.start()
        try:
            self.perform_job(job, queue, execution)
        finally:
            done.set()
            beating.join()
        self.set_state("idle")

    def _beat(self, job: Job, execution: Execution, done: threading.Event) -> None:
        while not done.wait(self.job_monitoring_interval):
            try:
                self.maintain_heartbeats(job, execution)
            except RedisError as error:
                logger.warning("Heartbeat of %s: %s", job.id, type(error).__name__)
