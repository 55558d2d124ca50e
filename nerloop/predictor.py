"""From texts to entities with calibrated confidence. Owns batching and windows; knows no server and no training."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from nerloop.crf import SpanPath
from nerloop.documents import Document, Entity, Prediction
from nerloop.encoder import pad
from nerloop.evaluation import Evaluation, evaluate
from nerloop.tagger import Tagger
from nerloop.tagging import TagSet

WINDOW_OVERLAP = 100
TOKENS_A_BATCH = {
    "gru": 8192,
    "transformer": 1024,
}  # BERT at 1,024 stays in cache: 0.80 of the GEMM peak, 0.49 at 4,096


@dataclass(frozen=True)
class _Window:
    """Characters `[start, end)` of a text, of which `[own_start, own_end)` are this window's to decide."""

    text: int
    start: int
    end: int
    own_start: int
    own_end: int


class Predictor:
    """Labels texts of any length with one tagger. Safe to call from several threads."""

    def __init__(self, tagger: Tagger, model_version: str, labels: Mapping[str, str] | None = None) -> None:
        """`labels` maps the tagger's labels to the caller's; labels it leaves out are not shown. None keeps all."""
        self.tagger = tagger.eval()
        self.model_version = model_version
        self._labels = {label: label for label in tagger.tag_set.labels} if labels is None else dict(labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels the tagger knows, under its own names."""
        return self.tagger.tag_set.labels

    def with_labels(self, labels: Mapping[str, str]) -> "Predictor":
        """Return a predictor on the same weights that shows other label names."""
        return Predictor(self.tagger, self.model_version, labels)

    @torch.inference_mode()
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Label texts; one prediction a text, in order. Offsets refer to the text exactly as given."""
        entities: list[list[Entity]] = [[] for _ in texts]
        doubts = [0.0 for _ in texts]
        for batch in self._batches(texts):
            for window, found, doubt in self._label(texts, batch):
                entities[window.text].extend(found)
                doubts[window.text] += doubt
        return [
            Prediction(
                tuple(_without_overlap(found)), math.exp(doubt / math.sqrt(max(1, len(text)))), self.model_version
            )
            for text, found, doubt in zip(texts, entities, doubts, strict=True)
        ]

    def _batches(self, texts: Sequence[str]) -> Iterator[list[_Window]]:
        """Yield windows of similar length whose padded size stays within the token budget."""
        encoder = self.tagger.encoder
        windows = [
            window
            for number, text in enumerate(texts)
            for window in _windows(number, len(text), encoder.max_characters)
        ]
        batch: list[_Window] = []
        for window in sorted(windows, key=lambda w: w.end - w.start):
            if batch and (len(batch) + 1) * (window.end - window.start) > TOKENS_A_BATCH[encoder.kind]:
                yield batch
                batch = []
            batch.append(window)
        if batch:
            yield batch

    def _label(self, texts: Sequence[str], windows: Sequence[_Window]) -> Iterator[tuple[_Window, list[Entity], float]]:
        tagger = self.tagger
        ids, lengths = pad([tagger.encoder.ids(texts[w.text][w.start : w.end]) for w in windows])
        emissions = tagger.emissions(ids, lengths)
        found = [tagger.tag_set.decode(row) for row in tagger.crf.decode(emissions, lengths)]
        marginals = tagger.crf.marginals(emissions, lengths, tagger.temperature)
        owned = [
            (row, entity)
            for row, (window, row_entities) in enumerate(zip(windows, found, strict=True))
            for entity in row_entities
            if window.own_start <= window.start + entity.start < window.own_end and entity.label in self._labels
        ]
        scores = marginals.spans([_path(tagger.tag_set, row, entity) for row, entity in owned])
        label_log = _label_log_probability(marginals.tags(), tagger.tag_set)
        shown: list[list[Entity]] = [[] for _ in windows]
        for (row, entity), score in zip(owned, scores, strict=True):
            offset = windows[row].start
            shown[row].append(
                Entity(entity.start + offset, entity.end + offset, self._labels[entity.label], round(score, 4))
            )
        for row, window in enumerate(windows):
            own = label_log[row, window.own_start - window.start : window.own_end - window.start]
            yield window, shown[row], float(own.sum())


def score(predictor: Predictor, gold: Sequence[Document]) -> Evaluation:
    """Compare what a predictor finds in documents with their entities."""
    predictions = predictor.predict([document.text for document in gold])
    return evaluate(gold, [Document("", "", prediction.entities) for prediction in predictions])


def _windows(text: int, length: int, limit: int) -> Iterator[_Window]:
    """Cut a text into windows of at most `limit` characters; neighbours share an overlap and halve its ownership."""
    if not length:
        return
    overlap = min(WINDOW_OVERLAP, limit // 2)
    start = own_start = 0
    while True:
        end = min(length, start + limit)
        own_end = length if end == length else end - overlap // 2
        yield _Window(text, start, end, own_start, own_end)
        if end == length:
            return
        start, own_start = end - overlap, own_end


def _path(tag_set: TagSet, row: int, entity: Entity) -> SpanPath:
    length = entity.end - entity.start

    def tag(kind: str) -> int | None:
        return tag_set.id_of(f"{kind}-{entity.label}")

    begin, inside, end, single = tag("B"), tag("I"), tag("E"), tag("S")
    kinds = [begin, *[inside] * (length - 1)] if end is None else [begin, *[inside] * (length - 2), end]
    if length == 1:
        kinds = [begin if single is None else single]
    return SpanPath(
        row, entity.start, tuple(kind for kind in kinds if kind is not None), inside if end is None else None
    )


def _label_log_probability(tags: torch.Tensor, tag_set: TagSet) -> torch.Tensor:
    """Return log of the probability of each character's likeliest label (tags merged by label; no entity is one)."""
    names = ["", *tag_set.labels]
    merge = torch.zeros(len(tag_set.tags), len(names), dtype=tags.dtype)
    for row, tag in enumerate(tag_set.tags):
        label = tag.partition("-")[2]
        merge[row, names.index(label) if label in tag_set.labels else 0] = 1
    return (tags @ merge).amax(-1).clamp(1e-12, 1.0).log()


def _without_overlap(entities: Sequence[Entity]) -> list[Entity]:
    """Keep the first of entities that two windows disagree about at their border."""
    kept: list[Entity] = []
    for entity in sorted(entities):
        if not kept or entity.start >= kept[-1].end:
            kept.append(entity)
    return kept
