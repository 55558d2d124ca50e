import pytest

from nerloop.project_state import Waiting
from nerloop.settings import Settings
from sync.trigger import due

SETTINGS = Settings(quiet_seconds=10, max_age_seconds=3600)


@pytest.mark.parametrize(
    ("waiting", "is_due"),
    [
        (Waiting(0), False),
        (Waiting(49, 100, 100), False),
        (Waiting(50, 100, 9.9), False),
        (Waiting(50, 100, 10), True),
        (Waiting(99, 100, 1), False),
        (Waiting(100, 100, 0), True),
        (Waiting(1, 3599, 3599), False),
        (Waiting(1, 3600, 3600), True),
        (Waiting(2, 3600, 1), True),
    ],
    ids=[
        "nothing",
        "below the threshold",
        "not quiet yet",
        "quiet",
        "below twice the threshold",
        "twice the threshold, never quiet",
        "not old enough",
        "one label old enough",
        "old enough though not quiet",
    ],
)
def test_a_fine_tune_is_due_at_the_threshold_in_a_pause_at_twice_of_it_or_by_age(waiting, is_due):
    assert bool(due(waiting, 50, SETTINGS)) is is_due


def test_what_was_due_in_a_pause_stays_due_when_the_run_starts_though_labels_go_on_coming():
    assert due(Waiting(50, 100, 0), 50, SETTINGS, quiet=True)
    assert not due(Waiting(49, 100, 100), 50, SETTINGS, quiet=True)


def test_the_maximum_age_can_be_switched_off():
    assert not due(Waiting(1, 1e9, 1e9), 50, Settings(max_age_seconds=0))


def test_labels_noted_before_the_clock_was_set_back_do_not_wait_for_it_to_catch_up():
    assert due(Waiting(50, -3600, -3600), 50, SETTINGS)


def test_the_reason_says_how_many_wait_and_for_what():
    assert due(Waiting(50, 100, 10), 50, SETTINGS) == "50 new labels (threshold 50)"
    assert due(Waiting(3, 7200, 100), 50, SETTINGS) == "3 new labels, the first 2.0 hours ago"
