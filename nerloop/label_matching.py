"""Under which name a base knows the labels of a project. Owns the rule; the rows are moved by tagger.py.

A label is known by its name, by what the project says of it, or by being seen: a base that knows PER marks most of
what a project calls PER.NAM or 医生. Starting from those rows keeps what the base knows of names nobody has labelled.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from nerloop.documents import Document, Entity, labels_of
from nerloop.predictor import Predictor
from nerloop.tagger import Tagger

MIN_SHARE = 0.4  # of the characters of a label's entities that the base marks with one of its own
TEXTS = 500  # that are looked at


def known_as(base: Tagger, documents: Sequence[Document], shown_as: Mapping[str, str] | None = None) -> dict[str, str]:
    """Map labels of the documents to labels of the base that go by another name there; see `tagger.adapt`.

    `shown_as` is what the project says: labels of the base and their names in the documents. Only labels that neither
    it nor their name explains are looked for in what the base finds.
    """
    # Of several labels shown under one name, the one that has the name itself counts.
    said = sorted((shown_as or {}).items(), key=lambda pair: pair[0] == pair[1])
    told = {shown: label for label, shown in said}
    unknown = set(labels_of(documents)) - set(told) - set(base.decoder.labels)
    return told | _seen(base, [d for d in documents if any(e.label in unknown for e in d.entities)], unknown)


def _seen(base: Tagger, documents: Sequence[Document], unknown: set[str]) -> dict[str, str]:
    """Return the label of the base that marks most of the characters of each unknown label, where one does."""
    looked_at = documents[:TEXTS]
    characters: Counter[str] = Counter()
    shared: defaultdict[str, Counter[str]] = defaultdict(Counter)
    predictions = Predictor(base, "").predict([document.text for document in looked_at])
    for document, prediction in zip(looked_at, predictions, strict=True):
        for entity in document.entities:
            if entity.label in unknown:
                characters[entity.label] += entity.end - entity.start
                for found in prediction.entities:
                    shared[entity.label][found.label] += _overlap(entity, found)
    best = {label: counts.most_common(1)[0] for label, counts in shared.items()}
    return {label: known for label, (known, count) in best.items() if count >= MIN_SHARE * characters[label]}


def _overlap(one: Entity, other: Entity) -> int:
    return max(0, min(one.end, other.end) - max(one.start, other.start))
