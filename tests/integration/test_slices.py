"""The model's work of a refresh on a real queue: done alone, shared with another worker, and when that one is lost."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from rq import Queue, SimpleWorker
from rq.job import Job

from nerloop.documents import Prediction, Uncertainty
from nerloop.embedded.sandbox import wait_until
from nerloop.jobs import PREDICT_QUEUE
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.tasks import Project, Task
from sync import slices

VERSION = "medical-v7"
PROJECT = Project(3, "Ward 7", "<View/>", VERSION, 0)
TASKS = [
    Task(number, f"第{number}位患者") for number in range(1, 8 * slices.TASKS_A_SLICE)
]  # the last slice is not full


class Model:
    """Stands in for the model: notes which tasks are predicted by whom."""

    model_version = VERSION

    def __init__(self) -> None:
        self.here: list[int] = []

    def predict(
        self, _loop: Loop, _project: Project, _model: str, who: "Model", tasks: Sequence[Task]
    ) -> list[slices.Row]:
        who.here += [task.id for task in tasks]
        return [(task, Prediction((), 0.5, VERSION, Uncertainty(0.5, -0.1, 0.2, 0.3)), 0.5) for task in tasks]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    monkeypatch.setattr(slices, "predict", made.predict)
    return made


def queue(loop: Loop) -> Queue:
    return Queue(PREDICT_QUEUE, connection=loop.redis)


def another_worker(loop: Loop, monkeypatch: pytest.MonkeyPatch, version: str = VERSION) -> Model:
    """Let a worker with the given version run what is on the queue, at most three jobs; return what it predicted."""
    other = Model()
    other.model_version = version
    named = {task.id: task for task in TASKS}
    label_studio = SimpleNamespace(
        project=lambda _: PROJECT, tasks=lambda _project, ids, bare: (named[number] for number in ids)
    )
    serving = SimpleNamespace(update=lambda _: other)
    theirs = SimpleNamespace(label_studio=label_studio, serving=serving, state=loop.state, settings=loop.settings)
    loop.state.save_binding(Binding(PROJECT.id, "medical", 50))
    monkeypatch.setattr("workers.tasks._loop", lambda: theirs)
    wait_until(lambda: len(queue(loop).get_job_ids()) >= 3, 10, "slices to be read and handed out")
    SimpleWorker([queue(loop)], connection=loop.redis).work(burst=True, max_jobs=3)
    return other


def test_one_worker_alone_does_everything_and_leaves_nothing_on_the_queue(loop: Loop, model: Model) -> None:
    rows = [row for slice_ in slices.predicted(loop, PROJECT, "medical", model, TASKS) for row in slice_]

    assert sorted(model.here) == [task.id for task, *_ in sorted(rows, key=lambda row: row[0].id)]
    assert sorted(model.here) == [task.id for task in TASKS]
    assert not loop.redis.keys("rq:job:*")


def test_a_free_worker_takes_slices_and_each_task_is_predicted_once(
    loop: Loop, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = slices.predicted(loop, PROJECT, "medical", model, TASKS)
    rows = next(found)

    other = another_worker(loop, monkeypatch)
    rows += [row for slice_ in found for row in slice_]

    assert len(other.here) == 3 * slices.TASKS_A_SLICE
    assert not set(other.here) & set(model.here)
    assert sorted(task.id for task, *_ in rows) == [task.id for task in TASKS]


def test_what_another_version_would_have_predicted_is_predicted_here(
    loop: Loop, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = slices.predicted(loop, PROJECT, "medical", model, TASKS)
    rows = next(found)

    other = another_worker(loop, monkeypatch, version="medical-v6")
    rows += [row for slice_ in found for row in slice_]

    assert not other.here
    assert sorted(model.here) == sorted(task.id for task, *_ in rows) == [task.id for task in TASKS]


def test_slices_of_a_worker_that_failed_and_of_a_queue_that_was_emptied_are_predicted_here(
    loop: Loop, model: Model
) -> None:
    found = slices.predicted(loop, PROJECT, "medical", model, TASKS)
    rows = next(found)
    wait_until(lambda: len(queue(loop).get_job_ids()) >= 3, 10, "slices to be read and handed out")
    taken = queue(loop).get_job_ids()[0]
    queue(loop).remove(taken)
    Job.fetch(taken, connection=loop.redis).set_status("failed")
    rows += next(found)

    loop.redis.flushall()
    rows += [row for slice_ in found for row in slice_]

    assert sorted(model.here) == sorted(task.id for task, *_ in rows) == [task.id for task in TASKS]


def test_a_refresh_that_ends_early_leaves_no_work_for_others(loop: Loop, model: Model) -> None:
    found = slices.predicted(loop, PROJECT, "medical", model, TASKS)
    next(found)

    found.close()

    assert not queue(loop).get_job_ids()


def test_a_slice_is_bounded_by_tasks_and_by_characters() -> None:
    long = Task(1, "长" * (slices.CHARACTERS_A_SLICE // 2))

    assert [len(slice_) for slice_ in slices.slices(TASKS[: slices.TASKS_A_SLICE + 1])] == [slices.TASKS_A_SLICE, 1]
    assert [len(slice_) for slice_ in slices.slices([long, long, long, Task(2, None)])] == [2, 2]
    assert list(slices.slices([])) == []
