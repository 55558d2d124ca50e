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
from click.testing import CliRunner, Result

from nerloop import checkpoint
from nerloop.cli import cli
from nerloop.demo import DEMO_FOLDER, annotate, create_project
from nerloop.documents import labels_of, read_jsonl, write_jsonl
from nerloop.embedded.sandbox import NERLOOP, Sandbox
from nerloop.errors import BadInput
from nerloop.starter import fresh_starter
from nerloop.tagger import Tagger, adapt
from nerloop.tagging import Decoder
from nerloop.trainer import Recipe, Trainer

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


@pytest.fixture(scope="module")
def labelled(stack: Sandbox) -> Sandbox:
    """A model whose project holds 80 labelled texts, and whose threshold no test reaches."""
    loop = stack.loop
    project = create_project(loop.label_studio, "registered", GOLD[:80], labels_of(GOLD[:80]))
    stack.run("connect", "--project", str(project.id), "--model", "registered", "--train-threshold", "1000")
    assert len(list(annotate(loop.label_studio, project, GOLD, 80))) == 80
    return stack


def saved(tagger: Tagger, folder: Path) -> str:
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), folder)
    return str(folder)


def register(stack: Sandbox, *arguments: str, model: str = "registered") -> Result:
    return CliRunner().invoke(cli, ["register", *arguments, "--model", model], env=stack.environ)


def test_a_checkpoint_from_elsewhere_goes_through_the_gate_into_serving(labelled: Sandbox, tmp_path: Path) -> None:
    tagger = adapt(fresh_starter(), Decoder.flat(labels_of(GOLD)))
    Trainer(Recipe(epochs=4)).fit(tagger, GOLD, [])

    ended = labelled.run("register", saved(tagger, tmp_path / "made"), "--model", "registered", "--by", "Li Na")

    version = labelled.loop.registry.production("registered").version
    assert str(version) == ended.stdout.strip()
    assert version is not None and version.reason.endswith("registered by Li Na")
    assert version.metrics["gate_f1"] > version.metrics["gate_f1_before"]
    assert "not known here" in ended.stderr


def test_registering_consumes_no_label(labelled: Sandbox, tmp_path: Path) -> None:
    ended = register(labelled, saved(fresh_starter(), tmp_path / "made"))

    assert ended.stdout.startswith("registered-v"), ended.output
    assert labelled.loop.registry.runs.last_manifest("registered") == {}


def test_a_checkpoint_that_is_worse_is_registered_and_not_promoted(labelled: Sandbox, tmp_path: Path) -> None:
    before = labelled.loop.registry.production("registered").name
    untrained = adapt(fresh_starter(), Decoder.flat(["DRUG"]))

    ended = register(labelled, saved(untrained, tmp_path / "made"))

    assert labelled.loop.registry.production("registered").name == before
    assert f"{ended.stdout.strip()}: rejected" in ended.stderr


def test_a_checkpoint_that_is_worse_can_be_forced_by_somebody_who_says_why(labelled: Sandbox, tmp_path: Path) -> None:
    worse = saved(adapt(fresh_starter(), Decoder.flat(["DRUG"])), tmp_path / "made")

    ended = register(labelled, worse, "--by", "Li Na", "--force", "--why", "guideline of May")

    version = labelled.loop.registry.production("registered").version
    assert version is not None and str(version) == ended.stdout.strip()
    assert (version.forced_by, version.forced_why) == ("Li Na", "guideline of May")
    assert version.reason.endswith("promoted all the same: forced by Li Na, because: guideline of May")
    assert f"  against {version.parent}: micro-F1 " in ended.stderr


@pytest.mark.parametrize("said", [["--by", "Li Na"], ["--why", "guideline of May"], ["--by", " ", "--why", " "]])
def test_forcing_needs_who_and_why(said: list[str]) -> None:
    ended = CliRunner().invoke(cli, ["register", "lac", "--model", "medical", "--force", *said])

    assert isinstance(ended.exception, BadInput)
    assert "--force: say who answers for it with --by, and the reason with --why" in str(ended.exception)


def test_a_checkpoint_without_a_label_of_the_model_is_refused(labelled: Sandbox, tmp_path: Path) -> None:
    stranger = adapt(fresh_starter(), Decoder.flat(["GENE"]))

    ended = register(labelled, saved(stranger, tmp_path / "made"))

    assert isinstance(ended.exception, BadInput)
    assert "none of its labels (GENE) is one of model registered" in str(ended.exception)


def test_a_model_that_no_project_feeds_takes_no_candidate(stack: Sandbox) -> None:
    ended = register(stack, "lac", model="nobody")

    assert isinstance(ended.exception, BadInput)
    assert "no project is connected to model 'nobody'" in str(ended.exception)


def test_a_project_can_be_bound_to_a_nested_decoder(labelled: Sandbox) -> None:
    (binding,) = [b for b in labelled.loop.state.bindings() if b.model == "registered"]

    labelled.run("connect", "--project", str(binding.project_id), "--decoder", "nested")

    changed = labelled.loop.state.binding(binding.project_id)
    assert changed is not None
    assert (changed.decoder, changed.model, changed.train_threshold) == ("nested", "registered", 1000)


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


def test_a_registered_version_is_published_under_its_own_name(hub: Any, labelled: Sandbox, tmp_path: Path) -> None:
    version = register(labelled, saved(fresh_starter(), tmp_path / "made")).stdout.strip()

    ended = publish(hub, labelled.environ, tmp_path / "client", version)

    assert ended.returncode == 0, ended.stderr
    assert version in hub.repositories["clinic/medical"].revisions


def test_a_damaged_checkpoint_is_not_published(hub: Any, tmp_path: Path) -> None:
    folder = saved(fresh_starter(), tmp_path / "medical")
    (tmp_path / "medical" / "vocabulary.json").write_text("{}")

    ended = publish(hub, dict(os.environ), tmp_path / "client", folder)

    assert ended.returncode == 1
    assert "vocabulary.json" in ended.stderr
    assert hub.requests == []
