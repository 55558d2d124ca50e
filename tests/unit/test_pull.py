import random
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from nerloop.documents import Document, content_of, document_of, fingerprint
from nerloop.gazetteer import Gazetteer, Term
from nerloop.known_terms import NO_TERMS
from nerloop.project_state import Binding
from nerloop.settings import Settings
from nerloop.split import Split, side_of
from nerloop.tasks import Annotation, Project, Task
from sync.label_copy import forget_others
from sync.pull import export, new_labels, snapshot, unlabelled_documents

CONFIG = (
    '<View><Labels name="label" toName="text"><Label value="PER"/><Label value="LOC"/></Labels>'
    '<Text name="text" value="$text"/></View>'
)
PROJECT = Project(3, "新闻", CONFIG, "", 0)
TEXT = "张三在北京"
AT = "2025-03-01T10:00:00.000001Z"
CHANGED_AT = datetime.fromisoformat(AT).timestamp()


def region(start=0, end=2, label="PER", **changes):
    value = {"start": start, "end": end, "text": TEXT[start:end], "labels": [label]}
    return {"id": "r1", "from_name": "label", "to_name": "text", "type": "labels", "value": value} | changes


def annotation(number, *regions, **changes):
    return replace(Annotation(number, regions, False, False, AT), **changes)


BEFORE = (annotation(1, region()), annotation(2, region(3, 5, "LOC"), region()))


@pytest.fixture
def loop_of(task_server, tmp_path):
    """Makes collaborators on the tasks of some projects: all that a pull asks for."""

    def make(**tasks):
        return SimpleNamespace(label_studio=task_server(**tasks), settings=Settings(home=tmp_path / "home"))

    return make


@pytest.fixture
def taken(loop_of, tmp_path):
    """Takes a snapshot of some annotations of one task."""

    def take(*annotations, strategy="ground-truth"):
        loop = loop_of(p3=[Task(17, TEXT, annotations, updated_at=AT), Task(18, TEXT)])
        forget_others(loop.settings, [])
        return snapshot(loop, [Binding(3, "news", 50, "flat", strategy)], [PROJECT], tmp_path / "dataset.jsonl")

    return take


@pytest.fixture
def changed(loop_of, taken):
    """Returns which annotations have changed since two were decided on."""
    decided = taken(*BEFORE).manifest

    def compare(*annotations):
        loop = loop_of(p3=[Task(17, TEXT, annotations, updated_at=AT)])
        forget_others(loop.settings, [])
        return new_labels(loop, [PROJECT], decided).keys()

    return compare


def test_every_submitted_annotation_is_new_before_the_first_run(loop_of):
    loop = loop_of(p3=[Task(17, TEXT, BEFORE, updated_at=AT)])

    assert new_labels(loop, [PROJECT], {}) == {"1": CHANGED_AT, "2": CHANGED_AT}


def test_a_label_that_is_gone_has_no_time(loop_of):
    assert new_labels(loop_of(), [PROJECT], {"1": "f00"}) == {"1": None}


def test_nothing_is_new_while_nothing_happens(changed):
    assert changed(*BEFORE) == set()


def test_a_manifest_says_whose_annotations_it_names(taken):
    assert {document_of(entry) for entry in taken(*BEFORE).manifest.values()} == {"3-17"}


def test_manifests_of_before_documents_were_noted_make_no_label_new(loop_of, taken):
    before = {key: content_of(entry) for key, entry in taken(*BEFORE).manifest.items()}
    loop = loop_of(p3=[Task(17, TEXT, BEFORE, updated_at=AT)])

    assert new_labels(loop, [PROJECT], before) == {}


def test_saving_again_unchanged_is_no_new_label(changed):
    later = replace(BEFORE[0], updated_at="2025-03-09T10:00:00.000001Z")
    regions = (region(id="r7", score=0.9, origin="manual"), region(3, 5, "LOC", id="r8", meta={"text": ["x"]}))

    assert changed(later, annotation(2, *regions)) == set()


@pytest.mark.parametrize(
    "after",
    [
        annotation(1, region(0, 1)),
        annotation(1, region(label="LOC")),
        annotation(1, region(), region(3, 5, "LOC")),
        annotation(1),
        annotation(1, region(), ground_truth=True),
    ],
    ids=["other offsets", "other label", "one more region", "no region", "made the ground truth"],
)
def test_a_changed_annotation_counts_once(changed, after):
    assert changed(after, BEFORE[1]) == {"1"}


def test_a_created_annotation_counts_once_however_many_regions_it_has(changed):
    assert changed(*BEFORE, annotation(9, region(), region(3, 5, "LOC"))) == {"9"}


def test_a_deleted_annotation_counts_once(changed):
    assert changed(BEFORE[1]) == {"1"}


def test_an_annotation_created_and_deleted_between_two_looks_counts_zero(changed):
    created = changed(*BEFORE, annotation(9, region()))
    deleted = changed(*BEFORE)

    assert (created, deleted) == ({"9"}, set())


def test_an_annotation_replaced_by_the_same_one_counts_as_deleted_and_created(changed):
    assert changed(annotation(5, region()), BEFORE[1]) == {"1", "5"}


def test_a_skip_is_no_label(changed):
    assert changed(*BEFORE, annotation(9, was_cancelled=True)) == set()


def test_an_annotation_that_is_turned_into_a_skip_counts_once(changed):
    assert changed(replace(BEFORE[0], was_cancelled=True), BEFORE[1]) == {"1"}


def test_an_empty_annotation_is_a_label_too(changed):
    assert changed(*BEFORE, annotation(9)) == {"9"}


def test_a_result_that_holds_no_objects_stops_nothing(changed):
    assert changed(*BEFORE, annotation(9, "nonsense")) == {"9"}


def test_half_an_emoji_in_a_region_stops_nothing(changed):
    assert changed(*BEFORE, annotation(9, region(value={"start": 0, "end": 1, "text": "\ud83d"}))) == {"9"}


def test_a_snapshot_holds_documents_manifest_and_the_labels_of_the_config(taken):
    made = taken(*BEFORE)

    assert [document.id for document in made.documents] == ["3-17"]
    assert made.manifest.keys() == {"1", "2"}
    assert made.labels == ("LOC", "PER")
    assert made.fingerprint == fingerprint(made.documents)


def test_the_same_labels_make_the_same_bytes(taken):
    one = taken(*BEFORE)
    first = one.path.read_bytes()
    two = taken(*reversed(BEFORE))

    assert (two.path.read_bytes(), two.fingerprint) == (first, one.fingerprint)


def test_the_strategy_of_the_project_decides_and_conflicts_are_counted(taken):
    truth = annotation(1, region(), ground_truth=True, annotator=1)
    later = annotation(2, region(3, 5, "LOC"), updated_at="2025-03-02T10:00:00Z", annotator=2)

    made = {strategy: taken(truth, later, strategy=strategy) for strategy in ("ground-truth", "latest")}
    labels = {
        strategy: [entity.label for entity in taken(truth, later, strategy=strategy).documents[0].entities]
        for strategy in made
    }

    assert labels == {"ground-truth": ["PER"], "latest": ["LOC"]}
    assert {snapshot.conflicting_documents for snapshot in made.values()} == {1}


def test_several_projects_feed_one_snapshot(loop_of, tmp_path):
    other = Project(4, "社交", CONFIG.replace("LOC", "ORG"), "", 0)
    loop = loop_of(
        p3=[Task(1, TEXT, (annotation(1, region()),), updated_at=AT)],
        p4=[Task(1, TEXT, (annotation(2, region()),), updated_at=AT)],
    )

    made = snapshot(loop, [Binding(3, "m", 50), Binding(4, "m", 50)], [PROJECT, other], tmp_path / "dataset.jsonl")

    assert [document.id for document in made.documents] == ["3-1", "4-1"]
    assert made.manifest.keys() == {"1", "2"}
    assert made.labels == ("LOC", "ORG", "PER")


def test_a_snapshot_of_no_labels_is_empty(taken):
    made = taken()

    assert (made.documents, made.manifest, made.conflicting_documents) == ([], {}, 0)


def test_an_export_holds_what_a_snapshot_would_train_on(loop_of, taken, tmp_path):
    loop = loop_of(p3=[Task(17, TEXT, BEFORE, updated_at=AT), Task(18, TEXT)])

    number = export(loop, PROJECT, tmp_path / "labels.jsonl")

    assert number == 1
    assert (tmp_path / "labels.jsonl").read_bytes() == taken(*BEFORE).path.read_bytes()


WAITING = [Task(number, f"第{number}位患者{random.Random(number).choice(TEXT)}就诊") for number in range(1, 61)]
TRAIN = tuple(Document(f"3-{number}", TEXT) for number in range(100, 110))


def drawn(loop_of, sides, terms=NO_TERMS, **settings):
    loop = loop_of(p3=[*WAITING, Task(61, TEXT, (annotation(1, region()),), updated_at=AT), Task(62, None)])
    loop.settings = replace(loop.settings, **settings)
    loop.terms = SimpleNamespace(gazetteer=lambda model: terms if model == "news" else NO_TERMS)
    return unlabelled_documents(loop, "news", [PROJECT], sides)


def test_a_fine_tune_gets_a_number_of_unlabelled_documents_that_goes_by_the_labelled_ones(loop_of):
    found = drawn(loop_of, Split(TRAIN, (), (), 0))

    assert len(found) == 20
    assert {document.id for document in found} < {f"3-{task.id}" for task in WAITING}
    assert {side_of(document.text, 0.1, 0.1) for document in found} == {"train"}
    assert found == drawn(loop_of, Split(TRAIN, (), (), 0))
    assert [document.id for document in found] != sorted(document.id for document in found)  # not the oldest ones


def test_where_so_many_are_not_wanted_or_not_there_a_fine_tune_gets_none_or_all(loop_of):
    on_the_training_side = sum(side_of(task.text, 0.1, 0.1) == "train" for task in WAITING)

    assert drawn(loop_of, Split(TRAIN, (), (), 0), unlabelled_ratio=0) == ()
    assert len(drawn(loop_of, Split(TRAIN, (), (), 0), unlabelled_ratio=100)) == on_the_training_side < len(WAITING)


def test_unlabelled_documents_carry_what_the_gazetteer_finds_under_the_labels_of_their_project(loop_of):
    terms = Gazetteer({"患者": Term("PER"), "就诊": Term("TREATMENT")})

    found = drawn(loop_of, Split(TRAIN, (), (), 0), terms)

    assert {(document.text[e.start : e.end], e.label) for document in found for e in document.entities} == {
        ("患者", "PER")
    }
    assert all(document.entities for document in found)


def test_no_unlabelled_document_nearly_repeats_a_held_out_one(loop_of):
    without = drawn(loop_of, Split(TRAIN, (), (), 0))
    held_out = replace(without[0], text=f"{without[0].text}。")

    found = drawn(loop_of, Split(TRAIN, (), (held_out,), 0))

    assert without[0].id not in {document.id for document in found}
    assert len(found) == 20
