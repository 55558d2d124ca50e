"""What models find, in the words of the REST API."""

from collections.abc import Sequence

from pydantic import BaseModel

from nerloop.documents import Prediction


class FoundEntity(BaseModel):
    """A span `[start, end)` in code points, its label, and the model's calibrated confidence in both."""

    start: int
    end: int
    label: str
    text: str
    score: float | None


class FoundDocument(BaseModel):
    """The entities of one text, and the model's confidence in the text as a whole."""

    entities: list[FoundEntity]
    confidence: float


class PredictResponse(BaseModel):
    """One document a text, in order, and the version that made them."""

    model_version: str
    documents: list[FoundDocument]


def found(model_version: str, texts: Sequence[str], predictions: Sequence[Prediction]) -> PredictResponse:
    """Return the answer that says what was found in texts, one prediction a text."""
    documents = [
        FoundDocument(
            entities=[
                FoundEntity(start=e.start, end=e.end, label=e.label, text=text[e.start : e.end], score=e.score)
                for e in prediction.entities
            ],
            confidence=prediction.confidence,
        )
        for text, prediction in zip(texts, predictions, strict=True)
    ]
    return PredictResponse(model_version=model_version, documents=documents)
