"""What runs by the clock: reconcile. Owns the timetable; the work itself is a job."""

from redis import Redis
from rq.cron import CronScheduler

from nerloop.jobs import PREDICT_QUEUE
from nerloop.settings import Settings
from workers import tasks


def run_schedule(redis: Redis, settings: Settings) -> None:
    """Queue a reconcile now and then at every interval, until told to stop."""
    scheduler = CronScheduler(connection=redis, logging_level="WARNING")
    scheduler.register(
        tasks.reconcile,
        PREDICT_QUEUE,
        interval=settings.reconcile_seconds,
        job_timeout=3600,
        ttl=settings.reconcile_seconds,  # one that found no worker in time makes place for the next
        result_ttl=0,
        failure_ttl=settings.reconcile_seconds,
    )
    scheduler.start()
