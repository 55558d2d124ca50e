"""Which entries of a promotion log count. Owns the rule that orders promotions; storing the log is registry.py's.

A promotion is an append that names the generation it replaces. It is valid only if that was the last valid one, so
of two workers that both append, exactly one wins, whatever locks were lost meanwhile.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Promotion:
    """Entry `generation` (1, 2, …) puts version `number` into production over generation `replaces` (0: none)."""

    generation: int
    number: int
    replaces: int
    at: datetime | None = None


def valid_promotions(log: Iterable[Promotion]) -> list[Promotion]:
    """Return the entries that count, oldest first; the last one is production."""
    valid: list[Promotion] = []
    for entry in sorted(log, key=lambda promotion: promotion.generation):
        if entry.replaces == (valid[-1].generation if valid else 0):
            valid.append(entry)
    return valid
