from collections.abc import Callable

import pytest

from nerloop.documents import Prediction
from nerloop.label_config import EXAMPLE, parse_label_config
from nerloop.pre_annotation import pre_annotate
from nerloop.predictor import Predictor
from nerloop.settings import Settings
from nerloop.split import side_of
from nerloop.starter import starter

TEXTS = [
    f"{name}在医院工作" for name in ("王建国", "李小红", "张伟", "刘德华", "陈美丽", "杨志强", "赵敏", "周杰", "吴刚")
]


@pytest.fixture(scope="module")
def made() -> Callable[[Settings], list[tuple[Prediction, float]]]:
    predictor = Predictor(starter(), "lac-starter")
    return lambda settings: pre_annotate(predictor, parse_label_config(EXAMPLE), TEXTS, settings)


def test_blind_texts_show_nothing_and_come_up_when_they_would_otherwise(
    made: Callable[[Settings], list[tuple[Prediction, float]]],
) -> None:
    shares = {"dev_share": 0.3, "gate_share": 0.3}
    shown, blind = made(Settings(**shares)), made(Settings(**shares, blind_held_out=True))
    held_out = [side_of(text, 0.3, 0.3) != "train" for text in TEXTS]

    assert 0 < sum(held_out) < len(TEXTS)
    assert all(prediction.entities for prediction, _ in shown)
    assert [bool(prediction.entities) for prediction, _ in blind] == [not out for out in held_out]
    assert [score for _, score in blind] == [score for _, score in shown]
    assert {prediction.model_version for prediction, _ in blind} == {"lac-starter"}


def test_what_lies_below_its_threshold_is_hidden_and_the_order_stays() -> None:
    tagger = starter()
    merged = parse_label_config(EXAMPLE.replace('value="PER"', 'value="名" predicted_values="PER,ORG"'))
    shown = pre_annotate(Predictor(starter(), "lac-starter"), parse_label_config(EXAMPLE), TEXTS, Settings())

    def hiding(threshold: float) -> list[tuple[Prediction, float]]:
        tagger.thresholds = {"PER": threshold}
        return pre_annotate(Predictor(tagger, "lac-starter"), parse_label_config(EXAMPLE), TEXTS, Settings())

    scores = sorted(entity.score or 0.0 for prediction, _ in shown for entity in prediction.entities)
    middle = scores[len(scores) // 2]
    left = [entity for prediction, _ in hiding(middle) for entity in prediction.entities]

    assert hiding(0.0) == shown
    assert sorted(entity.score for entity in left) == [score for score in scores if score > middle]
    assert [score for _, score in hiding(1.0)] == [score for _, score in shown]
    assert not any(prediction.entities for prediction, _ in hiding(1.0))
    tagger.thresholds = {"ORG": 1.0}  # shown under one name with PER, of which nothing is hidden
    assert all(p.entities for p, _ in pre_annotate(Predictor(tagger, "lac-starter"), merged, TEXTS, Settings()))
