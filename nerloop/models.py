"""Which model a name means: the starter, a directory, a registered version or one on ModelScope's hub. Owns reading it.

The names are those of `--model` and `--base` of every command and of NERLOOP_BASE_MODEL. Loads torch only to read one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nerloop import hub
from nerloop.errors import BadInput, HubError, RegistryError
from nerloop.loop import Loop
from nerloop.versions import version_named

if TYPE_CHECKING:
    from nerloop.checkpoint import Provenance
    from nerloop.tagger import Tagger

STARTER = "lac"


@dataclass(frozen=True)
class Model:
    """A model that was read, which nobody else holds, so that it may be trained; and where it came from.

    `revision` is that on the hub, with a sum of the weights where none was pinned; `folder` is None for the starter,
    `provenance` for what is no checkpoint of ours.
    """

    source: str
    tagger: "Tagger"
    folder: Path | None = None
    provenance: "Provenance | None" = None
    revision: str = ""

    @property
    def admitted(self) -> dict[str, dict[str, float]]:
        """The inexact runtimes that may serve it, with the figures that admitted them."""
        return self.provenance.admitted if self.provenance else {}


def load_model(source: str, loop: Loop) -> Model:
    """Read a new copy of a model, every file's sum checked.

    Raises `BadInput` where the name is none, `CheckpointCorrupt` naming the file, `RegistryError` or `HubError` where a
    version or a hub's model cannot be fetched.
    """
    from nerloop import checkpoint
    from nerloop.starter import fresh_starter
    from nerloop.tagger import weights_key

    if source == STARTER:
        return Model(source, fresh_starter())
    found = checkpoint.load(find_folder(source, loop))
    wanted = None if Path(source).is_dir() else hub.parse_id(source)
    if wanted is None:
        return Model(source, found.tagger, found.folder, found.provenance)
    revision = wanted.revision
    if revision == hub.DEFAULT_REVISION:  # a branch moves, and the hub does not say where it is: what came is named
        revision += f" (weights {weights_key(found.tagger)})"
    return Model(wanted.repository, found.tagger, found.folder, found.provenance, revision)


def find_folder(source: str, loop: Loop) -> Path:
    """Return the directory of a model, downloaded once where it is a registered version or a ModelScope id.

    Raises `BadInput` for the starter, which has none, and for what names no model.
    """
    if Path(source).is_dir():
        return Path(source)
    if source == STARTER:
        raise BadInput(f"the starter has no directory; run `nerloop convert {STARTER} DIR` first and give DIR")
    version = version_named(source)
    if version is not None:
        return _registered(*version, loop)
    if hub.parse_id(source) is None or Path(source).exists():
        raise BadInput(
            f"model {source!r}: no such directory; give the path of a checkpoint or RaNER directory, {STARTER!r} for "
            "the starter, a registered version such as medical-v7, or a ModelScope id such as "
            "iic/nlp_raner_named-entity-recognition_chinese-base-news"
        )
    try:
        return hub.fetch(source, loop.settings.model_cache)
    except HubError as error:
        raise HubError(f"{source}: no such directory; as a ModelScope id: {error}") from None


def _registered(model: str, number: int, loop: Loop) -> Path:
    if not loop.settings.has_registry:
        raise RegistryError(
            f"model {model}-v{number}: no such directory, and no registered version: there is no registry in "
            f"{loop.settings.home}; set NERLOOP_HOME or NERLOOP_REGISTRY_URL as its loop has it"
        )
    try:
        return loop.registry.download(loop.registry.version(model, number), loop.settings.checkpoint_cache)
    except RegistryError as error:
        raise type(error)(f"model {model}-v{number}: no such directory, and as a registered version: {error}") from None
