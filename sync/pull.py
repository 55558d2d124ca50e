"""From Label Studio to documents, for exports and training snapshots alike. Owns what counts as a new label."""

import heapq
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

from nerloop.annotations import AnnotationStrategy, Labelled, labelled
from nerloop.documents import Document, Fingerprint, Manifest, content_of, manifest_entry, read_jsonl, write_jsonl
from nerloop.label_studio import LabelStudio
from nerloop.loop import Loop
from nerloop.near_duplicates import NearDuplicates
from nerloop.project_state import Binding
from nerloop.settings import Settings
from nerloop.split import Side, Split, hash_fraction, side_of
from nerloop.tasks import Project, Task, document_id
from sync.connect import stored_binding
from sync.label_copy import label_copy

logger = logging.getLogger(__name__)

UNLABELLED_READ = 20_000  # tasks among which a fine-tune's unlabelled ones are drawn: three seconds of Label Studio

Changes = dict[str, float | None]
"""Annotation id → when it was changed last, in Unix seconds; None for one that is gone."""


@dataclass(frozen=True)
class Snapshot:
    """The labelled documents of a model's projects at one moment, and the annotations they come from.

    The documents are in the JSONL file `path`, ordered by project and task: the same labels make the same bytes.
    `conflicting_documents` are those whose annotators disagree.
    """

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    fingerprint: str
    conflicting_documents: int

    @property
    def documents(self) -> list[Document]:
        """The documents, read from the file."""
        return read_jsonl(self.path)


def export(loop: Loop, project: Project, path: Path) -> int:
    """Write a project's labelled documents as JSONL, ordered by task, and return their number.

    Written atomically, without holding them in memory. Raises `BadInput` where the file cannot be written.
    """
    return write_jsonl(path, labelled_documents(loop, project))


def labelled_documents(loop: Loop, project: Project) -> Iterator[Document]:
    """Yield a project's labelled documents, ordered by task."""
    binding = stored_binding(loop.label_studio, loop.settings, project.id)
    strategy = binding.annotations if binding else Binding.annotations
    for found in _labelled(loop, project, strategy, {}):
        yield found.document


def snapshot(loop: Loop, bound: Sequence[Binding], projects: Sequence[Project], path: Path) -> Snapshot:
    """Write the labelled documents of all projects that feed a model to `path`, with what they come from.

    `projects` are those that are `bound`. They are written as they are read, not held in memory.
    """
    strategies = {binding.project_id: binding.annotations for binding in bound}
    manifest: Manifest = {}
    fingerprint = Fingerprint()
    conflicting = 0

    def documents() -> Iterator[Document]:
        nonlocal conflicting
        for project in projects:
            for found in _labelled(loop, project, strategies[project.id], manifest):
                conflicting += found.conflicting
                fingerprint.add(found.document)
                yield found.document

    count = write_jsonl(path, documents())
    if conflicting:
        logger.info("Of %s documents %s have annotators who disagree", count, conflicting)
    labels = {label for project in projects for label in project.label_config.labels}
    return Snapshot(path, manifest, tuple(sorted(labels)), fingerprint.hexdigest(), conflicting)


def sample_texts(
    label_studio: LabelStudio, projects: Iterable[Project], settings: Settings, count: int
) -> Iterator[str]:
    """Yield up to `count` texts of a model's projects, labelled or not, none of them from the gate side."""
    tasks = (task for project in projects for task in label_studio.tasks(project))
    usable = (task.text for task in tasks if task.text and side_of_task(task, settings) != "gate")
    yield from islice(usable, count)


def unlabelled_documents(loop: Loop, model: str, projects: Iterable[Project], sides: Split) -> tuple[Document, ...]:
    """Return a sample of what nobody has labelled, in proportion to the training side, for a fine-tune to learn from.

    None is a held-out text or nearly repeats one. Drawn by hash, so that a fine-tune which goes on gets the same ones.
    Their entities are what the model's gazetteer finds.
    """
    label_studio, settings = loop.label_studio, loop.settings
    count = settings.unlabelled_ratio * len(sides.train)
    if not count:
        return ()
    tasks = ((one, task) for one in projects for task in label_studio.tasks(one, annotated=False, bare=True))
    held_out = NearDuplicates(document.text for document in (*sides.dev, *sides.gate))
    usable = (
        (hash_fraction(task.text, salt="unlabelled:"), document_id(one.id, task.id), task.text, one.label_config)
        for one, task in islice(tasks, UNLABELLED_READ)
        if task.text and side_of_task(task, settings) == "train" and not held_out.resembles(task.text)
    )
    terms = loop.terms.gazetteer(model)
    return tuple(
        Document(document, text, tuple(terms.matches(text, config.shown_as(terms.labels))))
        for _, document, text, config in heapq.nsmallest(count, usable, key=lambda drawn: drawn[:2])
    )


def held_out_texts(
    label_studio: LabelStudio, projects: Sequence[Project], settings: Settings, count: int
) -> Iterator[str]:
    """Yield up to `count` texts that are never trained on, labelled or not: the same ones each time, as tasks go.

    Each project gives its first ones, so that few tasks are read; which texts are held out was drawn by hash.
    """
    for project in projects:
        tasks = label_studio.tasks(project, bare=True)
        usable = (task.text for task in tasks if task.text and side_of_task(task, settings) != "train")
        yield from islice(usable, count // len(projects))


def new_labels(loop: Loop, projects: Iterable[Project], decided: Manifest) -> Changes:
    """Return the annotations that were created, changed or deleted since a manifest; each counts once.

    Only submitted ones are labels: never drafts, never skips.
    """
    present: Manifest = {}
    changed_at: dict[str, str] = {}
    for project in projects:
        with label_copy(loop.label_studio, project, loop.settings) as copy:
            for key, task_id, content, updated_at in copy.labels():
                present[key] = manifest_entry(document_id(project.id, task_id), content)
                if key not in decided or content_of(decided[key]) != content:
                    changed_at[key] = updated_at
    return {
        key: datetime.fromisoformat(changed_at[key]).timestamp() if key in changed_at else None
        for key in changed_labels(present, decided)
    }


def changed_labels(present: Manifest, decided: Manifest) -> set[str]:
    """Return ids of the annotations that two manifests do not agree on."""
    return {
        key
        for key in present.keys() | decided.keys()
        if key not in present or key not in decided or content_of(present[key]) != content_of(decided[key])
    }


def side_of_task(task: Task, settings: Settings) -> Side:
    """Return the side that a task's text is on."""
    return side_of(task.text or "", settings.dev_share, settings.gate_share, feedback=task.feedback)


def _labelled(loop: Loop, project: Project, strategy: AnnotationStrategy, manifest: Manifest) -> Iterator[Labelled]:
    """Yield a project's labelled documents by task, and enter their annotations into the manifest."""
    with label_copy(loop.label_studio, project, loop.settings, exact=True) as copy:
        manifest.update(
            (key, manifest_entry(document_id(project.id, task_id), content))
            for key, task_id, content, _ in copy.labels()
        )
        for task in copy.tasks():
            found = labelled(project, task, strategy)
            if found is not None:
                yield found
