import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.errors import BadInput
from nerloop.promotions import Promotion, check_model_name, valid_promotions


def numbers(log):
    return [promotion.number for promotion in valid_promotions(log)]


def test_promotions_that_each_replace_the_last_one_all_count():
    log = [Promotion(1, 1, replaces=0), Promotion(2, 2, replaces=1), Promotion(3, 5, replaces=2)]

    assert numbers(log) == [1, 2, 5]


def test_of_two_workers_that_promote_at_once_exactly_one_wins():
    log = [Promotion(1, 1, replaces=0), Promotion(2, 2, replaces=1), Promotion(3, 3, replaces=1)]

    assert numbers(log) == [1, 2]


def test_of_two_workers_that_make_the_very_first_promotion_exactly_one_wins():
    assert numbers([Promotion(1, 7, replaces=0), Promotion(2, 8, replaces=0)]) == [7]


def test_a_worker_that_comes_late_changes_nothing():
    log = [Promotion(1, 1, replaces=0), Promotion(2, 2, replaces=1), Promotion(3, 3, replaces=2)]

    assert numbers([*log, Promotion(4, 9, replaces=1)]) == numbers(log)


def test_a_promotion_over_one_that_lost_does_not_count_either():
    log = [
        Promotion(1, 1, replaces=0),
        Promotion(2, 2, replaces=1),
        Promotion(3, 3, replaces=1),
        Promotion(4, 4, replaces=3),
    ]

    assert numbers(log) == [1, 2]


def test_after_a_lost_race_the_next_promotion_goes_on_from_the_winner():
    log = [
        Promotion(1, 1, replaces=0),
        Promotion(2, 2, replaces=1),
        Promotion(3, 3, replaces=1),
        Promotion(4, 4, replaces=2),
    ]

    assert numbers(log) == [1, 2, 4]


def test_a_rollback_is_a_promotion_of_an_older_version():
    log = [Promotion(1, 1, replaces=0), Promotion(2, 2, replaces=1), Promotion(3, 1, replaces=2)]

    assert numbers(log) == [1, 2, 1]


def test_an_empty_log_has_nothing_in_production():
    assert valid_promotions([]) == []


@given(st.lists(st.integers(0, 8), max_size=8), st.randoms())
def test_the_order_in_which_the_log_is_read_does_not_matter(replaced: list[int], rng: random.Random):
    log = [Promotion(generation, 100 + generation, replaces) for generation, replaces in enumerate(replaced, start=1)]
    shuffled = rng.sample(log, len(log))

    assert valid_promotions(shuffled) == valid_promotions(log)


@given(st.lists(st.integers(0, 8), max_size=8))
def test_what_counts_is_a_chain_from_the_beginning(replaced: list[int]):
    log = [Promotion(generation, 100 + generation, replaces) for generation, replaces in enumerate(replaced, start=1)]

    valid = valid_promotions(iter(log))

    generations = [0, *(promotion.generation for promotion in valid)]
    assert [promotion.replaces for promotion in valid] == generations[:-1]


@given(st.lists(st.integers(0, 8), max_size=8), st.integers(0, 8))
def test_an_append_never_changes_what_counted_before(replaced: list[int], late: int):
    log = [Promotion(generation, 100 + generation, replaces) for generation, replaces in enumerate(replaced, start=1)]
    longer = [*log, Promotion(len(log) + 1, 999, late)]

    assert valid_promotions(longer)[: len(valid_promotions(log))] == valid_promotions(log)


@pytest.mark.parametrize("name", ["medical", "project-12", "a", "News_2024", "x" * 63])
def test_a_model_may_be_called_by_letters_digits_and_dashes(name):
    assert check_model_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "医疗", "a b", "-a", "_a", "a/b", "a'b", "medical\n", "x" * 64, "medical-promotions"]
)
def test_a_name_that_cannot_be_a_model_is_refused_with_the_rule(name):
    with pytest.raises(BadInput, match="use 1 to 63 letters, digits"):
        check_model_name(name)
