"""Opens MLflow and turns what it raises into our errors. Owns no data: runs.py and registry.py do."""

import errno
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from nerloop.errors import RegistryError

SQLITE = "sqlite:///"


def open_client(uri: str) -> MlflowClient:
    """Return a client of an MLflow address (`sqlite:///…` or `http://…`); raises `RegistryError` on one it refuses."""
    with registry_errors("opening the registry"), _alone(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def registry_errors(doing: str) -> Iterator[None]:
    """Turn what MLflow raises into `RegistryError` with the fix; the address may hold a password."""
    try:
        yield
    except (MlflowException, OSError) as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise RegistryError(f"{doing}: the disk is full; free space and run it again") from error
        if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EROFS, errno.ENOTDIR}:
            raise RegistryError(f"{doing}: {error}; check permissions, or set NERLOOP_HOME elsewhere") from error
        raise RegistryError(
            f"{doing}: {error}; is the registry in NERLOOP_REGISTRY_URL running and reachable?"
        ) from error


def _alone(uri: str) -> AbstractContextManager[object]:
    """Keep other processes waiting while MLflow sets up a new SQLite database: of two at once, one would fail."""
    if not uri.startswith(SQLITE):
        return nullcontext()
    database = Path(uri.removeprefix(SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{database}.lock")
