"""The REST API on a whole stack, as a program of somebody else's calls it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings, strategies

from nerloop.demo import DEMO_FOLDER, annotate, create_project
from nerloop.documents import labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.promotions import STARTER_VERSION
from nerloop.tasks import Project

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:8]


@pytest.fixture
def project(stack: Sandbox) -> Project:
    """A connected project of eight tasks, five of them annotated; it stays, since others share the stack."""
    label_studio = stack.loop.label_studio
    made = create_project(label_studio, "api", GOLD, labels_of(GOLD))
    stack.run("connect", "--project", str(made.id), "--model", "api", "--train-threshold", "1000")
    for task, document in zip(label_studio.tasks(made), GOLD[:5], strict=False):
        regions = made.label_config.regions(document.text, document.entities)
        label_studio.create_annotation(task.id, regions, lead_time=1, parent_prediction=None)
    return made


@pytest.fixture
def api(stack: Sandbox) -> Iterator[httpx.Client]:
    """A client with the token that `nerloop user add` printed."""
    token = stack.run("user", "add", "lina", "--role", "operator").stdout.strip()
    url = f"{stack.loop.settings.backend_url}/api/v1"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


def test_an_export_is_byte_for_byte_what_the_command_writes(
    stack: Sandbox, project: Project, api: httpx.Client, tmp_path: Path
) -> None:
    stack.run("export", "--project", str(project.id), "--output", str(tmp_path / "written.jsonl"))

    answer = api.get(f"/projects/{project.id}/export")

    assert answer.content == (tmp_path / "written.jsonl").read_bytes()
    assert len(read_jsonl(tmp_path / "written.jsonl")) == 5
    assert api.get("/projects/999999/export").status_code == 404


def test_a_report_is_what_the_command_prints(stack: Sandbox, project: Project, api: httpx.Client) -> None:
    printed = json.loads(stack.run("report", "--project", str(project.id), "--json").stdout)

    assert api.get(f"/projects/{project.id}/report").json() == printed
    assert printed["without_pre_labels"] == 5
    assert api.get("/projects/999999/report").status_code == 404


def test_the_state_of_the_loop_is_what_the_command_shows(stack: Sandbox, project: Project, api: httpx.Client) -> None:
    def ours() -> dict[str, object]:
        return next(row for row in api.get("/projects").json() if row["project_id"] == project.id)

    wait_until(lambda: ours()["stale"] == 0, 60, "the starter's predictions")

    assert (ours()["model"], ours()["annotated"], ours()["production"]) == ("api", 5, STARTER_VERSION)
    (model,) = (row for row in api.get("/models").json() if row["model"] == "api")
    assert model["production"] == STARTER_VERSION
    assert project.id in model["projects"]


def test_a_project_whose_label_config_was_broken_later_does_not_hide_the_others(
    stack: Sandbox, project: Project, api: httpx.Client
) -> None:
    made = create_project(stack.loop.label_studio, "broken", GOLD[:2], labels_of(GOLD))
    stack.run("connect", "--project", str(made.id), "--model", "broken", "--train-threshold", "1000")
    stack.loop.label_studio.update_project(made.id, label_config='<View><Text name="t" value="$text"/></View>')

    rows = {row["project_id"]: row for row in api.get("/projects").json()}

    assert rows[made.id]["labels"] == []
    assert rows[project.id]["labels"]
    stack.loop.label_studio.update_project(made.id, label_config=made.label_config_xml)


def test_nobody_gets_in_without_a_token_and_a_removed_user_is_out(stack: Sandbox, api: httpx.Client) -> None:
    assert api.get("/models").status_code == 200
    assert httpx.get(f"{api.base_url}models").status_code == 401

    stack.run("user", "remove", "lina")

    assert api.get("/models").status_code == 401


def test_a_running_fine_tune_can_be_stopped_and_its_labels_still_count(stack: Sandbox, api: httpx.Client) -> None:
    gold = read_jsonl(DEMO_FOLDER / "train.jsonl")[:80]
    made = create_project(stack.loop.label_studio, "stopped", gold, labels_of(gold))
    stack.run("connect", "--project", str(made.id), "--model", "stopped", "--train-threshold", "1000")
    list(annotate(stack.loop.label_studio, made, gold, 60))

    def training() -> dict[str, Any]:
        return dict(api.get("/models/stopped/training").json())

    api.post("/models/stopped/train")
    wait_until(lambda: bool(training()["progress"].get("curve")), 120, "the fine-tune to end an epoch")
    first = training()["progress"]["curve"][0]
    assert first["epoch"] == 1
    assert first["loss"] > 0
    assert first.keys() == {"epoch", "loss", "dev_f1"}
    assert api.post("/models/stopped/training/stop").json() == {"stopped": True}
    wait_until(lambda: training()["state"] == "stopped", 30, "the fine-tune to stop")

    assert api.get("/models/stopped/versions").json() == []
    assert stack.loop.state.new_labels("stopped") == 60


def test_no_request_that_the_description_allows_makes_the_server_fail(
    stack: Sandbox, project: Project, api: httpx.Client
) -> None:
    described = schemathesis.openapi.from_dict(api.get("/openapi.json").json())
    operations = [found.ok() for found in described.exclude(path_regex="/events").get_all_operations()]
    known = {"project_id": project.id, "model": "api", "version": "api-v1"}

    for operation in operations:
        try_whatever(api, operation, known, stack.loop.settings.label_studio_url)

    assert len(operations) == 26


def try_whatever(api: httpx.Client, operation: Any, known: dict[str, object], label_studio: str) -> None:
    """Send what is generated from the description, for any project and model and for those that there are."""

    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), is_known=strategies.booleans(), language=strategies.sampled_from(["zh", "en"]))
    def send(case: schemathesis.Case, is_known: bool, language: str) -> None:
        if is_known:
            case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})
        if "/label-studio/check" in case.path and isinstance(case.body, dict) and "url" in case.body:
            case.body["url"] = label_studio  # no other machine is asked
        arguments = case.as_transport_kwargs()
        sent = {key: arguments[key] for key in ("json", "params", "content") if key in arguments}
        sent["headers"] = {"Accept-Language": language}
        answer = api.request(case.method, case.formatted_path.removeprefix("/api/v1"), **sent)
        assert answer.status_code < 500, (case.method, case.formatted_path, sent, answer.text)

    send()
