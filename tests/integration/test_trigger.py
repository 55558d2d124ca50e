"""What is noted in a real Valkey starts fine-tunes on real RQ queues."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rq import Queue, SimpleWorker
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry

from nerloop.embedded.sandbox import wait_until
from nerloop.jobs import fine_tune_id, refresh_id
from nerloop.loop import Loop
from nerloop.project_state import Binding
from sync.trigger import queue_due

JOB = fine_tune_id("medical")


@pytest.fixture
def loop(loop: Loop) -> Loop:
    """A loop without pauses, whose model two projects feed; the smaller threshold, 2, counts."""
    loop.state.save_binding(Binding(1, "medical", 2))
    loop.state.save_binding(Binding(2, "medical", 50))
    return Loop(replace(loop.settings, quiet_seconds=0, max_age_seconds=0))


def queued(loop: Loop) -> int:
    return Queue("train", connection=loop.redis).count


def test_nothing_is_queued_below_the_threshold(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1"])

    queue_due(loop)

    assert queued(loop) == 0


def test_the_smallest_threshold_queues_one_fine_tune_however_often_it_is_looked(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1", "2"])

    queue_due(loop)
    queue_due(loop)

    assert queued(loop) == 1


def test_labels_that_keep_coming_wait_for_a_pause(loop: Loop) -> None:
    loop = Loop(replace(loop.settings, quiet_seconds=3600))
    loop.state.add_new_labels("medical", ["1", "2", "3"])
    queue_due(loop)
    assert queued(loop) == 0

    loop.state.add_new_labels("medical", ["4"])  # twice the threshold
    queue_due(loop)
    assert queued(loop) == 1


def fail(loop: Loop) -> None:
    """Let the queued fine-tune fail as one does that cannot read its labels."""
    SimpleWorker([Queue("train", connection=loop.redis)], connection=loop.redis).work(burst=True)


def test_a_fine_tune_that_failed_cools_down(loop: Loop) -> None:
    loop.state.add_new_labels("medical", ["1", "2"])
    Queue("train", connection=loop.redis).enqueue_call("no.such.function", job_id=JOB, failure_ttl=300)
    fail(loop)

    queue_due(loop)

    assert queued(loop) == 0
    assert loop.jobs.enqueue_fine_tune("medical", forced=True)


def kill_worker_of(loop: Loop) -> None:
    """Let a worker take the job, kill it, and let another find that its heartbeat is overdue."""
    code = (
        "import sys, redis, rq\n"
        "connection = redis.Redis.from_url(sys.argv[1])\n"
        "rq.SimpleWorker([rq.Queue('train', connection=connection)], connection=connection).work()\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, loop.settings.redis_url], env=os.environ)
    wait_until(lambda: Job.fetch(JOB, connection=loop.redis).is_started, 30, "the job to start")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    StartedJobRegistry("train", connection=loop.redis).cleanup(timestamp=2**40)
    assert Job.fetch(JOB, connection=loop.redis).is_failed


def test_a_fine_tune_whose_worker_was_killed_is_queued_again_at_once_and_as_it_was(loop: Loop) -> None:
    Queue("train", connection=loop.redis).enqueue_call(
        "time.sleep", args=(600,), kwargs={}, job_id=JOB, meta={"forced": True}, failure_ttl=300, timeout=700
    )
    kill_worker_of(loop)

    queue_due(loop)  # no label is noted: it was somebody's wish

    job = Job.fetch(JOB, connection=loop.redis)
    assert (queued(loop), job.is_queued, job.args, job.meta) == (1, True, (600,), {"forced": True})
    assert loop.redis.ttl(job.key) == -1
    assert not loop.jobs.requeue_abandoned("medical")


def test_a_fine_tune_queued_again_that_then_fails_cools_down(loop: Loop, tmp_path: Path) -> None:
    script = f"test -e {tmp_path}/again && exit 1; touch {tmp_path}/again; exec sleep 600"
    Queue("train", connection=loop.redis).enqueue_call(
        "subprocess.check_call", args=(["sh", "-c", script],), job_id=JOB, failure_ttl=300, timeout=700
    )
    kill_worker_of(loop)
    queue_due(loop)
    fail(loop)

    queue_due(loop)

    assert queued(loop) == 0


def test_what_a_fine_tune_still_says_after_redis_was_flushed_does_not_keep_its_name_taken(loop: Loop) -> None:
    loop.jobs.enqueue_fine_tune("medical")
    running = Job.fetch(JOB, connection=loop.redis)
    loop.redis.flushall()
    running.meta = {"step": "training"}
    running.save_meta()

    assert loop.jobs.enqueue_fine_tune("medical")

    assert queued(loop) == 1
    assert Job.fetch(JOB, connection=loop.redis).is_queued


def test_a_refresh_can_be_queued_again_though_rq_lost_what_it_kept_of_a_killed_try(loop: Loop) -> None:
    loop.jobs.enqueue_refresh(1)
    job = Job.fetch(refresh_id(1), connection=loop.redis)
    job.set_status(JobStatus.FAILED)
    loop.redis.zadd(job.execution_registry.key, {"an-execution-that-expired": time.time() + 3600})

    assert loop.jobs.enqueue_refresh(1)

    assert loop.redis.zcard(job.execution_registry.key) == 0
    status = loop.jobs.status(refresh_id(1))
    assert status is not None
    assert status.state == "queued"
