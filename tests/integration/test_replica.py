"""A replica as a process of its own, with a real Valkey and a real registry, under a client that never stops."""

import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from nerloop import checkpoint
from nerloop.demo import label_config_for
from nerloop.embedded.sandbox import free_port, wait_until
from nerloop.gate import Decision
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.promotions import STARTER_VERSION
from nerloop.starter import fresh_starter
from nerloop.tagger import adapt
from nerloop.tagging import Decoder
from nerloop.versions import Candidate

MODEL = "medical"
TASK = {"id": 1, "project": 1, "data": {"text": "张三在北京的阿里巴巴工作。"}}
BODY = {"tasks": [TASK], "project": "1.1", "label_config": label_config_for(["PER", "LOC", "ORG"])}
SECONDS = 300


@dataclass
class Replica:
    """A running web app and what a client that predicts without a pause was answered: (status, version)."""

    url: str
    answers: list[tuple[int, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def ready(self) -> dict[str, Any]:
        """Return what /health/ready says; nothing while the process starts."""
        try:
            return dict(httpx.get(f"{self.url}/health/ready", timeout=30).json())
        except httpx.TransportError:
            return {"ready": False}

    def ask(self) -> None:
        """Predict until the end."""
        with httpx.Client(base_url=self.url, timeout=60) as http:
            while not self.ended.wait(0.02):
                try:
                    answer = http.post("/predict", json=BODY)
                    self.answers.append((answer.status_code, answer.json()["results"][0]["model_version"]))
                except (httpx.TransportError, KeyError, ValueError) as error:
                    self.answers.append((0, repr(error)))


@pytest.fixture
def replica(loop: Loop) -> Iterator[Replica]:
    loop.state.save_binding(Binding(1, MODEL, 50))
    port = free_port()
    environ = {
        **os.environ,
        "NERLOOP_HOME": str(loop.settings.home),
        "NERLOOP_REDIS_URL": loop.settings.redis_url,
        "NERLOOP_BACKEND_PORT": str(port),
        "NERLOOP_POLL_SECONDS": "1",
    }
    process = subprocess.Popen([sys.executable, "-m", "ml_backend"], env=environ)
    running = Replica(f"http://127.0.0.1:{port}")
    client = threading.Thread(target=running.ask)
    try:
        wait_until(lambda: bool(running.ready()["ready"]), SECONDS, "the replica")
        client.start()
        yield running
    finally:
        running.ended.set()
        if client.is_alive():
            client.join()
        process.terminate()
        process.wait()


def promote(loop: Loop, folder: Path, *, spoilt: bool = False) -> str:
    """Register one more version, damage its weights in the store if so wished, promote it and say so."""
    number = len(loop.registry.versions(MODEL)) + 1
    made = folder / f"candidate-{number}"
    tagger = adapt(fresh_starter(), Decoder.flat(["PER", "LOC", "ORG"]))
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), made)
    (folder / "dataset.jsonl").write_text("")
    candidate = Candidate(made, ("LOC", "ORG", "PER"), "", STARTER_VERSION, number - 1, {})
    version = loop.registry.register(MODEL, candidate, folder / "dataset.jsonl", {}, Decision(True, "better"))
    if spoilt:
        (weights,) = folder.glob(f"home/artifacts/**/{version.run_id}/**/pytorch_model.bin")
        weights.write_bytes(weights.read_bytes()[:-1])
    assert loop.registry.promote(version) == "promoted"
    loop.state.say_promoted(MODEL)
    return str(version)


def test_swaps_under_a_steady_client_fail_no_request_and_a_damaged_version_is_refused_by_name(
    loop: Loop, replica: Replica, tmp_path: Path
) -> None:
    first = promote(loop, tmp_path)
    wait_until(lambda: replica.ready()["serving"] == {MODEL: first}, SECONDS, first)

    damaged = promote(loop, tmp_path, spoilt=True)
    wait_until(lambda: MODEL in replica.ready()["refused"], SECONDS, f"{damaged} to be refused")
    said = replica.ready()
    wait_until(lambda: any(loop.state.refused().values()), SECONDS, "the beat that says so")
    (beaten,) = loop.state.refused().values()
    third = promote(loop, tmp_path)
    wait_until(lambda: replica.ready()["serving"] == {MODEL: third}, SECONDS, third)
    answered = len(replica.answers)
    wait_until(lambda: len(replica.answers) > answered + 5, SECONDS, "answers of the last version")

    assert said["ready"]
    assert said["serving"] == {MODEL: first}
    assert said["refused"][MODEL]["version"] == damaged
    assert beaten == said["refused"]
    assert "pytorch_model.bin" in said["refused"][MODEL]["reason"]
    assert replica.ready()["refused"] == {}
    assert {status for status, _ in replica.answers} == {200}
    assert list(dict.fromkeys(version for _, version in replica.answers)) == [STARTER_VERSION, first, third]
    assert list(loop.state.replicas().values()) == [{MODEL: third}]


def test_a_connection_idle_for_as_long_as_clients_keep_one_is_still_open(replica: Replica) -> None:
    kept_by_httpx_seconds = 5
    idle = HTTPConnection(replica.url.removeprefix("http://"))
    idle.request("GET", "/health/ready")
    assert idle.getresponse().read()

    closed, _, _ = select.select([idle.sock], [], [], kept_by_httpx_seconds + 1)

    assert not closed
    idle.close()
