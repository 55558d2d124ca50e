"""Whether one model is better than another or lucky on these documents: the paired bootstrap over documents.

Owns the resampling; what counts as right is evaluation.py's, and what follows from it is for others to decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nerloop.documents import Document
from nerloop.evaluation import entity_sets

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

INTERVAL = (0.025, 0.975)


@dataclass(frozen=True)
class Comparison:
    """Strict micro-F1 of two models on the same documents and `difference` = second - first, all in [-1, 1].

    `interval` holds 95 % of the resampled differences, which `differences` lists.
    """

    first_f1: float
    second_f1: float
    difference: float
    interval: tuple[float, float]
    differences: tuple[float, ...] = field(repr=False)

    def probability_worse(self, margin: float = 0.0) -> float:
        """Return the share of resamples in which the second is worse than the first by more than `margin` of F1."""
        return sum(difference < -margin for difference in self.differences) / len(self.differences)


def compare(
    gold: Sequence[Document],
    first: Sequence[Document],
    second: Sequence[Document],
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Draw as many documents with replacement, `resamples` times, and score both models on each draw.

    The paired bootstrap of Koehn (2004) and Berg-Kirkpatrick et al. (2012): both models meet the same draw, so that
    its being hard or easy cancels out. Raises `ValueError` without documents and on unpaired ones.
    """
    if not gold:
        raise ValueError("no documents to compare two models on")
    counts = np.hstack([_counts(gold, first), _counts(gold, second)])
    drawn = _resampled(counts, resamples, np.random.default_rng(seed))
    first_f1, second_f1 = (float(f1) for f1 in _f1s(counts.sum(axis=0)))
    drawn_first, drawn_second = _f1s(drawn)
    differences = drawn_second - drawn_first
    low, high = np.quantile(differences, INTERVAL)
    return Comparison(first_f1, second_f1, second_f1 - first_f1, (float(low), float(high)), tuple(differences.tolist()))


def _counts(gold: Sequence[Document], predicted: Sequence[Document]) -> Integers:
    """Return a row a document: right entities, and gold and predicted ones together."""
    return np.array(
        [(len(right & guess), len(right) + len(guess)) for right, guess in entity_sets(gold, predicted)], dtype=np.int64
    )


def _resampled(counts: Integers, resamples: int, generator: np.random.Generator) -> Integers:
    """Return a row a resample: the sums of counts over documents drawn with replacement.

    Documents of equal counts are drawn together, which is the same draw: 100,000 documents are a few hundred kinds.
    """
    kinds, documents = np.unique(counts, axis=0, return_counts=True)
    shares = documents / len(counts)
    return np.stack([generator.multinomial(len(counts), shares) @ kinds for _ in range(resamples)])


def _f1s(counts: Integers) -> tuple[Floats, Floats]:
    """Return both models' F1 from sums of counts; 0 where there is no entity at all."""
    first_right, first_all, second_right, second_all = np.moveaxis(counts, -1, 0)
    return 2 * first_right / np.maximum(first_all, 1), 2 * second_right / np.maximum(second_all, 1)
