"""Between entities and one tag a character. Owns the tag schemes and which tag may follow which; knows no tensors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nerloop.documents import Document, Entity

OUTSIDE = "O"
MAX_DEPTH = 3  # layers a label may have: entities of one label nested deeper than this are counted as dropped

DecoderKind = Literal["flat", "nested"]


@dataclass(frozen=True)
class TagSet:
    """The tags of a model, in the order of its output rows.

    A label has either the tags B I E S (BIOES, what this product trains) or only B I (BIO, what some models ship).
    Only `labels` become entities; a model may know more (LAC also tags parts of speech).
    """

    tags: tuple[str, ...]
    labels: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)
    _parts: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {tag: number for number, tag in enumerate(self.tags)})
        parts = (tag.partition("-") for tag in self.tags)
        object.__setattr__(self, "_parts", tuple((kind, label) for kind, _, label in parts))

    @classmethod
    def bioes(cls, labels: Iterable[str]) -> "TagSet":
        """Build O and four tags a label, labels sorted so that the same set always gives the same rows."""
        names = tuple(sorted(set(labels)))
        return cls((OUTSIDE, *(f"{position}-{name}" for name in names for position in "BIES")), names)

    def id_of(self, tag: str) -> int | None:
        """Return the row of a tag, or None where the model does not have it."""
        return self._ids.get(tag)

    def encode(self, length: int, entities: Iterable[Entity]) -> tuple[list[int], list[Entity]]:
        """Return one BIOES tag id a character of a text of `length`, and the entities that did not fit.

        Tags are flat: of entities that overlap the longest stays, then the leftmost, then the first label by name.
        Labels the set does not know do not fit either.
        """
        ids = [self._ids[OUTSIDE]] * length
        taken = [False] * length
        left = []
        for entity in sorted(entities, key=lambda e: (e.start - e.end, e)):
            if entity.label not in self.labels or any(taken[entity.start : entity.end]):
                left.append(entity)
                continue
            taken[entity.start : entity.end] = [True] * (entity.end - entity.start)
            positions = "S" if entity.end - entity.start == 1 else "B" + "I" * (entity.end - entity.start - 2) + "E"
            for offset, position in enumerate(positions, start=entity.start):
                ids[offset] = self._ids[f"{position}-{entity.label}"]
        return ids, left

    def decode(self, ids: Sequence[int]) -> list[Entity]:
        """Return the entities of a legal tag sequence, left to right; offsets count the tags."""
        entities = []
        position = 0
        while position < len(ids):
            kind, label = self._parts[ids[position]]
            start, position = position, position + 1
            if kind not in "BS" or label not in self.labels:
                continue
            while kind != "S" and position < len(ids):
                next_kind, next_label = self._parts[ids[position]]
                if next_kind not in "IE" or next_label != label:
                    break
                position += 1
                if next_kind == "E":
                    break
            entities.append(Entity(start, position, label))
        return entities

    def may_start(self, tag: int) -> bool:
        """Tell whether a text may begin with this tag."""
        return self._parts[tag][0] not in "IE"

    def may_end(self, tag: int) -> bool:
        """Tell whether a text may end with this tag."""
        return not self._stays_open(tag)

    def may_follow(self, before: int, after: int) -> bool:
        """Tell whether `after` may stand right behind `before`."""
        kind, label = self._parts[before]
        next_kind, next_label = self._parts[after]
        if next_kind in "IE":
            return kind in "BI" and label == next_label
        return not self._stays_open(before)

    def _stays_open(self, tag: int) -> bool:
        kind, label = self._parts[tag]
        return kind in "BI" and f"E-{label}" in self._ids


@dataclass(frozen=True)
class Decoder:
    """How a model writes entities as tags: in one layer (`flat`), or in layers of their own for each label (`nested`).

    In a nested decoder entities of different labels may overlap in any way. A label whose entities lie in one another
    (北京 in 北京市, both LOC) has a further layer a depth; all layers have the same number of tags.
    """

    kind: DecoderKind
    layers: tuple[TagSet, ...]

    @classmethod
    def flat(cls, labels: Iterable[str]) -> "Decoder":
        """Build one BIOES layer for all labels."""
        return cls("flat", (TagSet.bioes(labels),))

    @classmethod
    def nested(cls, labels: Iterable[str], documents: Sequence[Document] = ()) -> "Decoder":
        """Build BIOES layers for each label, as many as the deepest nesting of that label in the documents."""
        layers = []
        for label in sorted(set(labels)):
            layer = TagSet.bioes([label])
            layers += [layer] * max([1, *(_depth(layer, document) for document in documents)])
        return cls("nested", tuple(layers))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all layers, sorted."""
        return tuple(sorted({label for layer in self.layers for label in layer.labels}))

    def encode(self, document: Document) -> tuple[list[list[int]], int]:
        """Return one row of tag ids a layer, and how many entities fitted in none."""
        rows = []
        left: Iterable[Entity] = set(document.entities)
        for layer in self.layers:
            row, left = layer.encode(len(document.text), left)
            rows.append(row)
        return rows, len(list(left))


def _depth(layer: TagSet, document: Document) -> int:
    """Return how many copies of a label's layer hold all its entities in a document, `MAX_DEPTH` at most."""
    left = [entity for entity in set(document.entities) if entity.label in layer.labels]
    depth = 0
    while left and depth < MAX_DEPTH:
        _, left = layer.encode(len(document.text), left)
        depth += 1
    return depth
