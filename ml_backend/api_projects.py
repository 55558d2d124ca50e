"""The part of the REST API that is about projects: where their loop stands, report, export, error feedback."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from ml_backend.access import Viewer
from ml_backend.fields import Strict, Text
from ml_backend.model import services
from ml_backend.problems import NotFound
from nerloop.documents import Document, Entity, to_json
from nerloop.status import project_statuses
from sync.feedback import learned_by, send_feedback
from sync.pull import labelled_documents
from sync.report import report

MAX_ENTITIES = 10_000

router = APIRouter()


class SentEntity(Strict):
    """A span `[start, end)` in code points and its label in the project."""

    start: int = Field(ge=0)
    end: int
    label: str = Field(min_length=1, max_length=256)


class FeedbackRequest(Strict):
    """A text that a model was wrong about, and all its entities as they should be.

    `entities` null says only that something is wrong: the text then waits for an annotator, before all others.
    """

    text: Text
    entities: list[SentEntity] | None = Field(max_length=MAX_ENTITIES)
    model_version: str = Field(default="", max_length=90, description="The version that was wrong: medical-v7")


class FeedbackAnswer(BaseModel):
    """What became of a correction.

    `serves` is `evaluation` where the text is held out: it measures models, and none learns from it. `repeated`: the
    same had been sent before, and nothing was stored.
    """

    task_id: int
    annotation_id: int | None
    serves: Literal["training", "evaluation"]
    repeated: bool
    url: str


class FeedbackState(BaseModel):
    """The version in production, where the annotation was among what it was made from; else null."""

    live_in: str | None


@router.get("/projects")
def projects(_: Viewer) -> list[dict[str, Any]]:
    """Tell where the loop of each bound project stands, as `nerloop status --json` does."""
    return [asdict(project) for project in project_statuses(services().loop)]


@router.get("/projects/{project_id}/export", response_class=StreamingResponse)
def export(_: Viewer, project_id: int) -> StreamingResponse:
    """Stream a project's labelled texts as JSONL, ordered by task: the same bytes as `nerloop export` writes."""
    loop = services().loop
    documents = labelled_documents(loop, loop.label_studio.project(project_id))
    lines = _lines(documents)
    first = next(lines, b"")  # what goes wrong at the start is still answered with a status of its own

    def stream() -> Iterator[bytes]:
        yield first
        yield from lines

    return StreamingResponse(
        stream(),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="project-{project_id}.jsonl"'},
    )


@router.get("/projects/{project_id}/report")
def project_report(_: Viewer, project_id: int) -> dict[str, Any]:
    """Tell what pre-labels were worth in a project and whether more labels are, as `nerloop report --json` does."""
    return report(services().loop, project_id).row()


@router.post("/projects/{project_id}/feedback", status_code=201)
def feedback(user: Viewer, project_id: int, request: FeedbackRequest) -> FeedbackAnswer:
    """Correct what a model found: the text becomes a task of the project, with this annotation."""
    loop = services().loop
    sent = request.entities
    entities = None if sent is None else [Entity(one.start, one.end, one.label) for one in sent]
    kept = send_feedback(loop, project_id, request.text, entities, user.name, request.model_version)
    return FeedbackAnswer(
        **asdict(kept), url=f"{loop.settings.label_studio_url}/projects/{project_id}/data?task={kept.task_id}"
    )


@router.get("/projects/{project_id}/feedback/{annotation_id}")
def feedback_state(_: Viewer, project_id: int, annotation_id: int) -> FeedbackState:
    """Tell whether the model in production was made from a correction already."""
    loop = services().loop
    binding = loop.state.binding(project_id)
    if binding is None:
        raise NotFound(f"project {project_id} is not connected; GET /api/v1/projects lists those that are")
    return FeedbackState(live_in=learned_by(loop, binding.model, annotation_id) or None)


def _lines(documents: Iterable[Document]) -> Iterator[bytes]:
    for document in documents:
        yield f"{to_json(document)}\n".encode()
