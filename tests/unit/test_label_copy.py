import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from nerloop.errors import BadInput, LabelStudioUnreachable
from nerloop.label_config import EXAMPLE
from nerloop.settings import Settings
from nerloop.tasks import Annotation, Project, Task
from sync import label_copy as copying
from sync.label_copy import forget, forget_others, label_copy

PROJECT = Project(3, "新闻", EXAMPLE, "", 0, "2025-01-01T00:00:00.000001Z")
START = datetime.fromisoformat("2025-03-01T10:00:00+00:00")
REGION = {"from_name": "label", "type": "labels", "value": {"start": 0, "end": 2, "labels": ["PER"]}}


def task(number, minutes, *regions, text="张三在北京", **changes):
    """A task that one annotator labelled, changed `minutes` after the start."""
    at = (START + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return replace(
        Task(number, text, (Annotation(100 + number, regions, False, False, at, 7),), updated_at=at), **changes
    )


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def server(task_server):
    """Ten annotated tasks, an hour apart, and one that nobody has annotated."""
    return task_server(p3=[*(task(number, 60 * number, REGION) for number in range(1, 11)), Task(11, "李四")])


def tasks(server, settings, project=PROJECT, **options):
    with label_copy(server, project, settings, **options) as copy:
        return list(copy.tasks())


def read_by(server, settings, **options):
    """Bring the copy up to date, check that it holds what the server does, and return which tasks were read for it."""
    server.read.clear()
    assert tasks(server, settings, **options) == server.annotated(3)
    return server.read


def path_of(settings):
    (path,) = settings.home.glob("labels/*/3.sqlite")
    return path


def test_the_first_time_every_annotated_task_is_read_and_then_none(server, settings):
    assert read_by(server, settings) == list(range(1, 11))
    assert not read_by(server, settings)


def test_only_what_has_changed_is_read_again(server, settings):
    tasks(server, settings)
    server.change(3, task(4, 700))
    server.change(3, task(11, 701, REGION))

    assert read_by(server, settings) == [4, 11]


def test_two_changes_at_the_same_moment_are_both_seen_though_one_is_seen_first(server, settings):
    tasks(server, settings)
    server.change(3, task(4, 700))
    tasks(server, settings)
    server.change(3, task(5, 700))

    assert read_by(server, settings) == [5]


def test_a_change_that_was_stamped_before_another_but_appears_after_it_is_seen(server, settings):
    tasks(server, settings)
    server.change(3, task(4, 700))
    tasks(server, settings)
    server.change(3, task(5, 699))

    assert read_by(server, settings) == [5]


def test_what_was_changed_last_is_listed_again_for_a_while_only(server, settings, monkeypatch):
    server.change(3, task(4, 601))  # a minute after another
    tasks(server, settings)
    tasks(server, settings)
    assert sorted(server.listed) == [4, 10]

    now = time.time()
    monkeypatch.setattr(copying.time, "time", lambda: now + 121)
    server.listed.clear()
    tasks(server, settings)
    assert server.listed == [4]


def test_deleted_tasks_and_annotations_and_skips_leave_the_copy(server, settings):
    tasks(server, settings)
    server.delete(3, 1)
    server.change(3, task(2, 700, annotations=()))
    server.change(3, task(3, 701, annotations=(replace(task(3, 701).annotations[0], was_cancelled=True),)))
    server.change(3, task(11, 702, REGION))

    assert read_by(server, settings) == [11]


def test_an_annotation_that_was_copied_to_tasks_without_touching_them_is_seen_when_the_list_is_compared(
    server, settings
):
    tasks(server, settings)
    before = server.stored["p3"][9]
    copied = replace(before.annotations[0], id=900)
    server.change(3, replace(before, annotations=(*before.annotations, copied), annotation_count=2))

    assert read_by(server, settings, exact=True) == [9]


def test_a_change_after_the_servers_clock_was_set_back_is_seen_when_the_whole_list_is_compared(server, settings):
    tasks(server, settings)
    server.change(3, task(9, 5))

    assert read_by(server, settings, exact=True) == [9]


def test_the_whole_list_is_compared_each_hour_and_when_our_clock_was_set_back(server, settings, monkeypatch):
    tasks(server, settings)
    server.change(3, task(9, 5))
    now = time.time()
    monkeypatch.setattr(copying.time, "time", lambda: now + 3601)
    assert read_by(server, settings) == [9]

    server.change(3, task(8, 6))
    monkeypatch.setattr(copying.time, "time", lambda: now - 3600)
    assert read_by(server, settings) == [8]


def test_a_text_is_kept_exactly_half_an_emoji_included(task_server, settings):
    server = task_server(p3=[task(1, 0, REGION, text="\ud83d 𠮷\r\n"), task(2, 1, text=None)])

    tasks(server, settings)

    assert tasks(server, settings) == server.annotated(3)


def test_labels_are_the_submitted_annotations_with_what_they_say_and_when_they_changed(server, settings):
    skip = replace(task(4, 0).annotations[0], id=999, was_cancelled=True)
    server.change(3, replace(task(4, 700), annotations=(*task(4, 700).annotations, skip)))

    with label_copy(server, PROJECT, settings) as copy:
        labels = {key: (content, at) for key, _, content, at in copy.labels()}

    assert labels.keys() == {str(100 + number) for number in range(1, 11)}
    assert labels["101"][0] == labels["102"][0] != labels["104"][0]
    assert labels["104"][1] == task(4, 700).updated_at


@pytest.mark.parametrize("damage", [b"no database", b"", None], ids=["overwritten", "empty", "torn"])
def test_a_damaged_copy_is_read_anew(server, settings, damage, caplog):
    tasks(server, settings)
    path = path_of(settings)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage is None else damage)

    assert read_by(server, settings) == list(range(1, 11))
    assert "The copy of project 3's labels is read anew" in caplog.text


def test_a_copy_whose_reading_was_interrupted_is_completed(server, settings, monkeypatch):
    monkeypatch.setattr(copying, "BATCH", 3)

    def interrupted(*_, **__):
        yield from server.annotated(3)[:7]
        raise LabelStudioUnreachable("gone")

    with monkeypatch.context() as patched, pytest.raises(LabelStudioUnreachable):
        patched.setattr(server, "tasks", interrupted)
        tasks(server, settings)

    assert read_by(server, settings) == [7, 8, 9, 10]


@pytest.mark.parametrize(
    "other",
    [
        replace(PROJECT, created_at="2025-02-02T00:00:00Z"),
        replace(PROJECT, label_config_xml=EXAMPLE.replace("$text", "$b")),
    ],
    ids=["a project made later under the same id", "another field holds the text"],
)
def test_the_copy_of_another_project_is_not_used(server, settings, other):
    tasks(server, settings)
    server.read.clear()

    tasks(server, settings, other)

    assert server.read == list(range(1, 11))


def test_a_copy_that_another_release_made_in_another_format_is_not_used(server, settings, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(copying, "FORMAT", 1)
        tasks(server, settings)

    assert read_by(server, settings) == list(range(1, 11))


def test_a_copy_is_for_its_owner_only(server, settings):
    tasks(server, settings)

    assert path_of(settings).stat().st_mode & 0o077 == 0
    assert path_of(settings).parent.stat().st_mode & 0o077 == 0


def test_a_disk_that_refuses_is_named(server, settings):
    settings.home.joinpath("labels").touch()

    with pytest.raises(BadInput, match="cannot use the copy of project 3's labels"):
        tasks(server, settings)


def test_a_forgotten_document_leaves_no_trace_in_the_file(server, settings):
    server.change(3, task(4, 700, REGION, text="患者王建国"))
    tasks(server, settings)
    server.delete(3, 4)

    forget(settings, 3, 4)

    assert "王建国".encode() not in path_of(settings).read_bytes()
    with closing(sqlite3.connect(path_of(settings))) as database:
        assert database.execute("SELECT count(*) FROM task").fetchone() == (9,)
        assert database.execute("SELECT count(*) FROM label").fetchone() == (9,)


def test_forgetting_where_there_is_no_copy_does_nothing(settings):
    forget(settings, 3, 4)

    assert not list(settings.home.glob("labels/*"))


def test_copies_of_projects_that_are_gone_are_removed(server, settings):
    tasks(server, settings)
    tasks(server, settings, replace(PROJECT, id=4))

    forget_others(settings, [3])

    assert [path.name for path in settings.home.glob("labels/*/*.sqlite")] == ["3.sqlite"]
