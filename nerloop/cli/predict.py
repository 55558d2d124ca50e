"""`nerloop predict`: labels texts of files or of standard input, as JSONL. Owns reading and writing the stream."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from nerloop.cli.console import done
from nerloop.cli.models import MODEL_HELP, open_model, open_predictor
from nerloop.cli.texts import STDIN, Line, lines_of
from nerloop.durable import to_disk
from nerloop.errors import BadInput
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.documents import Prediction

TEXTS_AT_ONCE = 256
CHARACTERS_AT_ONCE = 100_000


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--model", required=True, help=MODEL_HELP)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: standard output]"
)
@click.option(
    "--jsonl", is_flag=True, help='FILES or standard input hold JSON objects with a "text", whatever their names.'
)
def predict(files: tuple[Path, ...], model: str, output: Path | None, jsonl: bool) -> None:
    """Label texts, one a line; without FILES those of standard input.

    A file ending in .jsonl holds a JSON object with a "text" on each line; so does any input with --jsonl. What comes
    out is the project's own JSONL, with a score for each entity, and for each text the confidence and three measures
    of uncertainty.

    \b
    nerloop predict --model lac notes.txt -o labelled.jsonl
    echo 昨天王建国在华西附二院开了布洛芬 | nerloop predict --model models/medical
    cat tasks.jsonl | nerloop predict --model models/medical --jsonl | jq -c 'select(.confidence < 0.5)'
    """
    console = Console(stderr=True)
    settings = Settings.load()
    for file in files:
        if str(file) != STDIN and file.is_dir():
            raise BadInput(f"{file}: is a directory; give a file of texts")
        if str(file) != STDIN and not file.exists():
            raise BadInput(f"{file}: no such file")
    if output is not None and not output.parent.is_dir():
        raise BadInput(f"{output.parent}: no such folder; make it first or write elsewhere")
    predictor = open_predictor(open_model(model, settings, console), settings, console)
    lines = lines_of(files or (Path(STDIN),), jsonl, console)
    count = 0
    with _writing(output) as out, _bar(console, files, output) as advance:
        for batch in _batches(lines):
            predictions = predictor.predict([line.text for line in batch])
            for line, prediction in zip(batch, predictions, strict=True):
                out.write(_json_line(line, prediction))
            out.flush()
            count += len(batch)
            advance(sum(line.size for line in batch))
    if output is not None:
        done(console, f"{count} texts in {output}")


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Yield a few hundred lines at a time, fewer where they are long; from a keyboard, one."""
    most = 1 if sys.stdin.isatty() else TEXTS_AT_ONCE
    batch: list[Line] = []
    characters = 0
    for line in lines:
        batch.append(line)
        characters += len(line.text)
        if len(batch) >= most or characters >= CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _json_line(line: Line, prediction: "Prediction") -> bytes:
    row: dict[str, Any] = {} if line.id is None else {"id": line.id}
    row |= {
        "text": line.text,
        "entities": [
            {"category": entity.label, "start": entity.start, "end": entity.end, "score": entity.score}
            for entity in prediction.entities
        ],
        "confidence": round(prediction.confidence, 6),
        "uncertainty": {name: round(value, 6) for name, value in asdict(prediction.uncertainty).items()},
    }
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half an emoji, which JSON may hold and UTF-8 may not
        return json.dumps(row).encode() + b"\n"


@contextlib.contextmanager
def _writing(output: Path | None) -> Iterator[IO[bytes]]:
    """Give standard output, or a file that appears under its name only when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        return
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as out:
            yield out
        to_disk(partial)
        partial.replace(output)
    except OSError as error:
        raise BadInput(f"cannot write {output}: {error.strerror}; free space or choose another place") from error
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _bar(console: Console, files: Sequence[Path], output: Path | None) -> Iterator[Callable[[int], None]]:
    """Show how much was read, unless the results go to the same terminal."""
    sizes = [0 if str(file) == STDIN else file.stat().st_size for file in files]
    total = sum(sizes) if sizes and all(sizes) else None  # nobody knows how much is in a pipe
    columns = (TextColumn("Labelling"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    hidden = not console.is_terminal or (output is None and sys.stdout.isatty())
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda size: progress.advance(task, size)
