"""The queues and what is put on them. Owns job names and their life times; what a job does is workers/'s.

A job carries ids only, may run twice and may be killed at any line. Jobs are named by their function's dotted name, so
that whoever enqueues need not import what trains.
"""

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.command import send_stop_job_command
from rq.exceptions import AbandonedJobError, DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.registry import StartedJobRegistry

from nerloop.errors import QueueUnreachable
from nerloop.settings import Settings

logger = logging.getLogger(__name__)

TRAIN_QUEUE = "train"
PREDICT_QUEUE = "predict"
REFRESH, MEMORY = "refresh-project-", "label-memory-"  # how the names of their jobs begin
REFRESH_TIMEOUT_SECONDS = 6 * 3600
SLICE_SECONDS = 1800  # that a slice of a refresh waits at most, runs at most, and its result is kept
MEMORY_TIMEOUT_SECONDS = 3600
OUR_ERRORS = re.compile(r"^nerloop\.errors\.\w+: ")


@dataclass(frozen=True)
class JobStatus:
    """A job on a queue: `state` is RQ's (queued, started, failed, …); `progress` is what the job last said."""

    state: str
    progress: dict[str, Any]
    error: str = ""

    @property
    def has_failed(self) -> bool:
        """Tell whether it ended badly, or was stopped; one whose worker was killed has not: it is queued again."""
        return self.state in {"failed", "stopped", "canceled"} and AbandonedJobError.__name__ not in self.error


@dataclass(frozen=True)
class WorkerStatus:
    """A worker that is alive: the queues it serves, RQ's state of it (idle, busy, …), the job it does now.

    `version` is the release of nerloop that it runs, `heard_at` when it last said that it is alive.
    """

    name: str
    version: str
    queues: tuple[str, ...]
    state: str
    job: str
    heard_at: datetime | None


class Jobs:
    """The two queues on one Redis."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    def enqueue_fine_tune(self, model: str, *, forced: bool = False) -> bool:
        """Queue a fine-tune of a model unless one is queued, running or cooling down; tell whether it was queued.

        `forced` trains whatever the threshold says and ends a cool-down.
        """
        job_id = fine_tune_id(model)
        if forced:
            self._forget_failed(job_id)
        return self._enqueue(
            TRAIN_QUEUE,
            "workers.tasks.fine_tune",
            job_id,
            kwargs={"model": model, "forced": forced},
            timeout=self._settings.train_timeout_seconds,
            failure_ttl=self._settings.cool_down_seconds,
        )

    def stop_fine_tune(self, model: str) -> bool:
        """Stop a model's fine-tune, queued or running; tell whether there was one.

        It counts as failed: its labels are still new, and train again when the cool-down is over or somebody says so.
        """
        job_id = fine_tune_id(model)
        with redis_errors():
            try:
                job = Job.fetch(job_id, connection=self._redis)
            except NoSuchJobError:
                return False
            if job.is_queued:
                job.cancel()
                self._redis.expire(job.key, self._settings.cool_down_seconds)  # as long as one that failed stays
            elif job.is_started:
                with contextlib.suppress(InvalidJobOperation):  # it has ended this moment
                    send_stop_job_command(self._redis, job_id)
            else:
                return False
        logger.info("Stopped %s", job_id)
        return True

    def notice_dead_workers(self) -> None:
        """Fail the jobs whose worker has missed its heartbeats; else an idle worker does so, once a minute."""
        with redis_errors():
            for queue in (TRAIN_QUEUE, PREDICT_QUEUE):
                StartedJobRegistry(queue, connection=self._redis).cleanup()

    def requeue_abandoned(self, model: str) -> bool:
        """Queue the fine-tune again whose worker was killed, and tell whether there was one.

        It does not cool down, which is for fine-tunes that failed by themselves; and a forced one stays forced.
        """
        with redis_errors():
            try:
                job = Job.fetch(fine_tune_id(model), connection=self._redis)
            except NoSuchJobError:
                return False
            result = job.latest_result() if job.is_failed else None
            if result is None or AbandonedJobError.__name__ not in (result.exc_string or ""):
                return False
            try:
                job.requeue()
                self._redis.persist(job.key)  # rq leaves the life time of a failed job on it
            except InvalidJobOperation:  # somebody else did, or it has just cooled down
                return False
        logger.warning("Queued %s again, whose worker was killed", job.id)
        return True

    def enqueue_refresh(self, project_id: int) -> bool:
        """Queue a refresh of a project's predictions unless one is queued or running."""
        job_id = refresh_id(project_id)
        self._forget_failed(job_id)
        return self._enqueue(
            PREDICT_QUEUE,
            "workers.tasks.refresh_predictions",
            job_id,
            kwargs={"project_id": project_id},
            timeout=REFRESH_TIMEOUT_SECONDS,
            failure_ttl=self._settings.cool_down_seconds,
        )

    def others_wait(self, project_id: int, model: str) -> bool:
        """Tell whether another project's refresh, or another model's label memory, waits for a worker.

        The model's own memory cannot be brought up while its project is refreshed.
        """
        with redis_errors():
            waiting = set(Queue(PREDICT_QUEUE, connection=self._redis).get_job_ids())
        others = waiting - {refresh_id(project_id), memory_id(model)}
        return any(job_id.startswith((REFRESH, MEMORY)) for job_id in others)

    def hand_out_slice(self, project_id: int, version: str, task_ids: Sequence[int]) -> str:
        """Queue the model's work on some tasks, for whichever worker is free; return the job's name."""
        with redis_errors():
            job = Queue(PREDICT_QUEUE, connection=self._redis).enqueue_call(
                "workers.tasks.predict_slice",
                kwargs={"project_id": project_id, "version": version, "task_ids": list(task_ids)},
                timeout=SLICE_SECONDS,
                ttl=SLICE_SECONDS,
                result_ttl=SLICE_SECONDS,
                failure_ttl=SLICE_SECONDS,
            )
        return str(job.id)

    def take_back_slice(self, job_id: str) -> bool:
        """Take a slice off the queue and tell whether it was still there; of two that try, one gets it."""
        with redis_errors():
            if not Queue(PREDICT_QUEUE, connection=self._redis).remove(job_id):
                return False
            self._redis.delete(Job.key_for(job_id))
        return True

    def slice_has_ended(self, job_id: str) -> bool:
        """Tell whether a slice is neither queued nor running, be it done, failed or forgotten."""
        status = self.status(job_id)
        return status is None or status.state not in {"queued", "started"}

    def take_slice(self, job_id: str) -> Any:
        """Return what a worker made of a slice and forget the job; None where it failed or was forgotten."""
        with redis_errors():
            try:
                job = Job.fetch(job_id, connection=self._redis)
            except NoSuchJobError:
                return None
            made = job.return_value()
            job.delete()
        return made

    def enqueue_memory(self, model: str) -> bool:
        """Queue an update of a model's label memory unless one is queued, running or has failed a moment ago."""
        return self._enqueue(
            PREDICT_QUEUE,
            "workers.tasks.update_memory",
            memory_id(model),
            kwargs={"model": model},
            timeout=MEMORY_TIMEOUT_SECONDS,
            failure_ttl=self._settings.reconcile_seconds,
            log_level=logging.DEBUG,  # one for nearly every label
        )

    def workers(self) -> list[WorkerStatus]:
        """Return the workers that are alive, by name."""
        with redis_errors():
            found = [
                WorkerStatus(
                    str(worker.name),
                    str(worker.version),
                    tuple(worker.queue_names()),
                    str(worker.get_state()),
                    str(worker.get_current_job_id() or ""),
                    worker.last_heartbeat,
                )
                for worker in Worker.all(connection=self._redis)
            ]
        return sorted(found, key=lambda worker: worker.name)

    def queued(self, queue: str) -> int:
        """Return how many jobs of a queue wait for a worker."""
        with redis_errors():
            return int(Queue(queue, connection=self._redis).count)

    def status(self, job_id: str) -> JobStatus | None:
        """Return a job's state, or None where there is no such job."""
        with redis_errors():
            try:
                job = Job.fetch(job_id, connection=self._redis)
                state = job.get_status()
            except (NoSuchJobError, InvalidJobOperation):  # the latter where it was removed this moment
                return None
            result = job.latest_result() if state == "failed" else None
        trace = str(result.exc_string).strip() if result else ""
        error = OUR_ERRORS.sub("", trace.rpartition("\n")[2])  # whose words are for people, without the class
        return JobStatus(state.value if state else "unknown", dict(job.meta), error)

    def _forget_failed(self, job_id: str) -> None:
        """Remove a job that failed, whose name would otherwise stay taken until its failure_ttl is over."""
        with redis_errors():
            try:
                job = Job.fetch(job_id, connection=self._redis)
            except NoSuchJobError:
                return
            if not (job.is_failed or job.is_stopped or job.is_canceled):
                return
            try:
                job.delete()
            except ValueError:  # rq, where what it keeps of a killed worker's try has expired or was flushed
                self._redis.delete(job.key, job.execution_registry.key)

    def _forget_remains(self, job_id: str) -> None:
        """Remove what a job wrote that ran on after Redis was flushed: no job, but its name would stay taken."""
        try:
            Job.fetch(job_id, connection=self._redis)
        except NoSuchJobError:
            self._redis.delete(Job.key_for(job_id))

    def _enqueue(
        self,
        queue: str,
        function: str,
        job_id: str,
        *,
        kwargs: dict[str, Any],
        timeout: int,
        failure_ttl: int,
        log_level: int = logging.INFO,
    ) -> bool:
        with redis_errors():
            self._forget_remains(job_id)
            try:
                Queue(queue, connection=self._redis).enqueue_call(
                    function,
                    kwargs=kwargs,
                    job_id=job_id,
                    unique=True,
                    timeout=timeout,
                    result_ttl=0,  # the name is free again as soon as the job has ended well
                    failure_ttl=failure_ttl,  # this is the cool-down: until then the name stays taken
                )
            except DuplicateJobError:
                return False
        logger.log(log_level, "Queued %s", job_id)
        return True


def fine_tune_id(model: str) -> str:
    """Return the name of the only fine-tune job a model can have."""
    return f"fine-tune-{model}"


def refresh_id(project_id: int) -> str:
    """Return the name of the only refresh job a project can have."""
    return f"{REFRESH}{project_id}"


def memory_id(model: str) -> str:
    """Return the name of the only update of its label memory a model can have."""
    return f"{MEMORY}{model}"


def connect_redis(settings: Settings, *, connect_seconds: float = 2, answer_seconds: float = 10) -> Redis:
    """Return a client; it connects at the first command. Short timeouts, since Redis is local or near."""
    return Redis.from_url(settings.redis_url, socket_connect_timeout=connect_seconds, socket_timeout=answer_seconds)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn Redis's errors into `QueueUnreachable` (its address may hold a password and is not named)."""
    try:
        yield
    except RedisError as error:
        raise QueueUnreachable(
            f"Redis does not answer ({type(error).__name__}); start the stack (`make up`, `nerloop up`), or correct "
            "NERLOOP_REDIS_URL"
        ) from error
