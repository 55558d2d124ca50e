"""From a candidate to a decision on a real registry: who is judged beside it, and what stays of the judgement."""

import logging
from pathlib import Path

import pytest

from nerloop import checkpoint
from nerloop.demo import DEMO_FOLDER
from nerloop.documents import Document, Entity, read_jsonl
from nerloop.errors import BadInput
from nerloop.gate import MIN_DOCUMENTS, Decision
from nerloop.loop import Loop
from nerloop.predictor import Predictor
from nerloop.project_state import Binding
from nerloop.promotions import STARTER_VERSION
from nerloop.starter import fresh_starter, starter
from nerloop.tagger import Tagger, adapt
from nerloop.tagging import Decoder
from nerloop.tasks import Project, Task
from nerloop.versions import Candidate, ModelVersion
from sync.judge import Judgement, judge, judge_again, register_checkpoint, settle
from sync.push import roll_back

LABELS = ("LOC", "ORG", "PER")
CONFIG = "".join(f'<Label value="{label}"/>' for label in LABELS)
PASSED = Decision(True, "better")
PROJECT = Project(
    1,
    "medical",
    f'<View><Labels name="label" toName="text">{CONFIG}</Labels><Text name="text" value="$text"/></View>',
    "",
    100,
)


def known_labels(document: Document) -> Document:
    return Document(document.id, document.text, tuple(e for e in document.entities if e.label in LABELS))


GATE = [known_labels(document) for document in read_jsonl(DEMO_FOLDER / "train.jsonl")[:120]]
UNTRAINED = adapt(fresh_starter(), Decoder.flat(["NONE", *LABELS]), {})


def register(
    loop: Loop,
    folder: Path,
    tagger: Tagger,
    gate_f1: float,
    replaces: int,
    parent: str,
    decision: Decision = PASSED,
) -> ModelVersion:
    """Put a version into production."""
    made = folder / f"{gate_f1}"
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), made / "checkpoint")
    (made / "dataset.jsonl").touch()
    candidate = Candidate(made / "checkpoint", LABELS, "", parent, replaces, {"gate_f1": gate_f1})
    version = loop.registry.register("medical", candidate, made / "dataset.jsonl", {}, decision)
    assert loop.registry.promote(version) == "promoted"
    return loop.registry.version("medical", version.number)


@pytest.fixture
def two_versions(loop: Loop, tmp_path: Path) -> Loop:
    """LAC was promoted as v1, and something that knows nothing replaced it as v2."""
    register(loop, tmp_path, starter(), 0.9, 0, STARTER_VERSION)
    register(loop, tmp_path, UNTRAINED, 0.5, 1, "medical-v1")
    return loop


def judged(loop: Loop, serving: Tagger, name: str, gate: list[Document] = GATE) -> Judgement:
    return judge(loop, "medical", serving, Predictor(serving, name), [PROJECT], gate)


def test_a_candidate_is_judged_by_production_and_by_the_best_version_ever(two_versions: Loop) -> None:
    judgement = judged(two_versions, UNTRAINED, "medical-v2")

    assert [contest.version for contest in judgement.decision.contests] == ["medical-v2", "medical-v1"]
    assert not judgement.decision.promote  # it is no worse than production, which is far worse than v1
    assert "against medical-v1 is too likely" in judgement.decision.reason


def test_a_production_that_is_the_best_ever_is_scored_once(loop: Loop, tmp_path: Path) -> None:
    register(loop, tmp_path, starter(), 0.9, 0, STARTER_VERSION)

    judgement = judged(loop, starter(), "medical-v1")

    assert [contest.version for contest in judgement.decision.contests] == ["medical-v1"]
    assert judgement.decision.promote


def test_a_best_version_that_cannot_be_read_is_left_out_and_the_decision_says_so(two_versions: Loop) -> None:
    version = two_versions.registry.version("medical", 1)
    (stored,) = two_versions.settings.home.glob(f"artifacts/**/{version.run_id}/**/pytorch_model.bin")
    stored.unlink()

    judgement = judged(two_versions, UNTRAINED, "medical-v2")

    assert judgement.decision.promote
    assert judgement.decision.reason.endswith("medical-v1, the best ever, is left out because it cannot be read")


def test_a_provisional_promotion_is_judged_again_once_there_are_documents_enough(loop: Loop, tmp_path: Path) -> None:
    version = register(loop, tmp_path, starter(), 0.9, 0, STARTER_VERSION, Decision(True, "better", provisional=True))
    few, many = GATE[: MIN_DOCUMENTS - 1], GATE

    judge_again(loop, version, judged(loop, starter(), "medical-v1", few).production, [PROJECT], few)
    before = loop.registry.version("medical", 1)
    judge_again(loop, version, judged(loop, starter(), "medical-v1", many).production, [PROJECT], many)
    after = loop.registry.version("medical", 1)

    assert before == version and before.provisional
    assert not after.provisional
    assert after.reason.startswith("judged again: micro-F1")
    assert "on 120 gate documents" in after.reason
    assert after.metrics["gate_documents"] == 120
    assert after.decision == "promoted"


def test_a_provisional_promotion_that_turns_out_worse_stays_and_says_so(
    loop: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register(loop, tmp_path, starter(), 0.9, 0, STARTER_VERSION)
    version = register(loop, tmp_path, UNTRAINED, 1.0, 1, "medical-v1", Decision(True, "better", provisional=True))

    with caplog.at_level(logging.WARNING, "sync.judge"):
        judge_again(loop, version, judged(loop, UNTRAINED, "medical-v2").production, [PROJECT], GATE)

    after = loop.registry.production("medical").version
    assert after is not None and after.number == 2 and not after.provisional
    assert "refused because micro-F1 is lower" in after.reason
    assert after.reason.endswith("it stays until something better comes or somebody acts")
    assert after.reason in caplog.text


def test_what_a_provisional_promotion_replaced_may_be_gone(two_versions: Loop, tmp_path: Path) -> None:
    version = register(two_versions, tmp_path, starter(), 0.7, 2, "medical-v9", Decision(True, "better", True))

    judge_again(two_versions, version, judged(two_versions, starter(), "medical-v3").production, [PROJECT], GATE)

    assert two_versions.registry.version("medical", 3) == version


def test_under_the_projects_names_a_renamed_label_is_the_same(loop: Loop) -> None:
    renamed = Project(1, "", PROJECT.label_config_xml.replace('"PER"', '"人" predicted_values="PER"'), "", 100)
    gate = [
        Document(d.id, d.text, tuple(Entity(e.start, e.end, "人" if e.label == "PER" else e.label) for e in d.entities))
        for d in GATE
    ]

    judgement = judge(loop, "medical", starter(), Predictor(starter(), "medical-v1"), [renamed], gate)

    (contest,) = judgement.decision.contests
    assert "人" in contest.labels
    assert contest.f1 == contest.candidate_f1 > 0.3


def test_a_candidate_that_passes_while_promotion_is_paused_is_said_to_wait(loop: Loop, tmp_path: Path) -> None:
    loop.registry.append("medical", "pause", "Li Na", "audit")
    checkpoint.save(UNTRAINED, checkpoint.Provenance("lac", ""), tmp_path / "checkpoint")
    (tmp_path / "dataset.jsonl").touch()
    candidate = Candidate(tmp_path / "checkpoint", LABELS, "", STARTER_VERSION, 0, {})

    outcome = settle(loop, "medical", candidate, tmp_path / "dataset.jsonl", {}, PASSED)

    assert outcome.decision == "passed"
    assert outcome.reason == "better; it waits, for automatic promotion is paused; `nerloop resume medical` ends that"


def test_a_second_worker_with_the_same_job_does_not_promote_what_the_first_was_refused(
    loop: Loop, tmp_path: Path
) -> None:
    run = loop.registry.runs.begin("medical", "key", {})
    checkpoint.save(UNTRAINED, checkpoint.Provenance("lac", ""), tmp_path / "checkpoint")
    (tmp_path / "dataset.jsonl").touch()
    candidate = Candidate(tmp_path / "checkpoint", LABELS, "", STARTER_VERSION, 0, {}, run.id)
    settle(loop, "medical", candidate, tmp_path / "dataset.jsonl", {}, Decision(False, "worse"))

    outcome = settle(loop, "medical", candidate, tmp_path / "dataset.jsonl", {}, PASSED)  # its fit was another

    assert (outcome.decision, outcome.reason) == ("rejected", "worse")
    assert loop.registry.production("medical").version is None


def test_a_version_that_was_rolled_back_from_judges_no_more(two_versions: Loop, tmp_path: Path) -> None:
    register(two_versions, tmp_path, starter(), 0.95, 2, "medical-v2")
    roll_back(two_versions, "medical", "medical-v2", "Li Na", "")
    before = judged(two_versions, UNTRAINED, "medical-v2").decision.contests
    roll_back(two_versions, "medical", STARTER_VERSION, "Li Na", "")

    after = judged(two_versions, starter(), STARTER_VERSION).decision.contests

    assert [contest.version for contest in before] == ["medical-v2", "medical-v1"]  # not v3, though its F1 is higher
    assert [contest.version for contest in after] == [STARTER_VERSION]


class NothingLabelled:
    """Stands in for a Label Studio in which nobody has labelled anything yet."""

    def project(self, number: int) -> Project:
        return PROJECT

    def tasks(self, project: Project, **_: object) -> list[Task]:
        return []


def test_before_anything_is_labelled_a_model_serves_only_if_somebody_answers_for_it(loop: Loop) -> None:
    loop.__dict__["label_studio"] = NothingLabelled()
    loop.state.save_binding(Binding(PROJECT.id, "medical", 50))
    made = checkpoint.Provenance("raner", "")

    with pytest.raises(BadInput, match=r"no labelled entity .* --force --by WHO --why REASON"):
        register_checkpoint(loop, "medical", starter(), made, "Li Na")
    _, outcome = register_checkpoint(loop, "medical", starter(), made, "Li Na", "a published RaNER to begin with")

    assert outcome.decision == "promoted"
    assert loop.registry.production("medical").name == "medical-v1"
    assert "forced by Li Na, because: a published RaNER to begin with" in outcome.reason
