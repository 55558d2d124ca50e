"""Label memory on a real Valkey; Label Studio is a stand-in, tests/e2e asks a real one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from rq import Queue

from nerloop.documents import Entity
from nerloop.label_config import parse_label_config
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.split import side_of
from nerloop.tasks import Annotation, Project, Task, TaskPrediction
from sync.memory import MemoryQueue, update_memory

XML = '<View><Labels name="label" toName="text"><Label value="DRUG"/></Labels><Text name="text" value="$text"/></View>'
CONFIG = parse_label_config(XML)
DRUG = "卡洛韦"


def text_on(side: str, template: str) -> str:
    return next(text for n in count() if side_of(text := template.format(n), 0.1, 0.1) == side)


def labelled(number: int, text: str) -> Task:
    start = text.index(DRUG)
    regions = tuple(CONFIG.regions(text, [Entity(start, start + len(DRUG), "DRUG")]))
    at = f"2025-03-01T10:00:{number:02}.000001Z"
    return Task(
        number, text, (Annotation(number, regions, False, False, at, 1),), (), updated_at=at, annotation_count=1
    )


def waiting(number: int, text: str, **changes: Any) -> Task:
    return replace(Task(number, text, (), (TaskPrediction(number, "v1", 0.5),)), **changes)


class Server:
    """A project that shows v1."""

    def __init__(self, *tasks: Task) -> None:
        self.all = {task.id: task for task in tasks}
        self.changed: list[int] = []
        self.fails_after = len(tasks)

    def project(self, number: int) -> Project:
        return Project(number, "", XML, "v1", len(self.all))

    def tasks(
        self, project: Project, *, annotated: bool, ids: Sequence[int] = (), bare: bool = False, **_: Any
    ) -> Iterator[Task]:
        for task in list(self.all.values()):
            if bool(task.annotations) is annotated and (not ids or task.id in ids):
                yield replace(task, annotations=()) if bare else task

    def count_tasks(self, number: int, *, annotated: bool) -> int:
        return sum(bool(task.annotations) is annotated for task in self.all.values())

    def next_tasks(self, project: Project, limit: int, *, containing: str) -> list[Task]:
        return [task for task in self.all.values() if not task.annotations and containing in (task.text or "")][:limit]

    def change_prediction(self, number: int, result: list[dict[str, Any]]) -> None:
        if len(self.changed) == self.fails_after:
            raise KeyboardInterrupt
        task = self.all[number]
        self.changed.append(number)
        self.all[number] = replace(task, predictions=(replace(task.predictions[0], result=tuple(result)),))

    def shown(self, number: int) -> list[str]:
        return [region["value"]["text"] for region in self.all[number].predictions[0].result]


def standing_in(loop: Loop, *tasks: Task) -> Server:
    server = Server(*tasks)
    loop.__dict__["label_studio"] = server
    return server


@pytest.fixture
def loop(loop: Loop) -> Loop:
    loop.state.save_binding(Binding(1, "medical", 1000))
    return loop


def queued(loop: Loop) -> int:
    return Queue("predict", connection=loop.redis).count


def run_out(loop: Loop) -> None:
    """Take every job off the queue as if it had run."""
    for job in Queue("predict", connection=loop.redis).jobs:
        job.delete()


TRAIN = [text_on("train", f"第{{}}例服用{DRUG}后好转"), text_on("train", f"第{{}}例停用{DRUG}后加重")]
WAITING = text_on("train", f"第{{}}例：{DRUG}与布洛芬")


def test_each_change_of_the_labels_queues_one_update(loop: Loop) -> None:
    queue = MemoryQueue()
    queue.queue_due(loop)
    assert queued(loop) == 1  # what was labelled before this process began

    loop.state.add_new_labels("medical", ["1"])
    queue.queue_due(loop)
    assert queued(loop) == 1  # the one that waits reads it too

    run_out(loop)
    queue.queue_due(loop)
    assert queued(loop) == 1  # that one may have begun to read before the label came

    run_out(loop)
    queue.queue_due(loop)
    assert queued(loop) == 0


def test_no_update_is_queued_while_predictions_are_refreshed_or_memory_is_off(loop: Loop) -> None:
    loop.jobs.enqueue_refresh(1)

    MemoryQueue().queue_due(loop)
    assert queued(loop) == 1
    run_out(loop)
    MemoryQueue().queue_due(Loop(replace(loop.settings, memory_count=0)))
    assert queued(loop) == 0


def test_a_surface_that_was_labelled_twice_reaches_the_tasks_that_hold_it_and_no_other(loop: Loop) -> None:
    held_out = text_on("dev", f"第{{}}例：{DRUG}与布洛芬")
    server = standing_in(
        loop,
        *map(labelled, (1, 2), TRAIN),
        waiting(3, WAITING),
        waiting(4, held_out),
        waiting(5, WAITING, has_drafts=True),
        waiting(6, "布洛芬"),
        waiting(7, WAITING, predictions=(TaskPrediction(7, "v0", 0.5),)),
    )

    update_memory(loop, "medical")
    update_memory(loop, "medical")

    assert server.changed == [3]
    assert server.shown(3) == [DRUG]
    assert loop.terms.of("medical").terms.keys() == {DRUG}
    assert not loop.state.has_pending_surfaces("medical")


def test_held_out_documents_teach_nothing(loop: Loop) -> None:
    held_out = [text_on("gate", f"第{{}}例服用{DRUG}"), text_on("dev", f"第{{}}例服用{DRUG}")]
    server = standing_in(loop, labelled(1, TRAIN[0]), *map(labelled, (2, 3), held_out), waiting(4, WAITING))

    update_memory(loop, "medical")

    assert (server.changed, loop.state.memory("medical")) == ([], {})


def test_what_is_labelled_otherwise_later_is_taken_back(loop: Loop) -> None:
    server = standing_in(loop, *map(labelled, (1, 2), TRAIN), waiting(3, WAITING))
    update_memory(loop, "medical")

    (annotation,) = server.all[2].annotations
    at = "2025-03-01T11:00:00.000001Z"
    server.all[2] = replace(server.all[2], annotations=(replace(annotation, result=(), updated_at=at),), updated_at=at)
    update_memory(loop, "medical")

    assert (server.changed, server.shown(3)) == ([3, 3], [])


def test_an_update_that_was_killed_is_queued_again_and_goes_on(loop: Loop) -> None:
    server = standing_in(loop, *map(labelled, (1, 2), TRAIN), waiting(3, WAITING), waiting(4, WAITING))
    server.fails_after = 1
    with pytest.raises(KeyboardInterrupt):
        update_memory(loop, "medical")
    server.fails_after = 2

    queue = MemoryQueue({"medical": set()})
    queue.queue_due(loop)
    update_memory(loop, "medical")

    assert queued(loop) == 1
    assert server.changed == [3, 4]


def test_an_emptied_redis_is_filled_again_and_nothing_is_written_twice(loop: Loop) -> None:
    server = standing_in(loop, *map(labelled, (1, 2), TRAIN), waiting(3, WAITING))
    update_memory(loop, "medical")
    before = loop.state.memory("medical")
    binding = loop.state.binding(1)

    loop.redis.flushall()
    assert binding is not None
    loop.state.save_binding(binding)
    update_memory(loop, "medical")

    assert loop.state.memory("medical") == before
    assert server.changed == [3]
