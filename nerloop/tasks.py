"""What Label Studio stores, as the loop sees it: projects, tasks, annotations, predictions. Owns reading its JSON.

Asking for it is label_studio.py's; behind these classes nobody indexes Label Studio's JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from nerloop.documents import Entity
from nerloop.label_config import LabelConfig, parse_label_config

Json = dict[str, Any]
FEEDBACK_FIELD = "nerloop_feedback"
"""Key in a task's data that marks it as error feedback; it says whose, and on which version."""


PROJECT_FIELDS = ("id", "title", "label_config", "model_version", "task_number", "created_at")
BARE_TASK_FIELDS = ("id", "data", "updated_at", "total_annotations", "cancelled_annotations")
ANNOTATION_FIELDS = ("result", "was_cancelled", "ground_truth", "completed_by", "parent_prediction", "lead_time")
TASK_FIELDS = (*BARE_TASK_FIELDS, "annotations", *ANNOTATION_FIELDS, "predictions", "draft_exists")
"""What is read of a project or task. Asked for these only, Label Studio makes a page in a fraction of the time; it
takes the names for those of annotations too."""


@dataclass(frozen=True)
class Project:
    """A Label Studio project as far as the loop needs it; `model_version` is the version annotators are shown."""

    id: int
    title: str
    label_config_xml: str
    model_version: str
    tasks: int
    created_at: str = ""

    @cached_property
    def label_config(self) -> LabelConfig:
        """The labelling config, read; raises `BadLabelConfig`."""
        return parse_label_config(self.label_config_xml)


@dataclass(frozen=True)
class TaskPrediction:
    """A stored prediction: its id, version, score (the order of tasks), entities with theirs, raw regions, its date."""

    id: int
    model_version: str
    score: float | None
    entities: tuple[Entity, ...] = ()
    result: tuple[Any, ...] = ()
    created_at: datetime | None = None


@dataclass(frozen=True)
class Annotation:
    """A submitted annotation. `was_cancelled` means that the annotator skipped the task.

    `annotator` is the id of the user who made it, None where Label Studio knows none. `parent_prediction` is the id of
    the prediction it began with; Label Studio forgets that when the prediction is deleted. `lead_time` is in seconds,
    None where nobody measured it.
    """

    id: int
    result: tuple[Any, ...]
    was_cancelled: bool
    ground_truth: bool
    updated_at: str
    annotator: int | None = None
    parent_prediction: int | None = None
    lead_time: float | None = None

    @property
    def holds_pre_labels(self) -> bool:
        """Whether a region comes from a prediction, changed or not, as Label Studio's page notes on each."""
        return any(_origin(region) in {"prediction", "prediction-changed"} for region in self.result)

    @property
    def unchanged_regions(self) -> tuple[Any, ...]:
        """The regions that were taken over from a prediction as they were."""
        return tuple(region for region in self.result if _origin(region) == "prediction")


@dataclass(frozen=True)
class Task:
    """A task with its annotations and predictions; `text` is None where the field is missing or not a string.

    `updated_at`, by Label Studio's clock, moves when one of its annotations is made, changed or deleted by hand;
    `annotation_count`, skips included, is known also where the annotations were not asked for. `has_drafts` counts
    anybody's. `feedback` is that of a task which was made, or marked, because a model was wrong about it.
    """

    id: int
    text: str | None
    annotations: tuple[Annotation, ...] = ()
    predictions: tuple[TaskPrediction, ...] = ()
    has_drafts: bool = False
    updated_at: str = ""
    annotation_count: int = 0
    feedback: bool = False


def task_text(data: object, field: str) -> str | None:
    """Return the text of a task's data, or None where the field is missing or holds no string."""
    text = data.get(field) if isinstance(data, Mapping) else None
    return text if isinstance(text, str) else None


def is_feedback(data: object) -> bool:
    """Tell whether a task's data carries the mark of error feedback."""
    return isinstance(data, Mapping) and bool(data.get(FEEDBACK_FIELD))


def read_project(row: Json) -> Project:
    """Read a project as the API gives it."""
    return Project(
        id=row["id"],
        title=row["title"],
        label_config_xml=row["label_config"],
        model_version=row.get("model_version") or "",
        tasks=row.get("task_number") or 0,
        created_at=row.get("created_at") or "",
    )


def read_task(row: Json, config: LabelConfig) -> Task:
    """Read a task as the API gives it, with or without annotations and predictions."""
    text = task_text(row["data"], config.field)
    return Task(
        id=row["id"],
        text=text,
        annotations=tuple(
            Annotation(
                id=item["id"],
                result=tuple(item["result"] or ()),
                was_cancelled=bool(item["was_cancelled"]),
                ground_truth=bool(item["ground_truth"]),
                updated_at=item["updated_at"],
                annotator=_user_id(item.get("completed_by")),
                parent_prediction=item.get("parent_prediction"),
                lead_time=item.get("lead_time"),
            )
            for item in row.get("annotations") or ()
        ),
        predictions=tuple(read_prediction(item, text or "", config) for item in row.get("predictions") or ()),
        has_drafts=bool(row.get("draft_exists")),
        updated_at=row.get("updated_at") or "",
        annotation_count=(row.get("total_annotations") or 0) + (row.get("cancelled_annotations") or 0),
        feedback=is_feedback(row["data"]),
    )


def read_prediction(item: Json, text: str, config: LabelConfig) -> TaskPrediction:
    """Read a prediction of a text as the API gives it."""
    return TaskPrediction(
        id=item["id"],
        model_version=item.get("model_version") or "",
        score=item.get("score"),
        entities=config.entities(text, item["result"] or ())[0],
        result=tuple(item["result"] or ()),
        created_at=datetime.fromisoformat(item["created_at"]) if item.get("created_at") else None,
    )


def _origin(region: object) -> object:
    return region.get("origin") if isinstance(region, Mapping) else None


def _user_id(user: object) -> int | None:
    """Read a user, whom Label Studio names by id or, from some endpoints, as an object."""
    identifier = user.get("id") if isinstance(user, Mapping) else user
    return identifier if isinstance(identifier, int) else None


def document_id(project_id: int, task_id: int) -> str:
    """Return the id of a task's document, in exports and snapshots."""
    return f"{project_id}-{task_id}"
