import pytest

from nerloop.annotations import labelled
from nerloop.documents import Document, Entity
from nerloop.label_config import EXAMPLE
from nerloop.tasks import Project, Task, read_project, read_task, task_text

PROJECT = Project(3, "新闻", EXAMPLE, "", 0)
TEXT = "😀张三在𠮷林\r\n"


@pytest.mark.parametrize("data", [{}, {"text": None}, {"text": 5}, {"text": ["张三"]}, {"other": "张三"}])
def test_a_field_that_is_missing_or_holds_no_string_is_no_text(data):
    assert task_text(data, "text") is None


@pytest.mark.parametrize("text", ["", "  张三\r\n", "😀"])
def test_a_text_is_taken_exactly_as_it_is(text):
    assert task_text({"text": text}, "text") == text


REGION = {
    "id": "r1",
    "from_name": "label",
    "to_name": "text",
    "type": "labels",
    "value": {"start": 1, "end": 3, "text": "张三", "labels": ["PER"]},
}
ANNOTATION = {
    "id": 8,
    "result": [REGION],
    "was_cancelled": False,
    "ground_truth": True,
    "updated_at": "2025-03-01T10:00:00.000001Z",
    "lead_time": 3.5,
}
PREDICTION = {"id": 4, "model_version": "medical-v7", "score": 0.25, "result": [REGION | {"score": 0.9}]}


@pytest.mark.parametrize(
    ("user", "annotator"), [(5, 5), ({"id": 5, "email": "a@example.com"}, 5), (None, None), ("x", None)]
)
def test_a_task_of_the_api_is_read_with_its_annotations_and_predictions(user, annotator):
    made = ANNOTATION | {"completed_by": user}
    row = {"id": 17, "data": {"text": TEXT}, "annotations": [made], "predictions": [PREDICTION], "draft_exists": True}

    task = read_task(row, PROJECT.label_config)

    assert (task.id, task.text, task.has_drafts) == (17, TEXT, True)
    assert task.annotations[0].annotator == annotator
    assert labelled(PROJECT, task, "latest").document == Document("3-17", TEXT, (Entity(1, 3, "PER"),))
    assert [(p.model_version, p.score, p.entities) for p in task.predictions] == [
        ("medical-v7", 0.25, (Entity(1, 3, "PER"),))
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"id": 17, "data": {"text": TEXT}},
        {"id": 17, "data": {"text": TEXT}, "annotations": [], "predictions": [], "draft_exists": False},
        {"id": 17, "data": {"text": TEXT, "meta": 1}, "annotations": None, "predictions": None},
    ],
)
def test_a_task_that_comes_without_annotations_and_predictions_has_none(row):
    assert read_task(row, PROJECT.label_config) == Task(17, TEXT)


def test_an_annotation_whose_result_is_null_says_that_there_is_no_entity():
    row = {"id": 17, "data": {"text": TEXT}, "annotations": [ANNOTATION | {"result": None}]}

    assert labelled(PROJECT, read_task(row, PROJECT.label_config), "latest").document == Document("3-17", TEXT)


def test_a_project_that_shows_no_version_yet_shows_the_empty_one():
    row = {"id": 3, "title": "新闻", "label_config": EXAMPLE, "model_version": None, "task_number": None}

    assert read_project(row) == PROJECT
