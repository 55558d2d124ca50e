"""From texts to entities with calibrated confidence. Owns batching and windows; knows no server and no training.

A text longer than the encoder reads at once is read in overlapping windows; the tag scores of each unit come from the
window that sees most around it, and the CRF runs once over the whole text. So no entity is cut by a window.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nerloop.crf import Marginals, SpanPath
from nerloop.documents import Document, Entity, Prediction, Uncertainty
from nerloop.evaluation import Evaluation, evaluate
from nerloop.runtime import TOKENS_A_BATCH, Runtime, TorchRuntime
from nerloop.tagger import Tagger
from nerloop.tagging import TagSet
from nerloop.tokenizer import Tokens

WINDOW_OVERLAP = 100  # units that two windows share, where that is no more than half of one
CRF_BUDGET = 2**21  # tag scores a CRF batch, 16 MB in float64: steps of the CRF cost the same for many texts as for one


@dataclass(frozen=True)
class Window:
    """Units `[start, end)` of a text, of which `[own_start, own_end)` are this window's to score."""

    text: int
    start: int
    end: int
    own_start: int
    own_end: int


class Predictor:
    """Labels texts of any length with one tagger. Safe to call from several threads."""

    def __init__(
        self,
        tagger: Tagger,
        model_version: str,
        labels: Mapping[str, str] | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        """`labels` maps the tagger's labels to the caller's; labels it leaves out are not shown. None keeps all.

        `runtime` computes the tag scores; None is plain torch on the tagger itself.
        """
        self.tagger = tagger.eval()
        self.model_version = model_version
        self.runtime = runtime or TorchRuntime(tagger)
        self._labels = {label: label for label in tagger.decoder.labels} if labels is None else dict(labels)
        # The CRF's many small steps run on the CPU, wherever the encoder is.
        self._crf = tagger.crf if tagger.linear.weight.device.type == "cpu" else copy.deepcopy(tagger.crf).cpu()
        self._merges = torch.stack([_merge(layer) for layer in tagger.decoder.layers])

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels the tagger knows, under its own names."""
        return self.tagger.decoder.labels

    def with_labels(self, labels: Mapping[str, str]) -> "Predictor":
        """Return a predictor on the same weights that shows other label names."""
        return Predictor(self.tagger, self.model_version, labels, self.runtime)

    @torch.inference_mode()
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Label texts; one prediction a text, in order. Offsets refer to the text exactly as given."""
        tokens = [self.tagger.encoder.tokenizer.tokenize(text) for text in texts]
        return self.decode(tokens, self.emissions(tokens))

    @torch.inference_mode()
    def decode(self, tokens: Sequence[Tokens], emissions: Sequence[Tensor]) -> list[Prediction]:
        """Return the predictions for the tag scores of texts, at the tagger's present temperature."""
        predictions: list[Prediction] = [_nothing(self.model_version)] * len(tokens)
        order = sorted((number for number, text in enumerate(tokens) if text.heads), key=lambda n: len(tokens[n].heads))
        for batch in _batches(order, [emission.numel() for emission in emissions], CRF_BUDGET):
            found = self._decode([tokens[number] for number in batch], [emissions[number] for number in batch])
            for number, prediction in zip(batch, found, strict=True):
                predictions[number] = prediction
        return predictions

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the encoder's mean vector of each text [len(texts), hidden_size], of a long one that of its beginning.

        That of an empty text is 0.
        """
        encoder = self.tagger.encoder
        device = self.tagger.linear.weight.device
        limit = encoder.max_tokens
        tokens = [encoder.tokenizer.tokenize(text) for text in texts]
        pieces = {n: text.cut(0, last_unit(text, 0, limit), limit) for n, text in enumerate(tokens) if text.heads}
        found = torch.zeros(len(texts), encoder.hidden_size)
        sizes = [len(pieces[number].ids) if number in pieces else 0 for number in range(len(texts))]
        for numbers in _batches(sorted(pieces, key=sizes.__getitem__), sizes, TOKENS_A_BATCH[encoder.kind]):
            batch = encoder.collate([pieces[number] for number in numbers]).to(device)
            real = torch.arange(batch.ids.size(1), device=device) < batch.sizes[:, None]
            summed = (encoder(batch.ids, batch.sizes) * real[..., None]).sum(1)
            found[numbers] = (summed / batch.sizes[:, None]).float().cpu()
        return found

    @torch.inference_mode()
    def emissions(self, tokens: Sequence[Tokens]) -> list[Tensor]:
        """Return the tag scores [N, L, K] of each text."""
        layers = self.tagger.decoder.layers
        scores = [torch.empty(len(layers), len(text.heads), len(layers[0].tags)) for text in tokens]
        limit = self.tagger.encoder.max_tokens
        windows = [window for number, text in enumerate(tokens) for window in windows_of(number, text, limit)]
        pieces = [tokens[window.text].cut(window.start, window.end, limit) for window in windows]
        order = sorted(range(len(windows)), key=lambda number: len(pieces[number].ids))
        sizes = [len(piece.ids) for piece in pieces]
        for batch in _batches(order, sizes, self.runtime.tokens_a_batch):
            found = self.runtime.emissions(self.tagger.encoder.collate([pieces[number] for number in batch]))
            for row, number in enumerate(batch):
                window = windows[number]
                own = slice(window.own_start - window.start, window.own_end - window.start)
                scores[window.text][:, window.own_start : window.own_end] = found[:, row, own]
        return scores

    def _decode(self, tokens: Sequence[Tokens], scores: Sequence[Tensor]) -> Iterator[Prediction]:
        """Run the CRF over texts of at least one unit each."""
        tagger, crf = self.tagger, self._crf
        lengths = torch.tensor([len(text.heads) for text in tokens])
        emissions = scores[0].new_zeros(scores[0].size(0), len(tokens), int(lengths.max()), scores[0].size(2))
        for row, score in enumerate(scores):
            emissions[:, row, : score.size(1)] = score
        best = crf.decode(emissions, lengths)
        marginals = crf.marginals(emissions, lengths, tagger.temperature)
        tags = marginals.tags()
        real = torch.arange(tags.size(2)) < lengths[:, None]
        entropy = (-(tags * tags.clamp_min(1e-12).log()).sum(-1) * real).sum((0, 2)) / lengths
        first, second = (tags @ self._merges[:, None]).topk(2).values.unbind(-1)
        label_log = (first.clamp(1e-12, 1.0).log() * real).sum((0, 2))
        margin = (first - second).where(real, torch.ones(())).amin((0, 2))
        path_log = (best.scores.double() / tagger.temperature - marginals.log_z).sum(0).clamp_max(0.0)
        entities = self._entities(tokens, best.tags.tolist(), marginals)
        for row, text in enumerate(tokens):
            length = len(text.heads)
            yield Prediction(
                entities[row],
                math.exp(float(label_log[row]) / math.sqrt(length)),
                self.model_version,
                Uncertainty(
                    1 - math.exp(float(path_log[row])),
                    float(path_log[row]) / length,
                    float(entropy[row]),
                    float(margin[row]),
                ),
            )

    def _entities(
        self, tokens: Sequence[Tokens], tags: list[list[list[int]]], marginals: Marginals
    ) -> list[tuple[Entity, ...]]:
        """Return the entities of the best tags (of layers of texts of units), each with its exact probability."""
        paths: list[SpanPath] = []
        owners: list[tuple[int, Entity]] = []
        for layer, tag_set in enumerate(self.tagger.decoder.layers):
            for row, text in enumerate(tokens):
                for entity in tag_set.decode(tags[layer][row][: len(text.heads)]):
                    if entity.label in self._labels:
                        paths.append(_path(tag_set, layer, row, entity))
                        owners.append((row, entity))
        found: list[dict[Entity, Entity]] = [{} for _ in tokens]
        for (row, entity), score in zip(owners, marginals.spans(paths), strict=True):
            start, end = tokens[row].spans[entity.start][0], tokens[row].spans[entity.end - 1][1]
            shown = Entity(start, end, self._labels[entity.label], round(score, 4))
            before = found[row].get(shown)  # the same span may stand in two layers of its label
            if before is None or (before.score or 0.0) < score:
                found[row][shown] = shown
        return [tuple(sorted(one.values())) for one in found]


def found_in(documents: Sequence[Document], predictor: Predictor) -> list[Document]:
    """Return the documents with what a predictor finds in their texts, whatever was labelled there."""
    predictions = predictor.predict([document.text for document in documents])
    return [
        Document(document.id, document.text, prediction.entities)
        for document, prediction in zip(documents, predictions, strict=True)
    ]


def score(predictor: Predictor, gold: Sequence[Document]) -> Evaluation:
    """Compare what a predictor finds in documents with their entities."""
    return evaluate(gold, found_in(gold, predictor))


def windows_of(number: int, text: Tokens, limit: int) -> Iterator[Window]:
    """Cut a text into windows of at most `limit` ids; neighbours share an overlap and halve its ownership."""
    units = len(text.heads)
    start = own_start = 0
    while start < units:
        end = last_unit(text, start, limit)
        overlap = window_overlap(end - start)
        own_end = units if end == units else end - overlap // 2
        yield Window(number, start, end, own_start, own_end)
        if end == units:
            return
        start, own_start = end - overlap, own_end


def window_overlap(units: int) -> int:
    """Return how many of a window's units its neighbour reads too."""
    return min(WINDOW_OVERLAP, units // 2)


def last_unit(text: Tokens, start: int, limit: int) -> int:
    """Return the end of the longest window from `start` whose ids stay within the limit; at least one unit."""
    end = min(len(text.heads), start + limit)
    while end > start + 1 and (text.heads[end] if end < len(text.heads) else len(text.ids)) - text.heads[start] > limit:
        end -= 1
    return end


def _batches(order: Sequence[int], sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield runs of `order`, which ascends in size, whose padded size stays within the budget."""
    batch: list[int] = []
    for number in order:
        if batch and (len(batch) + 1) * sizes[number] > budget:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _nothing(model_version: str) -> Prediction:
    return Prediction((), 1.0, model_version, Uncertainty(0.0, 0.0, 0.0, 1.0))


def _path(tag_set: TagSet, layer: int, row: int, entity: Entity) -> SpanPath:
    length = entity.end - entity.start

    def tag(kind: str) -> int | None:
        return tag_set.id_of(f"{kind}-{entity.label}")

    begin, inside, end, single = tag("B"), tag("I"), tag("E"), tag("S")
    kinds = [begin, *[inside] * (length - 1)] if end is None else [begin, *[inside] * (length - 2), end]
    if length == 1:
        kinds = [begin if single is None else single]
    path = tuple(kind for kind in kinds if kind is not None)
    return SpanPath(layer, row, entity.start, path, inside if end is None else None)


def _merge(layer: TagSet) -> Tensor:
    """Return the matrix [K, K] that sums the probabilities of a label's tags (no label is one too) in columns."""
    names = ["", *layer.labels]
    merge = torch.zeros(len(layer.tags), len(layer.tags), dtype=torch.float64)
    for row, tag in enumerate(layer.tags):
        label = tag.partition("-")[2]
        merge[row, names.index(label) if label in layer.labels else 0] = 1
    return merge
