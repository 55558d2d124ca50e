import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerloop.documents import Entity
from nerloop.gate import Contest
from nerloop.promotions import STARTER_VERSION
from nerloop.stopping import advice, kappa, learning_curve
from nerloop.versions import ModelVersion

FOUND = st.lists(
    st.sets(
        st.builds(
            lambda start, length, label: Entity(start, start + length, label),
            st.integers(0, 6), st.integers(1, 3), st.sampled_from(["PER", "LOC"]),
        )
    ),
    min_size=3,
    max_size=3,
)  # fmt: skip


def test_kappa_by_hand() -> None:
    # Characters 0 to 3: both say begin, inside, inside; of the fourth only the first says something.
    first, second = [[Entity(0, 4, "PER")]], [[Entity(0, 3, "PER")]]

    agreed, by_chance = 3 / 4, (1 * 1 + 3 * 2 + 0 * 1) / 16
    assert kappa(first, second) == pytest.approx((agreed - by_chance) / (1 - by_chance))


def test_kappa_hears_labels_and_where_entities_begin() -> None:
    whole, halves = [[Entity(0, 4, "LOC")]], [[Entity(0, 2, "LOC"), Entity(2, 4, "LOC")]]
    nested = [[Entity(0, 4, "LOC"), Entity(0, 2, "LOC")]]

    for other in (halves, nested, [[Entity(0, 4, "PER")]], [[]]):
        assert (kappa(whole, other) or 0.0) < 1


@given(FOUND, FOUND)
def test_kappa_is_one_only_for_equal_findings_and_the_same_both_ways(
    first: list[set[Entity]], second: list[set[Entity]]
) -> None:
    found = kappa(first, second)

    assert found == pytest.approx(kappa(second, first))
    assert kappa(first, first) in {1.0, None}
    if found is not None:
        assert found <= 1


def test_where_nobody_finds_anything_there_is_no_agreement_to_measure() -> None:
    assert kappa([[], []], [[], []]) is None


def version(
    number: int, documents: int, difference: float, interval: tuple[float, float], kappa: float | None, parent: int
) -> ModelVersion:
    before = f"m-v{parent}" if parent else STARTER_VERSION
    contest = Contest(before, ("PER",), 200, 0.5, 0.5 + difference, interval, 0.0)
    metrics = {"train_documents": documents, "gate_f1": 0.5 + difference}
    return ModelVersion(
        "m", number, parent=before, contests=(contest,), metrics=metrics | ({} if kappa is None else {"kappa": kappa})
    )


def test_the_gain_is_that_of_a_hundred_more_texts_over_what_was_to_be_replaced() -> None:
    first = version(1, 50, 0.2, (0.1, 0.3), 0.4, parent=0)
    rejected = version(2, 250, -0.02, (-0.04, 0.0), 0.9, parent=1)
    third = version(3, 300, 0.05, (0.0, 0.1), None, parent=1)
    elsewhere = ModelVersion("m", 4, metrics={"gate_f1": 0.9})

    curve = learning_curve([elsewhere, third, rejected, first])

    assert [(point.version, point.documents) for point in curve] == [("m-v1", 50), ("m-v2", 250), ("m-v3", 300)]
    assert [point.gain for point in curve] == pytest.approx([0.4, -0.01, 0.02])
    assert curve[2].interval == pytest.approx((0.0, 0.04))
    assert [point.kappa for point in curve] == [0.4, 0.9, None]


def test_no_gain_is_told_where_no_text_was_added() -> None:
    (_, again) = learning_curve(
        [version(1, 50, 0.2, (0.1, 0.3), 0.4, parent=0), version(2, 50, 0.1, (0.0, 0.2), 0.9, parent=1)]
    )

    assert (again.gain, again.interval) == (None, None)


@pytest.mark.parametrize(
    ("kappas", "high", "enough"),
    [
        ((0.79, 0.85, 0.83), 0.008, True),
        ((0.9, 0.85, 0.5), 0.008, False),  # predictions still change
        ((0.79, 0.85, 0.83), 0.03, False),  # F1 may still rise
        ((None, 0.85, 0.83), 0.008, False),  # two versions in a row are too few
        ((0.1, 0.79, 0.85, 0.83), 0.008, True),
    ],
)
def test_labels_are_enough_only_where_predictions_are_stable_and_f1_surely_gains_little(
    kappas: tuple[float | None, ...], high: float, enough: bool
) -> None:
    versions = [
        version(number, 100 * number, 0.0, (-0.01, high), each, parent=number - 1)
        for number, each in enumerate(kappas, start=1)
    ]

    said = advice(learning_curve(versions))

    assert said.enough is enough
    assert f"{kappas[-1]:.3f}" in said.sentence and f"{high:+.3f}" in said.sentence


def test_training_on_the_same_texts_again_is_no_sign_of_stable_predictions() -> None:
    grown = version(1, 100, 0.0, (-0.01, 0.008), 0.9, parent=0)
    again = [version(number, 100, 0.0, (0.0, 0.0), 1.0, parent=number - 1) for number in (2, 3, 4)]

    assert advice(learning_curve([grown, *again])).enough is False
    assert advice(learning_curve(again)).enough is False


def test_without_a_version_labelling_goes_on() -> None:
    assert advice([]).enough is False
