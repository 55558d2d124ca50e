"""Between entities and one tag a character. Owns the tag schemes and which tag may follow which; knows no tensors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nerloop.documents import Document, Entity

OUTSIDE = "O"


@dataclass(frozen=True)
class TagSet:
    """The tags of a model, in the order of its output rows.

    A label has either the tags B I E S (BIOES, what this product trains) or only B I (BIO, what some models ship).
    Only `labels` become entities; a model may know more (LAC also tags parts of speech).
    """

    tags: tuple[str, ...]
    labels: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {tag: number for number, tag in enumerate(self.tags)})

    @classmethod
    def bioes(cls, labels: Iterable[str]) -> "TagSet":
        """Build O and four tags a label, labels sorted so that the same set always gives the same rows."""
        names = tuple(sorted(set(labels)))
        return cls((OUTSIDE, *(f"{position}-{name}" for name in names for position in "BIES")), names)

    def id_of(self, tag: str) -> int | None:
        """Return the row of a tag, or None where the model does not have it."""
        return self._ids.get(tag)

    def encode(self, document: Document) -> tuple[list[int], int]:
        """Return one BIOES tag id a character, and how many entities did not fit.

        Tags are flat: of entities that overlap the longest stays, then the leftmost. Labels the set does not know
        do not fit either.
        """
        ids = [self._ids[OUTSIDE]] * len(document.text)
        taken = [False] * len(document.text)
        dropped = 0
        for entity in sorted(document.entities, key=lambda e: (e.start - e.end, e.start)):
            if entity.label not in self.labels or any(taken[entity.start : entity.end]):
                dropped += 1
                continue
            taken[entity.start : entity.end] = [True] * (entity.end - entity.start)
            positions = "S" if entity.end - entity.start == 1 else "B" + "I" * (entity.end - entity.start - 2) + "E"
            for offset, position in enumerate(positions, start=entity.start):
                ids[offset] = self._ids[f"{position}-{entity.label}"]
        return ids, dropped

    def decode(self, ids: Sequence[int]) -> list[Entity]:
        """Return the entities of a legal tag sequence, left to right."""
        entities = []
        position = 0
        while position < len(ids):
            kind, label = self._parts(ids[position])
            start, position = position, position + 1
            if kind not in "BS" or label not in self.labels:
                continue
            while kind != "S" and position < len(ids):
                next_kind, next_label = self._parts(ids[position])
                if next_kind not in "IE" or next_label != label:
                    break
                position += 1
                if next_kind == "E":
                    break
            entities.append(Entity(start, position, label))
        return entities

    def may_start(self, tag: int) -> bool:
        """Tell whether a text may begin with this tag."""
        return self._parts(tag)[0] not in "IE"

    def may_end(self, tag: int) -> bool:
        """Tell whether a text may end with this tag."""
        return not self._stays_open(tag)

    def may_follow(self, before: int, after: int) -> bool:
        """Tell whether `after` may stand right behind `before`."""
        kind, label = self._parts(before)
        next_kind, next_label = self._parts(after)
        if next_kind in "IE":
            return kind in "BI" and label == next_label
        return not self._stays_open(before)

    def _stays_open(self, tag: int) -> bool:
        kind, label = self._parts(tag)
        return kind in "BI" and f"E-{label}" in self._ids

    def _parts(self, tag: int) -> tuple[str, str]:
        kind, _, label = self.tags[tag].partition("-")
        return kind, label
