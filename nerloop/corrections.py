"""What an annotator did to pre-labels, entity by entity. Owns the rule that matches what was shown with what stayed.

Which pre-labels an annotation began with is for others to find out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from nerloop.documents import Entity


@dataclass(frozen=True)
class Corrections:
    """How often each thing was done, in one annotation or in the sum of many (`+`).

    Pre-labels were `accepted`, `relabelled` (the same span), `resized` (the same label) or `deleted`; `added` entities
    come from none.
    """

    annotations: int = 0
    accepted: int = 0
    relabelled: int = 0
    resized: int = 0
    deleted: int = 0
    added: int = 0

    def __add__(self, other: "Corrections") -> "Corrections":
        return Corrections(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def shown(self) -> int:
        """The number of pre-labels."""
        return self.accepted + self.relabelled + self.resized + self.deleted

    @property
    def kept(self) -> int:
        """The number of entities in the annotations."""
        return self.accepted + self.relabelled + self.resized + self.added

    @property
    def edits(self) -> int:
        """The number of things an annotator had to do; accepting is none."""
        return self.relabelled + self.resized + self.deleted + self.added

    @property
    def edits_per_annotation(self) -> float:
        """The mean number of edits; 0 without annotations."""
        return self.edits / max(1, self.annotations)


def corrections(shown: Sequence[Entity], kept: Sequence[Entity]) -> Corrections:
    """Return what made `kept` out of the pre-labels `shown`, in one annotation.

    Each entity is matched once, the best match first: equal ones, then those on the same span, then those of the same
    label that overlap, by the share of characters they have in common; of equal matches the first in the text. What is
    left over was deleted or added.
    """
    before, after = set(shown), set(kept)
    accepted = before & after
    before, after = before - accepted, after - accepted
    deleted, added = len(before), len(after)
    relabelled = resized = 0
    for _, old, new in sorted(_matches(before, after)):
        if old in before and new in after:
            before.remove(old)
            after.remove(new)
            relabelled += _same_span(old, new)
            resized += not _same_span(old, new)
    matched = relabelled + resized
    return Corrections(1, len(accepted), relabelled, resized, deleted - matched, added - matched)


def _matches(before: set[Entity], after: set[Entity]) -> Iterator[tuple[float, Entity, Entity]]:
    """Yield what may be matched, with a rank: lower is better."""
    for old in before:
        for new in after:
            common = min(old.end, new.end) - max(old.start, new.start)
            if _same_span(old, new):
                yield -2.0, old, new
            elif old.label == new.label and common > 0:
                yield -common / (max(old.end, new.end) - min(old.start, new.start)), old, new


def _same_span(old: Entity, new: Entity) -> bool:
    return (old.start, old.end) == (new.start, new.end)
