"""The confidence from which each label is worth showing. Owns choosing it on held-out documents.

Hiding what lies below is pre_annotation.py's: only annotators are spared it, never an evaluation.
"""

from collections import defaultdict
from collections.abc import Sequence

from nerloop.documents import Document
from nerloop.evaluation import entity_sets

MIN_ENTITIES = 30
"""Entities of a label that must have been found to choose by; of fewer, luck decides."""


def thresholds(gold: Sequence[Document], found: Sequence[Document], target: float) -> dict[str, float]:
    """Return label → the lowest score above which the share of right ones reaches the target, where some are to hide.

    What is scored like the threshold is hidden too; 1 hides all, where no score is high enough. Labels that reach the
    target as a whole, or of which fewer than MIN_ENTITIES were found, have none. Raises `ValueError` on unpaired
    documents.
    """
    outcomes: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for right, guess in entity_sets(gold, found):
        for entity in guess:
            if entity.score is not None:
                outcomes[entity.label].append((entity.score, entity in right))
    chosen = {
        label: _lowest(sorted(pairs, reverse=True), target)
        for label, pairs in sorted(outcomes.items())
        if len(pairs) >= MIN_ENTITIES
    }
    return {label: threshold for label, threshold in chosen.items() if threshold is not None}


def _lowest(pairs: Sequence[tuple[float, bool]], target: float) -> float | None:
    """Return the threshold for (score, right) by falling score; None where all may be shown."""
    threshold: float | None = 1.0
    right = 0
    for number, (score, is_right) in enumerate(pairs, start=1):
        right += is_right
        following = pairs[number][0] if number < len(pairs) else None
        if score != following and right / number >= target:
            threshold = following
    return threshold
