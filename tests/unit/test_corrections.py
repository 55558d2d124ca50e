from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.corrections import Corrections, corrections
from nerloop.documents import Entity

ENTITIES = st.builds(
    lambda start, length, label: Entity(start, start + length, label),
    st.integers(0, 8), st.integers(1, 4), st.sampled_from(["PER", "LOC"]),
)  # fmt: skip


def entities(*written: str) -> list[Entity]:
    """Read `"2-4 PER"`."""
    return [Entity(*map(int, span.split("-")), label) for span, label in (one.split() for one in written)]


@pytest.mark.parametrize(
    ("shown", "kept", "done"),
    [
        ([], [], {}),
        (["0-2 PER"], ["0-2 PER"], {"accepted": 1}),
        (["0-2 PER"], ["0-2 LOC"], {"relabelled": 1}),
        (["0-2 PER"], ["0-3 PER"], {"resized": 1}),
        (["0-2 PER"], [], {"deleted": 1}),
        ([], ["0-2 PER"], {"added": 1}),
        # Neither span nor label stayed: there is no telling it from a new one.
        (["0-2 PER"], ["1-3 LOC"], {"deleted": 1, "added": 1}),
        (["0-2 PER"], ["2-4 PER"], {"deleted": 1, "added": 1}),
        # Two were made one: the one that shares more became it.
        (["0-1 PER", "1-4 PER"], ["0-4 PER"], {"resized": 1, "deleted": 1}),
        # One was made two.
        (["0-4 LOC"], ["0-2 LOC", "2-4 LOC"], {"resized": 1, "added": 1}),
        # The same span is a better match than an overlap of the same label.
        (["0-2 PER", "1-3 LOC"], ["0-2 LOC"], {"relabelled": 1, "deleted": 1}),
        # What was accepted is out of the game: the outer one was not resized to the inner.
        (["0-4 LOC", "0-2 LOC"], ["0-2 LOC"], {"accepted": 1, "deleted": 1}),
        # Each takes its better match: 0-3 became 0-4, and 4-6 became 3-6.
        (["0-3 PER", "4-6 PER"], ["0-4 PER", "3-6 PER"], {"resized": 2}),
    ],
)
def test_what_was_done_to_the_pre_labels(shown: list[str], kept: list[str], done: dict[str, int]) -> None:
    assert corrections(entities(*shown), entities(*kept)) == Corrections(annotations=1, **done)


@given(st.sets(ENTITIES), st.sets(ENTITIES))
def test_every_entity_is_counted_once(shown: set[Entity], kept: set[Entity]) -> None:
    done = corrections(sorted(shown), sorted(kept))

    assert (done.shown, done.kept) == (len(shown), len(kept))
    assert done.accepted == len(shown & kept)
    assert min(done.relabelled, done.resized, done.deleted, done.added) >= 0


@given(st.sets(ENTITIES), st.sets(ENTITIES))
def test_nothing_that_could_be_a_correction_counts_as_deleted_and_added(shown: set[Entity], kept: set[Entity]) -> None:
    done = corrections(sorted(shown), sorted(kept))

    related = [
        (old, new)
        for old, new in product(shown - kept, kept - shown)
        if (old.start, old.end) == (new.start, new.end)
        or (old.label == new.label and min(old.end, new.end) > max(old.start, new.start))
    ]
    if related:
        assert done.relabelled + done.resized >= 1
    else:
        assert done.relabelled + done.resized == 0


@given(st.lists(ENTITIES), st.lists(ENTITIES), st.randoms())
def test_the_order_of_entities_says_nothing(shown: list[Entity], kept: list[Entity], dice) -> None:
    mixed = [dice.sample(one, len(one)) for one in (shown, kept)]

    assert corrections(*mixed) == corrections(shown, kept)


def test_many_annotations_add_up() -> None:
    total = sum((corrections(entities("0-2 PER"), entities("0-2 PER", "3-5 LOC")) for _ in range(4)), Corrections())

    assert (total.annotations, total.accepted, total.added, total.edits_per_annotation) == (4, 4, 4, 1.0)
