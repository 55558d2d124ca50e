"""Which task an annotator sees next, as the score Label Studio sorts by (lowest first). Owns the strategies.

The score of a task is not the confidence of its entities: those stay on the regions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nerloop.documents import Prediction
from nerloop.near_duplicates import NearDuplicates
from nerloop.split import hash_fraction, side_of

Vectors = Callable[[Sequence[str]], "np.ndarray[tuple[int, int], np.dtype[np.float32]]"]
"""Returns a vector for each text [len(texts), size], near for texts that are alike to the model."""

RANDOM = "random"
DIVERSE = "diverse"
STRATEGIES: dict[str, Callable[[str, Prediction], float]] = {
    RANDOM: lambda text, _: hash_fraction(text, salt="random:"),
    "least-confidence": lambda text, prediction: 1 / (1 - prediction.uncertainty.mnlp * len(text)),  # P may be 1e-30
    "mnlp": lambda _, prediction: math.exp(prediction.uncertainty.mnlp),
    "entropy": lambda _, prediction: math.exp(-prediction.uncertainty.token_entropy),
    "margin": lambda _, prediction: prediction.uncertainty.margin,
    "confidence": lambda _, prediction: prediction.confidence,
    DIVERSE: lambda _, prediction: prediction.confidence,  # `head_scores` changes the order
}
"""How sure a model is of a text by each strategy, in [0, 1]: the least sure comes first."""

FIRST = 0.0  # the serving score of what comes before all that a strategy ranks
DIGITS = 6  # of a serving score; what is ranked has at least the last of them
HEAD = 500  # tasks at the most whose scores are dealt out anew: what can be labelled until the next model


@dataclass(frozen=True)
class Order:
    """How tasks are ordered: by which strategy, and which share of the texts come up by chance instead.

    Those are the held-out ones, which must never be chosen by doubt, and `random_share` of the others: a sample without
    bias, and a guard against a model that is sure and wrong.
    """

    strategy: str
    dev_share: float
    gate_share: float
    random_share: float

    def by_chance(self, text: str) -> bool:
        """Tell whether a text comes up by chance."""
        held_out = side_of(text, self.dev_share, self.gate_share) != "train"
        return held_out or hash_fraction(text, salt="explore:") < self.random_share


def serving_scores(
    texts: Sequence[str], predictions: Sequence[Prediction], order: Order, *, knows_labels: bool = True
) -> list[float]:
    """Return one score in [0, 1] a text.

    The strategy ranks the texts, and those that nearly repeat one before them go to the end. The score of a rank is
    that of the text which is as far down by doubt alone, so that scores of different calls can be compared. A text that
    comes up by chance takes a rank by chance, and is spread over the whole order; another one for each version, else
    those with a low one would all be labelled after the first few, and none of the others would ever come up.

    A model that knows none of the labels has no doubt to go by: then the texts come in an order of chance.
    """
    sure = _sure(texts, predictions, order, knows_labels=knows_labels)
    ranked = sorted((n for n, text in enumerate(texts) if not order.by_chance(text)), key=sure.__getitem__)
    values = [sure[number] for number in ranked]
    score_of = dict(zip(_repeats_last(ranked, texts), values, strict=True))

    def drawn(text: str, version: str) -> float:
        fraction = hash_fraction(text, salt=f"order:{version}:")
        return values[int(fraction * len(values))] if values else fraction

    scores = (
        score_of.get(number, drawn(text, one.model_version))
        for number, (text, one) in enumerate(zip(texts, predictions, strict=True))
    )
    return [max(round(score, DIGITS), 10**-DIGITS) for score in scores]


def head_scores(
    texts: Sequence[str],
    predictions: Sequence[Prediction],
    scores: Sequence[float],
    order: Order,
    vectors: Vectors,
    *,
    knows_labels: bool = True,
) -> list[float]:
    """Return the serving scores of the texts at the head of the order, dealt out among them anew.

    They were scored in several calls, each of which knew only its own texts. Here those that nearly repeat another go
    to the end of the head; and with `diverse`, or where the model knows none of the labels, those come first that are
    at once doubtful and unlike what is before them. What was flagged or comes up by chance keeps its score.
    """
    numbers = [n for n, text in enumerate(texts) if scores[n] > FIRST and not order.by_chance(text)]
    sure = _sure(texts, predictions, order, knows_labels=knows_labels)
    ranked = sorted(numbers, key=sure.__getitem__)
    if order.strategy == DIVERSE or (not knows_labels and order.strategy != RANDOM):
        ranked = _spread(ranked, texts, [1 - sure[n] if knows_labels else 1.0 for n in ranked], vectors)
    dealt = dict(zip(_repeats_last(ranked, texts), sorted(scores[n] for n in numbers), strict=True))
    return [dealt.get(number, score) for number, score in enumerate(scores)]


def _sure(texts: Sequence[str], predictions: Sequence[Prediction], order: Order, *, knows_labels: bool) -> list[float]:
    rank = STRATEGIES[order.strategy if knows_labels else RANDOM]
    return [rank(text, one) for text, one in zip(texts, predictions, strict=True)]


def _spread(ranked: Sequence[int], texts: Sequence[str], doubts: Sequence[float], vectors: Vectors) -> list[int]:
    """Return the numbers in the order of doubt × distance to the nearest text before (cosine, centred vectors)."""
    if len(ranked) < 2:
        return list(ranked)
    found = vectors([texts[number] for number in ranked])
    found = found - found.mean(0)
    found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    doubt = np.array(doubts)
    distance = np.ones(len(ranked))
    left = np.ones(len(ranked), dtype=bool)
    chosen = []
    for _ in ranked:
        best = int(np.where(left, doubt * distance, -1.0).argmax())
        left[best] = False
        chosen.append(ranked[best])
        distance = np.minimum(distance, 1 - np.clip(found @ found[best], 0.0, 1.0))
    return chosen


def _repeats_last(ranked: Sequence[int], texts: Sequence[str]) -> list[int]:
    before = NearDuplicates()
    first: list[int] = []
    repeats: list[int] = []
    for number in ranked:
        if before.resembles(texts[number]):
            repeats.append(number)
        else:
            before.add(texts[number])
            first.append(number)
    return first + repeats
