"""The part of the REST API that is about projects: where their loop stands, report, export, error feedback."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from ml_backend.access import Viewer
from ml_backend.fields import Strict, Text, Texts
from ml_backend.found import PredictResponse, found
from ml_backend.language import AskedLanguage, said
from ml_backend.model import services
from ml_backend.problems import NotFound
from nerloop.documents import Document, Entity, to_json
from nerloop.project_state import Binding
from nerloop.split import Side
from nerloop.status import project_statuses
from sync.dataset import SideCounts, dataset_counts
from sync.feedback import learned_by, send_feedback
from sync.pull import labelled_documents
from sync.report import report

MAX_ENTITIES = 10_000

router = APIRouter()


class PreLabelRequest(Strict):
    """Texts to label as tasks of a project."""

    texts: Texts


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

    `serves` is `evaluation` where the text is held out, or nearly one that is: no model learns from it. `repeated`: the
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


def connected(project_id: int) -> Binding:
    """Return the binding of the project in the path; raises `NotFound` where it is not connected."""
    binding = services().loop.state.binding(project_id)
    if binding is None:
        raise NotFound(f"project {project_id} is not connected; GET /api/v1/projects lists those that are")
    return binding


Connected = Annotated[Binding, Depends(connected)]


@router.get("/projects")
def projects(_: Viewer) -> list[dict[str, Any]]:
    """Tell where the loop of each bound project stands, as `nerloop status --json` does."""
    return [asdict(project) for project in project_statuses(services().loop)]


@router.post("/projects/{project_id}/predict")
def pre_label(_: Viewer, bound: Connected, request: PreLabelRequest) -> PredictResponse:
    """Label texts as annotators of a project see them: with its labels, its thresholds and its label memory."""
    held = services()
    config = held.loop.label_studio.project(bound.project_id).label_config
    predictions = [prediction for prediction, _ in held.pre_annotate(bound.model, config, request.texts)]
    return found(predictions[0].model_version, request.texts, predictions)


@router.get("/projects/{project_id}/export", response_class=StreamingResponse)
def export(_: Viewer, bound: Connected) -> StreamingResponse:
    """Stream a project's labelled texts as JSONL, ordered by task: the same bytes as `nerloop export` writes."""
    loop = services().loop
    documents = labelled_documents(loop, loop.label_studio.project(bound.project_id))
    lines = _lines(documents)
    first = next(lines, b"")  # what goes wrong at the start is still answered with a status of its own

    def stream() -> Iterator[bytes]:
        yield first
        yield from lines

    return StreamingResponse(
        stream(),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="project-{bound.project_id}.jsonl"'},
    )


@router.get("/projects/{project_id}/dataset")
def project_dataset(_: Viewer, bound: Connected) -> dict[Side, SideCounts]:
    """Count what is labelled in a project, by side of the held-out split and by label."""
    return dataset_counts(services().loop, bound.project_id)


@router.get("/projects/{project_id}/report")
def project_report(_: Viewer, bound: Connected, language: AskedLanguage) -> dict[str, Any]:
    """Tell what pre-labels were worth in a project and whether more labels are, as `nerloop report --json` does."""
    row = report(services().loop, bound.project_id).row()
    row["advice"]["sentence"] = said(row["advice"]["sentence"], language)
    return row


@router.post("/projects/{project_id}/feedback", status_code=201)
def feedback(user: Viewer, bound: Connected, request: FeedbackRequest) -> FeedbackAnswer:
    """Correct what a model found: the text becomes a task of the project, with this annotation."""
    loop, project_id = services().loop, bound.project_id
    sent = request.entities
    entities = None if sent is None else [Entity(one.start, one.end, one.label) for one in sent]
    kept = send_feedback(loop, project_id, request.text, entities, user.name, request.model_version)
    return FeedbackAnswer(**asdict(kept), url=f"{loop.settings.project_page(project_id)}?task={kept.task_id}")


@router.get("/projects/{project_id}/feedback/{annotation_id}")
def feedback_state(_: Viewer, bound: Connected, annotation_id: int) -> FeedbackState:
    """Tell whether the model in production was made from a correction already."""
    return FeedbackState(live_in=learned_by(services().loop, bound.model, annotation_id) or None)


def _lines(documents: Iterable[Document]) -> Iterator[bytes]:
    for document in documents:
        yield f"{to_json(document)}\n".encode()
