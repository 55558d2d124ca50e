"""Folders of the cache of fetched checkpoints.

Owns that each is there whole or not at all, and how long it stays; not what is fetched.

served/MODEL.json   the version that serves a model on this machine and the one before, each with its runtimes' folder
runtimes/KEY/       graphs and times of one model's weights

A folder stays while such a note names it, or until nobody has used it for a week.
"""

import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from nerloop.versions import version_named

logger = logging.getLogger(__name__)

SERVED = "served"
RUNTIMES = "runtimes"
KEEP_SECONDS = 7 * 24 * 3600


def fill(folder: Path, fetch: Callable[[Path], Path]) -> Path:
    """Return `folder` with what `fetch` leaves in a temporary folder beside it; `fetch` returns where it lies there.

    Another process of this machine may fill it meanwhile: then its folder stays. Raises what `fetch` raises, and
    `OSError` where the disk refuses; nothing is then left.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        fetched = fetch(Path(temporary))
        try:
            fetched.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


def use(folder: Path) -> bool:
    """Tell whether a folder is there; if so it is used now, and no process of this machine removes it for a week."""
    if not folder.is_dir():
        return False
    with _alone(folder.parent):
        try:
            folder.touch()
        except FileNotFoundError:  # removed just before
            return False
        return True


def remove(folder: Path, unused_since: float = math.inf) -> bool:
    """Remove a folder unless it was used since; whoever looks for it finds it whole or not at all.

    `unused_since` is a time since 1970, in seconds. Tells whether it was removed here.
    """
    with tempfile.TemporaryDirectory(prefix=".removed.", dir=folder.parent) as removed:
        try:
            with _alone(folder.parent):
                if folder.stat().st_mtime > unused_since:
                    return False
                folder.rename(Path(removed) / folder.name)
        except FileNotFoundError:  # another process was faster
            return False
    return True


def note_served(cache: Path, model: str, version: str, runtimes: str) -> None:
    """Note which version serves a model, and the folder of its runtimes; that of the version before stays noted."""
    note = cache / SERVED / f"{model}.json"
    before = [row for row in _read(note) if row["version"] != version]
    note.parent.mkdir(parents=True, exist_ok=True)
    partial = note.with_suffix(".partial")
    partial.write_text(json.dumps([{"version": version, "runtimes": runtimes}, *before[:1]]), encoding="utf-8")
    partial.replace(note)


def last_served(cache: Path, model: str) -> list[str]:
    """Return the version that served a model last on this machine and the one before; none where none did."""
    return [row["version"] for row in _read(cache / SERVED / f"{model}.json")]


def prune(cache: Path) -> None:
    """Remove the versions and runtimes that no note names and that nobody has used for a week."""
    rows = [row for note in (cache / SERVED).glob("*.json") for row in _read(note)]
    kept = {name for row in rows for name in row.values()}
    for folder in list(_folders(cache)):
        if folder.name not in kept and remove(folder, unused_since=time.time() - KEEP_SECONDS):
            logger.info("Removed %s, which nobody has used for a week", folder)


def _folders(cache: Path) -> Iterator[Path]:
    """Yield the folders of versions and of runtimes, and what processes that were killed have left in both places."""
    named = (path for path in cache.iterdir() if version_named(path.name) or path.name.startswith("."))
    for path in (*named, *cache.glob(f"{RUNTIMES}/*"), *cache.glob(f"{RUNTIMES}/*/*")):
        if path.is_dir():
            yield path


def _read(note: Path) -> list[dict[str, str]]:
    try:
        rows: list[dict[str, str]] = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:  # a disk that was full: it is written again with the next version
        return []
    return rows


def _alone(folder: Path) -> FileLock:
    return FileLock(folder / ".lock")
