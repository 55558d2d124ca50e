"""The model: encoder → linear → CRF. Owns how its three parts fit; training and prediction are files of their own."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nerloop.crf import Crf
from nerloop.encoder import Batch, Encoder
from nerloop.tagging import OUTSIDE, Decoder, TagSet


class Tagger(nn.Module):
    """Scores the tags of each unit; `temperature` divides all CRF weights when confidence is computed.

    `thresholds` maps labels to the confidence up to which annotators are not shown them.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, temperature: float = 1.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.temperature = temperature
        self.thresholds: dict[str, float] = {}
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(encoder.hidden_size, sum(len(layer.tags) for layer in decoder.layers))
        self.crf = Crf(decoder.layers)

    def scores(self, ids: Tensor, sizes: Tensor) -> Tensor:
        """Return what the encoder and the linear layer say of each id, [B, T, N·K]."""
        scores: Tensor = self.linear(self.dropout(self.encoder(ids, sizes)))
        return scores

    def emissions(self, batch: Batch) -> Tensor:
        """Return the tag scores of each unit in each layer, [N, B, L, K] in fp32."""
        return self.by_unit(self.scores(batch.ids, batch.sizes), batch.heads)

    def by_unit(self, scores: Tensor, heads: Tensor) -> Tensor:
        """Pick each unit's scores [N, B, L, K] out of those of all ids [B, T, N·K]."""
        picked = scores.float().gather(1, heads[..., None].expand(-1, -1, scores.size(2)))
        return picked.view(*heads.shape, len(self.decoder.layers), -1).permute(2, 0, 1, 3)

    def forward(self, batch: Batch, tags: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of the tags [N, B, L]."""
        return self.crf.negative_log_likelihood(self.emissions(batch), tags, batch.lengths)


def weights_of(tagger: Tagger) -> dict[str, Tensor]:
    """Return the weights by name, with what the tag scheme forbids written out in those of the CRF.

    Nothing of ours reads those places, and training leaves them as they are; ModelScope's CRF masks none, and reads
    them.
    """
    start, pairs, end = (weight.detach() for weight in tagger.crf.weights())
    written = {"crf.start_transitions": start, "crf.transitions": pairs, "crf.end_transitions": end}
    return {**tagger.state_dict(), **written}


def weights_key(tagger: Tagger) -> str:
    """Return a name for a tagger's weights: the same weights, the same graphs."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights_of(tagger).items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def adapt(base: Tagger, decoder: Decoder, known_as: Mapping[str, str] | None = None) -> Tagger:
    """Return a tagger for a decoder's labels on the encoder of `base`, with the rows of labels that `base` knows kept.

    E- and S- rows a BIO base lacks are taken from its I- and B- rows; the O row is the mean of the rows that mean "no
    entity". CRF weights are kept between tags of a BIOES base. What is unknown starts small and random, always the
    same. The encoder is shared, not copied. `known_as` maps labels of the decoder to other names that the base has for
    them.
    """
    tagger = Tagger(base.encoder, decoder)
    nn.init.normal_(tagger.linear.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(tagger.linear.bias)
    known_as = known_as or {}
    known = _KnownRows(base.decoder)
    row = 0
    with torch.no_grad():
        for number, (depth, layer) in enumerate(_depths(decoder)):
            kept = {}
            for place, tag in enumerate(layer.tags):
                sources = known.sources(depth, tag, [known_as.get(label, label) for label in layer.labels], known_as)
                if sources:
                    tagger.linear.weight[row] = base.linear.weight[sources].mean(0)
                    tagger.linear.bias[row] = base.linear.bias[sources].mean(0)
                if len(sources) == 1:
                    kept[place] = known.place_in_bioes_layer(sources[0])
                row += 1
            _keep_transitions(tagger.crf, number, base.crf, {a: b for a, b in kept.items() if b is not None})
    return tagger


def _keep_transitions(crf: Crf, layer: int, base: Crf, kept: Mapping[int, tuple[int, int]]) -> None:
    """Copy the CRF weights of the tags in `kept` (place here → layer and place in the base)."""
    for here, (base_layer, there) in kept.items():
        crf.start_transitions[layer, here] = base.start_transitions[base_layer, there]
        crf.end_transitions[layer, here] = base.end_transitions[base_layer, there]
        for next_here, (next_layer, next_there) in kept.items():
            if next_layer == base_layer:
                crf.transitions[layer, here, next_here] = base.transitions[base_layer, there, next_there]


def _depths(decoder: Decoder) -> list[tuple[int, TagSet]]:
    """Return each layer with the number of layers of the same tags before it."""
    return [(decoder.layers[:number].count(layer), layer) for number, layer in enumerate(decoder.layers)]


class _KnownRows:
    """Where the linear layer of a base keeps the rows of a tag."""

    def __init__(self, base: Decoder) -> None:
        self._rows: dict[tuple[int, str, str], list[int]] = {}
        self._outside: list[int] = []
        self._places: list[tuple[int, int] | None] = []
        for number, (depth, layer) in enumerate(_depths(base)):
            is_bioes = set(layer.tags) == set(TagSet.bioes(layer.labels).tags)
            for place, tag in enumerate(layer.tags):
                row = len(self._places)
                self._places.append((number, place) if is_bioes else None)
                kind, _, label = tag.partition("-")
                if label in layer.labels:
                    self._rows[depth, kind, label] = [row]
                    continue
                self._outside.append(row)
                for known in layer.labels:
                    self._rows.setdefault((depth, OUTSIDE, known), []).append(row)

    def sources(self, depth: int, tag: str, labels: Sequence[str], known_as: Mapping[str, str]) -> list[int]:
        """Return the rows a tag starts from; `labels` are those of its layer under the base's names."""
        kind, _, name = tag.partition("-")
        if kind == OUTSIDE:
            found = {row for label in labels for row in self._rows.get((depth, OUTSIDE, label), ())}
            return sorted(found) or self._outside
        label = known_as.get(name, name)
        stand_in = {"E": "I", "S": "B"}.get(kind, kind)
        return self._rows.get((depth, kind, label)) or self._rows.get((depth, stand_in, label)) or []

    def place_in_bioes_layer(self, row: int) -> tuple[int, int] | None:
        """Return layer and place of a row, or None where the layer's tags are not BIOES."""
        return self._places[row]
