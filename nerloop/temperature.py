"""The temperature of a model: one number that makes its confidence true. Owns fitting it on held-out documents."""

import math
from collections.abc import Sequence

from nerloop.documents import Document
from nerloop.predictor import Predictor

TEMPERATURES = tuple(0.5 * 1.12**step for step in range(20))  # 0.5 to 4.3


def fit_temperature(predictor: Predictor, held_out: Sequence[Document]) -> float:
    """Return the temperature at which the found entities' probabilities have the lowest log loss (Guo et al. 2017).

    The best path does not depend on the temperature, so neither do the entities; each is right or wrong, and its
    probability is judged by that. The tagger's own temperature is left as it was. Returns 1.0 where nothing is found.
    """
    tagger = predictor.tagger
    before = tagger.temperature
    tokens = [tagger.encoder.tokenizer.tokenize(document.text) for document in held_out]
    emissions = predictor.emissions(tokens)

    def log_loss(temperature: float) -> float:
        tagger.temperature = temperature
        loss, found = 0.0, 0
        for document, prediction in zip(held_out, predictor.decode(tokens, emissions), strict=True):
            right = set(document.entities)
            for entity in prediction.entities:
                probability = min(max(entity.score or 0.0, 1e-4), 1 - 1e-4)  # scores have four digits
                loss -= math.log(probability if entity in right else 1 - probability)
                found += 1
        return loss / found if found else 0.0

    try:
        losses = {temperature: log_loss(temperature) for temperature in TEMPERATURES}
    finally:
        tagger.temperature = before
    return min(losses, key=losses.__getitem__) if any(losses.values()) else 1.0
