"""Texts that say almost the same: sets of character 5-grams with Jaccard similarity ≥ 0.8. Owns the rule."""

from collections import defaultdict
from collections.abc import Iterable

from nerloop.documents import normalised

NEAR_DUPLICATE_JACCARD = 0.8
GRAM = 5


class NearDuplicates:
    """Texts in which those that resemble another are found, through an inverted index instead of all pairs."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._sizes: list[int] = []
        self._texts_with: dict[str, list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Take a text in."""
        grams = _grams(text)
        for gram in grams:
            self._texts_with[gram].append(len(self._sizes))
        self._sizes.append(len(grams))

    def resembles(self, text: str) -> bool:
        """Tell whether a text is nearly one that was taken in."""
        grams = _grams(text)
        shared: dict[int, int] = defaultdict(int)
        for gram in grams:
            for number in self._texts_with.get(gram, ()):
                shared[number] += 1
        return any(
            count / (len(grams) + self._sizes[number] - count) >= NEAR_DUPLICATE_JACCARD
            for number, count in shared.items()
        )


def _grams(text: str) -> set[str]:
    text = normalised(text)
    return {text[i : i + GRAM] for i in range(max(1, len(text) - GRAM + 1))}
