"""Jobs of several projects on a real queue with one worker: a long refresh does not hold up the others."""

from types import SimpleNamespace

import pytest
from rq import Queue, SimpleWorker

from nerloop.jobs import PREDICT_QUEUE, refresh_id
from nerloop.loop import Loop
from nerloop.project_state import Binding
from sync import memory, predictions


def test_others_wait_where_a_refresh_or_label_memory_does_and_not_where_slices_or_its_own_do(loop: Loop) -> None:
    loop.jobs.hand_out_slice(1, "medical-v7", [1, 2, 3])
    loop.jobs.enqueue_refresh(1)
    loop.jobs.enqueue_memory("medical")
    assert not loop.jobs.others_wait(1, "medical")

    assert loop.jobs.others_wait(2, "medical")
    assert loop.jobs.others_wait(1, "finance")


@pytest.mark.parametrize("other", ["refresh", "memory"])
def test_a_refresh_whose_turn_is_over_is_queued_again_behind_the_others(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    ran: list[str] = []

    def refresh(_loop: Loop, binding: Binding, _on_progress: object) -> str | None:
        ran.append(binding.model)
        return None if ran.count("long") < 3 and binding.model == "long" else f"{binding.model}-v1"

    monkeypatch.setattr("workers.tasks._loop", lambda: SimpleNamespace(state=loop.state))
    monkeypatch.setattr(predictions, "refresh_predictions", refresh)
    monkeypatch.setattr(memory, "update_memory", lambda _loop, model: ran.append(model))
    for number, model in enumerate(("long", "short"), start=1):
        loop.state.save_binding(Binding(number, model, 50))
    loop.jobs.enqueue_refresh(1)
    _ = loop.jobs.enqueue_refresh(2) if other == "refresh" else loop.jobs.enqueue_memory("short")

    SimpleWorker([Queue(PREDICT_QUEUE, connection=loop.redis)], connection=loop.redis).work(burst=True)

    assert ran == ["long", "short", "long", "long"]
    assert loop.jobs.status(refresh_id(1)) is None  # so that its name is free again
    assert loop.jobs.enqueue_refresh(1)
