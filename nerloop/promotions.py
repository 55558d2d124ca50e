"""Which entries of a promotion log count, and what a model may be called. Storing the log is registry.py's.

A promotion is an append that names the generation it replaces. It is valid only if that was the last valid one, so
of two workers that both append, exactly one wins, whatever locks were lost meanwhile.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from nerloop.errors import BadInput

PROMOTIONS_SUFFIX = "-promotions"
STARTER_VERSION = "lac-starter"  # what serves before the first promotion
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def check_model_name(model: str) -> str:
    """Return the name of a model (business line); raises `BadInput` unless it can be one."""
    if not MODEL_NAME.fullmatch(model) or model.endswith(PROMOTIONS_SUFFIX):
        raise BadInput(
            f"model name {model!r}: use 1 to 63 letters, digits, '-' or '_', not ending in {PROMOTIONS_SUFFIX!r}"
        )
    return model


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
