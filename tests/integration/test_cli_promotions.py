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
    environ = {"NERLOOP_HOME": str(loop.settings.home), "NERLOOP_REDIS_URL": loop.settings.redis_url, "COLUMNS": "200"}
    return lambda *arguments: CliRunner().invoke(cli, [*arguments], env=environ, catch_exceptions=False)


def register(loop: Loop, folder: Path, replaces: int, decision: Decision = Decision(True, "better")) -> ModelVersion:  # noqa: B008
    """Register a version whose files nobody will read."""
    made = folder / "checkpoint"
    made.mkdir(parents=True, exist_ok=True)
    (made / "nerloop.json").write_text(json.dumps({"made_from": {"base": "lac"}}))
    (folder / "dataset.jsonl").touch()
    candidate = Candidate(made, ("PER",), "f" * 64, "lac-starter", replaces, {})
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


def test_lineage_shows_decision_promotions_and_how_many_annotations_it_learned_from(
    loop: Loop, tmp_path: Path, run: Run
) -> None:
    promoted(loop, tmp_path, 2)
    run("rollback", "medical", "--by", "Li Na", "--why", "finds no [DRUG]")

    shown = run("lineage", "medical-v2").stdout
    traced = json.loads(run("lineage", "medical-v2", "--json").stdout)

    assert "promoted: better" in shown
    assert "rolled back to medical-v1, by Li Na: finds no [DRUG]" in shown
    assert "1 (`--json` lists their ids)" in shown
    assert (traced["annotations"], traced["base"], traced["in_production"]) == ([7], "lac", False)


@pytest.mark.parametrize("arguments", [[], ["medical-v1", "--prediction", "3"]], ids=["neither", "both"])
def test_lineage_wants_a_version_or_a_prediction(run: Run, arguments: list[str]) -> None:
    with pytest.raises(BadInput, match="give a version such as medical-v7, or --prediction"):
        run("lineage", *arguments)


def test_the_starter_has_no_lineage(run: Run) -> None:
    with pytest.raises(BadInput, match="no version of the registry"):
        run("lineage", "lac-starter")


def test_a_version_promoted_by_hand_while_it_waited_is_promoted_though_its_process_died_before_saying_so(
    loop: Loop, tmp_path: Path
) -> None:
    loop.registry.append("medical", "pause", "Li Na", "")
    version = register(loop, tmp_path, 0)
    loop.registry.append("medical", "forced", "Li Na", "audited", version.number, 0)
    loop.registry._client.set_model_version_tag("medical", "1", "decision", "passed")

    assert loop.registry.promote(version) == "promoted"


def test_erase_asks_first_and_does_nothing_when_the_answer_is_no(run: Run) -> None:
    ended = run("erase", "3-17", "--by", "Li Na", "--why", "request 12")

    assert ended.exit_code == 1
    assert "Erase task 17 of project 3" in ended.stderr


@pytest.mark.parametrize("document", ["17", "3-", "medical-v1", "3-17-2"])
def test_erase_names_the_form_of_a_document_id(run: Run, document: str) -> None:
    with pytest.raises(BadInput, match="give PROJECT-TASK"):
        run("erase", document, "--by", "Li Na", "--why", "request 12", "--yes")
