"""A fine-tune's run in MLflow, on a database with a folder and through a real server."""

import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from nerloop import checkpoint, live_run
from nerloop.calibration import calibration
from nerloop.cli import cli
from nerloop.documents import Document, Entity
from nerloop.encoder import GruEncoder
from nerloop.errors import BadInput
from nerloop.evaluation import evaluate
from nerloop.gate import Decision
from nerloop.loop import Loop
from nerloop.tagger import Tagger
from nerloop.tagging import Decoder
from nerloop.tokenizer import CharacterVocabulary
from nerloop.versions import Candidate, ModelVersion

GOLD = [Document("3-17", "张三患糖尿病", (Entity(0, 2, "PER"), Entity(3, 6, "疾病")))]
FOUND = [Document("", "张三患糖尿病", (Entity(0, 2, "PER", 0.9), Entity(3, 6, "PER", 0.6)))]
MODEL = "runs"


def client(loop: Loop) -> MlflowClient:
    address = loop.settings.registry_address
    return MlflowClient(tracking_uri=address, registry_uri=address)


@pytest.fixture
def model(any_registry: Loop, request: pytest.FixtureRequest) -> str:
    """A name of its own: the server lives on from test to test."""
    return re.sub(r"[^a-z]+", "-", request.node.originalname)[5:60]


@pytest.fixture
def register(any_registry: Loop, model: str, tmp_path: Path) -> Callable[..., ModelVersion]:
    """Registers what a run has made."""

    def made(run_id: str, gold: Sequence[Document] = GOLD, found: Sequence[Document] = FOUND) -> ModelVersion:
        folder = tmp_path / f"made-{len(list(tmp_path.iterdir()))}"
        vocabulary = CharacterVocabulary({"OOV": 0, "张": 1})
        tagger = Tagger(GruEncoder(vocabulary, rows=2, embedding_size=4, hidden_size=4), Decoder.flat(["PER"]))
        checkpoint.save(tagger, checkpoint.Provenance("lac", "f" * 64), folder)
        (tmp_path / "dataset.jsonl").write_text("{}\n")
        candidate = Candidate(
            folder, ("PER", "疾病"), "f" * 64, "lac-starter", 0, {"gate_f1": 0.5}, run_id,
            evaluate(gold, found), calibration(gold, found),
        )  # fmt: skip
        return any_registry.registry.register(
            model, candidate, tmp_path / "dataset.jsonl", {"7": "3-17:abc"}, Decision(True, "better")
        )

    return made


def test_a_run_can_be_watched_while_it_goes_on(any_registry: Loop, model: str) -> None:
    run = any_registry.registry.runs.begin(model, "key", {"base": "lac"})
    run.log_epoch(1, 2.5, None)
    run.log_epoch(2, 1.5, 0.25)

    seen = client(any_registry).get_run(run.id)
    assert (seen.info.status, seen.data.params) == ("RUNNING", {"base": "lac"})
    assert [(m.step, m.value) for m in client(any_registry).get_metric_history(run.id, "loss")] == [(1, 2.5), (2, 1.5)]
    assert [(m.step, m.value) for m in client(any_registry).get_metric_history(run.id, "dev_f1")] == [(2, 0.25)]
    assert any_registry.registry.runs.last_manifest(model) == {}


def test_another_machine_goes_on_with_the_same_run_from_the_later_state(
    any_registry: Loop, model: str, tmp_path: Path
) -> None:
    runs = any_registry.registry.runs
    first = runs.begin(model, "key", {})
    for step, content in ((20, "older"), (40, "newer")):
        (tmp_path / "state.safetensors").write_text(content)
        first._next_state = 0.0  # the share of time that storing may take is not over yet
        first.keep_state(tmp_path / "state.safetensors", step)
    there = tmp_path / "elsewhere" / "state.safetensors"

    second = runs.begin(model, "key", {})

    assert second.id == first.id
    assert not second.fetch_state(there, 40)
    assert second.fetch_state(there, 0)
    assert there.read_text() == "newer"
    assert [found.path for found in client(any_registry).list_artifacts(first.id, "state")] == ["state/40"]
    second.drop_state()
    assert client(any_registry).list_artifacts(first.id, "state") == []


def test_a_run_whose_labels_have_changed_is_closed_with_a_sentence(any_registry: Loop, model: str) -> None:
    left = any_registry.registry.runs.begin(model, "old", {})

    now = any_registry.registry.runs.begin(model, "new", {})

    seen = client(any_registry).get_run(left.id)
    assert now.id != left.id
    assert seen.info.status == "KILLED"
    assert "have changed since" in seen.data.tags["nerloop.reason"]


def test_a_run_that_failed_goes_on_when_it_is_tried_again(any_registry: Loop, model: str) -> None:
    run = any_registry.registry.runs.begin(model, "key", {})
    run.fail("the disk is full")
    assert client(any_registry).get_run(run.id).info.status == "FAILED"

    again = any_registry.registry.runs.begin(model, "key", {})

    assert again.id == run.id
    assert client(any_registry).get_run(run.id).info.status == "RUNNING"


def test_a_decided_run_says_everything_and_is_not_gone_on_with(
    any_registry: Loop, model: str, register: Callable[[str], ModelVersion], tmp_path: Path
) -> None:
    run = any_registry.registry.runs.begin(model, "key", {})
    version = register(run.id)

    seen = client(any_registry).get_run(run.id)
    assert version.run_id == run.id
    assert (seen.info.status, seen.data.tags["nerloop.decision"]) == ("FINISHED", "passed")
    assert seen.data.tags["mlflow.note.content"] == "passed: better"
    assert seen.data.metrics["gate_f1.PER"] == pytest.approx(2 / 3)
    assert seen.data.metrics["gate_f1.疾病"] == 0
    table = client(any_registry).download_artifacts(run.id, "evaluation/per_label.csv", str(tmp_path))
    assert "疾病,0.0,0.0,0.0,1" in Path(table).read_text(encoding="utf-8")
    picture = client(any_registry).download_artifacts(run.id, "evaluation/confusion.svg", str(tmp_path))
    assert ">疾病<" in Path(picture).read_text(encoding="utf-8")
    assert any_registry.registry.runs.begin(model, "key", {}).id != run.id


def test_registering_again_after_a_kill_makes_no_second_version(
    any_registry: Loop, model: str, register: Callable[[str], ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = any_registry.registry.runs.begin(model, "key", {})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr("nerloop.runs.Runs.decide", die)
        with pytest.raises(KeyboardInterrupt):
            register(run.id)
    assert any_registry.registry.runs.last_manifest(model) == {}

    again = register(any_registry.registry.runs.begin(model, "key", {}).id)

    assert [version.number for version in any_registry.registry.versions(model)] == [again.number] == [1]
    assert any_registry.registry.runs.last_manifest(model) == {"7": "3-17:abc"}


def test_the_last_decision_is_the_last_one_whatever_the_clock_says(
    any_registry: Loop, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = any_registry.registry.runs
    (tmp_path / "dataset.jsonl").touch()
    runs.record_no_data(model, tmp_path / "dataset.jsonl", {"1": "a"}, "too few")
    end = MlflowClient.set_terminated
    monkeypatch.setattr(MlflowClient, "set_terminated", lambda self, run_id: end(self, run_id, end_time=1000))  # 1970

    runs.record_no_data(model, tmp_path / "dataset.jsonl", {"2": "b"}, "too few")

    assert runs.last_manifest(model) == {"2": "b"}


def test_what_a_second_worker_with_the_same_job_says_late_changes_no_decision(
    any_registry: Loop, model: str, register: Callable[[str], ModelVersion], tmp_path: Path
) -> None:
    runs = any_registry.registry.runs
    first, late = runs.begin(model, "key", {}), runs.begin(model, "key", {})
    (tmp_path / "dataset.jsonl").touch()
    version = register(first.id)
    runs.record_no_data(model, tmp_path / "dataset.jsonl", {"8": "newer"}, "too few")

    again = register(late.id)
    late.fail("its worker was stopped")

    assert (again.number, again.decision) == (version.number, "passed")
    assert client(any_registry).get_run(first.id).info.status == "FINISHED"
    assert runs.last_manifest(model) == {"8": "newer"}


@pytest.mark.parametrize("label", ["公司/机构", "药物//商品名", "a/", "$\\nope$", "长" * 300])
def test_a_run_takes_any_label(
    any_registry: Loop, model: str, register: Callable[..., ModelVersion], tmp_path: Path, label: str
) -> None:
    run = any_registry.registry.runs.begin(model, "key", {})

    register(
        run.id, [Document("", "张三", (Entity(0, 2, label),))], [Document("", "张三", (Entity(0, 2, label, 0.9),))]
    )

    table = client(any_registry).download_artifacts(run.id, "evaluation/per_label.csv", str(tmp_path))
    assert f"{label},1.0,1.0,1.0,1" in Path(table).read_text(encoding="utf-8")


def test_a_registry_that_is_away_costs_points_of_the_curve_nothing(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_run, "AWAY_SECONDS", 0)
    run = loop.registry.runs.begin(MODEL, "key", {})
    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "log_batch", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
        run.log_epoch(1, 2.0, None)
        run.log_epoch(2, 1.0, None)

    run.log_epoch(3, 0.5, None)

    assert [m.step for m in client(loop).get_metric_history(run.id, "loss")] == [1, 2, 3]
    assert caplog.text.count("the registry does not take part") == 1


def test_a_registry_that_is_away_does_not_hold_up_every_epoch(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = loop.registry.runs.begin(MODEL, "key", {})
    asked: list[str] = []
    state = tmp_path / "state.safetensors"
    state.touch()

    def away(*_: object, **__: object) -> None:
        asked.append("")
        raise MlflowException("the registry is away")

    with monkeypatch.context() as patched:
        for method in ("log_batch", "get_run"):
            patched.setattr(MlflowClient, method, away)
        for epoch in range(1, 6):
            run.log_epoch(epoch, 1 / epoch, None)
            run.keep_state(state, epoch)

    assert len(asked) == 1
    run.drop_state()  # the end of a run asks whatever was
    assert [m.step for m in client(loop).get_metric_history(run.id, "loss")] == [1, 2, 3, 4, 5]


def test_points_that_waited_for_the_registry_are_written_when_a_run_ends(
    any_registry: Loop, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = any_registry.registry.runs.begin(model, "key", {})
    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "log_batch", refuse)
        run.log_epoch(1, 2.5, 0.25)

    run.drop_state()

    client = MlflowClient(any_registry.settings.registry_address)
    assert [point.value for point in client.get_metric_history(run.id, "loss")] == [2.5]


def refuse(*_: object, **__: object) -> None:
    raise MlflowException("the registry is away")


def test_the_page_of_runs_is_not_opened_on_a_port_in_use(loop: Loop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        environ = {"NERLOOP_HOME": str(loop.settings.home)}

        ended = CliRunner().invoke(cli, ["ui", "--port", port], env=environ)

    assert isinstance(ended.exception, BadInput)
    assert f"port {port} is in use" in str(ended.exception)


def test_the_docs_name_what_a_run_holds(
    loop: Loop, tmp_path: Path, register: Callable[[str], ModelVersion], model: str, any_registry: Loop
) -> None:
    run = any_registry.registry.runs.begin(model, "key", {"base": "lac"})
    run.log_epoch(1, 2.5, 0.5)
    register(run.id)

    docs = (Path(__file__).parents[2] / "docs" / "registry.md").read_text(encoding="utf-8")
    seen = client(any_registry).get_run(run.id).data
    named = set(re.findall(r"`([^`]+)`", docs))
    ours = {tag for tag in seen.tags if not tag.startswith("mlflow.")}
    assert {*ours, *seen.params} <= named
    assert {name.partition(".")[0] for name in seen.metrics} <= {name.partition(".")[0] for name in named}
    paths = [found.path for found in client(any_registry).list_artifacts(run.id, "evaluation")]
    assert set(paths) <= named
