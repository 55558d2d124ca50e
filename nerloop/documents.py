"""Documents, their entities, and JSONL files of them. Owns the format and its checks; knows no model and no server."""

import contextlib
import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerloop.durable import to_disk
from nerloop.errors import BadInput


@dataclass(frozen=True, order=True)
class Entity:
    """A labelled span: half-open `[start, end)` in Python code points, which are Label Studio's offsets too.

    `source` says where one comes from that no model found.
    """

    start: int
    end: int
    label: str
    score: float | None = field(default=None, compare=False)
    source: str = field(default="", compare=False)


@dataclass(frozen=True)
class Document:
    """A text with its entities; `id` is empty where the source has none.

    `feedback` is that of a text somebody sent because a model was wrong about it: it may never measure a model.
    """

    id: str
    text: str
    entities: tuple[Entity, ...] = ()
    feedback: bool = False


@dataclass(frozen=True)
class Uncertainty:
    """How unsure a model is of a text, for choosing what to label next; no strategy is preferred here.

    `least_confidence` = 1 - P(best path); `mnlp` = log P(best path) / length, at most 0 (Shen et al. 2018);
    `token_entropy` in nats, the mean over characters of the entropy of the tags there. `margin` in [0, 1], the least
    over the characters of how much likelier its first label is than its second (Scheffer et al. 2001). All at the
    temperature.
    """

    least_confidence: float
    mnlp: float
    token_entropy: float
    margin: float


@dataclass(frozen=True)
class Prediction:
    """What one model object says of one text.

    Each entity's `score` is the exact probability of its span and label under the CRF at the checkpoint's
    temperature. `confidence` in [0, 1] is that of the whole text: exp(Σ log p / √length) over the probability of
    each character's label. √length lies between the sum, by which long texts always come first, and the mean, which
    forgets how much there is to correct.
    """

    entities: tuple[Entity, ...]
    confidence: float
    model_version: str
    uncertainty: Uncertainty


Manifest = dict[str, str]
"""Annotation id → `DOCUMENT:HASH`, its document and the hash of its content, for every annotation of a snapshot.

Manifests of before the document was noted hold the hash alone.
"""


def manifest_entry(document_id: str, content_hash: str) -> str:
    """Return what a manifest holds of an annotation."""
    return f"{document_id}:{content_hash}"


def document_of(entry: str) -> str:
    """Return the document of a manifest's entry, empty where it was not noted."""
    return entry.rpartition(":")[0]


def content_of(entry: str) -> str:
    """Return the content hash of a manifest's entry."""
    return entry.rpartition(":")[2]


def check_label(label: str) -> None:
    """Raise `BadInput` unless two people who read the label would write it alike: no outer space, nothing unseen."""
    if not label:
        raise BadInput("the label is empty; give it a name")
    if label != label.strip():
        raise BadInput(f"the label {label!r} begins or ends with white space; take it away")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in label):
        raise BadInput(f"the label {label!r} holds a control character or half an emoji; take it out")


def check_entity(entity: Entity, text: str) -> None:
    """Raise `BadInput` unless the entity lies inside the text and carries a label that `check_label` passes."""
    try:
        check_label(entity.label)
    except BadInput as error:
        raise BadInput(f"field 'category': {error}") from None
    if not 0 <= entity.start < entity.end <= len(text):
        raise BadInput(
            f"fields 'start'={entity.start} and 'end'={entity.end} do not lie inside the text of {len(text)} "
            "characters; offsets count code points and 'end' is exclusive"
        )


def to_json(document: Document) -> str:
    """Write one document as a JSONL line (without the newline)."""
    row: dict[str, Any] = {
        "text": document.text,
        "entities": [{"category": e.label, "start": e.start, "end": e.end} for e in sorted(document.entities)],
    }
    if document.id:
        row["id"] = document.id
    if document.feedback:
        row["meta"] = {"feedback": True}
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half an emoji, which JSON may hold and UTF-8 may not
        return json.dumps(row)
    return line


def text_row(line: str) -> dict[str, Any]:
    """Read one JSONL line that has a `text`, whatever else; raises `BadInput` naming what is wrong."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not valid JSON ({error}); write one JSON object a line") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise BadInput("field 'text' is missing or not a string")
    return row


def from_json(line: str) -> Document:
    """Read one JSONL line: `{"text": …, "entities": [{"category", "start", "end"}]}` with an optional `id` and `meta`.

    Raises `BadInput` naming the wrong field.
    """
    row = text_row(line)
    if not isinstance(row.get("entities"), list):
        raise BadInput("field 'entities' is missing or not a list; write [] for a text without entities")
    entities = []
    for item in row["entities"]:
        if not isinstance(item, dict) or not isinstance(item.get("category"), str):
            raise BadInput("field 'entities': each needs a string 'category'")
        if type(item.get("start")) is not int or type(item.get("end")) is not int:
            raise BadInput("field 'entities': 'start' and 'end' must be whole numbers")
        entity = Entity(item["start"], item["end"], item["category"])
        check_entity(entity, row["text"])
        entities.append(entity)
    meta = row.get("meta")
    feedback = isinstance(meta, dict) and meta.get("feedback") is True
    return Document("" if row.get("id") is None else str(row["id"]), row["text"], tuple(sorted(entities)), feedback)


def read_jsonl(path: Path) -> list[Document]:
    """Read a JSONL file; raises `BadInput` naming file, line and field."""
    documents = []
    try:
        # Split on \n only: a text may hold U+2028 and its kin, which str.splitlines would cut at.
        with path.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    documents.append(_line_of(path, number, line))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: is a directory; give a JSONL file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert the file to UTF-8") from None
    return documents


def _line_of(path: Path, number: int, line: str) -> Document:
    try:
        return from_json(line)
    except BadInput as error:
        raise BadInput(f"{path}, line {number}: {error}") from None


def write_jsonl(path: Path, documents: Iterable[Document]) -> int:
    """Write documents as they come to `path`, atomically: a reader sees the old file or the whole new one.

    Returns the number written. Raises `BadInput` where the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as out:
            for document in documents:
                out.write(to_json(document) + "\n")
                count += 1
        to_disk(partial)
        partial.replace(path)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}; free space or choose another place") from error
    finally:
        with contextlib.suppress(OSError):  # where the place itself is wrong, there is nothing to tidy up
            partial.unlink(missing_ok=True)
    return count


class Fingerprint:
    """The sha256 of documents as canonical JSONL, the same in any order, computed as they come by.

    It is that of the sorted sha256 sums of the lines, so that 32 bytes a document are kept and not the documents.
    """

    def __init__(self) -> None:
        self._sums: list[bytes] = []

    def add(self, document: Document) -> None:
        """Take a document in."""
        self._sums.append(hashlib.sha256(to_json(document).encode()).digest())

    def hexdigest(self) -> str:
        """Return the fingerprint of all documents taken in so far."""
        return hashlib.sha256(b"".join(sorted(self._sums))).hexdigest()


def fingerprint(documents: Iterable[Document]) -> str:
    """Return the `Fingerprint` of documents that are at hand."""
    computed = Fingerprint()
    for document in documents:
        computed.add(document)
    return computed.hexdigest()


def labels_of(documents: Iterable[Document]) -> list[str]:
    """Return the labels that occur, sorted."""
    return sorted({entity.label for document in documents for entity in document.entities})


def normalised(text: str) -> str:
    """Return the form under which two texts count as the same: NFKC, lower case, no white space.

    Only for comparing and hashing. Offsets always refer to the text as it is.
    """
    return "".join(unicodedata.normalize("NFKC", text).lower().split())
