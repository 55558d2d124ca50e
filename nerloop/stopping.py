"""Whether labelling more still changes the model: agreement of successive versions, and what F1 gains. Advice only.

Owns the figures and the sentence; running the versions is for others.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nerloop.documents import Entity
from nerloop.promotions import STARTER_VERSION
from nerloop.versions import ModelVersion

STABLE_KAPPA = 0.8
"""Mean agreement over VERSIONS_IN_A_ROW from which predictions count as stable; docs/reports.md says why not 0.99."""
VERSIONS_IN_A_ROW = 3
SMALL_GAIN = 0.01
"""F1 for 100 more texts that is hardly worth labelling them."""


@dataclass(frozen=True)
class Point:
    """A version on the learning curve: `documents` it was trained on, its gate F1.

    `gain` is what F1 gained for 100 more documents over what it was to replace, with a 95 % interval, None where it had
    no more of them; `kappa` is the agreement with that one on texts nobody trained on, None where it was not measured.
    """

    version: str
    documents: int
    f1: float
    gain: float | None
    interval: tuple[float, float] | None
    kappa: float | None


@dataclass(frozen=True)
class Advice:
    """Whether the labels are probably enough, and the sentence that says by which figures."""

    enough: bool
    sentence: str


def kappa(first: Sequence[Collection[Entity]], second: Sequence[Collection[Entity]]) -> float | None:
    """Return Cohen's kappa of what two models find in the same texts, by character; None where neither finds anything.

    Only characters in an entity of either are counted: those that both leave out are most and would drown the rest.
    What a model says of a character are the labels of the entities there, and which begin there. Raises `ValueError`
    where the numbers of texts differ.
    """
    pairs = [
        (said[character], other[character])
        for said, other in zip(map(_said, first), map(_said, second), strict=True)
        for character in said.keys() | other.keys()
    ]
    if not pairs:
        return None
    agreed = sum(one == other for one, other in pairs) / len(pairs)
    ones, others = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    by_chance = sum(count * others[said] for said, count in ones.items()) / len(pairs) ** 2
    return 1.0 if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def learning_curve(versions: Sequence[ModelVersion]) -> tuple[Point, ...]:
    """Return a point for each version that was trained here, oldest first, promoted or not."""
    trained = sorted((v for v in versions if "train_documents" in v.metrics), key=lambda v: v.number)
    documents_of = {STARTER_VERSION: 0.0} | {str(v): v.metrics["train_documents"] for v in trained}
    return tuple(_point(version, documents_of) for version in trained)


def advice(curve: Sequence[Point]) -> Advice:
    """Say whether to go on labelling; `enough` only where predictions are stable and F1 surely gains little."""
    grown = [point for point in curve if point.interval is not None]  # the same texts again change nothing anyway
    if not grown:
        return Advice(False, "Go on labelling: no version has been trained on more texts than the one before.")
    kappas = [point.kappa for point in grown[-VERSIONS_IN_A_ROW:] if point.kappa is not None]
    stable = len(kappas) == VERSIONS_IN_A_ROW and sum(kappas) / len(kappas) >= STABLE_KAPPA
    gain, (low, high) = grown[-1].gain, grown[-1].interval or (0.0, 0.0)
    agreement = ", ".join(f"{one:.3f}" for one in kappas) or "–"
    figures = (
        f"the last versions agree with those before by kappa {agreement} (stable: {STABLE_KAPPA} on average of "
        f"{VERSIONS_IN_A_ROW}), and 100 more texts brought {gain:+.3f} of F1 (95 % interval {low:+.3f} to {high:+.3f}, "
        f"which is little where surely below {SMALL_GAIN})"
    )
    if stable and high < SMALL_GAIN:
        return Advice(True, f"More texts like these will probably change little: {figures}.")
    return Advice(False, f"Go on labelling: {figures}.")


def _said(entities: Collection[Entity]) -> defaultdict[int, tuple[tuple[str, bool], ...]]:
    """Return what a model says of each character that it finds something on."""
    said: defaultdict[int, tuple[tuple[str, bool], ...]] = defaultdict(tuple)
    for entity in sorted(entities):
        for character in range(entity.start, entity.end):
            said[character] += ((entity.label, character == entity.start),)
    return said


def _point(version: ModelVersion, documents_of: dict[str, float]) -> Point:
    documents = version.metrics["train_documents"]
    more = documents - documents_of.get(version.parent, documents)
    gain = interval = None
    if more > 0 and version.contests and version.contests[0].version == version.parent:
        contest = version.contests[0]
        gain = (contest.candidate_f1 - contest.f1) * 100 / more
        interval = contest.interval[0] * 100 / more, contest.interval[1] * 100 / more
    kappa_before = version.metrics.get("kappa")
    return Point(str(version), int(documents), version.metrics["gate_f1"], gain, interval, kappa_before)
