"""Removing old checkpoints, in a folder and through an MLflow server."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from nerloop.errors import FilesRemoved
from nerloop.gate import Decision
from nerloop.loop import Loop
from nerloop.models import find_folder
from nerloop.promotions import STARTER_VERSION
from nerloop.runs import Runs
from nerloop.settings import Settings
from nerloop.versions import REMOVAL_BEGUN, Candidate, ModelVersion
from sync.push import roll_back
from sync.retention import apply_retention


def register(loop: Loop, folder: Path, replaces: int = 0, *, promote: bool = False) -> ModelVersion:
    made = folder / "checkpoint"
    made.mkdir(parents=True, exist_ok=True)
    (made / "pytorch_model.bin").write_bytes(b"weights")
    (folder / "dataset.jsonl").write_text("{}\n")
    candidate = Candidate(made, ("PER",), "f" * 64, STARTER_VERSION, replaces, {})
    decision = Decision(promote, "better" if promote else "worse")
    version = loop.registry.register("medical", candidate, folder / "dataset.jsonl", {"7": "abc"}, decision)
    if promote:
        assert loop.registry.promote(version) == "promoted"
    return version


def files(loop: Loop, version: ModelVersion) -> list[str]:
    client = MlflowClient(loop.settings.registry_address)
    return [found.path for found in client.list_artifacts(version.run_id, "checkpoint")]


def keeping_one(loop: Loop) -> Loop:
    """The same registry, and a Redis that is down: neither retention nor a rollback may need it."""
    environ = {
        "NERLOOP_HOME": str(loop.settings.home),
        "NERLOOP_REGISTRY_URL": loop.settings.registry_url,
        "NERLOOP_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    return Loop(Settings.load({**environ, "NERLOOP_KEEP_VERSIONS": "1", "NERLOOP_KEEP_DAYS": "0"}))


@pytest.fixture
def kept(any_registry: Loop) -> Loop:
    """A loop that keeps only what it must."""
    return keeping_one(any_registry)


def test_old_checkpoints_go_and_their_records_stay(
    kept: Loop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rejected = register(kept, tmp_path)
    promoted = [register(kept, tmp_path, replaces, promote=True) for replaces in range(3)]
    newest = register(kept, tmp_path, 3)

    with caplog.at_level("INFO", "sync.retention"):
        apply_retention(kept, "medical")
        apply_retention(kept, "medical")

    assert [bool(files(kept, one)) for one in (rejected, *promoted, newest)] == [False, False, True, True, True]
    gone = kept.registry.version("medical", rejected.number)
    assert (gone.reason, gone.decision) == ("worse", "rejected")
    assert kept.registry.runs.last_manifest("medical") == {"7": "abc"}
    assert [record.getMessage().split(",")[0] for record in caplog.records if record.name == "sync.retention"] == [
        "Removed the files of medical-v2",
        "Removed the files of medical-v1",
    ]
    with pytest.raises(FilesRemoved, match="removed by retention"):
        kept.registry.download(gone, tmp_path / "cache")
    with pytest.raises(FilesRemoved, match="medical-v2: its files were removed by retention"):
        roll_back(kept, "medical", "medical-v2", "Li Na", "")
    assert kept.registry.production("medical").name == "medical-v4"
    assert kept.registry.promotion_log("medical").pause is None

    # Through a server too, the starter is an entry without a version.
    assert roll_back(kept, "medical", STARTER_VERSION, "Li Na", "")[1] == STARTER_VERSION
    assert kept.registry.production("medical").version is None


def test_a_removal_that_was_killed_is_finished_and_its_version_is_not_served_meanwhile(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    kept = keeping_one(loop)
    first = register(kept, tmp_path)
    register(kept, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Runs, "delete_checkpoint", die)
        apply_retention(kept, "medical")
    assert kept.registry.version("medical", 1).files_removed == REMOVAL_BEGUN
    with pytest.raises(FilesRemoved, match="medical-v1"):
        find_folder("medical-v1", kept)

    apply_retention(kept, "medical")

    assert not files(kept, first)
    assert kept.registry.version("medical", 1).files_removed > "2026"
