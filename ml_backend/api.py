"""The REST API for people's own programs, `/api/v1`: predict, models and versions, training, decisions.

Projects are api_projects.py's, the installation is api_system.py's, Label Studio's protocol app.py's. Who may do
what is access.py's: a viewer reads, predicts and sends feedback.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field

from ml_backend import api_projects, api_system, metrics
from ml_backend.access import Operator, Viewer
from ml_backend.fields import ModelName, Strict, Texts, VersionName
from ml_backend.found import PredictResponse, found
from ml_backend.language import AskedLanguage, Language, said
from ml_backend.model import services
from ml_backend.problems import NotFound
from nerloop.jobs import fine_tune_id
from nerloop.loop import Loop
from nerloop.predictor import Predictor
from nerloop.promotions import STARTER_VERSION
from nerloop.runtime import set_threads
from nerloop.status import model_status
from nerloop.versions import ModelVersion, version_named
from sync.push import is_known, pause, promote_by_hand, resume, roll_back

GENERAL = "lac"  # the name of the starter model, which is there without any project
SECONDS_BETWEEN_EVENTS = 1.0

PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "What was sent is wrong; `detail` names the field and the fix"},
    401: {"description": "No token that is known"},
    403: {"description": "Only an operator may do this"},
    404: {"description": "No such model, version or project"},
    410: {"description": "The version's files were removed by retention"},
    413: {"description": "The request is too large"},
    422: {"description": "A field is missing or malformed"},
    429: {"description": "Too many tries to log in"},
    503: {"description": "Label Studio, Redis or the registry does not answer"},
}
router = APIRouter(prefix="/api/v1", responses=PROBLEMS)
router.include_router(api_projects.router)
router.include_router(api_system.router)


class PredictRequest(Strict):
    """Texts to label with a model."""

    model: ModelName = GENERAL
    version: VersionName = Field(default="", description="A version to use whatever serves; `model` then says nothing")
    texts: Texts


class ModelRow(BaseModel):
    """A model, what serves it, and the projects it is bound to."""

    model: str
    production: str
    projects: list[int]


class VersionRow(BaseModel):
    """A candidate that was trained: what the gate decided about it, and why.

    `files_removed` is when retention removed its files, `begun` before that, and empty while they are there.
    """

    version: str
    created_at: str | None
    labels: list[str]
    gate_f1: float | None
    decision: str
    reason: str
    provisional: bool
    in_production: bool
    files_removed: str


class Training(BaseModel):
    """A model's fine-tune on the queue or running; `state` is `idle` where there is none."""

    state: str
    progress: dict[str, Any] = {}
    error: str = ""


class Reason(Strict):
    """Why somebody decides something; kept in the promotion log with who did."""

    why: str = Field(default="", max_length=1000)


class RollbackRequest(Reason):
    """Where to go back to; the production before this one where `to` is not given."""

    to: str = Field(default="", max_length=90, description="A version's name, or `lac-starter`")


class PromoteRequest(Strict):
    """Why a version is promoted by hand."""

    why: str = Field(min_length=1, max_length=1000, pattern=r"\S")


def known_model(model: ModelName) -> str:
    """Return the model of the path; raises `NotFound` where nothing is known of it."""
    if model != GENERAL and not is_known(services().loop, model):
        raise NotFound(f"there is no model {model!r}; GET /api/v1/models lists them")
    return model


KnownModel = Annotated[str, Depends(known_model)]


@router.post("/predict")
def predict(_: Viewer, request: PredictRequest) -> PredictResponse:
    """Label texts with the version of a model that serves, or with the version that is named.

    `lac` is the starter model, which needs no project.
    """
    predictor = _predictor(services().loop, request)
    set_threads(predictor.tagger.encoder.kind)
    predictions = predictor.predict(request.texts)
    metrics.count(predictions)
    return found(predictor.model_version, request.texts, predictions)


@router.get("/models")
def models(_: Viewer) -> list[ModelRow]:
    """List the models: the starter, those that projects are bound to, and those that have been trained."""
    loop = services().loop
    projects: dict[str, list[int]] = {GENERAL: [], **{model: [] for model in loop.registry.runs.models()}}
    for binding in loop.state.bindings():
        projects.setdefault(binding.model, []).append(binding.project_id)
    return [
        ModelRow(
            model=model,
            production=STARTER_VERSION if model == GENERAL else loop.registry.production(model).name,
            projects=bound,
        )
        for model, bound in sorted(projects.items())
    ]


@router.get("/models/{model}")
def model_state(_: Viewer, model: KnownModel) -> dict[str, Any]:
    """Tell where the training and the promotions of a model stand; known also while Label Studio does not answer."""
    return asdict(model_status(services().loop, model))


@router.get("/models/{model}/versions")
def versions(_: Viewer, model: KnownModel, language: AskedLanguage) -> list[VersionRow]:
    """List every version of a model, newest first, rejected ones too."""
    loop = services().loop
    serves = loop.registry.production(model).name
    return [_version_row(version, serves, language) for version in loop.registry.versions(model)]


@router.get("/models/{model}/training")
def training(_: Viewer, model: KnownModel, language: AskedLanguage) -> Training:
    """Tell how far a model's fine-tune is."""
    return _training(services().loop, model, language)


@router.get("/models/{model}/training/events", response_class=EventSourceResponse)
async def training_events(_: Viewer, model: KnownModel, language: AskedLanguage) -> AsyncIterator[ServerSentEvent]:
    """Send how far a model's fine-tune is whenever that changes (server-sent events), until it has ended."""
    loop = services().loop
    sent = None
    while sent is None or sent.state in {"queued", "started"}:
        now = await run_in_threadpool(_training, loop, model, language)
        if now != sent:
            yield ServerSentEvent(data=now.model_dump(), event="training")
            sent = now
        await asyncio.sleep(SECONDS_BETWEEN_EVENTS)


@router.post("/models/{model}/train", status_code=202)
def train(_: Operator, model: KnownModel) -> dict[str, bool]:
    """Queue a fine-tune, whatever the threshold says; `queued` is false where one is queued or running already."""
    loop = services().loop
    if not loop.state.bound_to(model):
        raise NotFound(f"no project is bound to model {model!r}; `nerloop connect --project ID --model {model}` does")
    return {"queued": loop.jobs.enqueue_fine_tune(model, forced=True)}


@router.post("/models/{model}/training/stop")
def stop_training(_: Operator, model: KnownModel) -> dict[str, bool]:
    """Stop a fine-tune, queued or running; `stopped` is false where there is none. Its labels are still new."""
    return {"stopped": services().loop.jobs.stop_fine_tune(model)}


@router.post("/models/{model}/rollback")
def rollback(user: Operator, model: KnownModel, request: RollbackRequest) -> dict[str, str]:
    """Put an earlier version into production again and pause automatic promotion; replicas and predictions follow."""
    loop = services().loop
    before, serves = roll_back(loop, model, request.to.strip(), user.name, request.why.strip())
    return {"before": before, "production": serves}


@router.post("/models/{model}/pause")
def pause_model(user: Operator, model: KnownModel, request: Reason) -> dict[str, bool]:
    """Keep production as it is until `resume`; `changed` is false where it was paused already."""
    return {"changed": pause(services().loop, model, user.name, request.why.strip())}


@router.post("/models/{model}/resume")
def resume_model(user: Operator, model: KnownModel, request: Reason) -> dict[str, bool]:
    """Let what passes the gate be promoted automatically again; `changed` is false where that was not paused."""
    return {"changed": resume(services().loop, model, user.name, request.why.strip()) is not None}


@router.post("/versions/{version}/promote")
def promote(user: Operator, version: VersionName, request: PromoteRequest) -> dict[str, str]:
    """Put a version into production by hand, whatever the gate said of it; replicas and predictions follow."""
    loop = services().loop
    promote_by_hand(loop, _version(loop, version), user.name, request.why.strip())
    return {"production": version}


def _predictor(loop: Loop, request: PredictRequest) -> Predictor:
    if request.version:
        return loop.serving.pinned(None if request.version == STARTER_VERSION else _version(loop, request.version))
    if request.model not in loop.serving.versions():
        known_model(request.model)
    return loop.serving.predictor(request.model)


def _version(loop: Loop, name: str) -> ModelVersion:
    named = version_named(name)
    found = None if named is None else next((v for v in loop.registry.versions(named[0]) if str(v) == name), None)
    if found is None:
        raise NotFound(f"there is no version {name!r}; GET /api/v1/models/MODEL/versions lists them")
    return found


def _training(loop: Loop, model: str, language: Language) -> Training:
    job = loop.jobs.status(fine_tune_id(model))
    if job is None:
        return Training(state="idle")
    return Training(state=job.state, progress=job.progress, error=said(job.error, language))


def _version_row(version: ModelVersion, serves: str, language: Language) -> VersionRow:
    return VersionRow(
        version=str(version),
        created_at=version.created_at.isoformat() if version.created_at else None,
        labels=list(version.labels),
        gate_f1=version.metrics.get("gate_f1"),
        decision=version.decision,
        reason=said(version.reason, language),
        provisional=version.provisional,
        in_production=str(version) == serves,
        files_removed=version.files_removed,
    )
