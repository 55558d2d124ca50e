"""Fine-tunes a tagger on labelled documents. Owns the loop on one screen; what happens around it is the caller's.

Learning rates per group: what is new (linear, CRF) learns faster than what was pre-trained (the encoder).
"""

import copy
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nerloop.documents import Document
from nerloop.encoder import pad, set_threads
from nerloop.predictor import Predictor, score
from nerloop.tagger import Tagger

ENCODER_LEARNING_RATE = {"gru": 1e-3, "transformer": 3e-5}
HEAD_LEARNING_RATE = 5e-3
BATCH_SIZE = 16
CLIP_NORM = 5.0
WARM_UP = 0.1
MIN_STEPS = 250  # with few documents, epochs are added until there are this many steps …
EPOCHS = (12, 25)  # … within these bounds
MIN_DEV_ENTITIES = 30  # fewer say nothing: then the last epoch is kept and no temperature is fitted
TRAINING_CHARACTERS = 400  # longer texts are cut into pieces that break no entity


@dataclass(frozen=True)
class Epoch:
    """Progress after one epoch: `number` of `total`, mean training loss, dev micro-F1 (None without a dev set)."""

    number: int
    total: int
    loss: float
    dev_f1: float | None


@dataclass(frozen=True)
class Fit:
    """What came of a fit; `dropped_entities` did not fit flat tags, `used_dev` tells whether dev chose anything."""

    epochs: tuple[Epoch, ...]
    best_epoch: int
    dropped_entities: int
    used_dev: bool


class Trainer:
    """Runs AdamW with linear warm-up and decay; same documents and seed, same model (on one machine)."""

    def __init__(self, seed: int = 0, on_epoch: Callable[[Epoch], None] | None = None) -> None:
        self._seed = seed
        self._on_epoch = on_epoch

    def fit(self, tagger: Tagger, train: Sequence[Document], dev: Sequence[Document]) -> Fit:
        """Train in place; with enough dev entities the best epoch's weights are kept and the temperature is fitted.

        Raises `ValueError` when there is nothing to train on.
        """
        set_threads(tagger.encoder.kind)
        random.seed(self._seed)
        torch.manual_seed(self._seed)
        examples, dropped = _examples(tagger, train)
        if not examples:
            raise ValueError("no training documents with text")
        total = min(max(EPOCHS[0], math.ceil(MIN_STEPS * BATCH_SIZE / len(examples))), EPOCHS[1])
        optimizer = torch.optim.AdamW(_parameter_groups(tagger), weight_decay=1e-2, fused=True)
        schedule = _schedule(optimizer, total * math.ceil(len(examples) / BATCH_SIZE))
        judged = sum(len(document.entities) for document in dev) >= MIN_DEV_ENTITIES
        epochs: list[Epoch] = []
        best: tuple[float, int, dict[str, Tensor]] | None = None
        for number in range(1, total + 1):
            loss = _train_epoch(tagger, examples, optimizer, schedule)
            dev_f1 = score(Predictor(tagger, ""), dev).micro.f1 if judged else None
            epochs.append(Epoch(number, total, loss, dev_f1))
            if dev_f1 is not None and (best is None or dev_f1 >= best[0]):
                best = dev_f1, number, copy.deepcopy(tagger.state_dict())
            if self._on_epoch is not None:
                self._on_epoch(epochs[-1])
        if best is not None:
            tagger.load_state_dict(best[2])
            tagger.temperature = _fit_temperature(tagger, dev)
        tagger.eval()
        return Fit(tuple(epochs), best[1] if best else total, dropped, judged)


Example = tuple[list[int], list[int]]


def _examples(tagger: Tagger, documents: Sequence[Document]) -> tuple[list[Example], int]:
    """Return (character ids, tag ids) of each piece of text, and how many entities flat tags cannot hold."""
    examples, dropped = [], 0
    limit = min(TRAINING_CHARACTERS, tagger.encoder.max_characters)
    for document in documents:
        tags, lost = tagger.tag_set.encode(document)
        dropped += lost
        ids = tagger.encoder.ids(document.text)
        cuts = [i for i, tag in enumerate(tags) if tagger.tag_set.may_start(tag)]  # where no entity is open
        start = 0
        while start < len(ids):
            end = len(ids) if len(ids) - start <= limit else cuts[bisect_right(cuts, start + limit) - 1]
            if end == start:  # one entity is longer than a piece may be: it is left out
                end = [*cuts, len(ids)][bisect_right(cuts, start)]
                dropped += 1
            else:
                examples.append((ids[start:end], tags[start:end]))
            start = end
    return examples, dropped


def _parameter_groups(tagger: Tagger) -> list[dict[str, object]]:
    head = [*tagger.linear.parameters(), *tagger.crf.parameters()]
    return [
        {"params": list(tagger.encoder.parameters()), "lr": ENCODER_LEARNING_RATE[tagger.encoder.kind]},
        {"params": head, "lr": HEAD_LEARNING_RATE},
    ]


def _schedule(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    warm_up = max(1, int(steps * WARM_UP))
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up))
    )


def _train_epoch(
    tagger: Tagger,
    examples: Sequence[Example],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
) -> float:
    tagger.train()
    losses = []
    for batch in _batches(examples):
        ids, lengths = pad([ids for ids, _ in batch])
        tags, _ = pad([tags for _, tags in batch])
        loss = tagger.loss(ids, tags, lengths)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(tagger.parameters(), CLIP_NORM)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def _batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Yield batches of similar length in random order, so that little is padding."""
    shuffled = random.sample(examples, len(examples))
    pool = 8 * BATCH_SIZE
    batches = []
    for start in range(0, len(shuffled), pool):
        ordered = sorted(shuffled[start : start + pool], key=lambda example: len(example[0]))
        batches += [ordered[i : i + BATCH_SIZE] for i in range(0, len(ordered), BATCH_SIZE)]
    random.shuffle(batches)
    yield from batches


@torch.no_grad()
def _fit_temperature(tagger: Tagger, dev: Sequence[Document]) -> float:
    """Return the temperature that makes the dev set's gold tags likeliest (Guo et al. 2017, on the CRF's weights)."""
    tagger.eval()
    examples, _ = _examples(tagger, dev)
    batches = []
    for start in range(0, len(examples), BATCH_SIZE):
        ids, lengths = pad([ids for ids, _ in examples[start : start + BATCH_SIZE]])
        tags, _ = pad([tags for _, tags in examples[start : start + BATCH_SIZE]])
        batches.append((tagger.emissions(ids, lengths), tags, lengths))

    def loss(temperature: float) -> float:
        total = 0.0
        for emissions, tags, lengths in batches:
            marginals = tagger.crf.marginals(emissions, lengths, temperature).tags()
            gold = marginals.gather(2, tags[..., None]).squeeze(2).clamp_min(1e-12).log()
            total -= float((gold * (torch.arange(gold.size(1))[None] < lengths[:, None])).sum())
        return total

    return min((0.5 + 0.1 * step for step in range(36)), key=loss)
