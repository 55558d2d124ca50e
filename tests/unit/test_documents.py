import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.documents import (
    Document,
    Entity,
    fingerprint,
    from_json,
    labels_of,
    normalised,
    read_jsonl,
    to_json,
    write_jsonl,
)
from nerloop.errors import BadInput, LabelStudioUnreachable

AWKWARD_TEXTS = {
    "outside the BMP": "😀𠮷张三👨‍👩‍👧",
    "CRLF": "第一行\r\n第二行\n\r第三行",
    "full-width": "ＡＢＣ１２３（张三）　北京",
    "spaces at both ends": "  \t张三 　",
    "line separators": "一\u2028二\u2029三\x85四\x0b五\x0c六",
    "byte order mark": "\ufeff张三",
    "control characters": "\x00张三\x1f\x7f",
    "quotes and backslashes": '"张三"\\n\\u4e00',
}


def characters_stay_themselves(text):
    # Two halves of an emoji side by side are one emoji in any JSON, and never come out of one as two characters.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") == text


TEXTS = st.text(st.characters(), max_size=30).filter(characters_stay_themselves)

LABELS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30).map(str.strip).filter(bool)


@st.composite
def documents(draw):
    text = draw(TEXTS)
    offsets = st.integers(0, len(text))
    spans = draw(st.lists(st.tuples(offsets, offsets, LABELS), max_size=5))
    entities = {Entity(min(a, b), max(a, b), label) for a, b, label in spans if a != b}
    return Document(draw(TEXTS), text, tuple(sorted(entities)))


@given(documents())
def test_a_document_survives_json_whatever_its_characters(document):
    assert from_json(to_json(document)) == document


@pytest.mark.parametrize("text", AWKWARD_TEXTS.values(), ids=AWKWARD_TEXTS.keys())
def test_a_text_comes_back_from_a_file_exactly_as_it_was(tmp_path, text):
    path = tmp_path / "documents.jsonl"
    document = Document("7", text, (Entity(0, 2, "PER"), Entity(len(text) - 1, len(text), "LOC")))

    write_jsonl(path, [document, document])

    assert read_jsonl(path) == [document, document]


def test_half_an_emoji_stops_neither_export_nor_fingerprint(tmp_path):
    document = from_json('{"text": "\\ud83d张三", "entities": [{"category": "PER", "start": 1, "end": 3}]}')

    write_jsonl(tmp_path / "documents.jsonl", [document])

    assert fingerprint(read_jsonl(tmp_path / "documents.jsonl")) == fingerprint([document])


def test_a_line_is_written_in_the_format_of_the_article():
    line = to_json(Document("", "张三去北京", (Entity(3, 5, "LOC", score=0.9), Entity(0, 2, "PER"))))

    assert line == (
        '{"text": "张三去北京", "entities": '
        '[{"category": "PER", "start": 0, "end": 2}, {"category": "LOC", "start": 3, "end": 5}]}'
    )


def test_offsets_count_an_emoji_as_one_character():
    document = from_json('{"text": "😀𠮷张三", "entities": [{"category": "PER", "start": 2, "end": 4}]}')

    (entity,) = document.entities

    assert document.text[entity.start : entity.end] == "张三"


def test_nested_and_overlapping_entities_are_kept_in_files():
    document = Document("", "北京大学医院", (Entity(0, 2, "LOC"), Entity(0, 4, "ORG"), Entity(2, 6, "ORG")))

    assert from_json(to_json(document)).entities == document.entities


def test_unknown_fields_of_a_line_are_ignored():
    assert from_json('{"text": "张三", "entities": [], "meta": {"source": "x"}, "id": 5}') == Document("5", "张三")


def test_an_id_of_null_is_no_id():
    assert from_json('{"text": "张三", "entities": [], "id": null}').id == ""


def test_a_byte_order_mark_before_the_first_document_is_no_part_of_it(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text('{"text": "\ufeff张三", "entities": []}\n', encoding="utf-8-sig")

    assert read_jsonl(path) == [Document("", "\ufeff张三")]


def test_windows_line_ends_and_empty_lines_between_documents_are_fine(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_bytes(b'{"text": "a", "entities": []}\r\n\r\n  \n{"text": "b", "entities": []}')

    assert [document.text for document in read_jsonl(path)] == ["a", "b"]


def bad_entity(**changes):
    return json.dumps({"text": "张三", "entities": [{"category": "PER", "start": 0, "end": 2} | changes]})


BAD_LINES = [
    ("{", "JSON"),
    ("张三", "JSON"),
    ("[]", "'text'"),
    ('{"entities": []}', "'text'"),
    ('{"text": 5, "entities": []}', "'text'"),
    ('{"text": null, "entities": []}', "'text'"),
    ('{"text": "张三"}', "'entities'"),
    ('{"text": "张三", "entities": {}}', "'entities'"),
    ('{"text": "张三", "entities": ["PER"]}', "'category'"),
    (bad_entity(category=None), "'category'"),
    (bad_entity(category=""), "'category'"),
    (bad_entity(category=" "), "'category': the label ' ' begins or ends with white space"),
    (bad_entity(category="PER "), "'category': the label 'PER ' begins or ends with white space"),
    (bad_entity(category="\u3000PER"), "'category'"),
    (bad_entity(category="P\x00ER"), "'category': the label 'P\\x00ER' holds a control character"),
    (bad_entity(category="P\nER"), "'category'"),
    (bad_entity(category="PER\ud83d"), "'category': the label 'PER\\ud83d' holds a control character or half an emoji"),
    (bad_entity(start="0"), "'start'"),
    (bad_entity(start=None), "'start'"),
    (bad_entity(start=False), "'start'"),
    (bad_entity(end=2.0), "'end'"),
    (bad_entity(start=-1), "'start'=-1"),
    (bad_entity(end=3), "'end'=3"),
    (bad_entity(start=2), "'start'=2"),
    (bad_entity(start=2, end=1), "'end'=1"),
]


@pytest.mark.parametrize(("line", "field"), BAD_LINES)
def test_a_bad_line_is_named_with_file_number_and_field(tmp_path, line, field):
    path = tmp_path / "labels.jsonl"
    path.write_text(f'{{"text": "张三", "entities": []}}\n\n{line}\n', encoding="utf-8")

    with pytest.raises(BadInput) as caught:
        read_jsonl(path)

    assert str(path) in str(caught.value)
    assert "line 3" in str(caught.value)
    assert field in str(caught.value)


@pytest.mark.parametrize("label", ["发病 部位", "a/b-c", "👨‍👩‍👧", "O", "B-PER"])
def test_a_label_may_have_spaces_and_signs_inside(label):
    assert labels_of([from_json(bad_entity(category=label))]) == [label]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"text": "a", "entities": [], "id": ' + "1" * 5000 + "}"])
def test_a_line_that_json_gives_up_on_is_bad_input(line):
    with pytest.raises(BadInput):
        from_json(line)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.jsonl: no such file"):
        read_jsonl(tmp_path / "nowhere.jsonl")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=tmp_path.name):
        read_jsonl(tmp_path)


def test_a_file_in_another_encoding_is_named_with_the_fix(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_bytes('{"text": "张三", "entities": []}'.encode("gbk"))

    with pytest.raises(BadInput, match=r"labels\.jsonl: not UTF-8 .* convert"):
        read_jsonl(path)


def test_writing_returns_the_number_of_documents_and_replaces_the_file(tmp_path):
    path = tmp_path / "documents.jsonl"
    write_jsonl(path, [Document("", "old")])

    count = write_jsonl(path, (Document(str(number), "new") for number in range(3)))

    assert count == 3
    assert [document.id for document in read_jsonl(path)] == ["0", "1", "2"]


def test_a_write_that_fails_halfway_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "documents.jsonl"
    write_jsonl(path, [Document("", "old")])

    def failing():
        yield Document("", "new")
        raise LabelStudioUnreachable

    with pytest.raises(LabelStudioUnreachable):
        write_jsonl(path, failing())

    assert read_jsonl(path) == [Document("", "old")]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_not_visible_before_it_is_complete(tmp_path):
    path = tmp_path / "documents.jsonl"
    visible = []

    write_jsonl(path, (visible.append(path.exists()) or Document("", text) for text in "abc"))

    assert visible == [False, False, False]


def test_a_file_that_cannot_be_written_is_bad_input_with_the_fix(tmp_path):
    with pytest.raises(BadInput, match="another place"):
        write_jsonl(tmp_path / "missing" / "documents.jsonl", [Document("", "a")])


@pytest.mark.parametrize("name", ["file/documents.jsonl", "x" * 250])
def test_a_place_where_no_file_can_be_is_bad_input_with_the_fix(tmp_path, name):
    (tmp_path / "file").touch()

    with pytest.raises(BadInput, match="another place"):
        write_jsonl(tmp_path / name, [Document("", "a")])


def test_the_fingerprint_does_not_depend_on_the_order_of_documents_or_entities():
    entities = (Entity(0, 1, "A"), Entity(1, 2, "B"))
    documents = [Document(str(number), f"文本{number}", entities) for number in range(20)]
    reordered = [Document(d.id, d.text, entities[::-1]) for d in random.Random(0).sample(documents, 20)]

    assert fingerprint(reordered) == fingerprint(documents)


@pytest.mark.parametrize(
    "other",
    [
        [],
        [Document("1", "张三", (Entity(0, 2, "PER"),))] * 2,
        [Document("2", "张三", (Entity(0, 2, "PER"),))],
        [Document("1", "张三 ", (Entity(0, 2, "PER"),))],
        [Document("1", "张三", (Entity(0, 1, "PER"),))],
        [Document("1", "张三", (Entity(0, 2, "LOC"),))],
    ],
)
def test_any_other_set_of_documents_has_another_fingerprint(other):
    assert fingerprint(other) != fingerprint([Document("1", "张三", (Entity(0, 2, "PER"),))])


def test_the_fingerprint_ignores_scores():
    scored = Document("1", "张三", (Entity(0, 2, "PER", score=0.7),))

    assert fingerprint([scored]) == fingerprint([Document("1", "张三", (Entity(0, 2, "PER"),))])


def test_the_labels_of_documents_are_listed_once_and_sorted():
    documents = [
        Document("", "ab", (Entity(0, 1, "PER"), Entity(1, 2, "LOC"))),
        Document("", "a", (Entity(0, 1, "PER"),)),
    ]

    assert labels_of(documents) == ["LOC", "PER"]


@pytest.mark.parametrize("variant", ["ＡＢ张三", "ab 张三", " aB\r\n张　三\u2028"])
def test_width_case_and_white_space_make_no_other_text(variant):
    assert normalised(variant) == normalised("AB张三")


def test_the_mark_of_feedback_travels_in_the_file():
    document = Document("1-7", "张三", (Entity(0, 2, "PER"),), feedback=True)

    assert json.loads(to_json(document))["meta"] == {"feedback": True}
    assert from_json(to_json(document)) == document
    assert not from_json('{"text": "", "entities": [], "meta": {"source": "news"}}').feedback
    assert not from_json('{"text": "", "entities": [], "meta": null}').feedback
