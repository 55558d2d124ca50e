"""Notes new labels in Redis, those of many events at once. Owns that gathering; what an event means is events.py's."""

import asyncio

from fastapi.concurrency import run_in_threadpool

from nerloop.project_state import ProjectState


class Notes:
    """New labels on their way to Redis: while one write is under way, those that come are gathered for the next.

    So a burst costs few round trips and one thread, also while Redis hangs.
    """

    def __init__(self, state: ProjectState) -> None:
        self.state = state
        self._gathered: dict[str, set[str]] = {}
        self._writes: dict[str, asyncio.Task[int]] = {}
        self._writing = asyncio.Lock()

    async def add(self, model: str, ids: list[str]) -> int:
        """Note changed annotations; return how many are noted when these are. Raises `QueueUnreachable`."""
        if model not in self._writes:
            self._gathered[model] = set()
            self._writes[model] = asyncio.create_task(self._write(model))
        self._gathered[model].update(ids)
        return await asyncio.shield(self._writes[model])

    async def _write(self, model: str) -> int:
        async with self._writing:
            ids = self._gathered.pop(model)
            del self._writes[model]
            return await run_in_threadpool(self.state.add_new_labels, model, ids)
