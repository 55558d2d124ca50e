"""Which side of the held-out split a document is on. Owns the rule; a side never moves, whatever the labels are.

10 % of texts are `dev` (early stopping, temperature), 10 % `gate` (judging promotions, nothing is chosen on it).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from nerloop.documents import Document, normalised
from nerloop.near_duplicates import NearDuplicates

Side = Literal["train", "dev", "gate"]


@dataclass(frozen=True)
class Split:
    """Labelled documents by side; `near_duplicates` counts those left out of training for resembling a held-out one.

    `unlabelled` are documents of the training side that nobody has labelled yet; their entities are a gazetteer's.
    """

    train: tuple[Document, ...]
    dev: tuple[Document, ...]
    gate: tuple[Document, ...]
    near_duplicates: int
    unlabelled: tuple[Document, ...] = ()


def hash_fraction(text: str, salt: str = "") -> float:
    """Map a text to a fixed number in [0, 1), the same for texts that differ only in width, case or white space."""
    digest = hashlib.sha256((salt + normalised(text)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def side_of(text: str, dev_share: float, gate_share: float, *, feedback: bool = False) -> Side:
    """Return the side of a text, decided by its hash before anyone labels it.

    Feedback was chosen because a model erred, so that it would bias what measures models: it is for training only.
    """
    if feedback:
        return "train"
    fraction = hash_fraction(text)
    if fraction < dev_share:
        return "dev"
    return "gate" if fraction < dev_share + gate_share else "train"


def split(documents: Iterable[Document], dev_share: float, gate_share: float) -> Split:
    """Split labelled documents; near-duplicates of held-out ones (5-gram Jaccard ≥ 0.8) leave the training side."""
    sides: dict[Side, list[Document]] = {"train": [], "dev": [], "gate": []}
    for document in documents:
        sides[side_of(document.text, dev_share, gate_share, feedback=document.feedback)].append(document)
    held_out = NearDuplicates(document.text for document in (*sides["dev"], *sides["gate"]))
    kept = tuple(document for document in sides["train"] if not held_out.resembles(document.text))
    return Split(kept, tuple(sides["dev"]), tuple(sides["gate"]), len(sides["train"]) - len(kept))
