"""What pre-labels do to annotators, by comparison with tasks labelled blind: time saved, wrong ones that pass.

Owns the two estimates; which tasks may be compared is for others to say.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nerloop.calibration import Calibration
from nerloop.comparison import INTERVAL

Floats = NDArray[np.float64]

MIN_TASKS = 10
"""Tasks of each kind from which an annotator is compared; fewer say too little about how fast somebody is."""


@dataclass(frozen=True)
class Timed:
    """How long one annotation took, in seconds, and whether its annotator saw no pre-labels (`blind`)."""

    annotator: int | None
    seconds: float
    characters: int
    blind: bool


@dataclass(frozen=True)
class TimeSaved:
    """The share of an annotator's time that pre-labels save, negative where they cost time, with its 95 % interval.

    `seconds` and `blind_seconds` are what 100 characters take with and without pre-labels (geometric means), over
    `tasks` and `blind_tasks` of `annotators` people.
    """

    share: float
    interval: tuple[float, float]
    seconds: float
    blind_seconds: float
    tasks: int
    blind_tasks: int
    annotators: int


def time_saved(timed: Iterable[Timed], resamples: int = 2000, seed: int = 0) -> TimeSaved | None:
    """Compare each annotator's tasks with their own blind ones; None while nobody has MIN_TASKS of each.

    1 - exp of the mean difference of log(seconds per character), which a forgotten open page moves little. Annotators
    are weighted by how exactly their difference is known, n·m / (n + m); the bootstrap draws their tasks of each kind.
    Annotations without a time or a text are left out.
    """
    logs: dict[int | None, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for one in timed:
        if one.seconds > 0 and one.characters > 0:
            logs[one.annotator][one.blind].append(math.log(one.seconds / one.characters))
    compared = [
        (np.array(shown), np.array(blind)) for shown, blind in logs.values() if min(len(shown), len(blind)) >= MIN_TASKS
    ]
    if not compared:
        return None
    weights = np.array([len(shown) * len(blind) / (len(shown) + len(blind)) for shown, blind in compared])
    weights /= weights.sum()
    shown_log = float(weights @ [shown.mean() for shown, _ in compared])
    blind_log = float(weights @ [blind.mean() for _, blind in compared])
    generator = np.random.default_rng(seed)
    drawn = np.stack(
        [_means(shown, resamples, generator) - _means(blind, resamples, generator) for shown, blind in compared]
    )
    low, high = np.quantile(1 - np.exp(weights @ drawn), INTERVAL)
    return TimeSaved(
        share=1 - math.exp(shown_log - blind_log),
        interval=(float(low), float(high)),
        seconds=100 * math.exp(shown_log),
        blind_seconds=100 * math.exp(blind_log),
        tasks=sum(len(shown) for shown, _ in compared),
        blind_tasks=sum(len(blind) for _, blind in compared),
        annotators=len(compared),
    )


def wrong_that_pass(accepted: Calibration, right: Calibration) -> tuple[float, int] | None:
    """Estimate how many pre-labels were accepted though they are wrong, and of how many that were accepted.

    `accepted` are the pre-labels that annotators saw, `right` are those that a model has for texts labelled blind. Of
    equally confident ones, as many should be right; what was accepted beyond that passed because it was shown.
    Pre-labels of a confidence that occurs on no blind text are left out; None where all are.
    """
    pairs = [(seen, blind) for seen, blind in zip(accepted.bins, right.bins, strict=True) if seen.count and blind.count]
    if not pairs:
        return None
    passed = sum(seen.count * (seen.accuracy - blind.accuracy) for seen, blind in pairs)
    return max(0.0, passed), round(sum(seen.count * seen.accuracy for seen, _ in pairs))


def _means(values: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """Return the mean of as many values drawn with replacement, once a resample."""
    return np.array([generator.choice(values, len(values)).mean() for _ in range(resamples)])
