"""The terms a process proposes beside its models: a model's label memory, and its gazetteer where somebody gave one.

Owns reading both and noticing that they have changed.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nerloop.errors import BadInput, QueueUnreachable
from nerloop.gazetteer import Gazetteer, read_gazetteer
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.project_state import ProjectState

logger = logging.getLogger(__name__)

NO_TERMS = Gazetteer()


def gazetteer_path(settings: Settings, model: str) -> Path:
    """Return where a model's gazetteer lies, on every machine that serves it or refreshes its predictions."""
    return settings.home / "gazetteers" / f"{model}.tsv"


class KnownTerms:
    """The terms of each model as they were when it was last looked. Safe to use from several threads.

    File and memory are kept apart, so that a large file is not made ready anew whenever somebody labels something.
    """

    def __init__(self, state: "ProjectState", settings: Settings) -> None:
        self._state = state
        self._settings = settings
        self._remembered: dict[str, Gazetteer] = {}
        self._listed: dict[str, tuple[float, Gazetteer]] = {}
        self._known: dict[str, Gazetteer] = {}

    def of(self, model: str) -> Gazetteer:
        """Return a model's terms without looking whether they have changed; none until `update` was called."""
        return self._known.get(model, NO_TERMS)

    def update(self, model: str) -> Gazetteer:
        """Look whether a model's terms have changed and return them; what annotators say wins over the file.

        While Redis is down, or the file cannot be read, that part stays as it was.
        """
        self._known[model] = self.gazetteer(model) | self._read_memory(model)
        return self._known[model]

    def _read_memory(self, model: str) -> Gazetteer:
        if not self._settings.memory_count:
            return NO_TERMS
        before = self._remembered.get(model, NO_TERMS)
        try:
            terms = self._state.memory(model)
        except QueueUnreachable as error:
            logger.warning("The label memory of %s stays as it was: %s", model, error)
            return before
        if terms != before.terms:
            self._remembered[model] = Gazetteer(terms)
            return self._remembered[model]
        return before

    def gazetteer(self, model: str) -> Gazetteer:
        """Return the terms of a model's file alone, read anew where it has changed."""
        path = gazetteer_path(self._settings, model)
        try:
            changed_at = path.stat().st_mtime
        except FileNotFoundError:
            return NO_TERMS
        read_at, listed = self._listed.get(model, (0.0, NO_TERMS))
        if changed_at != read_at:
            try:
                listed = Gazetteer(read_gazetteer(path))
                logger.info("Read the %s terms of %s", len(listed.terms), path)
            except BadInput as error:
                logger.error("The gazetteer of %s stays as it was: %s", model, error)
            self._listed[model] = changed_at, listed
        return listed
