import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.v1 import precision_recall_fscore_support  # v1 is seqeval's strict mode
from seqeval.scheme import IOBES

from nerloop.documents import Document, Entity
from nerloop.evaluation import NO_LABEL, Scores, as_row, evaluate

TEXT = "张三和李四去北京大学"
LABELS = ("LOC", "ORG", "PER")


def document(*entities):
    return Document("", TEXT, tuple(Entity(*entity) for entity in entities))


spans = st.tuples(st.integers(0, 9), st.integers(1, 10)).filter(lambda span: span[0] < span[1])
nested_documents = st.lists(
    st.builds(lambda span, label: (*span, label), spans, st.sampled_from(LABELS)), max_size=6
).map(lambda entities: document(*entities))
pairs_of_documents = st.lists(st.tuples(nested_documents, nested_documents), max_size=4).map(
    lambda pairs: ([gold for gold, _ in pairs], [predicted for _, predicted in pairs])
)


@st.composite
def flat_documents(draw):
    entities, position = [], 0
    for gap, size, label in draw(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.sampled_from(LABELS)), max_size=5)
    ):
        entities.append((position + gap, position + gap + size, label))
        position += gap + size
    return document(*(entity for entity in entities if entity[1] <= len(TEXT)))


@st.composite
def flat_pairs(draw):
    """Gold and a prediction that agrees with it up to some character."""
    gold, other, cut = draw(flat_documents()), draw(flat_documents()), draw(st.integers(0, len(TEXT)))
    same = [entity for entity in gold.entities if entity.end <= cut]
    return gold, Document("", TEXT, (*same, *(entity for entity in other.entities if entity.start >= cut)))


def by_label(documents):
    return Counter(entity.label for each in documents for entity in set(each.entities))


def most_overlaps(gold, predicted):
    """All ways of pairing, tried one by one."""
    if not gold:
        return 0
    (start, end), *rest = gold
    partners = [span for span in predicted if span[0] < end and start < span[1]]
    return max(most_overlaps(rest, predicted), *(1 + most_overlaps(rest, predicted - {each}) for each in partners), 0)


def test_a_case_worked_by_hand():
    gold = [document((0, 2, "PER"), (3, 5, "PER"), (6, 10, "ORG")), document((6, 8, "LOC"))]
    predicted = [document((0, 2, "PER"), (6, 8, "LOC"), (6, 10, "ORG")), document()]

    micro = evaluate(gold, predicted).micro

    assert micro.precision == pytest.approx(2 / 3)
    assert micro.recall == pytest.approx(2 / 4)
    assert micro.f1 == pytest.approx(4 / 7)
    assert micro.support == 4


@pytest.mark.parametrize("guess", [(0, 3, "PER"), (1, 2, "PER"), (0, 2, "LOC"), (0, 1, "PER")])
def test_an_entity_with_another_border_or_label_is_wrong(guess):
    micro = evaluate([document((0, 2, "PER"))], [document(guess)]).micro

    assert (micro.precision, micro.recall, micro.f1) == (0, 0, 0)


def test_a_perfect_prediction_scores_one_whatever_its_confidence():
    gold = [document((0, 2, "PER"), (6, 10, "ORG"))]
    scored = Document("", "", (Entity(6, 10, "ORG", score=0.3), Entity(0, 2, "PER", score=0.9)))

    assert evaluate(gold, [scored]).micro == Scores(1.0, 1.0, 1.0, 2)


def test_each_label_has_its_own_scores():
    gold = [document((0, 2, "PER"), (3, 5, "PER"), (6, 10, "ORG"))]
    predicted = [document((0, 2, "PER"), (6, 8, "LOC"), (6, 10, "ORG"))]

    result = evaluate(gold, predicted)

    assert result.per_label["PER"] == Scores(1.0, 0.5, pytest.approx(2 / 3), 2)
    assert result.per_label["ORG"] == Scores(1.0, 1.0, 1.0, 1)
    assert result.per_label["LOC"] == Scores(0.0, 0.0, 0.0, 0)


def test_macro_f1_is_the_mean_over_the_labels_that_occur_in_gold_or_predictions():
    gold = [document((0, 2, "PER"), (3, 5, "PER"), (6, 10, "ORG"))]
    predicted = [document((0, 2, "PER"), (6, 8, "LOC"), (6, 10, "ORG"))]

    assert evaluate(gold, predicted, labels=["TIME"]).macro_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_a_label_that_was_asked_for_is_listed_even_if_it_never_occurs():
    result = evaluate([document((0, 2, "PER"))], [document()], labels=["TIME"])

    assert list(result.per_label) == ["PER", "TIME"]
    assert result.per_label["TIME"] == Scores(0.0, 0.0, 0.0, 0)


def test_the_same_span_in_two_documents_counts_twice_and_doubled_in_one_once():
    gold = [document((0, 2, "PER")), document((0, 2, "PER"))]
    predicted = [document((0, 2, "PER"), (0, 2, "PER")), document()]

    assert evaluate(gold, predicted).micro == Scores(1.0, 0.5, pytest.approx(2 / 3), 2)


def test_nested_entities_are_counted_one_by_one():
    gold = [document((6, 8, "LOC"), (6, 10, "ORG"))]

    assert evaluate(gold, [document((6, 10, "ORG"))]).micro == Scores(1.0, 0.5, pytest.approx(2 / 3), 2)


def test_documents_must_come_in_pairs():
    with pytest.raises(ValueError, match="2 gold documents against 1 predicted"):
        evaluate([document(), document()], [document()])


@pytest.mark.parametrize("number", [0, 3])
def test_without_any_entity_all_scores_are_zero(number):
    result = evaluate([document()] * number, [document()] * number)

    assert result.micro == Scores(0.0, 0.0, 0.0, 0)
    assert (result.macro_f1, result.per_label, result.documents) == (0.0, {}, number)


def test_an_entity_in_a_document_without_any_is_a_false_positive():
    gold = [document((0, 2, "PER")), document(), document()]
    predicted = [document((0, 2, "PER")), document((3, 5, "PER")), document()]

    result = evaluate(gold, predicted)

    assert result.micro == Scores(0.5, 1.0, pytest.approx(2 / 3), 1)
    assert result.boundary.precision == result.typing.precision == 0.5
    assert result.confusion[NO_LABEL] == {"PER": 1}


def test_adjacent_entities_of_one_label_stay_two():
    result = evaluate([document((0, 2, "PER"), (2, 4, "PER"))], [document((0, 4, "PER"))])

    assert result.micro == result.boundary == Scores(0.0, 0.0, 0.0, 2)
    assert result.typing == Scores(1.0, 0.5, pytest.approx(2 / 3), 2)


def test_the_boundary_score_forgives_a_wrong_label_and_no_wrong_border():
    gold = [document((0, 2, "PER"), (3, 5, "PER"), (6, 10, "ORG"))]
    predicted = [document((0, 2, "LOC"), (3, 4, "PER"), (6, 10, "ORG"))]

    assert evaluate(gold, predicted).boundary == Scores(*[pytest.approx(2 / 3)] * 3, 3)


def test_a_span_with_several_labels_is_one_boundary():
    gold = [document((6, 10, "ORG"), (6, 10, "LOC"), (0, 2, "PER"))]

    assert evaluate(gold, [document((6, 10, "ORG"))]).boundary == Scores(1.0, 0.5, pytest.approx(2 / 3), 2)


def test_the_type_score_forgives_a_wrong_border_and_no_wrong_label():
    gold = [document((0, 2, "PER"), (3, 5, "PER"), (6, 10, "ORG"))]
    predicted = [document((0, 3, "PER"), (3, 5, "LOC"), (8, 10, "ORG"))]

    assert evaluate(gold, predicted).typing == Scores(*[pytest.approx(2 / 3)] * 3, 3)


def test_entities_that_only_touch_do_not_overlap():
    assert evaluate([document((0, 2, "PER"))], [document((2, 4, "PER"))]).typing.f1 == 0


def test_an_entity_found_in_two_pieces_is_found_once():
    result = evaluate([document((6, 10, "ORG"))], [document((6, 8, "ORG"), (8, 10, "ORG"))])

    assert result.typing == Scores(0.5, 1.0, pytest.approx(2 / 3), 1)


def test_nested_entities_of_one_type_are_paired_so_that_all_find_a_partner():
    # Pairing the two equal spans first would leave [0, 2) and [8, 10), which do not overlap.
    gold = [document((0, 10, "ORG"), (0, 2, "ORG"))]
    predicted = [document((0, 10, "ORG"), (8, 10, "ORG"))]

    assert evaluate(gold, predicted).typing == Scores(1.0, 1.0, 1.0, 2)


def test_inner_recall_asks_only_for_entities_inside_a_longer_one():
    gold = [
        document((6, 10, "ORG"), (6, 8, "LOC"), (8, 10, "ORG"), (0, 2, "PER")),
        document((3, 6, "PER"), (5, 8, "LOC")),  # overlap, but neither lies inside the other
        document((6, 8, "LOC")),
    ]
    predicted = [document((6, 8, "LOC"), (8, 10, "PER")), document(), document((6, 8, "LOC"))]

    result = evaluate(gold, predicted)

    assert (result.inner_recall, result.inner_support) == (0.5, 2)


def test_two_labels_on_one_span_are_not_inside_each_other():
    gold = [document((6, 10, "ORG"), (6, 10, "LOC"))]

    assert evaluate(gold, gold).inner_support == 0


def test_the_confusion_says_what_each_label_was_taken_for():
    gold = [document((0, 2, "PER"), (3, 5, "PER"), (6, 10, "ORG")), document((6, 8, "LOC"))]
    predicted = [document((0, 2, "PER"), (3, 5, "LOC"), (6, 9, "ORG")), document()]

    assert evaluate(gold, predicted).confusion == {
        "PER": {"PER": 1, "LOC": 1},
        "ORG": {NO_LABEL: 1},
        "LOC": {NO_LABEL: 1},
        NO_LABEL: {"ORG": 1},
    }


def test_of_several_labels_on_one_span_the_right_ones_are_not_confused():
    gold = [document((6, 10, "LOC"), (6, 10, "ORG"))]
    predicted = [document((6, 10, "ORG"), (6, 10, "PER"))]

    assert evaluate(gold, predicted).confusion == {"ORG": {"ORG": 1}, "LOC": {"PER": 1}}


def test_a_row_survives_json_and_says_the_same_as_the_evaluation():
    gold = [document((6, 10, "ORG"), (6, 8, "LOC"), (0, 2, "PER")), document()]
    predicted = [document((6, 10, "LOC"), (6, 8, "LOC")), document((0, 2, "PER"))]
    result = evaluate(gold, predicted)

    row = json.loads(json.dumps(as_row(result)))

    assert Scores(row["precision"], row["recall"], row["f1"], row["entities"]) == result.micro
    assert (row["boundary_f1"], row["type_f1"]) == (result.boundary.f1, result.typing.f1)
    assert (row["inner_recall"], row["inner_entities"]) == (1.0, 1)
    assert {label: Scores(**scores) for label, scores in row["per_label"].items()} == result.per_label
    assert (row["macro_f1"], row["documents"], row["confusion"]) == (result.macro_f1, 2, result.confusion)


@given(st.lists(nested_documents, min_size=1, max_size=4).filter(by_label))
def test_gold_against_itself_is_perfect_in_every_respect(documents):
    result = evaluate(documents, documents)

    assert result.micro.f1 == result.boundary.f1 == result.typing.f1 == result.macro_f1 == 1.0
    assert all(scores.f1 == 1.0 for scores in result.per_label.values())
    assert result.inner_recall == (1.0 if result.inner_support else 0.0)
    assert all(list(row) == [label] for label, row in result.confusion.items())


@given(pairs_of_documents)
def test_the_confusion_leaves_no_entity_out_and_counts_none_twice(pairs):
    gold, predicted = pairs

    confusion = evaluate(gold, predicted).confusion

    rows = Counter({label: sum(row.values()) for label, row in confusion.items() if label != NO_LABEL})
    columns = sum((Counter(row) for row in confusion.values()), Counter())
    del columns[NO_LABEL]
    assert (rows, columns) == (by_label(gold), by_label(predicted))


@given(pairs_of_documents)
def test_the_diagonal_of_the_confusion_is_what_is_right(pairs):
    result = evaluate(*pairs)

    for label, scores in result.per_label.items():
        right = result.confusion.get(label, {}).get(label, 0)
        assert right == pytest.approx(scores.recall * scores.support)


@given(st.lists(flat_pairs(), max_size=4))
def test_forgiving_labels_or_borders_never_lowers_the_score(pairs):
    result = evaluate([gold for gold, _ in pairs], [predicted for _, predicted in pairs])

    assert result.boundary.f1 >= result.micro.f1
    assert result.typing.f1 >= result.micro.f1


@given(st.sets(spans, max_size=5), st.sets(spans, max_size=5))
def test_no_pairing_of_overlapping_entities_finds_more_right_types(gold, predicted):
    of_one_type = [document(*((start, end, "PER") for start, end in side)) for side in (gold, predicted)]

    typing = evaluate([of_one_type[0]], [of_one_type[1]]).typing

    assert typing.recall * typing.support == pytest.approx(most_overlaps(list(gold), predicted))


@given(pairs_of_documents)
def test_swapping_gold_and_prediction_swaps_precision_and_recall(pairs):
    gold, predicted = pairs
    there, back = evaluate(gold, predicted), evaluate(predicted, gold)

    for one, other in ((there.micro, back.micro), (there.boundary, back.boundary), (there.typing, back.typing)):
        assert (one.precision, one.recall, one.f1) == (other.recall, other.precision, other.f1)


@given(st.lists(flat_pairs(), max_size=6))
def test_flat_entities_score_as_in_seqeval(pairs):
    every_label = document(*((number, number + 1, label) for number, label in enumerate(LABELS)))
    gold = [every_label, *(gold for gold, _ in pairs)]
    predicted = [document(), *(predicted for _, predicted in pairs)]

    result = evaluate(gold, predicted, labels=LABELS)

    *per_label, support = seqeval(gold, predicted, None)
    for label, *figures in zip(LABELS, *per_label, support, strict=True):
        scores = result.per_label[label]
        assert [scores.precision, scores.recall, scores.f1, scores.support] == pytest.approx(figures, abs=1e-9)
    micro = result.micro
    assert (micro.precision, micro.recall, micro.f1) == pytest.approx(seqeval(gold, predicted, "micro")[:3], abs=1e-9)
    for gold_, predicted_ in ((gold, predicted), (gold[1:], predicted[1:])):  # the latter lack a label, or all
        assert evaluate(gold_, predicted_).macro_f1 == pytest.approx(macro_f1_of_seqeval(gold_, predicted_), abs=1e-9)


def macro_f1_of_seqeval(gold, predicted):
    return seqeval(gold, predicted, "macro")[2] if any(d.entities for d in (*gold, *predicted)) else 0.0


def seqeval(gold, predicted, average):
    return precision_recall_fscore_support(
        [bioes(each) for each in gold],
        [bioes(each) for each in predicted],
        average=average,
        scheme=IOBES,
        zero_division=0,
    )


def bioes(flat):
    tags = ["O"] * len(TEXT)
    for entity in flat.entities:
        size = entity.end - entity.start
        positions = "S" if size == 1 else "B" + "I" * (size - 2) + "E"
        tags[entity.start : entity.end] = [f"{position}-{entity.label}" for position in positions]
    return tags
