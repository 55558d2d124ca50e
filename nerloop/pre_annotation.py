"""From texts to what annotators are shown: predictions under a project's label names, and the order of the tasks.

The ML backend answers with it and a refresh stores it, so that a task looks the same whichever way it was reached.
"""

from collections.abc import Sequence
from dataclasses import replace

from nerloop.acquisition import Order, serving_scores
from nerloop.documents import Prediction
from nerloop.gazetteer import Gazetteer
from nerloop.known_terms import NO_TERMS
from nerloop.label_config import LabelConfig
from nerloop.predictor import Predictor
from nerloop.settings import Settings
from nerloop.split import side_of


def order_of(settings: Settings) -> Order:
    """Return how tasks are ordered."""
    return Order(settings.strategy, settings.dev_share, settings.gate_share, settings.random_share)


def pre_annotate(
    predictor: Predictor, config: LabelConfig, texts: Sequence[str], settings: Settings, terms: Gazetteer = NO_TERMS
) -> list[tuple[Prediction, float]]:
    """Return one (prediction, serving score) a text, in order; the lowest score is served first.

    Known terms fill the gaps that the model leaves, except in held-out texts, which measure the model.
    """
    predictions = predictor.with_labels(config.shown_as(predictor.labels)).predict(texts)
    scores = serving_scores(texts, predictions, order_of(settings), lambda chosen: predictor.vectors(chosen).numpy())
    shown_as = config.shown_as(terms.labels)
    filled = [
        replace(prediction, entities=terms.fill(text, prediction.entities, shown_as))
        if side_of(text, settings.dev_share, settings.gate_share) == "train"
        else prediction
        for text, prediction in zip(texts, predictions, strict=True)
    ]
    return list(zip(filled, scores, strict=True))
