"""Which tagger fine-tuning starts from. Owns the choice between the starter, a directory and ModelScope's hub."""

from dataclasses import dataclass
from pathlib import Path

from nerloop import checkpoint, hub
from nerloop.errors import BadInput
from nerloop.starter import fresh_starter
from nerloop.tagger import Tagger

STARTER = "lac"


@dataclass(frozen=True)
class Base:
    """A tagger that may be trained, where it came from, and its revision where it came from the hub."""

    tagger: Tagger
    source: str
    revision: str = ""


def load_base(source: str, cache: Path) -> Base:
    """Return a trainable copy of `lac`, of a checkpoint or RaNER directory, or of a model on ModelScope's hub.

    An id is `group/name` or `group/name@revision`; what the hub sends is kept in `cache` and never asked for again.
    Raises `BadInput` where the source is none of these, `HubError` where the hub does not deliver.
    """
    if source == STARTER:
        return Base(fresh_starter(), STARTER)
    if Path(source).is_dir():
        return Base(checkpoint.load(Path(source)).tagger, source)
    wanted = hub.parse_id(source)
    if wanted is None:
        raise BadInput(
            f"base model {source!r}: no such directory and no ModelScope id; give a path, an id such as "
            f"iic/nlp_raner_named-entity-recognition_chinese-base-news, or {STARTER!r} for the starter"
        )
    return Base(checkpoint.load(hub.fetch(source, cache)).tagger, wanted.repository, wanted.revision)
