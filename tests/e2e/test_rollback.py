"""What people decide on a whole stack: a rollback that predictions follow, and a document that is erased for good."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from nerloop import checkpoint
from nerloop.demo import DEMO_FOLDER, annotate
from nerloop.documents import Document, Manifest, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.gate import Decision
from nerloop.label_studio import LabelStudio
from nerloop.promotions import STARTER_VERSION
from nerloop.starter import fresh_starter
from nerloop.tagger import adapt
from nerloop.tagging import Decoder
from nerloop.tasks import Project
from nerloop.troubles import Troubles
from nerloop.versions import Candidate, ModelVersion
from sync.erase import erase
from sync.pull import snapshot
from sync.reconcile import reconcile

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:30]


@pytest.fixture
def project(stack: Sandbox) -> Iterator[Project]:
    """A connected project of thirty tasks whose threshold is out of reach."""
    loop = stack.loop
    made = stack.connected_project("steered", GOLD, "--train-threshold", "1000")
    yield made
    loop.label_studio._call("DELETE", f"api/projects/{made.id}/")


def candidate(stack: Sandbox, project: Project, folder: Path) -> ModelVersion:
    """Register what a fine-tune from today's labels and production might have made; the gate was content."""
    loop, model = stack.loop, f"project-{project.id}"
    tagger = adapt(fresh_starter(), Decoder.flat(project.label_config.labels))
    made = folder / f"v{len(loop.registry.versions(model)) + 1}"
    binding = loop.state.binding(project.id)
    assert binding is not None
    made.mkdir()
    labelled = snapshot(loop, [binding], [project], made / "dataset.jsonl")
    checkpoint.save(tagger, checkpoint.Provenance("lac", labelled.fingerprint), made / "checkpoint")
    production = loop.registry.production(model)
    return loop.registry.register(
        model,
        Candidate(
            made / "checkpoint",
            labelled.labels,
            labelled.fingerprint,
            production.name,
            production.generation,
            {},
        ),
        made / "dataset.jsonl",
        labelled.manifest,
        Decision(True, "better"),
    )


def status(stack: Sandbox, project: Project) -> dict:
    projects = json.loads(stack.run("status", "--json").stdout)["projects"]
    return next(one for one in projects if one["project_id"] == project.id)


def test_predictions_follow_a_rollback_and_the_next_candidate_waits_for_a_resume(
    stack: Sandbox, project: Project, tmp_path: Path
) -> None:
    loop, model = stack.loop, f"project-{project.id}"
    first = candidate(stack, project, tmp_path)
    wait_until(lambda: not stack.stale(project, str(first)), 120, "predictions of the first version")

    ended = stack.run("rollback", model, "--by", "Li Na", "--why", "finds no drugs")

    assert ended.stdout == f"{STARTER_VERSION}\n"
    wait_until(lambda: not stack.stale(project, STARTER_VERSION), 60, "the starter's predictions to be back")
    wait_until(
        lambda: all(serving.get(model) == STARTER_VERSION for serving in loop.state.replicas().values()),
        30,
        "the replicas to follow",
    )
    second = candidate(stack, project, tmp_path)
    loop.redis.flushall()
    reconcile(loop, Troubles())
    shown = status(stack, project)
    assert (shown["production"], shown["waiting"]) == (STARTER_VERSION, [str(second)])
    assert (shown["paused"]["by"], shown["paused"]["why"]) == ("Li Na", "finds no drugs")
    assert shown["change_kind"] == "rollback"

    stack.run("resume", model)

    wait_until(lambda: not stack.stale(project, str(second)), 120, "predictions of the version that waited")
    (task, *_) = loop.label_studio.tasks(project, annotated=False)
    prediction = next(p for p in task.predictions if p.model_version == str(second))
    traced = json.loads(stack.run("lineage", "--prediction", str(prediction.id), "--json").stdout)
    assert (traced["version"], traced["in_production"]) == (str(second), True)


def test_an_erased_document_is_gone_from_label_studio_and_from_every_snapshot(
    stack: Sandbox, project: Project, tmp_path: Path
) -> None:
    loop = stack.loop
    list(annotate(loop.label_studio, project, GOLD, 3))
    private = Document("", "王小明，三十四岁，昨天下午在华西附二院神经内科就诊。")  # in no other test's project
    loop.label_studio.import_tasks(project.id, [{"data": {"text": private.text}}])
    (task,) = (one for one in loop.label_studio.tasks(project, annotated=False) if one.text == private.text)
    others = list(loop.label_studio.tasks(project, annotated=True))
    loop.label_studio.create_annotation(task.id, [], lead_time=1, parent_prediction=None)
    version = candidate(stack, project, tmp_path)
    document = f"{project.id}-{task.id}"

    ended = stack.run("erase", document, "--by", "Li Na", "--why", "request 12", "--yes")
    again = stack.run("erase", document, "--by", "Li Na", "--why", "request 12", "--yes")

    assert ended.stdout == again.stdout == f"{version}\n"
    assert "deleted in Label Studio and erased from the snapshots of 1 runs" in ended.stderr
    assert "not in Label Studio any more" in again.stderr
    assert loop.label_studio.annotation_ids(project.id, task.id) is None
    folder = MlflowClient(loop.settings.registry_address).download_artifacts(version.run_id, "snapshot", str(tmp_path))
    ids = [one.id for one in read_jsonl(Path(folder) / "dataset.jsonl")]
    assert ids == [f"{project.id}-{one.id}" for one in others]
    manifest: Manifest = json.loads((Path(folder) / "manifest.json").read_text())
    assert manifest.keys() == {str(annotation.id) for one in others for annotation in one.annotations}
    kept = loop.settings.home.rglob("*.json*")
    assert not [path for path in kept if private.text in path.read_text(errors="replace")]


def test_a_fine_tune_that_ends_while_a_document_is_erased_does_not_keep_it(
    stack: Sandbox, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, model = stack.loop, f"project-{project.id}"
    list(annotate(loop.label_studio, project, GOLD, 2))
    erased, other = loop.label_studio.tasks(project, annotated=True)
    binding = loop.state.binding(project.id)
    assert binding is not None
    labelled = snapshot(loop, [binding], [project], tmp_path / "dataset.jsonl")
    run_id = loop.registry.runs.begin(model, "key", {}).id
    (tmp_path / "checkpoint").mkdir()
    made = Candidate(tmp_path / "checkpoint", labelled.labels, "", STARTER_VERSION, 0, {}, run_id=run_id)
    delete_task = LabelStudio.delete_task

    def end_meanwhile(label_studio: LabelStudio, task_id: int) -> None:
        loop.registry.register(model, made, labelled.path, labelled.manifest, Decision(False, "worse"))
        delete_task(label_studio, task_id)

    monkeypatch.setattr(LabelStudio, "delete_task", end_meanwhile)

    erasure = erase(loop, f"{project.id}-{erased.id}", "Li Na", "request 12")

    assert (erasure.runs, erasure.versions) == ((run_id,), (f"{model}-v1",))
    folder = MlflowClient(loop.settings.registry_address).download_artifacts(run_id, "snapshot", str(tmp_path))
    assert [one.id for one in read_jsonl(Path(folder) / "dataset.jsonl")] == [f"{project.id}-{other.id}"]
