"""RanerBackend: our model behind label-studio-ml's conventions, and the only door to that library.

The same class serves in our web app, under `label-studio-ml start` (1.0.9) and under the 2.x of its repository.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from label_studio_ml.model import LabelStudioMLBase

from ml_backend.events import handle_event
from ml_backend.services import Services
from nerloop.errors import BadInput
from nerloop.label_config import parse_label_config
from nerloop.settings import Settings
from nerloop.tasks import is_feedback, task_text

logger = logging.getLogger(__name__)

_building = threading.Lock()


def services() -> Services:
    """Return the collaborators of this process, made from its settings at the first call."""
    with _building:
        return _services()


@cache
def _services() -> Services:
    return Services(Settings.load())


class RanerBackend(LabelStudioMLBase):  # type: ignore[misc]  # label_studio_ml is untyped
    """Predicts with the model a project is bound to; `fit` queues and never trains in the web process."""

    def predict(self, tasks: Sequence[Mapping[str, Any]], context: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return exactly one prediction a task, in order; a task without a usable text gets an empty one.

        Raises `BadInput` on tasks of no project and `BadLabelConfig` on a config that cannot be labelled.
        """
        config = parse_label_config(self.label_config)
        if not tasks:
            return []
        project_id = _project_of(tasks[0], kwargs.get("project"))
        held = services()
        model = held.binding(project_id).model
        texts = [task_text(task.get("data"), config.field) for task in tasks]
        for task, text in zip(tasks, texts, strict=True):
            if not text:
                logger.warning("Task %s: data field %r is missing, empty or no string", task.get("id"), config.field)
        usable = [text or "" for text in texts]
        feedback = [is_feedback(task.get("data")) for task in tasks]
        made = held.pre_annotate(model, config, usable, feedback=feedback)
        return [
            {
                "result": config.regions(text, prediction.entities),
                "score": score,
                "model_version": prediction.model_version,
            }
            for text, (prediction, score) in zip(usable, made, strict=True)
        ]

    def fit(self, *args: Any, event: str | None = None, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Take an event: counts labels and queues a fine-tune when it is due. Both generations' signatures work."""
        if event is None and len(args) >= 2:
            event, data = args[0], args[1]  # 2.x: fit(event, data)
        return handle_event(services(), event or "", data or {})


def _project_of(task: Mapping[str, Any], named: Any) -> int:
    """Return the project's id: of the task, else of the request (`"12.1795442180"`)."""
    project = task.get("project") or str(named or "").partition(".")[0]
    try:
        return int(project)
    except (TypeError, ValueError, OverflowError):
        raise BadInput("field 'project' is missing: neither the tasks nor the request name their project") from None
