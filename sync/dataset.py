"""What a project's labelled texts are: how many of each label, on which side of the held-out split."""

from collections import Counter
from dataclasses import dataclass, field
from typing import get_args

from nerloop.loop import Loop
from nerloop.split import Side, side_of
from sync.pull import labelled_documents


@dataclass
class SideCounts:
    """The labelled texts of one side of the split, their characters, and their entities by label."""

    documents: int = 0
    characters: int = 0
    entities: Counter[str] = field(default_factory=Counter)


def dataset_counts(loop: Loop, project_id: int) -> dict[Side, SideCounts]:
    """Return what is labelled in a project by side; each label of the project stands on each side, if with 0.

    Those near-duplicates of held-out texts that a fine-tune leaves out are counted. Raises what Label Studio raises.
    """
    settings = loop.settings
    project = loop.label_studio.project(project_id)
    none = dict.fromkeys(project.label_config.labels, 0)
    counts: dict[Side, SideCounts] = {side: SideCounts(entities=Counter(none)) for side in get_args(Side)}
    for document in labelled_documents(loop, project):
        count = counts[side_of(document.text, settings.dev_share, settings.gate_share, feedback=document.feedback)]
        count.documents += 1
        count.characters += len(document.text)
        count.entities.update(entity.label for entity in document.entities)
    return counts
