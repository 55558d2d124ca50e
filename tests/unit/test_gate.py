import json
import random

import pytest

from nerloop.documents import Document, Entity
from nerloop.gate import Contest, Rival, decide
from nerloop.promotions import STARTER_VERSION

NAMES = ("PER", "LOC", "DRUG")


def gate(number=100, labels=NAMES, each=2):
    """Gate documents with `each` entities of each label, one character each."""
    places = [label for label in labels for _ in range(each)]
    entities = tuple(Entity(place, place + 1, label) for place, label in enumerate(places))
    return [Document(str(i), "字" * (len(places) + 5), entities) for i in range(number)]


def found(gold, seed=0, **shares):
    """What a model finds that is right with the given chance for each label and finds nothing else; 1 if not given."""
    chance = random.Random(seed)
    return [
        Document(d.id, d.text, tuple(e for e in d.entities if chance.random() < shares.get(e.label, 1))) for d in gold
    ]


def missing(gold, count, label, first=0):
    """Everything that is right, but for `count` entities of a label, one a document."""
    result = list(gold)
    for number in range(first, first + count):
        entities = result[number].entities
        gone = next(e for e in entities if e.label == label)
        result[number] = Document("", result[number].text, tuple(e for e in entities if e != gone))
    return result


def rival(version, documents, labels=NAMES):
    return Rival(version, frozenset(labels), documents)


def test_a_deliberately_worse_candidate_is_refused_with_both_scores():
    gold = gate()

    decision = decide(gold, found(gold, PER=0.3, LOC=0.5), NAMES, rival("medical-v6", gold))

    assert not decision.promote
    assert "micro-F1 1.000 (medical-v6) → 0." in decision.reason
    assert "on 100 gate documents with 600 entities" in decision.reason
    assert decision.reason.endswith("refused because micro-F1 is lower")


def test_a_better_candidate_is_promoted_and_its_sentence_names_what_was_measured():
    gold = gate()

    decision = decide(gold, found(gold, PER=0.9), NAMES, rival("medical-v6", found(gold, PER=0.3, LOC=0.8)))

    assert decision.promote and not decision.provisional
    assert "(medical-v6) → 0.9" in decision.reason
    assert "P(drop > 0.01) 0.000" in decision.reason
    assert "refused" not in decision.reason


def test_the_same_model_again_is_promoted():
    gold = gate()
    same = found(gold, PER=0.7, LOC=0.7, DRUG=0.7)

    decision = decide(gold, same, NAMES, rival("medical-v6", same), rival("medical-v3", same))

    assert decision.promote
    assert [contest.interval for contest in decision.contests] == [(0, 0), (0, 0)]


def test_a_candidate_that_is_only_luckier_is_refused():
    # One entity better on these documents, but right and wrong on quite other ones than production.
    gold = gate(60, ("PER",), 2)
    production, candidate = missing(gold, 30, "PER"), missing(gold, 29, "PER", first=30)

    decision = decide(gold, candidate, ["PER"], rival("medical-v6", production, ["PER"]))

    assert not decision.promote
    assert decision.contests[0].candidate_f1 > decision.contests[0].f1
    assert "refused because a drop of more than 0.01 against medical-v6 is too likely" in decision.reason


def test_better_on_average_does_not_excuse_a_label_that_drops():
    gold = gate()
    production = found(gold, PER=0.5)
    candidate = missing(gold, 50, "DRUG")  # 0.857 of what was 1

    decision = decide(gold, candidate, NAMES, rival("medical-v6", production))

    assert not decision.promote
    assert decision.contests[0].interval[0] > 0
    assert decision.contests[0].label_changes["DRUG"] == pytest.approx(2 * 150 / 350 - 1, abs=1e-6)
    assert decision.reason.endswith("labels that drop against medical-v6: DRUG -0.143 (at most 0.1)")


def test_how_much_a_label_may_drop_can_be_set():
    gold = gate()
    production, candidate = found(gold, PER=0.5), missing(gold, 50, "DRUG")

    assert decide(gold, candidate, NAMES, rival("medical-v6", production), label_margin=0.15).promote
    assert not decide(gold, candidate, NAMES, rival("medical-v6", production), label_margin=0.14).promote


def test_a_label_of_few_entities_cannot_refuse_a_candidate():
    gold = gate(100, ("PER",), 2)
    gold[:29] = gate(29, NAMES, 1)
    production = found(gold, PER=0.5)

    decision = decide(gold, found(gold, DRUG=0), NAMES, rival("medical-v6", production))

    assert decision.promote
    assert set(decision.contests[0].label_changes) == {"PER"}


def test_steps_down_that_are_each_no_worse_than_production_end_at_the_best_version_ever():
    # Production came there by a provisional promotion; today's documents show that it was a step down.
    gold = gate()
    best, production = found(gold), found(gold, seed=1, PER=0.85, LOC=0.95)

    alone = decide(gold, production, NAMES, rival("medical-v6", production))
    decision = decide(gold, production, NAMES, rival("medical-v6", production), rival("medical-v3", best))

    assert alone.promote
    assert not decision.promote
    assert [contest.version for contest in decision.contests] == ["medical-v6", "medical-v3"]
    assert "against the best ever, medical-v3 (1.000)" in decision.reason
    assert "refused because a drop of more than 0.01 against medical-v3 is too likely (1.000" in decision.reason


def test_a_label_may_not_drop_in_steps_either():
    gold = gate()
    best, production = found(gold, PER=0.5, LOC=0.5), missing(gold, 34, "DRUG")

    decision = decide(
        gold, missing(gold, 50, "DRUG", first=20), NAMES, rival("medical-v6", found(production, PER=0.5)),
        rival("medical-v3", best),
    )  # fmt: skip

    assert "labels that drop against medical-v3: DRUG -0.143" in decision.reason


@pytest.mark.parametrize(("documents", "each"), [(29, 2), (30, 1)])
def test_on_a_tiny_held_out_set_micro_f1_alone_decides_and_the_promotion_is_provisional(documents, each):
    gold = gate(documents, NAMES, each)
    production, candidate = missing(gold, 14, "PER"), missing(gold, 14, "LOC", first=14)

    decision = decide(gold, candidate, NAMES, rival("medical-v6", production))
    worse = decide(gold, missing(gold, 15, "LOC"), NAMES, rival("medical-v6", production))

    assert (decision.promote, decision.provisional) == (True, True)
    assert decision.contests[0].p_drop > 0.1
    assert "provisional: fewer than 30 documents or 100 entities" in decision.reason
    assert (worse.promote, worse.provisional) == (False, True)


def test_thirty_documents_with_a_hundred_entities_are_enough():
    gold = gate(34, NAMES, 1)

    assert not decide(gold, gold, NAMES, rival("medical-v6", gold)).provisional


def test_a_label_added_mid_project_neither_helps_nor_hurts_and_its_own_score_is_said():
    gold = gate()
    before = found(gold, DRUG=0)  # what does not know DRUG finds none
    old = ("PER", "LOC")

    same = decide(gold, found(gold, DRUG=0.5), NAMES, rival("medical-v6", before, old))
    worse = decide(gold, found(gold, PER=0.5), NAMES, rival("medical-v6", before, old))

    assert same.promote and same.contests[0].labels == ("LOC", "PER")
    assert "not counting new labels, which cannot drop: DRUG F1 0." in same.reason
    assert "of 200 entities" in same.reason
    assert not worse.promote  # though it is the better one if DRUG counted
    assert "gate documents with 400 entities" in worse.reason


def test_a_removed_label_cannot_count_as_a_drop():
    gold = gate()  # of which DRUG is no label any more
    now = ("PER", "LOC")

    decision = decide(gold, found(gold, DRUG=0), now, rival("medical-v6", gold), rival("medical-v3", gold))

    assert decision.promote
    assert {contest.labels for contest in decision.contests} == {("LOC", "PER")}
    assert "DRUG" not in decision.reason


def test_a_label_that_the_candidate_lacks_though_the_projects_have_it_counts_as_a_drop():
    gold = gate()

    decision = decide(gold, found(gold, DRUG=0), NAMES, rival("medical-v6", found(gold, PER=0.2, LOC=0.2)))

    assert not decision.promote
    assert "DRUG -1.000" in decision.reason


def test_a_first_model_is_judged_on_the_whole_task_of_which_the_starter_knows_a_part():
    gold = gate()
    starter = rival(STARTER_VERSION, found(gold, DRUG=0, LOC=0.9), ("PER", "LOC", "ORG", "TIME"))

    better = decide(gold, found(gold, PER=0.7, DRUG=0.9), NAMES, starter)
    worse = decide(gold, found(gold, PER=0.1, LOC=0.5, DRUG=0.3), NAMES, starter)

    assert better.promote  # PER drops by more than the margin: the starter's idea of it is nobody's choice
    assert better.contests[0].label_changes["PER"] < -0.1
    assert better.contests[0].labels == tuple(sorted(NAMES))
    assert not worse.promote


def test_where_every_label_was_replaced_the_whole_task_decides():
    gold = gate()

    decision = decide(gold, gold, NAMES, rival("medical-v6", found(gold, PER=0, LOC=0, DRUG=0), ("GENE",)))

    assert decision.promote
    assert decision.contests[0].f1 == 0


def test_a_best_version_that_knows_none_of_todays_labels_judges_nothing():
    gold = gate()

    decision = decide(gold, gold, NAMES, rival("medical-v6", gold), rival("medical-v3", gold, ("GENE",)))

    assert [contest.version for contest in decision.contests] == ["medical-v6"]


def test_a_candidate_that_invents_entities_is_not_promoted_over_one_that_finds_none():
    gold = [Document("", "无人提及", ()) for _ in range(5)]
    inventing = [Document("", "", (Entity(0, 2, "PER"),)) for _ in gold]

    decision = decide(gold, inventing, ["PER"], rival("medical-v6", gold))

    assert not decision.promote
    assert "no entity is on 5 gate documents to judge by" in decision.reason


def test_where_only_a_new_label_is_on_the_gate_documents_nothing_can_be_judged():
    gold = gate(40, ("DRUG",))

    decision = decide(gold, gold, NAMES, rival("medical-v6", found(gold, DRUG=0), ("PER", "LOC")))

    assert not decision.promote
    assert "no entity of the labels that medical-v6 knows too (LOC, PER) is on 40 gate documents" in decision.reason


def test_the_same_documents_give_the_same_decision():
    gold = gate()
    sides = found(gold, PER=0.8), found(gold, seed=1, PER=0.8), found(gold, seed=2, LOC=0.8)

    once, again = (
        decide(gold, sides[0], NAMES, rival("medical-v6", sides[1]), rival("medical-v3", sides[2])) for _ in range(2)
    )

    assert once == again


def test_who_forces_a_refused_candidate_and_why_is_part_of_the_decision():
    gold = gate()
    refused = decide(gold, found(gold, PER=0.5), NAMES, rival("medical-v6", gold))

    forced = refused.forced("Li Na", "new guideline")

    assert forced.promote
    assert (forced.forced_by, forced.forced_why) == ("Li Na", "new guideline")
    assert forced.reason == f"{refused.reason}; promoted all the same: forced by Li Na, because: new guideline"


def test_nobody_forces_what_the_gate_promotes_anyway():
    gold = gate()
    promoted = decide(gold, gold, NAMES, rival("medical-v6", gold))

    assert promoted.forced("Li Na", "new guideline") == promoted


def test_the_numbers_survive_json_and_say_themselves():
    gold = gate()
    decision = decide(gold, found(gold, PER=0.9), NAMES, rival("medical-v6", found(gold, LOC=0.5)))

    (row,) = json.loads(json.dumps(decision.rows()))

    assert (Contest.of_row(row),) == decision.contests
    assert str(decision.contests[0]).startswith("against medical-v6: micro-F1 0.")
    assert "LOC +0." in str(decision.contests[0])
