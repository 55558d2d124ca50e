"""Says what goes wrong again and again once when it begins and once when it is over. Owns that memory of a process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from nerloop.errors import NerLoopError

logger = logging.getLogger(__name__)


class Troubles:
    """The troubles that a process which tries again by the clock is in now."""

    def __init__(self) -> None:
        self._kinds: dict[str, type[NerLoopError]] = {}

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Catch the product's errors in `what`, and log one only where it is of another kind than the last time."""
        try:
            yield
        except NerLoopError as error:
            if self._kinds.get(what) is not type(error):
                logger.warning("%s is put off: %s", what, error)
            self._kinds[what] = type(error)
        else:
            if self._kinds.pop(what, None):
                logger.info("%s works again", what)
