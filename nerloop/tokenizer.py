"""From a text to the ids an encoder reads. Owns vocabularies; knows no network.

A *unit* is what gets one tag: a character, or, where a published checkpoint was trained that way, a word. A unit may
be read as several ids; the first one speaks for it. White space and unknown characters are units too, so offsets are
exact for every text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nerloop.errors import BadInput

VOCABULARY = "vocabulary.json"
UNKNOWN = "OOV"  # what a vocabulary of characters calls the row of all others
VOCABULARIES = ("vocab.txt", "sentencepiece.bpe.model", "tokenizer.json")
# What a directory may hold of a tokenizer; a checkpoint made from it carries the same files on.
TOKENIZER_FILES = (
    *VOCABULARIES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


@dataclass(frozen=True)
class Tokens:
    """A text, read: `heads[i]` is the place in `ids` that speaks for unit i, `spans[i]` its characters."""

    ids: Sequence[int]
    heads: Sequence[int]
    spans: Sequence[tuple[int, int]]

    def cut(self, start: int, end: int, limit: int) -> "Tokens":
        """Return the units `[start, end)`, at most `limit` ids (one unit alone may be longer than an encoder reads)."""
        first = self.heads[start]
        last = min(self.heads[end] if end < len(self.heads) else len(self.ids), first + limit)
        heads = [head - first for head in self.heads[start:end]]
        return Tokens(self.ids[first:last], heads, self.spans[start:end])


class CharacterVocabulary:
    """LAC's: one row a character."""

    split_into_characters = True

    def __init__(self, rows: Mapping[str, int]) -> None:
        self._rows = dict(rows)
        self._unknown = self._rows[UNKNOWN]

    @property
    def files(self) -> dict[str, bytes]:
        """The file a checkpoint keeps."""
        return {VOCABULARY: json.dumps(self._rows, ensure_ascii=False).encode("utf-8", "surrogatepass")}

    def tokenize(self, text: str) -> Tokens:
        """Read a text, one id a character."""
        return Tokens([self._rows.get(c, self._unknown) for c in text], *_characters(len(text)))


class SubwordTokenizer:
    """BERT's WordPiece or XLM-R's SentencePiece, a character at a time or the text as a whole."""

    def __init__(self, files: Mapping[str, bytes], tokenizer: Any, *, split_into_characters: bool) -> None:
        """`tokenizer` is a fast tokenizer of transformers, `files` what it was read from."""
        self.files = dict(files)
        self.split_into_characters = split_into_characters
        self.begin, self.end, self.padding = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
        self._unknown = tokenizer.unk_token_id
        # The inner tokenizer, because the outer one changes its own state at each call and threads share it.
        self._inner = tokenizer.backend_tokenizer
        self._inner.no_truncation()
        self._inner.no_padding()
        self._pieces: dict[str, list[int]] = {}

    @classmethod
    def read(cls, folder: Path, model_type: str, *, split_into_characters: bool) -> "SubwordTokenizer":
        """Read a directory's tokenizer; nothing in the directory is executed. Raises `BadInput` if none is there."""
        from transformers import BertTokenizerFast, XLMRobertaTokenizerFast  # seconds; only transformers pay them

        kind = {"bert": BertTokenizerFast, "xlm-roberta": XLMRobertaTokenizerFast}[model_type]
        files = {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).is_file()}
        needed = "vocab.txt" if model_type == "bert" else "sentencepiece.bpe.model"
        if needed not in files and "tokenizer.json" not in files:
            raise BadInput(f"{folder}: the vocabulary {needed} is missing; fetch the directory again")
        try:
            tokenizer = kind.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # noqa: BLE001 - the Rust code beneath raises plain `Exception`
            raise BadInput(f"{folder}: the tokenizer cannot be read ({error}); fetch the directory again") from None
        if tokenizer.unk_token_id is None or tokenizer.unk_token_id >= tokenizer.vocab_size:
            raise BadInput(f"{folder}: the vocabulary has no entry for unknown characters; fetch the directory again")
        return cls(files, tokenizer, split_into_characters=split_into_characters)

    @property
    def rows(self) -> int:
        """How many rows an embedding needs for every id there is."""
        return int(max(self._inner.get_vocab().values())) + 1

    @cached_property
    def as_characters(self) -> "SubwordTokenizer":
        """The same vocabulary, a character at a time: what fine-tuning uses, because labels end inside words."""
        twin = object.__new__(SubwordTokenizer)
        twin.__dict__.update(self.__dict__, split_into_characters=True)
        return twin

    def tokenize(self, text: str) -> Tokens:
        """Read a text; special tokens are not among the ids."""
        return self._by_character(text) if self.split_into_characters else self._by_word(text)

    def _by_character(self, text: str) -> Tokens:
        ids: list[int] = []
        heads = []
        for character in text:
            pieces = self._pieces.get(character)
            if pieces is None:
                pieces = self._inner.encode(_clean(character), add_special_tokens=False).ids or [self._unknown]
                self._pieces[character] = pieces
            heads.append(len(ids))
            ids += pieces
        return Tokens(ids, heads, _characters(len(text))[1])

    def _by_word(self, text: str) -> Tokens:
        encoding = self._inner.encode(_clean(text), add_special_tokens=False)
        heads: list[int] = []
        spans: list[tuple[int, int]] = []
        before = None
        for place, (word, (start, end)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
            if word != before:
                heads.append(place)
                spans.append((start, end))
            else:
                spans[-1] = spans[-1][0], end
            before = word
        return Tokens(encoding.ids, heads, [_without_space_before(text, *span) for span in spans])


Tokenizer = CharacterVocabulary | SubwordTokenizer


def _characters(length: int) -> tuple[range, list[tuple[int, int]]]:
    return range(length), [(place, place + 1) for place in range(length)]


def _without_space_before(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span of a word alone; SentencePiece counts the white space before it as part of it."""
    return end - len(text[start:end].lstrip() or text[start:end]), end


def _clean(text: str) -> str:
    """Return the text with halves of emoji, which no tokenizer takes, replaced one for one."""
    return text if text.isascii() else "".join("�" if "\ud800" <= c <= "\udfff" else c for c in text)
