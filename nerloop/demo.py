"""The demo: a project from JSONL files, and an annotator who knows the gold labels. Nothing else knows these files."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from nerloop.documents import Document, Entity
from nerloop.errors import BadInput
from nerloop.tasks import Project

if TYPE_CHECKING:
    from nerloop.label_studio import LabelStudio  # its SDK takes a second, and every command imports this file

DEMO_MARK = "demo-project"  # file in the home folder that holds the demo project's id
DEMO_FOLDER = Path(__file__).parents[1] / "demo"
COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#76b041", "#7a5195", "#2f6690", "#d45087", "#8c5e3c")


def label_config_for(labels: Sequence[str]) -> str:
    """Return a labelling config for these labels, each with a colour."""
    rows = "".join(
        f"<Label value={quoteattr(label)} background={quoteattr(COLOURS[number % len(COLOURS)])}/>"
        for number, label in enumerate(labels)
    )
    return (
        f'<View><Labels name="label" toName="text">{rows}</Labels>'
        '<Text name="text" value="$text" granularity="symbol"/></View>'
    )


def create_project(
    label_studio: "LabelStudio", title: str, documents: Sequence[Document], labels: Sequence[str]
) -> Project:
    """Create a project with one task a document."""
    project = label_studio.create_project(title, label_config_for(labels))
    label_studio.import_tasks(project.id, [{"data": {"text": document.text}} for document in documents])
    return project


def annotate(
    label_studio: "LabelStudio", project: Project, gold: Sequence[Document], count: int, seed: int = 0
) -> Iterator[int]:
    """Label `count` tasks in the order Label Studio serves them, as an annotator who corrects what the model proposes.

    Each submit names the prediction it started from and takes time: the longer the text and the more corrections, the
    longer (lead time in seconds, not waited for). Yields the annotation's id. Raises `BadInput` for a task that is
    none of the gold documents.
    """
    entities_of = {document.text: document.entities for document in gold}
    dice = random.Random(seed)
    for _ in range(count):
        task = label_studio.next_task(project)
        if task is None:
            return
        if task.text not in entities_of:
            raise BadInput(f"task {task.id} is not in the gold file; `demo annotate` works on the project made from it")
        shown = [p for p in task.predictions if p.model_version == label_studio.project(project.id).model_version]
        gold_entities = entities_of[task.text]
        lead_time = _lead_time(dice, task.text, gold_entities, shown[-1].entities if shown else ())
        yield label_studio.create_annotation(
            task.id,
            project.label_config.regions(task.text, gold_entities),
            lead_time=lead_time,
            parent_prediction=shown[-1].id if shown else None,
        )


def _lead_time(dice: random.Random, text: str, gold: Sequence[Entity], proposed: Sequence[Entity]) -> float:
    """Return seconds: reading at about 8 characters a second, 2.5 for each correction, log-normal noise."""
    corrections = len(set(gold) ^ set(proposed))
    return round((1.5 + len(text) / 8 + 2.5 * corrections) * dice.lognormvariate(0, 0.3), 2)
