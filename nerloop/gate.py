"""Whether a candidate may replace what is in production. Owns the rules; docs/decisions/0009 says why they are these.

Everybody was run on the same gate documents in the same run. Running them and storing the decision is for others.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nerloop.comparison import compare
from nerloop.documents import Document
from nerloop.evaluation import Evaluation, Scores, evaluate
from nerloop.promotions import STARTER_VERSION

TOLERANCE = 0.01
"""F1 in [0, 1] that a candidate may lose and still count as not worse."""
MAX_CHANCE = 0.10
"""How likely a loss beyond the tolerance may be at most."""
MIN_DOCUMENTS = 30
"""Documents from which the bootstrap over documents says something; fewer repeat each other in every resample."""
MIN_ENTITIES = 100
"""Entities from which one of them is at most a hundredth of recall, which is the tolerance."""
MIN_LABEL_ENTITIES = 30
"""Entities from which a label's own F1 says something: below, three entities are more than a tenth of its recall."""


@dataclass(frozen=True)
class Rival:
    """A version that a candidate is compared with: what it found in the gate documents, and the labels it knows."""

    version: str
    labels: frozenset[str]
    found: Sequence[Document]


@dataclass(frozen=True)
class Contest:
    """A candidate against one version: strict micro-F1 of both over `labels`, on the same documents.

    `interval` holds 95 % of the resampled differences, candidate - version; `p_drop` is the share of them below
    -TOLERANCE. `label_changes` is the same difference of each label with at least MIN_LABEL_ENTITIES.
    """

    version: str
    labels: tuple[str, ...]
    entities: int
    f1: float
    candidate_f1: float
    interval: tuple[float, float]
    p_drop: float
    label_changes: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        low, high = self.interval
        said = (
            f"against {self.version}: micro-F1 {self.f1:.3f} → {self.candidate_f1:.3f}, 95 % interval of the "
            f"difference {low:+.3f} to {high:+.3f}, P(drop > {TOLERANCE}) {self.p_drop:.3f}"
        )
        changes = ", ".join(f"{label} {change:+.3f}" for label, change in self.label_changes.items())
        return f"{said}; {changes}" if changes else said

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Contest":
        """Read what `asdict` and JSON have made of one."""
        low, high = row["interval"]
        return cls(**{**row, "labels": tuple(row["labels"]), "interval": (low, high)})


@dataclass(frozen=True)
class Decision:
    """The verdict with the sentence people read and the numbers behind it, production's first.

    `provisional`: there was too little to judge by, and micro-F1 alone decided. `forced_by` and `forced_why` are set
    where somebody promoted what the gate refused.
    """

    promote: bool
    reason: str
    provisional: bool = False
    contests: tuple[Contest, ...] = ()
    forced_by: str = ""
    forced_why: str = ""

    def forced(self, by: str, why: str) -> "Decision":
        """Return the decision that somebody took against the gate; the same where the gate promotes anyway."""
        if self.promote:
            return self
        reason = f"{self.reason}; promoted all the same: forced by {by}, because: {why}"
        return replace(self, promote=True, reason=reason, forced_by=by, forced_why=why)

    def rows(self) -> list[dict[str, Any]]:
        """Return the contests as what JSON can hold."""
        return [asdict(contest) for contest in self.contests]


def decide(
    gold: Sequence[Document],
    found: Sequence[Document],
    labels: Collection[str],
    production: Rival,
    best: Rival | None = None,
    label_margin: float = 0.1,
) -> Decision:
    """Judge what a candidate found in the gate documents by what production and the best version ever found there.

    `labels` are those the projects have today, and all labels here are the projects'. The candidate is compared on
    what production knows of them; on all where the starter serves or production knows none. `best` is None where it
    is production itself, or cannot be read.
    """
    known = _known(production, labels)
    new = sorted(set(labels) - known)
    whole = evaluate(gold, found, list(labels))
    entities = sum(whole.per_label[label].support for label in known)
    if not entities:
        of_known = f" of the labels that {production.version} knows too ({', '.join(sorted(known))})" if new else ""
        return Decision(False, f"refused because no entity{of_known} is on {len(gold)} gate documents to judge by")
    rivals = [production]
    if best is not None and best.labels & set(labels):
        rivals.append(best)
    contests = tuple(_contest(gold, found, rival, _known(rival, labels)) for rival in rivals)
    provisional = len(gold) < MIN_DOCUMENTS or entities < MIN_ENTITIES
    refusal = _refusal(contests, provisional, label_margin)
    parts = [_numbers(contests[0], len(gold)), *_about_new(new, whole), *_chances(contests, provisional)]
    return Decision(not refusal, "; ".join([*parts, *filter(None, [refusal])]), provisional, contests)


def _known(rival: Rival, labels: Collection[str]) -> frozenset[str]:
    """Return the labels that a version can be compared on.

    The starter was promoted by nobody: a first model is judged on the whole task, where labels that the starter does
    not know are missed by it. Later a new label must not make up for what old ones lose.
    """
    shared = rival.labels & set(labels)
    return shared if shared and rival.version != STARTER_VERSION else frozenset(labels)


def _contest(gold: Sequence[Document], found: Sequence[Document], rival: Rival, labels: frozenset[str]) -> Contest:
    gold, found, before = (_only(documents, labels) for documents in (gold, found, rival.found))
    compared = compare(gold, before, found)
    names = sorted(labels)
    then, now = evaluate(gold, before, names).per_label, evaluate(gold, found, names).per_label
    return Contest(
        version=rival.version,
        labels=tuple(names),
        entities=sum(scores.support for scores in then.values()),
        f1=compared.first_f1,
        candidate_f1=compared.second_f1,
        interval=compared.interval,
        p_drop=compared.probability_worse(TOLERANCE),
        label_changes={
            label: round(now[label].f1 - then[label].f1, 6)
            for label in names
            if then[label].support >= MIN_LABEL_ENTITIES
        },
    )


def _only(documents: Sequence[Document], labels: frozenset[str]) -> list[Document]:
    return [
        replace(document, entities=tuple(entity for entity in document.entities if entity.label in labels))
        for document in documents
    ]


def _refusal(contests: Sequence[Contest], provisional: bool, label_margin: float) -> str:
    """Return which rule a candidate breaks, or an empty string."""
    if contests[0].candidate_f1 < contests[0].f1:
        return "refused because micro-F1 is lower"
    if provisional:
        return ""
    for contest in contests:
        if contest.p_drop > MAX_CHANCE:
            return (
                f"refused because a drop of more than {TOLERANCE} against {contest.version} is too likely "
                f"({contest.p_drop:.3f}, at most {MAX_CHANCE:.2f} is allowed)"
            )
    for contest in contests:
        drops = [label for label, change in contest.label_changes.items() if change < -label_margin]
        if drops and contest.version != STARTER_VERSION:  # its idea of a label is LAC's, and nobody chose it
            named = ", ".join(f"{label} {contest.label_changes[label]:+.3f}" for label in drops)
            return f"refused because of labels that drop against {contest.version}: {named} (at most {label_margin})"
    return ""


def _numbers(contest: Contest, documents: int) -> str:
    return (
        f"micro-F1 {contest.f1:.3f} ({contest.version}) → {contest.candidate_f1:.3f} "
        f"on {documents} gate documents with {contest.entities} entities"
    )


def _about_new(new: Sequence[str], whole: Evaluation) -> list[str]:
    if not new:
        return []
    own = ", ".join(
        f"{label} F1 {whole.per_label[label].f1:.3f} of {_entities(whole.per_label[label])}" for label in new
    )
    return [f"not counting new labels, which cannot drop: {own}"]


def _entities(scores: Scores) -> str:
    return "1 entity" if scores.support == 1 else f"{scores.support} entities"


def _chances(contests: Sequence[Contest], provisional: bool) -> list[str]:
    """Say what the resamples say of production and, with its score, of the best version ever."""
    chances = [f"P(drop > {TOLERANCE}) {contests[0].p_drop:.3f}"]
    chances += [f"{best.p_drop:.3f} against the best ever, {best.version} ({best.f1:.3f})" for best in contests[1:]]
    said = ", ".join(chances)
    if not provisional:
        return [said]
    return [
        f"provisional: fewer than {MIN_DOCUMENTS} documents or {MIN_ENTITIES} entities, so that micro-F1 against "
        f"{contests[0].version} alone decided ({said}, which cannot be relied on)"
    ]
