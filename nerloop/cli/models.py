"""Which model a command means and what runs it here. Owns reading `--model`; loads torch only to open one."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nerloop.errors import BadInput, RegistryError
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.checkpoint import Provenance
    from nerloop.predictor import Predictor
    from nerloop.tagger import Tagger

STARTER = "lac"
VERSION = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,62})-v([1-9][0-9]*)")  # medical-v7
MODEL_HELP = "A checkpoint's directory, `lac`, a registered version such as medical-v7, or a ModelScope id."


@dataclass(frozen=True)
class Model:
    """A model that was opened; `folder` is None for the starter, `provenance` for what is no checkpoint of ours."""

    source: str
    folder: Path | None
    tagger: "Tagger"
    provenance: "Provenance | None" = None

    @property
    def admitted(self) -> dict[str, dict[str, float]]:
        """The inexact runtimes that may serve it, with the figures that admitted them."""
        return self.provenance.admitted if self.provenance else {}


def open_model(source: str, settings: Settings, console: Console) -> Model:
    """Read a model, every file's sum checked; raises what names the file or says what `source` may be."""
    from nerloop import checkpoint
    from nerloop.starter import fresh_starter

    with console.status(f"Reading {source} …"):
        if source == STARTER:
            return Model(source, None, fresh_starter())
        found = checkpoint.load(find_folder(source, settings))
    return Model(source, found.folder, found.tagger, found.provenance)


def find_folder(source: str, settings: Settings) -> Path:
    """Return the directory of a model, downloaded where it is a registered version or a ModelScope id."""
    if Path(source).is_dir():
        return Path(source)
    version = VERSION.fullmatch(source)
    if version is not None:
        return _registered(version[1], int(version[2]), settings)
    from nerloop import hub

    if hub.parse_id(source) is None or Path(source).exists():
        raise BadInput(
            f"model {source!r}: no such directory; give the path of a checkpoint or RaNER directory, {STARTER!r} for "
            "the starter, a registered version such as medical-v7, or a ModelScope id"
        )
    return hub.fetch(source, settings.checkpoint_cache)


def open_predictor(model: Model, settings: Settings, console: Console, *, exact: bool = False) -> "Predictor":
    """Return what labels texts with a model on the fastest runtime of this machine; `exact` leaves out bf16 and int8.

    The first time the runtimes are timed, which takes seconds, and half a minute for BERT-base.
    """
    from nerloop.predictor import Predictor
    from nerloop.runtime import fastest, set_threads

    with console.status("Choosing the fastest runtime of this machine (once a model) …"):
        runtime, _ = fastest(model.tagger, () if exact else model.admitted, settings.checkpoint_cache)
    set_threads(model.tagger.encoder.kind)
    return Predictor(model.tagger, model.source, runtime=runtime)


def refuse_existing(output: Path, option: str) -> None:
    """Raise `BadInput` where a directory that is to be written is there already."""
    if output.exists() or output.is_symlink():
        raise BadInput(f"{option} {output}: exists already; choose another name, or remove it first")


def _registered(model: str, number: int, settings: Settings) -> Path:
    from nerloop.loop import Loop

    registry = Loop(settings).registry
    try:
        return registry.download(registry.version(model, number), settings.checkpoint_cache)
    except RegistryError as error:
        raise type(error)(f"model {model}-v{number}: no such directory, and as a registered version: {error}") from None
