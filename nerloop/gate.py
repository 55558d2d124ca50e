"""Whether a candidate may replace what is in production. Owns the rule; both were scored on the same gate documents."""

from dataclasses import dataclass

from nerloop.evaluation import Evaluation


@dataclass(frozen=True)
class Decision:
    """The verdict with the sentence people read."""

    promote: bool
    reason: str


def decide(candidate: Evaluation, current: Evaluation, current_version: str) -> Decision:
    """Promote when the candidate's micro-F1 is at least that of the version in production."""
    numbers = (
        f"micro-F1 {current.micro.f1:.3f} ({current_version}) → {candidate.micro.f1:.3f} "
        f"on {candidate.documents} gate documents with {candidate.micro.support} entities"
    )
    if not candidate.micro.support:
        return Decision(False, f"no entity on {candidate.documents} gate documents to judge by; kept {current_version}")
    if candidate.micro.f1 >= current.micro.f1:
        return Decision(True, numbers)
    return Decision(False, f"{numbers}; kept {current_version}")
