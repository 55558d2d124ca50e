"""What Label Studio stores, as the loop sees it: projects, tasks, annotations, predictions. Owns reading its JSON.

Asking for it is label_studio.py's; behind these classes nobody indexes Label Studio's JSON.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from nerloop.documents import Document, Entity
from nerloop.label_config import LabelConfig, parse_label_config

logger = logging.getLogger(__name__)

Json = dict[str, Any]


PROJECT_FIELDS = ("id", "title", "label_config", "model_version", "task_number")


@dataclass(frozen=True)
class Project:
    """A Label Studio project as far as the loop needs it; `model_version` is the version annotators are shown."""

    id: int
    title: str
    label_config_xml: str
    model_version: str
    tasks: int

    @cached_property
    def label_config(self) -> LabelConfig:
        """The labelling config, read; raises `BadLabelConfig`."""
        return parse_label_config(self.label_config_xml)


@dataclass(frozen=True)
class TaskPrediction:
    """A stored prediction: its id in Label Studio, version, score (the order of tasks) and entities."""

    id: int
    model_version: str
    score: float | None
    entities: tuple[Entity, ...] = ()


@dataclass(frozen=True)
class Annotation:
    """A submitted annotation. `was_cancelled` means that the annotator skipped the task."""

    id: int
    result: tuple[Any, ...]
    was_cancelled: bool
    ground_truth: bool
    updated_at: str


@dataclass(frozen=True)
class Task:
    """A task with its annotations and predictions; `text` is None where the field is missing or not a string."""

    id: int
    text: str | None
    annotations: tuple[Annotation, ...] = ()
    predictions: tuple[TaskPrediction, ...] = ()
    has_drafts: bool = False


def task_text(data: object, field: str) -> str | None:
    """Return the text of a task's data, or None where the field is missing or holds no string."""
    text = data.get(field) if isinstance(data, Mapping) else None
    return text if isinstance(text, str) else None


def read_project(row: Json) -> Project:
    """Read a project as the API gives it."""
    return Project(
        id=row["id"],
        title=row["title"],
        label_config_xml=row["label_config"],
        model_version=row.get("model_version") or "",
        tasks=row.get("task_number") or 0,
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
            )
            for item in row.get("annotations") or ()
        ),
        predictions=tuple(
            TaskPrediction(
                id=item["id"],
                model_version=item.get("model_version") or "",
                score=item.get("score"),
                entities=config.entities(text or "", item["result"] or ())[0],
            )
            for item in row.get("predictions") or ()
        ),
        has_drafts=bool(row.get("drafts")),
    )


def document_id(project: Project, task: Task) -> str:
    """Return the id of a task's document, in exports and snapshots."""
    return f"{project.id}-{task.id}"


def documents(project: Project, tasks: Iterable[Task]) -> Iterator[Document]:
    """Turn annotated tasks into documents, in the order of the tasks.

    One annotation speaks for a task: the ground truth if there is one, else the one submitted or changed last. Skipped
    tasks say nothing; a submitted annotation without regions says that the text holds no entity. Regions that make no
    sense are left out with a warning.
    """
    for task in tasks:
        submitted = [annotation for annotation in task.annotations if not annotation.was_cancelled]
        if task.text is None or not submitted:
            continue
        chosen = max(submitted, key=lambda a: (a.ground_truth, datetime.fromisoformat(a.updated_at), a.id))
        entities, wrong = project.label_config.entities(task.text, chosen.result)
        if wrong:
            logger.warning(
                "Task %s, annotation %s: left out %s regions with wrong offsets or labels", task.id, chosen.id, wrong
            )
        yield Document(document_id(project, task), task.text, entities)
