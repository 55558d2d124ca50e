"""Starts, watches and stops the processes of the embedded stack through supervisor, which restarts what dies."""

import hashlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import httpx
from supervisor.xmlrpc import SupervisorTransport

from nerloop.embedded.servers import LABEL_STUDIO
from nerloop.errors import NerLoopError
from nerloop.settings import Settings

START_SECONDS = 300  # Label Studio's first start makes its database, which takes a minute on two cores
STOP_SECONDS = 120  # each process has 15 seconds
FREE_BYTES = 1_000_000_000


class StackError(NerLoopError):
    """The embedded stack cannot start or has stopped."""


@dataclass(frozen=True)
class Process:
    """One process of the stack; `ready` is an address that answers 200 when it works."""

    name: str
    arguments: tuple[str, ...]
    ready: str = ""


def processes(settings: Settings) -> list[Process]:
    """Return the stack's processes in the order they start; Label Studio is one where no other is used."""
    label_studio = Process(
        "label-studio", ("nerloop.embedded.servers", "label-studio"), f"{settings.label_studio_url}/health"
    )
    return [
        Process("valkey", ("nerloop.embedded.servers", "valkey")),
        *([label_studio] if settings.has_own_label_studio else []),
        Process("ml-backend", ("ml_backend",), f"{settings.backend_url}/health"),
        Process("worker-train", ("workers", "train")),
        Process("worker-predict", ("workers", "predict")),  # of its own: predictions go on while a model is trained
        Process("schedule", ("workers", "schedule")),
        Process("console", ("console",), f"{settings.console_url}/health"),
    ]


def port_is_free(port: int) -> bool:
    """Tell whether nothing listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Stack:
    """The processes under one home folder; logs are in its `logs`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = settings.home.resolve()
        self._config = self._home / "supervisord.conf"

    def is_running(self) -> bool:
        """Tell whether this home's supervisor lives."""
        try:
            os.kill(self._pid(), 0)
        except (OSError, ValueError):
            return False
        return True

    def start(self) -> None:
        """Start all processes; raises `StackError` where the process manager itself ends."""
        (self._home / "logs").mkdir(parents=True, exist_ok=True)
        self._config.write_text(self._supervisor_config(), encoding="utf-8")
        environment = os.environ | {"NERLOOP_HOME": str(self._home), "PYTHONUNBUFFERED": "1"}
        supervisord = [str(Path(sys.executable).with_name("supervisord")), "-n", "-c", str(self._config)]
        # In a session of its own, so that Ctrl-C reaches only us and we stop the processes in order.
        nowhere = subprocess.DEVNULL  # a pipe of ours that it kept open would keep our readers waiting
        process = subprocess.Popen(
            supervisord, env=environment, start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere
        )
        while not self.status():
            if process.poll() is not None:
                raise StackError(f"supervisord ended at once; see {self._home}/logs/supervisord.log")
            time.sleep(0.1)

    def wait_until_ready(self) -> Iterator[str]:
        """Yield what is being waited for until everything answers; raises `StackError` with the log of what failed."""
        deadline = time.monotonic() + START_SECONDS
        for process in processes(self._settings):
            while not self._answers(process):
                yield process.name
                state = self.status().get(process.name, "")
                if state == "FATAL" or not self.is_running() or time.monotonic() > deadline:
                    raise StackError(
                        f"{process.name} does not start ({state}); its log ends with:\n{self._log(process)}"
                    )
                time.sleep(0.3)

    def status(self) -> dict[str, str]:
        """Return {process: state} as supervisor says it (RUNNING, STARTING, BACKOFF, FATAL, …); empty when stopped."""
        if not self.is_running():
            return {}
        try:
            return {process["name"]: process["statename"] for process in self.supervisor.getAllProcessInfo()}
        except (OSError, Fault):  # it is about to listen, or to end
            return {}

    def pid_of(self, name: str) -> int:
        """Return the process id of one process; raises `ProcessLookupError` where it does not run."""
        pid = int(self.supervisor.getProcessInfo(name)["pid"])
        if not pid:
            raise ProcessLookupError(f"{name} does not run")
        return pid

    def stop(self) -> None:
        """Stop all processes and wait until they are gone."""
        if not self.is_running():
            return
        os.kill(self._pid(), signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.is_running():
            if time.monotonic() > deadline:
                raise StackError(f"supervisord (process {self._pid()}) does not end; see {self._home}/logs")
            time.sleep(0.2)

    def check(self) -> None:
        """Raise `StackError` naming a port in use, a missing part or a full disk."""
        settings = self._settings
        if settings.has_own_label_studio and not LABEL_STUDIO.exists():
            raise StackError(f"Label Studio is not installed at {LABEL_STUDIO}; run `make install`")
        if shutil.disk_usage(self._home).free < FREE_BYTES:
            raise StackError(
                f"less than 1 GB is free for {self._home}; free space, or set NERLOOP_HOME to another place"
            )
        ports = {
            "NERLOOP_REDIS_PORT": settings.redis_port,
            "NERLOOP_BACKEND_PORT": settings.backend_port,
            "NERLOOP_CONSOLE_PORT": settings.console_port,
        }
        if settings.has_own_label_studio:
            ports["NERLOOP_LABEL_STUDIO_PORT"] = settings.label_studio_port
        for name, port in ports.items():
            if not port_is_free(port):
                raise StackError(
                    f"port {port} is in use; stop what uses it, or change {name} and the address beside it "
                    f"in {settings.home / 'settings.env'}"
                )

    def _answers(self, process: Process) -> bool:
        if not process.ready:
            return self.status().get(process.name) == "RUNNING"
        try:
            return httpx.get(process.ready, timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def _log(self, process: Process) -> str:
        path = self._home / "logs" / f"{process.name}.log"
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]) if path.exists() else ""

    def _pid(self) -> int:
        return int((self._home / "supervisord.pid").read_text(encoding="utf-8"))

    @property
    def supervisor(self) -> Any:
        """Supervisor's own API, over its socket; see https://supervisord.org/api.html."""
        transport = SupervisorTransport(serverurl=f"unix://{self._socket}")
        return ServerProxy("http://localhost", transport).supervisor  # the address is a form, the socket counts

    @property
    def _socket(self) -> Path:
        # Not in the home folder: the system allows a socket's path only about 100 characters.
        name = hashlib.sha256(str(self._home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"nerloop-{name}.sock"

    def _supervisor_config(self) -> str:
        home = str(self._home).replace("%", "%%")  # % begins an expansion in this file
        sections = [
            f"[supervisord]\ndirectory={home}\npidfile={home}/supervisord.pid\nlogfile={home}/logs/supervisord.log\n"
            "logfile_maxbytes=5MB\nsilent=true",
            f"[unix_http_server]\nfile={self._socket}\nchmod=0600",
            f"[supervisorctl]\nserverurl=unix://{self._socket}",
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for priority, process in enumerate(processes(self._settings)):
            command = shlex.join([sys.executable, "-m", *process.arguments]).replace("%", "%%")
            sections.append(
                f"[program:{process.name}]\ncommand={command}\npriority={priority}\nautorestart=true\nstartsecs=2\n"
                f"startretries=1000\nstopasgroup=true\nkillasgroup=true\nstopwaitsecs=15\n"
                f"redirect_stderr=true\nstdout_logfile={home}/logs/{process.name}.log\nstdout_logfile_maxbytes=10MB"
            )
        return "\n\n".join(sections) + "\n"
