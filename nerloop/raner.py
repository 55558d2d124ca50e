"""RaNER directories in ModelScope's layout: reading them, and the same files for a checkpoint of ours.

configuration.json  what ModelScope builds: `transformer-crf`, one character one token
config.json         the encoder, with label2id
label_mapping.json  tag → row
pytorch_model.bin   `encoder.* linear.* crf.*`, the keys of the published models, which every release can read;
                    read from model.safetensors where only that is there
vocab.txt, …        the tokenizer

Three forms of keys exist: published (`linear.* crf.*`), saved by ModelScope (`head.linear.* head.crf.*`), and
AdaSeq's (`embedder.transformer_model.*`).
"""

import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nerloop.documents import check_label
from nerloop.encoder import GruEncoder, TransformerEncoder
from nerloop.errors import BadInput
from nerloop.tagger import Tagger, weights_of
from nerloop.tagging import OUTSIDE, Decoder, TagSet
from nerloop.tokenizer import SubwordTokenizer

WEIGHTS = "pytorch_model.bin"
SAFETENSORS = "model.safetensors"
LFS_POINTER = b"version https://git-lfs"
# What the two readers raise at a damaged file, torch's most of it.
DAMAGED = (
    *(OSError, EOFError, LookupError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError),
    *(struct.error, pickle.UnpicklingError, SafetensorError),
)
# The letters by which BMES and BILOU name what BIOES calls I, E and S.
BIOES_OF = {"M": "I", "L": "E", "U": "S"}
CONTEXT = "X"  # what RaNER was trained to say of retrieved text behind the sentence
ENTITY_KINDS = {*"BIES", *BIOES_OF}
SCHEMES = "read are O and B- I- E- S- with a label, in the schemes BIOES, BILOU, BMES and BIO"
MODEL_TYPES = {"bert": "bert", "structbert": "bert", "sbert": "bert", "xlm-roberta": "xlm-roberta"}


def read_raner(folder: Path) -> Tagger:
    """Read a RaNER directory; raises `BadInput` naming the missing file or key. Nothing in it is executed."""
    config = read_json(folder / "config.json")
    configuration = read_json(folder / "configuration.json") if (folder / "configuration.json").exists() else {}
    stated = str(config.get("model_type", "bert"))
    if stated not in MODEL_TYPES:
        raise BadInput(f"{folder}/config.json: model_type {stated!r} is not read; known are {', '.join(MODEL_TYPES)}")
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    config["model_type"] = MODEL_TYPES[stated]
    tags = _tags(folder, config, configuration)
    labels = tuple(sorted({tag.partition("-")[2] for tag in tags} - {""}))
    split = bool(_part(configuration, "preprocessor").get("is_split_into_words", False))
    tokenizer = SubwordTokenizer.read(folder, config["model_type"], split_into_characters=split)
    rows = config.get("vocab_size")
    if isinstance(rows, int) and tokenizer.rows > rows:
        raise BadInput(
            f"{folder}: the tokenizer has {tokenizer.rows} entries, config.json's vocab_size {rows}; the two are of "
            "different models: fetch the directory again"
        )
    source = folder / (WEIGHTS if (folder / WEIGHTS).exists() else SAFETENSORS)
    weights = read_weights(source)
    try:
        tagger = Tagger(TransformerEncoder(tokenizer, encoder_config(config)), Decoder("flat", (TagSet(tags, labels),)))
        missing, unexpected = tagger.load_state_dict(_our_keys(weights), strict=False)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise BadInput(f"{folder}: config.json, {source.name} and the labels do not fit together: {error}") from None
    lacking = [name for name in missing if ".pooler." not in name]
    if lacking or unexpected:
        raise BadInput(f"{source}: keys missing {lacking[:3]}, unexpected {unexpected[:3]}")
    return tagger.eval()


def raner_files(tagger: Tagger) -> dict[str, bytes]:
    """Return the JSON and tokenizer files of a checkpoint, which say how to read its weights."""
    tags = [tag for layer in tagger.decoder.layers for tag in layer.tags]
    label2id = {tag: row for row, tag in enumerate(tags)} if tagger.decoder.kind == "flat" else {}
    stock = isinstance(tagger.encoder, TransformerEncoder) and tagger.decoder.kind == "flat"
    config = {**tagger.encoder.config, "label2id": label2id, "id2label": {row: tag for tag, row in label2id.items()}}
    if isinstance(tagger.encoder, GruEncoder):
        config = {"model_type": GruEncoder.kind, **config}
    configuration = {
        "framework": "pytorch",
        "task": "named-entity-recognition",
        "model": {"type": "transformer-crf" if stock else f"nerloop-{tagger.encoder.kind}-{tagger.decoder.kind}"},
        "pipeline": {"type": "named-entity-recognition"},
        "preprocessor": {
            "type": "sequence-labeling-tokenizer",
            "is_split_into_words": tagger.encoder.tokenizer.split_into_characters,
        },
    }
    parts = {"configuration.json": configuration, "config.json": config, "label_mapping.json": label2id}
    texts = {name: json.dumps(part, ensure_ascii=False, indent=1).encode() for name, part in parts.items()}
    return {**tagger.encoder.tokenizer.files, **texts}


def published_keys(tagger: Tagger) -> dict[str, Tensor]:
    """Return a tagger's weights under the keys of the published models, which serve in ModelScope's pipeline too."""
    flat = tagger.decoder.kind == "flat"
    return {
        name.replace("encoder.model.", "encoder.", 1): (
            tensor.squeeze(0) if flat and name.startswith("crf.") else tensor
        ).contiguous()
        for name, tensor in weights_of(tagger).items()
    }


def load_published(tagger: Tagger, weights: Mapping[str, Tensor]) -> None:
    """Give a tagger the weights that `published_keys` named, uncopied; raises `RuntimeError` where they do not fit."""
    ours = _our_keys(weights, of_transformer=isinstance(tagger.encoder, TransformerEncoder))
    tagger.load_state_dict(ours, assign=True)


def encoder_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of config.json that builds the encoder."""
    return {key: value for key, value in config.items() if key not in {"label2id", "id2label"}}


def read_weights(path: Path, *, mapped: bool = False) -> dict[str, Tensor]:
    """Read tensors, and only tensors; raises `BadInput` naming the file.

    `mapped`: the file is one of ours, which never changes. It is mapped into memory, so that weights that another
    runtime has a copy of take none.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except FileNotFoundError:
        raise BadInput(f"{path.parent} is not a RaNER directory: {WEIGHTS} or {SAFETENSORS} is missing") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check permissions") from None
    if start == LFS_POINTER:
        raise BadInput(
            f"{path}: is a pointer of Git LFS, not the weights; fetch the real file (`git lfs pull` or `modelscope "
            "download`)"
        )
    if not start:
        raise BadInput(f"{path}: is empty; fetch the directory again")
    try:
        weights: dict[str, Tensor] = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        )
    except DAMAGED:  # without torch's words, which advise to run what is in there
        raise BadInput(
            f"{path}: cannot be read; it is damaged or holds more than tensors (a whole model, say), which could run "
            "code; fetch the directory again, or save the model's state_dict() there"
        ) from None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise BadInput(f"{path}: holds something other than named tensors; fetch the directory again")
    return weights


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises `BadInput` naming the file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path.parent} is not a RaNER directory: {path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); fetch the directory again") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: is not a JSON object")
    return found


def _tags(folder: Path, config: Mapping[str, Any], configuration: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tags in the order of their rows, from the first place ModelScope would look at that has them."""
    mapping = folder / "label_mapping.json"
    found: list[Mapping[str, Any]] = [read_json(mapping)] if mapping.exists() else []
    for place in (_part(configuration, "model"), _part(configuration, "preprocessor"), config):
        found += [_part(place, "label2id"), {str(tag): row for row, tag in _part(place, "id2label").items()}]
    label2id = next(filter(None, found), None)
    if label2id is None:
        raise BadInput(f"{folder}: no label2id in label_mapping.json, configuration.json or config.json")
    tag_of = {str(row): tag for tag, row in label2id.items()}  # some files write the numbers as strings
    tags = tuple(tag_of.get(str(row), "") for row in range(len(label2id)))
    if "" in tags:
        raise BadInput(f"{folder}: label2id does not number its {len(tags)} tags 0 to {len(tags) - 1}")
    return _as_bioes(folder, tags)


def _as_bioes(folder: Path, tags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags under the names of BIOES, which is what a checkpoint made from them has too.

    Tags of padding and context (`<PAD>`, `[CLS]`, `X`) mark nothing, like O. Raises `BadInput` naming the tag that is
    of no scheme that is read.
    """
    if OUTSIDE not in tags:
        raise BadInput(f"{folder}: label2id has no tag {OUTSIDE!r}; {SCHEMES}")
    ours: dict[str, str] = {}
    for tag in tags:
        kind, _, label = tag.partition("-")
        is_entity = tag not in {OUTSIDE, CONTEXT} and tag[0] not in "<["
        name = f"{BIOES_OF.get(kind, kind)}-{label}" if is_entity else tag
        begun = kind in {"B", "S", "U"} or f"B-{label}" in tags
        if is_entity and (kind not in ENTITY_KINDS or not label or not begun):
            raise BadInput(f"{folder}: the tag {tag!r} of label2id is not read; {SCHEMES}")
        try:
            check_label(label or tag)
        except BadInput as error:
            raise BadInput(f"{folder}: label2id: {error}") from None
        if name in ours:
            raise BadInput(f"{folder}: the tags {ours[name]!r} and {tag!r} of label2id mean the same; {SCHEMES}")
        ours[name] = tag
    return tuple(ours)


def _part(configuration: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = configuration.get(name)
    return part if isinstance(part, Mapping) else {}


def _our_keys(weights: Mapping[str, Tensor], *, of_transformer: bool = True) -> dict[str, Tensor]:
    """Rename the keys of all three forms to those of `Tagger`."""
    renamed = {}
    for key, tensor in weights.items():
        name = key.removeprefix("head.").replace("embedder.transformer_model.", "encoder.", 1)
        if name.endswith("embeddings.position_ids"):
            continue
        if of_transformer:
            name = name.replace("encoder.", "encoder.model.", 1) if name.startswith("encoder.") else name
            name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        one_layer = tensor.dim() == (2 if name == "crf.transitions" else 1)
        renamed[name] = tensor[None] if name.startswith("crf.") and one_layer else tensor
    return renamed
