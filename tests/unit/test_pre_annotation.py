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
