"""A project's labelling config, read: which text is labelled, by which controls, with which labels.

Owns the reading and the two translations that need it: entities → Label Studio's regions and back.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nerloop.documents import Entity, check_label
from nerloop.errors import BadInput, BadLabelConfig

# What the same kind of entity is called in projects and models; the case of letters does not matter.
ALIASES = (
    ("PER", "PERSON", "人名", "人物", "姓名"),
    ("LOC", "LOCATION", "地名", "地点"),
    ("ORG", "ORGANIZATION", "机构名", "机构", "组织", "组织机构", "组织机构名"),
    ("TIME", "时间"),
)
EXAMPLE = (
    '<View><Labels name="label" toName="text"><Label value="PER"/></Labels><Text name="text" value="$text"/></View>'
)


@dataclass(frozen=True)
class LabelConfig:
    """One `<Text>` and the `<Labels>` on it.

    `text_name` is the tag's name, `field` the key of the text in a task's data, `controls` maps label → name of the
    `<Labels>` it stands in, `synonyms` maps names a model may use (`predicted_values`) → label.
    """

    text_name: str
    field: str
    controls: Mapping[str, str]
    synonyms: Mapping[str, str]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted(self.controls))

    def shown_as(self, model_labels: Iterable[str]) -> dict[str, str]:
        """Map a model's labels to this project's, by the first of these that holds.

        The same name, a `predicted_values` entry, the same in another case, or one of `ALIASES`, where the project has
        one label of that kind and does not say itself what predicts it.
        """
        exact = {**self.synonyms, **{label: label for label in self.controls}}
        folded = {
            **self._aliases(),
            **{name.casefold(): label for name, label in self.synonyms.items()},
            **{label.casefold(): label for label in self.controls},
        }
        found = {label: exact.get(label) or folded.get(label.casefold()) for label in model_labels}
        return {label: match for label, match in found.items() if match}

    def _aliases(self) -> dict[str, str]:
        """Map other names to the labels that mean the same, in the case that names are compared in."""
        aliases = {}
        for kind in ALIASES:
            names = {name.casefold() for name in kind}
            ours = [label for label in self.controls if label.casefold() in names]
            if len(ours) == 1 and ours[0] not in self.synonyms.values():
                aliases.update(dict.fromkeys(names, ours[0]))
        return aliases

    def regions(self, text: str, entities: Sequence[Entity]) -> list[dict[str, Any]]:
        """Write entities as Label Studio's regions, each with an id of its own; labels of no control are left out."""
        return [
            {
                "id": uuid.uuid4().hex[:10],
                "from_name": self.controls[entity.label],
                "to_name": self.text_name,
                "type": "labels",
                **({} if entity.score is None else {"score": entity.score}),
                **({"meta": {"text": [entity.source]}} if entity.source else {}),
                "value": {
                    "start": entity.start,
                    "end": entity.end,
                    "text": text[entity.start : entity.end],
                    "labels": [entity.label],
                },
            }
            for entity in entities
            if entity.label in self.controls
        ]

    def entities(self, text: str, result: Iterable[Any]) -> tuple[tuple[Entity, ...], int]:
        """Read the regions of an annotation; the second value counts regions that make no sense and were left out.

        Label Studio stores regions with any offsets, so they are checked here. Regions of other controls (choices,
        relations) are none of ours and are not counted. A region's score stays on its entities.
        """
        entities: set[Entity] = set()
        wrong = 0
        for region in result:
            if not isinstance(region, Mapping) or region.get("type") != "labels":
                continue
            if region.get("from_name") not in self.controls.values():
                continue
            value = region.get("value")
            value = value if isinstance(value, Mapping) else {}
            start, end, named = value.get("start"), value.get("end"), value.get("labels")
            labels = [x for x in named if isinstance(x, str) and x in self.controls] if isinstance(named, list) else []
            if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text) or not labels:
                wrong += 1
                continue
            entities.update(Entity(start, end, label, _score(region.get("score"))) for label in labels)
        return tuple(sorted(entities)), wrong


def _score(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


@lru_cache(maxsize=256)
def parse_label_config(xml: str) -> LabelConfig:
    """Read a labelling config; raises `BadLabelConfig` saying what is missing, with an example."""
    from label_studio_sdk._legacy.exceptions import LabelStudioXMLSyntaxErrorSentryIgnored
    from label_studio_sdk.label_interface import LabelInterface  # a second, which most commands need not pay

    try:
        interface = LabelInterface(xml)
    except (LabelStudioXMLSyntaxErrorSentryIgnored, ValueError, KeyError, AttributeError) as error:
        raise BadLabelConfig(f"label config: {error}; an example that works: {EXAMPLE}") from None
    texts = {tag.name: tag for tag in interface.objects if tag.tag == "Text"}
    on_text = [c for c in interface.controls if c.tag == "Labels" and any(name in texts for name in c.to_name)]
    if not on_text:
        raise BadLabelConfig(f"label config: no <Labels> on a <Text>; an example that works: {EXAMPLE}")
    text = texts[next(name for name in on_text[0].to_name if name in texts)]
    if not (text.value or "").startswith("$") or text.value == "$":
        raise BadLabelConfig(
            f'label config: <Text name={text.name!r}> needs value="$field", the tasks\' field that holds the text; '
            f"an example: {EXAMPLE}"
        )
    if (text.attr or {}).get("valueType") == "url":
        raise BadLabelConfig(
            f'label config: <Text valueType="url"> is not supported; import the texts themselves; an example: {EXAMPLE}'
        )
    controls: dict[str, str] = {}
    synonyms: dict[str, str] = {}
    for control in on_text:
        if text.name not in control.to_name:
            continue
        for label, tag in control.labels_attrs.items():
            controls.setdefault(label, control.name)
            predicted = (tag.attr or {}).get("predicted_values", "")
            synonyms.update({name.strip(): label for name in predicted.split(",") if name.strip()})
    if not controls:
        raise BadLabelConfig(f"label config: <Labels name={on_text[0].name!r}> has no <Label>; an example: {EXAMPLE}")
    for label, name in controls.items():
        try:
            check_label(label)
        except BadInput as error:
            raise BadLabelConfig(
                f"label config: <Labels name={name!r}>: {error} in the project's labelling setup; an example: {EXAMPLE}"
            ) from None
    return LabelConfig(text.name, text.value[1:], controls, synonyms)
