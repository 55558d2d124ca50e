import asyncio
import threading

import pytest

from ml_backend.notes import Notes
from nerloop.errors import QueueUnreachable


class State:
    """Notes labels like Redis, each write taking until it is released; `written` holds what came in one write."""

    def __init__(self, error=None):
        self.written = []
        self.writing = threading.Event()
        self.released = threading.Event()
        self._error = error

    def add_new_labels(self, model, ids):
        self.written.append((model, set(ids)))
        self.writing.set()
        assert self.released.wait(10)
        if self._error:
            raise self._error
        return sum(len(noted) for of, noted in self.written if of == model)


async def submit(state, labels):
    """Submit the first label alone and the others while it is being written; return the answers."""
    notes = Notes(state)
    first = asyncio.create_task(notes.add(*labels[0]))
    await asyncio.to_thread(state.writing.wait, 10)
    others = [asyncio.create_task(notes.add(*label)) for label in labels[1:]]
    await asyncio.sleep(0)  # the others have begun
    state.released.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


def test_labels_that_come_while_one_is_written_share_the_next_write():
    state = State()

    answers = asyncio.run(submit(state, [("medical", [str(number)]) for number in range(50)]))

    assert state.written == [("medical", {"0"}), ("medical", {str(number) for number in range(1, 50)})]
    assert answers == [1, *[50] * 49]


def test_models_are_written_apart():
    state = State()

    asyncio.run(submit(state, [("medical", ["1"]), ("finance", ["2"]), ("medical", ["3"])]))

    assert state.written == [("medical", {"1"}), ("finance", {"2"}), ("medical", {"3"})]


def test_everybody_hears_that_redis_is_down_and_the_next_is_written_again():
    state = State(QueueUnreachable("down"))

    answers = asyncio.run(submit(state, [("medical", ["1"]), ("medical", ["2"]), ("medical", ["3"])]))

    assert [type(answer) for answer in answers] == [QueueUnreachable] * 3


def test_one_who_stops_waiting_does_not_take_the_labels_of_the_others_away():
    state = State()

    async def leave():
        notes = Notes(state)
        staying = asyncio.create_task(notes.add("medical", ["1"]))
        leaving = asyncio.create_task(notes.add("medical", ["2"]))
        await asyncio.to_thread(state.writing.wait, 10)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        state.released.set()
        return await staying

    assert asyncio.run(leave()) == 2
    assert state.written == [("medical", {"1", "2"})]
