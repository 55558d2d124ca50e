"""Times a refresh of predictions against Label Studio's own *Retrieve Predictions*, on a real stack of its own.

    .venv/bin/python benchmarks/refresh.py [--tasks 10000] [--own 2000] [--quick] [--out FILE]

A project of so many tasks holds the starter's predictions; then a version is promoted, and the refresh runs in this
process, alone, while an annotator labels (a submit every half second, each naming the prediction that was shown).
Label Studio's own way is timed on another project with the same model, backend and annotator, on `--own` tasks, and
its time a task is taken times the number of tasks: it works task by task. What the model takes there is the time of the
same request sent to the backend by hand.
`ratio_label_studio` is Label Studio's part only (its own minus the model; ours: posts and the switch, beside the
model), and `ratio_end_to_end` everything, the model included. Old predictions are deleted apart, some of them, one
request each.
On PostgreSQL: say which in Label Studio's words (DJANGO_DB=default POSTGRE_HOST=… POSTGRE_PORT=… POSTGRE_NAME=…
POSTGRE_USER=… POSTGRE_PASSWORD=…), an empty database.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psutil
from machine import machine

from nerloop import checkpoint
from nerloop.demo import DEMO_FOLDER, label_config_for
from nerloop.documents import read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.embedded.stack import Stack
from nerloop.gate import Decision
from nerloop.label_studio import LabelStudio
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.promotions import STARTER_VERSION
from nerloop.settings import Settings
from nerloop.starter import starter
from nerloop.tasks import Project, Task
from nerloop.versions import Candidate
from sync import predictions, slices

MODEL = "benchmark"
NEVER = "86400"
DELETED = 50
GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks of the project that is refreshed")
    parser.add_argument("--own", type=int, default=2000, help="tasks that Label Studio retrieves its own way")
    parser.add_argument("--quick", action="store_true", help="1,000 tasks, 200 of them Label Studio's own way")
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    arguments = parser.parse_args()
    tasks, own = (1000, 200) if arguments.quick else (arguments.tasks, min(arguments.own, arguments.tasks))
    with tempfile.TemporaryDirectory(prefix="nerloop-benchmark-") as folder:
        say("Starting a stack of its own …")
        with Sandbox(Path(folder) / "home", NERLOOP_RECONCILE_SECONDS=NEVER, NERLOOP_GRACE_SECONDS=NEVER) as sandbox:
            result = compare(sandbox, tasks, own)
    line = json.dumps(result, ensure_ascii=False)
    if arguments.out:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def compare(sandbox: Sandbox, tasks: int, own: int) -> dict[str, Any]:
    """Refresh one project, let Label Studio retrieve another, and put their times side by side."""
    loop = sandbox.loop
    project = create_project(loop.label_studio, tasks)
    connect(sandbox, project)
    say(f"Pre-labelling {tasks} tasks with the starter …")
    wait_until(lambda: sandbox.stale(project, STARTER_VERSION) == 0, 3600, "the starter's predictions")
    Stack(loop.settings).supervisor.stopProcess("worker-predict")  # from here on only this process writes predictions
    version = promote(loop, project)
    loop.serving.update(MODEL)  # loading is a swap's, benchmarks/swap.py; the backend has loaded it too
    wait_until(lambda: all(v.get(MODEL) == version for v in loop.state.replicas().values()), 600, "the swap")
    say("Refreshing …")
    ours = refresh(loop, project)
    say(f"Label Studio retrieves {own} …")
    theirs = retrieve(sandbox, own)
    say("Deleting old predictions …")
    per_task = theirs["seconds"] / own
    return {
        "tasks": tasks,
        "own_tasks": own,
        "database": os.environ.get("DJANGO_DB", "sqlite"),
        "ratio_label_studio": round((theirs["seconds"] - theirs["model_s"]) / own * tasks / ours["push_s"], 1),
        "ratio_end_to_end": round(per_task * tasks / ours["seconds"], 1),
        "failed_submits": ours["failed_submits"],
        "tasks_per_s": round(tasks / ours["seconds"]),
        "first_slice_s": ours["first_slice_s"],
        "stale": sandbox.stale(project, version),
        "doubled": doubled(loop, project, version),
        "peak_mb": ours["peak_mb"],
        "ours": ours,
        "own": theirs,
        "delete_ms": delete_some(sandbox, project),
        "machine": machine(),
    }


def create_project(label_studio: LabelStudio, tasks: int) -> Project:
    """Create a project of the demo's texts, again and again, each with a number before it."""
    project = label_studio.create_project("benchmark", label_config_for(starter().decoder.labels))
    texts = [f"{number}. {GOLD[number % len(GOLD)].text}" for number in range(tasks)]
    for start in range(0, tasks, 10_000):
        label_studio.import_tasks(project.id, [{"data": {"text": text}} for text in texts[start : start + 10_000]])
    return label_studio.project(project.id)


def connect(sandbox: Sandbox, project: Project) -> None:
    """Bind a project to the model; no number of labels trains it."""
    sandbox.run("connect", "--project", str(project.id), "--model", MODEL, "--train-threshold", "1000000")


def promote(loop: Loop, project: Project) -> str:
    """Put a version into production that is the starter once more, which predicts as many entities; return its name."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(starter(), checkpoint.Provenance("lac", ""), Path(folder) / "made")
        (Path(folder) / "dataset.jsonl").touch()
        candidate = Candidate(Path(folder) / "made", project.label_config.labels, "", STARTER_VERSION, 0, {})
        loop.registry.register(MODEL, candidate, Path(folder) / "dataset.jsonl", {}, Decision(True, "benchmark"))
    assert loop.registry.promote(loop.registry.versions(MODEL)[0]) == "promoted"
    loop.state.say_promoted(MODEL)
    return loop.registry.production(MODEL).name


def refresh(loop: Loop, project: Project) -> dict[str, Any]:
    """Refresh a project in this process and say what took how long."""
    watched = TimedLabelStudio(loop.settings)
    vars(loop)["label_studio"] = watched
    model = Stopwatch()
    slices.predict = vars(predictions)["predict"] = model.of(slices.predict)
    megabytes: list[int] = []
    seen: list[float] = []
    process = psutil.Process()

    def on_progress(done: int, total: int) -> None:
        seen.append(time.perf_counter())
        megabytes.append(process.memory_info().rss >> 20)

    with Annotator(loop, project) as annotator:
        began = time.perf_counter()
        predictions.refresh_predictions(loop, Binding(project.id, MODEL, Settings.train_threshold), on_progress)
        seconds = time.perf_counter() - began
    push = watched.seconds("POST") + watched.seconds("PATCH")
    return {
        "seconds": round(seconds, 1),
        "first_slice_s": round(seen[0] - began, 2),
        "push_s": round(push, 1),
        "read_s": round(watched.seconds("GET"), 1),
        "model_s": round(model.seconds, 1),
        "model_share": round(model.seconds / seconds, 2),
        "label_studio_share": round((push + watched.seconds("GET")) / seconds, 2),  # beside the model, in part
        "posts": watched.calls("POST"),
        "peak_mb": max(megabytes),
        "first_mb": megabytes[0],
        **annotator.figures(),
    }


def retrieve(sandbox: Sandbox, tasks: int) -> dict[str, Any]:
    """Let Label Studio retrieve the predictions of a new project, and time the backend's part by the same request."""
    loop, settings = sandbox.loop, sandbox.loop.settings
    project = create_project(loop.label_studio, tasks)
    connect(sandbox, project)
    body = {
        "tasks": [{"id": t.id, "project": project.id, "data": {"text": t.text}} for t in tasks_of(loop, project)],
        "project": f"{project.id}.0",
        "label_config": project.label_config_xml,
    }
    predict = f"{settings.backend_url}/predict"
    basic = (settings.basic_auth_user, settings.basic_auth_pass)
    token = {"Authorization": f"Token {settings.label_studio_api_key}"}
    action = f"{settings.label_studio_url}/api/dm/actions?id=retrieve_tasks_predictions&project={project.id}"
    with Annotator(loop, project) as annotator:
        began = time.perf_counter()
        httpx.post(predict, json=body, auth=basic, timeout=600).raise_for_status()
        model_s = time.perf_counter() - began
        began = time.perf_counter()
        everything = {"selectedItems": {"all": True, "excluded": []}}
        httpx.post(action, json=everything, headers=token, timeout=3600).raise_for_status()
        seconds = time.perf_counter() - began
    version = loop.registry.production(MODEL).name
    lacking = loop.label_studio.count_tasks(project.id, annotated=False, lacking_version=version)
    assert not lacking, f"Label Studio retrieved nothing for {lacking} of {tasks} tasks; its own time says nothing"
    return {"seconds": round(seconds, 1), "model_s": round(model_s, 1), **annotator.figures()}


def tasks_of(loop: Loop, project: Project) -> Iterator[Task]:
    """Yield the tasks without what is on them."""
    return loop.label_studio.tasks(project, bare=True)


def doubled(loop: Loop, project: Project, version: str) -> int:
    """Return how many tasks have more than one prediction of a version."""
    tasks = loop.label_studio.tasks(project, annotated=False, min_predictions=3)  # the starter's, and two
    return sum(sum(p.model_version == version for p in task.predictions) > 1 for task in tasks)


def delete_some(sandbox: Sandbox, project: Project) -> float:
    """Delete some old predictions as a refresh does after the grace period; return the milliseconds of one."""
    loop = Loop(Settings.load({**sandbox.environ, "NERLOOP_GRACE_SECONDS": "0"}))
    old = list(islice(predictions.old_predictions(loop, project, predictions.recent_versions(loop, MODEL)), DELETED))
    began = time.perf_counter()
    for prediction in old:
        loop.label_studio.delete_prediction(prediction.id)
    return round((time.perf_counter() - began) / len(old) * 1000, 1)


class Stopwatch:
    """Adds up the seconds of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began
            self.calls += 1

    def of(self, function: Any) -> Any:
        """Return a function whose time is counted."""

        def timed(*arguments: Any) -> Any:
            with self.running():
                return function(*arguments)

        return timed


class TimedLabelStudio(LabelStudio):
    """The door to Label Studio, with a stopwatch for each method."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.label_studio_url, settings.label_studio_api_key)
        self._watches: dict[str, Stopwatch] = {}

    def seconds(self, method: str) -> float:
        """Return the seconds of all requests of a method."""
        return self._watches[method].seconds

    def calls(self, method: str) -> int:
        """Return how many requests of a method there were."""
        return self._watches[method].calls

    def _call(self, method: str, path: str, **options: Any) -> Any:
        with self._watches.setdefault(method, Stopwatch()).running():
            return super()._call(method, path, **options)


class Annotator(threading.Thread):
    """Opens a task, and half a second later submits it, naming the prediction that was shown; until the block ends."""

    def __init__(self, loop: Loop, project: Project) -> None:
        super().__init__(daemon=True)
        settings = loop.settings
        token = {"Authorization": f"Token {settings.label_studio_api_key}"}
        self._http = httpx.Client(base_url=settings.label_studio_url, headers=token, timeout=600)
        self._project = project
        self._ended = threading.Event()
        self._answers: list[tuple[httpx.Response, float]] = []  # to submits, and where there was no page to submit

    def __enter__(self) -> "Annotator":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
        self._http.close()

    def run(self) -> None:
        """Label; whatever Label Studio answers is noted."""
        while not self._ended.is_set():
            page = self._http.get(f"/api/projects/{self._project.id}/next/")
            if page.status_code != 200:
                self._answers.append((page, 0.0))
                continue
            shown = page.json()["predictions"]
            self._ended.wait(0.5)
            body: dict[str, Any] = {
                "result": [],
                "lead_time": 0.5,
                "parent_prediction": shown[0]["id"] if shown else None,
            }
            began = time.perf_counter()
            answer = self._http.post(f"/api/tasks/{page.json()['id']}/annotations/", json=body)
            self._answers.append((answer, time.perf_counter() - began))

    def figures(self) -> dict[str, Any]:
        """Return how many submits there were, how many were refused, and how long the slowest took."""
        refusals = [refusal(answer) for answer, _ in self._answers if answer.status_code != 201]
        return {
            "submits": len(self._answers),
            "failed_submits": len(refusals),
            "refusals": sorted(set(refusals)),
            "slowest_submit_s": round(max((seconds for _, seconds in self._answers), default=0.0), 1),
        }


def refusal(answer: httpx.Response) -> str:
    """Return what was asked and how it was refused."""
    return f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}"


def say(what: str) -> None:
    """Say on stderr what is going on."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
