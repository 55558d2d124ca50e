import pytest

from nerloop.cache import fill


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
