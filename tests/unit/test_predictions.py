import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from nerloop.documents import Prediction, Uncertainty
from nerloop.errors import LabelStudioError
from nerloop.promotions import Entry, read_log
from nerloop.tasks import Annotation, Project, Task, TaskPrediction
from sync.predictions import SLICES_A_POST, _stored, old_predictions, recent_versions

PROJECT = Project(3, "Ward 7", "<View/>", "medical-v7", 0)
ROW = (Task(1, "张三"), Prediction((), 0.5, "medical-v7", Uncertainty(0.5, -0.1, 0.2, 0.3)), 0.5)
SLICES = 12


class Server:
    """Stands in for Label Studio: a post takes until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.posts: list[int] = []

    def import_predictions(self, _project: Project, rows: list) -> int:
        assert self.released.wait(10)
        self.posts.append(len(rows))
        return len(rows)


def test_what_is_predicted_during_a_post_is_gathered_for_the_next_one_up_to_a_bound() -> None:
    server = Server()

    def predicted() -> Iterator[list]:
        for number in range(SLICES):
            if number == SLICES_A_POST:
                server.released.set()
            yield [ROW]

    stored = list(_stored(server, PROJECT, predicted()))

    assert server.posts[:2] == [1, SLICES_A_POST]
    assert sum(stored) == sum(server.posts) == SLICES
    assert max(server.posts) <= SLICES_A_POST


def test_a_post_that_fails_ends_the_refresh() -> None:
    class Locked(Server):
        def import_predictions(self, _project: Project, rows: list) -> int:
            raise LabelStudioError("database is locked")

    with pytest.raises(LabelStudioError, match="locked"):
        list(_stored(Locked(), PROJECT, ([ROW] for _ in range(SLICES))))


DAY = timedelta(days=1)


def ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


def looking_at(*tasks: Task, promoted: Iterator[Entry] | tuple[Entry, ...] = ()) -> Any:
    """A loop whose grace period is a day, and whose Label Studio filters tasks as the real one does."""

    def found(_project: Project, *, annotated: bool, min_predictions: int, page_size: int) -> Iterator[Task]:
        return (task for task in tasks if len(task.predictions) >= min_predictions)

    return SimpleNamespace(
        settings=SimpleNamespace(grace_seconds=DAY.total_seconds()),
        label_studio=SimpleNamespace(tasks=found),
        registry=SimpleNamespace(promotion_log=lambda _model: read_log(promoted)),
    )


def predicted_by(*versions: str, hours: list[float]) -> tuple[TaskPrediction, ...]:
    made = enumerate(zip(versions, hours, strict=True), 1)
    return tuple(TaskPrediction(number, version, 0.5, created_at=ago(age)) for number, (version, age) in made)


def test_the_versions_of_the_grace_period_are_those_that_a_page_may_have_been_opened_under() -> None:
    changes = (Entry(1, 1, 0, at=ago(90)), Entry(2, 2, 1, at=ago(30)), Entry(3, 3, 2, at=ago(20)))
    back = Entry(4, 2, 3, "rollback", at=ago(10))

    assert recent_versions(looking_at(), "medical") == ["lac-starter"]
    assert recent_versions(looking_at(promoted=changes[:1]), "medical") == ["medical-v1"]
    assert recent_versions(looking_at(promoted=changes), "medical") == ["medical-v3", "medical-v2"]
    assert recent_versions(looking_at(promoted=(*changes, back)), "medical") == ["medical-v2", "medical-v3"]
    assert recent_versions(looking_at(promoted=changes[2:]), "medical") == ["lac-starter"]  # no valid change of it


@pytest.mark.parametrize(
    ("recent", "versions", "hours", "old"),
    [
        (["v3"], ["v1", "v2", "v3"], [90, 60, 30], ["v1", "v2"]),
        (["v3"], ["v1", "v2", "v3"], [90, 60, 20], []),  # this task got its prediction late
        (["v3", "v2"], ["v1", "v2", "v3"], [90, 30, 20], ["v1"]),  # promotions more often than once a day
        (["v3", "v2"], ["v1", "v2", "v3"], [90, 23, 20], []),
        (["v3", "v2"], ["v2", "v3"], [30, 20], []),
        (["v3", "v2"], ["v1", "v2", "v2"], [90, 60, 30], []),  # not refreshed yet
        (["v1"], ["v1", "v2"], [90, 60], ["v2"]),  # rolled back
        (["v1"], ["v1", "v1"], [90, 60], ["v1"]),  # stored twice: the newer one stays
    ],
)
def test_predictions_go_a_day_after_the_last_page_that_could_name_them(
    recent: list[str], versions: list[str], hours: list[float], old: list[str]
) -> None:
    loop = looking_at(Task(1, "张三", predictions=predicted_by(*versions, hours=hours)))

    assert [prediction.model_version for prediction in old_predictions(loop, PROJECT, recent)] == old


def test_predictions_that_somebody_works_with_stay() -> None:
    there = predicted_by("v1", "v2", hours=[90, 60])
    annotation = Annotation(1, (), was_cancelled=True, ground_truth=False, updated_at="")
    loop = looking_at(Task(1, "张三", (annotation,), there), Task(2, "李四", predictions=there, has_drafts=True))

    assert not list(old_predictions(loop, PROJECT, ["v2"]))
