"""What a fine-tune needs to go on after it was killed. Owns the file: one safetensors file, replaced atomically.

Numbers and the history stand as JSON in its header, so that tensors and numbers can never be of two different steps.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nerloop.durable import to_disk

logger = logging.getLogger(__name__)

FILE = "state.safetensors"
SHARE_OF_TIME = 0.05  # of a run that saving may take; a large model is saved less often


@dataclass(frozen=True)
class SavedState:
    """Tensors by name, and the numbers that go with them."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


def saved_step(folder: Path) -> int:
    """Return the step that the state in a folder is of; 0 where there is none that can be read."""
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            return int(json.loads(file.metadata()["nerloop"])["step"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return 0


class TrainingState:
    """The saved state of one fine-tune, in a folder; `key` says of which, so that no other run goes on from it."""

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / FILE
        self._key = key
        self._next = time.monotonic()
        self._refused = False  # the last save, by the disk

    def load(self) -> SavedState | None:
        """Return what was saved last; None if there is nothing, or it belongs to another run or cannot be read."""
        try:
            with safe_open(self._path, framework="pt") as file:
                numbers = json.loads(file.metadata()["nerloop"])
                if numbers.pop("key") != self._key:
                    return None
                return SavedState({name: file.get_tensor(name) for name in file.keys()}, numbers)  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def due(self) -> bool:
        """Tell whether it is time to save again."""
        return time.monotonic() >= self._next

    def save(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Replace what was saved. Where the disk refuses, one warning says so, and the run goes on with what is there.

        A run is worth more than being able to resume it: the next save tries again, and is warned of only if one
        between has succeeded.
        """
        started = time.monotonic()
        try:
            self._replace(tensors, {"key": self._key, **numbers})
        except (OSError, SafetensorError) as error:
            if not self._refused:
                logger.warning(
                    "Cannot save in %s how far the fine-tune is (%s). It goes on, but would lose what it learns from "
                    "now on if it were stopped; free disk space or check permissions, and it saves again",
                    self._path.parent,
                    error,
                )
            self._refused = True
        else:
            self._refused = False
        self._next = time.monotonic() + max(1.0, (time.monotonic() - started) / SHARE_OF_TIME)

    def _replace(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for left in self._path.parent.glob(f".{FILE}.*.partial"):  # by a run that was killed while it saved
            left.unlink(missing_ok=True)
        partial = self._path.with_name(f".{FILE}.{os.getpid()}.partial")
        try:
            contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, partial, {"nerloop": json.dumps(numbers)})
            to_disk(partial)
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)
