"""Lets a test kill a process of the stack before or after a call; this folder must be on its PYTHONPATH.

A file `$NERLOOP_FAULTS/die/MODULE:FUNCTION:before` (or `after`) kills (SIGKILL) the process that next comes there,
once, and the RQ worker that started it. The product knows nothing of this.
"""

import contextlib
import functools
import importlib.abc
import importlib.machinery
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

POINTS = Path(__file__).with_name("points.txt").read_text(encoding="utf-8").split()
FOLDER = Path(os.environ.get("NERLOOP_FAULTS", "")) / "die"


def _die(point: str, when: str) -> None:
    wanted = FOLDER / f"{point}:{when}"
    with contextlib.suppress(FileNotFoundError):
        wanted.rename(wanted.with_name(f"{wanted.name}.done"))  # only one process gets it
        command = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().split(b"\0")
        if b"workers" in command:  # the job's process: its worker goes too, as when a machine loses its power
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def _deadly(function: Callable[..., Any], point: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*arguments: Any, **keywords: Any) -> Any:
        _die(point, "before")
        result = function(*arguments, **keywords)
        _die(point, "after")
        return result

    return called


class _Patching(importlib.abc.MetaPathFinder):
    """Finds the modules of the points as Python does, and wraps their functions once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        points = [point for point in POINTS if point.partition(":")[0] == name]
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if points else None
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_wrap(module: ModuleType) -> None:
            load(module)
            for point in points:
                *owners, attribute = point.partition(":")[2].split(".")
                owner: Any = functools.reduce(getattr, owners, module)
                setattr(owner, attribute, _deadly(getattr(owner, attribute), point))

        spec.loader.exec_module = load_and_wrap  # type: ignore[method-assign]
        return spec


if "NERLOOP_FAULTS" in os.environ:
    sys.meta_path.insert(0, _Patching())
