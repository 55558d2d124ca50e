"""The process of one job, which a worker starts: `python -m workers.work_horse WORKER JOB QUEUE`.

It reads the address of Redis from the settings. RQ's own start writes it, password and all, on the command line, which
everybody on the machine can read.
"""

import os
import sys

from rq import Queue
from rq.executions import Execution
from rq.job import Job

from nerloop.jobs import connect_redis
from nerloop.settings import Settings
from workers.rq_workers import FineTuneWorker

NICENESS = 10  # requests to a backend on the same machine go first


def main() -> int:
    """Run the job to its end; returns the exit code."""
    os.nice(NICENESS)
    worker_key, job_id, queue = sys.argv[1:]
    redis = connect_redis(Settings.load())
    worker = FineTuneWorker.find_by_key(worker_key, connection=redis)
    if worker is None:
        return 1
    job = Job.fetch(job_id, connection=redis)
    worker.execution = Execution.fetch(os.environ["RQ_EXECUTION_ID"], job_id, connection=redis)
    worker.execution._job = job
    worker.main_work_horse(job, Queue(queue, connection=redis))
    return 0


if __name__ == "__main__":
    sys.exit(main())
