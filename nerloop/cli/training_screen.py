"""What a fine-tune shows while it runs. Owns the live line and the line an epoch; the run itself is trainer.py's."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from nerloop.cli.console import say
from nerloop.errors import BadInput

if TYPE_CHECKING:
    from nerloop.trainer import Epoch, Progress


class TrainingScreen:
    """A live line on a terminal, and a line an epoch wherever it goes; a context manager."""

    def __init__(self, console: Console, state: Path) -> None:
        self._console = console
        self._may_go_on = state.is_dir() and any(state.iterdir())
        self._said = -1  # the last epoch that was said; -1 before the first step
        columns = [
            TextColumn("epoch {task.fields[epoch]} of {task.fields[epochs]}"),
            BarColumn(),
            TextColumn("step {task.completed} of {task.total}, loss {task.fields[loss]}, dev F1 {task.fields[dev_f1]}"),
            TextColumn("{task.fields[left]} left"),
        ]
        self._bar = Bar(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> "TrainingScreen":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: "Progress") -> None:
        """Follow a step; raises `BadInput` where the loss is no number."""
        if not math.isfinite(progress.loss):
            raise BadInput(f"the loss is no number at step {progress.step}; give a lower --learning-rate")
        if self._said < 0:
            self._begin(progress)
        if progress.last_epoch is not None:
            self.say_epochs([progress.last_epoch])
        dev_f1 = None if progress.last_epoch is None else progress.last_epoch.dev_f1
        shown: dict[str, Any] = {
            "epoch": progress.epoch,
            "epochs": progress.epochs,
            "loss": f"{progress.loss:.3f}",
            "dev_f1": "–" if dev_f1 is None else f"{dev_f1:.3f}",
            "left": _duration(progress.seconds_left),
        }
        if self._task is None:
            self._task = self._bar.add_task("", total=progress.steps, **shown)
        self._bar.update(self._task, completed=progress.step, total=progress.steps, **shown)

    def say_epochs(self, epochs: "Iterable[Epoch]") -> None:
        """Print the epochs that were not said yet, a line each."""
        for epoch in epochs:
            if epoch.number > self._said:
                self._said = epoch.number
                dev_f1 = "" if epoch.dev_f1 is None else f", dev F1 {epoch.dev_f1:.3f}"
                say(self._console, f"Epoch {epoch.number} of {epoch.total}: loss {epoch.loss:.3f}{dev_f1}")

    def _begin(self, progress: "Progress") -> None:
        self._said = 0 if progress.last_epoch is None else progress.last_epoch.number
        if progress.step > 1:
            say(
                self._console,
                f"Going on with a run that was stopped: epoch {progress.epoch} of {progress.epochs}, step "
                f"{progress.step} of {progress.steps}",
            )
        elif self._may_go_on:
            say(self._console, "A stopped run lies beside the output, but of other data or options: starting anew.")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
