"""From a candidate to a decision in the registry: scores it beside what serves, registers it, promotes it if it passed.

Owns what every candidate goes through, whoever trained it: a worker here, or somebody elsewhere (`nerloop register`).
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nerloop import checkpoint
from nerloop.admission import MIN_TEXTS, admission
from nerloop.calibration import Calibration, calibration
from nerloop.documents import Document, Manifest
from nerloop.errors import BadInput, RegistryError
from nerloop.evaluation import Evaluation, evaluate
from nerloop.gate import Decision, Rival, decide
from nerloop.loop import Loop
from nerloop.predictor import Predictor, found_in
from nerloop.promotions import STARTER_VERSION
from nerloop.split import Split, split
from nerloop.starter import starter
from nerloop.stopping import kappa
from nerloop.tagger import Tagger
from nerloop.tasks import Project
from nerloop.trainer import MIN_DEV_ENTITIES
from nerloop.versions import Candidate, ModelVersion, best_ever
from sync.notify import Event, notify
from sync.pull import held_out_texts, sample_texts, snapshot
from sync.push import promote_by_hand, push

logger = logging.getLogger(__name__)

AGREEMENT_TEXTS = 500

Ending = Literal["promoted", "passed", "rejected", "no_data", "superseded", "not_due"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended and the sentence people read; `version` is set where a candidate was made.

    `passed`: by the gate, but automatic promotion is paused.
    """

    decision: Ending
    reason: str
    version: ModelVersion | None = None


@dataclass(frozen=True)
class Judgement:
    """The scores of a candidate and of what serves, on the same gate documents, and what follows from them.

    `calibration` is the candidate's; `production` is what serves with what it found in the documents.
    """

    candidate: Evaluation
    current: Evaluation
    calibration: Calibration
    decision: Decision
    production: Rival

    @property
    def metrics(self) -> dict[str, float]:
        """The figures that a version carries."""
        return {**_metrics(self.candidate, self.current), "gate_ece": self.calibration.ece}


def shown_as(projects: Sequence[Project], labels: Sequence[str]) -> dict[str, str]:
    """Map a tagger's labels to the names they have in the projects that feed a model."""
    maps = (project.label_config.shown_as(labels) for project in projects)
    return {label: shown for one in maps for label, shown in one.items()}


def gate_documents(sides: Split, *, used_dev: bool) -> tuple[Document, ...]:
    """Return what judges: while dev holds too little to choose anything by, nothing was chosen on it, and it helps."""
    return sides.gate if used_dev else (*sides.gate, *sides.dev)


def judge(
    loop: Loop, model: str, tagger: Tagger, serving: Predictor, projects: Sequence[Project], gate: Sequence[Document]
) -> Judgement:
    """Run a candidate, what serves and the best version ever on the gate documents, under the projects' label names.

    A best version that cannot be read any more is left out, and the decision says so.
    """
    found = _rival(Predictor(tagger, "candidate"), projects, gate).found
    production = _rival(serving, projects, gate)
    best, unreadable = None, ""
    version = best_ever(loop.registry.promoted(model))
    if version is not None and str(version) != production.version:
        try:
            best = _rival(_predictor(version, loop), projects, gate)
        except RegistryError as error:
            logger.warning("The best version ever, %s, is left out of the gate: %s", version, error)
            unreadable = f"; {version}, the best ever, is left out because it cannot be read"
    decision = decide(gate, found, _labels(projects), production, best, loop.settings.label_margin)
    decision = replace(decision, reason=decision.reason + unreadable)
    confidence = calibration(gate, found)
    return Judgement(evaluate(gate, found), evaluate(gate, production.found), confidence, decision, production)


def agreement(loop: Loop, tagger: Tagger, serving: Predictor, projects: Sequence[Project]) -> dict[str, float]:
    """Return the figure that says how much a candidate still differs from what serves; empty where neither finds any.

    On texts that neither was trained on, labelled or not; nothing is chosen by it. Raises what Label Studio raises.
    """
    texts = list(held_out_texts(loop.label_studio, projects, loop.settings, AGREEMENT_TEXTS))
    ours, theirs = (
        [prediction.entities for prediction in one.with_labels(shown_as(projects, one.labels)).predict(texts)]
        for one in (Predictor(tagger, "candidate"), serving)
    )
    found = kappa(theirs, ours)
    return {} if found is None else {"kappa": found}


def judge_again(
    loop: Loop, version: ModelVersion, judged: Rival, projects: Sequence[Project], gate: Sequence[Document]
) -> None:
    """Judge a provisional promotion again by what it replaced, once there are documents enough; store what comes of it.

    `judged` is the version with what it found in the documents. A version that would be refused now stays until
    something better comes or somebody acts: the log warns, and `nerloop status` says it. Where what it replaced cannot
    be read any more, it stays provisional.
    """
    if judged.version != str(version):  # production changed since it was read
        return
    replaced = {str(promoted): promoted for promoted in loop.registry.promoted(version.model)}.get(version.parent)
    if replaced is None and version.parent != STARTER_VERSION:
        return
    try:
        before = _rival(_predictor(replaced, loop), projects, gate)
    except RegistryError as error:
        logger.warning("%s stays provisional, for %s cannot be read: %s", version, version.parent, error)
        return
    decision = decide(gate, judged.found, _labels(projects), before, label_margin=loop.settings.label_margin)
    if decision.provisional or not decision.contests:
        return
    stays = "" if decision.promote else "; it stays until something better comes or somebody acts"
    decision = replace(decision, reason=f"judged again: {decision.reason}{stays}")
    metrics = _metrics(evaluate(gate, judged.found), evaluate(gate, before.found))
    loop.registry.settle_provisional(version, decision, metrics)
    logger.log(logging.INFO if decision.promote else logging.WARNING, "%s, %s", version, decision.reason)


def _predictor(version: ModelVersion | None, loop: Loop) -> Predictor:
    """Return a version's predictor, or the starter's; raises `RegistryError` where it cannot be read."""
    if version is None:
        return Predictor(starter(), STARTER_VERSION)
    folder = loop.registry.download(version, loop.settings.checkpoint_cache)
    return Predictor(checkpoint.load(folder).tagger, str(version))


def _rival(predictor: Predictor, projects: Sequence[Project], gate: Sequence[Document]) -> Rival:
    shown = shown_as(projects, predictor.labels)
    return Rival(predictor.model_version, frozenset(shown.values()), found_in(gate, predictor.with_labels(shown)))


def _labels(projects: Sequence[Project]) -> set[str]:
    return {label for project in projects for label in project.label_config.labels}


def _metrics(version: Evaluation, before: Evaluation) -> dict[str, float]:
    return {
        "gate_precision": version.micro.precision,
        "gate_recall": version.micro.recall,
        "gate_f1": version.micro.f1,
        "gate_f1_before": before.micro.f1,
        "gate_documents": version.documents,
        "gate_entities": version.micro.support,
    }


def settle(
    loop: Loop, model: str, candidate: Candidate, dataset: Path, manifest: Manifest, decision: Decision
) -> Outcome:
    """Register a candidate with what was decided of it, and promote it where it passed.

    `manifest` names the annotations that count as learned from now on. Where the run has a version already, which a
    second worker with the same job has made, what was decided of that one stays. Raises `RegistryError`; nothing is
    then visible.
    """
    version = loop.registry.register(model, candidate, dataset, manifest, decision)
    if version.decision == "rejected":
        notify(loop.settings, Event("rejected", model, str(version), version.reason))
        return Outcome("rejected", version.reason, version)
    decided = push(loop, version)
    if decided == "superseded":
        return Outcome("superseded", f"{version}: production changed while it was judged", version)
    if decided == "passed":
        waits = f"it waits, for automatic promotion is paused; `nerloop resume {model}` ends that"
        return Outcome("passed", f"{version.reason}; {waits}", version)
    return Outcome("promoted", version.reason, version)


def register_checkpoint(
    loop: Loop, model: str, tagger: Tagger, made: checkpoint.Provenance, by: str = "", why_forced: str = ""
) -> tuple[Judgement, Outcome]:
    """Take a model that was trained elsewhere through the gate into serving; `by` names who asks for it.

    With `why_forced` it is promoted though the gate refuses or promotion is paused, and who and why is stored.

    What it was trained on is not known here, so that the gate documents may have been among it. No label counts as
    learned by this. Raises `BadInput` where no project feeds the model, none of its labels is a project's, or nothing
    is labelled to judge by and it is not forced.
    """
    production = loop.registry.production(model)
    bound = loop.state.bound_to(model)
    if not bound:
        raise BadInput(f"no project is connected to model {model!r}, to judge a candidate by; see `nerloop status`")
    projects = [loop.label_studio.project(binding.project_id) for binding in bound]
    shown = shown_as(projects, tagger.decoder.labels)
    with tempfile.TemporaryDirectory() as folder:
        dataset, copy = Path(folder) / "dataset.jsonl", Path(folder) / "checkpoint"
        labelled = snapshot(loop, bound, projects, dataset)
        if not shown:
            raise BadInput(
                f"none of its labels ({', '.join(tagger.decoder.labels)}) is one of model {model} "
                f"({', '.join(labelled.labels)}); say in the labelling config which are the same, with predicted_values"
            )
        sides = split(labelled.documents, loop.settings.dev_share, loop.settings.gate_share)
        used_dev = sum(len(document.entities) for document in sides.dev) >= MIN_DEV_ENTITIES
        gate = gate_documents(sides, used_dev=used_dev)
        if not why_forced and not any(document.entities for document in gate):
            raise BadInput(
                f"no labelled entity on a held-out text of model {model} to judge by; label more tasks, or let it "
                "serve before anything is labelled with --force --by WHO --why REASON"
            )
        serving = loop.serving.update(model)
        judgement = judge(loop, model, tagger, serving, projects, gate)
        decision = judgement.decision
        if why_forced:
            decision = decision.forced(by, why_forced)
        if by and not decision.forced_by:
            decision = replace(decision, reason=f"{decision.reason}; registered by {by}")
        texts = sample_texts(loop.label_studio, projects, loop.settings, MIN_TEXTS)
        runtimes = admission(tagger, texts, loop.settings.checkpoint_cache)  # what it brings is of other texts
        made = replace(made, admitted=runtimes.admitted, refused=runtimes.refused)
        checkpoint.save(tagger, made, copy)
        candidate = Candidate(
            folder=copy,
            labels=tuple(sorted(set(shown.values()))),
            dataset_fingerprint=made.dataset_fingerprint,
            parent=serving.model_version,
            replaces=production.generation,
            metrics=judgement.metrics,
            evaluation=judgement.candidate,
            calibration=judgement.calibration,
            trained_here=False,
        )
        outcome = settle(loop, model, candidate, dataset, loop.registry.runs.last_manifest(model), decision)
    if outcome.decision == "passed" and outcome.version is not None and why_forced:
        promote_by_hand(loop, outcome.version, by, why_forced)
        outcome = Outcome("promoted", decision.reason, outcome.version)
    return judgement, outcome
