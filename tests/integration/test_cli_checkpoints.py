"""The commands on checkpoints where processes die, share work, or real servers answer."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from nerloop import checkpoint
from nerloop.cli import cli
from nerloop.demo import DEMO_FOLDER
from nerloop.documents import labels_of, read_jsonl, write_jsonl
from nerloop.embedded.sandbox import NERLOOP
from nerloop.errors import BadInput
from nerloop.gate import Decision
from nerloop.loop import Loop
from nerloop.promotions import STARTER_VERSION
from nerloop.starter import fresh_starter
from nerloop.tagger import Tagger
from nerloop.versions import Candidate

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")


@pytest.fixture
def training(tmp_path: Path) -> Callable[[str], list[str]]:
    """The arguments of a fine-tune of some seconds into a directory of this name."""
    write_jsonl(tmp_path / "train.jsonl", GOLD[:60])
    options = ["--train", str(tmp_path / "train.jsonl"), "--base", "lac", "--epochs", "4"]
    return lambda name: ["finetune", *options, "--output", str(tmp_path / name)]


def started(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended_by(number: int, process: subprocess.Popen[str], after: str) -> str:
    """Send a signal once a line on standard error begins with `after`; return what was said from then on."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(after):
            process.send_signal(number)
            return process.communicate(timeout=60)[1]
    raise AssertionError("".join(lines))


def done(*command: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run([*command], check=False, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return ended


def weights(folder: Path) -> bytes:
    return (folder / "pytorch_model.bin").read_bytes()


def test_a_killed_fine_tune_goes_on_and_ends_as_if_it_had_not_been(
    training: Callable[[str], list[str]], tmp_path: Path
) -> None:
    ended_by(signal.SIGKILL, started(str(NERLOOP), *training("killed")), after="Epoch 1 of")
    assert (tmp_path / ".killed.training").is_dir()
    assert not (tmp_path / "killed").exists()

    said = done(str(NERLOOP), *training("killed")).stderr
    done(str(NERLOOP), *training("whole"))

    assert "Going on with a run that was stopped: epoch 2 of 4" in said
    assert "Epoch 1 of" not in said
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert not (tmp_path / ".killed.training").exists()


def test_control_c_leaves_what_was_trained_and_says_how_to_go_on(
    training: Callable[[str], list[str]], tmp_path: Path
) -> None:
    process = started(str(NERLOOP), *training("stopped"), "--epochs", "500")  # more than it gets to

    said = ended_by(signal.SIGINT, process, after="Epoch 1 of")

    assert process.returncode == 130
    assert f"Stopped. The same command goes on from {tmp_path / '.stopped.training'}" in said
    assert "Traceback" not in said


def test_what_was_trained_on_other_data_is_not_gone_on_with(
    training: Callable[[str], list[str]], tmp_path: Path
) -> None:
    ended_by(signal.SIGKILL, started(str(NERLOOP), *training("killed")), after="Epoch 1 of")

    said = done(str(NERLOOP), *training("killed"), "--seed", "7").stderr

    assert "of other data or options: starting anew" in said
    assert "Epoch 1 of" in said


def test_two_processes_share_a_fine_tune_and_one_of_them_speaks(
    training: Callable[[str], list[str]], tmp_path: Path
) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "nerloop"]

    ended = done(*launcher, *training("shared"))

    assert ended.stdout == f"{tmp_path / 'shared'}\n"
    assert ended.stderr.count("Epoch 4 of 4: loss") == 1
    assert "2 processes share the work" in ended.stderr
    assert checkpoint.load(tmp_path / "shared").tagger.decoder.labels == tuple(labels_of(GOLD[:60]))


SHARED_BY_NOBODY = """
import os, sys
from pathlib import Path
from nerloop.demo import DEMO_FOLDER
from nerloop.documents import labels_of, read_jsonl
from nerloop.starter import fresh_starter
from nerloop.tagger import adapt, weights_key
from nerloop.tagging import Decoder
from nerloop.trainer import Recipe, Trainer
documents = read_jsonl(DEMO_FOLDER / "train.jsonl")[:32]
tagger = adapt(fresh_starter(), Decoder.flat(labels_of(documents)))
folder = Path(sys.argv[1]) / os.environ["RANK"]
fit = Trainer(Recipe(epochs=2), state_folder=folder).fit(tagger, documents, [])
print(len(fit.epochs), weights_key(tagger))
"""


def test_processes_that_do_not_find_the_same_saved_step_start_anew_together(tmp_path: Path) -> None:
    """Machines without a shared folder: only the first process has saved, and would go on alone."""
    (tmp_path / "run.py").write_text(SHARED_BY_NOBODY)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [*launcher, str(tmp_path / "run.py"), str(tmp_path)]
    first = done(*command)
    assert (tmp_path / "0" / "state.safetensors").is_file()
    assert not (tmp_path / "1" / "state.safetensors").exists()

    second = done(*command)

    assert "starting anew" in second.stderr
    assert sorted(second.stdout.splitlines()) == sorted(first.stdout.splitlines())
    assert len(set(second.stdout.splitlines())) == 1  # both ended with the same weights


def saved(tagger: Tagger, folder: Path) -> str:
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), folder)
    return str(folder)


@pytest.mark.parametrize("said", [["--by", "Li Na"], ["--why", "guideline of May"], ["--by", " ", "--why", " "]])
def test_forcing_needs_who_and_why(said: list[str]) -> None:
    ended = CliRunner().invoke(cli, ["register", "lac", "--model", "medical", "--force", *said])

    assert isinstance(ended.exception, BadInput)
    assert "--force: say who answers for it with --by, and the reason with --why" in str(ended.exception)


@pytest.fixture
def hub() -> Iterator[Any]:
    """The hub that test_hub.py replaces ModelScope's with."""
    spec = importlib.util.spec_from_file_location("fake_hub", Path(__file__).with_name("test_hub.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_hub"] = module
    spec.loader.exec_module(module)
    with module.FakeHub() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.token = module.TOKEN
        yield server
        server.shutdown()
        thread.join()


def publish(hub: Any, environ: dict[str, str], home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    client = {"MODELSCOPE_ENDPOINT": hub.address, "MODELSCOPE_HOME": str(home), "MODELSCOPE_CACHE": str(home)}
    return subprocess.run(
        [NERLOOP, "publish", *arguments, "--to", "clinic/medical"],
        check=False,
        env={**environ, **client, "MODELSCOPE_API_TOKEN": hub.token},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_directory_is_published_under_its_name_and_can_be_read_again(hub: Any, tmp_path: Path) -> None:
    folder = saved(fresh_starter(), tmp_path / "medical-3")

    ended = publish(hub, dict(os.environ), tmp_path / "client", folder)

    assert ended.stdout == f"{hub.address}/models/clinic/medical\n", ended.stderr
    repository = hub.repositories["clinic/medical"]
    assert "medical-3" in repository.revisions
    assert repository.revisions["master"]["pytorch_model.bin"] == weights(tmp_path / "medical-3")


def test_a_registered_version_is_published_under_its_own_name(hub: Any, loop: Loop, tmp_path: Path) -> None:
    folder, dataset = Path(saved(fresh_starter(), tmp_path / "made")), tmp_path / "dataset.jsonl"
    dataset.touch()
    candidate = Candidate(folder, ("LOC", "ORG", "PER"), "", STARTER_VERSION, 0, {})
    version = loop.registry.register("medical", candidate, dataset, {}, Decision(True, "a test"))

    ended = publish(hub, dict(os.environ), tmp_path / "client", str(version))

    assert ended.returncode == 0, ended.stderr
    assert "medical-v1" in hub.repositories["clinic/medical"].revisions


def test_a_damaged_checkpoint_is_not_published(hub: Any, tmp_path: Path) -> None:
    folder = saved(fresh_starter(), tmp_path / "medical")
    (tmp_path / "medical" / "vocabulary.json").write_text("{}")

    ended = publish(hub, dict(os.environ), tmp_path / "client", folder)

    assert ended.returncode == 1
    assert "vocabulary.json" in ended.stderr
    assert hub.requests == []
