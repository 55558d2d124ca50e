"""What a replica holds while it runs: the loop's collaborators and the bindings it has heard of."""

import logging
from typing import Any

from nerloop.errors import QueueUnreachable
from nerloop.loop import Loop
from nerloop.project_state import Binding, default_model
from nerloop.settings import Settings
from sync.connect import binding_of

logger = logging.getLogger(__name__)


class Services:
    """The web app's collaborators; requests share one object."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = Loop(settings)
        self._bindings: dict[int, Binding] = {}

    def remember_binding(self, project_id: int, extra_params: Any) -> Binding:
        """Note the binding that Label Studio names in /setup; touches memory only."""
        params = extra_params if isinstance(extra_params, dict) else {}
        self._bindings[project_id] = binding_of(project_id, params, self.settings)
        return self._bindings[project_id]

    def binding(self, project_id: int) -> Binding:
        """Return a project's binding: as /setup said it here, else as another replica or `connect` stored it."""
        known = self._bindings.get(project_id)
        if known is None:
            try:
                known = self.loop.state.binding(project_id)
            except QueueUnreachable as error:
                logger.warning("Binding of project %s: %s; assuming its default model", project_id, error)
        return known or Binding(project_id, default_model(project_id), self.settings.train_threshold)
