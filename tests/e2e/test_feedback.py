"""A correction that somebody sends is an annotation in Label Studio, and the next model has learned it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nerloop.demo import DEMO_FOLDER, annotate
from nerloop.documents import Document, Entity, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.promotions import STARTER_VERSION
from nerloop.split import Side, side_of
from nerloop.tasks import FEEDBACK_FIELD, Project, Task
from sync.pull import side_of_task

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:80]
MODEL = "corrected"
SURFACE = "青梧苑"
TEXT = f"{SURFACE}的负责人昨天没有回应。"
FLAGGED = f"{SURFACE}又写错了。"


@pytest.fixture(scope="module")
def project(stack: Sandbox) -> Project:
    """A connected project whose threshold nobody reaches; it stays, since others share the stack."""
    return stack.connected_project("feedback", GOLD, "--model", MODEL, "--train-threshold", "1000")


@pytest.fixture(scope="module")
def api(stack: Sandbox) -> Iterator[httpx.Client]:
    """A client of somebody who may train."""
    token = stack.run("user", "add", "chen", "--role", "operator").stdout.strip()
    url = f"{stack.loop.settings.backend_url}/api/v1"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


def on_side(stack: Sandbox, texts: Iterator[str], side: Side) -> str:
    settings = stack.loop.settings
    return next(text for text in texts if side_of(text, settings.dev_share, settings.gate_share) == side)


def span(text: str, surface: str, label: str) -> dict[str, object]:
    return {"start": text.index(surface), "end": text.index(surface) + len(surface), "label": label}


def send(api: httpx.Client, project: Project, **body: object) -> dict[str, object]:
    answer = api.post(f"/projects/{project.id}/feedback", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def stored(stack: Sandbox, project: Project, text: str) -> list[Task]:
    return [task for task in stack.loop.label_studio.tasks(project) if task.text == text]


def test_a_correction_of_a_new_text_is_a_marked_task_for_training_and_is_stored_once(
    stack: Sandbox, project: Project, api: httpx.Client, tmp_path: Path
) -> None:
    text = on_side(stack, (f"  {SURFACE}😀第{n}次。\r\n" for n in itertools.count()), "gate")
    body = {"text": text, "entities": [span(text, SURFACE, "ORG")], "model_version": STARTER_VERSION}

    first, again = send(api, project, **body), send(api, project, **body)

    (task,) = stored(stack, project, text)
    assert project.label_config.entities(text, task.annotations[0].result)[0][0].start == text.index(SURFACE)
    assert [annotation.id for annotation in task.annotations] == [first["annotation_id"]]
    assert (first["task_id"], first["serves"], first["repeated"]) == (task.id, "training", False)
    assert again == {**first, "repeated": True}
    row = httpx.get(
        f"{stack.loop.settings.label_studio_url}/api/tasks/{task.id}/",
        headers={"Authorization": f"Token {stack.loop.settings.label_studio_api_key}"},
    ).json()
    assert row["data"][FEEDBACK_FIELD] == f"chen, {STARTER_VERSION}"
    assert api.get(f"/projects/{project.id}/report").json()["without_pre_labels"] == 0  # it says nothing of pre-labels
    stack.run("export", "--project", str(project.id), "--output", str(tmp_path / "out.jsonl"))
    assert [d.feedback for d in read_jsonl(tmp_path / "out.jsonl") if d.text == text] == [True]


def test_a_correction_of_a_held_out_text_serves_evaluation_and_makes_no_task(
    stack: Sandbox, project: Project, api: httpx.Client
) -> None:
    text = on_side(stack, (document.text for document in GOLD), "gate")

    sent = send(api, project, text=text, entities=[])

    (task,) = stored(stack, project, text)
    assert (sent["task_id"], sent["serves"]) == (task.id, "evaluation")
    assert [annotation.id for annotation in task.annotations] == [sent["annotation_id"]]
    assert not task.feedback


def test_a_text_that_differs_from_a_held_out_one_in_white_space_alone_is_said_not_to_train(
    stack: Sandbox, project: Project, api: httpx.Client
) -> None:
    text = on_side(stack, (document.text for document in reversed(GOLD)), "gate")
    other = f" {text}\n"
    entity = {"start": 1, "end": 3, "label": "ORG"}

    sent = send(api, project, text=other, entities=[entity])

    assert [task.id for task in stored(stack, project, other)] == [sent["task_id"]]
    assert sent["serves"] == "evaluation"


def test_what_is_only_flagged_is_what_annotators_are_served_next(
    stack: Sandbox, project: Project, api: httpx.Client
) -> None:
    label_studio = stack.loop.label_studio
    waiting = label_studio.next_tasks(project, 40)
    old = next(task for task in reversed(waiting) if side_of_task(task, stack.loop.settings) == "train")

    flagged = [send(api, project, text=text, entities=None) for text in (old.text, FLAGGED)]
    wait_until(lambda: not stack.stale(project, STARTER_VERSION), 60, "the new task's prediction")

    assert flagged[0]["task_id"] == old.id
    assert [answer["annotation_id"] for answer in flagged] == [None, None]
    assert {task.id for task in label_studio.next_tasks(project, 2)} == {answer["task_id"] for answer in flagged}
    assert send(api, project, text=old.text, entities=None)["repeated"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "张三", "entities": [{"start": 0, "end": 3, "label": "PER"}]}, ("'end'=3", "2 characters")),
        ({"text": "张三", "entities": [{"start": 0, "end": 2, "label": "药品"}]}, ("药品", "PER")),
        ({"text": " \n", "entities": []}, ("'text'", "empty")),
        ({"text": "张\0三", "entities": []}, ("'text'", "NUL")),
    ],
)
def test_a_correction_that_makes_no_sense_is_refused_and_nothing_is_stored(
    stack: Sandbox, project: Project, api: httpx.Client, body: dict[str, object], words: tuple[str, ...]
) -> None:
    before = stack.loop.label_studio.count_tasks(project.id)

    answer = api.post(f"/projects/{project.id}/feedback", json=body)

    assert answer.status_code == 400
    assert all(word in answer.json()["detail"] for word in words), answer.text
    assert stack.loop.label_studio.count_tasks(project.id) == before


def test_after_a_training_the_model_finds_what_was_corrected_and_after_a_rollback_no_more(
    stack: Sandbox, project: Project, api: httpx.Client
) -> None:
    text = on_side(stack, (f"第{n}天，{TEXT}" for n in itertools.count()), "train")

    def found() -> set[tuple[str, str]]:
        (document,) = api.post("/predict", json={"model": MODEL, "texts": [text]}).json()["documents"]
        return {(entity["text"], entity["label"]) for entity in document["entities"]}

    assert (SURFACE, "ORG") not in found()
    list(annotate(stack.loop.label_studio, project, [*GOLD, Document("", FLAGGED, (Entity(0, 3, "ORG"),))], 60))
    sent = send(api, project, text=text, entities=[span(text, SURFACE, "ORG")])
    state = f"/projects/{project.id}/feedback/{sent['annotation_id']}"
    assert api.get(state).json() == {"live_in": None}

    api.post(f"/models/{MODEL}/train")
    wait_until(lambda: api.get(state).json()["live_in"] == f"{MODEL}-v1", 240, "the model that learned from it")
    wait_until(lambda: (SURFACE, "ORG") in found(), 60, "the replica to serve it")

    api.post(f"/models/{MODEL}/rollback", json={"why": "to see the difference"}).raise_for_status()
    wait_until(lambda: (SURFACE, "ORG") not in found(), 60, "the replica to serve the starter")
    assert api.get(state).json() == {"live_in": None}
