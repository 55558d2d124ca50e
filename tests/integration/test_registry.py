"""Versions and promotions on a real MLflow store."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias
from sqlalchemy import event
from sqlalchemy.orm import Session

from nerloop import checkpoint
from nerloop.encoder import GruEncoder
from nerloop.errors import BadInput, CheckpointCorrupt, RegistryError
from nerloop.gate import Contest, Decision
from nerloop.loop import Loop
from nerloop.promotions import STARTER_VERSION, Entry, check_model_name
from nerloop.registry import Registry
from nerloop.runs import Runs
from nerloop.tagger import Tagger
from nerloop.tagging import Decoder
from nerloop.tokenizer import CharacterVocabulary
from nerloop.versions import Candidate, ModelVersion
from sync.push import promote_by_hand, push, roll_back

PASSED = Decision(True, "better")


def register(registry: Registry, folder: Path, replaces: int = 0, decision: Decision = PASSED) -> ModelVersion:
    vocabulary = CharacterVocabulary({"OOV": 0, "张": 1})
    tagger = Tagger(GruEncoder(vocabulary, rows=2, embedding_size=4, hidden_size=4), Decoder.flat(["PER"]))
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.iterdir()))
    checkpoint.save(tagger, checkpoint.Provenance("lac", "f" * 64), folder / f"c{number}")
    (folder / "dataset.jsonl").write_text("{}\n")
    candidate = Candidate(folder / f"c{number}", ("PER",), "f" * 64, "lac-starter", replaces, {"gate_f1": 0.5})
    return registry.register("medical", candidate, folder / "dataset.jsonl", {"7": "abc"}, decision)


def aliased(loop: Loop) -> str:
    client = MlflowClient(loop.settings.registry_address)
    return f"medical-v{client.get_model_version_by_alias('medical', 'production').version}"


def test_a_version_carries_what_was_said_of_it(loop: Loop, tmp_path: Path) -> None:
    version = register(loop.registry, tmp_path / "made")

    assert str(version) == "medical-v1"
    assert (version.labels, version.parent, version.metrics) == (("PER",), "lac-starter", {"gate_f1": 0.5})
    assert (version.decision, version.reason) == ("passed", "better")


def test_a_version_carries_the_numbers_of_the_gate(loop: Loop, tmp_path: Path) -> None:
    against = Contest("medical-v3", ("PER", "职位 (旧)"), 120, 0.7, 0.75, (-0.01, 0.11), 0.04, {"PER": -0.02})
    decision = Decision(True, "better", True, (against,), "Li Na", "guideline of May")

    register(loop.registry, tmp_path / "made", decision=decision)

    (version,) = loop.registry.versions("medical")
    assert version.contests == (against,)
    assert (version.provisional, version.forced_by, version.forced_why) == (True, "Li Na", "guideline of May")


def test_a_version_of_before_the_gate_had_numbers_can_be_read(loop: Loop, tmp_path: Path) -> None:
    register(loop.registry, tmp_path / "made")
    client = MlflowClient(loop.settings.registry_address)
    for tag in ("provisional", "contests"):
        client.delete_model_version_tag("medical", "1", tag)

    version = loop.registry.version("medical", 1)

    assert (version.provisional, version.contests, version.forced_by) == (False, (), "")


def test_every_version_that_was_in_production_is_remembered_newest_first(loop: Loop, tmp_path: Path) -> None:
    promoted = register(loop.registry, tmp_path / "made"), register(loop.registry, tmp_path / "made", replaces=1)
    register(loop.registry, tmp_path / "made", decision=Decision(False, "worse"))
    late = register(loop.registry, tmp_path / "made")
    for version in (*promoted, late):
        loop.registry.promote(version)

    assert [str(version) for version in loop.registry.promoted("medical")] == ["medical-v2", "medical-v1"]


def test_before_the_first_promotion_nothing_is_in_production(loop: Loop) -> None:
    assert loop.registry.production("medical").version is None
    assert loop.registry.versions("medical") == []
    assert loop.registry.runs.last_manifest("medical") == {}


@pytest.mark.parametrize(("registered", "newest"), [(0, "the registry has none"), (2, "the newest is v2")])
def test_a_version_that_is_missing_is_no_registry_that_is_down(
    loop: Loop, tmp_path: Path, registered: int, newest: str
) -> None:
    for _ in range(registered):
        register(loop.registry, tmp_path / "made")

    with pytest.raises(RegistryError, match=f"no version 7 of medical: {newest}"):
        loop.registry.version("medical", 7)


def test_a_promoted_version_is_in_production(loop: Loop, tmp_path: Path) -> None:
    version = register(loop.registry, tmp_path / "made")

    assert loop.registry.promote(version) == "promoted"

    production = loop.registry.production("medical")
    assert str(production.version) == "medical-v1"
    assert production.version is not None and production.version.decision == "promoted"
    assert production.generation == 1


def test_a_candidate_trained_against_an_older_production_cannot_win(loop: Loop, tmp_path: Path) -> None:
    first, late = register(loop.registry, tmp_path / "made"), register(loop.registry, tmp_path / "made")
    loop.registry.promote(first)

    assert loop.registry.promote(late) == "superseded"

    assert str(loop.registry.production("medical").version) == "medical-v1"
    assert loop.registry.version("medical", 2).decision == "superseded"


def test_promoting_again_after_a_crash_changes_nothing(loop: Loop, tmp_path: Path) -> None:
    version = register(loop.registry, tmp_path / "made")
    loop.registry.promote(version)

    assert loop.registry.promote(version) == "promoted"

    assert loop.registry.production("medical").generation == 1


def race(prepare: str, then: str, arguments: list[list[str]]) -> list[str]:
    """Run a statement in several processes at the same time, each when all are prepared; return what they print."""
    script = f"import sys\n{prepare}\nprint('ready', flush=True); sys.stdin.readline(); {then}"
    racers = [
        subprocess.Popen([sys.executable, "-c", script, *one], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for one in arguments
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    return [racer.communicate(timeout=100)[0].strip() for racer in racers]


def test_two_processes_may_open_a_new_registry_at_once(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/new/mlflow.db"

    said = race(
        "from nerloop.registry import Registry",
        "Registry(sys.argv[1]).check(); print('open')",
        [[address], [address]],
    )

    assert said == ["open", "open"]


def test_of_two_racing_workers_exactly_one_wins(loop: Loop, tmp_path: Path) -> None:
    for _ in range(2):
        register(loop.registry, tmp_path / "made")

    won = race(
        "from nerloop.loop import Loop; from nerloop.settings import Settings\n"
        "registry = Loop(Settings.load({'NERLOOP_HOME': sys.argv[1]})).registry\n"
        "version = registry.version('medical', int(sys.argv[2]))",
        "print(registry.promote(version))",
        [[str(loop.settings.home), number] for number in ("1", "2")],
    )

    assert sorted(won) == ["promoted", "superseded"]
    assert str(loop.registry.production("medical").version) == f"medical-v{won.index('promoted') + 1}" == aliased(loop)


def test_two_workers_that_make_the_alias_at_once_both_learn_who_won(loop: Loop, tmp_path: Path) -> None:
    first, second = register(loop.registry, tmp_path / "made"), register(loop.registry, tmp_path / "made")
    waiting, overtook = [second], []

    def overtake(session: Session, *_: object) -> None:
        # MLflow looked for the alias in vain and is about to insert it.
        if waiting and any(isinstance(row, SqlRegisteredModelAlias) for row in session.new):
            overtook.append(loop.registry.promote(waiting.pop()))

    event.listen(Session, "before_flush", overtake)
    try:
        assert loop.registry.promote(first) == "promoted"
    finally:
        event.remove(Session, "before_flush", overtake)

    assert overtook == ["superseded"]
    assert aliased(loop) == "medical-v1"


def test_a_slow_worker_does_not_leave_the_alias_on_an_older_promotion(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = register(loop.registry, tmp_path / "made")
    newer = register(loop.registry, tmp_path / "made", replaces=1)
    set_alias = MlflowClient.set_registered_model_alias

    def slow(*arguments: str) -> None:
        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", set_alias)
        assert loop.registry.promote(newer) == "promoted"
        set_alias(*arguments)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", slow)

    assert loop.registry.promote(older) == "promoted"

    assert str(loop.registry.production("medical").version) == "medical-v2" == aliased(loop)


def test_a_promotion_that_dies_before_the_alias_stays_undecided_so_that_it_is_repeated(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    version = register(loop.registry, tmp_path / "made")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "set_registered_model_alias", die)
        loop.registry.promote(version)

    assert loop.registry.version("medical", 1).decision == "passed"
    assert loop.registry.promote(version) == "promoted"
    assert loop.registry.version("medical", 1).decision == "promoted"
    assert aliased(loop) == "medical-v1"


def test_a_promotion_over_a_generation_that_the_log_lacks_is_superseded(loop: Loop, tmp_path: Path) -> None:
    assert loop.registry.promote(register(loop.registry, tmp_path / "made", replaces=1)) == "superseded"

    assert loop.registry.production("medical").version is None


def test_a_run_that_dies_before_its_decision_consumes_no_label(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runs, "decide", die)

    with pytest.raises(KeyboardInterrupt):
        register(loop.registry, tmp_path / "made")

    assert loop.registry.runs.last_manifest("medical") == {}


def test_a_download_is_verified_and_cached(loop: Loop, tmp_path: Path) -> None:
    version = register(loop.registry, tmp_path / "made")

    folder = loop.registry.download(version, tmp_path / "cache")

    assert folder == tmp_path / "cache" / "medical-v1"
    loaded = checkpoint.load(folder)
    assert loaded.tagger.decoder.labels == ("PER",)
    assert loaded.provenance == checkpoint.Provenance("lac", "f" * 64)


def test_a_cache_that_cannot_be_written_is_a_registry_error(loop: Loop, tmp_path: Path) -> None:
    version = register(loop.registry, tmp_path / "made")
    (tmp_path / "file").touch()

    with pytest.raises(RegistryError, match="medical-v1"):
        loop.registry.download(version, tmp_path / "file" / "cache")


def test_a_damaged_version_is_refused_and_not_cached(loop: Loop, tmp_path: Path) -> None:
    version = register(loop.registry, tmp_path / "made")
    (stored,) = loop.settings.home.glob("artifacts/**/pytorch_model.bin")
    stored.write_bytes(stored.read_bytes()[:-1])

    with pytest.raises(CheckpointCorrupt, match=r"pytorch_model\.bin"):
        loop.registry.download(version, tmp_path / "cache")

    assert list((tmp_path / "cache").iterdir()) == []


def test_the_manifest_of_the_last_decided_run_counts_also_when_it_was_rejected(loop: Loop, tmp_path: Path) -> None:
    register(loop.registry, tmp_path / "made", decision=Decision(False, "worse"))

    assert loop.registry.runs.last_manifest("medical") == {"7": "abc"}
    assert loop.registry.production("medical").version is None


def test_a_run_without_data_is_remembered_without_a_version(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "dataset.jsonl").write_text("")

    loop.registry.runs.record_no_data("medical", tmp_path / "dataset.jsonl", {"1": "a"}, "no labels yet")

    assert loop.registry.runs.last_manifest("medical") == {"1": "a"}
    assert loop.registry.versions("medical") == []


@pytest.mark.parametrize("name", ["", "医疗", "a b", "x-promotions", "../etc"])
def test_a_name_that_cannot_be_a_model_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="model name"):
        check_model_name(name)


def test_an_address_that_mlflow_does_not_know_is_named() -> None:
    with pytest.raises(RegistryError, match="NERLOOP_REGISTRY_URL"):
        Registry("gopher://x")


def test_an_unreachable_registry_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with pytest.raises(RegistryError, match="NERLOOP_REGISTRY_URL"):
        Registry("http://127.0.0.1:1").check()


def two_promoted(loop: Loop, tmp_path: Path) -> None:
    for replaces in (0, 1):
        assert loop.registry.promote(register(loop.registry, tmp_path / "made", replaces)) == "promoted"


def test_a_rollback_serves_the_earlier_version_and_the_next_candidate_waits(loop: Loop, tmp_path: Path) -> None:
    two_promoted(loop, tmp_path)

    assert roll_back(loop, "medical", "", "Li Na", "finds no drugs") == ("medical-v2", "medical-v1")
    waiting = register(loop.registry, tmp_path / "made", loop.registry.production("medical").generation)

    assert loop.registry.production("medical").name == "medical-v1" == aliased(loop)
    assert push(loop, waiting) == push(loop, waiting) == "passed" == loop.registry.version("medical", 3).decision
    pause = loop.registry.promotion_log("medical").pause
    assert pause is not None and (pause.kind, pause.by, pause.why) == ("rollback", "Li Na", "finds no drugs")
    log = MlflowClient(loop.settings.registry_address).search_model_versions("name='medical-promotions'")
    assert len(log) == 3  # nothing was appended in vain
    assert "rolled back to medical-v1, by Li Na: finds no drugs" in [entry.description for entry in log]


def test_after_a_resume_the_newest_that_waits_is_promoted_and_the_others_are_superseded(
    loop: Loop, tmp_path: Path
) -> None:
    two_promoted(loop, tmp_path)
    late = register(loop.registry, tmp_path / "made", replaces=2)
    roll_back(loop, "medical", "", "Li Na", "")
    for _ in range(2):
        register(loop.registry, tmp_path / "made", replaces=3)
    loop.registry.append("medical", "resume", "Li Na", "")

    for version in loop.registry.versions("medical"):
        if version.decision == "passed":
            push(loop, version)

    decisions = {version.number: version.decision for version in loop.registry.versions("medical")}
    assert decisions == {1: "promoted", 2: "promoted", late.number: "superseded", 4: "superseded", 5: "promoted"}
    assert loop.registry.production("medical").name == "medical-v5" == aliased(loop)


def test_a_rollback_to_the_starter_takes_the_alias_away(loop: Loop, tmp_path: Path) -> None:
    loop.registry.promote(register(loop.registry, tmp_path / "made"))

    assert roll_back(loop, "medical", "", "Li Na", "") == ("medical-v1", STARTER_VERSION)

    production = loop.registry.production("medical")
    assert (production.version, production.generation) == (None, 2)
    with pytest.raises(MlflowException):
        aliased(loop)


def test_a_rollback_whose_process_died_before_the_alias_is_finished_by_whoever_looks(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    two_promoted(loop, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "set_registered_model_alias", die)
        roll_back(loop, "medical", "", "Li Na", "")
    assert aliased(loop) == "medical-v2"

    loop.registry.point_alias("medical")

    assert loop.registry.production("medical").name == "medical-v1" == aliased(loop)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("medical-v2", "in production already"),
        ("medical-v3", "was never in production; `nerloop promote medical-v3"),
        ("finance-v1", "no version of medical"),
        ("latest", "no version of medical"),
    ],
)
def test_a_rollback_to_what_cannot_be_gone_back_to_says_why(loop: Loop, tmp_path: Path, to: str, said: str) -> None:
    two_promoted(loop, tmp_path)
    register(loop.registry, tmp_path / "made", decision=Decision(False, "worse"))

    with pytest.raises(BadInput, match=said):
        roll_back(loop, "medical", to, "Li Na", "")

    assert loop.registry.production("medical").name == "medical-v2"
    assert loop.registry.promotion_log("medical").pause is None


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let somebody act right before the next entry of a log is written."""
    append = Registry._append

    def overtaken(registry: Registry, model: str, entry: Entry) -> int:
        monkeypatch.setattr(Registry, "_append", append)
        act()
        return append(registry, model, entry)

    monkeypatch.setattr(Registry, "_append", overtaken)


def test_of_two_people_who_roll_back_at_once_neither_is_told_to_do_it_again(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_promoted(loop, tmp_path)
    meanwhile(monkeypatch, lambda: roll_back(loop, "medical", "", "Wang Wei", ""))

    assert roll_back(loop, "medical", "", "Li Na", "") == ("medical-v2", "medical-v1")

    assert loop.registry.production("medical").name == "medical-v1"  # and not one further back


def test_a_rollback_that_a_promotion_overtook_says_what_serves_and_that_promotion_is_paused(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_promoted(loop, tmp_path)
    third = register(loop.registry, tmp_path / "made", replaces=2)
    meanwhile(monkeypatch, lambda: push(loop, third))

    with pytest.raises(BadInput, match="at the same moment, to medical-v3; automatic promotion is paused"):
        roll_back(loop, "medical", "", "Li Na", "")

    assert loop.registry.production("medical").name == "medical-v3"
    assert loop.registry.promotion_log("medical").pause is not None


def test_a_rejected_version_can_be_promoted_by_hand_while_paused(loop: Loop, tmp_path: Path) -> None:
    two_promoted(loop, tmp_path)
    rejected = register(loop.registry, tmp_path / "made", 2, Decision(False, "worse"))
    loop.registry.append("medical", "pause", "Li Na", "audit")

    promote_by_hand(loop, rejected, "Li Na", "the guideline changed")

    assert loop.registry.production("medical").name == "medical-v3" == aliased(loop)
    assert loop.registry.version("medical", 3).decision == "promoted"
    last = loop.registry.promotion_log("medical").valid[-1]
    assert (last.kind, last.by, last.why) == ("forced", "Li Na", "the guideline changed")


def test_a_forced_candidate_is_promoted_while_paused(loop: Loop, tmp_path: Path) -> None:
    loop.registry.append("medical", "pause", "Li Na", "")
    forced = Decision(False, "worse").forced("Li Na", "the guideline changed")

    assert loop.registry.promote(register(loop.registry, tmp_path / "made", decision=forced)) == "promoted"


def test_what_was_rolled_back_from_is_no_longer_among_the_promoted(loop: Loop, tmp_path: Path) -> None:
    two_promoted(loop, tmp_path)
    roll_back(loop, "medical", "", "Li Na", "")
    assert [str(version) for version in loop.registry.promoted("medical")] == ["medical-v1"]

    promote_by_hand(loop, loop.registry.version("medical", 2), "Li Na", "it was the data")

    assert [str(version) for version in loop.registry.promoted("medical")] == ["medical-v2", "medical-v1"]


def test_a_log_of_before_there_were_kinds_is_one_of_promotions(loop: Loop, tmp_path: Path) -> None:
    two_promoted(loop, tmp_path)
    client = MlflowClient(loop.settings.registry_address)
    for generation in ("1", "2"):
        client.delete_model_version_tag("medical-promotions", generation, "kind")

    log = loop.registry.promotion_log("medical")

    assert [(entry.kind, entry.number) for entry in log.valid] == [("promotion", 1), ("promotion", 2)]
    assert log.previous == 1


PREPARE = """
from nerloop.loop import Loop; from nerloop.settings import Settings
registry = Loop(Settings.load({'NERLOOP_HOME': sys.argv[1]})).registry
kind, number = sys.argv[2], int(sys.argv[3])
version = registry.version('medical', number) if number else None
"""
ACT = (
    "print(registry.append('medical', kind, 'x', '', number, 2) if kind != 'promotion' else registry.promote(version))"
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("promotion", "3"), ("rollback", "1")),
        (("rollback", "1"), ("rollback", "1")),
        (("promotion", "3"), ("pause", "0")),
    ],
    ids=["promotion and rollback", "two rollbacks", "promotion and pause"],
)
def test_whatever_races_what_the_log_says_is_what_everybody_was_told(
    loop: Loop, tmp_path: Path, one: tuple[str, str], other: tuple[str, str]
) -> None:
    two_promoted(loop, tmp_path)
    register(loop.registry, tmp_path / "made", replaces=2)

    said = race(PREPARE, ACT, [[str(loop.settings.home), *one], [str(loop.settings.home), *other]])

    log = loop.registry.promotion_log("medical")
    assert log.pause is not None
    assert len(log.valid) == (2 if "passed" in said else 3)
    assert loop.registry.production("medical").name == f"medical-v{log.number}" == aliased(loop)
    won = {("promotion", "promoted"): 3, ("rollback", "True"): 1}
    winners = [won[kind, word] for (kind, _), word in zip((one, other), said, strict=True) if (kind, word) in won]
    assert winners == ([log.number] if len(log.valid) == 3 else [])
    waits = loop.registry.version("medical", 3).decision
    assert waits == ("promoted" if log.number == 3 else "superseded" if "superseded" in said else "passed")
