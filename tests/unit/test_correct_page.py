import pytest
from hypothesis import given, strategies

from console.correct_page import moved, replaced


def entity(start, end):
    return {"start": start, "end": end, "label": "ORG"}


@pytest.mark.parametrize(
    ("before", "after", "span"),
    [
        ("张三在北京", "今天张三在北京", (4, 7)),
        ("张三在北京", "张三在北京工作", (2, 5)),
        ("张三在北京", "张三在他北京", None),
        ("张三在北京", "张在北京", (1, 4)),
        ("张三在北京", "", None),
    ],
)
def test_an_entity_moves_with_its_text_and_goes_where_the_text_in_it_is_changed(before, after, span):
    kept = moved(before, after, [entity(2, 5)])

    assert kept == ([] if span is None else [entity(*span)])


@given(strategies.text("ab", max_size=8), strategies.text("ab", max_size=8), strategies.data())
def test_what_is_kept_covers_the_same_characters(before, after, data):
    start = data.draw(strategies.integers(0, len(before)))
    end = data.draw(strategies.integers(start, len(before)))

    for kept in moved(before, after, [entity(start, end)]):
        assert after[kept["start"] : kept["end"]] == before[start:end]


def test_an_entity_that_gets_the_label_it_has_stays():
    chosen = entity(2, 5)

    assert replaced([entity(0, 1), chosen], chosen, entity(2, 5)) == [entity(0, 1), entity(2, 5)]


def test_an_entity_that_becomes_what_another_is_takes_its_place():
    chosen = entity(2, 5)

    assert replaced([entity(2, 6), chosen], chosen, entity(2, 6)) == [entity(2, 6)]
