from datetime import UTC, datetime, timedelta

import pytest

from nerloop.promotions import Entry, read_log
from nerloop.versions import ModelVersion
from sync.retention import superfluous

DAY_0 = datetime(2026, 1, 1, tzinfo=UTC)


def version(number, decision="rejected", gate_f1=0.5, files_removed=""):
    return ModelVersion("medical", number, metrics={"gate_f1": gate_f1}, decision=decision, files_removed=files_removed)


def promotions(*numbers, days_apart=100):
    return read_log(
        Entry(place, number, place - 1, at=DAY_0 + timedelta(days=days_apart * place))
        for place, number in enumerate(numbers, 1)
    )


def removed(versions, log, keep=1, since=DAY_0 + timedelta(days=100_000)):
    newest_first = sorted(versions, key=lambda one: -one.number)
    return sorted(one.number for one in superfluous(newest_first, log, keep, since))


def test_the_newest_versions_are_kept():
    assert removed([version(number) for number in range(1, 7)], promotions(), keep=2) == [1, 2, 3, 4]


def test_production_and_what_a_rollback_goes_back_to_are_kept_whatever_their_age():
    assert removed([version(number) for number in range(1, 7)], promotions(1, 2, 3)) == [1, 4, 5]


def test_the_best_ever_is_kept_unless_somebody_rolled_back_from_it():
    versions = [version(1, gate_f1=0.9), *map(version, range(2, 7))]
    assert removed(versions, promotions(1, 2, 3)) == [4, 5]

    versions = [version(1), version(2), version(3, gate_f1=0.9), *map(version, range(4, 7))]
    log = promotions(1, 2, 3).after(Entry(4, 2, 3, "rollback", at=DAY_0 + timedelta(days=400)))
    assert removed(versions, log) == [3, 4, 5]


def test_what_passed_the_gate_and_waits_is_kept():
    assert removed([version(1), version(2, "passed"), version(3)], promotions()) == [1]


@pytest.mark.parametrize(("days", "gone"), [(299, [5]), (300, [5]), (301, [1, 5])])
def test_what_was_in_production_within_the_time_is_kept(days, gone):
    # 1 was in production from day 100 to 200, 2 until 300, 3 until 400; then 4.
    versions, log = [version(number) for number in range(1, 7)], promotions(1, 2, 3, 4)

    assert removed(versions, log, since=DAY_0 + timedelta(days=days - 100)) == gone


def test_what_is_removed_already_is_not_removed_again_and_what_was_begun_is_finished():
    versions = [version(1, files_removed="2026-01-01"), version(2, files_removed="begun"), version(3)]

    assert removed(versions, promotions()) == [2]
