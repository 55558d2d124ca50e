"""What Label Studio's events mean for the loop. Owns that table; events are hints, reconcile finds what they miss.

An event is only noted: when what is noted starts a fine-tune is sync/trigger.py's.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.concurrency import run_in_threadpool

from ml_backend.services import Services
from nerloop.errors import BadInput
from nerloop.jobs import fine_tune_id
from nerloop.project_state import Binding

logger = logging.getLogger(__name__)

SUBMITTED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED")


def handle_event(services: Services, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Act on an event and say what was done.

    Raises `BadInput` naming the malformed field, and `QueueUnreachable` while Redis is down.
    """
    project_id = _project_id(payload)
    binding = services.binding(project_id)
    if action == "START_TRAINING":
        queued = services.loop.jobs.enqueue_fine_tune(binding.model, forced=True)
        return {"job": fine_tune_id(binding.model), "queued": queued}
    if action in SUBMITTED:
        return _count(binding, services.notes.state.add_new_labels(binding.model, _submitted(payload)))
    if action == "ANNOTATIONS_DELETED":
        # Whether a deleted annotation was known to the last run only reconcile can tell; never counted too often here.
        deleted = _ids(_list(payload, "annotations"))
        return _count(binding, services.notes.state.remove_new_labels(binding.model, deleted))
    if action == "TASKS_CREATED":
        return {"refresh": services.loop.jobs.enqueue_refresh(project_id)}
    return {"ignored": action}


async def take_event(services: Services, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Do what `handle_event` does, with labels that are submitted together noted together, and in no thread each."""
    binding = services.known_binding(_project_id(payload)) if action in SUBMITTED else None
    if binding is None:
        return await run_in_threadpool(handle_event, services, action, payload)
    return _count(binding, await services.notes.add(binding.model, _submitted(payload)))


def _count(binding: Binding, new_labels: int) -> dict[str, Any]:
    return {"model": binding.model, "new_labels": new_labels, "threshold": binding.train_threshold}


def _project_id(payload: Mapping[str, Any]) -> int:
    project = payload.get("project")
    identifier = project.get("id") if isinstance(project, Mapping) else project
    if type(identifier) is not int:
        raise BadInput("field 'project.id' is missing or not a whole number")
    return identifier


def _list(payload: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    """Return the field's objects: Label Studio sends one object or a list of them."""
    value = payload.get(field)
    items = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, Mapping)]
    if not items:
        raise BadInput(f"field {field!r} is missing or holds no annotation objects")
    return items


def _submitted(payload: Mapping[str, Any]) -> list[str]:
    """Return the ids of an event's annotations; skips are none."""
    return _ids([annotation for annotation in _list(payload, "annotation") if not annotation.get("was_cancelled")])


def _ids(annotations: Sequence[Mapping[str, Any]]) -> list[str]:
    if not all(type(annotation.get("id")) is int for annotation in annotations):
        raise BadInput("field 'id' of an annotation is missing or not a whole number")
    return [str(annotation["id"]) for annotation in annotations]
