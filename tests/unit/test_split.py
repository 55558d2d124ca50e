import itertools
import random
from collections import Counter

import pytest

from nerloop.documents import Document, Entity
from nerloop.split import hash_fraction, side_of, split

SHARES = 0.1, 0.1
CHARACTERS = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方"
)


def random_text(seed, length=60):
    return "".join(random.Random(seed).choices(CHARACTERS, k=length))


def texts_on(side, number):
    texts = (random_text(seed) for seed in range(1000))
    return [text for text in texts if side_of(text, *SHARES) == side][:number]


def near_copies_in_training(text):
    return [text + end for end in CHARACTERS if side_of(text + end, *SHARES) == "train"]


@pytest.mark.parametrize(
    "variant",
    [
        "患者ABC于2024年就诊",
        "患者abc于2024年就诊",
        "患者ＡＢＣ于２０２４年就诊",
        " 患者 Abc\u3000于2024年\r\n就诊\u2028",
    ],
)
def test_width_case_and_white_space_never_move_a_text(variant):
    text = "患者ABC于2024年就诊"

    assert hash_fraction(variant) == hash_fraction(text)
    assert all(side_of(variant, share, share) == side_of(text, share, share) for share in (0.1, 0.2, 0.3, 0.4))


def test_the_sides_have_about_the_shares_they_were_given():
    sides = Counter(side_of(random_text(seed, 12), 0.1, 0.2) for seed in range(5000))

    assert sides["dev"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert sides["gate"] / 5000 == pytest.approx(0.2, abs=0.02)
    assert sides["train"] / 5000 == pytest.approx(0.7, abs=0.02)


def test_no_share_means_no_text_on_that_side():
    sides = Counter(side_of(random_text(seed), 0.0, 0.1) for seed in range(1000))

    assert sides["dev"] == 0
    assert sides["gate"] > 0


def test_a_salt_gives_an_independent_number():
    held_out = [hash_fraction(text, salt="order:") for text in texts_on("dev", 60)]

    assert min(held_out) < 0.2
    assert max(held_out) > 0.8


def test_a_text_of_half_an_emoji_has_a_side():
    assert side_of("\ud83d", *SHARES) in ("train", "dev", "gate")


def test_labels_and_ids_never_move_a_document():
    texts = [random_text(seed) for seed in range(100)]

    bare = split([Document("", text) for text in texts], *SHARES)
    labelled = split([Document(str(n), text, (Entity(0, 2, "PER"),)) for n, text in enumerate(texts)], *SHARES)

    for side in ("train", "dev", "gate"):
        assert [d.text for d in getattr(bare, side)] == [d.text for d in getattr(labelled, side)]


def test_every_document_is_on_exactly_one_side():
    documents = [Document(str(seed), random_text(seed)) for seed in range(300)]

    sides = split(documents, *SHARES)

    assert sorted((*sides.train, *sides.dev, *sides.gate), key=lambda d: int(d.id)) == documents
    assert sides.near_duplicates == 0


@pytest.mark.parametrize("side", ["dev", "gate"])
def test_a_near_duplicate_of_a_held_out_text_leaves_training_and_is_counted(side):
    (held_out,) = texts_on(side, 1)
    copies = near_copies_in_training(held_out)[:3]
    others = texts_on("train", 5)

    sides = split([Document("", text) for text in (*others, *copies, held_out)], *SHARES)

    assert [document.text for document in sides.train] == others
    assert [document.text for document in getattr(sides, side)] == [held_out]
    assert sides.near_duplicates == 3


def test_near_duplicates_of_training_texts_may_train():
    original = texts_on("train", 1)[0]
    copies = near_copies_in_training(original)[:3]

    sides = split([Document("", text) for text in (original, *copies)], *SHARES)

    assert len(sides.train) == 4
    assert sides.near_duplicates == 0


def test_a_text_that_shares_only_its_first_half_with_a_held_out_one_may_train():
    (held_out,) = texts_on("gate", 1)
    halves = (held_out[:30] + random_text(seed, 30) for seed in range(1000, 1100))
    half = next(text for text in halves if side_of(text, *SHARES) == "train")

    sides = split([Document("", held_out), Document("", half)], *SHARES)

    assert [document.text for document in sides.train] == [half]


def test_texts_shorter_than_a_gram_count_as_near_only_when_they_are_the_same():
    short = ["".join(pair) for pair in itertools.pairwise(CHARACTERS)]

    sides = split([Document("", text) for text in short], *SHARES)

    assert sides.dev
    assert sides.near_duplicates == 0


def test_nothing_splits_into_nothing():
    sides = split([], *SHARES)

    assert (sides.train, sides.dev, sides.gate, sides.near_duplicates) == ((), (), (), 0)


def test_feedback_never_measures_a_model_whatever_its_hash_says():
    held_out = texts_on("dev", 3) + texts_on("gate", 3)

    plain = split([Document("", text) for text in held_out], *SHARES)
    sent = split([Document("", text, feedback=True) for text in held_out], *SHARES)

    assert (len(plain.train), len(plain.dev), len(plain.gate)) == (0, 3, 3)
    assert (len(sent.train), len(sent.dev), len(sent.gate)) == (6, 0, 0)


def test_feedback_that_resembles_a_held_out_text_is_not_learned_from_either():
    (text,) = texts_on("gate", 1)

    sides = split([Document("", text), Document("", text + "。", feedback=True)], *SHARES)

    assert (len(sides.train), sides.near_duplicates) == (0, 1)
