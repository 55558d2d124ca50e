"""The two kinds of RQ worker, whose death is noticed within half a minute. What they run is tasks.py's."""

import logging
import os
import sys
import threading

from redis.exceptions import RedisError
from rq import Queue, SimpleWorker, SpawnWorker
from rq.executions import Execution
from rq.job import Job

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5
MISSED_SECONDS = 20
"""Seconds without a heartbeat after which a worker counts as dead. One that was only slow costs a job done twice."""


class FineTuneWorker(SpawnWorker):  # type: ignore[misc]  # rq is untyped here
    """Runs each job in a process of its own, which can be stopped and gives back its memory.

    Spawned and not forked: torch's threads do not survive a fork.
    """

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Return the seconds until the next heartbeat is overdue."""
        return MISSED_SECONDS

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Start the process of a job, as a group of its own; see work_horse.py."""
        names = {"RQ_WORKER_ID": self.name, "RQ_JOB_ID": job.id, "RQ_EXECUTION_ID": self.execution.id}
        arguments = [sys.executable, "-m", "workers.work_horse", self.key, job.id, queue.name]
        self._horse_pid = os.posix_spawn(sys.executable, arguments, {**os.environ, **names}, setpgroup=0)


class WarmWorker(SimpleWorker):  # type: ignore[misc]  # as above
    """Runs jobs in its own process, whose imports cost seven seconds, while a thread beats.

    SimpleWorker promises to be alive for as long as a job may take. Killed in a job of six hours, it would keep the
    job's name taken for six hours.
    """

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Return the seconds until the next heartbeat is overdue."""
        return MISSED_SECONDS

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
