"""A copy of a project's annotated tasks on this machine, so that only what has changed is read again. Owns its files.

Label Studio stays the truth: a copy may be removed at any time and is then read anew. One process at a time uses it.
"""

import hashlib
import json
import logging
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from nerloop.errors import BadInput
from nerloop.label_studio import LabelStudio
from nerloop.settings import Settings
from nerloop.tasks import Annotation, Project, Task

logger = logging.getLogger(__name__)

T = TypeVar("T")

EXACT_EVERY_SECONDS = 3600
# Label Studio stamps a task before it commits, so that for a while a task may appear behind one stamped later.
OVERLAP_SECONDS = 120
BATCH = 300

SCHEMA = """
CREATE TABLE about (source TEXT NOT NULL, exact_at REAL NOT NULL, newest TEXT NOT NULL, newest_seen_at REAL NOT NULL);
CREATE TABLE task (
    id INTEGER PRIMARY KEY, updated_at TEXT NOT NULL, annotation_count INTEGER NOT NULL, content BLOB NOT NULL
);
CREATE TABLE label (
    id INTEGER PRIMARY KEY, task INTEGER NOT NULL REFERENCES task ON DELETE CASCADE, hash TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX label_of_task ON label (task);
"""
# Of the tables and of the tasks in them; a copy that another release made in another format is read anew.
FORMAT = zlib.crc32(repr([SCHEMA, *(f.name for kind in (Task, Annotation) for f in fields(kind))]).encode()) >> 1


class LabelCopy:
    """The copy of one project, as it was when it was opened by `label_copy`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def tasks(self) -> Iterator[Task]:
        """Yield the annotated tasks by id, without predictions and drafts."""
        for (content,) in self._database.execute("SELECT content FROM task ORDER BY id"):
            yield _unpack(content)

    def labels(self) -> Iterator[tuple[str, int, str, str]]:
        """Yield the id, task, content hash and time of the last change of each submitted annotation."""
        yield from self._database.execute("SELECT CAST(id AS TEXT), task, hash, updated_at FROM label ORDER BY id")


@contextmanager
def label_copy(
    label_studio: LabelStudio, project: Project, settings: Settings, *, exact: bool = False
) -> Iterator[LabelCopy]:
    """Bring a project's copy up to date and lend it; other processes of this machine wait meanwhile.

    What Label Studio says has changed since is read. That depends on its clock, so that `exact` compares the whole
    list of annotated tasks instead, as happens each hour and whenever their number is not right. Raises what Label
    Studio raises, and `BadInput` where the disk refuses.
    """
    path = _path(settings, project.id)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(path.with_suffix(".lock")), closing(_open(path, project)) as database:
            try:
                _update(database, label_studio, project, exact=exact)
                yield LabelCopy(database)
            except sqlite3.DatabaseError:
                path.unlink(missing_ok=True)
                raise
    except (sqlite3.Error, OSError) as error:
        raise BadInput(
            f"cannot use the copy of project {project.id}'s labels, {path}: {error}; free space or correct the "
            "permissions there, it is read anew the next time"
        ) from error


def forget(settings: Settings, project_id: int, task_id: int) -> None:
    """Remove a task from the copy of its project, leaving no trace in the file; none is needed.

    To be called after the task has left Label Studio, from where it would otherwise be read again.
    """
    path = _path(settings, project_id)
    if not path.exists():
        return
    with FileLock(path.with_suffix(".lock")):
        try:
            with closing(_connect(path)) as database:
                database.execute("DELETE FROM task WHERE id = ?", (task_id,))
                database.commit()
                database.execute("VACUUM")
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)


def forget_others(settings: Settings, project_ids: Iterable[int]) -> None:
    """Remove the copies of all projects but these."""
    kept = set(project_ids)
    for path in _path(settings, 0).parent.glob("*.sqlite"):
        if int(path.stem) not in kept:
            with FileLock(path.with_suffix(".lock")):
                path.unlink(missing_ok=True)
            logger.info("Removed the copy of project %s's labels, which is no longer connected", path.stem)


def content_hash(annotation: Annotation) -> str:
    """Hash what an annotation says, so that saving it again unchanged is no new label."""
    said = sorted(
        json.dumps([region.get("from_name"), region.get("value")], sort_keys=True, ensure_ascii=False)
        for region in annotation.result
        if isinstance(region, dict)
    )
    content = "\n".join([*said, str(annotation.ground_truth)])
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _path(settings: Settings, project_id: int) -> Path:
    server = hashlib.sha256(settings.label_studio_url.rstrip("/").encode()).hexdigest()[:12]
    return settings.home / "labels" / server / f"{project_id}.sqlite"


def _open(path: Path, project: Project) -> sqlite3.Connection:
    """Open a copy that can be used; one that is damaged, of another project or in another format is begun anew."""
    source = json.dumps([project.created_at, project.label_config.field])
    if path.exists():
        database = _connect(path)
        try:
            if _is_usable(database, source):
                return database
            why = "it is of another project or format"
        except sqlite3.DatabaseError as error:
            why = str(error)
        database.close()
        logger.warning("The copy of project %s's labels is read anew: %s", project.id, why)
        path.unlink()
        path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    path.touch(mode=0o600)
    database = _connect(path)
    database.executescript(f"{SCHEMA}PRAGMA user_version = {FORMAT};")
    database.execute("INSERT INTO about VALUES (?, 0, '', 0)", (source,))
    database.commit()
    return database


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA secure_delete = ON")
    return database


def _is_usable(database: sqlite3.Connection, source: str) -> bool:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version != FORMAT or database.execute("PRAGMA quick_check").fetchone() != ("ok",):
        return False
    return [row for (row,) in database.execute("SELECT source FROM about")] == [source]


def _update(database: sqlite3.Connection, label_studio: LabelStudio, project: Project, *, exact: bool) -> None:
    now = time.time()
    (exact_at,) = database.execute("SELECT exact_at FROM about").fetchone()
    if not _count(database):
        for tasks in _batches(label_studio.tasks(project, annotated=True)):  # a killed process has not read in vain
            _replace(database, [task.id for task in tasks], tasks)
    elif exact or not 0 <= now - exact_at < EXACT_EVERY_SECONDS:  # below 0: our clock was set back
        _compare(database, label_studio, project)
    else:
        changed = label_studio.tasks(project, annotated=True, changed_since=_since(database, now), bare=True)
        _read_again(database, label_studio, project, {task.id: _state(task) for task in changed})
        # Every annotated task is here now. Where there are as many as Label Studio counts, none is here too many.
        if _count(database) == label_studio.count_tasks(project.id, annotated=True):
            return
        _compare(database, label_studio, project)
    with database:
        database.execute("UPDATE about SET exact_at = ?", (now,))


def _since(database: sqlite3.Connection, now: float) -> datetime:
    """Return from when on changes are asked for: the newest that is known, or a while before it while it is fresh."""
    (newest, noted, seen_at) = database.execute(
        "SELECT (SELECT max(updated_at) FROM task), newest, newest_seen_at FROM about"
    ).fetchone()
    if newest != noted:
        seen_at = now
        with database:
            database.execute("UPDATE about SET newest = ?, newest_seen_at = ?", (newest, now))
    is_fresh = now - seen_at < OVERLAP_SECONDS
    return datetime.fromisoformat(newest) - timedelta(seconds=OVERLAP_SECONDS if is_fresh else 0)


def _compare(database: sqlite3.Connection, label_studio: LabelStudio, project: Project) -> None:
    """Remove what is no longer annotated and read what differs, by the list of all annotated tasks."""
    listed = {task.id: _state(task) for task in label_studio.tasks(project, annotated=True, bare=True)}
    gone = [(number,) for (number,) in database.execute("SELECT id FROM task") if number not in listed]
    with database:
        database.executemany("DELETE FROM task WHERE id = ?", gone)
    _read_again(database, label_studio, project, listed)


def _read_again(
    database: sqlite3.Connection, label_studio: LabelStudio, project: Project, listed: dict[int, tuple[str, int]]
) -> None:
    """Read those of the listed tasks that the copy has in another state, or not at all."""
    rows = database.execute("SELECT id, updated_at, annotation_count FROM task")
    known = {number: state for number, *state in rows}
    changed = (number for number, state in listed.items() if known.get(number) != [*state])
    for ids in _batches(changed):
        _replace(database, ids, list(label_studio.tasks(project, annotated=True, ids=ids)))


def _replace(database: sqlite3.Connection, ids: Iterable[int], tasks: Sequence[Task]) -> None:
    """Put tasks in the place of all that has these ids."""
    with database:
        database.executemany("DELETE FROM task WHERE id = ?", [(number,) for number in ids])
        database.executemany("INSERT INTO task VALUES (?, ?, ?, ?)", map(_row, tasks))
        database.executemany(
            "INSERT INTO label VALUES (?, ?, ?, ?)",
            [
                (annotation.id, task.id, content_hash(annotation), annotation.updated_at)
                for task in tasks
                for annotation in task.annotations
                if not annotation.was_cancelled
            ],
        )


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _count(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT count(*) FROM task").fetchone()[0])


def _state(task: Task) -> tuple[str, int]:
    """Return what tells whether a task has changed: Label Studio copies annotations without moving its `updated_at`."""
    return task.updated_at, task.annotation_count


def _row(task: Task) -> tuple[int, str, int, bytes]:
    values = asdict(replace(task, predictions=(), has_drafts=False))
    content = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return task.id, *_state(task), content


def _unpack(content: bytes) -> Task:
    try:
        values = json.loads(content)
        annotations = tuple(Annotation(**{**a, "result": tuple(a["result"])}) for a in values["annotations"])
        return Task(**{**values, "annotations": annotations, "predictions": ()})
    except (ValueError, TypeError, KeyError) as error:
        raise sqlite3.DatabaseError(f"a row cannot be read ({error})") from error
