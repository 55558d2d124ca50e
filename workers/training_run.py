"""One fine-tune, from the labels in Label Studio to a decision in the registry. Owns the order of the steps."""

import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from nerloop import checkpoint
from nerloop.admission import MIN_TEXTS, admission
from nerloop.documents import Manifest, write_jsonl
from nerloop.errors import RegistryError
from nerloop.label_matching import known_as
from nerloop.live_run import LiveRun
from nerloop.loop import Loop
from nerloop.models import STARTER, Model, load_model
from nerloop.predictor import Predictor, found_in
from nerloop.project_state import Binding
from nerloop.registry import PRODUCTION
from nerloop.split import Split, split
from nerloop.tagger import Tagger, adapt, weights_key
from nerloop.tagging import Decoder
from nerloop.tasks import Project
from nerloop.thresholds import thresholds
from nerloop.trainer import MIN_DEV_ENTITIES, Epoch, Fit, Progress, Recipe, Trainer
from nerloop.training_state import FILE, saved_step
from nerloop.versions import Candidate, Production
from sync.judge import Outcome, agreement, gate_documents, judge, judge_again, settle, shown_as
from sync.label_copy import forget_others
from sync.pull import Snapshot, new_labels, sample_texts, snapshot, unlabelled_documents
from sync.trigger import due

logger = logging.getLogger(__name__)

UNLABELLED = "unlabelled.jsonl"  # beside the snapshot: what it learned from that nobody had labelled
SECONDS_BETWEEN_WORDS = 1.0
REGISTRY_WAITS = (5, 10, 20, 40, 80, 160, 320)  # seconds between tries to register; ten minutes in all


class TrainingRun:
    """Fine-tunes a model on everything labelled for it so far and decides whether it replaces production."""

    def __init__(self, loop: Loop, on_progress: Callable[[dict[str, Any]], None]) -> None:
        """`on_progress` is told each step, and each epoch with loss and seconds left."""
        self._loop = loop
        self._on_progress = on_progress
        self._next_word = 0.0

    def run(self, model: str, *, forced: bool = False) -> Outcome:
        """Run to the end. Unless `forced`, a run for labels that are not due by count or age ends as `not_due`.

        Raises what Label Studio or the registry raise; nothing is then visible, and the labels still count as new.
        """
        self._on_progress({"step": "reading labels"})
        production = self._loop.registry.production(model)
        bindings = self._loop.state.bindings()
        forget_others(self._loop.settings, [binding.project_id for binding in bindings])
        bound = [binding for binding in bindings if binding.model == model]
        if not bound:
            return Outcome("not_due", f"no project is connected to model {model}")
        projects = [self._loop.label_studio.project(binding.project_id) for binding in bound]
        if not forced and not self._is_due(model, bound, projects):
            return Outcome("not_due", "fewer new labels than the threshold, and none has waited for the maximum age")
        with tempfile.TemporaryDirectory(dir=empty_work_folder(self._loop.settings.home, model)) as folder:
            dataset = Path(folder) / "dataset.jsonl"
            labelled = snapshot(self._loop, bound, projects, dataset)
            sides = split(labelled.documents, self._loop.settings.dev_share, self._loop.settings.gate_share)
            missing = _missing(sides)
            if missing:
                self._loop.registry.runs.record_no_data(model, dataset, labelled.manifest, missing)
                outcome = Outcome("no_data", missing)
            else:
                outcome = self._train_and_decide(model, production, bound, projects, labelled, sides)
        # What was submitted meanwhile counts towards the next run.
        self._correct_new_labels(model, projects, labelled.manifest)
        logger.info("Fine-tune of %s: %s (%s)", model, outcome.decision, outcome.reason)
        return outcome

    def _is_due(self, model: str, bound: list[Binding], projects: list[Project]) -> bool:
        self._correct_new_labels(model, projects, self._loop.registry.runs.last_manifest(model))
        threshold = min(binding.train_threshold for binding in bound)
        return bool(due(self._loop.state.waiting(model), threshold, self._loop.settings, quiet=True))

    def _correct_new_labels(self, model: str, projects: list[Project], decided: Manifest) -> None:
        noted = self._loop.state.new_label_ids(model)
        self._loop.state.correct_new_labels(model, noted, new_labels(self._loop, projects, decided))

    def _train_and_decide(
        self,
        model: str,
        production: Production,
        bound: list[Binding],
        projects: list[Project],
        labelled: Snapshot,
        sides: Split,
    ) -> Outcome:
        settings = self._loop.settings
        serving = self._loop.serving.update(model)
        base = load_model(base_name(settings.base_model, production), self._loop)
        tagger = adapt(
            base.tagger,
            _decoder(bound, labelled, sides),
            known_as(base.tagger, sides.train, shown_as(projects, base.tagger.decoder.labels)),
        )
        if _learns_from_unlabelled(tagger, sides):
            sides = replace(sides, unlabelled=unlabelled_documents(self._loop, model, projects, sides))
            write_jsonl(labelled.path.with_name(UNLABELLED), sides.unlabelled)
        key = _run_key(labelled.fingerprint, base, tagger, production)
        run = self._loop.registry.runs.begin(model, key, _parameters(base, tagger, labelled, sides, production))
        try:
            outcome = self._fit_and_decide(run, model, production, projects, labelled, sides, base, tagger, serving)
        except Exception as error:
            run.fail(str(error))
            raise
        run.drop_state()
        shutil.rmtree(state_folder(settings.home, model), ignore_errors=True)  # not before: a killed run needs it
        return outcome

    def _fit_and_decide(
        self,
        run: LiveRun,
        model: str,
        production: Production,
        projects: list[Project],
        labelled: Snapshot,
        sides: Split,
        base: Model,
        tagger: Tagger,
        serving: Predictor,
    ) -> Outcome:
        settings = self._loop.settings
        started = time.monotonic()
        state = state_folder(settings.home, model) / run.id
        run.fetch_state(state / FILE, saved_step(state))
        follow = _Follower(run, state, self._say_progress)
        fit = Trainer(on_progress=follow, state_folder=state).fit(tagger, sides.train, sides.dev, sides.unlabelled)
        follow.log(fit.epochs)
        if fit.used_dev and settings.target_precision:
            found = found_in(sides.dev, Predictor(tagger, "candidate"))
            tagger.thresholds = thresholds(sides.dev, found, settings.target_precision)
        self._on_progress({"step": "evaluating"})
        gate = gate_documents(sides, used_dev=fit.used_dev)
        judgement = judge(self._loop, model, tagger, serving, projects, gate)
        version = production.version
        if version is not None and version.provisional and not judgement.decision.provisional:
            judge_again(self._loop, version, judgement.production, projects, gate)
        metrics = {
            **judgement.metrics,
            **agreement(self._loop, tagger, serving, projects),
            **_metrics(labelled, sides, fit, time.monotonic() - started),
        }
        folder = labelled.path.parent / "checkpoint"
        texts = sample_texts(self._loop.label_studio, projects, settings, MIN_TEXTS)
        runtimes = admission(tagger, texts, settings.checkpoint_cache)
        made = checkpoint.Provenance(
            base.source, labelled.fingerprint, metrics, base.revision, runtimes.admitted, runtimes.refused
        )
        checkpoint.save(tagger, made, folder)
        candidate = Candidate(
            folder=folder,
            labels=labelled.labels,
            dataset_fingerprint=labelled.fingerprint,
            parent=serving.model_version,
            replaces=production.generation,
            metrics=metrics,
            run_id=run.id,
            evaluation=judgement.candidate,
            calibration=judgement.calibration,
        )
        self._on_progress({"step": "registering"})
        return patiently(
            lambda: settle(self._loop, model, candidate, labelled.path, labelled.manifest, judgement.decision)
        )

    def _say_progress(self, progress: Progress) -> None:
        if time.monotonic() < self._next_word and progress.step < progress.steps:
            return
        self._next_word = time.monotonic() + SECONDS_BETWEEN_WORDS
        self._on_progress(
            {
                "step": "training",
                "epoch": progress.epoch,
                "epochs": progress.epochs,
                "loss": round(progress.loss, 4),
                "dev_f1": progress.last_epoch.dev_f1 if progress.last_epoch else None,
                "curve": [{"epoch": e.number, "loss": round(e.loss, 4), "dev_f1": e.dev_f1} for e in progress.ended],
                "seconds_left": round(progress.seconds_left),
            }
        )


class _Follower:
    """Passes progress on, and brings each epoch that ended to the registry."""

    def __init__(self, run: LiveRun, state: Path, say: Callable[[Progress], None]) -> None:
        self._run, self._state, self._say = run, state, say
        self._logged = 0  # the last epoch that is in the curves

    def __call__(self, progress: Progress) -> None:
        """Take a step's progress; the first step of an epoch says how the one before went."""
        self._say(progress)
        last = progress.last_epoch
        if last is not None and last.number > self._logged:
            self.log([last])
            self._run.keep_state(self._state / FILE, saved_step(self._state))

    def log(self, epochs: Sequence[Epoch]) -> None:
        """Add the epochs that are not in the curves yet."""
        for epoch in epochs:
            if epoch.number > self._logged:
                self._run.log_epoch(epoch.number, epoch.loss, epoch.dev_f1)
                self._logged = epoch.number


def patiently(settle: Callable[[], Outcome]) -> Outcome:
    """Do what must not fail because the registry is away for a while: a fit is worth waiting for.

    Raises the last `RegistryError`; the state is kept, so that the next try goes on without training again.
    """
    for wait in (*REGISTRY_WAITS, None):
        try:
            return settle()
        except RegistryError as error:
            if wait is None:
                raise
            logger.warning("The candidate cannot be registered: %s; trying again in %s s", error, wait)
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def empty_work_folder(home: Path, model: str) -> Path:
    """Return where a model's only run works, without what its killed runs have left there."""
    folder = home / "work" / model / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def state_folder(home: Path, model: str) -> Path:
    """Return where a model's run saves how far it is, so that a killed one goes on from there."""
    return home / "work" / model / "state"


def base_name(setting: str, production: Production) -> str:
    """Return what a run starts from: for `production` the version there, or the starter while there is none."""
    if setting != PRODUCTION:
        return setting
    return STARTER if production.version is None else production.name


def _decoder(bound: list[Binding], labelled: Snapshot, sides: Split) -> Decoder:
    """Return the decoder the model's projects were bound with; nested where one of them was."""
    if any(binding.decoder == "nested" for binding in bound):
        return Decoder.nested(labelled.labels, sides.train)
    decoder = Decoder.flat(labelled.labels)
    dropped = sum(decoder.encode(document)[1] for document in sides.train)
    if dropped:
        logger.warning(
            "%s entities overlap others and a flat decoder cannot learn them; if they are meant, connect the project "
            "again with --decoder nested",
            dropped,
        )
    return decoder


def _learns_from_unlabelled(tagger: Tagger, sides: Split) -> bool:
    """Tell whether a run may label texts for itself: not with so few labels that it is often wrong, nor for hours."""
    enough = sum(len(document.entities) for document in sides.dev) >= MIN_DEV_ENTITIES
    return enough and (tagger.encoder.kind == "gru" or torch.cuda.is_available())


def _missing(sides: Split) -> str:
    """Return what keeps a run from starting, or an empty string."""
    if not any(document.entities for document in sides.train):
        return "no labelled entity on the training side yet; label more tasks"
    if not any(document.entities for document in (*sides.gate, *sides.dev)):
        return "no labelled entity on a held-out text yet; label more tasks"
    return ""


def _run_key(fingerprint: str, base: Model, tagger: Tagger, production: Production) -> str:
    """Return what a fine-tune is known by to whoever goes on with it: its labels, its base and what it replaces."""
    facts = [fingerprint, base.source, base.revision, weights_key(tagger), production.generation]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _parameters(
    base: Model, tagger: Tagger, labelled: Snapshot, sides: Split, production: Production
) -> dict[str, object]:
    return {
        "base": f"{base.source}@{base.revision}" if base.revision else base.source,
        "replaces": production.name,
        "decoder": tagger.decoder.kind,
        "labels": ", ".join(labelled.labels),
        "train_documents": len(sides.train),
        "dev_documents": len(sides.dev),
        "gate_documents": len(sides.gate),
        "unlabelled_documents": len(sides.unlabelled),
        **asdict(Recipe()),
    }


def _metrics(labelled: Snapshot, sides: Split, fit: Fit, seconds: float) -> dict[str, float]:
    return {
        "conflicting_documents": labelled.conflicting_documents,
        "train_documents": len(sides.train),
        "dev_documents": len(sides.dev),
        "near_duplicates": sides.near_duplicates,
        "dropped_entities": fit.dropped_entities,
        "best_epoch": fit.best_epoch,
        "train_seconds": round(seconds, 1),
    }
