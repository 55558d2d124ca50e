"""What commands do with the model they are given: read it, run it here. What its name may be is nerloop/models.py's."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nerloop.errors import BadInput
from nerloop.loop import Loop
from nerloop.models import Model, load_model
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.predictor import Predictor

MODEL_HELP = "A checkpoint's directory, `lac`, a registered version such as medical-v7, or a ModelScope id."


def open_model(source: str, settings: Settings, console: Console) -> Model:
    """Read a model, every file's sum checked; raises what names the file or says what `source` may be."""
    with console.status(f"Reading {source} …"):
        return load_model(source, Loop(settings))


def open_predictor(model: Model, settings: Settings, console: Console, *, exact: bool = False) -> "Predictor":
    """Return what labels texts with a model on the fastest runtime of this machine; `exact` leaves out bf16 and int8.

    The first time the runtimes are timed, which takes seconds, and half a minute for BERT-base.
    """
    from nerloop.predictor import Predictor
    from nerloop.runtime import fastest, graphs_folder, set_threads

    with console.status("Choosing the fastest runtime of this machine (once a model) …"):
        folder = graphs_folder(settings.model_cache, model.tagger)
        runtime, _ = fastest(model.tagger, () if exact else model.admitted, folder)
    set_threads(model.tagger.encoder.kind)
    return Predictor(model.tagger, model.source, runtime=runtime)


def refuse_existing(output: Path, option: str) -> None:
    """Raise `BadInput` where a directory that is to be written is there already."""
    if output.exists() or output.is_symlink():
        raise BadInput(f"{option} {output}: exists already; choose another name, or remove it first")
