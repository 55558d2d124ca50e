"""Makes a version ready in a process of its own, where a core is free. Owns that process; the work is serving.py's.

Downloading, checking, exporting and timing a model of 400 MB is half a minute of work, much of it under Python's global
lock: in the process that serves it would hold up requests for seconds. What it leaves in the cache is quick to load.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

from nerloop.errors import NerLoopError
from nerloop.settings import Settings
from nerloop.versions import ModelVersion

NICENESS = 10  # where there is no SCHED_IDLE
REFUSED = 3  # exit code: the reason is on stdout


class Preparation:
    """The process that makes one version ready; it runs from the moment this is made."""

    def __init__(self, version: ModelVersion, settings: Settings) -> None:
        self.version = version
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nerloop.preparation"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        asked = {
            "model": version.model,
            "number": version.number,
            "registry": settings.registry_address,  # it may hold a password, so that it is no argument
            "artifacts": None if settings.artifacts is None else str(settings.artifacts),
            "checkpoints": str(settings.checkpoint_cache),
        }
        with cast(IO[str], self._process.stdin) as stdin:
            json.dump(asked, stdin)

    @property
    def running(self) -> bool:
        """Whether it still works."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it; what it has half made is no version, and the cache is rid of it a week later."""
        self._process.kill()
        self._process.wait()

    def failure(self) -> str:
        """Return why it failed, once it has ended; nothing where it did not."""
        with cast(IO[str], self._process.stdout) as stdout:
            said = stdout.read()
        code = self._process.wait()
        if code == 0:
            return ""
        if code == REFUSED:
            return said.strip()
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"making it ready was {how}; see the log, and whether memory is short"


def main() -> int:
    """Do what stdin asks for; returns the exit code."""
    _yield_to_requests()
    asked = json.load(sys.stdin)

    from nerloop.logs import set_up_logs
    from nerloop.registry import Registry
    from nerloop.serving import load

    set_up_logs()
    try:
        registry = Registry(asked["registry"], None if asked["artifacts"] is None else Path(asked["artifacts"]))
        load(registry, registry.version(asked["model"], asked["number"]), Path(asked["checkpoints"]))
    except (NerLoopError, OSError, RuntimeError) as error:  # RuntimeError: torch's and ONNX Runtime's words
        sys.stdout.write(str(error))
        return REFUSED
    return 0


def _yield_to_requests() -> None:
    """Run only where a core is free: a request that wakes up takes it at once, which it would not of a nice process."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):  # only Linux has it, and a container may forbid it
        os.nice(NICENESS)


if __name__ == "__main__":
    sys.exit(main())
