import pytest

from nerloop.versions import ModelVersion, Production
from workers.training_run import base_name, empty_work_folder, state_folder


def test_a_run_removes_what_a_killed_run_of_its_model_has_left(tmp_path):
    (empty_work_folder(tmp_path, "medical") / "left").touch()

    assert list(empty_work_folder(tmp_path, "medical").iterdir()) == []


def test_a_run_leaves_the_files_of_a_model_whose_name_begins_like_its_own(tmp_path):
    running = empty_work_folder(tmp_path, "medical-zh") / "checkpoint"
    running.touch()

    empty_work_folder(tmp_path, "medical")

    assert running.exists()


def test_a_run_leaves_the_state_from_which_a_killed_run_of_its_model_goes_on(tmp_path):
    saved = state_folder(tmp_path, "medical") / "state.safetensors"
    saved.parent.mkdir(parents=True)
    saved.touch()

    empty_work_folder(tmp_path, "medical")

    assert saved.exists()


def test_models_save_their_states_in_folders_of_their_own(tmp_path):
    folders = {state_folder(tmp_path, name) for name in ("medical", "medical-zh", "run", "state")}

    assert len(folders) == 4
    assert not any(one in other.parents for one in folders for other in folders)


@pytest.mark.parametrize(
    ("setting", "promoted", "base"),
    [
        ("production", ModelVersion("medical", 7), "medical-v7"),
        ("production", None, "lac"),
        ("lac", ModelVersion("medical", 7), "lac"),
        ("finance-v2", ModelVersion("medical", 7), "finance-v2"),
    ],
)
def test_a_run_starts_from_production_only_where_that_is_set_and_something_is_there(setting, promoted, base):
    assert base_name(setting, Production(3, promoted)) == base
