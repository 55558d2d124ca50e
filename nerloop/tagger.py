"""The model: encoder → linear → CRF. Owns how its three parts fit; training and prediction are files of their own."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from nerloop.crf import Crf
from nerloop.encoder import Encoder
from nerloop.tagging import TagSet


class Tagger(nn.Module):
    """Scores tags for each character; `temperature` divides all CRF weights when confidence is computed."""

    def __init__(self, encoder: Encoder, tag_set: TagSet, temperature: float = 1.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.tag_set = tag_set
        self.temperature = temperature
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(encoder.hidden_size, len(tag_set.tags))
        self.crf = Crf(tag_set)

    def emissions(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return tag scores [B, L, K] in fp32."""
        scores: Tensor = self.linear(self.dropout(self.encoder(ids, lengths)))
        return scores.float()

    def loss(self, ids: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of the tags."""
        return self.crf.negative_log_likelihood(self.emissions(ids, lengths), tags, lengths)


def adapt(base: Tagger, labels: Iterable[str], shown_as: Mapping[str, str] | None = None) -> Tagger:
    """Return a tagger for `labels` on the encoder of `base`, with the rows of labels that `base` knows kept.

    E- and S- rows a BIO base lacks are taken from its I- and B- rows; the O row is the mean of all rows that mean
    "no entity". Rows of unknown labels start small and random, always the same. The encoder is shared, not copied.
    `shown_as` maps labels of the base to the names they have among `labels`.
    """
    tag_set = TagSet.bioes(labels)
    tagger = Tagger(base.encoder, tag_set)
    nn.init.normal_(tagger.linear.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(tagger.linear.bias)
    known_as = {shown: label for label, shown in (shown_as or {}).items()}
    with torch.no_grad():
        outside = [i for i, tag in enumerate(base.tag_set.tags) if tag.partition("-")[2] not in base.tag_set.labels]
        for row, tag in enumerate(tag_set.tags):
            sources = outside if tag == "O" else _rows_for(base.tag_set, tag, known_as)
            if sources:
                tagger.linear.weight[row] = base.linear.weight[sources].mean(0)
                tagger.linear.bias[row] = base.linear.bias[sources].mean(0)
    return tagger


def _rows_for(known: TagSet, tag: str, known_as: Mapping[str, str]) -> list[int]:
    kind, _, name = tag.partition("-")
    label = known_as.get(name, name)
    if label not in known.labels:
        return []
    stand_in = {"E": "I", "S": "B"}.get(kind, kind)
    row = known.id_of(f"{kind}-{label}")
    row = known.id_of(f"{stand_in}-{label}") if row is None else row
    return [] if row is None else [row]
