"""Times reading a project's labels into the copy on this machine: first, again, and again after ten changes.

python benchmarks/labels.py
python benchmarks/labels.py --quick         1,000 annotated tasks
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from machine import machine
from rich.console import Console

from nerloop.demo import DEMO_FOLDER, label_config_for
from nerloop.documents import labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.settings import Settings
from nerloop.tasks import Project
from sync.label_copy import OVERLAP_SECONDS
from sync.pull import new_labels, snapshot

CHANGED = 10
console = Console(stderr=True)


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000, help="annotated tasks")
    parser.add_argument("--quick", action="store_true", help="1,000 annotated tasks")
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    arguments = parser.parse_args()
    tasks = 1000 if arguments.quick else arguments.tasks
    with tempfile.TemporaryDirectory(prefix="nerloop-benchmark-") as folder:
        console.print("Starting a stack of its own …")
        with Sandbox(Path(folder) / "home", NERLOOP_RECONCILE_SECONDS="86400") as sandbox:  # it would read too
            result = run(sandbox, tasks)
    line = json.dumps(result, ensure_ascii=False)
    if arguments.out:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def run(sandbox: Sandbox, count: int) -> dict[str, Any]:
    """Import annotated tasks, read them in processes of their own, change some and read again."""
    label_studio = sandbox.loop.label_studio
    project = import_annotated(sandbox.loop, count)
    with console.status("Reading …"):
        first = in_process(read_labels, sandbox, project.id)
        fresh = in_process(read_labels, sandbox, project.id)
        settled = time.monotonic() + OVERLAP_SECONDS
        wait_until(lambda: time.monotonic() > settled, 2 * OVERLAP_SECONDS, "what was imported to be old")
        unchanged = in_process(read_labels, sandbox, project.id)
        taken = in_process(take_snapshot, sandbox, project.id)
        for task in islice(label_studio.tasks(project, annotated=True, page_size=CHANGED), CHANGED):
            label_studio._call("PATCH", f"api/annotations/{task.annotations[0].id}/", body={"result": []})
        changed = in_process(read_labels, sandbox, project.id, taken["manifest"])
    return {
        "tasks": count,
        "changed": CHANGED,
        "first_s": first["seconds"],
        "first_peak_mb": first["peak_mb"],
        "just_imported_s": fresh["seconds"],
        "unchanged_s": unchanged["seconds"],
        "changed_s": changed["seconds"],
        "changed_peak_mb": changed["peak_mb"],
        "snapshot_s": taken["seconds"],
        "snapshot_peak_mb": taken["peak_mb"],
        "documents": taken["documents"],
        "found": [first["new"], changed["new"]],
        "machine": machine(),
    }


def import_annotated(loop: Loop, count: int) -> Project:
    """Create a project of annotated tasks."""
    gold = read_jsonl(DEMO_FOLDER / "train.jsonl")
    project = loop.label_studio.create_project("labels", label_config_for(labels_of(gold)))
    rows = []
    for number in range(count):
        document = gold[number % len(gold)]
        regions = project.label_config.regions(document.text, document.entities)
        rows.append({"data": {"text": document.text}, "annotations": [{"result": regions}]})
    with console.status(f"Importing {count} annotated tasks …"):
        loop.label_studio.import_tasks(project.id, rows)
    return project


def in_process(work: Any, sandbox: Sandbox, *arguments: Any) -> dict[str, Any]:
    """Call `work` in a process of its own, whose peak of memory is then its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(pool.submit(measured, work, sandbox.environ, *arguments).result())


def measured(work: Any, environ: Mapping[str, str], project_id: int, *arguments: Any) -> dict[str, Any]:
    """Return what `work` does with its seconds and the megabytes it needed beyond what importing takes."""
    loop = Loop(Settings.load(environ))
    project = loop.label_studio.project(project_id)
    assert project.label_config.labels  # parsed now, not while it is measured
    before, started = peak_mb(), time.perf_counter()
    result = work(loop, project, *arguments)
    return {**result, "seconds": round(time.perf_counter() - started, 2), "peak_mb": round(peak_mb() - before)}


def peak_mb() -> float:
    """Return the most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_labels(loop: Loop, project: Project, decided: dict[str, str] | None = None) -> dict[str, Any]:
    """Count new labels as reconcile does each minute."""
    return {"new": len(new_labels(loop, [project], decided or {}))}


def take_snapshot(loop: Loop, project: Project) -> dict[str, Any]:
    """Write the dataset as a training run does."""
    path = loop.settings.home / "dataset.jsonl"
    taken = snapshot(loop, [Binding(project.id, "benchmark", 50)], [project], path)
    with path.open(encoding="utf-8") as lines:
        return {"documents": sum(1 for _ in lines), "manifest": taken.manifest}


if __name__ == "__main__":
    main()
