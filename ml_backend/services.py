"""What a replica holds while it runs: the loop's collaborators and the bindings it has heard of."""

import logging
from collections.abc import Sequence
from typing import Any

from ml_backend import metrics
from ml_backend.notes import Notes
from nerloop.documents import Prediction
from nerloop.errors import BadInput, QueueUnreachable
from nerloop.jobs import connect_redis
from nerloop.label_config import LabelConfig
from nerloop.loop import Loop
from nerloop.pre_annotation import pre_annotate
from nerloop.project_state import Binding, ProjectState, default_model
from nerloop.runtime import set_threads
from nerloop.settings import Settings
from sync.connect import binding_of

logger = logging.getLogger(__name__)


class Services:
    """The web app's collaborators; requests share one object."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loop = Loop(settings)
        # Label Studio waits one second for an answer to an event, and asks for no second one.
        self.notes = Notes(ProjectState(connect_redis(settings, connect_seconds=0.3, answer_seconds=0.4)))
        self._bindings: dict[int, Binding] = {}

    def remember_binding(self, project_id: int, extra_params: Any) -> Binding:
        """Note the binding that Label Studio names in /setup; touches memory only."""
        self._bindings[project_id] = binding_of(project_id, extra_params, self.settings)
        return self._bindings[project_id]

    def learn_binding(self, binding: Binding) -> None:
        """Take over a binding as it is stored, which another replica may have been told of."""
        self._bindings[binding.project_id] = binding

    def known_binding(self, project_id: int) -> Binding | None:
        """Return a project's binding as it was heard of here, or None; touches memory only."""
        return self._bindings.get(project_id)

    def binding(self, project_id: int) -> Binding:
        """Return a project's binding: as /setup said it here, else as another replica or `connect` stored it.

        Raises `BadInput` for a project that is not connected. While Redis is down, a project this replica has not
        heard of is assumed to have a model of its own.
        """
        known = self.known_binding(project_id)
        if known is not None:
            return known
        try:
            stored = self.notes.state.binding(project_id)
        except QueueUnreachable as error:
            logger.warning("Binding of project %s: %s; assuming its default model", project_id, error)
            return Binding(project_id, default_model(project_id), self.settings.train_threshold)
        if stored is None:
            raise BadInput(f"project {project_id} is not connected; run `nerloop connect --project {project_id}`")
        return stored

    def pre_annotate(
        self, model: str, config: LabelConfig, texts: Sequence[str], *, feedback: Sequence[bool] = ()
    ) -> list[tuple[Prediction, float]]:
        """Return one (prediction, serving score) a text by what serves a model, and count it; see pre_annotation.py."""
        predictor = self.loop.serving.predictor(model)
        set_threads(predictor.tagger.encoder.kind)  # torch keeps the number a thread began with, wherever it is set
        made = pre_annotate(predictor, config, texts, self.settings, self.loop.terms.of(model), feedback=feedback)
        metrics.count(prediction for prediction, _ in made)
        return made
