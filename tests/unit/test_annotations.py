import logging

import pytest

from nerloop.annotations import Labelled, labelled
from nerloop.documents import Document, Entity
from nerloop.label_config import EXAMPLE
from nerloop.tasks import Annotation, Project, Task

PROJECT = Project(3, "新闻", EXAMPLE, "", 0)
TEXT = "😀张三在𠮷林\r\n"
STRATEGIES = pytest.mark.parametrize("strategy", ["latest", "ground-truth", "majority"])


def annotation(number, *spans, cancelled=False, ground_truth=False, at="2025-03-01T10:00:00.000001Z", by=None):
    result = tuple(
        {"from_name": "label", "to_name": "text", "type": "labels", "value": {"start": a, "end": b, "labels": ["PER"]}}
        for a, b in spans
    )
    return Annotation(number, result, cancelled, ground_truth, at, by)


def read(*annotations, strategy="ground-truth"):
    return labelled(PROJECT, Task(17, TEXT, annotations), strategy)


def spans_of(*annotations, strategy="ground-truth"):
    return [(entity.start, entity.end) for entity in read(*annotations, strategy=strategy).document.entities]


@STRATEGIES
def test_an_annotated_task_is_a_document_with_its_exact_text(strategy):
    found = read(annotation(1, (1, 3), (4, 6)), strategy=strategy)

    assert found == Labelled(Document("3-17", TEXT, (Entity(1, 3, "PER"), Entity(4, 6, "PER"))))


@STRATEGIES
def test_a_skipped_task_says_nothing(strategy):
    assert read(annotation(1, cancelled=True), strategy=strategy) is None


@STRATEGIES
def test_a_skip_never_speaks_where_somebody_submitted(strategy):
    skip = annotation(2, (4, 6), cancelled=True, ground_truth=True, at="2026-01-01T10:00:00.000001Z")

    assert spans_of(annotation(1, (1, 3)), skip, strategy=strategy) == [(1, 3)]


@STRATEGIES
def test_a_submitted_annotation_without_regions_is_a_document_without_entities(strategy):
    assert read(annotation(1), strategy=strategy) == Labelled(Document("3-17", TEXT))


def test_a_task_that_nobody_annotated_or_that_has_no_text_is_no_document():
    assert labelled(PROJECT, Task(1, TEXT), "latest") is None
    assert labelled(PROJECT, Task(2, None, (annotation(1, (1, 3)),)), "latest") is None


def test_the_ground_truth_speaks_for_a_task_even_if_it_is_older():
    truth = annotation(1, (1, 3), ground_truth=True, at="2025-03-01T09:00:00.000001Z")
    later = annotation(2, (4, 6), at="2025-03-01T11:00:00.000001Z")

    assert spans_of(truth, later) == spans_of(later, truth) == [(1, 3)]
    assert spans_of(truth, later, strategy="latest") == [(4, 6)]


@pytest.mark.parametrize("strategy", ["latest", "ground-truth"])
def test_without_a_ground_truth_the_annotation_changed_last_speaks(strategy):
    changed = annotation(1, (1, 3), at="2025-03-02T08:00:00.000001Z")
    newer = annotation(2, (4, 6), at="2025-03-01T23:00:00.000001Z")

    assert spans_of(changed, newer, strategy=strategy) == spans_of(newer, changed, strategy=strategy) == [(1, 3)]


def test_of_annotations_changed_at_the_same_moment_the_newer_speaks():
    assert spans_of(annotation(9, (4, 6)), annotation(8, (1, 3))) == [(4, 6)]


def test_an_annotation_changed_on_the_full_second_is_older_than_one_changed_within_it():
    on_the_second = annotation(1, (1, 3), at="2025-03-01T10:00:00Z")  # as Label Studio writes no microseconds
    after_it = annotation(2, (4, 6), at="2025-03-01T10:00:00.500000Z")

    assert spans_of(on_the_second, after_it) == [(4, 6)]


def test_the_majority_keeps_the_entities_that_more_than_half_of_the_annotators_have():
    three = annotation(1, (1, 3), (4, 6), by=1), annotation(2, (1, 3), by=2), annotation(3, (1, 2), (4, 6), by=3)

    assert spans_of(*three, strategy="majority") == [(1, 3), (4, 6)]


def test_of_two_annotators_both_must_agree():
    assert spans_of(annotation(1, (1, 3), (4, 6), by=1), annotation(2, (1, 3), by=2), strategy="majority") == [(1, 3)]


def test_an_annotator_has_one_vote_their_latest_annotation():
    revised = annotation(1, (4, 6), by=1), annotation(2, (1, 3), by=1, at="2025-03-02T10:00:00Z")
    other = annotation(3, (1, 3), by=2)

    assert spans_of(*revised, other, strategy="majority") == [(1, 3)]


def test_annotations_of_unknown_annotators_are_votes_of_their_own():
    assert spans_of(annotation(1, (1, 3)), annotation(2, (1, 3)), annotation(3), strategy="majority") == [(1, 3)]


def test_a_ground_truth_decides_alone_against_the_majority():
    truth = annotation(1, (4, 6), ground_truth=True, by=1)
    others = annotation(2, (1, 3), by=2), annotation(3, (1, 3), by=3)

    assert spans_of(truth, *others, strategy="majority") == [(4, 6)]


@STRATEGIES
def test_annotators_who_disagree_make_a_conflicting_document(strategy):
    assert read(annotation(1, (1, 3), by=1), annotation(2, by=2), strategy=strategy).conflicting
    assert not read(annotation(1, (1, 3), by=1), annotation(2, (1, 3), by=2), strategy=strategy).conflicting


def test_an_annotator_who_changed_their_mind_is_no_conflict():
    assert not read(annotation(1, (1, 3), by=1), annotation(2, by=1, at="2025-03-02T10:00:00Z")).conflicting


def test_regions_with_wrong_offsets_are_left_out_with_a_warning_that_names_the_task(caplog):
    with caplog.at_level(logging.WARNING):
        found = spans_of(annotation(8, (1, 3), (4, 99), (-1, 2), (3, 3)))

    assert found == [(1, 3)]
    assert "Task 17, annotation 8: left out 3 regions" in caplog.text
