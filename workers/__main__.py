"""Starts a worker or the scheduler: `python -m workers train predict`, `python -m workers schedule`."""

import argparse
import os
import secrets
import socket
import sys

from rq import Queue

from nerloop import __version__
from nerloop.errors import NerLoopError
from nerloop.jobs import PREDICT_QUEUE, TRAIN_QUEUE, connect_redis, redis_errors
from nerloop.logs import set_up_logs
from nerloop.settings import Settings
from workers.rq_workers import BEAT_SECONDS, FineTuneWorker, WarmWorker

MAINTENANCE_SECONDS = 60  # how often jobs whose worker was killed are looked for, so that their names are free again


def main() -> int:
    """Run until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument(
        "what", nargs="+", choices=[TRAIN_QUEUE, PREDICT_QUEUE, "schedule"], help="queues, or the scheduler"
    )
    what = parser.parse_args().what
    set_up_logs()
    try:
        settings = Settings.load()
        if what == ["schedule"]:
            from workers.schedule import run_schedule  # loads MLflow, which a process that spawns its jobs need not

            run_schedule(settings)
            return 0
        redis = connect_redis(settings)
        with redis_errors():
            redis.ping()
        kind = FineTuneWorker if TRAIN_QUEUE in what else WarmWorker
        queues = [Queue(name, connection=redis) for name in what]
        worker = kind(
            queues,
            name=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}",  # a killed one's name is taken a while
            connection=redis,
            job_monitoring_interval=BEAT_SECONDS,
            maintenance_interval=MAINTENANCE_SECONDS,
            worker_ttl=MAINTENANCE_SECONDS + 15,  # rq waits this less 15 s for a job before it looks after the others
        )
        worker.version = __version__  # what the queue shows of a worker; else it is rq's release
        worker.work(logging_level="WARNING")
    except NerLoopError as error:
        print(f"nerloop: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
