import math
import random

import pytest
import torch

from nerloop.documents import Document, Entity
from nerloop.predictor import Predictor
from nerloop.tagging import Decoder
from nerloop.temperature import TEMPERATURES, fit_temperature

FLAT = Decoder.flat(["LOC", "PER"])
NESTED = Decoder.nested(["LOC", "PER"], [Document("", "北京市", (Entity(0, 2, "LOC"), Entity(0, 3, "LOC")))])
EVERY_KIND = pytest.mark.parametrize("decoder", [FLAT, NESTED], ids=["flat", "nested"])
TEXTS = ["".join(random.Random(seed).choices("0123456789abcdef", k=seed % 40)) for seed in range(36)]


@pytest.fixture
def predictor(tiny_tagger):
    """Builds a predictor whose weights are multiplied: the same entities, surer or less sure of them."""

    def build(decoder=FLAT, times=6.0):
        tagger = tiny_tagger(decoder=decoder)
        with torch.no_grad():
            for weights in (*tagger.linear.parameters(), *tagger.crf.parameters()):
                weights.mul_(times)
        return Predictor(tagger, "")

    return build


def held_out(predictor, share_right):
    """Documents in which a found entity stands with a probability that depends on its score."""
    chance = random.Random(0)
    return [
        Document("", text, tuple(e for e in prediction.entities if chance.random() < share_right(e.score)))
        for text, prediction in zip(TEXTS, predictor.predict(TEXTS), strict=True)
    ]


def log_loss(predictor, documents, temperature):
    before, predictor.tagger.temperature = predictor.tagger.temperature, temperature
    total = 0.0
    for document, prediction in zip(documents, predictor.predict([d.text for d in documents]), strict=True):
        for entity in prediction.entities:
            probability = min(max(entity.score, 1e-4), 1 - 1e-4)
            total -= math.log(probability if entity in document.entities else 1 - probability)
    predictor.tagger.temperature = before
    return total


@EVERY_KIND
def test_a_model_that_is_surer_than_it_is_right_gets_a_temperature_above_one(predictor, decoder):
    over_confident = predictor(decoder, times=20.0)

    assert fit_temperature(over_confident, held_out(over_confident, lambda score: score / 2)) > 1.2


@EVERY_KIND
def test_a_model_that_is_righter_than_it_is_sure_gets_a_temperature_below_one(predictor, decoder):
    modest = predictor(decoder)

    assert fit_temperature(modest, held_out(modest, lambda score: 1.0)) < 0.8


@EVERY_KIND
def test_a_model_whose_confidence_is_true_keeps_a_temperature_of_about_one(predictor, decoder):
    honest = predictor(decoder)

    assert fit_temperature(honest, held_out(honest, lambda score: score)) == pytest.approx(1.0, abs=0.15)


def test_no_other_temperature_makes_the_probabilities_truer(predictor):
    model = predictor()
    documents = held_out(model, lambda score: 0.7 * score)

    fitted = fit_temperature(model, documents)

    losses = {temperature: log_loss(model, documents, temperature) for temperature in (1.0, *TEMPERATURES)}
    assert losses[fitted] == min(losses.values())
    assert losses[fitted] < losses[1.0]


def test_a_model_of_larger_weights_gets_a_temperature_that_is_larger_by_as_much(predictor):
    model, larger = predictor(), predictor(times=6.0 * 1.12**3)
    documents = held_out(model, lambda score: 0.9 * score)

    assert fit_temperature(larger, documents) == pytest.approx(fit_temperature(model, documents) * 1.12**3)


@pytest.mark.parametrize("before", [1.0, 2.5])
def test_fitting_leaves_the_models_own_temperature_and_does_not_depend_on_it(predictor, before):
    model = predictor()
    documents = held_out(model, lambda score: score / 2)
    expected = fit_temperature(model, documents)
    model.tagger.temperature = before

    assert fit_temperature(model, documents) == expected
    assert model.tagger.temperature == before


def test_a_model_that_finds_nothing_gets_a_temperature_of_one(predictor):
    model = predictor()
    documents = held_out(model, lambda score: score)

    assert fit_temperature(model, []) == 1.0
    assert fit_temperature(model, [Document("", "")]) == 1.0
    assert fit_temperature(model.with_labels({}), documents) == 1.0
