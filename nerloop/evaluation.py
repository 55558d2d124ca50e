"""Strict entity-level precision, recall and F1. Owns the counting; knows nothing of models."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nerloop.documents import Document


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1 in [0, 1]; `support` is the number of gold entities."""

    precision: float
    recall: float
    f1: float
    support: int

    @classmethod
    def of(cls, correct: int, predicted: int, gold: int) -> "Scores":
        """Compute from counts; a ratio with nothing below the line is 0."""
        precision = correct / predicted if predicted else 0.0
        recall = correct / gold if gold else 0.0
        f1 = 2 * correct / (predicted + gold) if predicted + gold else 0.0
        return cls(precision, recall, f1, gold)


@dataclass(frozen=True)
class Evaluation:
    """Micro scores over all labels, macro F1 over the gold labels, and scores per label."""

    micro: Scores
    macro_f1: float
    per_label: dict[str, Scores] = field(default_factory=dict)
    documents: int = 0


def evaluate(
    gold: Sequence[Document], predicted: Sequence[Document], labels: Sequence[str] | None = None
) -> Evaluation:
    """Compare documents pairwise: an entity is right when start, end and label all are (CoNLL's strict match).

    `labels` adds labels that must be listed even without support. Raises `ValueError` on unpaired documents.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold documents against {len(predicted)} predicted ones")
    correct: Counter[str] = Counter()
    found: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    for right, guess in zip(gold, predicted, strict=True):
        right_set, guess_set = set(right.entities), set(guess.entities)
        correct.update(e.label for e in right_set & guess_set)
        found.update(e.label for e in guess_set)
        expected.update(e.label for e in right_set)
    names = sorted({*expected, *found, *(labels or ())})
    per_label = {name: Scores.of(correct[name], found[name], expected[name]) for name in names}
    supported = [scores.f1 for scores in per_label.values() if scores.support]
    return Evaluation(
        micro=Scores.of(correct.total(), found.total(), expected.total()),
        macro_f1=sum(supported) / len(supported) if supported else 0.0,
        per_label=per_label,
        documents=len(gold),
    )
