"""Keeps a replica's models at the version in production, in a thread beside the requests.

Listens for the message that a promotion sends (a hint) and looks at the registry at every poll (the truth).
"""

import gc
import logging
import os
import socket
import threading
import time

from redis.exceptions import RedisError

from ml_backend.services import Services
from nerloop.errors import NerLoopError
from nerloop.project_state import PROMOTIONS_CHANNEL

logger = logging.getLogger(__name__)


class Watcher:
    """One thread; `stop` ends it within a second."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._replica = f"{socket.gethostname()}-{os.getpid()}"

    def start(self) -> None:
        """Start watching; the models of all bound projects are loaded first, in the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end and wait for it."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        pubsub = self._services.loop.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._look()
        gc.freeze()  # what is loaded by now stays; walking through it stops every request for up to half a second
        while not self._stopping.is_set():
            self._look()
            try:
                if not pubsub.subscribed:
                    pubsub.subscribe(PROMOTIONS_CHANNEL)
                self._wait(pubsub)
            except RedisError:
                pubsub.reset()
                self._stopping.wait(self._services.settings.poll_seconds)

    def _wait(self, pubsub: object) -> None:
        """Return at a message, when the poll is due, or when stopping."""
        deadline = time.monotonic() + self._services.settings.poll_seconds
        while not self._stopping.is_set() and time.monotonic() < deadline:
            if pubsub.get_message(timeout=1.0):  # type: ignore[attr-defined]  # redis types pubsub loosely
                return

    def _look(self) -> None:
        try:
            serving, state = self._services.loop.serving, self._services.loop.state
            serving.update_all()
            for binding in state.bindings():
                self._services.learn_binding(binding)
                serving.predictor(binding.model)
            state.beat(self._replica, serving.versions(), 3 * self._services.settings.poll_seconds)
        except NerLoopError as error:
            logger.warning("Watching for promotions: %s", error)
        except Exception:  # a replica that stopped watching would serve old versions for ever
            logger.exception("Watching for promotions failed; trying again at the next poll")
