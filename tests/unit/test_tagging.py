import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.documents import Document, Entity
from nerloop.tagging import TagSet

BIOES = TagSet.bioes(["X", "Y"])
BIO = TagSet(("O", "B-X", "I-X", "B-Y", "I-Y", "B-noun", "I-noun"), ("X", "Y"))


def ids(tag_set, names):
    return [tag_set.tags.index(name) for name in names.split()]


def names(tag_set, tag_ids):
    return " ".join(tag_set.tags[tag] for tag in tag_ids)


@st.composite
def flat_documents(draw):
    parts = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.sampled_from("XY")), max_size=6))
    entities, length = [], 0
    for gap, size, label in parts:
        entities.append(Entity(length + gap, length + gap + size, label))
        length += gap + size
    return Document("", "字" * (length + draw(st.integers(0, 3))), tuple(entities))


@given(flat_documents())
def test_flat_entities_survive_tagging(document):
    tags, dropped = BIOES.encode(document)

    assert BIOES.decode(tags) == list(document.entities)
    assert dropped == 0


@given(flat_documents())
def test_what_is_encoded_is_always_a_legal_path_with_a_tag_a_character(document):
    tags, _ = BIOES.encode(document)

    assert len(tags) == len(document.text)
    assert all(BIOES.may_follow(before, after) for before, after in itertools.pairwise(tags))
    assert not tags or (BIOES.may_start(tags[0]) and BIOES.may_end(tags[-1]))


def test_an_entity_has_the_tags_its_length_asks_for():
    document = Document("", "一二三四五六七", (Entity(0, 1, "X"), Entity(1, 3, "Y"), Entity(4, 7, "X")))

    tags, _ = BIOES.encode(document)

    assert names(BIOES, tags) == "S-X B-Y E-Y O B-X I-X E-X"


def test_adjacent_entities_of_one_label_stay_two():
    entities = (Entity(0, 2, "X"), Entity(2, 3, "X"), Entity(3, 6, "X"))

    tags, _ = BIOES.encode(Document("", "张三李王小二", entities))

    assert BIOES.decode(tags) == list(entities)


def test_of_nested_entities_the_longest_stays_and_the_others_are_counted():
    nested = (Entity(0, 2, "X"), Entity(0, 4, "Y"), Entity(1, 3, "X"), Entity(5, 6, "X"))

    tags, dropped = BIOES.encode(Document("", "北京大学的人", nested))

    assert BIOES.decode(tags) == [Entity(0, 4, "Y"), Entity(5, 6, "X")]
    assert dropped == 2


def test_of_overlapping_entities_of_one_length_the_leftmost_stays():
    tags, dropped = BIOES.encode(Document("", "一二三四", (Entity(1, 4, "X"), Entity(0, 3, "Y"))))

    assert BIOES.decode(tags) == [Entity(0, 3, "Y")]
    assert dropped == 1


def test_an_entity_of_an_unknown_label_is_counted_and_blocks_no_other():
    tags, dropped = BIOES.encode(Document("", "一二三四", (Entity(0, 4, "Z"), Entity(1, 2, "X"))))

    assert BIOES.decode(tags) == [Entity(1, 2, "X")]
    assert dropped == 1


def test_an_empty_text_has_no_tags():
    assert BIOES.encode(Document("", "")) == ([], 0)
    assert BIOES.decode([]) == []


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-X I-X O", [Entity(0, 2, "X")]),
        ("B-X B-X I-X", [Entity(0, 1, "X"), Entity(1, 3, "X")]),
        ("B-X I-X B-Y", [Entity(0, 2, "X"), Entity(2, 3, "Y")]),
        ("B-noun I-noun B-X", [Entity(2, 3, "X")]),
        ("B-X B-noun I-noun", [Entity(0, 1, "X")]),
        ("O O", []),
    ],
)
def test_bio_tags_become_entities_and_parts_of_speech_do_not(tags, expected):
    assert BIO.decode(ids(BIO, tags)) == expected


def test_the_same_labels_give_the_same_rows_in_any_order_of_naming():
    assert TagSet.bioes(["Y", "X", "Y"]) == BIOES
    assert BIOES.tags == ("O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y", "S-Y")


def test_a_label_may_hold_dashes():
    tag_set = TagSet.bioes(["a-b", "a"])
    entities = (Entity(0, 2, "a-b"), Entity(2, 3, "a"))

    tags, _ = tag_set.encode(Document("", "一二三", entities))

    assert tag_set.decode(tags) == list(entities)


def test_a_tag_the_model_does_not_have_has_no_row():
    assert BIO.id_of("E-X") is None
    assert BIO.id_of("I-Y") == 4


BIOES_OPENERS = "O B-X S-X B-Y S-Y"
BIO_OPENERS = "O B-X B-Y B-noun"


@pytest.mark.parametrize(
    ("tag_set", "before", "allowed"),
    [
        (BIOES, "O", BIOES_OPENERS),
        (BIOES, "B-X", "I-X E-X"),
        (BIOES, "I-X", "I-X E-X"),
        (BIOES, "E-X", BIOES_OPENERS),
        (BIOES, "S-X", BIOES_OPENERS),
        (BIOES, "I-Y", "I-Y E-Y"),
        (BIO, "O", BIO_OPENERS),
        (BIO, "B-X", BIO_OPENERS + " I-X"),
        (BIO, "I-X", BIO_OPENERS + " I-X"),
        (BIO, "B-noun", BIO_OPENERS + " I-noun"),
    ],
)
def test_which_tags_may_follow_which(tag_set, before, allowed):
    (before_id,) = ids(tag_set, before)

    after = [tag for tag in range(len(tag_set.tags)) if tag_set.may_follow(before_id, tag)]

    assert set(after) == set(ids(tag_set, allowed))


@pytest.mark.parametrize(
    ("tag_set", "start", "end"),
    [
        (BIOES, BIOES_OPENERS, "O E-X S-X E-Y S-Y"),
        (BIO, BIO_OPENERS, "O B-X I-X B-Y I-Y B-noun I-noun"),
    ],
)
def test_with_which_tags_a_text_may_begin_and_end(tag_set, start, end):
    rows = range(len(tag_set.tags))

    assert {tag for tag in rows if tag_set.may_start(tag)} == set(ids(tag_set, start))
    assert {tag for tag in rows if tag_set.may_end(tag)} == set(ids(tag_set, end))
