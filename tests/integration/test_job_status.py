"""What is said of a job while it goes."""

import pytest
from rq.job import Job

from nerloop.jobs import fine_tune_id
from nerloop.loop import Loop


def test_a_job_that_is_removed_while_somebody_asks_is_no_job(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop.jobs.enqueue_fine_tune("medical", forced=True)
    assert loop.jobs.status(fine_tune_id("medical")) is not None
    fetch = Job.fetch

    def fetched_and_removed(*arguments: object, **options: object) -> Job:
        job: Job = fetch(*arguments, **options)
        loop.redis.delete(job.key)
        return job

    monkeypatch.setattr(Job, "fetch", fetched_and_removed)

    assert loop.jobs.status(fine_tune_id("medical")) is None
