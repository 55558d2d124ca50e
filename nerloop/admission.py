"""Which inexact runtimes may serve a checkpoint. Owns the rule: their entities must be those of fp32.

Agreement by character would say nothing, because most characters are in no entity: F1 over entities is compared.
"""

import copy
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nerloop.documents import Document
from nerloop.evaluation import evaluate
from nerloop.predictor import Predictor, found_in
from nerloop.runtime import INEXACT, TorchRuntime, build, graphs_folder, milliseconds
from nerloop.tagger import Tagger

logger = logging.getLogger(__name__)

MIN_TEXTS = 500
MIN_F1 = 0.995  # of the entities, against those of fp32
MAX_SCORE_DIFFERENCE = 0.02  # mean over the entities that both find


@dataclass(frozen=True)
class Admission:
    """The inexact runtimes that may serve a checkpoint, each with its figures, and why each of the others may not."""

    admitted: dict[str, dict[str, float]]
    refused: dict[str, str]


def all_refused(reason: str) -> Admission:
    """Return that no inexact runtime may serve, for one reason."""
    return Admission({}, dict.fromkeys(INEXACT, reason))


def admission(tagger: Tagger, texts: Iterable[str], cache: Path) -> Admission:
    """Return which inexact runtimes may serve a tagger, with what was measured of each.

    Fewer than 500 texts admit none. A runtime that is slower than fp32 on this machine is not tried, nor is any for
    a GRU, which has no inexact one that is faster. Raises `SettingsError` where the cache cannot be written.
    """
    if tagger.encoder.kind != "transformer":
        return all_refused("a GRU has no inexact runtime that is faster")  # reading the texts may cost requests
    texts = list(texts)
    if len(texts) < MIN_TEXTS:
        return all_refused(f"not measured: there were {len(texts)} texts, {MIN_TEXTS} are needed")
    folder = graphs_folder(cache, tagger)
    documents = [Document("", text) for text in texts]
    expected = found_in(documents, Predictor(tagger, "", runtime=TorchRuntime(tagger)))
    found = Admission({}, {})
    on_gpu = next(tagger.parameters()).device.type == "cuda"
    on_cpu = copy.deepcopy(tagger).cpu() if on_gpu else tagger
    for name in INEXACT:
        served = tagger if name.startswith("torch-") else on_cpu  # where ONNX Runtime serves, whatever trained it
        runtime = build(name, served, folder)
        spent, spent_exact = milliseconds(runtime, served), milliseconds(TorchRuntime(served), served)
        if spent >= spent_exact:
            found.refused[name] = (
                f"slower than fp32 where it was made: {spent:.2f} ms a text, fp32 {spent_exact:.2f} ms"
            )
            continue
        f1, difference = agreement(expected, found_in(documents, Predictor(served, "", runtime=runtime)))
        measured = f"on {len(texts)} texts entity F1 against fp32 {f1:.4f}, scores {difference:.4f} apart"
        logger.info("%s: %s", name, measured)
        if f1 >= MIN_F1 and difference <= MAX_SCORE_DIFFERENCE:
            found.admitted[name] = {"entity_f1": f1, "score_difference": difference, "texts": len(texts)}
        else:
            found.refused[name] = f"{measured}; needed: at least {MIN_F1}, at most {MAX_SCORE_DIFFERENCE}"
    return found


def agreement(expected: Sequence[Document], found: Sequence[Document]) -> tuple[float, float]:
    """Return entity F1 of one runtime's predictions against another's, and the mean difference of their scores."""
    differences = []
    for one, other in zip(expected, found, strict=True):
        scores = {entity: entity.score or 0.0 for entity in other.entities}
        differences += [abs((e.score or 0.0) - scores[e]) for e in one.entities if e in scores]
    mean = sum(differences) / len(differences) if differences else 0.0
    return evaluate(expected, found).micro.f1, mean
