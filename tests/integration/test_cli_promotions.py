"""The commands by which people steer production, on a real registry and a real Valkey."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nerloop.cli import cli
from nerloop.errors import BadInput
from nerloop.gate import Decision
from nerloop.loop import Loop
from nerloop.project_state import PROMOTIONS_CHANNEL, Binding
from nerloop.versions import Candidate, ModelVersion

Run = Callable[..., Result]


@pytest.fixture
def run(loop: Loop) -> Run:
    """Run a command against the loop's servers; what it raises comes through."""
    loop.state.save_binding(Binding(3, "medical", 50))
    environ = {"NERLOOP_HOME": str(loop.settings.home), "NERLOOP_REDIS_URL": loop.settings.redis_url}
    return lambda *arguments: CliRunner().invoke(cli, [*arguments], env=environ, catch_exceptions=False)


def register(loop: Loop, folder: Path, replaces: int, decision: Decision = Decision(True, "better")) -> ModelVersion:  # noqa: B008
    """Register a version whose files nobody will read."""
    made = folder / "checkpoint"
    made.mkdir(parents=True, exist_ok=True)
    (made / "nerloop.json").write_text(json.dumps({"made_from": {"base": "lac"}}))
    (folder / "dataset.jsonl").touch()
    candidate = Candidate(made, ("PER",), "f" * 64, "lac-starter", replaces, {}, [], [])
    return loop.registry.register("medical", candidate, folder / "dataset.jsonl", {"7": "abc"}, decision)


def promoted(loop: Loop, folder: Path, count: int) -> None:
    for replaces in range(count):
        assert loop.registry.promote(register(loop, folder, replaces)) == "promoted"


def test_rollback_says_what_serves_and_how_to_resume_and_tells_replicas_and_predictions(
    loop: Loop, tmp_path: Path, run: Run
) -> None:
    promoted(loop, tmp_path, 2)
    heard = loop.redis.pubsub(ignore_subscribe_messages=True)
    heard.subscribe(PROMOTIONS_CHANNEL)
    heard.get_message(timeout=5)

    ended = run("rollback", "medical", "--by", "Li Na", "--why", "finds no drugs")

    assert ended.stdout == "medical-v1\n"
    assert "medical-v1 is in production instead of medical-v2" in ended.stderr
    assert "`nerloop resume medical`" in ended.stderr
    message = heard.get_message(timeout=5)
    assert message is not None and message["data"] == b"medical"
    refresh = loop.jobs.status("refresh-project-3")
    assert refresh is not None and refresh.state == "queued"


def test_a_second_rollback_reaches_the_starter_and_a_third_says_that_there_is_nothing_left(
    loop: Loop, tmp_path: Path, run: Run
) -> None:
    promoted(loop, tmp_path, 2)

    assert [run("rollback", "medical").stdout for _ in range(2)] == ["medical-v1\n", "lac-starter\n"]
    with pytest.raises(BadInput, match="lac-starter is in production already"):
        run("rollback", "medical")


def test_pause_and_resume_are_said_once_and_name_what_waits(loop: Loop, tmp_path: Path, run: Run) -> None:
    assert "is paused; `nerloop resume medical`" in run("pause", "medical", "--why", "audit").stderr
    assert "paused already" in run("pause", "medical").stderr
    assert loop.registry.promote(register(loop, tmp_path, 0)) == "passed"

    assert "medical-v1 waits and is promoted at the next reconciliation" in run("resume", "medical").stderr
    assert "is not paused" in run("resume", "medical").stderr

    assert loop.registry.promotion_log("medical").pause is None


def test_a_rejected_version_is_promoted_by_name_with_a_reason(loop: Loop, tmp_path: Path, run: Run) -> None:
    register(loop, tmp_path, 0, Decision(False, "worse"))

    run("promote", "medical-v1", "--by", "Li Na", "--why", "the guideline changed")

    assert loop.registry.production("medical").name == "medical-v1"
    with pytest.raises(BadInput, match="in production already"):
        run("promote", "medical-v1", "--why", "again")


@pytest.mark.parametrize("command", ["rollback", "pause", "resume"])
def test_a_model_that_does_not_exist_is_named(run: Run, command: str) -> None:
    with pytest.raises(BadInput, match="no project is connected to model 'medcial'"):
        run(command, "medcial")


def test_who_decides_must_have_a_name(run: Run) -> None:
    with pytest.raises(BadInput, match="--by"):
        run("pause", "medical", "--by", " ")
