import re

import pytest

from nerloop.documents import Entity
from nerloop.errors import BadLabelConfig
from nerloop.label_config import EXAMPLE, parse_label_config

TEXT_TAG = '<Text name="text" value="$text"/>'
TEXT = "😀张三在 北京\r\n工作"


def labels(*tags, name="label", to_name="text"):
    return f'<Labels name="{name}" toName="{to_name}">{"".join(tags)}</Labels>'


def view(*parts):
    return f"<View>{''.join(parts)}</View>"


def region(start=1, end=3, label="PER", **changes):
    value = {"start": start, "end": end, "text": TEXT[1:3], "labels": [label]}
    return {"id": "a", "from_name": "label", "to_name": "text", "type": "labels", "value": value} | changes


CONFIG = parse_label_config(view(labels('<Label value="PER"/>', '<Label value="LOC"/>'), TEXT_TAG))


def test_the_example_in_the_error_messages_works():
    config = parse_label_config(EXAMPLE)

    assert (config.text_name, config.field, config.controls) == ("text", "text", {"PER": "label"})


def test_names_are_read_from_the_config():
    config = parse_label_config(
        view('<Text name="ttt" value="$content"/>', labels('<Label value="疾病"/>', name="lll", to_name="ttt"))
    )

    assert (config.text_name, config.field, config.controls) == ("ttt", "content", {"疾病": "lll"})


def test_labels_are_listed_sorted():
    assert CONFIG.labels == ("LOC", "PER")


def test_each_label_belongs_to_the_control_it_stands_in():
    config = parse_label_config(
        view(labels('<Label value="PER"/>', name="who"), labels('<Label value="LOC"/>', name="where"), TEXT_TAG)
    )

    regions = config.regions(TEXT, [Entity(1, 3, "PER"), Entity(5, 7, "LOC")])

    assert [(r["from_name"], r["value"]["labels"]) for r in regions] == [("who", ["PER"]), ("where", ["LOC"])]


def test_controls_of_another_kind_or_on_another_text_are_none_of_ours():
    config = parse_label_config(
        view(
            '<Header value="新闻"/>',
            '<Text name="title" value="$title"/>',
            labels('<Label value="PER"/>'),
            TEXT_TAG,
            '<Choices name="kind" toName="text"><Choice value="LOC"/></Choices>',
            labels('<Label value="ORG"/>', name="other", to_name="title"),
        )
    )

    assert (config.field, config.labels) == ("text", ("PER",))


def test_a_label_with_an_alias_is_known_by_its_alias_as_in_stored_regions():
    config = parse_label_config(view(labels('<Label value="人名" alias="PER"/>'), TEXT_TAG))

    assert config.labels == ("PER",)


@pytest.mark.parametrize(
    ("model_label", "shown"), [("PER", "PER"), ("per", "PER"), ("人名", "PER"), ("人", "PER"), ("GPE", "LOC")]
)
def test_a_models_label_is_found_by_name_by_predicted_values_and_in_another_case(model_label, shown):
    config = parse_label_config(
        view(
            labels('<Label value="PER" predicted_values="人名, 人"/>', '<Label value="LOC" predicted_values="GPE"/>'),
            TEXT_TAG,
        )
    )

    assert config.shown_as([model_label, "nz"]) == {model_label: shown}


def test_the_same_name_wins_over_predicted_values():
    config = parse_label_config(
        view(labels('<Label value="PER" predicted_values="LOC"/>', '<Label value="LOC"/>'), TEXT_TAG)
    )

    assert config.shown_as(["LOC"]) == {"LOC": "LOC"}


@pytest.mark.parametrize(
    ("tag", "model_labels", "shown"),
    [
        ('<Label value="人名"/>', ["PER", "Person"], {"PER": "人名", "Person": "人名"}),
        ('<Label value="per"/>', ["PER", "人名"], {"PER": "per", "人名": "per"}),
        ('<Label value="地名"/><Label value="机构名"/>', ["LOC", "ORG"], {"LOC": "地名", "ORG": "机构名"}),
        ('<Label value="作者" predicted_values="per"/>', ["PER"], {"PER": "作者"}),
        ('<Label value="人名" predicted_values="AUTHOR"/>', ["PER", "author"], {"author": "人名"}),
        ('<Label value="人名"/><Label value="人物"/>', ["PER", "人名"], {"人名": "人名"}),
        ('<Label value="PERIOD"/>', ["PER"], {}),
    ],
)
def test_a_model_calls_the_usual_labels_by_other_names(tag, model_labels, shown):
    config = parse_label_config(view(labels(tag), TEXT_TAG))

    assert config.shown_as(model_labels) == shown


def test_a_region_that_no_model_found_says_where_it_comes_from():
    marked, models = CONFIG.regions(TEXT, [Entity(1, 3, "PER", 0.75, "label memory"), Entity(5, 7, "LOC", 0.5)])

    assert marked["meta"] == {"text": ["label memory"]}  # as the editor writes and shows a region's note
    assert "meta" not in models


def test_a_region_has_the_offsets_and_the_exact_text_of_its_entity():
    (made,) = CONFIG.regions(TEXT, [Entity(5, 8, "LOC", score=0.75)])

    assert made["value"] == {"start": 5, "end": 8, "text": "北京\r", "labels": ["LOC"]}
    assert (made["from_name"], made["to_name"], made["type"], made["score"]) == ("label", "text", "labels", 0.75)


def test_regions_have_ids_of_their_own():
    made = [*CONFIG.regions(TEXT, [Entity(1, 3, "PER")] * 50), *CONFIG.regions(TEXT, [Entity(1, 3, "PER")] * 50)]

    assert len({one["id"] for one in made}) == 100


def test_an_entity_without_a_control_becomes_no_region_and_without_a_score_shows_none():
    (made,) = CONFIG.regions(TEXT, [Entity(0, 1, "nz"), Entity(1, 3, "PER")])

    assert made["value"]["text"] == "张三"
    assert "score" not in made


def test_entities_survive_the_way_through_regions():
    entities = (Entity(0, 1, "LOC"), Entity(1, 3, "PER"), Entity(1, 7, "LOC"), Entity(8, len(TEXT), "PER"))

    assert CONFIG.entities(TEXT, CONFIG.regions(TEXT, entities)) == (entities, 0)


def test_a_region_with_two_labels_is_two_entities():
    found, wrong = CONFIG.entities(TEXT, [region(value={"start": 1, "end": 3, "labels": ["PER", "LOC"]})])

    assert found == (Entity(1, 3, "LOC"), Entity(1, 3, "PER"))
    assert wrong == 0


def test_a_region_that_was_drawn_twice_is_one_entity():
    assert CONFIG.entities(TEXT, [region(), region(id="b")]) == ((Entity(1, 3, "PER"),), 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"start": -1},
        {"start": 3},
        {"start": 5},
        {"end": len(TEXT) + 1},
        {"start": None},
        {"start": "1"},
        {"end": 2.5},
        {"label": "GPE"},
        {"value": {}},
        {"value": None},
        {"value": {"start": 1, "end": 3}},
        {"value": {"start": 1, "end": 3, "labels": []}},
    ],
)
def test_a_region_that_makes_no_sense_is_left_out_and_counted(changes):
    found, wrong = CONFIG.entities(TEXT, [region(**changes), region(5, 7, "LOC")])

    assert found == (Entity(5, 7, "LOC"),)
    assert wrong == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"value": ["PER"]},
        {"value": "PER"},
        {"value": {"start": 1, "end": 3, "labels": 5}},
        {"value": {"start": 1, "end": 3, "labels": [{"PER": 1}]}},
        {"value": {"start": False, "end": True, "labels": ["PER"]}},
    ],
)
def test_a_region_of_another_shape_is_left_out_and_counted_too(changes):
    found, wrong = CONFIG.entities(TEXT, [region(**changes), region(5, 7, "LOC")])

    assert found == (Entity(5, 7, "LOC"),)
    assert wrong == 1


@pytest.mark.parametrize(
    "other",
    [
        {"from_name": "kind", "to_name": "text", "type": "choices", "value": {"choices": ["LOC"]}},
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        region(from_name="removed-control"),
        "nonsense",
        None,
    ],
)
def test_regions_of_other_controls_are_neither_entities_nor_wrong(other):
    assert CONFIG.entities(TEXT, [other, region()]) == ((Entity(1, 3, "PER"),), 0)


LABEL = '<Label value="PER"/>'
BAD_CONFIGS = {
    "empty": "",
    "no XML": "PER, LOC",
    "unclosed": "<View><Labels>",
    "no tags": "<View/>",
    "no text": view(labels(LABEL)),
    "no labels": view(TEXT_TAG),
    "no label in labels": view(labels(), TEXT_TAG),
    "label without value": view(labels("<Label/>"), TEXT_TAG),
    "labels on no text": view(f'<Labels name="label">{LABEL}</Labels>', TEXT_TAG),
    "labels on a missing text": view(labels(LABEL, to_name="elsewhere"), TEXT_TAG),
    "labels without a name": view(f'<Labels toName="text">{LABEL}</Labels>', TEXT_TAG),
    "text without a name": view(labels(LABEL), '<Text value="$text"/>'),
    "text without a value": view(labels(LABEL), '<Text name="text"/>'),
    "hypertext": view(labels(LABEL), '<HyperText name="text" value="$text"/>'),
    "choices only": view('<Choices name="c" toName="text"><Choice value="PER"/></Choices>', TEXT_TAG),
}
WITHOUT_EXAMPLE = {
    "text that is no field": view(labels(LABEL), '<Text name="text" value="text"/>'),
    "text behind a link": view(labels(LABEL), '<Text name="text" value="$text" valueType="url"/>'),
}
UNNOTICED = {
    "field without a name": view(labels(LABEL), '<Text name="text" value="$"/>'),
    "label of nothing": view(labels('<Label value=""/>'), TEXT_TAG),
}


@pytest.mark.parametrize("xml", BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
def test_a_bad_config_is_refused_with_an_example_that_works(xml):
    with pytest.raises(BadLabelConfig, match=re.escape(EXAMPLE)):
        parse_label_config(xml)


@pytest.mark.parametrize("xml", WITHOUT_EXAMPLE.values(), ids=WITHOUT_EXAMPLE.keys())
def test_a_text_that_cannot_be_read_from_the_task_is_refused_by_name_of_the_attribute(xml):
    with pytest.raises(BadLabelConfig, match=r'<Text .*(value="\$field"|valueType="url")'):
        parse_label_config(xml)


@pytest.mark.parametrize("xml", WITHOUT_EXAMPLE.values(), ids=WITHOUT_EXAMPLE.keys())
def test_a_text_that_cannot_be_read_from_the_task_is_refused_with_an_example(xml):
    with pytest.raises(BadLabelConfig, match=re.escape(EXAMPLE)):
        parse_label_config(xml)


@pytest.mark.parametrize("label", ["PER ", " ", "&#10;PER", "P&#9;ER"])
def test_a_label_that_no_file_could_hold_is_refused_with_the_place_to_rename_it(label):
    with pytest.raises(BadLabelConfig, match=r"<Labels name='label'>: the label .* in the project's labelling setup"):
        parse_label_config(view(labels(f'<Label value="{label}"/>'), TEXT_TAG))


@pytest.mark.parametrize("xml", UNNOTICED.values(), ids=UNNOTICED.keys())
def test_an_empty_name_is_refused(xml):
    with pytest.raises(BadLabelConfig):
        parse_label_config(xml)
