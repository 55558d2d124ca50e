from dataclasses import replace

import pytest

from nerloop.documents import content_of, document_of, fingerprint, read_jsonl
from nerloop.tasks import Annotation, Project, Task
from sync.pull import export, new_labels, snapshot

CONFIG = (
    '<View><Labels name="label" toName="text"><Label value="PER"/><Label value="LOC"/></Labels>'
    '<Text name="text" value="$text"/></View>'
)
PROJECT = Project(3, "新闻", CONFIG, "", 0)
TEXT = "张三在北京"


class Server:
    """The tasks of some projects, as Label Studio would list them."""

    def __init__(self, **tasks):
        self._tasks = tasks

    def tasks(self, project, *, annotated):
        found = self._tasks.get(f"p{project.id}", ())
        return iter([task for task in found if bool(task.annotations) is annotated])


def region(start=0, end=2, label="PER", **changes):
    value = {"start": start, "end": end, "text": TEXT[start:end], "labels": [label]}
    return {"id": "r1", "from_name": "label", "to_name": "text", "type": "labels", "value": value} | changes


def annotation(number, *regions, **changes):
    return replace(Annotation(number, regions, False, False, "2025-03-01T10:00:00.000001Z"), **changes)


def server(*annotations):
    return Server(p3=[Task(17, TEXT, annotations), Task(18, TEXT)])


BEFORE = (annotation(1, region()), annotation(2, region(3, 5, "LOC"), region()))
DECIDED = snapshot(server(*BEFORE), [PROJECT]).manifest


def changed(*annotations):
    return new_labels(server(*annotations), [PROJECT], DECIDED)


def test_every_submitted_annotation_is_new_before_the_first_run():
    assert new_labels(server(*BEFORE), [PROJECT], {}) == {"1", "2"}


def test_nothing_is_new_while_nothing_happens():
    assert changed(*BEFORE) == set()


def test_a_manifest_says_whose_annotations_it_names():
    assert {document_of(entry) for entry in DECIDED.values()} == {"3-17"}


def test_manifests_of_before_documents_were_noted_make_no_label_new():
    before = {key: content_of(entry) for key, entry in DECIDED.items()}

    assert new_labels(server(*BEFORE), [PROJECT], before) == set()
    assert new_labels(server(BEFORE[0]), [PROJECT], before) == {"2"}


def test_saving_again_unchanged_is_no_new_label():
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
def test_a_changed_annotation_counts_once(after):
    assert changed(after, BEFORE[1]) == {"1"}


def test_a_created_annotation_counts_once_however_many_regions_it_has():
    assert changed(*BEFORE, annotation(9, region(), region(3, 5, "LOC"))) == {"9"}


def test_a_deleted_annotation_counts_once():
    assert changed(BEFORE[1]) == {"1"}


def test_an_annotation_created_and_deleted_between_two_looks_counts_zero():
    created = changed(*BEFORE, annotation(9, region()))
    deleted = changed(*BEFORE)

    assert (created, deleted) == ({"9"}, set())


def test_an_annotation_replaced_by_the_same_one_counts_as_deleted_and_created():
    assert changed(annotation(5, region()), BEFORE[1]) == {"1", "5"}


def test_a_skip_is_no_label():
    assert changed(*BEFORE, annotation(9, was_cancelled=True)) == set()


def test_an_annotation_that_is_turned_into_a_skip_counts_once():
    assert changed(replace(BEFORE[0], was_cancelled=True), BEFORE[1]) == {"1"}


def test_an_empty_annotation_is_a_label_too():
    assert changed(*BEFORE, annotation(9)) == {"9"}


def test_a_result_that_holds_no_objects_stops_nothing():
    assert changed(*BEFORE, annotation(9, "nonsense")) == {"9"}


def test_half_an_emoji_in_a_region_stops_nothing():
    assert changed(*BEFORE, annotation(9, region(value={"start": 0, "end": 1, "text": "\ud83d"}))) == {"9"}


def test_a_snapshot_holds_documents_manifest_and_the_labels_of_the_config():
    taken = snapshot(server(*BEFORE), [PROJECT])

    assert [document.id for document in taken.documents] == ["3-17"]
    assert taken.manifest.keys() == {"1", "2"}
    assert taken.labels == ("LOC", "PER")
    assert taken.fingerprint == fingerprint(taken.documents)


def test_several_projects_feed_one_snapshot():
    other = Project(4, "社交", CONFIG.replace("LOC", "ORG"), "", 0)
    both = Server(p3=[Task(1, TEXT, (annotation(1, region()),))], p4=[Task(1, TEXT, (annotation(2, region()),))])

    taken = snapshot(both, [PROJECT, other])

    assert [document.id for document in taken.documents] == ["3-1", "4-1"]
    assert taken.manifest.keys() == {"1", "2"}
    assert taken.labels == ("LOC", "ORG", "PER")


def test_a_snapshot_of_no_labels_is_empty():
    taken = snapshot(server(), [PROJECT])

    assert (taken.documents, taken.manifest) == ((), {})


def test_an_export_holds_what_a_snapshot_would_train_on(tmp_path):
    number = export(server(*BEFORE), PROJECT, tmp_path / "labels.jsonl")

    assert number == 1
    assert tuple(read_jsonl(tmp_path / "labels.jsonl")) == snapshot(server(*BEFORE), [PROJECT]).documents
