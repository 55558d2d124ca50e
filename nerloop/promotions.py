"""Which entries of a promotion log count, and what a model may be called. Storing the log is registry.py's.

An entry that changes production names the generation it replaces. It is valid only if that was the last valid one, so
of two workers that both append, exactly one wins, whatever locks were lost meanwhile. A pause is an entry too: what
the gate alone promotes is not valid between it and a resume (docs/decisions/0012).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from nerloop.errors import BadInput

PROMOTIONS_SUFFIX = "-promotions"
STARTER_VERSION = "lac-starter"  # what serves before the first promotion
Kind = Literal["promotion", "forced", "rollback", "pause", "resume"]
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def check_model_name(model: str) -> str:
    """Return the name of a model (business line); raises `BadInput` unless it can be one."""
    if not MODEL_NAME.fullmatch(model) or model.endswith(PROMOTIONS_SUFFIX):
        raise BadInput(
            f"model name {model!r}: use 1 to 63 letters, digits, '-' or '_', not ending in {PROMOTIONS_SUFFIX!r}"
        )
    return model


def version_name(model: str, number: int) -> str:
    """Return the `model_version` of a number: `medical-v7`, and the starter's for 0."""
    return f"{model}-v{number}" if number else STARTER_VERSION


@dataclass(frozen=True)
class Entry:
    """One entry of a log; `generation` (1, 2, …) is its place in the order, `by` and `why` are of who made it.

    `promotion` (the gate's), `forced` (by hand) and `rollback` put version `number` into production over generation
    `replaces` (0: nothing was promoted before); number 0 is the starter. `pause` and `resume` leave production as it
    is, and both are then 0.
    """

    generation: int
    number: int
    replaces: int
    kind: Kind = "promotion"
    by: str = ""
    why: str = ""
    at: datetime | None = None

    def sentence(self, model: str) -> str:
        """Say what the entry does, who made it and why."""
        version = version_name(model, self.number)
        done = {
            "promotion": f"promoted {version}",
            "forced": f"promoted {version} by hand",
            "rollback": f"rolled back to {version}",
            "pause": "paused automatic promotion",
            "resume": "resumed automatic promotion",
        }[self.kind]
        return done + (f", by {self.by}" if self.by else "") + (f": {self.why}" if self.why else "")


@dataclass(frozen=True)
class PromotionLog:
    """What a log says up to an entry.

    `valid` are the entries that changed production, oldest first. `line` are the versions, oldest first, that no
    rollback has taken back; the last is in production, and the one before it is what a rollback goes back to. `pause`
    is the entry since which nothing is promoted automatically, or None.
    """

    valid: tuple[Entry, ...] = ()
    line: tuple[int, ...] = ()
    pause: Entry | None = None

    @property
    def generation(self) -> int:
        """The generation that the next change of production must replace."""
        return self.valid[-1].generation if self.valid else 0

    @property
    def number(self) -> int:
        """The version in production, 0 for the starter."""
        return self.line[-1] if self.line else 0

    @property
    def previous(self) -> int:
        """The version that a rollback goes back to, 0 for the starter."""
        return self.line[-2] if len(self.line) > 1 else 0

    def takes(self, kind: Kind, replaces: int) -> bool:
        """Tell whether a change of production over a generation would be valid as the next entry."""
        return replaces == self.generation and not (kind == "promotion" and self.pause)

    def waits(self, kind: Kind, replaces: int) -> bool:
        """Tell whether only the pause keeps a change of production from being valid."""
        return replaces == self.generation and not self.takes(kind, replaces)

    def after(self, entry: Entry) -> "PromotionLog":
        """Return what the log says after one more entry."""
        if entry.kind == "resume":
            return replace(self, pause=None)
        # A rollback that came too late pauses too: who wanted one does not want the next promotion.
        pause = (self.pause or entry) if entry.kind in {"pause", "rollback"} else self.pause
        if entry.kind == "pause" or not self.takes(entry.kind, entry.replaces):
            return replace(self, pause=pause)
        return PromotionLog((*self.valid, entry), _line_after(self.line, entry), pause)


def read_log(entries: Iterable[Entry]) -> PromotionLog:
    """Return what the entries of a log, in any order, say in the end."""
    log = PromotionLog()
    for entry in sorted(entries, key=lambda entry: entry.generation):
        log = log.after(entry)
    return log


def _line_after(line: tuple[int, ...], entry: Entry) -> tuple[int, ...]:
    """Return the line after a change of production: a rollback takes back all that came after what it goes back to."""
    if entry.kind == "rollback" and entry.number in (0, *line):
        while line and line[-1] != entry.number:
            line = line[:-1]
        return line
    return line if line and line[-1] == entry.number else (*line, entry.number)
