"""Times one turn of the loop on a real stack of its own, from the label that crosses the threshold to the refresh.

python benchmarks/loop.py
python benchmarks/loop.py --data DIR        a folder with train.jsonl and test.jsonl; its labels become the project's
python benchmarks/loop.py --quick           at most 200 tasks
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine
from rich.console import Console

from nerloop.demo import DEMO_FOLDER, annotate, create_project
from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.loop import Loop
from nerloop.predictor import score
from nerloop.promotions import STARTER_VERSION
from nerloop.tasks import Project

MODEL = "benchmark"
console = Console(stderr=True)


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEMO_FOLDER, help="folder with train.jsonl and test.jsonl")
    parser.add_argument(
        "--annotate", type=int, default=60, help="tasks to annotate; the last one crosses the threshold"
    )
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of train.jsonl to import at most")
    parser.add_argument("--quick", action="store_true", help="at most 200 tasks")
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    arguments = parser.parse_args()
    tasks = 200 if arguments.quick else arguments.tasks
    with tempfile.TemporaryDirectory(prefix="nerloop-benchmark-") as folder:
        console.print("Starting a stack of its own …")
        with Sandbox(Path(folder) / "home", NERLOOP_GRACE_SECONDS="0") as sandbox:
            result = turn(sandbox, arguments.data, tasks, arguments.annotate)
    line = json.dumps(result, ensure_ascii=False)
    if arguments.out:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def turn(sandbox: Sandbox, data: Path, tasks: int, count: int) -> dict[str, Any]:
    """Annotate `count` tasks of a new project and time what follows."""
    loop = sandbox.loop
    gold, test = read_jsonl(data / "train.jsonl")[:tasks], read_jsonl(data / "test.jsonl")
    labels = labels_of([*gold, *test])
    project = create_project(loop.label_studio, f"benchmark {data.name}", gold, labels)
    sandbox.run("connect", "--project", str(project.id), "--model", MODEL, "--train-threshold", str(count))
    with console.status("Pre-labelling with the starter …"):
        wait_until(lambda: sandbox.stale(project, STARTER_VERSION) == 0, 600, "the starter's predictions")
    f1_before = f1_on(loop, project, test)
    with console.status("Annotating …") as progress:
        for number, _ in enumerate(annotate(loop.label_studio, project, gold, count), start=1):
            progress.update(f"Annotating {number} of {count} …")
    crossed = time.monotonic()
    with console.status("Fine-tuning …"):
        wait_until(lambda: loop.registry.production(MODEL).version is not None, 900, "a promotion")
    promoted = time.monotonic()
    version = loop.registry.production(MODEL).name
    with console.status("Refreshing predictions …"):
        wait_until(lambda: sandbox.stale(project, version) == 0, 900, "fresh predictions")
        fresh = time.monotonic()
        wait_until(lambda: doubled(loop, project) == 0, 900, "the old predictions to go")
    return {
        "data": data.name,
        "tasks": len(gold),
        "annotated": count,
        "test_documents": len(test),
        "threshold_to_promoted_s": round(promoted - crossed, 1),
        "promoted_to_refreshed_s": round(fresh - promoted, 1),
        "old_deleted_s": round(time.monotonic() - fresh, 1),
        "f1_before": round(f1_before, 4),
        "f1_after": round(f1_on(loop, project, test), 4),
        "stale": sandbox.stale(project, version),
        "version": version,
        "machine": machine(),
    }


def doubled(loop: Loop, project: Project) -> int:
    """Return how many unannotated tasks have more than one prediction."""
    return loop.label_studio.count_tasks(project.id, annotated=False, min_predictions=2)


def f1_on(loop: Loop, project: Project, test: list[Document]) -> float:
    """Return the strict micro-F1, over all the project's labels, of what is in production now."""
    predictor = loop.serving.update(MODEL)
    return score(predictor.with_labels(project.label_config.shown_as(predictor.labels)), test).micro.f1


if __name__ == "__main__":
    main()
