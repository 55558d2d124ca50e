import threading
from collections.abc import Iterator

import pytest

from nerloop.documents import Prediction, Uncertainty
from nerloop.errors import LabelStudioError
from nerloop.tasks import Project, Task
from sync.predictions import SLICES_A_POST, _stored

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
