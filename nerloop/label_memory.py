"""What annotators have labelled alike wherever it occurs: the surfaces worth proposing elsewhere. Owns the counting.

Only documents of the training side are given to it: a held-out text must teach nobody anything.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

from nerloop.documents import Document
from nerloop.gazetteer import Surfaces, Term

LABEL_MEMORY = "label memory"
SHORTEST = 2  # a single character says too little of what it is part of


def remember(documents: Sequence[Document], count: int, agreement: float) -> dict[str, Term]:
    """Return the surfaces that were labelled at least `count` times, as one label in a share `agreement` of all places.

    A place is any occurrence of the surface in the documents, labelled or not, except inside a longer entity (联想 in
    联想集团), which says nothing of it. The score is the precision one may expect of the next place, by Laplace's rule
    of succession: (labelled so + 1) / (places + 2).
    """
    labelled: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for document in documents:
        for entity in set(document.entities):
            labelled[document.text[entity.start : entity.end]][entity.label] += 1
    wanted = {
        surface: labels.most_common(1)[0]
        for surface, labels in labelled.items()
        if len(surface) >= SHORTEST and not surface.isspace() and max(labels.values()) >= count
    }
    places = _places(documents, Surfaces(wanted))
    return {
        surface: Term(label, round((times + 1) / (places[surface] + 2), 4), LABEL_MEMORY)
        for surface, (label, times) in wanted.items()
        if times >= agreement * places[surface]
    }


def _places(documents: Sequence[Document], surfaces: Surfaces) -> Counter[str]:
    """Count the places of each surface; one that carries two labels is one place."""
    places: Counter[str] = Counter()
    for document in documents:
        spans = {(entity.start, entity.end) for entity in document.entities}
        for start, end in {*spans, *surfaces.occurrences(document.text)}:
            if (start, end) in spans or not any(first <= start and end <= last for first, last in spans):
                places[document.text[start:end]] += 1
    return places
