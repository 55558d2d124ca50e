import random

import pytest
import torch

from nerloop.documents import Entity
from nerloop.predictor import Predictor

TEXTS = [
    "张三在北京市工作。",
    "",
    "2008年8月8日，第29届奥运会在北京开幕。",
    "   ",
    "中国人民银行行长周小川在华盛顿出席会议，会后他回到了北京",
    "他住在北京",
    "😀𠮷",
    "\r\n",
]
FILLER = "今天天气真好，我们一起去公园玩。"
NEWS = "记者在北京外国语大学见到了王小明。"


def digits(length, seed=0):
    return "".join(random.Random(seed).choices("0123456789abcdef", k=length))


def scores(prediction):
    return [entity.score for entity in prediction.entities]


@pytest.fixture
def starter(lac):
    return Predictor(lac, "lac-starter")


@pytest.fixture
def tiny(tiny_tagger):
    return Predictor(tiny_tagger(), "tiny-v1")


def test_a_batch_finds_what_each_text_alone_would(starter):
    together = starter.predict(TEXTS)

    alone = [starter.predict([text])[0] for text in TEXTS]
    assert [prediction.entities for prediction in together] == [prediction.entities for prediction in alone]
    assert [p.confidence for p in together] == pytest.approx([p.confidence for p in alone], abs=1e-4)


def test_an_entity_at_the_end_of_a_text_has_the_same_score_in_any_batch(starter):
    alone, together = starter.predict(["他住在北京"])[0], starter.predict(["他住在北京", NEWS])[0]

    assert alone.entities == together.entities != ()
    assert scores(together) == pytest.approx(scores(alone), abs=1e-3)


def test_scores_of_a_fine_tuned_model_do_not_depend_on_the_batch(tiny):
    texts = [digits(length, seed=length) for length in range(1, 40)]

    together = tiny.predict(texts)

    for text, prediction in zip(texts, together, strict=True):
        assert scores(prediction) == pytest.approx(scores(tiny.predict([text])[0]), abs=1e-3)


def test_predictions_come_in_the_order_of_the_texts(tiny):
    texts = [digits(length, seed=length) for length in range(130)]
    order = random.Random(0).sample(range(130), 130)

    predictions = tiny.predict(texts)
    shuffled = tiny.predict([texts[number] for number in order])

    assert [p.entities for p in shuffled] == [predictions[number].entities for number in order]


def test_no_texts_have_no_predictions(tiny):
    assert tiny.predict([]) == []


@pytest.mark.parametrize("text", ["", " ", " \t\u3000", "\r\n", "😀", "👨‍👩‍👧", "𠮷", "\x00", "\ud83d"])
def test_any_text_has_exactly_one_prediction(starter, text):
    (prediction,) = starter.predict([text])

    assert all(0 <= entity.start < entity.end <= len(text) for entity in prediction.entities)
    assert 0 <= prediction.confidence <= 1


def test_an_empty_text_has_no_entities_and_leaves_no_doubt(starter):
    (prediction,) = starter.predict([""])

    assert prediction.entities == ()
    assert prediction.confidence == 1.0


@pytest.mark.parametrize("before", ["😀", "𠮷𠮷", "\r\n", "　 ", "\u2028"])
def test_offsets_refer_to_the_text_exactly_as_given(starter, before):
    text = f"{before}，王小明在上海工作。"

    (prediction,) = starter.predict([text])

    assert "上海" in [text[entity.start : entity.end] for entity in prediction.entities]


def test_every_score_is_a_probability(tiny, starter):
    predictions = [*tiny.predict([digits(200, seed) for seed in range(10)]), *starter.predict(TEXTS)]

    assert all(0 <= score <= 1 for prediction in predictions for score in scores(prediction))
    assert all(0 <= prediction.confidence <= 1 for prediction in predictions)
    assert sum(len(prediction.entities) for prediction in predictions) > 100


def test_entities_are_sorted_and_do_not_overlap(tiny):
    (prediction,) = tiny.predict([digits(500)])

    ends = [0, *(entity.end for entity in prediction.entities)]
    assert all(end <= entity.start for end, entity in zip(ends, prediction.entities, strict=False))


def test_a_text_of_ten_thousand_characters_is_labelled_to_its_end(tiny, monkeypatch):
    text = digits(10_000)

    (prediction,) = tiny.predict([text])
    monkeypatch.setattr(tiny.tagger.encoder, "max_characters", 500)
    (in_other_windows,) = tiny.predict([text])

    assert prediction.entities == in_other_windows.entities
    assert prediction.entities[-1].end > 9_900


@pytest.mark.parametrize(
    "start",
    [64, 69, 71, 72, 75, 86, 91, 96],
    ids=lambda start: f"the place at {start + 3}-{start + 10}",
)
def test_an_entity_at_the_border_of_two_windows_is_neither_cut_nor_doubled(starter, monkeypatch, start):
    # Of windows of 100 characters the first owns [0, 75) and ends at 100; the second begins at 50.
    text = (FILLER * 7)[:start] + NEWS + FILLER * 4
    (whole,) = starter.predict([text])

    monkeypatch.setattr(starter.tagger.encoder, "max_characters", 100)
    (windowed,) = starter.predict([text])

    assert windowed.entities == whole.entities
    assert Entity(start + 3, start + 10, "ORG") in windowed.entities


def test_windows_of_a_single_character_still_cover_the_text(tiny, monkeypatch):
    monkeypatch.setattr(tiny.tagger.encoder, "max_characters", 1)

    (prediction,) = tiny.predict(["0123456789"])

    assert all(entity.end - entity.start == 1 for entity in prediction.entities)


def test_every_prediction_carries_the_version_of_its_model(tiny, starter):
    assert {prediction.model_version for prediction in tiny.predict(["0", "", "1"])} == {"tiny-v1"}
    assert {prediction.model_version for prediction in starter.predict(TEXTS)} == {"lac-starter"}


def test_labels_may_be_renamed_and_hidden(starter):
    everything = starter.predict(TEXTS)

    shown = starter.with_labels({"PER": "人名"}).predict(TEXTS)

    people = [[(e.start, e.end, "人名") for e in p.entities if e.label == "PER"] for p in everything]
    assert [[(e.start, e.end, e.label) for e in p.entities] for p in shown] == people
    assert any(people)


def test_a_project_without_a_label_the_model_knows_is_shown_nothing(starter):
    assert all(prediction.entities == () for prediction in starter.with_labels({}).predict(TEXTS))


def test_renaming_leaves_the_first_predictor_as_it_was(starter):
    before = starter.predict(TEXTS)

    starter.with_labels({"PER": "人名"}).predict(TEXTS)

    assert starter.predict(TEXTS) == before
    assert starter.with_labels({"PER": "人名"}).model_version == "lac-starter"


def test_a_temperature_changes_the_scores_and_never_the_entities(tiny_tagger):
    sure, unsure = tiny_tagger(), tiny_tagger()
    unsure.temperature = 4.0

    (one,), (other,) = (Predictor(tagger, "").predict([digits(100)]) for tagger in (sure, unsure))

    assert one.entities == other.entities
    assert sum(scores(other)) < sum(scores(one))
    assert other.confidence < one.confidence


def test_prediction_leaves_no_trace_in_a_model_that_is_being_trained(tiny_tagger):
    tagger = tiny_tagger()
    before = {name: weight.clone() for name, weight in tagger.state_dict().items()}

    Predictor(tagger, "").predict([digits(50)])

    assert all(torch.equal(weight, before[name]) for name, weight in tagger.state_dict().items())
    assert all(parameter.grad is None for parameter in tagger.parameters())
