from collections.abc import Callable
from itertools import count

import pytest

from nerloop.documents import Prediction
from nerloop.gazetteer import Gazetteer, Term
from nerloop.label_config import EXAMPLE, parse_label_config
from nerloop.pre_annotation import pre_annotate, rescore_head
from nerloop.predictor import Predictor
from nerloop.settings import Settings
from nerloop.split import side_of
from nerloop.starter import fresh_starter, starter

TEXTS = [
    f"{name}在医院工作" for name in ("王建国", "李小红", "张伟", "刘德华", "陈美丽", "杨志强", "赵敏", "周杰", "吴刚")
]

CONFIG = parse_label_config(
    '<View><Labels name="label" toName="text"><Label value="药品"/><Label value="人名"/></Labels>'
    '<Text name="text" value="$text"/></View>'
)
TERMS = Gazetteer({"布洛芬": Term("药品", 0.75, "label memory"), "张三": Term("药品"), "头痛": Term("DISEASE")})


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
    tagger = fresh_starter()
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


def test_the_doubt_of_a_model_that_knows_no_label_of_the_project_does_not_order_its_tasks() -> None:
    texts = [f"患者第{number}次服用布洛芬后头痛" + "并有发热咳嗽乏力" * (number % 7) for number in range(30)]

    def scores(label: str, strategy: str) -> list[float]:
        config = parse_label_config(EXAMPLE.replace('value="PER"', f'value="{label}"'))
        settings = Settings(strategy=strategy, random_share=0.0)
        return [score for _, score in pre_annotate(Predictor(starter(), "lac-starter"), config, texts, settings)]

    assert scores("DRUG", "confidence") == scores("DRUG", "mnlp")
    assert scores("PER", "confidence") != scores("PER", "mnlp")


def test_what_somebody_flagged_is_served_before_all_others() -> None:
    predictor, config = Predictor(starter(), "lac-starter"), parse_label_config(EXAMPLE)
    flags = [False] * len(TEXTS)
    flags[-1] = True

    plain = [score for _, score in pre_annotate(predictor, config, TEXTS, Settings())]
    scores = [score for _, score in pre_annotate(predictor, config, TEXTS, Settings(), feedback=flags)]

    assert scores == [*plain[:-1], 0.0]
    assert min(plain) > 0


def text_on(side):
    return next(text for n in count() if side_of(text := f"张三因头痛开始服用布洛芬，第{n}天。", 0.1, 0.1) == side)


def found(lac, side):
    text = text_on(side)
    ((prediction, _),) = pre_annotate(Predictor(lac, "v"), CONFIG, [text], Settings(), TERMS)
    return {(text[e.start : e.end], e.label, e.source) for e in prediction.entities}


def test_terms_fill_the_gaps_that_the_model_leaves(lac):
    assert found(lac, "train") == {("张三", "人名", ""), ("布洛芬", "药品", "label memory")}


def test_held_out_texts_get_the_models_entities_alone(lac):
    assert found(lac, "dev") == found(lac, "gate") == {("张三", "人名", "")}


@pytest.mark.parametrize(("label", "strategy"), [("GENE", "confidence"), ("PER", "diverse")])
def test_texts_that_are_empty_are_ranked_like_any_other(label: str, strategy: str) -> None:
    config = parse_label_config(EXAMPLE.replace('value="PER"', f'value="{label}"'))
    settings = Settings(strategy=strategy, random_share=0.0)
    predictor, texts = Predictor(starter(), "lac-starter"), ["", "张三在北京。", "", " "]

    predictions, scores = zip(*pre_annotate(predictor, config, texts, settings), strict=True)
    dealt = rescore_head(predictor, config, texts, predictions, scores, settings)

    assert [len(prediction.entities) for prediction in predictions][::2] == [0, 0]
    assert all(0 < score <= 1 for score in scores)
    assert sorted(dealt) == sorted(scores)
