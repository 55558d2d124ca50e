import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.documents import Document, Entity
from nerloop.tagging import MAX_DEPTH, Decoder, TagSet

BIOES = TagSet.bioes(["X", "Y"])
BIO = TagSet(("O", "B-X", "I-X", "B-Y", "I-Y", "B-noun", "I-noun"), ("X", "Y"))


def ids(tag_set, names):
    return [tag_set.tags.index(name) for name in names.split()]


def names(tag_set, tag_ids):
    return " ".join(tag_set.tags[tag] for tag in tag_ids)


@st.composite
def flat_texts(draw):
    """A length and entities that do not overlap."""
    parts = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.sampled_from("XY")), max_size=6))
    entities, length = [], 0
    for gap, size, label in parts:
        entities.append(Entity(length + gap, length + gap + size, label))
        length += gap + size
    return length + draw(st.integers(0, 3)), entities


@st.composite
def documents(draw):
    """A text with entities that overlap and nest in any way, of other labels or of the same one."""
    length = draw(st.integers(1, 12))
    starts = st.integers(0, length - 1)
    spans = starts.flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, length)))
    entities = draw(st.lists(st.builds(lambda span, label: Entity(*span, label), spans, st.sampled_from("XYZ"))))
    return Document("", "字" * length, tuple(entities))


def entities_of(decoder, rows):
    return [entity for layer, row in zip(decoder.layers, rows, strict=True) for entity in layer.decode(row)]


def is_legal(tag_set, tags):
    steps = all(tag_set.may_follow(before, after) for before, after in itertools.pairwise(tags))
    return steps and tag_set.may_start(tags[0]) and tag_set.may_end(tags[-1])


@given(flat_texts())
def test_flat_entities_survive_tagging(text):
    length, entities = text

    tags, left = BIOES.encode(length, entities)

    assert BIOES.decode(tags) == entities
    assert left == []


@given(documents())
def test_what_is_encoded_is_always_a_legal_path_with_a_tag_a_character(document):
    tags, _ = BIOES.encode(len(document.text), document.entities)

    assert len(tags) == len(document.text)
    assert is_legal(BIOES, tags)


def test_an_entity_has_the_tags_its_length_asks_for():
    tags, _ = BIOES.encode(7, [Entity(0, 1, "X"), Entity(1, 3, "Y"), Entity(4, 7, "X")])

    assert names(BIOES, tags) == "S-X B-Y E-Y O B-X I-X E-X"


def test_adjacent_entities_of_one_label_stay_two():
    entities = [Entity(0, 2, "X"), Entity(2, 3, "X"), Entity(3, 6, "X")]

    tags, _ = BIOES.encode(6, entities)

    assert BIOES.decode(tags) == entities


def test_of_nested_entities_the_longest_stays_and_the_others_are_left():
    nested = [Entity(0, 2, "X"), Entity(0, 4, "Y"), Entity(1, 3, "X"), Entity(5, 6, "X")]

    tags, left = BIOES.encode(6, nested)

    assert BIOES.decode(tags) == [Entity(0, 4, "Y"), Entity(5, 6, "X")]
    assert left == [Entity(0, 2, "X"), Entity(1, 3, "X")]


def test_of_overlapping_entities_of_one_length_the_leftmost_stays():
    tags, left = BIOES.encode(4, [Entity(1, 4, "X"), Entity(0, 3, "Y")])

    assert BIOES.decode(tags) == [Entity(0, 3, "Y")]
    assert left == [Entity(1, 4, "X")]


def test_of_labels_on_the_same_characters_the_first_by_name_stays():
    tags, left = BIOES.encode(2, [Entity(0, 2, "Y"), Entity(0, 2, "X")])

    assert BIOES.decode(tags) == [Entity(0, 2, "X")]
    assert left == [Entity(0, 2, "Y")]


@given(documents(), st.randoms(use_true_random=False))
def test_the_same_entities_give_the_same_tags_in_any_order(document, random):
    shuffled = random.sample(document.entities, len(document.entities))

    assert BIOES.encode(12, shuffled)[0] == BIOES.encode(12, document.entities)[0]


def test_an_entity_of_an_unknown_label_is_left_and_blocks_no_other():
    tags, left = BIOES.encode(4, [Entity(0, 4, "Z"), Entity(1, 2, "X")])

    assert BIOES.decode(tags) == [Entity(1, 2, "X")]
    assert left == [Entity(0, 4, "Z")]


def test_an_empty_text_has_no_tags():
    assert BIOES.encode(0, []) == ([], [])
    assert BIOES.decode([]) == []


@given(documents())
def test_a_flat_decoder_keeps_what_does_not_overlap_and_counts_the_rest(document):
    decoder = Decoder.flat("XYZ")

    rows, dropped = decoder.encode(document)
    kept = entities_of(decoder, rows)

    assert len(rows) == 1
    assert set(kept) <= set(document.entities)
    assert len(kept) + dropped == len(set(document.entities))
    assert all(one.end <= other.start for one, other in itertools.pairwise(kept))
    left = set(document.entities) - set(kept)
    assert all(any(e.start < k.end and k.start < e.end for k in kept) for e in left)  # nothing is dropped needlessly


@given(documents())
def test_a_nested_decoder_keeps_every_entity_or_counts_it_as_dropped(document):
    decoder = Decoder.nested("XYZ", [document])

    rows, dropped = decoder.encode(document)
    kept = entities_of(decoder, rows)

    assert len(kept) == len(set(kept))
    assert set(kept) <= set(document.entities)
    assert len(kept) + dropped == len(set(document.entities))
    assert all(is_legal(layer, row) for layer, row in zip(decoder.layers, rows, strict=True))
    assert all(len(row) == len(document.text) for row in rows)
    for label in "XYZ":
        assert 1 <= len([layer for layer in decoder.layers if layer.labels == (label,)]) <= MAX_DEPTH


@given(documents())
def test_an_entity_is_dropped_only_where_more_than_max_depth_of_its_label_overlap_it(document):
    decoder = Decoder.nested("XYZ", [document])

    rows, _ = decoder.encode(document)

    for lost in set(document.entities) - set(entities_of(decoder, rows)):
        rivals = [e for e in set(document.entities) if e.label == lost.label and e != lost]
        assert len([e for e in rivals if e.start < lost.end and lost.start < e.end]) >= MAX_DEPTH


@given(st.lists(documents(), max_size=4), documents())
def test_a_decoder_holds_a_document_beside_others_as_well_as_alone(others, document):
    alone, together = Decoder.nested("XYZ", [document]), Decoder.nested("XYZ", [*others, document])

    assert together.encode(document)[1] == alone.encode(document)[1]
    assert set(entities_of(together, together.encode(document)[0])) == set(
        entities_of(alone, alone.encode(document)[0])
    )


BEIJING = Document("", "北京市的人", (Entity(0, 2, "LOC"), Entity(0, 3, "LOC"), Entity(4, 5, "PER")))


def test_a_place_in_a_place_gets_a_layer_of_its_own():
    decoder = Decoder.nested(["PER", "LOC"], [BEIJING])

    rows, dropped = decoder.encode(BEIJING)

    assert [layer.labels for layer in decoder.layers] == [("LOC",), ("LOC",), ("PER",)]
    assert [layer.decode(row) for layer, row in zip(decoder.layers, rows, strict=True)] == [
        [Entity(0, 3, "LOC")],
        [Entity(0, 2, "LOC")],
        [Entity(4, 5, "PER")],
    ]
    assert dropped == 0


def test_a_place_in_a_place_is_dropped_where_the_decoder_never_saw_one():
    for decoder in (Decoder.flat(["LOC", "PER"]), Decoder.nested(["LOC", "PER"])):
        rows, dropped = decoder.encode(BEIJING)

        assert set(entities_of(decoder, rows)) == {Entity(0, 3, "LOC"), Entity(4, 5, "PER")}
        assert dropped == 1


def test_labels_on_the_same_characters_fit_side_by_side():
    both = (Entity(0, 3, "LOC"), Entity(0, 3, "ORG"), Entity(2, 5, "PER"))
    document = Document("", "北京市的人", both)
    decoder = Decoder.nested(["LOC", "ORG", "PER"], [document])

    rows, dropped = decoder.encode(document)

    assert tuple(sorted(entities_of(decoder, rows))) == both
    assert (len(rows), dropped) == (3, 0)


def test_what_nests_deeper_than_max_depth_is_counted():
    deep = Document("", "字" * 20, tuple(Entity(i, 20 - i, "LOC") for i in range(MAX_DEPTH + 2)))
    decoder = Decoder.nested(["LOC"], [deep])

    rows, dropped = decoder.encode(deep)

    assert len(decoder.layers) == MAX_DEPTH
    assert dropped == 2
    assert set(entities_of(decoder, rows)) == set(deep.entities[:MAX_DEPTH])


def test_an_entity_given_twice_is_one():
    twice = Document("", "北京市", (Entity(0, 2, "LOC"), Entity(0, 2, "LOC", 0.5)))
    decoder = Decoder.nested(["LOC"], [twice])

    assert len(decoder.layers) == 1
    assert decoder.encode(twice)[1] == Decoder.flat(["LOC"]).encode(twice)[1] == 0


def test_labels_a_decoder_does_not_know_are_counted_as_dropped():
    assert Decoder.nested(["PER"], [BEIJING]).encode(BEIJING)[1] == 2
    assert Decoder.flat(["PER"]).encode(BEIJING)[1] == 2


def test_a_decoder_knows_its_labels_in_order_and_once():
    assert Decoder.nested(["PER", "LOC", "PER"], [BEIJING]).labels == ("LOC", "PER")
    assert Decoder.flat(["PER", "LOC", "PER"]).labels == ("LOC", "PER")
    assert Decoder("flat", (BIO,)).labels == ("X", "Y")


def test_all_layers_of_a_decoder_have_as_many_tags():
    assert {len(layer.tags) for layer in Decoder.nested(["LOC", "PER"], [BEIJING]).layers} == {5}


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
    entities = [Entity(0, 2, "a-b"), Entity(2, 3, "a")]

    tags, _ = tag_set.encode(3, entities)

    assert tag_set.decode(tags) == entities


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
