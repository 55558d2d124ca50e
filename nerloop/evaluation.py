"""Entity-level precision, recall and F1: strict, by span, by type, of inner entities, and which label went for which.

Owns the matching and the counting; knows nothing of models, confidence (calibration.py) or chance (comparison.py).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from heapq import heappop, heappush
from itertools import zip_longest
from typing import Any

from nerloop.documents import Document, Entity

Span = tuple[int, int]
EntitySets = tuple[set[Entity], set[Entity]]
"""The distinct entities of one document: gold, predicted."""

NO_LABEL = ""
"""In a confusion: what a missed entity was predicted as, and what a spurious one is in gold."""


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
    """Micro scores over all labels, macro F1 over those in gold or predictions, each label, and what went wrong.

    `boundary` asks for start and end only; a span counts once, whatever the number of its labels. `typing` asks for the
    label and an overlap. `inner_recall` in [0, 1] is the strict recall of the `inner_support` gold entities that lie
    inside a longer one. `confusion` counts gold label → predicted label over entities on the same span, "" being none.
    """

    micro: Scores
    macro_f1: float
    per_label: dict[str, Scores] = field(default_factory=dict)
    documents: int = 0
    boundary: Scores = Scores(0.0, 0.0, 0.0, 0)
    typing: Scores = Scores(0.0, 0.0, 0.0, 0)
    inner_recall: float = 0.0
    inner_support: int = 0
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)


def evaluate(
    gold: Sequence[Document], predicted: Sequence[Document], labels: Sequence[str] | None = None
) -> Evaluation:
    """Compare documents pairwise: an entity is right when start, end and label all are (CoNLL's strict match).

    `labels` adds labels that must be listed even without support. Raises `ValueError` on unpaired documents.
    """
    pairs = entity_sets(gold, predicted)
    correct = Counter(entity.label for right, guess in pairs for entity in right & guess)
    found = Counter(entity.label for _, guess in pairs for entity in guess)
    expected = Counter(entity.label for right, _ in pairs for entity in right)
    names = sorted({*expected, *found, *(labels or ())})
    per_label = {name: Scores.of(correct[name], found[name], expected[name]) for name in names}
    occurring = [scores.f1 for name, scores in per_label.items() if expected[name] or found[name]]
    inner = [entity in guess for right, guess in pairs for entity in _inner(right)]
    return Evaluation(
        micro=Scores.of(correct.total(), found.total(), expected.total()),
        macro_f1=sum(occurring) / len(occurring) if occurring else 0.0,
        per_label=per_label,
        documents=len(pairs),
        boundary=_boundary(pairs),
        typing=Scores.of(_right_types(pairs), found.total(), expected.total()),
        inner_recall=sum(inner) / len(inner) if inner else 0.0,
        inner_support=len(inner),
        confusion=_confusion(pairs),
    )


def entity_sets(gold: Sequence[Document], predicted: Sequence[Document]) -> list[EntitySets]:
    """Return the distinct entities of each gold document with those predicted for it.

    Of predicted duplicates the first stays, with its score. Raises `ValueError` on unpaired documents.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold documents against {len(predicted)} predicted ones")
    return [(set(right.entities), set(guess.entities)) for right, guess in zip(gold, predicted, strict=True)]


def as_row(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as what JSON can hold: the strict micro scores flat, the others under their names."""
    return {
        "precision": evaluation.micro.precision,
        "recall": evaluation.micro.recall,
        "f1": evaluation.micro.f1,
        "macro_f1": evaluation.macro_f1,
        "documents": evaluation.documents,
        "entities": evaluation.micro.support,
        "boundary_f1": evaluation.boundary.f1,
        "type_f1": evaluation.typing.f1,
        "inner_recall": evaluation.inner_recall,
        "inner_entities": evaluation.inner_support,
        "per_label": {label: asdict(scores) for label, scores in evaluation.per_label.items()},
        "confusion": evaluation.confusion,
    }


def _boundary(pairs: Sequence[EntitySets]) -> Scores:
    spans = [({_span(e) for e in right}, {_span(e) for e in guess}) for right, guess in pairs]
    return Scores.of(
        sum(len(right & guess) for right, guess in spans),
        sum(len(guess) for _, guess in spans),
        sum(len(right) for right, _ in spans),
    )


def _right_types(pairs: Sequence[EntitySets]) -> int:
    """Count right entities under SemEval-2013 task 9's "type" match: the label is right and the spans overlap.

    One gold entity vouches for one predicted entity and the other way round, or a name cut in two would be found
    twice. Where there is a choice, the pairs are chosen so that they are as many as can be.
    """
    total = 0
    for right, guess in pairs:
        right_spans, guess_spans = _spans_by_label(right), _spans_by_label(guess)
        total += sum(_most_overlaps(right_spans[name], guess_spans[name]) for name in right_spans.keys() & guess_spans)
    return total


def _most_overlaps(gold: Iterable[Span], predicted: Iterable[Span]) -> int:
    """Return the size of the largest one-to-one matching between spans that overlap, nested or not.

    Going by the end of spans, each takes among those of the other side that have begun the one that ends first. That is
    optimal: whatever overlaps the one that ends first, from here on, overlaps every other candidate too.
    """
    spans = [(span, side) for side, spans in enumerate((gold, predicted)) for span in spans]
    by_start = sorted(spans, reverse=True)
    by_end = sorted((end, start, side) for (start, end), side in spans)
    begun: tuple[list[Span], list[Span]] = ([], [])  # unmatched, as heaps of (end, start)
    pairs = 0
    for end, start, side in by_end:
        while by_start and by_start[-1][0][0] < end:
            (other_start, other_end), other_side = by_start.pop()
            heappush(begun[other_side], (other_end, other_start))
        mine, others = begun[side], begun[1 - side]
        if not mine or mine[0] != (end, start):  # matched before
            continue
        heappop(mine)
        if others:
            heappop(others)
            pairs += 1
    return pairs


def _inner(entities: set[Entity]) -> list[Entity]:
    """Return the entities that lie inside a longer one: on a shorter span, starting no earlier and ending no later."""
    inner = set()
    reach = 0
    for start, end in sorted({_span(entity) for entity in entities}, key=lambda span: (span[0], -span[1])):
        if end <= reach:
            inner.add((start, end))
        reach = max(reach, end)
    return [entity for entity in entities if _span(entity) in inner]


def _confusion(pairs: Sequence[EntitySets]) -> dict[str, dict[str, int]]:
    """Count gold label → predicted label span by span: right ones first, the leftovers paired in alphabetical order."""
    counts: Counter[tuple[str, str]] = Counter()
    for right, guess in pairs:
        counts.update((entity.label, entity.label) for entity in right & guess)
        missed, spurious = _labels_by_span(right - guess), _labels_by_span(guess - right)
        for span in missed.keys() | spurious.keys():
            counts.update(zip_longest(missed.get(span, ()), spurious.get(span, ()), fillvalue=NO_LABEL))
    rows: dict[str, dict[str, int]] = {}
    for (gold_label, predicted_label), count in sorted(counts.items()):
        rows.setdefault(gold_label, {})[predicted_label] = count
    return rows


def _span(entity: Entity) -> Span:
    return entity.start, entity.end


def _spans_by_label(entities: Iterable[Entity]) -> dict[str, list[Span]]:
    spans = defaultdict(list)
    for entity in entities:
        spans[entity.label].append(_span(entity))
    return spans


def _labels_by_span(entities: Iterable[Entity]) -> dict[Span, list[str]]:
    labels = defaultdict(list)
    for entity in sorted(entities):
        labels[_span(entity)].append(entity.label)
    return labels
