import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.comparison import compare
from nerloop.documents import Document, Entity
from nerloop.evaluation import evaluate

PEOPLE = ((0, 2), (3, 5), (6, 8))


def found(*spans):
    return Document("", "张三和李四和王五", tuple(Entity(*span, "PER") for span in spans))


def random_documents(chance, number, share):
    """Documents in which each person is labelled with probability `share`, and sometimes a stray character."""
    return [
        found(*(span for span in PEOPLE if chance.random() < share), *([(2, 3)] if chance.random() < 0.2 else []))
        for _ in range(number)
    ]


documents = st.lists(st.sampled_from((*PEOPLE, (2, 3))), max_size=4).map(lambda spans: found(*spans))
triples_of_documents = st.lists(st.tuples(documents, documents, documents), min_size=1, max_size=5)


def test_a_case_worked_by_hand():
    # Each model is right on one of two documents: of the four draws one holds the first's only, one the second's only.
    gold = [found((0, 2)), found((0, 2))]
    first, second = [found((0, 2)), found()], [found(), found((0, 2))]

    comparison = compare(gold, first, second, resamples=20_000)

    assert comparison.first_f1 == comparison.second_f1 == pytest.approx(2 / 3)
    assert (comparison.difference, comparison.interval) == (0, (-1, 1))
    assert comparison.probability_worse() == pytest.approx(1 / 4, abs=0.01)
    assert comparison.probability_worse(margin=1) == 0


def test_worse_by_a_margin_means_by_more_than_it():
    gold = [found((0, 2), (3, 5))] * 3
    comparison = compare(gold, gold, [found((0, 2))] * 3)

    assert comparison.difference == pytest.approx(2 / 3 - 1)
    assert [comparison.probability_worse(margin) for margin in (0, 0.33, 0.34)] == [1, 1, 0]


def test_a_model_against_itself_is_not_worse_however_hard_some_documents_are():
    chance = random.Random(0)
    gold, predicted = random_documents(chance, 50, 1), random_documents(chance, 50, 0.5)

    comparison = compare(gold, predicted, predicted)

    assert (comparison.difference, comparison.interval, comparison.probability_worse()) == (0, (0, 0), 0)


@given(triples_of_documents)
def test_the_scores_are_those_of_the_evaluation(triples):
    gold, first, second = (list(side) for side in zip(*triples, strict=True))

    comparison = compare(gold, first, second, resamples=10)

    assert comparison.first_f1 == pytest.approx(evaluate(gold, first).micro.f1)
    assert comparison.second_f1 == pytest.approx(evaluate(gold, second).micro.f1)
    assert comparison.difference == comparison.second_f1 - comparison.first_f1


@given(triples_of_documents)
def test_no_draw_leaves_what_the_documents_allow(triples):
    gold, first, second = (list(side) for side in zip(*triples, strict=True))

    comparison = compare(gold, first, second, resamples=50)

    low, high = comparison.interval
    assert -1 <= min(comparison.differences) <= low <= high <= max(comparison.differences) <= 1
    assert len(comparison.differences) == 50


def test_it_agrees_with_drawing_documents_one_by_one():
    chance = random.Random(0)
    gold, first, second = (random_documents(chance, 40, share) for share in (0.8, 0.7, 0.6))
    triples = list(zip(gold, first, second, strict=True))
    differences = []
    for _ in range(2000):
        drawn_gold, drawn_first, drawn_second = zip(*chance.choices(triples, k=len(triples)), strict=True)
        differences.append(evaluate(drawn_gold, drawn_second).micro.f1 - evaluate(drawn_gold, drawn_first).micro.f1)

    comparison = compare(gold, first, second)

    assert comparison.interval == pytest.approx(np.quantile(differences, (0.025, 0.975)), abs=0.02)
    assert comparison.probability_worse() == pytest.approx(np.mean(np.array(differences) < 0), abs=0.03)


def test_more_documents_make_the_interval_narrower():
    chance = random.Random(0)

    def width(number):
        gold, first, second = (random_documents(chance, number, share) for share in (1, 0.7, 0.7))
        low, high = compare(gold, first, second).interval
        return high - low

    assert width(1600) == pytest.approx(width(100) / 4, rel=0.3)


def test_the_same_seed_gives_the_same_comparison_in_any_order_of_documents():
    chance = random.Random(0)
    gold, first, second = (random_documents(chance, 30, share) for share in (1, 0.7, 0.6))

    once = compare(gold, first, second, seed=1)

    assert compare(gold[::-1], first[::-1], second[::-1], seed=1) == once
    assert compare(gold, first, second, seed=2).differences != once.differences


def test_documents_without_any_entity_score_zero_and_make_no_model_worse():
    comparison = compare([found()] * 3, [found()] * 3, [found()] * 3)

    assert (comparison.first_f1, comparison.second_f1, comparison.probability_worse()) == (0, 0, 0)


def test_two_models_are_compared_on_the_same_documents_of_which_there_must_be_some():
    with pytest.raises(ValueError, match="2 gold documents against 1 predicted"):
        compare([found()] * 2, [found()], [found()] * 2)
    with pytest.raises(ValueError, match="2 gold documents against 3 predicted"):
        compare([found()] * 2, [found()] * 2, [found()] * 3)
    with pytest.raises(ValueError, match="no documents"):
        compare([], [], [])
