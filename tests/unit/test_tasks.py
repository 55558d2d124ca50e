import logging

import pytest

from nerloop.documents import Document, Entity
from nerloop.label_config import EXAMPLE
from nerloop.tasks import Annotation, Project, Task, documents, read_project, read_task, task_text

PROJECT = Project(3, "新闻", EXAMPLE, "", 0)
TEXT = "😀张三在𠮷林\r\n"


def annotation(number, *spans, cancelled=False, ground_truth=False, at="2025-03-01T10:00:00.000001Z"):
    result = tuple(
        {"from_name": "label", "to_name": "text", "type": "labels", "value": {"start": a, "end": b, "labels": ["PER"]}}
        for a, b in spans
    )
    return Annotation(number, result, cancelled, ground_truth, at)


def spans_of(*annotations):
    (document,) = documents(PROJECT, [Task(17, TEXT, annotations)])
    return [(entity.start, entity.end) for entity in document.entities]


def test_an_annotated_task_is_a_document_with_its_exact_text():
    (document,) = documents(PROJECT, [Task(17, TEXT, (annotation(1, (1, 3), (4, 6)),))])

    assert document == Document("3-17", TEXT, (Entity(1, 3, "PER"), Entity(4, 6, "PER")))


def test_documents_come_in_the_order_of_the_tasks():
    tasks = [Task(number, TEXT, (annotation(number),)) for number in (5, 2, 9)]

    assert [document.id for document in documents(PROJECT, tasks)] == ["3-5", "3-2", "3-9"]


def test_the_ground_truth_speaks_for_a_task_even_if_it_is_older():
    truth = annotation(1, (1, 3), ground_truth=True, at="2025-03-01T09:00:00.000001Z")
    later = annotation(2, (4, 6), at="2025-03-01T11:00:00.000001Z")

    assert spans_of(truth, later) == spans_of(later, truth) == [(1, 3)]


def test_without_a_ground_truth_the_annotation_changed_last_speaks():
    changed = annotation(1, (1, 3), at="2025-03-02T08:00:00.000001Z")
    newer = annotation(2, (4, 6), at="2025-03-01T23:00:00.000001Z")

    assert spans_of(changed, newer) == spans_of(newer, changed) == [(1, 3)]


def test_of_annotations_changed_at_the_same_moment_the_newer_speaks():
    assert spans_of(annotation(9, (4, 6)), annotation(8, (1, 3))) == [(4, 6)]


def test_an_annotation_changed_on_the_full_second_is_older_than_one_changed_within_it():
    on_the_second = annotation(1, (1, 3), at="2025-03-01T10:00:00Z")  # as Label Studio writes no microseconds
    after_it = annotation(2, (4, 6), at="2025-03-01T10:00:00.500000Z")

    assert spans_of(on_the_second, after_it) == [(4, 6)]


def test_a_skipped_task_says_nothing():
    skipped = Task(17, TEXT, (annotation(1, cancelled=True),))

    assert list(documents(PROJECT, [skipped])) == []


def test_a_skip_never_speaks_where_somebody_submitted():
    skip = annotation(2, (4, 6), cancelled=True, ground_truth=True, at="2026-01-01T10:00:00.000001Z")

    assert spans_of(annotation(1, (1, 3)), skip) == [(1, 3)]


def test_a_submitted_annotation_without_regions_is_a_document_without_entities():
    assert list(documents(PROJECT, [Task(17, TEXT, (annotation(1),))])) == [Document("3-17", TEXT)]


def test_a_task_that_nobody_annotated_or_that_has_no_text_is_left_out():
    tasks = [Task(1, TEXT), Task(2, None, (annotation(1, (1, 3)),))]

    assert list(documents(PROJECT, tasks)) == []


def test_regions_with_wrong_offsets_are_left_out_with_a_warning_that_names_the_task(caplog):
    with caplog.at_level(logging.WARNING):
        found = spans_of(annotation(8, (1, 3), (4, 99), (-1, 2), (3, 3)))

    assert found == [(1, 3)]
    assert "Task 17, annotation 8: left out 3 regions" in caplog.text


def test_several_annotations_of_a_task_make_one_document():
    task = Task(17, TEXT, (annotation(1, (1, 3)), annotation(2, (4, 6)), annotation(3, (1, 3))))

    assert len(list(documents(PROJECT, [task]))) == 1


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


def test_a_task_of_the_api_is_read_with_its_annotations_and_predictions():
    row = {"id": 17, "data": {"text": TEXT}, "annotations": [ANNOTATION], "predictions": [PREDICTION], "drafts": [{}]}

    task = read_task(row, PROJECT.label_config)

    assert (task.id, task.text, task.has_drafts) == (17, TEXT, True)
    assert next(documents(PROJECT, [task])) == Document("3-17", TEXT, (Entity(1, 3, "PER"),))
    assert [(p.model_version, p.score, p.entities) for p in task.predictions] == [
        ("medical-v7", 0.25, (Entity(1, 3, "PER"),))
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"id": 17, "data": {"text": TEXT}},
        {"id": 17, "data": {"text": TEXT}, "annotations": [], "predictions": [], "drafts": []},
        {"id": 17, "data": {"text": TEXT, "meta": 1}, "annotations": None, "predictions": None},
    ],
)
def test_a_task_that_comes_without_annotations_and_predictions_has_none(row):
    assert read_task(row, PROJECT.label_config) == Task(17, TEXT)


def test_an_annotation_whose_result_is_null_says_that_there_is_no_entity():
    row = {"id": 17, "data": {"text": TEXT}, "annotations": [ANNOTATION | {"result": None}]}

    assert list(documents(PROJECT, [read_task(row, PROJECT.label_config)])) == [Document("3-17", TEXT)]


def test_a_project_that_shows_no_version_yet_shows_the_empty_one():
    row = {"id": 3, "title": "新闻", "label_config": EXAMPLE, "model_version": None, "task_number": None}

    assert read_project(row) == PROJECT
