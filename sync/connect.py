"""Binds a Label Studio project to a model: checks it, registers backend and webhook, sets how tasks are served.

Label Studio stores the binding (in the connection's extra params); ours in Redis is a copy. Safe to run again.
"""

import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from nerloop.annotations import ANNOTATION_STRATEGIES, AnnotationStrategy
from nerloop.errors import BadInput, BadLabelConfig
from nerloop.gazetteer import read_gazetteer
from nerloop.known_terms import gazetteer_path
from nerloop.label_studio import LabelStudio
from nerloop.loop import Loop
from nerloop.project_state import Binding, default_model
from nerloop.promotions import check_model_name
from nerloop.settings import Settings
from nerloop.tagging import DecoderKind
from nerloop.tasks import Project

logger = logging.getLogger(__name__)

TITLE = "nerloop"
SECRET_HEADER = "X-Nerloop-Secret"  # noqa: S105  # the name of the header, not its value
EVENTS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
)


def connect(
    loop: Loop,
    project_id: int,
    model: str | None = None,
    train_threshold: int | None = None,
    decoder: DecoderKind | None = None,
    annotations: AnnotationStrategy | None = None,
) -> Binding:
    """Connect a project and return its binding; what is None stays as Label Studio stores it, else has its default.

    The loop knows of it at once, and the project's predictions are queued.

    Raises `BadInput` on a bad model name, threshold, label config or gazetteer, or where another ML backend is
    connected: Label Studio only ever asks a project's first.
    """
    label_studio, settings = loop.label_studio, loop.settings
    _check_backend_url(settings)
    if model is not None:
        check_model_name(model)
    if train_threshold is not None and train_threshold < 1:
        raise BadInput(f"train threshold {train_threshold}: must be at least 1")
    project = label_studio.project(project_id)
    _check_config(project)
    old = _our_backend(label_studio, settings, project)
    stored = binding_of(project_id, old.get("extra_params"), settings)
    binding = Binding(
        project_id,
        model or stored.model,
        train_threshold or stored.train_threshold,
        decoder or stored.decoder,
        annotations or stored.annotations,
    )
    if gazetteer_path(settings, binding.model).exists():
        read_gazetteer(gazetteer_path(settings, binding.model))  # a wrong line is said now, not in a worker's log alone
    _save_backend(label_studio, settings, binding, old.get("id"))
    _save_webhook(label_studio, settings, project, old.get("url") or settings.backend_url)
    label_studio.update_project(
        project_id,
        sampling="Uncertainty sampling",
        show_collab_predictions=True,
        evaluate_predictions_automatically=False,
        # Connecting sets this to the backend's title, which makes Label Studio serve tasks at random.
        model_version=project.model_version,
    )
    logger.info("Connected project %s (%s): %s", project_id, project.title, binding)
    loop.state.save_binding(binding)
    loop.jobs.enqueue_refresh(project_id)
    return binding


def bindings(label_studio: LabelStudio, settings: Settings) -> Iterator[Binding]:
    """Yield the bindings that Label Studio stores, reading every project's connection."""
    for project in label_studio.projects():
        binding = stored_binding(label_studio, settings, project.id)
        if binding is not None:
            yield binding


def stored_binding(label_studio: LabelStudio, settings: Settings, project_id: int) -> Binding | None:
    """Return the binding that Label Studio stores of a project, or None where it is not connected to us."""
    for backend in label_studio.ml_backends(project_id):
        if _same(backend.get("url"), settings.backend_url):
            return binding_of(project_id, backend.get("extra_params"), settings)
    return None


def binding_of(project_id: int, extra_params: object, settings: Settings) -> Binding:
    """Read the binding in a connection's extra params; what is missing or malformed has its default."""
    params = extra_params if isinstance(extra_params, dict) else {}
    model, given = params.get("model"), params.get("train_threshold")
    try:
        name = check_model_name(model) if isinstance(model, str) else default_model(project_id)
    except BadInput as error:
        logger.warning("Project %s, extra params of its ML backend: %s", project_id, error)
        name = default_model(project_id)
    threshold = given if isinstance(given, int) and given >= 1 else settings.train_threshold
    decoder: DecoderKind = "nested" if params.get("decoder") == "nested" else "flat"
    strategy = next(
        (known for known in ANNOTATION_STRATEGIES if known == params.get("annotations")), Binding.annotations
    )
    return Binding(project_id, name, threshold, decoder, strategy)


def _check_config(project: Project) -> None:
    try:
        project.label_config  # noqa: B018  # reading it is the check
    except BadLabelConfig as error:
        raise BadLabelConfig(f"project {project.id} ({project.title}): {error}") from None


def _check_backend_url(settings: Settings) -> None:
    host = urlsplit(settings.backend_url).hostname or ""
    if "." not in host and host != "localhost" and ":" not in host:
        raise BadInput(
            f"NERLOOP_BACKEND_URL={settings.backend_url}: Label Studio takes webhooks only to hosts with a dot; "
            "use an IP address or a name such as ml-backend.internal"
        )


def _our_backend(label_studio: LabelStudio, settings: Settings, project: Project) -> dict[str, Any]:
    """Return our connection, known by its title also after an address has changed; empty where there is none yet."""
    backends = label_studio.ml_backends(project.id)
    ours = [b for b in backends if b.get("title") == TITLE or _same(b.get("url"), settings.backend_url)]
    others = [backend["url"] for backend in backends if backend not in ours]
    if others:
        raise BadInput(
            f"project {project.id} has another ML backend, {others[0]}; Label Studio asks only the first: remove it "
            "under Settings, Model, and connect again"
        )
    return ours[0] if ours else {}


def _save_backend(label_studio: LabelStudio, settings: Settings, binding: Binding, backend_id: int | None) -> None:
    values: dict[str, Any] = {
        "project": binding.project_id,
        "url": settings.backend_url,
        "title": TITLE,
        "is_interactive": False,
        "extra_params": {
            "model": binding.model,
            "train_threshold": binding.train_threshold,
            "decoder": binding.decoder,
            "annotations": binding.annotations,
        },
        "auth_method": "NONE",
    }
    if settings.basic_auth_user:
        values |= {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": settings.basic_auth_user,
            "basic_auth_pass": settings.basic_auth_pass,
        }
    saved = label_studio.save_ml_backend(values, backend_id)
    if saved.get("state") not in {None, "CO"}:
        raise BadInput(
            f"Label Studio cannot reach the ML backend at NERLOOP_BACKEND_URL={settings.backend_url} "
            f"(state {saved.get('state')}: {saved.get('error_message')}); run `nerloop doctor`"
        )


def _save_webhook(label_studio: LabelStudio, settings: Settings, project: Project, old_backend_url: str) -> None:
    """Give the webhook that Label Studio made with the backend our header and events; make one where it is missing."""
    url = webhook_url(settings.backend_url)
    addresses = (url, webhook_url(old_backend_url))
    ours = [hook for hook in label_studio.webhooks(project.id) if hook.get("url") in addresses]
    values = {
        "url": url,
        "project": project.id,
        "send_payload": True,
        "send_for_all_actions": False,
        "actions": list(EVENTS),
        "headers": {SECRET_HEADER: settings.webhook_secret} if settings.webhook_secret else {},
        "is_active": True,
    }
    label_studio.save_webhook(values, ours[0]["id"] if ours else None)
    for duplicate in ours[1:]:
        label_studio.delete_webhook(duplicate["id"])


def webhook_url(backend_url: str) -> str:
    """Return the address that Label Studio sends events to."""
    return f"{backend_url.rstrip('/')}/webhook"


def _same(one: str | None, other: str) -> bool:
    return (one or "").rstrip("/") == other.rstrip("/")
