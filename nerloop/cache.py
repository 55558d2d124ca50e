"""Folders of the cache of fetched checkpoints. Owns that each is there whole or not at all, not what is fetched."""

import tempfile
from collections.abc import Callable
from pathlib import Path


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
