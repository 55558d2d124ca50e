"""Which models a process holds: the memory bound, refused versions, and what serves while the registry is down."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nerloop import checkpoint
from nerloop.errors import RegistryError
from nerloop.gate import Decision
from nerloop.loop import Loop
from nerloop.preparation import Preparation
from nerloop.promotions import STARTER_VERSION
from nerloop.serving import FIRST_RETRY_SECONDS, ServingModels, load
from nerloop.starter import fresh_starter
from nerloop.tagger import adapt
from nerloop.tagging import Decoder
from nerloop.versions import Candidate, ModelVersion

TEXT = "张三在北京的阿里巴巴工作。"
PLENTY = 10**9


def promote_version(loop: Loop, folder: Path, model: str) -> ModelVersion:
    """Register and promote one more version of a model."""
    tagger = adapt(fresh_starter(), Decoder.flat(["PER", "LOC", "ORG"]))
    number = len(loop.registry.versions(model)) + 1
    made = folder / f"candidate-{model}-{number}"
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), made)
    (folder / "dataset.jsonl").write_text("")
    candidate = Candidate(made, ("LOC", "ORG", "PER"), "", STARTER_VERSION, number - 1, {})
    version = loop.registry.register(model, candidate, folder / "dataset.jsonl", {}, Decision(True, "better"))
    assert loop.registry.promote(version) == "promoted"
    return version


def weights_of(folder: Path, version: ModelVersion) -> Path:
    """Return the weights of a version in the registry's store."""
    (found,) = folder.glob(f"home/artifacts/**/{version.run_id}/**/pytorch_model.bin")
    return found


def spoil(file: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.fixture
def serving(loop: Loop) -> ServingModels:
    return ServingModels(loop.registry, loop.settings.checkpoint_cache, PLENTY)


def test_the_least_recently_used_model_is_unloaded_when_memory_is_short(loop: Loop) -> None:
    checkpoints = loop.settings.checkpoint_cache
    size = ServingModels(loop.registry, checkpoints, PLENTY).predictor("any").runtime.memory
    serving = ServingModels(loop.registry, checkpoints, int(2.5 * size))

    in_use = serving.predictor("first")
    serving.predictor("second")
    rooms = [serving.has_room()]
    serving.predictor("first")
    serving.predictor("third")

    assert set(serving.versions()) == {"first", "third"}
    assert rooms == [False]
    serving.predictor("second")
    assert set(serving.versions()) == {"second", "third"}
    assert in_use.predict([TEXT])[0].entities  # who holds an unloaded model goes on working with it


def test_a_request_does_not_wait_for_runtimes_to_be_timed_and_the_fastest_serves_once_it_is_known(
    loop: Loop, serving: ServingModels, tmp_path: Path
) -> None:
    version = promote_version(loop, tmp_path, "medical")
    runtimes = loop.settings.checkpoint_cache / "runtimes"

    at_once = serving.predictor("medical")

    assert at_once.predict([TEXT])[0].entities
    assert at_once.runtime.name == "torch-fp32"
    assert not [*runtimes.glob("*/*.json"), *runtimes.glob("*/*.onnx")]
    production = serving.outdated("medical")
    assert production is not None
    assert production.name == str(version)
    assert not serving.is_at_hand("medical", production)

    load(loop.registry, version, loop.settings.checkpoint_cache)  # what the process beside does

    (note,) = runtimes.glob("*/*.json")
    assert serving.update("medical").runtime.name == json.loads(note.read_text())["name"]
    assert serving.outdated("medical") is None


def test_one_model_is_held_however_large(loop: Loop) -> None:
    serving = ServingModels(loop.registry, loop.settings.checkpoint_cache, 1)

    serving.predictor("first")
    serving.predictor("second")

    assert serving.versions() == {"second": STARTER_VERSION}


def test_what_a_model_is_called_outlives_its_unloading(loop: Loop, tmp_path: Path) -> None:
    promote_version(loop, tmp_path, "medical")
    serving = ServingModels(loop.registry, loop.settings.checkpoint_cache, 1)

    serving.predictor("medical")
    serving.predictor("other")

    assert serving.version("medical") == "medical-v1"


def test_a_damaged_version_is_refused_by_name_and_the_old_one_serves(
    loop: Loop, serving: ServingModels, tmp_path: Path
) -> None:
    promote_version(loop, tmp_path, "medical")
    before = serving.predictor("medical")
    spoil(weights_of(tmp_path, promote_version(loop, tmp_path, "medical")))

    with pytest.raises(RegistryError, match="medical-v2"):
        serving.update("medical")

    assert serving.predictor("medical") is before
    assert serving.refused()["medical"]["version"] == "medical-v2"
    assert "sha256" in serving.refused()["medical"]["reason"]


def test_an_incomplete_version_is_refused(loop: Loop, serving: ServingModels, tmp_path: Path) -> None:
    serving.predictor("medical")
    weights_of(tmp_path, promote_version(loop, tmp_path, "medical")).unlink()

    with pytest.raises(RegistryError):
        serving.update("medical")

    assert "pytorch_model.bin" in serving.refused()["medical"]["reason"]
    assert serving.versions() == {"medical": STARTER_VERSION}


def test_a_refused_version_is_not_fetched_again_at_each_poll_but_after_a_while(
    loop: Loop, serving: ServingModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.predictor("medical")
    version = promote_version(loop, tmp_path, "medical")
    weights = weights_of(tmp_path, version)
    whole = weights.read_bytes()
    spoil(weights)
    with pytest.raises(RegistryError):
        serving.update("medical")
    weights.write_bytes(whole)

    with pytest.raises(RegistryError, match="is refused"):
        serving.update("medical")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + FIRST_RETRY_SECONDS)

    assert serving.update("medical").model_version == "medical-v1"
    assert serving.refused() == {}


def test_a_version_after_a_refused_one_is_taken_at_once(loop: Loop, serving: ServingModels, tmp_path: Path) -> None:
    serving.predictor("medical")
    spoil(weights_of(tmp_path, promote_version(loop, tmp_path, "medical")))
    with pytest.raises(RegistryError):
        serving.update("medical")

    promote_version(loop, tmp_path, "medical")

    assert serving.update("medical").model_version == "medical-v2"
    assert serving.refused() == {}


def test_a_copy_that_got_damaged_in_the_cache_is_fetched_again(
    loop: Loop, serving: ServingModels, tmp_path: Path
) -> None:
    version = promote_version(loop, tmp_path, "medical")
    spoil(loop.registry.download(version, loop.settings.checkpoint_cache) / "pytorch_model.bin")

    assert serving.update("medical").model_version == "medical-v1"


def test_where_nothing_is_on_this_machine_what_was_in_production_before_stands_in(
    loop: Loop, serving: ServingModels, tmp_path: Path
) -> None:
    for _ in range(2):
        damaged = promote_version(loop, tmp_path, "medical")
    spoil(next(loop.settings.home.rglob(f"{damaged.run_id}/artifacts/checkpoint/pytorch_model.bin")))

    assert serving.update("medical").model_version == "medical-v1"

    assert serving.refused()["medical"]["version"] == "medical-v2"


def test_a_replica_that_starts_while_the_registry_is_down_serves_what_it_served_last(
    loop: Loop, serving: ServingModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # one refused connection says enough
    promote_version(loop, tmp_path, "medical")
    serving.predictor("medical")
    serving.predictor("other")
    down = Loop(replace(loop.settings, registry_url="http://127.0.0.1:1"))

    again = ServingModels(down.registry, loop.settings.checkpoint_cache, PLENTY)

    assert again.predictor("medical").model_version == "medical-v1"
    assert again.predictor("other").model_version == STARTER_VERSION
    assert again.predictor("medical").predict([TEXT])[0].model_version == "medical-v1"
    with pytest.raises(RegistryError):
        again.predictor("never-served")


def test_a_replica_that_starts_while_production_is_damaged_serves_the_version_before(
    loop: Loop, serving: ServingModels, tmp_path: Path
) -> None:
    promote_version(loop, tmp_path, "medical")
    serving.predictor("medical")
    spoil(weights_of(tmp_path, promote_version(loop, tmp_path, "medical")))

    again = ServingModels(loop.registry, loop.settings.checkpoint_cache, PLENTY)

    assert again.predictor("medical").model_version == "medical-v1"
    assert again.refused()["medical"]["version"] == "medical-v2"


def test_what_has_served_here_is_at_hand_and_what_is_new_is_not(
    loop: Loop, serving: ServingModels, tmp_path: Path
) -> None:
    promote_version(loop, tmp_path, "medical")
    first = loop.registry.production("medical")
    before = serving.is_at_hand("medical", first)
    serving.update("medical")
    promote_version(loop, tmp_path, "medical")
    second = loop.registry.production("medical")

    assert not before
    assert serving.is_at_hand("medical", first)
    assert not serving.is_at_hand("medical", second)
    assert serving.is_at_hand("never-promoted", loop.registry.production("never-promoted"))


def test_a_process_that_was_killed_while_it_made_a_version_ready_says_so(loop: Loop, tmp_path: Path) -> None:
    version = promote_version(loop, tmp_path, "medical")
    preparation = Preparation(version, loop.settings)

    preparation.stop()

    assert not preparation.running
    assert "killed by signal 9" in preparation.failure()
    assert not (loop.settings.checkpoint_cache / str(version)).exists()


def test_a_version_that_is_asked_for_itself_is_loaded_beside_what_serves_and_goes_when_memory_is_short(
    loop: Loop, tmp_path: Path
) -> None:
    first, second = (promote_version(loop, tmp_path, "medical") for _ in range(2))
    size = ServingModels(loop.registry, loop.settings.checkpoint_cache, PLENTY).predictor("medical").runtime.memory
    serving = ServingModels(loop.registry, loop.settings.checkpoint_cache, int(2.5 * size))

    assert serving.predictor("medical").model_version == str(second)
    assert serving.pinned(first).model_version == str(first)
    assert serving.pinned(second) is serving.predictor("medical")
    assert serving.versions() == {"medical": str(second)}
    old = serving.pinned(first)
    assert serving.pinned(first) is old
    serving.predictor("medical")
    serving.pinned(None)
    assert serving.pinned(first) is not old  # it was the least recently used
