import random
import re

import pytest
import torch

from nerloop import admission as admission_module
from nerloop import runtime, trainer
from nerloop.admission import MIN_TEXTS, Admission, admission, agreement
from nerloop.documents import Document, Entity
from nerloop.runtime import INEXACT
from nerloop.tagger import weights_key
from nerloop.tagging import Decoder
from nerloop.trainer import Recipe, Trainer


def sentences(number, seed=0):
    rng = random.Random(seed)
    return [
        "".join(rng.choices("01张三。，", k=rng.randint(0, 12))) + rng.choice(["ab", "a", "b", ""])
        for _ in range(number)
    ]


TEXTS = sentences(MIN_TEXTS)


@pytest.fixture(autouse=True)
def inexact_runtimes_are_faster(monkeypatch):
    """No test may go by a timing: here fp32 takes two milliseconds a text and every other runtime one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(runtime, "threads_for", lambda _: 1)
    monkeypatch.setattr(admission_module, "milliseconds", lambda serving, _: 2 if serving.name == "torch-fp32" else 1)


@pytest.fixture(scope="module")
def sure(tiny_transformer):
    """A model that was trained until it is sure of what it says: `ab` is a person."""
    tagger = tiny_transformer()
    documents = []
    for text in sentences(200, seed=1):
        starts = [place for place in range(len(text)) if text[place : place + 2] == "ab"]
        documents.append(Document("", text or "。", tuple(Entity(start, start + 2, "PER") for start in starts)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(trainer, "bf16_pays", lambda _: False)
        patch.setattr(trainer, "set_threads", lambda _: None)
        Trainer(Recipe(epochs=8, learning_rate=1e-3)).fit(tagger, documents, [])
    return tagger


@pytest.fixture
def undecided(tiny_transformer):
    """An untrained model whose best tags hang by a thread."""
    tagger = tiny_transformer(Decoder.flat(["LOC", "ORG", "PER"]))
    with torch.no_grad():
        tagger.linear.bias.zero_()
    return tagger


def test_a_runtime_whose_entities_are_those_of_fp32_is_admitted_with_its_figures(sure, tmp_path):
    found = admission(sure, TEXTS, tmp_path)

    assert (set(found.admitted), found.refused) == (set(INEXACT), {})
    for figures in found.admitted.values():
        assert figures["entity_f1"] >= 0.995
        assert 0 <= figures["score_difference"] <= 0.02
        assert figures["texts"] == 500


def test_a_model_whose_int8_entities_differ_is_refused_with_what_was_measured(undecided, tmp_path):
    found = admission(undecided, TEXTS, tmp_path)

    assert found.admitted == {}
    f1 = re.match(r"on 500 texts entity F1 against fp32 (0\.\d+), scores ", found.refused["onnx-int8"])
    assert f1 is not None and float(f1[1]) < 0.995
    assert found.refused["onnx-int8"].endswith("; needed: at least 0.995, at most 0.02")
    assert (tmp_path / "runtimes" / weights_key(undecided) / "onnx-int8.onnx").exists()  # it was tried


def test_a_model_whose_scores_differ_is_refused_though_its_entities_are_the_same(sure, tmp_path, monkeypatch):
    monkeypatch.setattr(admission_module, "MAX_SCORE_DIFFERENCE", -1.0)

    found = admission(sure, TEXTS, tmp_path)

    assert (found.admitted, set(found.refused)) == ({}, set(INEXACT))


def test_fewer_than_500_texts_admit_none_and_their_number_is_said(sure, tmp_path):
    found = admission(sure, TEXTS[:-1], tmp_path)

    why = "not measured: there were 499 texts, 500 are needed"
    assert found == Admission({}, {"torch-bf16": why, "onnx-int8": why})
    assert list(tmp_path.iterdir()) == []


def test_a_gru_has_no_inexact_runtime_that_is_worth_trying(tiny_tagger, tmp_path):
    found = admission(tiny_tagger(), TEXTS, tmp_path)

    assert found.admitted == {}
    assert set(found.refused.values()) == {"a GRU has no inexact runtime that is faster"}
    assert list(tmp_path.iterdir()) == []


def test_what_is_slower_than_fp32_is_refused_with_both_timings(sure, tmp_path, monkeypatch):
    spent = {"torch-fp32": 2, "torch-bf16": 3, "onnx-int8": 1}
    monkeypatch.setattr(admission_module, "milliseconds", lambda serving, _: spent[serving.name])

    found = admission(sure, TEXTS, tmp_path)

    assert set(found.admitted) == {"onnx-int8"}
    assert found.refused == {"torch-bf16": "slower than fp32 where it was made: 3.00 ms a text, fp32 2.00 ms"}


def test_being_admitted_changes_nothing_in_the_model(sure, tmp_path):
    before = weights_key(sure)

    admission(sure, TEXTS, tmp_path)

    assert weights_key(sure) == before


# Agreement, by hand


def document(*entities):
    return Document("", "x" * 20, tuple(Entity(start, end, "PER", score) for start, end, score in entities))


def test_the_same_predictions_agree_wholly():
    found = [document((0, 2, 0.9), (4, 5, 0.3)), document()]

    assert agreement(found, found) == (1.0, 0.0)


def test_agreement_is_f1_over_entities_and_the_mean_difference_of_the_scores_of_those_both_find():
    expected = [document((0, 2, 0.9), (4, 5, 0.5)), document((1, 3, 0.6))]
    found = [document((0, 2, 0.8), (7, 8, 0.5)), document((1, 3, 1.0))]

    f1, difference = agreement(expected, found)

    assert f1 == pytest.approx(2 / 3)  # two of three are found, two of three found are right
    assert difference == pytest.approx((0.1 + 0.4) / 2)


def test_an_entity_found_elsewhere_agrees_with_none():
    f1, difference = agreement([document((0, 2, 0.9))], [document((0, 3, 0.9))])

    assert (f1, difference) == (0.0, 0.0)


def test_entities_of_different_texts_do_not_agree():
    f1, _ = agreement([document((0, 2, 0.9)), document()], [document(), document((0, 2, 0.9))])

    assert f1 == 0.0


def test_texts_in_which_nothing_is_found_tell_nothing_and_admit_nothing():
    f1, _ = agreement([document()] * 500, [document()] * 500)

    assert f1 < admission_module.MIN_F1
