import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.documents import Document, Entity
from nerloop.thresholds import MIN_ENTITIES, thresholds

OUTCOMES = st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.booleans()), min_size=MIN_ENTITIES)


def documents(outcomes: list[tuple[float, bool]], label: str = "PER") -> tuple[list[Document], list[Document]]:
    """Gold and found, a document an entity: what was found has the score, and is right or not."""
    text = "王建国说"
    gold = [Document("", text, (Entity(0, 3, label),) if is_right else ()) for _, is_right in outcomes]
    found = [Document("", text, (Entity(0, 3, label, score),)) for score, _ in outcomes]
    return gold, found


@pytest.mark.parametrize(
    ("outcomes", "chosen"),
    [
        ([(0.9, True)] * 30 + [(0.2, False)] * 30, {}),  # half are right, which is the target
        ([(0.9, True)] * 30 + [(0.2, False)] * 31, {"PER": 0.2}),
        ([(0.9, True)] * 30 + [(0.5, False)] * 30 + [(0.2, False)] * 5, {"PER": 0.2}),
        ([(0.9, False)] * 40, {"PER": 1.0}),
        # The first is wrong, and yet more than half of all down to 0.5 are right.
        ([(0.9, False), *[(0.5, True)] * 20, *[(0.2, False)] * 30], {"PER": 0.2}),
        ([(0.2, False)] * (MIN_ENTITIES - 1), {}),
    ],
)
def test_by_hand(outcomes: list[tuple[float, bool]], chosen: dict[str, float]) -> None:
    assert thresholds(*documents(outcomes), target=0.5) == chosen


def test_each_label_has_its_own() -> None:
    gold, found = documents([(0.9, True)] * 40)
    other_gold, other_found = documents([(0.6, False)] * 40, "LOC")

    assert thresholds([*gold, *other_gold], [*found, *other_found], 0.5) == {"LOC": 1.0}


@given(OUTCOMES, st.floats(0.05, 1.0))
def test_what_is_shown_reaches_the_target_and_no_lower_threshold_would(
    outcomes: list[tuple[float, bool]], target: float
) -> None:
    chosen = thresholds(*documents(outcomes), target).get("PER", 0.0)

    def shown(threshold: float) -> list[bool]:
        return [is_right for score, is_right in outcomes if score > threshold]

    assert sum(shown(chosen)) >= target * len(shown(chosen))
    for lower in {0.0, *(score for score, _ in outcomes if score < chosen)} - {chosen}:
        assert not shown(lower) or sum(shown(lower)) / len(shown(lower)) < target
