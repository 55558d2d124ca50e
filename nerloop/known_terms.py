"""The terms a process proposes beside its models: a model's label memory, and its gazetteer where somebody gave one.

Owns reading both and noticing that they have changed.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nerloop.errors import BadInput, QueueUnreachable
from nerloop.gazetteer import Gazetteer, Term, read_gazetteer
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.project_state import ProjectState

logger = logging.getLogger(__name__)

NO_TERMS = Gazetteer()


def gazetteer_path(settings: Settings, model: str) -> Path:
    """Return where a model's gazetteer lies, on every machine that serves it or refreshes its predictions."""
    return settings.home / "gazetteers" / f"{model}.tsv"


class KnownTerms:
    """The terms of each model as they were when it was last looked. Safe to use from several threads."""

    def __init__(self, state: "ProjectState", settings: Settings) -> None:
        self._state = state
        self._settings = settings
        self._remembered: dict[str, dict[str, Term]] = {}
        self._listed: dict[str, tuple[float, dict[str, Term]]] = {}
        self._gazetteers: dict[str, Gazetteer] = {}

    def of(self, model: str) -> Gazetteer:
        """Return a model's terms without looking whether they have changed; none until `update` was called."""
        return self._gazetteers.get(model, NO_TERMS)

    def update(self, model: str) -> Gazetteer:
        """Look whether a model's terms have changed and return them; what annotators say wins over the file.

        While Redis is down, or the file cannot be read, that part stays as it was.
        """
        terms = self._read_file(model) | self._read_memory(model)
        if terms != self.of(model).terms:
            self._gazetteers[model] = Gazetteer(terms)
        return self.of(model)

    def _read_memory(self, model: str) -> dict[str, Term]:
        if self._settings.memory_count:
            try:
                self._remembered[model] = self._state.memory(model)
            except QueueUnreachable as error:
                logger.warning("The label memory of %s stays as it was: %s", model, error)
        return self._remembered.get(model, {})

    def _read_file(self, model: str) -> dict[str, Term]:
        path = gazetteer_path(self._settings, model)
        try:
            changed_at = path.stat().st_mtime
        except FileNotFoundError:
            return {}
        read_at, terms = self._listed.get(model, (0.0, {}))
        if changed_at != read_at:
            try:
                terms = read_gazetteer(path)
                logger.info("Read the %s terms of %s", len(terms), path)
            except BadInput as error:
                logger.error("The gazetteer of %s stays as it was: %s", model, error)
            self._listed[model] = changed_at, terms
        return terms
