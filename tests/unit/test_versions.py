from nerloop.versions import ModelVersion, best_ever


def version(number, gate_f1=None, provisional=False):
    metrics = {} if gate_f1 is None else {"gate_f1": gate_f1}
    return ModelVersion("medical", number, metrics=metrics, provisional=provisional)


def test_the_best_ever_has_the_highest_gate_f1_of_what_was_promoted():
    assert best_ever([version(4, 0.6), version(3, 0.8), version(1, 0.7)]) == version(3, 0.8)


def test_of_equals_the_newest_is_the_best_ever():
    assert best_ever([version(1, 0.8), version(4, 0.8), version(3, 0.8)]) == version(4, 0.8)


def test_a_provisional_score_counts_only_where_there_is_no_other():
    lucky = version(1, 1.0, provisional=True)

    assert best_ever([lucky, version(2, 0.7)]) == version(2, 0.7)
    assert best_ever([lucky, version(2, 0.7, provisional=True)]) == lucky


def test_without_a_score_nothing_is_the_best_ever():
    assert best_ever([]) is None
    assert best_ever([version(1)]) is None
