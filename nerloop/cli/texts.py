"""Reads texts of files or of standard input for the commands: one a line, or one JSON object a line."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console

from nerloop.cli.console import say
from nerloop.documents import text_row
from nerloop.errors import BadInput

STDIN = "-"


@dataclass(frozen=True)
class Line:
    """A text, its id where it has one, and the bytes that were read for it."""

    text: str
    id: str | None
    size: int


def lines_of(files: Iterable[Path], jsonl: bool, console: Console) -> Iterator[Line]:
    """Yield the texts of files as they are read; `jsonl`, or the ending .jsonl, says that a line is a JSON object.

    Raises `BadInput` naming the file, and the line where it is one that is wrong.
    """
    for file in files:
        if str(file) == STDIN:
            if sys.stdin.isatty():
                say(console, "Reading texts from the keyboard, one a line; Ctrl-D ends.")
            yield from _read(sys.stdin.buffer, "standard input", jsonl)
        else:
            try:
                stream = file.open("rb")
            except OSError as error:
                raise BadInput(f"{file}: cannot be read ({error.strerror})") from None
            with stream:
                yield from _read(stream, str(file), jsonl or file.suffix.lower() == ".jsonl")


def _read(stream: IO[bytes], name: str, jsonl: bool) -> Iterator[Line]:
    """Read a line at a time; \\n alone ends one, since a text may hold U+2028 and its kin."""
    for number, raw in enumerate(stream, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"{name}, line {number}: not UTF-8 ({error.reason}); convert the file to UTF-8") from None
        if not jsonl:
            yield Line(line.removesuffix("\n").removesuffix("\r"), None, len(raw))
        elif line.strip():
            try:
                yield _from_json(line, len(raw))
            except BadInput as error:
                raise BadInput(f"{name}, line {number}: {error}") from None


def _from_json(line: str, size: int) -> Line:
    row = text_row(line)
    return Line(row["text"], None if row.get("id") is None else str(row["id"]), size)
