"""Fine-tunes a tagger on labelled documents. Owns the loop on one screen; what happens around it is the caller's.

What is new (linear, CRF) learns first alone, and always faster than what was pre-trained, the encoder (Kumar et al.
2022: a random head distorts it). What is evaluated and kept is the moving average of the weights. Where there are
unlabelled texts, a second round learns from them too, as the model that came out of the first one labels them
(self-training, Yarowsky 1995). Under `torchrun` several processes share the work.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nerloop.documents import Document, fingerprint, from_json, to_json
from nerloop.encoder import TransformerEncoder, pad
from nerloop.examples import Example, batches_of, examples_of
from nerloop.gazetteer import apart
from nerloop.predictor import Predictor, found_in, score
from nerloop.runtime import bf16_pays, set_threads
from nerloop.tagger import Tagger, weights_key
from nerloop.temperature import fit_temperature
from nerloop.training_state import SavedState, TrainingState

logger = logging.getLogger(__name__)

ENCODER_LEARNING_RATE = {"gru": 1e-3, "transformer": 3e-5}
LINEAR_LEARNING_RATE = {"gru": 5e-3, "transformer": 5e-4}
CRF_LEARNING_RATE = 5e-3
BATCH_SIZE = 16
CLIP_NORM = 5.0
WARM_UP = 0.1  # of the steps
HEAD_FIRST = 0.15  # of the steps, in which the encoder waits: a new head pulls it away from what it knows
AVERAGE = 0.98  # of the moving average of the weights
MIN_STEPS = 250  # with few documents, epochs are added until there are this many steps …
EPOCHS = (14, 25)  # … within these bounds
PATIENCE = 10  # epochs without a better dev F1 that end a run
MIN_DEV_ENTITIES = 30  # fewer say nothing: then the last epoch is kept and no temperature is fitted


@dataclass(frozen=True)
class Epoch:
    """One epoch that ended: `number` of `total`, mean training loss, dev micro-F1 (None without a dev set)."""

    number: int
    total: int
    loss: float
    dev_f1: float | None


@dataclass(frozen=True)
class Progress:
    """Where a fine-tune stands after a step: `step` of `steps` in all, `loss` of this epoch so far, `ended` epochs."""

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    seconds_left: float
    ended: tuple[Epoch, ...] = ()

    @property
    def last_epoch(self) -> Epoch | None:
        """The last epoch that ended."""
        return self.ended[-1] if self.ended else None


@dataclass(frozen=True)
class Fit:
    """What came of a fit: the epochs of all rounds, and which one of the last round is kept.

    `dropped_entities` did not fit the decoder, `used_dev` tells whether dev chose anything.
    """

    epochs: tuple[Epoch, ...]
    best_epoch: int
    dropped_entities: int
    used_dev: bool


@dataclass(frozen=True)
class Recipe:
    """The numbers one may set: `epochs` None goes by the data, `learning_rate` None by the kind of encoder."""

    epochs: int | None = None
    batch_size: int = BATCH_SIZE
    learning_rate: float | None = None
    seed: int = 0


class Trainer:
    """Runs AdamW with linear warm-up and decay; same documents and seed, same model (on one machine)."""

    def __init__(
        self,
        recipe: Recipe | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        state_folder: Path | None = None,
    ) -> None:
        """`on_progress` is called after each step; what it raises ends the run there (that is how one is cancelled).

        With a `state_folder` a run that was killed goes on from where it last saved, and ends as if it had not been.
        What it saved stays when the run has ended, until the caller, who has kept the result, removes the folder.
        """
        self._recipe = recipe or Recipe()
        self._on_progress = (lambda _: None) if on_progress is None else on_progress
        self._state_folder = state_folder

    def fit(
        self, tagger: Tagger, train: Sequence[Document], dev: Sequence[Document], unlabelled: Sequence[Document] = ()
    ) -> Fit:
        """Train in place; with enough dev entities the best epoch's weights are kept and the temperature is fitted.

        With `unlabelled` documents a second round begins from the same start, on what is labelled and on those texts
        as the first round's model labels them; entities that they have, which only a gazetteer says, fill the gaps
        that it leaves.

        Raises `ValueError` when there is nothing to train on.
        """
        from accelerate import Accelerator  # a second

        if isinstance(tagger.encoder, TransformerEncoder):
            tagger.encoder.tokenizer = tagger.encoder.tokenizer.as_characters
        examples, dropped = examples_of(tagger, train)
        if not examples:
            raise ValueError("no training documents with text")
        more, _ = examples_of(tagger, unlabelled)
        set_threads(tagger.encoder.kind)
        torch.manual_seed(self._recipe.seed)
        accelerator = Accelerator(cpu=not torch.cuda.is_available())
        state = None
        if self._state_folder is not None:
            key = _run_key(self._recipe, tagger, train, dev, unlabelled, processes=accelerator.num_processes)
            state = TrainingState(self._state_folder, key)
        sizes = [len(examples), len(examples) + len(more)] if more else [len(examples)]
        run = _Run(tagger, sizes, self._recipe, accelerator, state)
        judged = sum(len(document.entities) for document in dev) >= MIN_DEV_ENTITIES

        def finish_round(examples: Sequence[Example]) -> None:
            while not run.round_ended():
                loss = run.epoch(examples, self._on_progress)
                with run.averaged():
                    dev_f1 = score(Predictor(tagger, ""), dev).micro.f1 if judged else None
                run.close_epoch(loss, _agreed(accelerator, dev_f1))
            run.keep_best()

        if run.self_labelled is None:
            finish_round(examples)
            if more:
                found = zip(found_in(unlabelled, Predictor(tagger, "")), unlabelled, strict=True)
                labelled = [replace(one, entities=tuple(apart(given.entities, one.entities))) for one, given in found]
                run.begin_second_round(_agreed(accelerator, labelled))
        if run.self_labelled is not None:
            finish_round([*examples, *examples_of(tagger, run.self_labelled)[0]])
        if judged:
            tagger.temperature = fit_temperature(Predictor(tagger, ""), dev)
        tagger.eval()
        return Fit(tuple(run.epochs), run.best_epoch, dropped, judged)


@dataclass(frozen=True)
class _Round:
    """A number of epochs and of steps in each, and how many there were of both before."""

    epochs: int
    steps_an_epoch: int
    epochs_before: int = 0
    steps_before: int = 0

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_an_epoch


class _Run:
    """The weights, their average and the optimizer while they change, and the numbers that say how far they are."""

    def __init__(
        self, tagger: Tagger, sizes: Sequence[int], recipe: Recipe, accelerator: Any, state: TrainingState | None
    ) -> None:
        """`sizes` are the numbers of examples of the rounds."""
        self.epochs: list[Epoch] = []
        self.self_labelled: list[Document] | None = None  # since the second round began
        self._tagger, self._recipe = tagger, recipe
        self._accelerator, self._state = accelerator, state
        self._round, *self._later = [_round_of(size, recipe, accelerator.num_processes) for size in sizes]
        optimizer = torch.optim.AdamW(_parameter_groups(tagger, recipe.learning_rate), weight_decay=1e-2, fused=True)
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._model, self._optimizer = accelerator.prepare(tagger, optimizer)
        self._weights: dict[str, Tensor] = {
            name: weight for name, weight in tagger.named_parameters() if weight.requires_grad
        }
        self._start = _copies(self._weights) if self._later else {}
        self._average = _copies(self._weights)
        self._best = _copies(self._weights)
        self._step = 0  # steps taken in all
        self._losses: float = 0.0  # sum over the steps of this epoch
        self._bf16 = tagger.encoder.kind == "transformer" and bf16_pays(accelerator.device.type)
        saved = None if state is None else state.load()
        if _all_have(accelerator, saved) and saved is not None:
            self._restore(saved)

    def round_ended(self) -> bool:
        """Tell whether all epochs of the round are done, or its last ones brought nothing."""
        done = len(self.epochs) - self._round.epochs_before
        return done == self._round.epochs or len(self.epochs) - self.best_epoch >= PATIENCE

    @property
    def best_epoch(self) -> int:
        """The best epoch of the round, the last of equal ones; without a dev set the last."""
        before = self._round.epochs_before
        f1 = [epoch.dev_f1 or 0.0 for epoch in self.epochs[before:]]
        return before + max(range(len(f1)), key=lambda place: (f1[place], place), default=-1) + 1

    def begin_second_round(self, self_labelled: list[Document]) -> None:
        """Put the weights back to the start, for a round that learns from these documents too."""
        self.self_labelled = self_labelled
        self._enter_second_round(len(self.epochs), self._step)
        _copy(self._start, self._weights)
        _copy(self._start, self._average)
        self._optimizer.state.clear()

    def epoch(self, examples: Sequence[Example], on_progress: Callable[[Progress], None]) -> float:
        """Take the steps that are left of this epoch; return its mean loss."""
        number = len(self.epochs) + 1
        self._model.train()
        rank, processes = self._accelerator.process_index, self._accelerator.num_processes
        batches = list(batches_of(examples, self._recipe.batch_size, f"{self._recipe.seed}/{number}"))
        started, first, size = time.monotonic(), self._step, self._round.steps_an_epoch
        steps = self._round.steps_before + self._round.steps + sum(later.steps for later in self._later)
        begun = self._round.steps_before + (number - 1 - self._round.epochs_before) * size
        for place in range(self._step - begun, size):
            self._losses += self._take(batches[(place * processes + rank) % len(batches)])
            self._step += 1
            pace = (time.monotonic() - started) / (self._step - first)
            loss, left = self._losses / (place + 1), pace * (steps - self._step)
            on_progress(Progress(self._step, steps, number, self._total, loss, left, tuple(self.epochs)))
            if self._state is not None and self._state.due():
                self._save()
        return self._losses / size

    def close_epoch(self, loss: float, dev_f1: float | None) -> None:
        """Note how the epoch went; its averaged weights are kept if they are the best so far."""
        self.epochs.append(Epoch(len(self.epochs) + 1, self._total, loss, dev_f1))
        self._losses = 0.0
        if self.best_epoch == len(self.epochs):
            _copy(self._average, self._best)
        if self._state is not None:
            self._save()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights into the tagger for a while."""
        trained = _copies(self._weights)
        _copy(self._average, self._weights)
        try:
            yield
        finally:
            _copy(trained, self._weights)

    def keep_best(self) -> None:
        """Put the best weights into the tagger."""
        _copy(self._best, self._weights)

    @property
    def _total(self) -> int:
        """Epochs of all rounds."""
        return self._round.epochs_before + self._round.epochs + sum(later.epochs for later in self._later)

    def _enter_second_round(self, epochs_before: int, steps_before: int) -> None:
        (second,) = self._later
        self._round, self._later = replace(second, epochs_before=epochs_before, steps_before=steps_before), []

    def _take(self, batch: Sequence[Example]) -> float:
        step, steps = self._step - self._round.steps_before, self._round.steps
        warm_up = max(1, int(steps * WARM_UP))
        left = (steps - step) / max(1, steps - warm_up)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            waits = group["waits"] and step < int(steps * HEAD_FIRST)
            group["lr"] = 0.0 if waits else rate * min((step + 1) / warm_up, left)
        inputs = self._tagger.encoder.collate([tokens for tokens, _ in batch]).to(self._accelerator.device)
        layers = [pad([tags[layer] for _, tags in batch])[0] for layer in range(len(self._tagger.decoder.layers))]
        with torch.autocast(self._accelerator.device.type, torch.bfloat16, enabled=self._bf16):
            loss = self._model(inputs, torch.stack(layers).to(self._accelerator.device))
        self._optimizer.zero_grad()
        self._accelerator.backward(loss)
        self._accelerator.clip_grad_norm_(self._weights.values(), CLIP_NORM)
        self._optimizer.step()
        with torch.no_grad():
            decay = min(AVERAGE, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self._average.values()), list(self._weights.values()), 1 - decay)
        return float(loss.item())

    def _parts(self) -> dict[str, Mapping[str, Tensor]]:
        return {"weights": self._weights, "average": self._average, "best": self._best}

    def _save(self) -> None:
        if not self._accelerator.is_main_process or self._state is None:
            return
        tensors = {f"{part}.{name}": tensor for part, named in self._parts().items() for name, tensor in named.items()}
        for name, weight in self._weights.items():
            for key, value in self._optimizer.state[weight].items():
                tensors[f"optimizer.{key}.{name}"] = value
        numbers: dict[str, Any] = {
            "step": self._step,
            "losses": self._losses,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "bf16": self._bf16,
        }
        if self.self_labelled is not None:
            numbers["before"] = [self._round.epochs_before, self._round.steps_before]
            numbers["self_labelled"] = [to_json(document) for document in self.self_labelled]
        tensors["random"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        self._state.save(tensors, numbers)

    def _restore(self, saved: SavedState) -> None:
        for part, named in self._parts().items():
            _copy({name: saved.tensors[f"{part}.{name}"] for name in named}, named)
        for key in ("step", "exp_avg", "exp_avg_sq"):
            for name, weight in self._weights.items():
                if f"optimizer.{key}.{name}" in saved.tensors:
                    self._optimizer.state[weight][key] = saved.tensors[f"optimizer.{key}.{name}"].to(weight.device)
        self._step, self._losses = int(saved.numbers["step"]), float(saved.numbers["losses"])
        self.epochs = [Epoch(**epoch) for epoch in saved.numbers["epochs"]]
        if "self_labelled" in saved.numbers:
            self._enter_second_round(*saved.numbers["before"])
            self.self_labelled = [from_json(line) for line in saved.numbers["self_labelled"]]
        self._bf16 = bool(saved.numbers["bf16"])  # timed once a run: another answer would be another model
        torch.set_rng_state(saved.tensors["random"])
        if "random.cuda" in saved.tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(saved.tensors["random.cuda"])


def _round_of(examples: int, recipe: Recipe, processes: int) -> _Round:
    epochs = recipe.epochs or epochs_for(examples, recipe.batch_size * processes)
    return _Round(epochs, math.ceil(math.ceil(examples / recipe.batch_size) / processes))


def epochs_for(examples: int, batch_size: int = BATCH_SIZE) -> int:
    """Return how many epochs a number of examples is trained for."""
    return min(max(EPOCHS[0], math.ceil(MIN_STEPS * batch_size / examples)), EPOCHS[1])


def _all_have(accelerator: Any, saved: SavedState | None) -> bool:
    """Tell whether each process found the same step saved: one that began elsewhere would train another model."""
    from accelerate.utils import gather_object

    steps = gather_object([int(saved.numbers["step"]) if saved else 0])
    if len(set(steps)) > 1 and accelerator.is_main_process:
        logger.warning(
            "Not every process finds what was saved: starting anew. On several machines, write to a folder they share"
        )
    return len(set(steps)) == 1


def _agreed(accelerator: Any, value: Any) -> Any:
    """Return the main process's value in every process: they must end at the same epoch and learn the same."""
    from accelerate.utils import broadcast_object_list

    shared = [value]
    if accelerator.num_processes > 1:
        broadcast_object_list(shared)
    return shared[0]


def _parameter_groups(tagger: Tagger, learning_rate: float | None) -> list[dict[str, Any]]:
    kind = tagger.encoder.kind
    return [
        {
            "params": [weight for weight in tagger.encoder.parameters() if weight.requires_grad],
            "lr": learning_rate or ENCODER_LEARNING_RATE[kind],
            "waits": True,
        },
        {"params": list(tagger.linear.parameters()), "lr": LINEAR_LEARNING_RATE[kind], "waits": False},
        {"params": list(tagger.crf.parameters()), "lr": CRF_LEARNING_RATE, "waits": False},
    ]


def _run_key(recipe: Recipe, tagger: Tagger, *data: Sequence[Document], processes: int) -> str:
    """Return what a run is known by: the same start, data, recipe and number of processes, which share the steps."""
    decoder = tagger.decoder.kind, [layer.tags for layer in tagger.decoder.layers]
    facts = [asdict(recipe), weights_key(tagger), decoder, *map(fingerprint, data), processes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in source.items():
        target[name].copy_(tensor)
