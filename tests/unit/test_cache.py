import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from nerloop.cache import fill, last_served, note_served, prune, use


def fetch(temporary):
    (temporary / "model").mkdir()
    (temporary / "model" / "weights").write_text("new")
    (temporary / "lock").touch()
    return temporary / "model"


def test_a_folder_holds_what_was_fetched_and_nothing_lies_beside_it(tmp_path):
    folder = fill(tmp_path / "cache" / "medical-v7", fetch)

    assert (folder / "weights").read_text() == "new"
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_what_another_process_has_fetched_meanwhile_stays(tmp_path):
    def fetch_slowly(temporary):
        (tmp_path / "medical-v7").mkdir()
        (tmp_path / "medical-v7" / "weights").write_text("of the faster one")
        return fetch(temporary)

    folder = fill(tmp_path / "medical-v7", fetch_slowly)

    assert (folder / "weights").read_text() == "of the faster one"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_fetch_that_fails_leaves_nothing(tmp_path):
    def fail(temporary):
        fetch(temporary)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        fill(tmp_path / "cache" / "medical-v7", fail)

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_in_the_way_is_no_folder_that_was_fetched(tmp_path):
    (tmp_path / "medical-v7").touch()

    with pytest.raises(NotADirectoryError):
        fill(tmp_path / "medical-v7", fetch)


# What stays, and for how long


def version_folder(cache, name, *, days_unused):
    folder = cache / name
    folder.mkdir(parents=True)
    (folder / "weights").write_text(name)
    then = time.time() - days_unused * 24 * 3600
    os.utime(folder, (then, then))
    return folder


def names_in(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_what_nobody_has_used_for_a_week_goes_and_nothing_else(tmp_path):
    for name, days in (
        ("medical-v1", 8),
        ("medical-v2", 6),
        ("runtimes/aa", 8),
        ("runtimes/bb", 6),
        ("iic--a-hub-model@base-v2", 99),
    ):
        version_folder(tmp_path, name, days_unused=days)

    prune(tmp_path)

    assert names_in(tmp_path) == {"medical-v2", "runtimes", "iic--a-hub-model@base-v2"}
    assert names_in(tmp_path / "runtimes") == {"bb"}


def test_what_a_killed_process_left_half_made_goes_after_a_week_also_beside_what_serves(tmp_path):
    note_served(tmp_path, "medical", "medical-v2", "aa")
    left = [
        version_folder(tmp_path, name, days_unused=days)
        for days in (8, 1)
        for name in (f".medical-v2.{days}", f"runtimes/aa/tmp{days}")
    ]

    prune(tmp_path)

    assert [folder.exists() for folder in left] == [False, False, True, True]
    assert names_in(tmp_path / "runtimes" / "aa") == {"tmp1"}


def test_what_serves_a_model_and_what_served_before_stay_with_their_runtimes_however_old(tmp_path):
    for number in (1, 2, 3):
        version_folder(tmp_path, f"medical-v{number}", days_unused=30)
        version_folder(tmp_path, f"runtimes/key-{number}", days_unused=30)
        note_served(tmp_path, "medical", f"medical-v{number}", f"key-{number}")

    prune(tmp_path)

    assert last_served(tmp_path, "medical") == ["medical-v3", "medical-v2"]
    assert names_in(tmp_path) == {"medical-v2", "medical-v3", "runtimes", "served"}
    assert names_in(tmp_path / "runtimes") == {"key-2", "key-3"}


def test_a_rollback_keeps_the_version_it_left(tmp_path):
    for name in ("medical-v1", "medical-v2", "medical-v1", "medical-v1"):
        note_served(tmp_path, "medical", name, "key")

    assert last_served(tmp_path, "medical") == ["medical-v1", "medical-v2"]


def test_what_is_used_again_stays(tmp_path):
    folder = version_folder(tmp_path, "medical-v1", days_unused=30)

    assert use(folder)
    prune(tmp_path)

    assert (folder / "weights").read_text() == "medical-v1"


def test_who_reads_a_file_of_a_folder_that_goes_reads_it_to_its_end(tmp_path):
    folder = version_folder(tmp_path, "medical-v1", days_unused=30)
    with (folder / "weights").open() as reading:
        prune(tmp_path)

        assert not use(folder)
        assert reading.read() == "medical-v1"


def test_processes_that_prune_together_leave_each_other_alone(tmp_path):
    for number in range(30):
        version_folder(tmp_path, f"medical-v{number}", days_unused=8 if number else 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(prune, [tmp_path] * 4))

    assert names_in(tmp_path) == {"medical-v0"}


def test_a_note_that_a_full_disk_cut_short_is_none(tmp_path):
    note_served(tmp_path, "medical", "medical-v1", "key")
    (tmp_path / "served" / "medical.json").write_text("[{")

    assert last_served(tmp_path, "medical") == []
