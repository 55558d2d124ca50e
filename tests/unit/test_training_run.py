from workers.training_run import empty_work_folder


def test_a_run_removes_what_a_killed_run_of_its_model_has_left(tmp_path):
    (empty_work_folder(tmp_path, "medical") / "left").touch()

    assert list(empty_work_folder(tmp_path, "medical").iterdir()) == []


def test_a_run_leaves_the_files_of_a_model_whose_name_begins_like_its_own(tmp_path):
    running = empty_work_folder(tmp_path, "medical-zh") / "checkpoint"
    running.touch()

    empty_work_folder(tmp_path, "medical")

    assert running.exists()
