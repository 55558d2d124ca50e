"""From Label Studio to documents, for exports and training snapshots alike. Owns what counts as a label."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nerloop.documents import Document, Manifest, content_of, fingerprint, manifest_entry, write_jsonl
from nerloop.label_studio import LabelStudio
from nerloop.settings import Settings
from nerloop.split import side_of
from nerloop.tasks import Annotation, Project, Task, document_id, documents


@dataclass(frozen=True)
class Snapshot:
    """The labelled documents of a model's projects at one moment, and the annotations they come from."""

    documents: tuple[Document, ...]
    manifest: Manifest
    labels: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSONL."""
        return fingerprint(self.documents)


def export(label_studio: LabelStudio, project: Project, path: Path) -> int:
    """Write a project's labelled documents as JSONL, ordered by task, and return their number.

    Streamed a page at a time and written atomically. Raises `BadInput` where the file cannot be written.
    """
    return write_jsonl(path, documents(project, label_studio.tasks(project, annotated=True)))


def snapshot(label_studio: LabelStudio, projects: Iterable[Project]) -> Snapshot:
    """Read the labelled documents of all projects that feed a model, with the manifest of their annotations."""
    found: list[Document] = []
    manifest: Manifest = {}
    labels: set[str] = set()
    for project in projects:
        labels.update(project.label_config.labels)
        tasks = _noting(project, label_studio.tasks(project, annotated=True), manifest)
        found.extend(documents(project, tasks))
    return Snapshot(tuple(found), manifest, tuple(sorted(labels)))


def sample_texts(
    label_studio: LabelStudio, projects: Iterable[Project], settings: Settings, count: int
) -> Iterator[str]:
    """Yield up to `count` texts of a model's projects, labelled or not, none of them from the gate side."""
    texts = (task.text for project in projects for task in label_studio.tasks(project))
    usable = (text for text in texts if text and side_of(text, settings.dev_share, settings.gate_share) != "gate")
    yield from islice(usable, count)


def new_labels(label_studio: LabelStudio, projects: Iterable[Project], decided: Manifest) -> set[str]:
    """Return ids of the annotations that were created, changed or deleted since a manifest; each counts once."""
    present: Manifest = {}
    for project in projects:
        for _ in _noting(project, label_studio.tasks(project, annotated=True), present):
            pass
    return changed_labels(present, decided)


def changed_labels(present: Manifest, decided: Manifest) -> set[str]:
    """Return ids of the annotations that two manifests do not agree on."""
    return {
        key
        for key in present.keys() | decided.keys()
        if key not in present or key not in decided or content_of(present[key]) != content_of(decided[key])
    }


def _noting(project: Project, tasks: Iterable[Task], manifest: Manifest) -> Iterator[Task]:
    """Pass tasks through and enter their submitted annotations (never drafts, never skips) into the manifest."""
    for task in tasks:
        manifest.update(
            {
                str(annotation.id): manifest_entry(document_id(project, task), _content_hash(annotation))
                for annotation in task.annotations
                if not annotation.was_cancelled
            }
        )
        yield task


def _content_hash(annotation: Annotation) -> str:
    """Hash what an annotation says, so that saving it again unchanged is no new label."""
    said = sorted(
        json.dumps([region.get("from_name"), region.get("value")], sort_keys=True, ensure_ascii=False)
        for region in annotation.result
        if isinstance(region, dict)
    )
    content = "\n".join([*said, str(annotation.ground_truth)])
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
