"""What runs by the clock: reconcile, and the looks for fine-tunes and updates of label memory that are due.

In this process and not on a queue, where a long refresh would hold them up.
"""

import signal
import threading
import time

from nerloop.loop import Loop
from nerloop.settings import Settings
from nerloop.troubles import Troubles
from sync.memory import MemoryQueue
from sync.reconcile import reconcile
from sync.trigger import queue_due

SECONDS_BETWEEN_LOOKS = 1.0


def run_schedule(settings: Settings) -> None:
    """Reconcile now and at every interval, look each second for what is due, until told to stop.

    While a server is down, all of it is left to the next time.
    """
    loop = Loop(settings)
    troubles = Troubles()
    memories = MemoryQueue()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    next_reconcile = time.monotonic()
    while not stopping.is_set():
        if time.monotonic() >= next_reconcile:
            with troubles.of("Reconcile"):
                reconcile(loop, troubles)
            next_reconcile = time.monotonic() + settings.reconcile_seconds
        with troubles.of("The look for what is due"):
            queue_due(loop)
            memories.queue_due(loop)
        stopping.wait(SECONDS_BETWEEN_LOOKS)
