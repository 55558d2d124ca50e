import random

import pytest

from nerloop.acquisition import serving_scores
from nerloop.split import side_of

SHARES = 0.2, 0.2
TEXTS = [f"第{number}号文本" for number in range(200)]
CONFIDENCES = [random.Random(number).random() for number in range(200)]
HELD_OUT = [side_of(text, *SHARES) != "train" for text in TEXTS]


def scores_of_held_out(confidences):
    return [score for score, out in zip(serving_scores(TEXTS, confidences, *SHARES), HELD_OUT, strict=True) if out]


def test_on_the_training_side_the_score_is_the_confidence():
    scores = serving_scores(TEXTS, CONFIDENCES, *SHARES)

    for score, confidence, out in zip(scores, CONFIDENCES, HELD_OUT, strict=True):
        assert out or score == pytest.approx(confidence, abs=1e-6)


def test_held_out_scores_are_drawn_from_the_confidences_of_the_others():
    others = {round(confidence, 6) for confidence, out in zip(CONFIDENCES, HELD_OUT, strict=True) if not out}

    drawn = scores_of_held_out(CONFIDENCES)

    assert set(drawn) <= others
    assert len(set(drawn)) > len(drawn) / 2


def test_held_out_scores_say_nothing_of_the_models_doubt_about_them():
    sure = [1.0 if out else confidence for confidence, out in zip(CONFIDENCES, HELD_OUT, strict=True)]
    unsure = [0.0 if out else confidence for confidence, out in zip(CONFIDENCES, HELD_OUT, strict=True)]

    assert scores_of_held_out(sure) == scores_of_held_out(unsure)


def test_held_out_texts_are_spread_over_the_whole_order():
    order = sorted(range(200), key=serving_scores(TEXTS, CONFIDENCES, *SHARES).__getitem__)
    quarters = [sum(HELD_OUT[task] for task in order[start : start + 50]) for start in range(0, 200, 50)]

    assert min(quarters) > 0.1 * sum(HELD_OUT)


def test_scores_are_the_same_each_time_and_in_any_order_of_tasks():
    order = random.Random(1).sample(range(200), 200)

    scores = serving_scores(TEXTS, CONFIDENCES, *SHARES)
    shuffled = serving_scores([TEXTS[i] for i in order], [CONFIDENCES[i] for i in order], *SHARES)

    assert shuffled == [scores[i] for i in order]
    assert serving_scores(TEXTS, CONFIDENCES, *SHARES) == scores


def test_a_held_out_text_alone_has_a_stable_score_that_is_not_its_confidence():
    text = next(text for text, out in zip(TEXTS, HELD_OUT, strict=True) if out)

    (one,), (other,) = serving_scores([text], [0.0], *SHARES), serving_scores([text], [1.0], *SHARES)

    assert one == other
    assert 0 <= one <= 1


def test_no_tasks_have_no_scores():
    assert serving_scores([], [], *SHARES) == []
