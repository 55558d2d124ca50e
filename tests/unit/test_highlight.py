import re
from html import unescape

import pytest
from hypothesis import given, strategies

from console.highlight import Shown, highlighted, hue

TEXT = "北京大学人民医院"


def plain(html):
    return unescape(re.sub(r"<[^>]*>", "", html))


def brackets(html):
    """Draw the marks as [..]LABEL, to be read at a glance."""
    labels = []

    def mark(found):
        if found[0] == "</mark>":
            return "]" + labels.pop()
        label = re.search(r'data-label="([^"]*)"', found[0])
        labels.append(label[1] if label else "-")
        return "["

    return unescape(re.sub(r"<mark[^>]*>|</mark>", mark, html))


@pytest.mark.parametrize(
    ("entities", "drawn"),
    [
        ([], "北京大学人民医院"),
        ([Shown(0, 4, "ORG")], "[北京大学]ORG人民医院"),
        ([Shown(0, 2, "LOC"), Shown(0, 4, "ORG"), Shown(0, 8, "ORG")], "[[[北京]LOC大学]ORG人民医院]ORG"),
        ([Shown(2, 4, "X"), Shown(0, 8, "ORG"), Shown(4, 6, "Y")], "[北京[大学]X[人民]Y医院]ORG"),
        ([Shown(0, 2, "LOC"), Shown(0, 2, "ORG")], "[[北京]ORG]LOC大学人民医院"),
    ],
)
def test_nested_entities_are_drawn_nested(entities, drawn):
    assert brackets(highlighted(TEXT, entities)) == drawn


def test_of_two_that_cross_the_later_is_drawn_in_two_parts_and_labelled_once():
    assert brackets(highlighted(TEXT, [Shown(0, 4, "A"), Shown(2, 6, "B")])) == "[北京[大学]-]A[人民]B医院"


@given(
    strategies.text(max_size=12),
    strategies.lists(strategies.tuples(strategies.integers(0, 12), strategies.integers(1, 12)), max_size=6),
)
def test_the_text_stays_what_it_is_whatever_is_drawn_in_it(text, spans):
    entities = [Shown(start, min(len(text), end), "L") for start, end in spans if start < min(len(text), end)]

    html = highlighted(text, entities)

    assert plain(html) == text.replace("\0", "\ufffd")
    assert html.count("<mark") == html.count("</mark>") >= len(entities)
    assert sum('data-label="L"' in mark for mark in re.findall("<mark[^>]*>", html)) == len(entities)


def test_nothing_that_comes_from_outside_becomes_html():
    html = highlighted('<script>"&', [Shown(0, 8, '"><img src=x>', "<b>")])

    assert re.findall(r"<(?!/?mark)", html) == []
    assert 'data-label="&quot;&gt;&lt;img src=x&gt;"' in html


def test_a_carriage_return_is_kept_as_a_character_so_that_offsets_stay_right():
    assert highlighted("a\r\nb", []) == "a&#13;\nb"


def test_what_stands_out_and_what_is_chosen_are_marked():
    html = highlighted(TEXT, [Shown(0, 2, "LOC"), Shown(4, 6, "X")], marked={1}, active=0)

    assert re.findall('class="([^"]*)"', html) == ["entity active", "entity marked"]


def test_a_label_has_its_colour_everywhere():
    assert hue("ORG") == hue("ORG")
    assert 0 <= hue("药品") < 360
