import random

import pytest

from nerloop.blind import MIN_TASKS, Timed, time_saved, wrong_that_pass
from nerloop.calibration import calibration
from nerloop.documents import Document, Entity


def tasks(annotator: int, pace: float, *, blind: bool, count: int = MIN_TASKS) -> list[Timed]:
    """Tasks of different lengths, at so many seconds a character."""
    return [Timed(annotator, pace * (10 + number), 10 + number, blind) for number in range(count)]


def noisy(annotator: int, pace: float, *, blind: bool, count: int, seed: int) -> list[Timed]:
    dice = random.Random(seed)
    return [Timed(annotator, 40 * pace * dice.lognormvariate(0, 0.4), 40, blind) for _ in range(count)]


def test_time_saved_is_per_character() -> None:
    saved = time_saved([*tasks(1, 0.3, blind=True), *tasks(1, 0.2, blind=False, count=40)])

    assert saved is not None
    assert saved.share == pytest.approx(1 / 3)
    assert saved.interval == pytest.approx((1 / 3, 1 / 3))
    assert (saved.seconds, saved.blind_seconds) == pytest.approx((20, 30))
    assert (saved.tasks, saved.blind_tasks, saved.annotators) == (40, MIN_TASKS, 1)


def test_a_slow_annotator_with_mostly_blind_tasks_does_not_look_like_time_saved() -> None:
    quick = [*tasks(1, 0.1, blind=True), *tasks(1, 0.1, blind=False, count=90)]
    slow = [*tasks(2, 1.0, blind=True, count=90), *tasks(2, 1.0, blind=False)]

    saved = time_saved([*quick, *slow])

    assert saved is not None and saved.annotators == 2
    assert saved.share == pytest.approx(0)


def test_nothing_is_said_of_too_few_tasks() -> None:
    few = [*tasks(1, 0.3, blind=True, count=MIN_TASKS - 1), *tasks(1, 0.2, blind=False)]
    untimed = [Timed(1, 0.0, 10, True), Timed(1, 5.0, 0, True)]

    assert time_saved([*few, *untimed]) is None
    assert time_saved([]) is None
    # Nor is one person's time compared with another's.
    assert time_saved([*tasks(1, 0.3, blind=True), *tasks(2, 0.2, blind=False)]) is None


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    def holds(seed: int) -> bool:
        timed = [
            *noisy(1, 0.3, blind=True, count=25, seed=seed),
            *noisy(1, 0.2, blind=False, count=25, seed=seed + 999),
        ]
        saved = time_saved(timed, resamples=300)
        assert saved is not None
        return saved.interval[0] <= 1 / 3 <= saved.interval[1]

    assert 85 <= sum(holds(seed) for seed in range(100)) <= 99


def test_a_page_left_open_over_night_changes_little() -> None:
    timed = [*tasks(1, 0.3, blind=True), *tasks(1, 0.2, blind=False, count=40), Timed(1, 40_000, 20, False)]

    saved = time_saved(timed)

    assert saved is not None and saved.share > 0.1


def documents(right: int, wrong: int, score: float) -> tuple[list[Document], list[Document]]:
    """Gold and what was found: so many entities with this score of either kind."""
    gold = [Document("", "张三" * 50, tuple(Entity(2 * n, 2 * n + 2, "PER") for n in range(right)))]
    found = tuple(Entity(2 * n, 2 * n + 2, "PER", score) for n in range(right + wrong))
    return gold, [Document("", gold[0].text, found)]


def test_what_is_accepted_beyond_what_is_right_elsewhere_passed_because_it_was_shown() -> None:
    accepted = calibration(*documents(right=19, wrong=1, score=0.75))
    right = calibration(*documents(right=7, wrong=3, score=0.72))

    assert wrong_that_pass(accepted, right) == pytest.approx((20 * (0.95 - 0.7), 19))
    assert wrong_that_pass(right, accepted) == (0, 7)
    assert wrong_that_pass(accepted, calibration(*documents(right=7, wrong=3, score=0.2))) is None
