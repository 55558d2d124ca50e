import math
import random

import numpy as np
import pytest

from nerloop.acquisition import DIVERSE, FIRST, STRATEGIES, Order, head_scores, serving_scores
from nerloop.documents import Prediction, Uncertainty
from nerloop.split import side_of

TEXTS = [f"{number:03}号病历说明患者情况如下" for number in range(200)]
CONFIDENCES = [random.Random(number).random() for number in range(200)]
ALL_BY_DOUBT = Order("confidence", dev_share=0, gate_share=0, random_share=0)


def prediction(confidence=0.5, least_confidence=0.5, mnlp=-0.1, token_entropy=0.2, margin=0.5, version="v1"):
    return Prediction((), confidence, version, Uncertainty(least_confidence, mnlp, token_entropy, margin))


def no_vectors(texts):
    raise AssertionError("only `diverse` asks for vectors")


def scores(order=ALL_BY_DOUBT, texts=TEXTS, confidences=CONFIDENCES):
    return serving_scores(texts, [prediction(confidence) for confidence in confidences], order)


def as_head(texts, confidences, order=ALL_BY_DOUBT, vectors=no_vectors, *, stored=None, knows_labels=True):
    made = [prediction(confidence) for confidence in confidences]
    return head_scores(texts, made, stored or confidences, order, vectors, knows_labels=knows_labels)


def served(scored):
    return sorted(range(len(scored)), key=scored.__getitem__)


# P(best path) 0.9 and 0.6 of 100 and 4 characters: the long text is surer as a whole, and by far surer a character.
LONG = prediction(0.99, least_confidence=0.1, mnlp=math.log(0.9) / 100, token_entropy=0.01, margin=0.8)
SHORT = prediction(0.77, least_confidence=0.4, mnlp=math.log(0.6) / 4, token_entropy=0.3, margin=0.3)
# Least confidence and mnlp disagree: ten doubtful characters of a hundred, and one of two.
DOUBTFUL_LONG = prediction(0.5, least_confidence=0.65, mnlp=10 * math.log(0.9) / 100, token_entropy=0.03, margin=0.7)
DOUBTFUL_SHORT = prediction(0.8, least_confidence=0.3, mnlp=math.log(0.7) / 2, token_entropy=0.31, margin=0.4)


ONE_PAIR = {"长" * 100: LONG, "短" * 4: SHORT}
ANOTHER = {"长" * 100: DOUBTFUL_LONG, "短" * 2: DOUBTFUL_SHORT}


@pytest.mark.parametrize(
    ("strategy", "sure", "score_of_long", "score_of_short"),
    [
        ("least-confidence", ONE_PAIR, 1 / (1 - math.log(0.9)), 1 / (1 - math.log(0.6))),
        ("least-confidence", ANOTHER, 1 / (1 - 10 * math.log(0.9)), 1 / (1 - math.log(0.7))),
        ("mnlp", ONE_PAIR, 0.9**0.01, 0.6**0.25),
        ("mnlp", ANOTHER, 0.9**0.1, 0.7**0.5),
        ("entropy", ONE_PAIR, math.exp(-0.01), math.exp(-0.3)),
        ("margin", ONE_PAIR, 0.8, 0.3),
        ("confidence", ANOTHER, 0.5, 0.8),
    ],
)
def test_a_strategy_scores_as_worked_by_hand(strategy, sure, score_of_long, score_of_short):
    order = Order(strategy, 0, 0, 0)

    found = serving_scores(list(sure), list(sure.values()), order)

    assert found == pytest.approx([score_of_long, score_of_short], abs=1e-6)


@pytest.mark.parametrize("strategy", sorted(set(STRATEGIES) - {"random"}))
def test_the_doubt_about_very_long_texts_never_reaches_the_score_of_what_somebody_flagged(strategy):
    hopeless = prediction(0.0, least_confidence=1.0, mnlp=-5.0, token_entropy=20.0, margin=0.0)

    found = serving_scores(["长" * 900, "文" * 1000], [hopeless] * 2, Order(strategy, 0, 0, 0))

    assert min(found) > FIRST


def test_of_two_texts_whose_best_paths_are_as_good_as_impossible_the_worse_comes_first_by_least_confidence():
    bad, worse = prediction(least_confidence=1.0, mnlp=-0.5), prediction(least_confidence=1.0, mnlp=-0.6)

    found = serving_scores(["长" * 900, "文" * 900], [bad, worse], Order("least-confidence", 0, 0, 0))

    assert found[1] < found[0]


def test_random_is_stable_and_says_nothing_of_the_models_doubt():
    order = Order("random", 0, 0, 0)

    assert scores(order) == scores(order, confidences=CONFIDENCES[::-1])
    assert served(scores(order)) != served(scores())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_order_of_tasks(strategy):
    order = Order(strategy, 0.1, 0.1, 0.1)
    places = random.Random(1).sample(range(200), 200)

    found = scores(order)
    shuffled = scores(order, [TEXTS[n] for n in places], [CONFIDENCES[n] for n in places])

    assert shuffled == [found[n] for n in places]
    assert all(0 <= score <= 1 for score in found)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_head_does_not_depend_on_the_order_of_tasks_either_and_keeps_its_scores_in_another_order(strategy):
    order = Order(strategy, 0.1, 0.1, 0.1)
    vector_of = {text: np.random.default_rng(number).normal(size=4) for number, text in enumerate(TEXTS)}
    places = random.Random(1).sample(range(200), 200)
    stored = scores(order)

    def dealt(numbers):
        texts, confidences = [TEXTS[n] for n in numbers], [CONFIDENCES[n] for n in numbers]
        vectors = lambda asked: np.array([vector_of[text] for text in asked])  # noqa: E731
        return as_head(texts, confidences, order, vectors, stored=[stored[n] for n in numbers])

    found = dealt(range(200))

    assert dealt(places) == [found[n] for n in places]
    assert sorted(found) == sorted(stored)
    assert (found == stored) == (strategy != DIVERSE)  # one call had scored them all


FEVER_AND_HEART = ["发烧三天", "高烧两天", "低烧一周", "心慌气短"]  # three alike to the model, and one about the heart
VECTOR_OF = dict(zip(FEVER_AND_HEART, np.array([[1.0, 0.1], [1.0, 0.0], [1.0, -0.1], [-1.0, 0.0]]), strict=True))


def vectors_of(texts):
    return np.array([VECTOR_OF[text] for text in texts])


def test_of_two_alike_texts_one_comes_early_and_the_other_waits_for_others():
    confidences = [0.10, 0.11, 0.12, 0.3]

    found = as_head(FEVER_AND_HEART, confidences, Order(DIVERSE, 0, 0, 0), vectors_of)

    assert [FEVER_AND_HEART[n] for n in served(found)][:2] == ["发烧三天", "心慌气短"]
    assert sorted(found) == sorted(confidences)


def test_a_model_that_knows_none_of_the_labels_ranks_by_difference_and_not_by_its_doubt():
    def found(strategy, confidences):
        order, made = Order(strategy, 0, 0, 0), [prediction(confidence) for confidence in confidences]
        stored = serving_scores(FEVER_AND_HEART, made, order, knows_labels=False)
        return as_head(FEVER_AND_HEART, confidences, order, vectors_of, stored=stored, knows_labels=False)

    scored = found("confidence", [0.1, 0.11, 0.12, 0.9])

    assert "心慌气短" in [FEVER_AND_HEART[n] for n in served(scored)][:2]  # of which the model is surest
    assert found("confidence", [0.9, 0.1, 0.5, 0.1]) == found("mnlp", [0.1] * 4) == scored
    assert sorted(scored) == sorted(found("random", [0.1] * 4))


def test_copies_that_were_scored_in_different_calls_come_after_all_else_at_the_head():
    texts = ["患者自述头痛三天，来我院就诊", "快递还没有到", "患者自述头痛三天，来我院就诊。", "屏幕碎了"]

    found = as_head(texts, [0.1, 0.15, 0.2, 0.3])

    assert [texts[n] for n in served(found)] == [texts[0], texts[1], texts[3], texts[2]]


def test_at_the_head_what_is_flagged_or_comes_up_by_chance_stays_where_it_is():
    texts, confidences, order = TEXTS[:100], CONFIDENCES[:100], Order("confidence", 0, 0, 0.2)
    staying = [n for n, text in enumerate(texts) if order.by_chance(text)]
    flagged = next(n for n in range(100) if n not in staying)
    stored = [FIRST if n == flagged else random.Random(n + 1).uniform(0.1, 0.2) for n in range(100)]

    found = as_head(texts, confidences, order, stored=stored)

    assert [found[n] for n in (flagged, *staying)] == [stored[n] for n in (flagged, *staying)]
    others = [n for n in range(100) if n not in (flagged, *staying)]
    assert sorted(others, key=found.__getitem__) == sorted(others, key=confidences.__getitem__)


def test_a_text_that_nearly_repeats_one_before_goes_to_the_end():
    texts = ["患者自述头痛三天，来我院就诊", "患者自述头痛三天，来我院就诊。", "快递还没有到", "屏幕碎了"]

    found = scores(ALL_BY_DOUBT, texts, [0.1, 0.2, 0.3, 0.4])

    assert [texts[n] for n in served(found)] == [texts[0], texts[2], texts[3], texts[1]]


HELD_OUT = [side_of(text, 0.2, 0.2) != "train" for text in TEXTS]
WITH_HELD_OUT = Order("confidence", 0.2, 0.2, 0.0)


def test_held_out_scores_are_drawn_from_those_of_the_others():
    found = scores(WITH_HELD_OUT)

    others = {round(confidence, 6) for confidence, out in zip(CONFIDENCES, HELD_OUT, strict=True) if not out}
    drawn = [score for score, out in zip(found, HELD_OUT, strict=True) if out]
    assert set(drawn) <= others
    assert len(set(drawn)) > len(drawn) / 2


def test_held_out_scores_say_nothing_of_the_models_doubt_about_them():
    sure = [1.0 if out else confidence for confidence, out in zip(CONFIDENCES, HELD_OUT, strict=True)]
    unsure = [0.0 if out else confidence for confidence, out in zip(CONFIDENCES, HELD_OUT, strict=True)]

    assert scores(WITH_HELD_OUT, confidences=sure) == scores(WITH_HELD_OUT, confidences=unsure)


def test_held_out_texts_are_spread_over_the_whole_order():
    order = served(scores(WITH_HELD_OUT))

    quarters = [sum(HELD_OUT[task] for task in order[start : start + 50]) for start in range(0, 200, 50)]
    assert min(quarters) > 0.1 * sum(HELD_OUT)


def test_a_share_of_the_other_texts_comes_up_by_chance():
    order = Order("confidence", 0, 0, 0.2)
    by_chance = [order.by_chance(text) for text in TEXTS]
    sure = [1.0 if chance else confidence for chance, confidence in zip(by_chance, CONFIDENCES, strict=True)]

    assert 20 <= sum(by_chance) <= 60
    assert scores(order) == scores(order, confidences=sure)


def test_the_share_by_chance_comes_up_again_and_again_version_after_version():
    order = Order("confidence", dev_share=0.1, gate_share=0.1, random_share=0.1)
    left = {f"{number:04}号病历说明患者情况如下": number / 2000 for number in range(2000)}
    came_up = []

    for version in ("v1", "v2", "v3", "v4", "v5", "v6"):
        sure = [prediction(confidence, version=version) for confidence in left.values()]
        scored = dict(zip(left, serving_scores(list(left), sure, order), strict=True))
        head = sorted(left, key=scored.__getitem__)[:50]
        came_up.append(sum(order.by_chance(text) for text in head))
        left = {text: confidence for text, confidence in left.items() if text not in head}

    assert all(7 <= count <= 21 for count in came_up), came_up  # 14 of 50 are to be expected


def test_a_text_alone_has_its_own_score_and_a_held_out_one_a_stable_one_that_is_not():
    out = next(text for text, held_out in zip(TEXTS, HELD_OUT, strict=True) if held_out)

    assert scores(ALL_BY_DOUBT, ["一条"], [0.25]) == [0.25]
    (one,), (other,) = scores(WITH_HELD_OUT, [out], [0.0]), scores(WITH_HELD_OUT, [out], [1.0])
    assert one == other
    assert 0 <= one <= 1


def test_no_tasks_have_no_scores():
    assert scores(Order(DIVERSE, 0.1, 0.1, 0.1), [], []) == as_head([], [], Order(DIVERSE, 0.1, 0.1, 0.1)) == []
