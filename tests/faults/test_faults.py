"""Every fault heals without a hand: no label lost or counted twice, no half version, no failed prediction.

The processes are real and die by SIGKILL, at chosen points or where a seeded plan says. `rig.check_converged` holds
what must be true after each; docs/reliability.md says what heals it.
"""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import psutil
from rig import HEAL_SECONDS, Rig

from nerloop.demo import DEMO_FOLDER
from nerloop.documents import read_jsonl
from nerloop.embedded.sandbox import wait_until
from nerloop.embedded.stack import Stack
from nerloop.gate import Decision
from nerloop.jobs import fine_tune_id
from nerloop.versions import Candidate
from sync.connect import SECRET_HEADER
from sync.push import push

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:50]
LABELS = 30  # enough that some are held out
_numbers = count(1)


def model() -> str:
    """Return the name of a model that no other test uses."""
    return f"fault-{next(_numbers)}"


def test_the_worker_is_killed_at_each_of_its_steps(rig: Rig) -> None:
    """After it has read the labels, in an epoch, before it registers, and before and after it promotes."""
    name = model()
    project = rig.project(name, GOLD, LABELS)
    points = [
        "sync.pull:snapshot:after",
        "nerloop.registry:Registry.register:before",
        "nerloop.registry:Registry.promote:before",
        "nerloop.registry:Registry.promote:after",
    ]
    for point in points:
        rig.die_at(point)

    rig.label(project, GOLD, LABELS)

    rig.wait_for_death(points[0])
    rig.wait_for_job(name, step="training")
    rig.kill("worker-train")
    for point in points[1:]:
        rig.wait_for_death(point)
    rig.wait_until_promoted(name)
    rig.check_converged(project, name)


def test_whoever_refreshes_predictions_is_killed_at_each_of_its_writes(rig: Rig) -> None:
    name = model()
    project = rig.project(name, GOLD, LABELS)
    points = [
        "nerloop.label_studio:LabelStudio.import_predictions:after",
        "nerloop.label_studio:LabelStudio.update_project:before",
        "nerloop.label_studio:LabelStudio.delete_prediction:after",
    ]
    for point in points:
        rig.die_at(point)

    rig.label(project, GOLD, LABELS)

    for point in points:
        rig.wait_for_death(point)
    rig.wait_until_promoted(name)
    rig.check_converged(project, name)


def test_a_replica_is_killed_in_the_middle_of_a_swap(rig: Rig) -> None:
    name = model()
    project = rig.project(name, GOLD, LABELS)
    rig.label(project, GOLD, LABELS)
    rig.wait_for_job(name, step="training")
    rig.supervisor.stopProcess("worker-predict")  # else it may be the one that downloads
    rig.die_at("nerloop.registry:Registry.download:after")

    rig.wait_for_death("nerloop.registry:Registry.download:after")

    if rig.second.process.poll() is not None:
        rig.second.start()  # whoever runs replicas starts them again, as supervisor does with the other one
    rig.supervisor.startProcess("worker-predict")
    rig.check_converged(project, name)


def test_a_replica_is_killed_while_it_serves(rig: Rig) -> None:
    name = model()
    project = rig.project(name, GOLD[:20], LABELS)

    rig.kill("ml-backend")

    rig.check_converged(project, name, versions=0)
    assert rig.client.passed_over


def test_the_schedule_is_killed_in_a_reconcile(rig: Rig) -> None:
    name = model()
    project = rig.project(name, GOLD[:20], LABELS)
    for hook in rig.loop.label_studio.webhooks(project.id):
        rig.loop.label_studio.delete_webhook(hook["id"])
    rig.label(project, GOLD, 5)
    rig.die_at("sync.reconcile:reconcile:before")
    rig.wait_for_death("sync.reconcile:reconcile:before")

    rig.check_converged(project, name, versions=0)
    assert rig.loop.state.new_labels(name) == 5


def test_redis_is_flushed_and_then_killed_while_a_model_is_trained(rig: Rig) -> None:
    name = model()
    project = rig.project(name, GOLD, LABELS)
    rig.label(project, GOLD, LABELS)
    rig.wait_for_job(name, step="training")

    rig.loop.redis.flushall()
    wait_until(lambda: rig.loop.state.binding(project.id) is not None, HEAL_SECONDS, "the project to be bound again")
    rig.kill("valkey")

    rig.wait_until_promoted(name)
    rig.check_converged(project, name)


def test_label_studio_is_down_while_a_model_is_trained(rig: Rig) -> None:
    name = model()
    project = rig.project(name, GOLD, LABELS)
    rig.label(project, GOLD, LABELS)
    rig.wait_for_job(name, step="training")

    rig.supervisor.stopProcess("label-studio")
    time.sleep(15)  # the fault itself: it is down this long, through the end of the training
    rig.supervisor.startProcess("label-studio")

    rig.wait_until_promoted(name)
    rig.check_converged(project, name)


def test_the_registry_is_down_when_a_training_ends(rig: Rig) -> None:
    name = model()
    project = rig.project(name, GOLD, LABELS)
    rig.label(project, GOLD, LABELS)
    rig.wait_for_job(name, step="training")

    rig.registry.kill()
    wait_until(lambda: _has_ended(rig, name), HEAL_SECONDS, "the training to end")
    rig.registry.start()

    rig.wait_until_promoted(name)
    rig.check_converged(project, name)


def _has_ended(rig: Rig, model: str) -> bool:
    status = rig.loop.jobs.status(fine_tune_id(model))
    return status is None or status.has_failed or status.progress.get("step") == "registering"


def test_a_version_in_the_registry_is_damaged(rig: Rig, tmp_path: Path) -> None:
    name = model()
    project = rig.project(name, GOLD, LABELS)
    rig.label(project, GOLD, LABELS)
    rig.wait_until_promoted(name)
    rig.check_converged(project, name)
    registry = rig.loop.registry
    first = registry.production(name)
    assert first.version is not None
    whole = registry.download(first.version, tmp_path)
    (tmp_path / "dataset.jsonl").touch()
    manifest = registry.runs.last_manifest(name)
    candidate = Candidate(whole, first.version.labels, "", first.name, first.generation, {})
    second = registry.register(name, candidate, tmp_path / "dataset.jsonl", manifest, Decision(True, "a test"))
    (weights,) = rig.home.with_name("artifacts").rglob(f"{second.run_id}/artifacts/checkpoint/pytorch_model.bin")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")

    assert push(rig.loop, second) == "promoted"

    wait_until(lambda: [ready.get("refused", {}).get(name, {}).get("version") for ready in rig.readiness()]
               == [str(second)] * 2, HEAL_SECONDS, "both replicas to refuse it")  # fmt: skip
    assert {ready["serving"][name] for ready in rig.readiness()} == {first.name}
    rig.stack.run("train", "--model", name)
    rig.wait_until_promoted(name, 3)
    rig.check_converged(project, name, versions=3, damaged=str(second))
    assert not any(name in ready["refused"] for ready in rig.readiness())


def test_two_workers_have_the_same_job(rig: Rig) -> None:
    """The worker dies and its job's process lives on: RQ gives the job to another worker."""
    name = model()
    project = rig.project(name, GOLD, LABELS)
    rig.label(project, GOLD, LABELS)
    rig.wait_for_job(name, step="training")

    rig.stack.kill("worker-train")

    rig.wait_until_promoted(name)
    rig.check_converged(project, name)


def test_a_project_is_deleted_while_its_model_is_trained(rig: Rig) -> None:
    name = model()
    project = rig.project(name, GOLD, LABELS)
    other = rig.project(model(), GOLD[:10], LABELS)
    rig.label(project, GOLD, LABELS)
    rig.wait_for_job(name, step="training")

    rig.loop.label_studio._call("DELETE", f"api/projects/{project.id}/")

    wait_until(lambda: rig.loop.state.binding(project.id) is None, 120, "the binding to be forgotten")
    rig.check_converged(other, rig.loop.state.binding(other.id).model, versions=0)  # type: ignore[union-attr]


def test_a_storm_of_webhooks_costs_one_training(rig: Rig) -> None:
    name = model()
    project = rig.project(name, GOLD, LABELS)
    rig.label(project, GOLD, LABELS)
    settings = rig.loop.settings
    ids = sorted(rig.loop.state.new_label_ids(name)) or ["1"]

    def deliver(number: int) -> int:
        body = {
            "action": "ANNOTATION_UPDATED",
            "project": {"id": project.id},
            "annotation": {"id": int(ids[number % len(ids)]), "result": [], "was_cancelled": False},
        }
        header = {SECRET_HEADER: settings.webhook_secret}
        return httpx.post(f"{settings.backend_url}/webhook", json=body, headers=header, timeout=30).status_code

    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(deliver, range(1000)))

    assert set(statuses) == {201}
    rig.wait_until_promoted(name)
    rig.check_converged(project, name)


def test_the_disk_is_full_when_a_training_ends(rig: Rig) -> None:
    """Played by a limit on file sizes, which the system keeps as it keeps a full disk."""
    name = model()
    project = rig.project(name, GOLD, LABELS)
    worker = psutil.Process(Stack(rig.loop.settings).pid_of("worker-train"))
    before = worker.rlimit(psutil.RLIMIT_FSIZE)
    worker.rlimit(psutil.RLIMIT_FSIZE, (500_000, before[1]))
    rig.label(project, GOLD, LABELS)
    wait_until(
        lambda: (status := rig.loop.jobs.status(fine_tune_id(name))) is not None and status.state == "failed",
        HEAL_SECONDS,
        "the training to fail",
    )
    said = rig.loop.jobs.status(fine_tune_id(name))

    worker.rlimit(psutil.RLIMIT_FSIZE, before)

    assert said is not None
    assert "disk" in said.error
    rig.wait_until_promoted(name)
    rig.check_converged(project, name)


def test_the_clock_of_the_machine_that_trains_is_a_day_off(rig: Rig) -> None:
    """The clocks of two processes are changed by libfaketime, since a test may not change the machine's."""
    name = model()
    project = rig.project(name, GOLD, LABELS)
    for process in ("schedule", "worker-train"):
        rig.supervisor.stopProcess(process)
    ahead = rig.at_another_time("schedule", "+1d", "workers", "schedule")
    behind = rig.at_another_time("trainer", "-1d", "workers", "train")

    rig.label(project, GOLD, LABELS)

    try:
        rig.wait_until_promoted(name)
        rig.check_converged(project, name)
    finally:
        for process in (ahead, behind):
            process.kill()
        for supervised in ("schedule", "worker-train"):
            rig.supervisor.startProcess(supervised)


def test_whatever_a_seeded_plan_kills(rig: Rig) -> None:
    dice = random.Random(1)
    name = model()
    project = rig.project(name, GOLD, LABELS)
    rig.label(project, GOLD, LABELS)

    for _ in range(5):
        time.sleep(dice.uniform(0.5, 6))  # the plan
        rig.kill(dice.choice(["worker-train", "worker-predict", "schedule", "valkey", "ml-backend", "label-studio"]))

    rig.wait_until_promoted(name)
    rig.check_converged(project, name)
