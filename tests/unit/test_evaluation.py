import pytest

from nerloop.documents import Document, Entity
from nerloop.evaluation import Scores, evaluate

TEXT = "张三和李四去北京大学"


def document(*entities):
    return Document("", TEXT, tuple(Entity(*entity) for entity in entities))


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


def test_macro_f1_is_the_mean_over_the_labels_that_occur_in_gold():
    gold = [document((0, 2, "PER"), (3, 5, "PER"), (6, 10, "ORG"))]
    predicted = [document((0, 2, "PER"), (6, 8, "LOC"), (6, 10, "ORG"))]

    assert evaluate(gold, predicted).macro_f1 == pytest.approx((2 / 3 + 1) / 2)


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
