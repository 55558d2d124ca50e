"""A throw-away stack for tests and benchmarks, which disturbs no running one."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType

from dotenv import dotenv_values

from nerloop.demo import create_project
from nerloop.documents import Document, labels_of
from nerloop.embedded.stack import Stack, StackError
from nerloop.errors import ProjectNotFound
from nerloop.loop import Loop
from nerloop.promotions import STARTER_VERSION
from nerloop.settings import SETTINGS_FILE, Settings
from nerloop.tasks import Project

NERLOOP = Path(sys.executable).with_name("nerloop")
OURS = ("NERLOOP_", "LABEL_STUDIO_", "BASIC_AUTH_", "MODEL_DIR")


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return as soon as the condition holds; raises `TimeoutError` after the deadline, naming what was waited for.

    Asks less often the longer it takes: asking costs the stack that is waited for.
    """
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        if waited > seconds:
            raise TimeoutError(f"after {seconds} s still waiting for {what}")
        time.sleep(min(0.1 + waited / 10, 1))


class Sandbox:
    """The stack that `nerloop up --no-demo` starts, on free ports and in a folder of its own; stops with its block."""

    def __init__(self, home: Path, **settings: str) -> None:
        ports = {name: free_port() for name in ("label_studio", "redis", "backend", "console")}
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(OURS)},
            "NERLOOP_HOME": str(home),
            "NERLOOP_LABEL_STUDIO_PORT": str(ports["label_studio"]),
            "LABEL_STUDIO_URL": f"http://127.0.0.1:{ports['label_studio']}",
            "NERLOOP_REDIS_PORT": str(ports["redis"]),
            "NERLOOP_BACKEND_PORT": str(ports["backend"]),
            "NERLOOP_BACKEND_URL": f"http://127.0.0.1:{ports['backend']}",
            "NERLOOP_CONSOLE_PORT": str(ports["console"]),
            **settings,
        }

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `nerloop` command against this stack; raises `StackError` with what it said where it fails."""
        ended = subprocess.run(
            [NERLOOP, *arguments], env=self.environ, check=False, capture_output=True, text=True, timeout=600
        )
        if check and ended.returncode:
            raise StackError(f"nerloop {' '.join(arguments)}: {ended.stderr}")
        return ended

    @cached_property
    def loop(self) -> Loop:
        """The collaborators, as a process of this stack sees them."""
        return Loop(Settings.load(self.environ))

    @property
    def account(self) -> tuple[str, str]:
        """The e-mail address and the password of Label Studio's first account, who is an operator."""
        stored = dotenv_values(self.loop.settings.home / SETTINGS_FILE)
        return str(stored["LABEL_STUDIO_USERNAME"]), str(stored["LABEL_STUDIO_PASSWORD"])

    def connected_project(
        self, title: str, documents: Sequence[Document], *options: str, seconds: float = 60
    ) -> Project:
        """Make a project, `nerloop connect` it with these options, and wait for the starter's predictions of it.

        Raises `TimeoutError` where they take longer.
        """
        made = create_project(self.loop.label_studio, title, documents, labels_of(documents))
        self.run("connect", "--project", str(made.id), *options)
        wait_until(lambda: not self.stale(made, STARTER_VERSION), seconds, "the starter's predictions")
        return made

    def disconnect(self) -> None:
        """Disconnect every project, as who removes the ML backend under Settings, Model; else each reconcile asks it.

        Label Studio keeps the projects: deleting one can hold up its counts of all tasks.
        """
        label_studio = self.loop.label_studio
        for binding in self.loop.state.bindings():
            with suppress(ProjectNotFound):  # a test has deleted it
                for backend in label_studio.ml_backends(binding.project_id):
                    label_studio._call("DELETE", f"api/ml/{backend['id']}")

    def stale(self, project: Project, version: str) -> int:
        """Return how many unannotated tasks annotators would not see a version's prediction of."""
        if self.loop.label_studio.project(project.id).model_version != version:
            return max(1, project.tasks)
        return self.loop.label_studio.count_tasks(project.id, annotated=False, lacking_version=version)

    def kill(self, name: str) -> None:
        """Kill one process of the stack as a crash would (SIGKILL)."""
        os.kill(Stack(self.loop.settings).pid_of(name), signal.SIGKILL)

    def __enter__(self) -> "Sandbox":
        started = self.run("up", "--detach", "--no-demo", check=False)
        if started.returncode:
            raise StackError(started.stderr)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.run("down")
