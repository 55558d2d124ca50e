"""A tagger on disk: ModelScope's layout and `nerloop.json`. Owns writing, reading and the sums of the files.

nerloop.json holds what the layout cannot say: base, decoder, temperature, thresholds, how it was made, the files' sums.
RaNER's own files are raner.py's. Loading never executes anything from a checkpoint.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from nerloop.durable import to_disk
from nerloop.encoder import Encoder, GruEncoder, TransformerEncoder
from nerloop.errors import BadInput, CheckpointCorrupt
from nerloop.predictor import window_overlap
from nerloop.raner import (
    WEIGHTS,
    encoder_config,
    load_published,
    published_keys,
    raner_files,
    read_json,
    read_raner,
    read_weights,
)
from nerloop.tagger import Tagger
from nerloop.tagging import Decoder, DecoderKind, TagSet
from nerloop.tokenizer import TOKENIZER_FILES, VOCABULARIES, VOCABULARY, CharacterVocabulary, SubwordTokenizer

FORMAT = 2
DESCRIPTION = "nerloop.json"
NEEDED = (WEIGHTS, "config.json", "configuration.json")
DESCRIPTION_KEYS = ("format", "decoder", "layers", "temperature", "made_from", "files")


@dataclass(frozen=True)
class Provenance:
    """How a checkpoint came to be.

    `base` and its `revision` on the hub, `dataset_fingerprint` of the documents it saw, `metrics` on held-out ones;
    `admitted` names the inexact runtimes that may serve it, with the figures that admitted them, and `refused` the
    others, with the sentence that says why (see admission.py).
    """

    base: str
    dataset_fingerprint: str
    metrics: dict[str, float] = field(default_factory=dict)
    revision: str = ""
    admitted: dict[str, dict[str, float]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read; `provenance` is None for a directory that is not ours."""

    folder: Path
    tagger: Tagger
    provenance: Provenance | None


def save(tagger: Tagger, provenance: Provenance, folder: Path) -> None:
    """Write a checkpoint to `folder`, which must not exist: complete under another name, read back, then renamed.

    Raises `BadInput` when the disk refuses (full, read-only) or what was read back differs.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        weights, limit = published_keys(tagger), tagger.encoder.max_tokens
        torch.save(weights, partial / WEIGHTS)
        for name, content in raner_files(tagger).items():
            (partial / name).write_bytes(content)
        description = {
            "format": FORMAT,
            "decoder": tagger.decoder.kind,
            "layers": [{"tags": layer.tags, "labels": layer.labels} for layer in tagger.decoder.layers],
            "temperature": tagger.temperature,
            "thresholds": tagger.thresholds,
            "windows": {"tokens": limit, "overlap": window_overlap(limit)},
            "made_from": asdict(provenance),
            "files": {path.name: _sha256(path) for path in sorted(partial.iterdir())},
        }
        (partial / DESCRIPTION).write_text(json.dumps(description, ensure_ascii=False, indent=1), encoding="utf-8")
        again = published_keys(load(partial).tagger)
        if any(not torch.equal(weights[name].cpu(), again[name]) for name in weights):
            raise BadInput(f"cannot write the checkpoint {folder}: what was read back differs; check the disk")
        to_disk(*partial.iterdir(), partial)
        partial.rename(folder)
        to_disk(folder.parent)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's words for a full disk
        raise BadInput(
            f"cannot write the checkpoint {folder}: {error}; free disk space or check permissions"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(folder: Path) -> Checkpoint:
    """Read one of our checkpoints, after checking every file's sha256, or a RaNER directory.

    Raises `CheckpointCorrupt` or `BadInput` naming the file.
    """
    if not (folder / DESCRIPTION).exists() and not (folder / VOCABULARY).exists():
        return Checkpoint(folder, read_raner(folder), None)
    description = verify(folder)
    try:
        if description["decoder"] not in get_args(DecoderKind):
            raise ValueError(f"decoder {description['decoder']!r} is not known")
        layers = tuple(TagSet(tuple(layer["tags"]), tuple(layer["labels"])) for layer in description["layers"])
        decoder = Decoder(description["decoder"], layers)
        tagger = Tagger(_encoder(folder), decoder, float(description["temperature"]))
        hidden = description.get("thresholds", {})  # checkpoints of before there were any
        tagger.thresholds = {label: float(hidden[label]) for label in decoder.labels if label in hidden}
        load_published(tagger, read_weights(folder / WEIGHTS, mapped=True))
        provenance = Provenance(**description["made_from"])
    except (RuntimeError, LookupError, TypeError, ValueError, BadInput) as error:
        raise CheckpointCorrupt(f"{folder}: the files do not fit {DESCRIPTION}: {error}") from None
    return Checkpoint(folder, tagger.eval(), provenance)


def verify(folder: Path) -> dict[str, Any]:
    """Return the description of a complete checkpoint, which vouches for every file that is read of it.

    Raises `CheckpointCorrupt` naming what is missing, differs, or would be read though the description lacks its sum.
    """
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointCorrupt(f"{folder}: {DESCRIPTION} is missing; this is not a complete checkpoint") from None
    except ValueError as error:
        raise CheckpointCorrupt(f"{folder}: {DESCRIPTION} is not valid JSON ({error})") from None
    if not isinstance(description, dict):
        raise CheckpointCorrupt(f"{folder}: {DESCRIPTION} is not a JSON object")
    if description.get("format") != FORMAT:
        raise CheckpointCorrupt(f"{folder}: format {description.get('format')!r}; this program reads format {FORMAT}")
    missing = [key for key in DESCRIPTION_KEYS if key not in description]
    if missing:
        raise CheckpointCorrupt(f"{folder}: {DESCRIPTION} lacks {', '.join(missing)}")
    files = description["files"]
    needed = [name for name in NEEDED if not isinstance(files, dict) or name not in files]
    if needed or not files.keys() & {VOCABULARY, *VOCABULARIES}:
        raise CheckpointCorrupt(
            f"{folder}: {DESCRIPTION} does not list {', '.join(needed) or 'a vocabulary'}; fetch it again"
        )
    for name in (VOCABULARY, *TOKENIZER_FILES):
        if name not in files and (folder / name).exists():
            raise CheckpointCorrupt(f"{folder}: {name} is not among the files of {DESCRIPTION}; remove it")
    for name, digest in files.items():
        path = folder / Path(name).name
        if not path.is_file() or _sha256(path) != digest:
            raise CheckpointCorrupt(f"{folder}: {name} is missing or its sha256 differs from {DESCRIPTION}")
    return description


def _encoder(folder: Path) -> Encoder:
    config = encoder_config(read_json(folder / "config.json"))
    if config["model_type"] == GruEncoder.kind:
        del config["model_type"]
        rows = read_json(folder / VOCABULARY)
        return GruEncoder(CharacterVocabulary(rows), **config)
    split = bool(read_json(folder / "configuration.json")["preprocessor"]["is_split_into_words"])
    tokenizer = SubwordTokenizer.read(folder, config["model_type"], split_into_characters=split)
    from transformers.modeling_utils import no_init_weights

    with no_init_weights():  # random numbers for 100 million weights that are read next take a second
        return TransformerEncoder(tokenizer, config)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
