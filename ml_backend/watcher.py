"""Keeps a replica's models at the version in production, and its known terms, in a thread beside the requests.

Listens for the messages that promotions and label memory send (hints) and looks at registry and Redis at every poll
(the truth). A process of low priority makes a new version ready; only what is quick happens here, beside the requests.
"""

import ctypes
import gc
import logging
import os
import socket
import threading
import time

from redis.exceptions import RedisError

from ml_backend.services import Services
from nerloop.errors import NerLoopError, RegistryError
from nerloop.preparation import Preparation
from nerloop.project_state import MEMORIES_CHANNEL, PROMOTIONS_CHANNEL

logger = logging.getLogger(__name__)


class Watcher:
    """One thread; `stop` ends it within a second."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._replica = f"{socket.gethostname()}-{os.getpid()}"
        self._preparation: Preparation | None = None
        self._ready = ""  # the version that was made ready last

    def start(self) -> None:
        """Start watching; the models of all bound projects are loaded first, in the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end and wait for it."""
        self._stopping.set()
        self._thread.join(timeout=10)
        if self._preparation is not None:
            self._preparation.stop()

    def _run(self) -> None:
        pubsub = self._services.loop.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        while not self._stopping.is_set():
            self._look()
            try:
                if not pubsub.subscribed:
                    pubsub.subscribe(PROMOTIONS_CHANNEL, MEMORIES_CHANNEL)
                self._wait(pubsub)
            except RedisError:
                pubsub.reset()
                self._stopping.wait(self._services.settings.poll_seconds)

    def _wait(self, pubsub: object) -> None:
        """Return at a message, when the poll is due, when a version is ready, or when stopping."""
        deadline = time.monotonic() + self._services.settings.poll_seconds
        while not self._stopping.is_set() and time.monotonic() < deadline:
            if pubsub.get_message(timeout=1.0):  # type: ignore[attr-defined]  # redis types pubsub loosely
                return
            if self._preparation is not None and not self._preparation.running:
                return

    def _look(self) -> None:
        serving, state = self._services.loop.serving, self._services.loop.state
        try:
            self._take_what_is_ready()
            for model in serving.versions():
                self._follow(model)
            for binding in state.bindings():
                self._services.learn_binding(binding)
                self._services.loop.terms.update(binding.model)
                if binding.model not in serving.versions() and serving.has_room():
                    self._follow(binding.model)
            seconds = 3 * self._services.settings.poll_seconds
            state.beat(self._replica, serving.versions(), serving.refused(), seconds)
        except NerLoopError as error:
            logger.warning("Watching for promotions: %s", error)
        except Exception:  # a replica that stopped watching would serve old versions for ever
            logger.exception("Watching for promotions failed; trying again at the next poll")

    def _take_what_is_ready(self) -> None:
        if self._preparation is None or self._preparation.running:
            return
        ended, self._preparation = self._preparation, None
        reason = ended.failure()
        if reason:
            self._services.loop.serving.refuse(ended.version.model, str(ended.version), reason)
        else:
            self._ready = str(ended.version)

    def _follow(self, model: str) -> None:
        """Bring a model to the version in production, or start to make that ready; one is made ready at a time."""
        serving = self._services.loop.serving
        try:
            production = serving.outdated(model)
            if production is None:
                return
            if production.version and production.name != self._ready and not serving.is_at_hand(model, production):
                self._preparation = self._preparation or Preparation(production.version, self._services.settings)
                return
            if model in serving.versions():
                serving.update(model)
            else:
                serving.predictor(model)
        except RegistryError as error:
            if model in serving.versions():
                if model not in serving.refused():  # said when it was refused, and in /health/ready
                    logger.warning("Still serving %s as %s: %s", model, serving.versions()[model], error)
                return
            serving.predictor(model)  # from the cache of this machine, or not at all
        tidy_memory()


def tidy_memory() -> None:
    """Give back what the old version took, now and not in the middle of a request.

    What is left lives on and is not looked through again: one full collection of all that the imports made stops every
    request for a quarter of a second. So the first comes before the first request; later ones look at little.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what was freed, up to a model's size
    if trim is not None:
        trim(0)
