"""The part of the REST API that is about the installation: who one is, what runs, whether each link holds, binding."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from ml_backend.access import Operator, Viewer
from ml_backend.fields import ModelName, Strict
from ml_backend.language import AskedLanguage, Language, said
from ml_backend.model import services
from ml_backend.sessions import SESSION_SECONDS, log_in
from nerloop.annotations import AnnotationStrategy
from nerloop.errors import (
    BadInput,
    BadLabelConfig,
    LabelStudioError,
    LabelStudioUnauthorized,
    LabelStudioUnreachable,
)
from nerloop.jobs import WorkerStatus
from nerloop.label_studio import LabelStudio
from nerloop.tagging import DecoderKind
from nerloop.tasks import Project
from nerloop.users import Role
from sync.connect import connect, stored_binding
from sync.doctor import Check, examine

CHECK_SECONDS = 10  # that an address somebody typed may take to answer; a firewall may never

router = APIRouter()


class LoginRequest(Strict):
    """An e-mail address of Label Studio with its password, or a user's name with the token."""

    name: str = Field(min_length=1, max_length=256)
    password: str = Field(min_length=1, max_length=1024)


class LoginAnswer(BaseModel):
    """A session, to be sent as a token is, and the seconds it is good for."""

    session: str
    seconds: int


class Me(BaseModel):
    """Who one is here."""

    name: str
    role: Role


class RefusedVersion(BaseModel):
    """A version that cannot be served, and why; it is tried again."""

    version: str
    reason: str


class System(BaseModel):
    """The processes that are alive: replicas of the ML backend with {model: version} they serve, and workers.

    `refused` is what is in production but a replica cannot serve: {replica: {model: which version, and why}}.
    """

    replicas: dict[str, dict[str, str]]
    refused: dict[str, dict[str, RefusedVersion]]
    workers: list[WorkerStatus]


class LabelStudioAddress(Strict):
    """Where another Label Studio is, and the token of one of its accounts."""

    url: str = Field(max_length=1000, pattern=r"^https?://\S+$")
    token: str = Field(max_length=2000, pattern=r"^[!-~]+$")


class FoundLabelStudio(BaseModel):
    """A Label Studio that answers: its address and release, whose the token is, how many projects that account sees."""

    url: str
    release: str
    user: str
    projects: int


class LabelStudioProject(BaseModel):
    """A project of Label Studio's; `model` is what it is bound to, and `problem` why it cannot be."""

    project_id: int
    title: str
    tasks: int
    labels: list[str]
    model: str | None
    problem: str


class ConnectRequest(Strict):
    """How a project is bound; what is left out stays as it is, or has its default."""

    model: ModelName | None = None
    train_threshold: int | None = Field(default=None, ge=1, le=1_000_000)
    decoder: DecoderKind | None = None
    annotations: AnnotationStrategy | None = None


@router.post("/login")
def login(request: LoginRequest) -> LoginAnswer:
    """Log in with a Label Studio account, or as a user with the token: the answer's session is good for 12 hours."""
    return LoginAnswer(session=log_in(services().settings, request.name, request.password), seconds=SESSION_SECONDS)


@router.get("/me")
def me(user: Viewer) -> Me:
    """Tell who one is, and what one may do."""
    return Me(name=user.name, role=user.role)


@router.get("/system")
def system(_: Viewer, language: AskedLanguage) -> System:
    """List the replicas and the workers that are alive."""
    loop = services().loop
    refused = {
        replica: {
            model: RefusedVersion(version=one["version"], reason=said(one["reason"], language))
            for model, one in models.items()
        }
        for replica, models in loop.state.refused().items()
        if models
    }
    return System(replicas=loop.state.replicas(), refused=refused, workers=loop.jobs.workers())


@router.get("/doctor")
def doctor(_: Operator, language: AskedLanguage) -> list[Check]:
    """Check every link of the loop, both ways, as `nerloop doctor` does."""
    return [
        Check(said(check.name, language), check.ok, said(check.seen, language), said(check.fix, language))
        for check in examine(services().loop)
    ]


@router.get("/label-studio")
def label_studio(_: Operator) -> FoundLabelStudio:
    """Tell which Label Studio is used, and as whom."""
    return _found(services().loop.label_studio)


@router.get("/label-studio/projects")
def label_studio_projects(_: Operator, language: AskedLanguage) -> list[LabelStudioProject]:
    """List all projects of Label Studio that can be bound, or cannot, and why."""
    loop = services().loop
    return [_project(loop.label_studio, project, language) for project in loop.label_studio.projects()]


@router.post("/label-studio/check")
def check_label_studio(_: Operator, request: LabelStudioAddress) -> FoundLabelStudio:
    """Try an address and a token; nothing is stored. Which Label Studio is used is a setting."""
    try:
        return _found(LabelStudio(request.url, request.token, timeout=CHECK_SECONDS))
    # What is wrong with an address that somebody typed is no failure of ours, and has nothing to do with our settings.
    except LabelStudioUnreachable as error:
        raise BadInput(f"nothing answers at {request.url} within {CHECK_SECONDS} s; mend the address") from error
    except LabelStudioUnauthorized as error:
        raise BadInput(f"the Label Studio at {request.url} refuses this token; copy a fresh one there") from error
    except LabelStudioError as error:
        raise BadInput(f"what answers at {request.url} is no Label Studio, or does not work: {error}") from error


@router.post("/projects/{project_id}/connect")
def connect_project(_: Operator, project_id: int, request: ConnectRequest) -> dict[str, Any]:
    """Bind a project to a model, as `nerloop connect` does; safe to repeat. The answer is the binding."""
    binding = connect(
        services().loop, project_id, request.model, request.train_threshold, request.decoder, request.annotations
    )
    return asdict(binding)


def _found(one: LabelStudio) -> FoundLabelStudio:
    return FoundLabelStudio(url=one.url, release=one.version(), user=one.user(), projects=len(one.projects()))


def _project(label_studio: LabelStudio, project: Project, language: Language) -> LabelStudioProject:
    try:
        labels, problem = list(project.label_config.labels), ""
    except BadLabelConfig as error:
        labels, problem = [], said(str(error), language)
    bound = stored_binding(label_studio, services().settings, project.id)
    return LabelStudioProject(
        project_id=project.id,
        title=project.title,
        tasks=project.tasks,
        labels=labels,
        model=bound.model if bound else None,
        problem=problem,
    )
