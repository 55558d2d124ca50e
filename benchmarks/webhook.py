"""Times a burst of submissions against the real web app, and counts the fine-tunes it costs and the labels it loses.

The stack is a whole one of its own. Label Studio holds the annotations (imported, which sends no event); their events
are sent from here, in its form and each on a connection of its own as it does, since it cannot take a burst itself on
SQLite. No reconciliation runs meanwhile, which would find the labels without an event.

python benchmarks/webhook.py
python benchmarks/webhook.py --quick        200 events
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from machine import machine
from rich.console import Console

from nerloop.demo import DEMO_FOLDER, label_config_for
from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.jobs import fine_tune_id
from nerloop.loop import Loop
from nerloop.tasks import Project
from sync.connect import SECRET_HEADER

MODEL = "benchmark"
THRESHOLD = 50
NEVER = "86400"
console = Console(stderr=True)


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1000, help="submissions")
    parser.add_argument("--concurrent", type=int, default=50, help="how many of them at once")
    parser.add_argument("--quick", action="store_true", help="200 events")
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    arguments = parser.parse_args()
    events = 200 if arguments.quick else arguments.events
    with tempfile.TemporaryDirectory(prefix="nerloop-benchmark-") as folder:
        console.print("Starting a stack of its own …")
        with Sandbox(Path(folder) / "home", NERLOOP_RECONCILE_SECONDS=NEVER) as sandbox:
            result = burst(sandbox, events, arguments.concurrent)
    line = json.dumps(result, ensure_ascii=False)
    if arguments.out:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def burst(sandbox: Sandbox, count: int, concurrent: int) -> dict[str, Any]:
    """Send the events, wait for what they start, and compare it with what Label Studio holds."""
    loop = sandbox.loop
    gold = read_jsonl(DEMO_FOLDER / "train.jsonl")
    project = loop.label_studio.create_project("benchmark", label_config_for(labels_of(gold)))
    sandbox.run("connect", "--project", str(project.id), "--model", MODEL, "--train-threshold", str(THRESHOLD))
    payloads = import_annotated(loop, project, gold, count)
    with console.status(f"Sending {count} events, {concurrent} at once …"):
        started = time.perf_counter()
        answers = asyncio.run(send_all(loop, payloads, concurrent))
        seconds = time.perf_counter() - started
    noted = len(loop.state.new_label_ids(MODEL))
    with console.status("Fine-tuning …"):
        wait_until(lambda: bool(loop.registry.runs.last_manifest(MODEL)), 900, "the fine-tune to be decided")
        wait_until(lambda: loop.jobs.status(fine_tune_id(MODEL)) is None, 60, "the fine-tune to end")
    settled = time.monotonic() + loop.settings.quiet_seconds + 3  # whatever else it would start has started by then
    wait_until(lambda: time.monotonic() > settled, 60, "a second fine-tune")
    milliseconds = sorted(1000 * taken for _, taken in answers)
    learned = len(loop.registry.runs.last_manifest(MODEL))
    return {
        "events": count,
        "concurrent": concurrent,
        "p99_ms": round(milliseconds[int(0.99 * len(milliseconds))], 1),
        "p50_ms": round(milliseconds[len(milliseconds) // 2], 1),
        "max_ms": round(milliseconds[-1], 1),
        "events_per_s": round(count / seconds),
        "refused": sum(status != 201 for status, _ in answers),
        "jobs": queued(sandbox),
        "noted": noted,
        "lost": count - learned + loop.state.new_labels(MODEL),
        "machine": machine(),
    }


def import_annotated(loop: Loop, project: Project, gold: Sequence[Document], count: int) -> list[bytes]:
    """Store annotated tasks in Label Studio and return the events that submitting them one by one would send."""
    config = project.label_config
    rows = []
    for number in range(count):
        document = gold[number % len(gold)]
        regions = config.regions(document.text, document.entities)
        rows.append({"data": {"text": document.text}, "annotations": [{"result": regions}]})
    loop.label_studio.import_tasks(project.id, rows)
    about = {"id": project.id, "title": project.title, "label_config": project.label_config_xml}
    return [
        json.dumps(
            {
                "action": "ANNOTATION_CREATED",
                "annotation": {"id": made.id, "was_cancelled": False, "result": list(made.result), "task": task.id},
                "project": about,
                "task": {"id": task.id, "data": {"text": task.text}},
            },
            ensure_ascii=False,
        ).encode()
        for task in loop.label_studio.tasks(project, annotated=True)
        for made in task.annotations
    ]


async def send_all(loop: Loop, payloads: Sequence[bytes], concurrent: int) -> list[tuple[int, float]]:
    """Post the events, `concurrent` at a time; return the status and the seconds of each."""
    waiting = iter(payloads)

    async def annotator() -> list[tuple[int, float]]:
        return [await send(loop, payload) for payload in waiting]

    return [answer for answers in await asyncio.gather(*(annotator() for _ in range(concurrent))) for answer in answers]


async def send(loop: Loop, payload: bytes) -> tuple[int, float]:
    """Post one event as Label Studio does; a client library would cost more than the web app."""
    address = urlsplit(loop.settings.backend_url)
    head = (
        f"POST /webhook HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"{SECRET_HEADER}: {loop.settings.webhook_secret}\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head.encode() + payload)
    answer = await reader.read()
    seconds = time.perf_counter() - started
    writer.close()
    return int(answer.split(b" ", 2)[1]), seconds


def queued(sandbox: Sandbox) -> int:
    """Return how often a fine-tune was queued, as the scheduler says it."""
    log = (sandbox.loop.settings.home / "logs" / "schedule.log").read_text(encoding="utf-8")
    return log.count(f"Queued {fine_tune_id(MODEL)}")


if __name__ == "__main__":
    main()
