"""What runs by the clock: reconcile. In this process and not on a queue, where a long refresh would hold it up."""

import logging
import signal
import threading

from nerloop.errors import NerLoopError
from nerloop.loop import Loop
from nerloop.settings import Settings
from sync.reconcile import reconcile

logger = logging.getLogger(__name__)


def run_schedule(settings: Settings) -> None:
    """Reconcile now and at every interval until told to stop; while a server is down, leave it to the next time."""
    loop = Loop(settings)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.is_set():
        try:
            reconcile(loop)
        except NerLoopError as error:
            logger.warning("Reconcile is put off: %s", error)
        stopping.wait(settings.reconcile_seconds)
