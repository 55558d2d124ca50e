"""What several tests share: what was timed, and a registry as many machines have it, behind a real MLflow server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nerloop.cache import RUNTIMES
from nerloop.embedded.sandbox import free_port, wait_until
from nerloop.loop import Loop
from nerloop.settings import Settings


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Iterator[str]:
    """The address of a real MLflow server that stores the artifacts itself."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    (folder / "mlflow.db").write_bytes(empty_registry.read_bytes())
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--port", str(port), "--workers", "1"]
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{address}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    environ = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # seven processes that nothing here needs
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(answers, 120, "the MLflow server")
            yield address
        finally:
            process.terminate()


@pytest.fixture(params=["folder", "server"])
def any_registry(request: pytest.FixtureRequest, loop: Loop) -> Loop:
    """Collaborators whose registry is a database with a folder, and then a server that stores the artifacts itself."""
    if request.param == "folder":
        return loop
    address = request.getfixturevalue("mlflow_server")
    environ = {"NERLOOP_HOME": str(loop.settings.home), "NERLOOP_REDIS_URL": loop.settings.redis_url}
    return Loop(Settings.load({**environ, "NERLOOP_REGISTRY_URL": address}))


@pytest.fixture(scope="session")
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is kept which runtime of a model is the fastest."""
    return tmp_path_factory.mktemp(RUNTIMES)


@pytest.fixture
def timed_runtimes(loop: Loop, runtimes: Path) -> None:
    """Spare a test the second in which the starter's runtimes are timed, where another one has done it."""
    loop.settings.checkpoint_cache.mkdir()
    (loop.settings.checkpoint_cache / RUNTIMES).symlink_to(runtimes)
