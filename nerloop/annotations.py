"""What a task's annotations say together: the rules for skipped, empty and conflicting ones, in docs/labels.md.

Owns the choice between annotators; reading Label Studio's JSON is tasks.py's.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from nerloop.documents import Document
from nerloop.tasks import Annotation, Project, Task, document_id

logger = logging.getLogger(__name__)

AnnotationStrategy = Literal["latest", "ground-truth", "majority"]
ANNOTATION_STRATEGIES: tuple[AnnotationStrategy, ...] = get_args(AnnotationStrategy)


@dataclass(frozen=True)
class Labelled:
    """A labelled document; `conflicting` where its annotators disagree, each by their latest annotation."""

    document: Document
    conflicting: bool = False


def labelled(project: Project, task: Task, strategy: AnnotationStrategy) -> Labelled | None:
    """Return the document that a task's annotations make, or None where they say nothing.

    Skips say nothing; a submitted annotation without regions says that the text holds no entity. Of several, the
    strategy chooses: `latest` takes the one submitted or changed last, `ground-truth` the latest ground truth, else the
    latest, and `majority` each entity (span and label) that more than half of the annotators have, where no ground
    truth decides alone. Regions that make no sense are left out with a warning.
    """
    submitted = [annotation for annotation in task.annotations if not annotation.was_cancelled]
    if task.text is None or not submitted:
        return None
    voters = _latest_of_each_annotator(submitted)
    speaking = _speaking(submitted, voters, strategy)
    read = {
        a.id: project.label_config.entities(task.text, a.result)
        for a in {a.id: a for a in (*voters, *speaking)}.values()
    }
    for annotation in speaking:
        wrong = read[annotation.id][1]
        if wrong:
            logger.warning(
                "Task %s, annotation %s: left out %s regions with wrong offsets or labels",
                task.id,
                annotation.id,
                wrong,
            )
    votes = Counter(entity for annotation in speaking for entity in read[annotation.id][0])
    entities = tuple(sorted(entity for entity, count in votes.items() if 2 * count > len(speaking)))
    conflicting = len({read[annotation.id][0] for annotation in voters}) > 1
    return Labelled(Document(document_id(project.id, task.id), task.text, entities, task.feedback), conflicting)


def _speaking(
    submitted: Sequence[Annotation], voters: Sequence[Annotation], strategy: AnnotationStrategy
) -> Sequence[Annotation]:
    """Return the annotations whose entities are counted."""
    if strategy == "latest":
        return [latest(submitted)]
    truths = [annotation for annotation in submitted if annotation.ground_truth]
    if strategy == "majority" and not truths:
        return voters
    return [latest(truths or submitted)]


def _latest_of_each_annotator(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Return one annotation an annotator; one whose annotator is unknown stands for itself."""
    by_annotator: dict[object, list[Annotation]] = {}
    for annotation in annotations:
        key = ("annotation", annotation.id) if annotation.annotator is None else annotation.annotator
        by_annotator.setdefault(key, []).append(annotation)
    return [latest(theirs) for theirs in by_annotator.values()]


def latest(annotations: Iterable[Annotation]) -> Annotation:
    """Return the annotation that was submitted or changed last."""
    return max(annotations, key=lambda a: (datetime.fromisoformat(a.updated_at), a.id))
