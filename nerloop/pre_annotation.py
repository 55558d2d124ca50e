"""From texts to what annotators are shown: predictions under a project's label names, and the order of the tasks.

The ML backend answers with it and a refresh stores it, so that a task looks the same whichever way it was reached.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nerloop.acquisition import FIRST, Order, head_scores, serving_scores
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
    predictor: Predictor,
    config: LabelConfig,
    texts: Sequence[str],
    settings: Settings,
    terms: Gazetteer = NO_TERMS,
    *,
    feedback: Sequence[bool] = (),
) -> list[tuple[Prediction, float]]:
    """Return one (prediction, serving score) a text, in order; the lowest score is served first.

    Where `feedback` says so, one flag a text, a text comes before all others: somebody waits for its correction.

    Entities of which the model is less sure than its thresholds are hidden. Known terms fill the gaps that are left,
    except in held-out texts, which measure the model; those show nothing where the settings say that they are labelled
    blind.
    """
    shown_as = config.shown_as(predictor.labels)
    predictions = predictor.with_labels(shown_as).predict(texts)
    scores = serving_scores(texts, predictions, order_of(settings), knows_labels=bool(shown_as))
    terms_as = config.shown_as(terms.labels)
    made = []
    for text, one in zip(texts, _above_thresholds(predictions, predictor.tagger.thresholds, shown_as), strict=True):
        if side_of(text, settings.dev_share, settings.gate_share) == "train":
            made.append(replace(one, entities=terms.fill(text, one.entities, terms_as)))
        else:
            made.append(replace(one, entities=()) if settings.blind_held_out else one)
    if feedback:
        scores = [FIRST if is_first else score for score, is_first in zip(scores, feedback, strict=True)]
    return list(zip(made, scores, strict=True))


def rescore_head(
    predictor: Predictor,
    config: LabelConfig,
    texts: Sequence[str],
    predictions: Sequence[Prediction],
    scores: Sequence[float],
    settings: Settings,
) -> list[float]:
    """Return the serving scores of the texts that come next, dealt out among them anew (see `head_scores`)."""
    return head_scores(
        texts,
        predictions,
        scores,
        order_of(settings),
        lambda chosen: predictor.vectors(chosen).numpy(),
        knows_labels=bool(config.shown_as(predictor.labels)),
    )


def _above_thresholds(
    predictions: Sequence[Prediction], thresholds: Mapping[str, float], shown_as: Mapping[str, str]
) -> list[Prediction]:
    """Leave out what lies at or below the threshold of its label; of labels shown under one name the lowest counts."""
    lowest: dict[str, float] = {}
    for label, shown in shown_as.items():
        lowest[shown] = min(lowest.get(shown, 1.0), thresholds.get(label, -1.0))
    return [
        replace(one, entities=tuple(e for e in one.entities if e.score is None or e.score > lowest[e.label]))
        for one in predictions
    ]
