import json
import os
import random
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from nerloop import training_state
from nerloop.training_state import FILE, TrainingState

TENSORS = {
    "weights.a": torch.tensor([[0.1, -2.0], [3e-40, float("inf")]]),
    "optimizer.step.a": torch.tensor(7.0),
    "random": torch.arange(256).to(torch.uint8),
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
    "across": torch.arange(6.0).view(2, 3).T,
}
NUMBERS = {"step": 7, "losses": 0.1 + 0.2, "epochs": [{"number": 1, "dev_f1": None}], "bf16": False}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def test_what_is_saved_is_read_back_bit_by_bit(tmp_path):
    TrainingState(tmp_path / "state", "run").save(TENSORS, NUMBERS)

    saved = TrainingState(tmp_path / "state", "run").load()

    assert saved is not None
    assert same(saved.tensors, TENSORS)
    assert saved.numbers == NUMBERS


def test_before_anything_was_saved_there_is_nothing(tmp_path):
    assert TrainingState(tmp_path / "state", "run").load() is None
    assert not (tmp_path / "state").exists()


def test_what_another_run_saved_counts_for_nothing_until_it_is_replaced(tmp_path):
    TrainingState(tmp_path, "one").save(TENSORS, NUMBERS)
    other = TrainingState(tmp_path, "other")

    assert other.load() is None
    other.save(TENSORS, NUMBERS | {"step": 8})

    assert TrainingState(tmp_path, "one").load() is None
    saved = other.load()
    assert saved is not None and saved.numbers["step"] == 8


def test_the_last_save_counts(tmp_path):
    state = TrainingState(tmp_path, "run")
    for step in range(3):
        state.save({"a": torch.tensor([float(step)])}, {"step": step})

    saved = state.load()

    assert saved is not None
    assert (saved.numbers["step"], saved.tensors["a"].item()) == (2, 2.0)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_damaged_file_is_as_good_as_none(tmp_path):
    state = TrainingState(tmp_path, "run")
    state.save(TENSORS, NUMBERS)
    whole, chance = (tmp_path / FILE).read_bytes(), random.Random(0)

    for _ in range(100):
        (tmp_path / FILE).write_bytes(whole[: chance.randrange(len(whole))])
        assert state.load() is None


@pytest.mark.parametrize("metadata", [None, {}, {"nerloop": "{"}, {"nerloop": "[]"}, {"nerloop": "{}"}, {"x": "y"}])
def test_a_file_of_something_else_is_as_good_as_none(tmp_path, metadata):
    save_file({"a": torch.zeros(2)}, tmp_path / FILE, metadata)

    assert TrainingState(tmp_path, "run").load() is None


def test_numbers_and_tensors_stand_in_one_file_so_that_they_are_of_one_step(tmp_path):
    TrainingState(tmp_path, "run").save(TENSORS, NUMBERS)

    assert same(load_file(tmp_path / FILE), TENSORS)
    header = (tmp_path / FILE).read_bytes()
    size = int.from_bytes(header[:8], "little")
    assert json.loads(json.loads(header[8 : 8 + size])["__metadata__"]["nerloop"])["step"] == 7


def test_a_save_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    state = TrainingState(tmp_path, "run")
    state.save(TENSORS, NUMBERS)

    with pytest.raises(TypeError):
        state.save(TENSORS, NUMBERS | {"epochs": object()})

    saved = state.load()
    assert saved is not None and saved.numbers == NUMBERS
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_what_a_run_left_that_was_killed_while_it_saved_is_removed(tmp_path):
    state = TrainingState(tmp_path, "run")
    state.save(TENSORS, NUMBERS)
    (tmp_path / f".{FILE}.4711.partial").write_bytes(b"half")

    saved = state.load()
    state.save(TENSORS, NUMBERS)

    assert saved is not None and saved.numbers == NUMBERS
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_folder_that_cannot_be_written_is_warned_of_with_the_fix_and_ends_nothing(tmp_path, caplog):
    (tmp_path / "file").touch()

    TrainingState(tmp_path / "file" / "state", "run").save(TENSORS, NUMBERS)

    (said,) = warnings_of(caplog)
    assert f"Cannot save in {tmp_path / 'file' / 'state'}" in said
    assert "free disk space or check permissions" in said


def test_each_outage_is_warned_of_once_and_what_was_saved_before_stays(tmp_path, caplog):
    state = TrainingState(tmp_path, "run")
    in_the_way = tmp_path / f".{FILE}.{os.getpid()}.partial" / "child"
    state.save(TENSORS, NUMBERS)
    said = []

    for step, refuses in enumerate([True, True, False, True, True]):
        if refuses:
            in_the_way.mkdir(parents=True)  # a directory where a file is to be written
        state.save(TENSORS, NUMBERS | {"step": step})
        said.append(len(warnings_of(caplog)))
        shutil.rmtree(in_the_way.parent, ignore_errors=True)

    assert said == [1, 1, 1, 2, 2]
    saved = state.load()
    assert saved is not None and saved.numbers["step"] == 2


def test_after_a_save_that_failed_the_next_is_not_due_at_once(tmp_path):
    (tmp_path / "file").touch()
    state = TrainingState(tmp_path / "file" / "state", "run")

    state.save(TENSORS, NUMBERS)

    assert not state.due()


@pytest.mark.parametrize(("seconds", "pause"), [(0.001, 1.0), (0.02, 1.0), (3.0, 60.0)])
def test_saving_takes_a_twentieth_of_the_time_at_most_and_a_second_lies_between(tmp_path, monkeypatch, seconds, pause):
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(training_state, "time", clock)

    def slow_save(*parts):
        save_file(*parts)
        clock.now += seconds

    monkeypatch.setattr(training_state, "save_file", slow_save)
    state = TrainingState(tmp_path, "run")
    assert state.due()

    state.save(TENSORS, NUMBERS)

    clock.now += pause - 0.001
    assert not state.due()
    clock.now += 0.002
    assert state.due()
