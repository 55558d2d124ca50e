"""Which tagger fine-tuning starts from. Owns the choice between the starter and a given directory."""

from pathlib import Path

from nerloop import checkpoint
from nerloop.errors import BadInput
from nerloop.starter import fresh_starter
from nerloop.tagger import Tagger

STARTER = "lac"


def load_base(source: str) -> Tagger:
    """Return a trainable copy of the base: `lac`, or the path of one of our checkpoints or of a RaNER directory.

    Raises `BadInput` when there is no such directory.
    """
    if source == STARTER:
        return fresh_starter()
    folder = Path(source)
    if not folder.is_dir():
        raise BadInput(f"base model {source!r}: no such directory; give a path, or {STARTER!r} for the starter")
    if (folder / checkpoint.DESCRIPTION).exists():
        return checkpoint.load(folder)
    return checkpoint.read_raner(folder)
