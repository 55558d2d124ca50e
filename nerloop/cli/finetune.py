"""`nerloop finetune`: from two JSONL files to a checkpoint, with no server about. Owns what is said meanwhile."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from nerloop.cli.console import done, say, warn
from nerloop.cli.models import MODEL_HELP, open_model, refuse_existing
from nerloop.cli.texts import lines_of
from nerloop.cli.training_screen import TrainingScreen
from nerloop.documents import Document, fingerprint, labels_of, normalised, read_jsonl
from nerloop.errors import BadInput, NerLoopError, SettingsError
from nerloop.settings import Settings
from nerloop.split import split
from nerloop.tagging import Decoder, DecoderKind

if TYPE_CHECKING:
    from nerloop.models import Model
    from nerloop.tagger import Tagger
    from nerloop.trainer import Fit, Recipe

DEV_SHARE = 0.1  # held out where no --dev is given
STOPPED = 130  # the exit code of what Ctrl-C ended


@click.command()
@click.option("--train", "train_file", type=click.Path(path_type=Path), required=True, help="JSONL to learn from.")
@click.option(
    "--dev",
    "dev_file",
    type=click.Path(path_type=Path),
    help="JSONL to choose the best epoch and the temperature on.  [default: a tenth of --train]",
)
@click.option(
    "--unlabelled",
    "unlabelled_file",
    type=click.Path(path_type=Path),
    help="Texts to learn from as well, as the model labels them: one a line, or JSONL. Twice --train is a good number.",
)
@click.option("--base", required=True, help=f"What to start from. {MODEL_HELP}")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Directory to write; must not exist.")
@click.option(
    "--decoder",
    type=click.Choice(["flat", "nested"]),
    help="nested: entities may overlap.  [default: as the base's]",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs at most.  [default: 14 to 25, by the data]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Texts a step.  [default: 16]")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Of the encoder.  [default: by its kind]",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Same data and seed, same model."
)
def finetune(
    train_file: Path,
    dev_file: Path | None,
    unlabelled_file: Path | None,
    base: str,
    output: Path,
    decoder: DecoderKind | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    seed: int,
) -> None:
    """Fine-tune a model on labelled texts and write a checkpoint; prints its path.

    A run that was stopped or killed goes on where it was when the same command is given again: how far it is stands in
    `.OUTPUT.training` beside the output until it has ended. Under `torchrun` (or `accelerate launch` with several GPUs)
    the processes share each epoch.

    \b
    nerloop finetune --train train.jsonl --dev dev.jsonl --base lac --output models/medical
    nerloop finetune --train train.jsonl --base lac --output models/medical --unlabelled notes.txt
    nerloop finetune --train train.jsonl --base medical-v7 --output models/more
    nerloop finetune --train train.jsonl --output models/news --decoder nested \\
        --base iic/nlp_raner_named-entity-recognition_chinese-base-news
    torchrun --nproc_per_node 2 -m nerloop finetune --train train.jsonl --base lac --output models/shared
    """
    is_main = os.environ.get("RANK", "0") == "0"  # of the processes that a launcher starts
    console = Console(stderr=True, quiet=not is_main)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        say(console, f"{os.environ['WORLD_SIZE']} processes share the work.")
    output = output.absolute()
    try:
        refuse_existing(output, "--output")
        data = _read(console, train_file, dev_file, unlabelled_file)
        with _state_beside(output, console) as state:
            _run(console, data, base, output, decoder, _recipe(epochs, batch_size, learning_rate, seed), state, is_main)
    except (NerLoopError, OSError):
        if is_main:
            raise
        sys.exit(1)  # the main process says why


@dataclass(frozen=True)
class _Data:
    train: list[Document]
    dev: list[Document]
    unlabelled: list[Document] = field(default_factory=list)

    @property
    def dev_entities(self) -> int:
        return sum(len(document.entities) for document in self.dev)


def _run(
    console: Console,
    data: _Data,
    base_name: str,
    output: Path,
    kind: DecoderKind | None,
    recipe: "Recipe",
    state: Path,
    is_main: bool,
) -> None:
    from nerloop import checkpoint
    from nerloop.label_matching import known_as
    from nerloop.tagger import adapt

    settings = Settings.load()
    base = open_model(base_name, settings, console)
    renamed = known_as(base.tagger, data.train)
    tagger = adapt(base.tagger, _decoder(console, kind, data, base.tagger.decoder, renamed), renamed)
    started = time.monotonic()
    fit = _fit(console, tagger, data, recipe, state)
    if not is_main:
        return
    metrics = _metrics(tagger, data, fit, time.monotonic() - started)
    made = _provenance(console, tagger, data, base, metrics, settings.model_cache)
    with console.status("Saving …"):
        checkpoint.save(tagger, made, output)
    _report(console, tagger, data, fit, metrics)
    click.echo(output)


def _read(console: Console, train_file: Path, dev_file: Path | None, unlabelled_file: Path | None) -> _Data:
    """Read the files; without one for dev a tenth of the texts is held out, always the same."""
    train = read_jsonl(train_file)
    if not train:
        raise BadInput(f"--train {train_file}: the file is empty; give labelled texts, one JSON object a line")
    if dev_file is None:
        sides = split(train, DEV_SHARE, 0.0)
        data = _Data(list(sides.train), list(sides.dev))
        left_out = f"; {sides.near_duplicates} that resemble one of them are left out" if sides.near_duplicates else ""
        say(console, f"No --dev: {len(data.dev)} of {len(train)} texts, chosen by hash, are held out{left_out}.")
    else:
        data = _Data(train, read_jsonl(dev_file))
        held_out = {normalised(document.text) for document in data.dev}
        shared = sum(normalised(document.text) in held_out for document in data.train)
        if shared:
            warn(console, f"{shared} texts of --train are in --dev too, whose figures will be better than is true.")
    if not any(document.entities for document in data.train):
        raise BadInput(f"--train {train_file}: no labelled entity to learn from in {len(data.train)} texts; label some")
    unknown = sorted(set(labels_of(data.dev)) - set(labels_of(data.train)))
    if unknown:
        warn(console, f"{', '.join(unknown)}: only in the held-out texts, so that nothing of them can be learned.")
    return data if unlabelled_file is None else replace(data, unlabelled=_unlabelled(console, unlabelled_file, data))


def _unlabelled(console: Console, file: Path, data: _Data) -> list[Document]:
    """Return the texts of a file, each once, without those that are labelled or held out."""
    seen = {normalised(document.text) for document in (*data.train, *data.dev)}
    documents: list[Document] = []
    left_out = 0
    for line in lines_of([file], False, console):
        if not line.text.strip():
            continue
        if normalised(line.text) in seen:
            left_out += 1
        else:
            seen.add(normalised(line.text))
            documents.append(Document("", line.text))
    more = f"; {left_out} that are repeated, labelled or held out are left out" if left_out else ""
    say(console, f"{len(documents)} unlabelled texts, for a second round{more}.")
    return documents


def _decoder(
    console: Console, kind: DecoderKind | None, data: _Data, base: Decoder, renamed: Mapping[str, str]
) -> Decoder:
    """Return the decoder to train, of the base's kind unless told otherwise, and say what it will not find.

    `renamed` maps labels to those of the base that they start from.
    """
    from nerloop.trainer import MIN_DEV_ENTITIES

    kind = kind or base.kind
    if kind != base.kind:
        say(console, f"The base's decoder is {base.kind}, the new checkpoint's will be {kind}.")
    labels = labels_of(data.train)
    decoder = Decoder.nested(labels, data.train) if kind == "nested" else Decoder.flat(labels)
    dropped = sum(decoder.encode(document)[1] for document in data.train)
    if dropped:
        way_out = "; --decoder nested learns them" if kind == "flat" else ""
        warn(console, f"{dropped} entities overlap others and a {kind} decoder cannot learn them{way_out}.")
    if data.dev_entities < MIN_DEV_ENTITIES:
        warn(
            console,
            f"dev holds {data.dev_entities} entities; with fewer than {MIN_DEV_ENTITIES} the last epoch is kept, no "
            "temperature is fitted, and its figures say little.",
        )
    forgotten = [label for label in base.labels if label not in labels and label not in renamed.values()]
    if forgotten:
        warn(
            console,
            f"the base's {', '.join(forgotten)} are not in --train: the new checkpoint will not find them.",
        )
    origin = {label: f"{label} (new)" for label in labels if label not in base.labels}
    origin |= {label: f"{label} (the base's {known})" for label, known in renamed.items()}
    said = ", ".join(origin.get(label, label) for label in labels)
    say(console, f"{len(data.train)} texts to learn from, {len(data.dev)} held out; labels {said}")
    return decoder


def _fit(console: Console, tagger: "Tagger", data: _Data, recipe: "Recipe", state: Path) -> "Fit":
    import torch

    from nerloop.trainer import Trainer

    with TrainingScreen(console, state) as screen:
        try:
            fit = Trainer(recipe, screen.show, state).fit(tagger, data.train, data.dev, data.unlabelled)
        except torch.cuda.OutOfMemoryError:
            raise BadInput(f"--batch-size {recipe.batch_size}: the GPU's memory is full; give a smaller one") from None
        screen.say_epochs(fit.epochs)
    return fit


def _metrics(tagger: "Tagger", data: _Data, fit: "Fit", seconds: float) -> dict[str, float]:
    from nerloop.predictor import Predictor, score

    dev = score(Predictor(tagger, ""), data.dev).micro
    return {
        "dev_precision": dev.precision,
        "dev_recall": dev.recall,
        "dev_f1": dev.f1,
        "dev_documents": len(data.dev),
        "dev_entities": dev.support,
        "train_documents": len(data.train),
        "unlabelled_documents": len(data.unlabelled),
        "dropped_entities": fit.dropped_entities,
        "best_epoch": fit.best_epoch,
        "train_seconds": round(seconds, 1),
    }


def _provenance(
    console: Console, tagger: "Tagger", data: _Data, base: "Model", metrics: dict[str, float], cache: Path
) -> Any:
    from nerloop.admission import MIN_TEXTS, admission, all_refused
    from nerloop.checkpoint import Provenance

    # Held-out texts first: what was trained on is where two runtimes agree most.
    texts = [document.text for document in (*data.dev, *data.train) if document.text][:MIN_TEXTS]
    try:
        with console.status("Measuring which runtimes give the same entities … (Ctrl-C skips this)"):
            found = admission(tagger, texts, cache)
    except KeyboardInterrupt:
        found = all_refused("not measured: Ctrl-C skipped it when it was made")
        say(console, "Skipped; only the exact runtimes will serve this checkpoint.")
    except SettingsError as error:  # no reason to lose what was learned
        found = all_refused("not measured: the cache could not be written when it was made")
        warn(console, f"{error}. Only the exact runtimes will serve this checkpoint.")
    seen = fingerprint([*data.train, *data.dev])
    return Provenance(base.source, seen, metrics, base.revision, found.admitted, found.refused)


def _report(console: Console, tagger: "Tagger", data: _Data, fit: "Fit", metrics: dict[str, float]) -> None:
    last = "" if fit.used_dev else ", the last"
    done(console, f"Epoch {fit.best_epoch} of {len(fit.epochs)} is kept{last}; temperature {tagger.temperature:.2f}")
    if data.dev_entities:
        say(
            console,
            f"  dev: precision {metrics['dev_precision']:.3f}, recall {metrics['dev_recall']:.3f}, "
            f"F1 {metrics['dev_f1']:.3f} on {len(data.dev)} texts with {data.dev_entities} entities",
        )
    if fit.dropped_entities:
        say(console, f"  {fit.dropped_entities} entities could not be learned.")


@contextlib.contextmanager
def _state_beside(output: Path, console: Console) -> Iterator[Path]:
    """Give the folder for what a stopped run goes on from; it is gone once the output is there."""
    state = output.with_name(f".{output.name}.training")
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--output {output}: cannot write beside it ({error.strerror}); write elsewhere") from None
    try:
        yield state
    except KeyboardInterrupt:
        saved = state.is_dir() and any(state.iterdir())
        say(console, f"Stopped. The same command goes on from {state}." if saved else "Stopped; nothing was saved yet.")
        sys.exit(STOPPED)
    finally:
        if output.exists():
            shutil.rmtree(state, ignore_errors=True)
        with contextlib.suppress(OSError):
            state.rmdir()  # only where it is empty


def _recipe(epochs: int | None, batch_size: int | None, learning_rate: float | None, seed: int) -> "Recipe":
    from nerloop.trainer import BATCH_SIZE, Recipe

    return Recipe(epochs, batch_size or BATCH_SIZE, learning_rate, seed)
