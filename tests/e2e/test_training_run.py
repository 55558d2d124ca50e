"""Fine-tunes of the loop in this process, on a real Label Studio and registry, that start from production."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from nerloop import checkpoint, thresholds
from nerloop.cli import cli
from nerloop.demo import DEMO_FOLDER, annotate, create_project
from nerloop.documents import labels_of, read_jsonl, write_jsonl
from nerloop.embedded.sandbox import Sandbox
from nerloop.loop import Loop
from nerloop.models import load_model
from nerloop.pre_annotation import pre_annotate
from nerloop.predictor import Predictor
from nerloop.promotions import STARTER_VERSION
from nerloop.settings import Settings
from nerloop.split import side_of
from nerloop.tagger import adapt, weights_key
from nerloop.tagging import Decoder
from nerloop.trainer import EPOCHS
from nerloop.versions import ModelVersion
from workers.training_run import TrainingRun

MODEL = "continued"
GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")


class Killed(BaseException):
    """Ends a run where a kill would."""


def run(
    loop: Loop, killed_in: int | None = None, model: str = MODEL
) -> tuple[ModelVersion | None, list[dict[str, Any]]]:
    """Fine-tune; return the version that was made, and what was said of the training."""
    said: list[dict[str, Any]] = []

    def hear(progress: dict[str, Any]) -> None:
        if progress["step"] == "training":
            said.append(progress)
            if killed_in and progress["epoch"] >= killed_in:  # not each epoch is said
                raise Killed

    try:
        return TrainingRun(loop, hear).run(model, forced=True).version, said
    except Killed:
        return None, said


@pytest.fixture(scope="module")
def loop(stack: Sandbox) -> Loop:
    """A process that is told to start from production; its model's project holds 80 labelled texts."""
    project = create_project(stack.loop.label_studio, MODEL, GOLD[:80], labels_of(GOLD))
    stack.run("connect", "--project", str(project.id), "--model", MODEL, "--train-threshold", "1000")
    assert len(list(annotate(stack.loop.label_studio, project, GOLD, 80))) == 80
    return Loop(Settings.load({**stack.environ, "NERLOOP_BASE_MODEL": "production"}))


@pytest.fixture(scope="module")
def said_first(loop: Loop) -> list[dict[str, Any]]:
    """What was said of the first fine-tune, whose version is in production."""
    version, said = run(loop)
    assert str(loop.registry.production(MODEL).version) == str(version) == "continued-v1"
    return said


def test_a_fine_tune_goes_on_from_production_and_a_killed_one_from_where_it_was(
    loop: Loop, said_first: list[dict[str, Any]]
) -> None:
    _, said_killed = run(loop, killed_in=4)
    version, said = run(loop)

    assert version is not None and str(version) == "continued-v2"
    assert 0 < version.metrics["kappa"] <= 1  # it agrees with v1, more or less
    bases = [load_model(f"continued-v{number}", loop).provenance for number in (1, 2)]
    assert [made.base for made in bases if made] == ["lac", "continued-v1"]
    assert said_killed[0]["loss"] < said_first[0]["loss"] / 2  # what v1 knows need not be learned again
    assert said[0]["epoch"] >= 4


@pytest.mark.usefixtures("said_first")
def test_a_fine_tune_starts_with_every_label_of_production_and_leaves_what_serves_as_it_is(loop: Loop) -> None:
    serving = loop.serving.update(MODEL).tagger
    before = weights_key(serving)
    start = load_model(loop.registry.production(MODEL).name, loop).tagger

    run(loop, killed_in=2)

    assert weights_key(adapt(start, Decoder.flat(labels_of(GOLD)))) == before
    assert weights_key(serving) == before


@pytest.mark.usefixtures("said_first")
def test_a_first_model_that_few_documents_judged_is_provisional_and_says_by_what_it_was_judged(loop: Loop) -> None:
    version = loop.registry.version(MODEL, 1)

    assert version.provisional
    assert [contest.version for contest in version.contests] == [version.parent] == [STARTER_VERSION]
    assert version.contests[0].labels == tuple(labels_of(GOLD))
    assert "provisional: fewer than 30 documents or 100 entities" in version.reason


@pytest.mark.usefixtures("said_first")
def test_where_a_precision_is_asked_for_annotators_are_spared_what_the_version_is_less_sure_of(
    stack: Sandbox, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "MIN_ENTITIES", 5)  # few texts are labelled here
    asked = Settings.load({**stack.environ, "NERLOOP_DEV_SHARE": "0.5", "NERLOOP_TARGET_PRECISION": "1"})

    version, _ = run(Loop(asked))

    tagger = load_model(str(version), loop).tagger
    assert tagger.thresholds
    config = loop.label_studio.project(loop.state.bindings()[0].project_id).label_config
    texts = [document.text for document in GOLD]
    predictor = Predictor(tagger, str(version))
    found = [entity for prediction in predictor.predict(texts) for entity in prediction.entities]
    shown = [
        entity for prediction, _ in pre_annotate(predictor, config, texts, asked) for entity in prediction.entities
    ]
    assert 0 < len(shown) < len(found)
    assert all((entity.score or 0) > tagger.thresholds.get(entity.label, 0) for entity in shown)


@pytest.mark.usefixtures("said_first")
def test_the_shell_fine_tunes_a_registered_version(stack: Sandbox, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", GOLD[:20])
    options = ["--train", str(tmp_path / "train.jsonl"), "--base", "continued-v1", "--epochs", "1"]

    ended = CliRunner().invoke(cli, ["finetune", *options, "--output", str(tmp_path / "made")], env=stack.environ)

    assert ended.exit_code == 0, ended.output
    made = checkpoint.load(tmp_path / "made").provenance
    assert made is not None and made.base == "continued-v1"
    assert "labels DISEASE, DRUG, LOC, ORG, PER\n" in ended.stderr  # none of them new


def test_a_fine_tune_learns_from_what_nobody_has_labelled_too_and_that_can_be_erased(
    stack: Sandbox, tmp_path: Path
) -> None:
    loop = stack.loop
    project = create_project(loop.label_studio, "unlabelled", GOLD[:160], labels_of(GOLD))
    stack.run("connect", "--project", str(project.id), "--model", "unlabelled", "--train-threshold", "1000")
    assert len(list(annotate(loop.label_studio, project, GOLD, 60))) == 60

    asked = Loop(Settings.load({**stack.environ, "NERLOOP_DEV_SHARE": "0.3"}))  # else dev is too small for it

    version, said = run(asked, model="unlabelled")

    assert version is not None
    client = MlflowClient(loop.settings.registry_address)
    snapshot = Path(client.download_artifacts(version.run_id, "snapshot", str(tmp_path)))
    labelled, unlabelled = (read_jsonl(snapshot / f"{name}.jsonl") for name in ("dataset", "unlabelled"))
    assert client.get_run(version.run_id).data.params["unlabelled_documents"] == str(len(unlabelled))
    assert len(unlabelled) > 30
    assert not {document.text for document in unlabelled} & {document.text for document in labelled}
    assert {side_of(document.text, 0.3, 0.1) for document in unlabelled} == {"train"}
    assert said[-1]["epochs"] > 2 * EPOCHS[0]

    ended = stack.run("erase", unlabelled[0].id, "--by", "Li Na", "--why", "request 13", "--yes")

    assert ended.stdout == f"{version}\n"
    kept = Path(client.download_artifacts(version.run_id, "snapshot", str(tmp_path)))
    assert [document.id for document in read_jsonl(kept / "unlabelled.jsonl")] == [one.id for one in unlabelled[1:]]


def test_on_another_machine_a_killed_fine_tune_ends_with_the_model_it_would_have_ended_with(
    stack: Sandbox, tmp_path: Path
) -> None:
    loop = stack.loop
    for model in ("whole", "moved"):
        project = create_project(loop.label_studio, model, GOLD[:60], labels_of(GOLD))
        stack.run("connect", "--project", str(project.id), "--model", model, "--train-threshold", "1000")
        tasks = sorted(loop.label_studio.tasks(project, annotated=False), key=lambda task: task.id)
        for task, document in zip(tasks, GOLD, strict=False):
            regions = project.label_config.regions(document.text, document.entities)
            loop.label_studio.create_annotation(task.id, regions, lead_time=1, parent_prediction=None)
    elsewhere = {"NERLOOP_HOME": str(tmp_path), "NERLOOP_REGISTRY_URL": loop.settings.registry_address}
    servers = {"NERLOOP_REDIS_URL": loop.settings.redis_url, "LABEL_STUDIO_API_KEY": loop.settings.label_studio_api_key}

    run(loop, killed_in=4, model="moved")
    _, said = run(Loop(Settings.load({**stack.environ, **elsewhere, **servers})), model="moved")
    run(loop, model="whole")

    assert said[0]["epoch"] > 1
    made = [load_model(f"{model}-v1", loop).tagger for model in ("whole", "moved")]
    assert weights_key(made[0]) == weights_key(made[1])
