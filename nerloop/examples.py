"""What a tagger is trained on: pieces of documents with their tags, in batches. Owns the cutting and the order."""

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from nerloop.documents import Document
from nerloop.predictor import last_unit
from nerloop.tagger import Tagger
from nerloop.tokenizer import Tokens

TRAINING_CHARACTERS = 400  # longer texts, or those of more ids, are cut into pieces that break no entity

Example = tuple[Tokens, list[list[int]]]
"""A text and, for each layer, one tag id a character."""


def examples_of(tagger: Tagger, documents: Sequence[Document]) -> tuple[list[Example], int]:
    """Return tokens and tags of each piece of text, and how many entities the decoder cannot hold."""
    examples, dropped = [], 0
    limit = min(TRAINING_CHARACTERS, tagger.encoder.max_tokens)
    for document in documents:
        rows, lost = tagger.decoder.encode(document)
        dropped += lost
        tokens = tagger.encoder.tokenizer.tokenize(document.text)
        opens = [layer.may_start for layer in tagger.decoder.layers]
        units = range(len(tokens.heads))
        cuts = [i for i in units if all(may(row[i]) for may, row in zip(opens, rows, strict=True))]  # no entity is open
        start = 0
        while start < len(units):
            last = last_unit(tokens, start, limit)
            end = last if last == len(units) else cuts[bisect_right(cuts, last) - 1]
            if end == start:  # one entity is longer than a piece may be: it is left out
                end = [*cuts, len(units)][bisect_right(cuts, start)]
                dropped += 1
            else:
                examples.append((tokens.cut(start, end, tagger.encoder.max_tokens), [row[start:end] for row in rows]))
            start = end
    return examples, dropped


def batches_of(examples: Sequence[Example], size: int, seed: str) -> Iterator[list[Example]]:
    """Yield batches of similar length in random order, so that little is padding; the same for the same seed."""
    order = random.Random(seed)
    shuffled = order.sample(examples, len(examples))
    pool = 8 * size
    batches = []
    for start in range(0, len(shuffled), pool):
        ordered = sorted(shuffled[start : start + pool], key=lambda example: len(example[0].ids))
        batches += [ordered[i : i + size] for i in range(0, len(ordered), size)]
    order.shuffle(batches)
    yield from batches
