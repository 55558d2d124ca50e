"""Whether entities' scores are probabilities: expected calibration error and what a reliability diagram shows.

Owns the binning and what chance alone gives; an entity is right as evaluation.py says, and no score is changed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nerloop.documents import Document
from nerloop.evaluation import entity_sets

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Bin:
    """The `count` entities whose score is in `(low, high]`: mean score and share of right ones, 0 where there is none.

    A score of 0 is in the first bin.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error in [0, 1], 0 without entities, and all bins from low to high, empty ones too."""

    ece: float
    bins: tuple[Bin, ...]

    @property
    def entities(self) -> int:
        """The number of entities it was measured on."""
        return sum(each.count for each in self.bins)


def calibration(gold: Sequence[Document], predicted: Sequence[Document], bins: int = 10) -> Calibration:
    """Measure the scores of predicted entities against whether they are right (strict match), in bins of equal width.

    Expected calibration error (Guo et al. 2017): the mean over entities of |accuracy - confidence| of their bin.
    Entities without a score are left out. Raises `ValueError` on unpaired documents and on scores outside [0, 1].
    """
    outcomes = [
        (entity.score, entity in right)
        for right, guess in entity_sets(gold, predicted)
        for entity in sorted(guess)
        if entity.score is not None
    ]
    scores = _probabilities([score for score, _ in outcomes])
    right = np.array([right for _, right in outcomes], dtype=np.float64)
    numbers = _bin_numbers(scores, bins)
    counts = np.bincount(numbers, minlength=bins)
    confidence, accuracy = (
        np.bincount(numbers, weights=values, minlength=bins) / np.maximum(counts, 1) for values in (scores, right)
    )
    return Calibration(
        ece=float(counts @ np.abs(accuracy - confidence)) / max(1, len(scores)),
        bins=tuple(
            Bin(
                number / bins,
                (number + 1) / bins,
                int(counts[number]),
                float(confidence[number]),
                float(accuracy[number]),
            )
            for number in range(bins)
        ),
    )


def perfect_ece(scores: Sequence[float], bins: int = 10, resamples: int = 1000, seed: int = 0) -> float:
    """Return the mean expected calibration error of a perfectly calibrated model with these scores.

    Each entity is right with its own score as probability, `resamples` times. With few entities that error is far from
    0 by chance alone, so it is what `Calibration.ece` is to be read against. 0 without scores; raises `ValueError` on
    scores outside [0, 1].
    """
    if not len(scores):
        return 0.0
    # Entities of one score are drawn together: scores of four decimals are at most 10,001 draws, however many entities.
    values, counts = np.unique(_probabilities(scores), return_counts=True)
    numbers = _bin_numbers(values, bins)
    generator = np.random.default_rng(seed)
    errors = [
        np.abs(np.bincount(numbers, weights=generator.binomial(counts, values) - counts * values)).sum()
        for _ in range(resamples)
    ]
    return float(np.mean(errors)) / len(scores)


def _probabilities(scores: Sequence[float]) -> Floats:
    values = np.asarray(scores, dtype=np.float64)
    outside = values[~((values >= 0) & (values <= 1))]
    if outside.size:
        raise ValueError(f"a score of {outside[0]} is no probability; scores must lie in [0, 1]")
    return values


def _bin_numbers(scores: Floats, bins: int) -> Integers:
    edges = np.arange(1, bins + 1) / bins
    return np.searchsorted(edges, scores)
