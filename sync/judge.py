"""From a candidate to a decision in the registry: scores it beside what serves, registers it, promotes it if it passed.

Owns what every candidate goes through, whoever trained it: a worker here, or somebody elsewhere (`nerloop register`).
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nerloop import checkpoint
from nerloop.documents import Document, Manifest, write_jsonl
from nerloop.errors import BadInput
from nerloop.evaluation import Evaluation
from nerloop.gate import Decision, decide
from nerloop.loop import Loop
from nerloop.predictor import Predictor, score
from nerloop.registry import Candidate, ModelVersion
from nerloop.split import Split, split
from nerloop.tagger import Tagger
from nerloop.tasks import Project
from nerloop.trainer import MIN_DEV_ENTITIES
from sync.pull import snapshot
from sync.push import push

Ending = Literal["promoted", "rejected", "no_data", "superseded", "not_due"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended and the sentence people read; `version` is set where a candidate was made."""

    decision: Ending
    reason: str
    version: ModelVersion | None = None


@dataclass(frozen=True)
class Judgement:
    """The scores of a candidate and of what serves, on the same gate documents, and what follows from them."""

    candidate: Evaluation
    current: Evaluation
    decision: Decision

    @property
    def metrics(self) -> dict[str, float]:
        """The figures that a version carries."""
        return {
            "gate_precision": self.candidate.micro.precision,
            "gate_recall": self.candidate.micro.recall,
            "gate_f1": self.candidate.micro.f1,
            "gate_f1_before": self.current.micro.f1,
            "gate_documents": self.candidate.documents,
            "gate_entities": self.candidate.micro.support,
        }


def shown_as(projects: Sequence[Project], labels: Sequence[str]) -> dict[str, str]:
    """Map a tagger's labels to the names they have in the projects that feed a model."""
    maps = (project.label_config.shown_as(labels) for project in projects)
    return {label: shown for one in maps for label, shown in one.items()}


def gate_documents(sides: Split, *, used_dev: bool) -> tuple[Document, ...]:
    """Return what judges: while dev holds too little to choose anything by, nothing was chosen on it, and it helps."""
    return sides.gate if used_dev else (*sides.gate, *sides.dev)


def judge(tagger: Tagger, serving: Predictor, projects: Sequence[Project], gate: Sequence[Document]) -> Judgement:
    """Score a candidate and what serves on the gate documents, both under the projects' label names."""
    candidate = Predictor(tagger, "candidate", shown_as(projects, tagger.decoder.labels))
    candidate_scores = score(candidate, gate)
    current_scores = score(serving.with_labels(shown_as(projects, serving.labels)), gate)
    return Judgement(candidate_scores, current_scores, decide(candidate_scores, current_scores, serving.model_version))


def settle(
    loop: Loop, model: str, candidate: Candidate, dataset: Path, manifest: Manifest, decision: Decision
) -> Outcome:
    """Register a candidate with what was decided of it, and promote it where it passed.

    `manifest` names the annotations that count as learned from now on. Raises `RegistryError`; nothing is then visible.
    """
    version = loop.registry.register(model, candidate, dataset, manifest, decision)
    if not decision.promote:
        return Outcome("rejected", decision.reason, version)
    if not push(loop, version):
        return Outcome("superseded", f"{version}: production changed while it was judged", version)
    return Outcome("promoted", decision.reason, version)


def register_checkpoint(
    loop: Loop, model: str, tagger: Tagger, made: checkpoint.Provenance, by: str = ""
) -> tuple[Judgement, Outcome]:
    """Take a model that was trained elsewhere through the gate into serving; `by` names who asks for it.

    What it was trained on is not known here, so that the gate documents may have been among it. No label counts as
    learned by this. Raises `BadInput` where no project feeds the model, none of its labels is a project's, or nothing
    is labelled to judge by.
    """
    production = loop.registry.production(model)
    bound = [binding for binding in loop.state.bindings() if binding.model == model]
    if not bound:
        raise BadInput(f"no project is connected to model {model!r}, to judge a candidate by; see `nerloop status`")
    projects = [loop.label_studio.project(binding.project_id) for binding in bound]
    shown = shown_as(projects, tagger.decoder.labels)
    labelled = snapshot(loop.label_studio, projects)
    if not shown:
        raise BadInput(
            f"none of its labels ({', '.join(tagger.decoder.labels)}) is one of model {model} "
            f"({', '.join(labelled.labels)}); say in the labelling config which are the same, with predicted_values"
        )
    sides = split(labelled.documents, loop.settings.dev_share, loop.settings.gate_share)
    used_dev = sum(len(document.entities) for document in sides.dev) >= MIN_DEV_ENTITIES
    gate = gate_documents(sides, used_dev=used_dev)
    if not any(document.entities for document in gate):
        raise BadInput(f"no labelled entity on a held-out text of model {model} to judge by; label more tasks")
    serving = loop.serving.update(model)
    judgement = judge(tagger, serving, projects, gate)
    decision = judgement.decision
    if by:
        decision = replace(decision, reason=f"{decision.reason}; registered by {by}")
    with tempfile.TemporaryDirectory() as folder:
        dataset, copy = Path(folder) / "dataset.jsonl", Path(folder) / "checkpoint"
        write_jsonl(dataset, labelled.documents)
        checkpoint.save(tagger, made, copy)
        candidate = Candidate(
            folder=copy,
            labels=tuple(sorted(set(shown.values()))),
            dataset_fingerprint=made.dataset_fingerprint,
            parent=serving.model_version,
            replaces=production.generation,
            metrics=judgement.metrics,
            loss_curve=[],
            dev_f1_curve=[],
        )
        return judgement, settle(loop, model, candidate, dataset, loop.registry.last_manifest(model), decision)
