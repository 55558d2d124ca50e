"""A tagger on disk: weights, vocabulary and `nerloop.json`. Owns the format; loading never executes code from it.

model.safetensors   weights, tensors only
vocabulary.json     {character: row}
nerloop.json        encoder kind and config, tags, labels, temperature, facts of the training, sha256 of each file
"""

import hashlib
import json
import os
import pickle
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nerloop.encoder import Encoder, GruEncoder, TransformerEncoder
from nerloop.errors import BadInput, CheckpointCorrupt
from nerloop.tagger import Tagger
from nerloop.tagging import TagSet

FORMAT = 1
DESCRIPTION_KEYS = ("format", "encoder", "tags", "labels", "temperature", "training", "files")
WEIGHTS, VOCABULARY, DESCRIPTION = "model.safetensors", "vocabulary.json", "nerloop.json"


@dataclass(frozen=True)
class TrainingFacts:
    """How a checkpoint came to be: base, fingerprint of the documents it saw, metrics on dev and gate documents."""

    base: str
    dataset_fingerprint: str
    metrics: dict[str, float] = field(default_factory=dict)


def save(tagger: Tagger, facts: TrainingFacts, folder: Path) -> None:
    """Write a checkpoint to `folder`, which must not exist: complete under another name first, then renamed.

    Raises `BadInput` when the disk refuses (full, read-only).
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in tagger.state_dict().items()}, partial / WEIGHTS)
        (partial / VOCABULARY).write_text(json.dumps(tagger.encoder.vocabulary, ensure_ascii=False), encoding="utf-8")
        description = {
            "format": FORMAT,
            "encoder": {"kind": tagger.encoder.kind, "config": tagger.encoder.config},
            "tags": tagger.tag_set.tags,
            "labels": tagger.tag_set.labels,
            "temperature": tagger.temperature,
            "training": asdict(facts),
            "files": {name: _sha256(partial / name) for name in (WEIGHTS, VOCABULARY)},
        }
        (partial / DESCRIPTION).write_text(json.dumps(description, ensure_ascii=False, indent=1), encoding="utf-8")
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise BadInput(
            f"cannot write the checkpoint {folder}: {error}; free disk space or check permissions"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(folder: Path) -> Tagger:
    """Read a checkpoint after checking every file's sha256; raises `CheckpointCorrupt` naming the file."""
    description = verify(folder)
    vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
    encoder = _encoder(description["encoder"], vocabulary)
    tag_set = TagSet(tuple(description["tags"]), tuple(description["labels"]))
    tagger = Tagger(encoder, tag_set, float(description["temperature"]))
    try:
        tagger.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        raise CheckpointCorrupt(f"{folder}: {WEIGHTS} does not fit {DESCRIPTION}: {error}") from None
    return tagger.eval()


def verify(folder: Path) -> dict[str, Any]:
    """Return the description of a complete checkpoint; raises `CheckpointCorrupt` naming what is missing or differs."""
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointCorrupt(f"{folder}: {DESCRIPTION} is missing; this is not a complete checkpoint") from None
    except ValueError as error:
        raise CheckpointCorrupt(f"{folder}: {DESCRIPTION} is not valid JSON ({error})") from None
    if not isinstance(description, dict):
        raise CheckpointCorrupt(f"{folder}: {DESCRIPTION} is not a JSON object")
    missing = [key for key in DESCRIPTION_KEYS if key not in description]
    if missing:
        raise CheckpointCorrupt(f"{folder}: {DESCRIPTION} lacks {', '.join(missing)}")
    if description.get("format") != FORMAT:
        raise CheckpointCorrupt(f"{folder}: format {description.get('format')!r}; this program reads format {FORMAT}")
    for name in (WEIGHTS, VOCABULARY):
        path = folder / name
        if not path.is_file() or _sha256(path) != description["files"].get(name):
            raise CheckpointCorrupt(f"{folder}: {name} is missing or its sha256 differs from {DESCRIPTION}")
    return description


def read_raner(folder: Path) -> Tagger:
    """Read a RaNER directory in ModelScope's layout (BERT vocabulary; keys `encoder.* linear.* crf.*` or `head.*`).

    Raises `BadInput` naming the missing file or key.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        weights = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        label2id = config["label2id"]
    except (FileNotFoundError, KeyError) as error:
        raise BadInput(f"{folder} is not a RaNER directory: {error} is missing") from None
    except (ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(f"{folder}: a file cannot be read ({error}); fetch the directory again") from None
    vocabulary = {token: row for row, token in enumerate(lines) if token}
    kept = {k: v for k, v in config.items() if isinstance(v, (int, float, str)) and not k.startswith("_")}
    kept["model_type"] = "bert"  # StructBERT is BERT under another name
    tags = tuple(sorted(label2id, key=label2id.__getitem__))
    labels = tuple(sorted({tag.partition("-")[2] for tag in tags} - {""}))
    try:
        tagger = Tagger(TransformerEncoder(vocabulary, kept), TagSet(tags, labels))
        missing, unexpected = tagger.load_state_dict(_our_names(weights), strict=False)
    except (KeyError, RuntimeError) as error:
        raise BadInput(f"{folder}: vocab.txt, config.json and pytorch_model.bin do not fit together: {error}") from None
    lacking = [name for name in missing if ".pooler." not in name]
    if lacking or unexpected:
        raise BadInput(f"{folder}/pytorch_model.bin: keys missing {lacking[:3]}, unexpected {unexpected[:3]}")
    return tagger.eval()


def _our_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename ModelScope's and AdaSeq's keys: `head.linear.*` → `linear.*`, `encoder.*` → `encoder.model.*`."""
    renamed = {}
    for key, tensor in weights.items():
        name = key.removeprefix("head.").replace("embedder.transformer_model.", "encoder.", 1)
        if name.endswith("embeddings.position_ids"):
            continue
        renamed[f"encoder.model.{name.removeprefix('encoder.')}" if name.startswith("encoder.") else name] = tensor
    return renamed


def _encoder(description: dict[str, Any], vocabulary: dict[str, int]) -> Encoder:
    if description["kind"] == GruEncoder.kind:
        return GruEncoder(vocabulary, **description["config"])
    if description["kind"] == TransformerEncoder.kind:
        return TransformerEncoder(vocabulary, description["config"])
    raise CheckpointCorrupt(f"unknown encoder kind {description['kind']!r}; a newer version may have written it")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
