import re
from string import Formatter

import pytest

from console.texts import LANGUAGES, TEXTS, Texts, language_of

PUNCTUATION = re.compile(r"[\u4e00-\u9fff][,;:?()]|[,;:?()][\u4e00-\u9fff]")


@pytest.mark.parametrize("key", TEXTS)
def test_every_text_is_there_in_both_languages_with_the_same_values(key):
    chinese, english = TEXTS[key]

    assert chinese.strip()
    assert english.strip()
    fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in (chinese, english)]
    assert fields[0] == fields[1]


@pytest.mark.parametrize("key", TEXTS)
def test_chinese_texts_have_chinese_punctuation(key):
    assert not PUNCTUATION.search(TEXTS[key][0])


def test_a_text_is_filled_in():
    assert [Texts(language)("new_labels", count=3, threshold=50) for language in LANGUAGES] == [
        "新标注 3 / 50",
        "New labels 3 of 50",
    ]


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        ("en", "zh-CN,zh;q=0.9", "en"),
        ("zh", "en-US", "zh"),
        (None, "zh-TW,en;q=0.5", "zh"),
        (None, "en-US,zh;q=0.9", "en"),
        (None, "de", "en"),
        (None, "", "zh"),
        ("klingon", "zh", "zh"),
    ],
)
def test_the_language_is_the_chosen_one_else_chinese_unless_the_browser_speaks_another(chosen, accepted, language):
    assert language_of(chosen, accepted) == language
