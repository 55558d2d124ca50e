"""Which inexact runtimes may serve a checkpoint. Owns the rule: their entities must be those of fp32.

Agreement by character would say nothing, because most characters are in no entity: F1 over entities is compared.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from nerloop.documents import Document
from nerloop.evaluation import evaluate
from nerloop.predictor import Predictor
from nerloop.runtime import INEXACT, TorchRuntime, build, milliseconds
from nerloop.tagger import Tagger, weights_key

logger = logging.getLogger(__name__)

MIN_TEXTS = 500
MIN_F1 = 0.995  # of the entities, against those of fp32
MAX_SCORE_DIFFERENCE = 0.02  # mean over the entities that both find


def admission(tagger: Tagger, texts: Iterable[str], cache: Path) -> dict[str, dict[str, float]]:
    """Return the inexact runtimes that may serve a tagger, each with what was measured.

    Fewer than 500 texts admit none. A runtime that is slower than fp32 on this machine is not tried, nor is any for
    a GRU, which has no inexact one that is faster.
    """
    if tagger.encoder.kind != "transformer":
        return {}  # before the texts are asked for: reading them may cost requests
    texts = list(texts)
    if len(texts) < MIN_TEXTS:
        return {}
    folder = cache / "runtimes" / weights_key(tagger)
    folder.mkdir(parents=True, exist_ok=True)
    exact = TorchRuntime(tagger)
    expected = _documents(Predictor(tagger, "", runtime=exact), texts)
    admitted = {}
    on_gpu = next(tagger.parameters()).device.type == "cuda"
    for name in ("torch-bf16",) if on_gpu else INEXACT:  # ONNX Runtime serves on the CPU alone
        runtime = build(name, tagger, folder)
        if milliseconds(runtime, tagger) >= milliseconds(exact, tagger):
            continue
        found = _documents(Predictor(tagger, "", runtime=runtime), texts)
        f1, difference = agreement(expected, found)
        logger.info(
            "%s against fp32 on %s texts: entity F1 %.4f, scores differ by %.4f", name, len(texts), f1, difference
        )
        if f1 >= MIN_F1 and difference <= MAX_SCORE_DIFFERENCE:
            admitted[name] = {"entity_f1": f1, "score_difference": difference, "texts": len(texts)}
    return admitted


def agreement(expected: Sequence[Document], found: Sequence[Document]) -> tuple[float, float]:
    """Return entity F1 of one runtime's predictions against another's, and the mean difference of their scores."""
    differences = []
    for one, other in zip(expected, found, strict=True):
        scores = {entity: entity.score or 0.0 for entity in other.entities}
        differences += [abs((e.score or 0.0) - scores[e]) for e in one.entities if e in scores]
    mean = sum(differences) / len(differences) if differences else 0.0
    return evaluate(expected, found).micro.f1, mean


def _documents(predictor: Predictor, texts: Sequence[str]) -> list[Document]:
    predictions = predictor.predict(texts)
    return [Document("", text, prediction.entities) for text, prediction in zip(texts, predictions, strict=True)]
