import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.errors import BadInput
from nerloop.promotions import Entry, PromotionLog, check_model_name, read_log


def numbers(log):
    return [entry.number for entry in read_log(log).valid]


def log_of(*rows):
    """Read (kind, number, replaces) rows in their order."""
    return read_log(Entry(place, number, replaces, kind) for place, (kind, number, replaces) in enumerate(rows, 1))


def test_promotions_that_each_replace_the_last_one_all_count():
    log = [Entry(1, 1, replaces=0), Entry(2, 2, replaces=1), Entry(3, 5, replaces=2)]

    assert numbers(log) == [1, 2, 5]


def test_of_two_workers_that_promote_at_once_exactly_one_wins():
    log = [Entry(1, 1, replaces=0), Entry(2, 2, replaces=1), Entry(3, 3, replaces=1)]

    assert numbers(log) == [1, 2]


def test_of_two_workers_that_make_the_very_first_promotion_exactly_one_wins():
    assert numbers([Entry(1, 7, replaces=0), Entry(2, 8, replaces=0)]) == [7]


def test_a_worker_that_comes_late_changes_nothing():
    log = [Entry(1, 1, replaces=0), Entry(2, 2, replaces=1), Entry(3, 3, replaces=2)]

    assert numbers([*log, Entry(4, 9, replaces=1)]) == numbers(log)


def test_a_promotion_over_one_that_lost_does_not_count_either():
    log = [
        Entry(1, 1, replaces=0),
        Entry(2, 2, replaces=1),
        Entry(3, 3, replaces=1),
        Entry(4, 4, replaces=3),
    ]

    assert numbers(log) == [1, 2]


def test_after_a_lost_race_the_next_promotion_goes_on_from_the_winner():
    log = [
        Entry(1, 1, replaces=0),
        Entry(2, 2, replaces=1),
        Entry(3, 3, replaces=1),
        Entry(4, 4, replaces=2),
    ]

    assert numbers(log) == [1, 2, 4]


TWO = (("promotion", 1, 0), ("promotion", 2, 1))


def test_a_rollback_puts_an_older_version_into_production_and_pauses_automatic_promotion():
    log = log_of(*TWO, ("rollback", 1, 2))

    assert (log.number, log.generation) == (1, 3)
    assert log.pause is not None and log.pause.generation == 3


def test_a_promotion_does_not_undo_a_rollback_though_it_replaces_its_generation():
    assert log_of(*TWO, ("rollback", 1, 2), ("promotion", 3, 3)).number == 1


def test_a_worker_that_trained_before_a_rollback_cannot_undo_it_after_a_resume_either():
    assert log_of(*TWO, ("rollback", 1, 2), ("resume", 0, 0), ("promotion", 3, 2)).number == 1


def test_after_a_resume_what_was_trained_from_production_is_promoted():
    log = log_of(*TWO, ("rollback", 1, 2), ("resume", 0, 0), ("promotion", 3, 3))

    assert (log.number, log.pause) == (3, None)


def test_a_pause_leaves_production_and_its_generation_as_they_are():
    log = log_of(*TWO, ("pause", 0, 0), ("promotion", 3, 2), ("resume", 0, 0), ("promotion", 4, 2))

    assert [entry.number for entry in log.valid] == [1, 2, 4]


def test_what_a_person_promotes_counts_while_paused_and_the_pause_stays():
    log = log_of(*TWO, ("pause", 0, 0), ("forced", 3, 2))

    assert (log.number, log.pause.generation) == (3, 3)


def test_of_several_pauses_the_first_says_since_when_and_one_resume_ends_them():
    assert log_of(("pause", 0, 0), ("pause", 0, 0)).pause.generation == 1
    assert log_of(("pause", 0, 0), ("pause", 0, 0), ("resume", 0, 0)).pause is None


def test_a_rollback_that_comes_too_late_changes_nothing_but_pauses():
    log = log_of(*TWO, ("promotion", 3, 2), ("rollback", 1, 2))

    assert log.number == 3
    assert log.pause is not None


def test_of_two_rollbacks_at_once_one_counts():
    log = log_of(*TWO, ("promotion", 3, 2), ("rollback", 2, 3), ("rollback", 2, 3))

    assert (log.number, log.generation) == (2, 4)


def test_each_rollback_goes_one_version_back_until_the_starter():
    rows = [*TWO, ("promotion", 3, 2)]
    went = []
    for _ in range(3):
        log = log_of(*rows)
        rows.append(("rollback", log.previous, log.generation))
        went.append(log_of(*rows).number)

    assert went == [2, 1, 0]


def test_what_a_rollback_took_back_is_no_longer_in_line_until_it_is_promoted_again():
    rows = [*TWO, ("promotion", 3, 2), ("rollback", 1, 3)]

    assert log_of(*rows).line == (1,)
    assert log_of(*rows, ("forced", 3, 4)).line == (1, 3)


def test_a_rollback_can_itself_be_taken_back():
    assert log_of(*TWO, ("rollback", 1, 2), ("rollback", 2, 3)).line == (1, 2)


def test_after_a_rollback_to_the_starter_the_next_promotion_is_a_first_one():
    log = log_of(*TWO, ("rollback", 0, 2), ("resume", 0, 0), ("promotion", 3, 3))

    assert (log.line, log.previous) == ((3,), 0)


ENTRIES = st.lists(
    st.tuples(st.sampled_from(["promotion", "forced", "rollback", "pause", "resume"]), st.integers(0, 8)), max_size=12
)


def entries(rows):
    return [
        Entry(place, 100 + place if kind in {"promotion", "forced"} else 0, replaces, kind)
        for place, (kind, replaces) in enumerate(rows, 1)
    ]


@given(ENTRIES)
def test_any_interleaving_gives_one_chain(rows):
    valid = read_log(entries(rows)).valid

    generations = [0, *(entry.generation for entry in valid)]
    assert [entry.replaces for entry in valid] == generations[:-1]
    assert all(entry.kind not in {"pause", "resume"} for entry in valid)


@given(ENTRIES)
def test_a_paused_model_is_never_promoted_automatically(rows):
    log = entries(rows)

    for place, entry in enumerate(log):
        if read_log(log[:place]).pause:
            assert entry.kind != "promotion" or entry not in read_log(log).valid


@given(ENTRIES)
def test_a_pause_stays_until_a_resume(rows):
    log = read_log(entries(rows))
    since_resume = [kind for kind, _ in rows][::-1]
    since_resume = since_resume[: since_resume.index("resume")] if "resume" in since_resume else since_resume

    assert bool(log.pause) == bool({"pause", "rollback"} & set(since_resume))


@given(ENTRIES)
def test_production_is_what_the_last_valid_entry_names(rows):
    log = read_log(entries(rows))

    assert log.number == (log.valid[-1].number if log.valid else 0)


@given(ENTRIES, st.sampled_from(["promotion", "forced", "rollback"]), st.integers(0, 8))
def test_what_a_log_says_it_takes_is_valid_when_appended(rows, kind, replaces):
    log = read_log(entries(rows))
    longer = log.after(Entry(len(rows) + 1, 999, replaces, kind))

    assert (longer.generation == len(rows) + 1) == log.takes(kind, replaces)


def test_an_empty_log_has_nothing_in_production():
    assert read_log([]) == PromotionLog()
    assert (read_log([]).number, read_log([]).previous, read_log([]).generation) == (0, 0, 0)


@given(st.lists(st.integers(0, 8), max_size=8), st.randoms())
def test_the_order_in_which_the_log_is_read_does_not_matter(replaced: list[int], rng: random.Random):
    log = [Entry(generation, 100 + generation, replaces) for generation, replaces in enumerate(replaced, start=1)]
    shuffled = rng.sample(log, len(log))

    assert read_log(shuffled) == read_log(log)


@given(st.lists(st.integers(0, 8), max_size=8))
def test_what_counts_is_a_chain_from_the_beginning(replaced: list[int]):
    log = [Entry(generation, 100 + generation, replaces) for generation, replaces in enumerate(replaced, start=1)]

    valid = read_log(iter(log)).valid

    generations = [0, *(promotion.generation for promotion in valid)]
    assert [promotion.replaces for promotion in valid] == generations[:-1]


@given(st.lists(st.integers(0, 8), max_size=8), st.integers(0, 8))
def test_an_append_never_changes_what_counted_before(replaced: list[int], late: int):
    log = [Entry(generation, 100 + generation, replaces) for generation, replaces in enumerate(replaced, start=1)]
    longer = [*log, Entry(len(log) + 1, 999, late)]

    assert read_log(longer).valid[: len(read_log(log).valid)] == read_log(log).valid


@pytest.mark.parametrize("name", ["medical", "project-12", "a", "News_2024", "x" * 63])
def test_a_model_may_be_called_by_letters_digits_and_dashes(name):
    assert check_model_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "医疗", "a b", "-a", "_a", "a/b", "a'b", "medical\n", "x" * 64, "medical-promotions"]
)
def test_a_name_that_cannot_be_a_model_is_refused_with_the_rule(name):
    with pytest.raises(BadInput, match="use 1 to 63 letters, digits"):
        check_model_name(name)
