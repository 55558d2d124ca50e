import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.calibration import calibration, perfect_ece
from nerloop.documents import Document, Entity


def measured(*outcomes, bins=10):
    """Measure entities of which each is given as (score, whether it is right), one a document."""
    gold = [Document("", "张三", (Entity(0, 2, "PER" if right else "LOC"),)) for _, right in outcomes]
    predicted = [Document("", "张三", (Entity(0, 2, "PER", score),)) for score, _ in outcomes]
    return calibration(gold, predicted, bins)


outcomes_of_a_model = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=20)


def test_a_case_worked_by_hand():
    result = measured((0.99, True), (0.91, True), (0.85, False), (0.25, True))

    assert result.ece == pytest.approx((2 * 0.05 + 0.85 + 0.75) / 4)
    assert result.entities == 4
    last = result.bins[-1]
    assert (last.low, last.high, last.count, last.confidence, last.accuracy) == (0.9, 1, 2, pytest.approx(0.95), 1)
    assert [each.count for each in result.bins] == [0, 0, 1, 0, 0, 0, 0, 0, 1, 2]


def test_scores_that_are_kept_as_promises_have_no_error():
    assert measured(*[(0.8, True)] * 4, (0.8, False)).ece == pytest.approx(0)


def test_an_entity_with_a_wrong_border_or_label_or_in_a_document_without_any_is_not_right():
    gold = [Document("", "张三去北京", (Entity(0, 2, "PER"), Entity(3, 5, "LOC"))), Document("", "无人")]
    wrong = [
        Document("", "", (Entity(0, 3, "PER", 0.75), Entity(3, 5, "ORG", 0.75))),
        Document("", "", (Entity(0, 2, "PER", 0.75),)),
    ]

    assert calibration(gold, wrong).ece == 0.75


def test_entities_without_a_score_are_left_out_and_duplicates_count_once():
    gold = [Document("", "张三去北京", (Entity(0, 2, "PER"), Entity(3, 5, "LOC")))]
    predicted = [Document("", "", (Entity(0, 2, "PER", 0.5), Entity(0, 2, "PER", 0.5), Entity(3, 5, "LOC")))]

    result = calibration(gold, predicted)

    assert (result.ece, result.entities) == (0.5, 1)


@pytest.mark.parametrize("tenths", range(11))
def test_a_score_on_an_edge_is_in_the_bin_below_it(tenths):
    result = measured((tenths / 10, True))

    assert [each.count for each in result.bins].index(1) == max(0, tenths - 1)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_that_is_no_probability_is_refused(score):
    with pytest.raises(ValueError, match="no probability"):
        measured((score, True))
    with pytest.raises(ValueError, match="no probability"):
        perfect_ece([score])


def test_documents_must_come_in_pairs():
    with pytest.raises(ValueError, match="1 gold documents against 0 predicted"):
        calibration([Document("", "")], [])


def test_without_entities_there_is_no_error_and_the_diagram_is_empty():
    result = calibration([Document("", "张三", (Entity(0, 2, "PER"),))], [Document("", "张三")])

    assert (result.ece, result.entities, perfect_ece([])) == (0, 0, 0)
    assert all((each.count, each.confidence, each.accuracy) == (0, 0, 0) for each in result.bins)


@given(outcomes_of_a_model, st.integers(1, 20))
def test_every_entity_is_in_the_bin_of_its_score(outcomes, bins):
    result = measured(*outcomes, bins=bins)

    assert result.entities == len(outcomes)
    assert (result.bins[0].low, result.bins[-1].high, len(result.bins)) == (0, 1, bins)
    for each in result.bins:
        inside = [right for score, right in outcomes if each.low < score <= each.high or score == each.low == 0]
        assert each.count == len(inside)
        assert each.accuracy == pytest.approx(sum(inside) / max(1, len(inside)))


@given(outcomes_of_a_model)
def test_finer_bins_never_hide_that_a_model_is_too_sure_on_the_whole(outcomes):
    too_sure = sum(score - right for score, right in outcomes) / len(outcomes)

    assert measured(*outcomes, bins=1).ece == pytest.approx(abs(too_sure))
    assert abs(too_sure) - 1e-9 <= measured(*outcomes).ece <= 1


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.8], 0.8 * 0.2 + 0.2 * 0.8),
        ([0.5, 0.5], 0.5 / 2),  # one of two right by chance: half of the time no error, half of the time 0.5
        ([0.45, 0.85], (2 * 0.45 * 0.55 + 2 * 0.85 * 0.15) / 2),
        ([0.0, 1.0], 0),
    ],
)
def test_the_error_of_a_perfect_model_is_what_chance_gives(scores, expected):
    assert perfect_ece(scores, resamples=20_000) == pytest.approx(expected, abs=0.01)


def test_a_perfect_model_shows_less_error_on_more_entities():
    assert perfect_ece([0.7] * 10) > 3 * perfect_ece([0.7] * 1000) > 0


def test_the_same_seed_gives_the_same_error():
    assert perfect_ece([0.3, 0.6, 0.9], seed=1) == perfect_ece([0.3, 0.6, 0.9], seed=1)


def test_a_calibrated_model_is_told_from_one_that_is_too_sure():
    chance = random.Random(0)
    scores = [chance.uniform(0.5, 1) for _ in range(2000)]
    calibrated = measured(*((score, chance.random() < score) for score in scores))
    too_sure = measured(*((score, chance.random() < score - 0.2) for score in scores))

    assert calibrated.ece < 2 * perfect_ece(scores)
    assert too_sure.ece > 5 * perfect_ece(scores)
