"""What the fault tests stand on: a stack of two replicas, an MLflow server, a client that never stops, the checks."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import libfaketime
import psutil

from nerloop.demo import create_project
from nerloop.documents import Document, labels_of
from nerloop.embedded.sandbox import Sandbox, free_port, wait_until
from nerloop.embedded.stack import Stack
from nerloop.jobs import fine_tune_id, refresh_id
from nerloop.loop import Loop
from nerloop.settings import Settings
from nerloop.tasks import Project
from sync.connect import connect, stored_binding
from sync.pull import new_labels

SITE = Path(__file__).parent / "site"
HEAL_SECONDS = 480  # a slow machine runs two such stacks at once
TEXT = "张三在北京的阿里巴巴工作。"
PAUSE_SECONDS = 0.2  # between two requests of the client: more of them would take what the rest needs to heal


@dataclass
class Client:
    """Predicts all the time through both replicas in turn, as a load balancer would: a dead one is passed over.

    `failed` are requests that no replica answered well; `passed_over` those that another had to answer.
    """

    replicas: Sequence[str]
    auth: tuple[str, str]
    body: dict[str, Any] = field(default_factory=dict)
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    passed_over: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send until stopped."""
        with httpx.Client(timeout=30) as http:
            for turn in itertools.count():
                if self._stopping.wait(PAUSE_SECONDS):
                    return
                if body := self.body:
                    self._ask(http, turn, body)

    def _ask(self, http: httpx.Client, turn: int, body: dict[str, Any]) -> None:
        said = ""
        for attempt in range(len(self.replicas)):
            replica = self.replicas[(turn + attempt) % len(self.replicas)]
            try:
                answer = http.post(f"{replica}/predict", json=body, auth=self.auth)
            except httpx.TransportError as error:
                said = f"{replica}: {type(error).__name__}"
                continue
            if answer.status_code == 200 and len(answer.json()["results"]) == len(body["tasks"]):
                self.answered += 1
                self.passed_over += attempt
                return
            said = f"{replica}: {answer.status_code} {answer.text[:200]}"
        self.failed.append(said)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopping.set()


class Server:
    """A process beside the supervised ones that can be killed and started again."""

    def __init__(self, *arguments: str, environ: dict[str, str], log: Path) -> None:
        self._arguments, self._environ, self._log = arguments, environ, log
        self.start()

    def start(self) -> None:
        """Start it, its output behind what its log holds."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self._arguments], env=self._environ, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Kill it and what it has started, at once."""
        kill_tree(self.process.pid)
        self.process.wait()


class Rig:
    """A running stack, a second replica, an MLflow server, and a client that predicts throughout."""

    def __init__(self, home: Path) -> None:
        self.home, folder = home, home.parent
        self.faults = folder / "faults"
        (self.faults / "die").mkdir(parents=True)
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        mlflow = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        store = [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"]
        environ = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.registry = Server(*mlflow, *store, environ=environ, log=folder / "mlflow.log")
        wait_until(lambda: _answers(f"{address}/health"), 120, "the MLflow server")
        self.stack = Sandbox(
            self.home,
            NERLOOP_REGISTRY_URL=address,
            NERLOOP_GRACE_SECONDS="0",
            NERLOOP_RECONCILE_SECONDS="5",
            NERLOOP_POLL_SECONDS="3",
            NERLOOP_COOL_DOWN_SECONDS="5",
            NERLOOP_QUIET_SECONDS="1",
            NERLOOP_FAULTS=str(self.faults),
            PYTHONPATH=os.pathsep.join(filter(None, [str(SITE), os.environ.get("PYTHONPATH")])),
        )
        self.stack.__enter__()
        self.loop: Loop = self.stack.loop
        self.second = Server("ml_backend", environ=self.elsewhere("replica", free_port()), log=folder / "replica.log")
        self.checking = Loop(Settings.load(self.elsewhere("checking")))  # sees what is there with eyes of its own
        settings = self.loop.settings
        replicas = [settings.backend_url, self._second_url]
        wait_until(lambda: all(_answers(f"{url}/health") for url in replicas), 120, "both replicas")
        self.client = Client(replicas, (settings.basic_auth_user, settings.basic_auth_pass))
        self._sending = threading.Thread(target=self.client.run, daemon=True)
        self._sending.start()

    def elsewhere(self, name: str, port: int | None = None) -> dict[str, str]:
        """Return the environment of a process on another machine: a home of its own, the same servers."""
        settings = self.loop.settings
        environ = {
            **self.stack.environ,
            "NERLOOP_HOME": str(self.home.with_name(name)),
            "NERLOOP_REDIS_URL": settings.redis_url,
            "LABEL_STUDIO_API_KEY": settings.label_studio_api_key,
            "BASIC_AUTH_USER": settings.basic_auth_user,
            "BASIC_AUTH_PASS": settings.basic_auth_pass,
            "NERLOOP_WEBHOOK_SECRET": settings.webhook_secret,
        }
        if port is not None:
            environ["NERLOOP_BACKEND_PORT"] = str(port)
            self._second_url = f"http://127.0.0.1:{port}"
        return environ

    def at_another_time(self, name: str, offset: str, *arguments: str) -> Server:
        """Start a process on another machine whose clock is off, such as `+1d`."""
        library = Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
        clock = {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        log = self.home.with_name(f"{name}.log")
        return Server(*arguments, environ={**self.elsewhere(name), **clock}, log=log)

    def close(self) -> None:
        """Stop everything."""
        self.client.stop()
        self._sending.join()
        self.second.kill()
        self.stack.__exit__(None, None, None)
        self.registry.kill()

    def project(self, model: str, gold: Sequence[Document], threshold: int) -> Project:
        """Make a connected project, pre-labelled by the starter; from now on the client predicts for it."""
        made = create_project(self.loop.label_studio, model, gold, labels_of(gold))
        connect(self.loop, made.id, model, threshold)
        self.client.body = {
            "tasks": [{"id": 1, "project": made.id, "data": {"text": TEXT}}],
            "project": f"{made.id}.1",
            "label_config": made.label_config_xml,
        }
        version = self.loop.registry.production(model).name
        wait_until(lambda: not self.stack.stale(made, version), HEAL_SECONDS, "the starter's predictions")
        return made

    def readiness(self) -> list[dict[str, Any]]:
        """Return what each replica says at /health/ready."""
        return [httpx.get(f"{url}/health/ready", timeout=30).json() for url in self.client.replicas]

    def label(self, project: Project, gold: Sequence[Document], count: int) -> None:
        """Submit the gold entities of the project's first tasks, each as who corrected what the model proposes."""
        label_studio, entities_of = self.loop.label_studio, {document.text: document.entities for document in gold}
        tasks = list(itertools.islice(label_studio.tasks(project), count))
        assert len(tasks) == count
        for task in tasks:
            regions = project.label_config.regions(task.text or "", entities_of[task.text or ""])
            shown = task.predictions[-1].id
            label_studio.create_annotation(task.id, regions, lead_time=5, parent_prediction=shown)

    def disconnect(self) -> None:
        """Disconnect the projects of a test that has ended, so that no later reconcile asks about them."""
        self.client.body = {}
        self.stack.disconnect()

    def die_at(self, point: str) -> None:
        """Kill the process that next comes to `module:function:before|after`."""
        (self.faults / "die" / point).touch()

    def wait_for_death(self, point: str) -> None:
        """Return once a process was killed there."""
        done = self.faults / "die" / f"{point}.done"
        wait_until(done.exists, HEAL_SECONDS, f"a process to die at {point}")
        done.unlink()

    def kill(self, name: str) -> None:
        """Kill a supervised process and what it has started, as a machine that loses its power does."""
        with contextlib.suppress(ProcessLookupError):  # it is just being started again
            kill_tree(Stack(self.loop.settings).pid_of(name))

    @property
    def supervisor(self) -> Any:
        """Supervisor's API, to stop and start processes."""
        return Stack(self.loop.settings).supervisor

    def log_of(self, name: str) -> str:
        """Return what a supervised process has logged."""
        return (self.home / "logs" / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def wait_for_job(self, model: str, *, step: str) -> None:
        """Return once the model's fine-tune says that it is at a step."""
        wait_until(
            lambda: (
                (status := self.loop.jobs.status(fine_tune_id(model))) is not None
                and status.progress.get("step") == step
            ),
            HEAL_SECONDS,
            f"the fine-tune of {model} to be {step}",
        )

    def wait_until_promoted(self, model: str, number: int = 1) -> None:
        """Return once a version is in production."""
        wait_until(
            lambda: self._quiet(lambda: self.loop.registry.production(model).name == f"{model}-v{number}"),
            HEAL_SECONDS,
            f"{model}-v{number} to be promoted",
        )

    def check_converged(self, project: Project, model: str, versions: int = 1, damaged: str = "") -> None:
        """Wait until all parts agree, then assert what must hold after every fault; see docs/reliability.md.

        `versions` is how many there must be; one may be `damaged`.
        """
        try:
            wait_until(lambda: self._quiet(lambda: self._agrees(project, model)), HEAL_SECONDS, "all parts to agree")
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.unlike} do not") from None
        registry, label_studio = self.loop.registry, self.loop.label_studio
        made = registry.versions(model)
        assert len(made) == versions, f"trained twice or not at all: {[(str(v), v.decision) for v in made]}"
        assert {version.decision for version in made} <= {"promoted", "rejected", "superseded"}
        for version in (version for version in made if str(version) != damaged):
            assert registry.download(version, self.home.with_name("check") / str(registry)).is_dir()  # sums are checked
        shutil.rmtree(self.checking.settings.home, ignore_errors=True)  # else the copy of labels would judge itself
        changed = new_labels(self.checking, [project], registry.runs.last_manifest(model))
        assert changed.keys() == self.loop.state.new_label_ids(model), "a label is lost or counted twice"
        doubled = label_studio.count_tasks(project.id, annotated=False, min_predictions=2)
        assert not doubled, f"{doubled} tasks have two predictions"
        assert not self.client.failed, self.client.failed[:3]
        assert self.client.answered

    def _agrees(self, project: Project, model: str) -> bool:
        """Tell whether all parts agree; `unlike` names the first that does not, the cheapest to ask being first."""
        loop, label_studio = self.loop, self.loop.label_studio
        production = loop.registry.production(model)
        facts: dict[str, Callable[[], bool]] = {
            "jobs": lambda: (
                [loop.jobs.status(job) for job in (fine_tune_id(model), refresh_id(project.id))] == [None, None]
            ),
            "replicas": lambda: (
                len(replicas := loop.state.replicas()) >= 2
                and all(replica.get(model) == production.name for replica in replicas.values())
            ),
            "answering": lambda: all(_answers(f"{url}/health") for url in self.client.replicas),
            "decided": lambda: all(version.decision != "passed" for version in loop.registry.versions(model)),
            "fresh": lambda: not self.stack.stale(project, production.name),
            "single": lambda: not label_studio.count_tasks(project.id, annotated=False, min_predictions=2),
            "bound": lambda: stored_binding(label_studio, loop.settings, project.id) is not None,
            "counted": lambda: (
                new_labels(self.checking, [project], loop.registry.runs.last_manifest(model)).keys()
                == loop.state.new_label_ids(model)
            ),
        }
        self.unlike = next((name for name, holds in facts.items() if not holds()), "")
        return not self.unlike

    @staticmethod
    def _quiet(condition: Any) -> bool:
        """Ask what may fail while a server is down."""
        from nerloop.errors import NerLoopError

        try:
            return bool(condition())
        except NerLoopError:
            return False


def kill_tree(pid: int) -> None:
    """Kill a process and all it has started (SIGKILL)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False
