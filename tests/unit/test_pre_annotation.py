from itertools import count

from nerloop.gazetteer import Gazetteer, Term
from nerloop.label_config import parse_label_config
from nerloop.pre_annotation import pre_annotate
from nerloop.predictor import Predictor
from nerloop.settings import Settings
from nerloop.split import side_of

CONFIG = parse_label_config(
    '<View><Labels name="label" toName="text"><Label value="药品"/><Label value="人名"/></Labels>'
    '<Text name="text" value="$text"/></View>'
)
TERMS = Gazetteer({"布洛芬": Term("药品", 0.75, "label memory"), "张三": Term("药品"), "头痛": Term("DISEASE")})


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
