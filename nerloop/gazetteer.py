"""Terms with a label each, found in texts by Aho–Corasick. Owns the matching, its rules, and the file of a gazetteer.

Where the terms come from is the caller's: a file of a person, or label_memory.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ahocorasick

from nerloop.documents import Entity, check_label
from nerloop.errors import BadInput

GAZETTEER = "gazetteer"


@dataclass(frozen=True)
class Term:
    """What a surface is labelled as; `score` in [0, 1] is None where nobody has measured it.

    `source` says to people where the term comes from.
    """

    label: str
    score: float | None = None
    source: str = GAZETTEER


class Surfaces:
    """Strings that are looked for all at once, in a time that does not depend on how many they are."""

    def __init__(self, surfaces: Iterable[str]) -> None:
        self._automaton = ahocorasick.Automaton()
        for surface in filter(None, surfaces):
            self._automaton.add_word(surface, len(surface))
        self._automaton.make_automaton()

    def occurrences(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield `(start, end)` of every occurrence in code points, also where they overlap.

        One that begins or ends inside a word or number in ASCII is none: CT does not occur in ACTH, nor 3岁 in 13岁.
        """
        if not len(self._automaton):
            return
        for last, length in self._automaton.iter(text):
            start, end = last + 1 - length, last + 1
            if not (_is_inside_a_word(text, start) or _is_inside_a_word(text, end)):
                yield start, end


class Gazetteer:
    """Terms that are looked for in texts, and their labels. Safe to use from several threads."""

    def __init__(self, terms: Mapping[str, Term] | None = None) -> None:
        self.terms = dict(terms or {})
        self.labels = {term.label for term in self.terms.values()}
        self._surfaces = [Surfaces(self.terms)]

    def __or__(self, other: "Gazetteer") -> "Gazetteer":
        """Return both together, without making either anew: of terms that both have, the other's count."""
        joined = Gazetteer()
        joined.terms = self.terms | other.terms
        joined.labels = self.labels | other.labels
        joined._surfaces = self._surfaces + other._surfaces
        return joined

    def matches(self, text: str, shown_as: Mapping[str, str]) -> list[Entity]:
        """Return the terms that occur in a text, by place, none overlapping another.

        Of those that overlap the longest counts, of equally long ones the first. `shown_as` maps the terms' labels to
        the caller's; terms of labels it leaves out are not looked for.
        """
        places = {place for surfaces in self._surfaces for place in surfaces.occurrences(text)}
        found = (
            Entity(start, end, shown_as[term.label], term.score, term.source)
            for start, end in places
            if (term := self.terms[text[start:end]]).label in shown_as
        )
        return apart(sorted(found, key=lambda entity: (entity.start - entity.end, entity.start)))

    def fill(self, text: str, entities: Sequence[Entity], shown_as: Mapping[str, str]) -> tuple[Entity, ...]:
        """Return the entities of a model with the `matches` that overlap none of them: the model wins."""
        return tuple(apart(self.matches(text, shown_as), entities)) if self.terms else tuple(entities)


def read_gazetteer(path: Path) -> dict[str, Term]:
    """Read a file of terms: UTF-8, one `term TAB label` a line; empty lines and lines that begin with # are left out.

    Raises `BadInput` naming the file, the line and what is wrong there.
    """
    terms: dict[str, Term] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert the file to UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, start=1):
        row = line.rstrip("\r")
        if not row.strip() or row.startswith("#"):
            continue
        try:
            term, label = _row(row)
            if term in terms and terms[term].label != label:
                raise BadInput(f"the term {term!r} has another label above, {terms[term].label}; keep one of them")
        except BadInput as error:
            raise BadInput(f"{path}, line {number}: {error}") from None
        terms[term] = Term(label)
    return terms


def _row(row: str) -> tuple[str, str]:
    term, tab, label = (part.strip(" ") for part in row.partition("\t"))
    if not tab or not term:
        raise BadInput(f"{row!r} is not a term, a tab and its label")
    check_label(label)
    return term, label


def apart(found: Iterable[Entity], taken: Sequence[Entity] = ()) -> list[Entity]:
    """Return, by place, what is `taken` and those `found` that overlap neither it nor what was found before them."""
    kept = list(taken)
    for entity in found:
        if all(entity.end <= other.start or other.end <= entity.start for other in kept):
            kept.append(entity)
    return sorted(kept)


def _is_inside_a_word(text: str, place: int) -> bool:
    """Tell whether a word or number in ASCII goes on across a place between two characters."""
    return 0 < place < len(text) and all(c.isascii() and c.isalnum() for c in text[place - 1 : place + 1])
