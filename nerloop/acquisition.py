"""Which task an annotator sees next, as the score Label Studio sorts by (lowest first). Owns the strategy.

The score of a task is not the confidence of its entities: those stay on the regions.
"""

from collections.abc import Sequence

from nerloop.split import hash_fraction, side_of


def serving_scores(
    texts: Sequence[str], confidences: Sequence[float], dev_share: float, gate_share: float
) -> list[float]:
    """Return one score in [0, 1] a text: its confidence on the training side, a random one where held out.

    Held-out texts must come up by chance, never because the model is unsure of them, or they would measure only what
    is hard. Their random score is drawn from the confidences of the others, so that they are spread over the order.
    """
    held_out = [side_of(text, dev_share, gate_share) != "train" for text in texts]
    others = sorted(confidence for confidence, out in zip(confidences, held_out, strict=True) if not out)

    def drawn(text: str) -> float:
        fraction = hash_fraction(text, salt="order:")
        return others[int(fraction * len(others))] if others else fraction

    return [
        round(drawn(text) if out else confidence, 6)
        for text, confidence, out in zip(texts, confidences, held_out, strict=True)
    ]
