"""Tracing a version, and erasing a document from snapshots, in a folder and through an MLflow server."""

import json
import uuid
from dataclasses import asdict
from pathlib import Path

import pytest
from mlflow import MlflowClient

from nerloop.documents import Document, Entity, Manifest, manifest_entry, read_jsonl, write_jsonl
from nerloop.gate import Contest, Decision
from nerloop.lineage import lineage
from nerloop.loop import Loop
from nerloop.runs import ERASURE_BEGUN, Runs
from nerloop.versions import Candidate, ModelVersion
from sync.push import roll_back

CONTEST = Contest("lac-starter", ("PER",), 120, 0.7, 0.75, (-0.01, 0.11), 0.04, {"PER": 0.05})
SECRET = Document("3-17", "张三因肺炎住院。\u2028第二行", (Entity(0, 2, "PER"),))
OTHERS = [Document("3-18", "李四出院。"), Document("13-17", "王五出院。")]
MANIFEST = {"101": manifest_entry("3-17", "a"), "102": manifest_entry("3-18", "b"), "103": "hash-of-before"}


@pytest.fixture
def model() -> str:
    """A name of its own, since the tests share one server."""
    return f"m-{uuid.uuid4().hex[:8]}"


def register(
    loop: Loop, model: str, folder: Path, replaces: int, parent: str, base: str = "lac", *, trained_here: bool = True
) -> ModelVersion:
    made = folder / "checkpoint"
    made.mkdir(parents=True, exist_ok=True)
    (made / "nerloop.json").write_text(json.dumps({"made_from": {"base": base, "revision": ""}}))
    write_jsonl(folder / "dataset.jsonl", [SECRET, *OTHERS])
    candidate = Candidate(made, ("PER",), "f" * 64, parent, replaces, {"gate_f1": 0.75}, trained_here=trained_here)
    decision = Decision(True, "better", contests=(CONTEST,))
    version = loop.registry.register(model, candidate, folder / "dataset.jsonl", MANIFEST, decision)
    assert loop.registry.promote(version) == "promoted"
    return version


def stored(loop: Loop, run_id: str, folder: Path) -> tuple[list[Document], Manifest]:
    client = MlflowClient(loop.settings.registry_address)
    where = Path(client.download_artifacts(run_id, "snapshot", str(folder)))
    assert {path.name for path in where.iterdir()} == {"dataset.jsonl", "manifest.json"}
    return read_jsonl(where / "dataset.jsonl"), json.loads((where / "manifest.json").read_text())


def test_the_lineage_of_a_version_reaches_down_to_the_annotations(loop: Loop, model: str, tmp_path: Path) -> None:
    first = register(loop, model, tmp_path, 0, "lac-starter")
    register(loop, model, tmp_path, 1, str(first), base=str(first))
    roll_back(loop, model, "", "Li Na", "finds no drugs")

    found = lineage(loop.registry, model, 2)

    assert (found.version, found.decision, found.reason) == (f"{model}-v2", "promoted", "better")
    assert found.contests == (CONTEST,)
    assert [(change["kind"], change["by"]) for change in found.changes] == [("promotion", ""), ("rollback", "Li Na")]
    assert (found.in_production, lineage(loop.registry, model, 1).in_production) == (False, True)
    assert (found.base, found.parents) == (f"{model}-v1", (f"{model}-v1", "lac-starter"))
    assert found.annotations == (101, 102, 103)
    assert found.dataset_fingerprint == "f" * 64
    assert json.loads(json.dumps(asdict(found)))["run_id"] == found.run_id


def test_of_a_version_from_elsewhere_nothing_is_claimed(loop: Loop, model: str, tmp_path: Path) -> None:
    register(loop, model, tmp_path, 0, "lac-starter", trained_here=False)

    found = lineage(loop.registry, model, 1)

    assert (found.trained_here, found.annotations) == (False, ())


def test_an_erased_document_leaves_snapshot_and_manifest_and_nothing_else_does(
    any_registry: Loop, model: str, tmp_path: Path
) -> None:
    run_id = register(any_registry, model, tmp_path, 0, "lac-starter").run_id
    runs = any_registry.registry.runs
    assert model in runs.models() and runs.all_of(model) == {run_id: True}

    assert runs.erase(run_id, "3-17", {"103"}, "2026-05-04 by Li Na: request 12")
    assert runs.erase(run_id, "3-17", set(), "later")  # it says again that it was there
    assert not runs.erase(run_id, "3-1", set(), "another")

    documents, manifest = stored(any_registry, run_id, tmp_path)
    assert documents == OTHERS
    assert manifest == {"102": MANIFEST["102"]}
    assert runs.erased(run_id) == {"3-17": "2026-05-04 by Li Na: request 12"}
    assert lineage(any_registry.registry, model, 1).erased == 1
    assert not any("张三" in path.read_text(errors="replace") for path in any_registry.settings.home.rglob("*.jsonl"))


def test_an_erasure_that_was_killed_is_finished_by_the_next(
    loop: Loop, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    run_id = register(loop, model, tmp_path, 0, "lac-starter").run_id
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Runs, "_replace", die)
        loop.registry.runs.erase(run_id, "3-17", set(), "first")
    assert SECRET in stored(loop, run_id, tmp_path)[0]

    loop.registry.runs.erase(run_id, "3-17", set(), "second")

    assert stored(loop, run_id, tmp_path)[0] == OTHERS
    assert loop.registry.runs.erased(run_id) == {"3-17": "second"}


def test_an_erasure_that_was_killed_before_it_said_so_is_noted_by_the_next(
    loop: Loop, model: str, tmp_path: Path
) -> None:
    run_id = register(loop, model, tmp_path, 0, "lac-starter").run_id
    loop.registry.runs.erase(run_id, "3-17", set(), "first")
    MlflowClient(loop.settings.registry_address).set_tag(run_id, "nerloop.erased.3-17", ERASURE_BEGUN)

    assert loop.registry.runs.erase(run_id, "3-17", set(), "second")

    assert loop.registry.runs.erased(run_id) == {"3-17": "second"}


def test_a_process_that_has_read_a_manifest_sees_what_another_erased_from_it(
    loop: Loop, model: str, tmp_path: Path
) -> None:
    run_id = register(loop, model, tmp_path, 0, "lac-starter").run_id
    assert "101" in loop.registry.runs.last_manifest(model)

    Loop(loop.settings).registry.runs.erase(run_id, "3-17", set(), "request 12")

    assert "101" not in loop.registry.runs.last_manifest(model)


def test_runs_that_were_killed_while_they_stored_a_snapshot_do_not_hold_an_erasure_up(
    any_registry: Loop, model: str, tmp_path: Path
) -> None:
    run_id = register(any_registry, model, tmp_path, 0, "lac-starter").run_id
    client = MlflowClient(any_registry.settings.registry_address)
    without = client.create_run(client.get_run(run_id).info.experiment_id).info.run_id
    whole = (tmp_path / "dataset.jsonl").read_text(encoding="utf-8")
    (tmp_path / "dataset.jsonl").write_text(whole[: whole.index("张三") + 2], encoding="utf-8")
    client.log_artifact(run_id, str(tmp_path / "dataset.jsonl"), "snapshot")
    runs = any_registry.registry.runs

    assert runs.all_of(model) == {run_id: True, without: False}
    assert not runs.erase(without, "3-17", set(), "request 12")
    assert runs.erase(run_id, "3-17", set(), "request 12")

    assert stored(any_registry, run_id, tmp_path)[0] == []
