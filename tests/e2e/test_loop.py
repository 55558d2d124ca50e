"""The loop turns once, on the real stack: pre-labels, new labels, fine-tune, gate, promotion, fresh predictions."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from nerloop.demo import DEMO_FOLDER, annotate
from nerloop.documents import Document, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.evaluation import evaluate
from nerloop.promotions import STARTER_VERSION
from nerloop.tasks import Project, Task

# Real social media text, which its licence keeps out of the repository.
WEIBO = Path(__file__).parents[3] / "shared" / "data" / "weibo"


@dataclass
class Turn:
    """What a project looked like before and after one turn of the loop."""

    project: Project
    gold: list[Document]
    test: list[Document]
    before: list[Task]
    after: list[Task]
    status: dict
    f1_before: float
    f1_after: float
    next_score: float


def turn(stack: Sandbox, model: str, folder: Path, tasks: int) -> Turn:
    loop = stack.loop
    gold, test = read_jsonl(folder / "train.jsonl")[:tasks], read_jsonl(folder / "test.jsonl")
    project = stack.connected_project(f"e2e {model}", gold, "--model", model, "--train-threshold", "60")
    before = list(loop.label_studio.tasks(project))
    f1_before = f1_of(stack, project, test)

    list(annotate(loop.label_studio, project, gold, 60))

    wait_until(lambda: loop.registry.production(model).version is not None, 240, "a promotion")
    version = f"{model}-v1"
    wait_until(lambda: not stack.stale(project, version), 60, "fresh predictions")
    wait_until(
        lambda: not loop.label_studio.count_tasks(project.id, annotated=False, min_predictions=2), 90, "old ones gone"
    )
    wait_until(lambda: all(s.get(model) == version for s in loop.state.replicas().values()), 30, "the swap")
    served = loop.label_studio.next_task(project)
    assert served is not None
    (status,) = [
        p for p in json.loads(stack.run("status", "--json").stdout)["projects"] if p["project_id"] == project.id
    ]
    return Turn(
        project=loop.label_studio.project(project.id),
        gold=gold,
        test=test,
        before=before,
        after=list(loop.label_studio.tasks(project)),
        status=status,
        f1_before=f1_before,
        f1_after=f1_of(stack, project, test),
        next_score=served.predictions[0].score or 0.0,
    )


def f1_of(stack: Sandbox, project: Project, test: list[Document]) -> float:
    """Score what the running backend answers over HTTP, as Label Studio would ask it."""
    settings = stack.loop.settings
    answer = httpx.post(
        f"{settings.backend_url}/predict",
        auth=(settings.basic_auth_user, settings.basic_auth_pass),
        json={
            "tasks": [{"id": i, "project": project.id, "data": {"text": d.text}} for i, d in enumerate(test)],
            "project": f"{project.id}.0",
            "label_config": project.label_config_xml,
        },
        timeout=100,
    ).json()
    found = [
        Document("", d.text, project.label_config.entities(d.text, result["result"])[0])
        for d, result in zip(test, answer["results"], strict=True)
    ]
    return evaluate(test, found).micro.f1


@pytest.fixture(scope="module")
def demo_turn(stack: Sandbox) -> Turn:
    return turn(stack, "demo", DEMO_FOLDER, tasks=330)


@pytest.fixture(scope="module")
def unseen_turn(stack: Sandbox) -> Turn:
    if not WEIBO.exists():
        pytest.skip(f"{WEIBO} is absent: its licence keeps it out of the repository")
    return turn(stack, "weibo", WEIBO, tasks=200)


turns = pytest.mark.parametrize("name", ["demo_turn", "unseen_turn"])


@turns
def test_every_task_is_pre_labelled_by_the_starter(name: str, request: pytest.FixtureRequest) -> None:
    before = request.getfixturevalue(name).before

    assert {tuple(p.model_version for p in task.predictions) for task in before} == {(STARTER_VERSION,)}


@turns
def test_the_promoted_version_is_better_on_untouched_documents(name: str, request: pytest.FixtureRequest) -> None:
    turned = request.getfixturevalue(name)

    assert turned.f1_after > turned.f1_before


@turns
def test_every_unannotated_task_has_exactly_one_prediction_of_the_new_version(
    name: str, request: pytest.FixtureRequest
) -> None:
    turned = request.getfixturevalue(name)
    unannotated = [task for task in turned.after if not task.annotations]

    assert len(unannotated) == len(turned.gold) - 60
    assert {tuple(p.model_version for p in task.predictions) for task in unannotated} == {
        (turned.status["production"],)
    }


@turns
def test_the_lowest_score_is_served_first(name: str, request: pytest.FixtureRequest) -> None:
    turned = request.getfixturevalue(name)

    assert turned.next_score == min(task.predictions[0].score or 0.0 for task in turned.after if not task.annotations)


@turns
def test_status_says_that_the_loop_has_turned(name: str, request: pytest.FixtureRequest) -> None:
    status = request.getfixturevalue(name).status

    assert status["stale"] == 0
    assert status["annotated"] == 60
    assert status["new_labels"] == 0
    assert status["production"] == f"{status['model']}-v1" == status["shown_version"]
    assert "promoted" in status["last_decision"]


def test_labels_that_the_starter_does_not_know_appear_in_the_pre_labels(demo_turn: Turn) -> None:
    shown = {e.label for task in demo_turn.after if not task.annotations for e in task.predictions[0].entities}

    assert {"DRUG", "DISEASE"} <= shown


def test_annotations_keep_the_prediction_they_started_from(stack: Sandbox, demo_turn: Turn) -> None:
    annotated = [task for task in demo_turn.after if task.annotations]

    assert all(STARTER_VERSION in {p.model_version for p in task.predictions} for task in annotated)


def test_the_export_holds_what_was_annotated(stack: Sandbox, demo_turn: Turn, tmp_path: Path) -> None:
    output = tmp_path / "demo.jsonl"

    stack.run("export", "--project", str(demo_turn.project.id), "-o", str(output))

    exported = read_jsonl(output)
    gold = {document.text: set(document.entities) for document in demo_turn.gold}
    assert len(exported) == 60
    assert all(set(document.entities) == gold[document.text] for document in exported)
    ids = [int(document.id.partition("-")[2]) for document in exported]
    assert all(a < b for a, b in itertools.pairwise(ids))


def test_doctor_finds_nothing_wrong(stack: Sandbox, demo_turn: Turn) -> None:
    checked = stack.run("doctor", check=False)

    assert checked.returncode == 0, checked.stdout


def test_doctor_names_what_a_replica_cannot_serve(stack: Sandbox, demo_turn: Turn) -> None:
    model = demo_turn.status["model"]
    refused = {model: {"version": f"{model}-v1", "reason": "a damaged file"}}
    stack.loop.state.beat("elsewhere", {model: STARTER_VERSION}, refused, seconds=60)

    checked = stack.run("doctor", check=False)

    assert checked.returncode == 1
    assert f"{model}-v1 is refused: a damaged file" in " ".join(checked.stdout.split())


def test_secrets_are_in_no_log_and_readable_by_their_owner_only(stack: Sandbox, demo_turn: Turn) -> None:
    settings = stack.loop.settings
    secrets = {
        settings.label_studio_api_key,
        settings.basic_auth_pass,
        settings.webhook_secret,
        stack.account[1],
        urlsplit(settings.redis_url).password,
    }
    logs = "".join(path.read_text(errors="replace") for path in (settings.home / "logs").glob("*.log"))

    assert not any(str(secret) in logs for secret in secrets)
    assert (settings.home / "settings.env").stat().st_mode & 0o077 == 0
    assert settings.home.stat().st_mode & 0o077 == 0
