from typing import Any

from nerloop.documents import Entity
from nerloop.gazetteer import Gazetteer, Term
from nerloop.label_config import parse_label_config
from nerloop.label_memory import LABEL_MEMORY
from nerloop.tasks import TaskPrediction
from sync.memory import updated_result

CONFIG = parse_label_config(
    '<View><Labels name="label" toName="text"><Label value="DRUG"/><Label value="PER"/></Labels>'
    '<Text name="text" value="$text"/></View>'
)
TEXT = "张三服用😀布洛芬和阿司匹林"
MODELS = CONFIG.regions(TEXT, [Entity(0, 2, "PER", 0.9)])


def terms(**scores: float) -> Gazetteer:
    return Gazetteer({surface: Term("DRUG", score, LABEL_MEMORY) for surface, score in scores.items()})


def stored(*regions: dict[str, Any]) -> TaskPrediction:
    return TaskPrediction(7, "v1", 0.5, (), regions)


def updated(prediction: TaskPrediction, known: Gazetteer) -> list[dict[str, Any]] | None:
    return updated_result(prediction, TEXT, CONFIG, known)


def surfaces(result: list[dict[str, Any]] | None) -> list[str]:
    return [region["value"]["text"] for region in result or ()]


def test_new_surfaces_are_added_to_the_models_regions_which_stay_as_they_are() -> None:
    result = updated(stored(*MODELS), terms(布洛芬=0.75, 张三=0.75))

    assert result is not None
    assert result[:1] == MODELS
    assert [(r["value"]["text"], r["score"], r["meta"]) for r in result[1:]] == [
        ("布洛芬", 0.75, {"text": ["label memory"]})
    ]


def test_what_is_no_longer_known_is_taken_out() -> None:
    before = updated(stored(*MODELS), terms(布洛芬=0.75, 阿司匹林=0.75))

    assert surfaces(before) == ["张三", "布洛芬", "阿司匹林"]
    assert surfaces(updated(stored(*before or ()), terms(阿司匹林=0.75))) == ["张三", "阿司匹林"]
    assert updated(stored(*before or ()), terms()) == MODELS


def test_where_only_a_score_has_changed_nothing_is_written() -> None:
    before = updated(stored(*MODELS), terms(布洛芬=0.75))

    assert updated(stored(*before or ()), terms(布洛芬=0.8)) is None
    assert updated(stored(*MODELS), terms()) is None


def test_a_note_that_somebody_else_put_on_a_region_makes_it_none_of_ours() -> None:
    noted = [{**MODELS[0], "meta": {"text": ["seen"]}}]

    assert updated(stored(*noted), terms()) is None
    assert (updated(stored(*noted), terms(布洛芬=0.75)) or ())[0] == noted[0]
