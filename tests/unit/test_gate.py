import pytest

from nerloop.documents import Document, Entity
from nerloop.evaluation import Evaluation, Scores, evaluate
from nerloop.gate import decide


def evaluation(f1, support=40):
    return Evaluation(Scores(f1, f1, f1, support), f1, documents=12)


@pytest.mark.parametrize(("candidate", "promote"), [(0.71, True), (0.70, True), (0.69, False)])
def test_a_candidate_is_promoted_when_it_is_at_least_as_good(candidate, promote):
    assert decide(evaluation(candidate), evaluation(0.70), "medical-v6").promote is promote


def test_the_reason_names_both_scores_the_version_and_what_they_were_measured_on():
    reason = decide(evaluation(0.8124), evaluation(0.7), "medical-v6").reason

    assert "0.700 (medical-v6) → 0.812" in reason
    assert "12 gate documents with 40 entities" in reason


def test_a_rejection_says_which_version_is_kept():
    assert decide(evaluation(0.5), evaluation(0.7), "medical-v6").reason.endswith("kept medical-v6")


def test_a_candidate_that_invents_entities_is_not_promoted_over_one_that_finds_none():
    gold = [Document("", "无人提及", ()) for _ in range(5)]
    inventing = evaluate(gold, [Document("", "", (Entity(0, 2, "PER"),)) for _ in gold])
    silent = evaluate(gold, [Document("", "", ()) for _ in gold])

    decision = decide(inventing, silent, "medical-v6")

    assert not decision.promote
    assert "no entity on 5 gate documents to judge by; kept medical-v6" in decision.reason
