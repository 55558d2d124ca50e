"""The REST API against the real app with a real Valkey and a real registry: who may do what, and what is answered."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ml_backend import api, api_system
from ml_backend import model as backend_model
from ml_backend.app import MAX_API_BODY_BYTES, app
from ml_backend.language import Language
from ml_backend.services import Services
from nerloop import checkpoint
from nerloop.embedded.sandbox import wait_until
from nerloop.gate import Decision
from nerloop.jobs import fine_tune_id, refresh_id
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.promotions import STARTER_VERSION
from nerloop.settings import Settings
from nerloop.starter import fresh_starter
from nerloop.users import Users
from nerloop.versions import Candidate, ModelVersion

TEXT = "张三在北京的阿里巴巴工作。"
API = "/api/v1"
READING = ("/models", "/models/medical", "/models/medical/versions", "/models/medical/training", "/projects")
DECIDING = (
    ("/models/medical/train", {}),
    ("/models/medical/training/stop", {}),
    ("/models/medical/rollback", {}),
    ("/models/medical/pause", {}),
    ("/models/medical/resume", {}),
    ("/versions/medical-v1/promote", {"why": "audit"}),
    ("/projects/1/connect", {}),
    ("/label-studio/check", {"url": "http://127.0.0.1:9", "token": "0"}),
)


@pytest.fixture
def services(loop: Loop, valkey: str, timed_runtimes: None, monkeypatch: pytest.MonkeyPatch) -> Services:
    environ = {
        "NERLOOP_HOME": str(loop.settings.home),
        "NERLOOP_REDIS_URL": valkey,
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "NERLOOP_POLL_SECONDS": "1",
    }
    made = Services(Settings.load({**environ, "LABEL_STUDIO_URL": "http://127.0.0.1:9"}))  # nothing listens there
    monkeypatch.setattr(backend_model, "_services", lambda: made)
    loop.state.save_binding(Binding(1, "medical", 50))
    return made


@pytest.fixture
def anybody(services: Services) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture
def viewer(anybody: TestClient, services: Services) -> TestClient:
    return with_token(anybody, Users(services.settings.users_file).add("wang", "viewer"))


@pytest.fixture
def operator(anybody: TestClient, services: Services) -> TestClient:
    return with_token(anybody, Users(services.settings.users_file).add("lina", "operator"))


def with_token(client: TestClient, token: str) -> TestClient:
    return TestClient(client.app, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def firewalled() -> Iterator[str]:
    """The address of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


def register(loop: Loop, folder: Path, decision: Decision) -> ModelVersion:
    """Register a version that is the starter under another name."""
    made = folder / f"made-{len(loop.registry.versions('medical'))}"
    checkpoint.save(fresh_starter(), checkpoint.Provenance("lac", ""), made)
    (folder / "dataset.jsonl").touch()
    serves = loop.registry.production("medical")
    candidate = Candidate(made, ("PER",), "", serves.name, serves.generation, {"gate_f1": 0.8})
    return loop.registry.register("medical", candidate, folder / "dataset.jsonl", {}, decision)


def check_problem(answer: Any, status: int, *words: str) -> None:
    body = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert all(word in body["detail"] for word in words), body


@pytest.mark.parametrize("path", READING)
def test_an_anonymous_visitor_reads_nothing(anybody: TestClient, path: str) -> None:
    check_problem(anybody.get(API + path), 401, "nerloop user add")
    check_problem(with_token(anybody, "nerloop_guessed").get(API + path), 401)


@pytest.mark.parametrize(("path", "body"), [("/predict", {"texts": [TEXT]}), *DECIDING])
def test_an_anonymous_visitor_does_nothing(anybody: TestClient, path: str, body: dict[str, Any]) -> None:
    check_problem(anybody.post(API + path, json=body), 401)


@pytest.mark.parametrize(("path", "body"), DECIDING)
def test_a_viewer_decides_nothing(viewer: TestClient, loop: Loop, path: str, body: dict[str, Any]) -> None:
    check_problem(viewer.post(API + path, json=body), 403, "wang", "operator")

    assert loop.jobs.status(fine_tune_id("medical")) is None
    assert not loop.registry.promotion_log("medical").pause


@pytest.mark.parametrize("path", ["/doctor", "/label-studio", "/label-studio/projects"])
def test_a_viewer_sees_nothing_of_the_installation(viewer: TestClient, path: str) -> None:
    check_problem(viewer.get(API + path), 403, "wang", "operator")


def test_label_studios_password_opens_label_studios_protocol_alone(anybody: TestClient) -> None:
    check_problem(anybody.get(f"{API}/models", auth=("label-studio", "password")), 401)


def test_texts_are_labelled_in_order_with_exact_offsets(viewer: TestClient) -> None:
    texts = ["", "👩‍⚕️ " + TEXT, "没有实体的句子"]

    answer = viewer.post(f"{API}/predict", json={"texts": texts}).json()

    assert answer["model_version"] == STARTER_VERSION
    found = [[entity["text"] for entity in document["entities"]] for document in answer["documents"]]
    assert (found[0], found[1][-3:], found[2]) == ([], ["张三", "北京", "阿里巴巴"], [])
    for entity in answer["documents"][1]["entities"]:
        assert texts[1][entity["start"] : entity["end"]] == entity["text"]
        assert 0 < entity["score"] <= 1


def test_the_model_is_chosen_by_name(viewer: TestClient, loop: Loop, tmp_path: Path) -> None:
    loop.registry.promote(register(loop, tmp_path, Decision(True, "better")))
    loop.state.say_promoted("medical")

    def version(model: str) -> str:
        return str(viewer.post(f"{API}/predict", json={"model": model, "texts": [TEXT]}).json()["model_version"])

    wait_until(lambda: version("medical") == "medical-v1", 180, "the promoted version to serve")
    assert version("lac") == STARTER_VERSION
    check_problem(viewer.post(f"{API}/predict", json={"model": "legal", "texts": [TEXT]}), 404, "legal")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "texts"),
        ({"texts": []}, "texts"),
        ({"texts": TEXT}, "texts"),
        ({"texts": [1]}, "texts.0"),
        ({"texts": ["长" * 100_001]}, "texts.0"),
        ({"texts": [TEXT] * 1001}, "texts"),
        ({"texts": [TEXT], "model": "../etc"}, "model"),
        ({"texts": [TEXT], "modle": "lac"}, "modle"),
    ],
)
def test_a_malformed_request_is_told_which_field(viewer: TestClient, body: dict[str, Any], field: str) -> None:
    check_problem(viewer.post(f"{API}/predict", json=body), 422, f"field '{field}'")


def test_half_an_emoji_is_refused_and_not_repeated(viewer: TestClient) -> None:
    body = b'{"texts": ["\\ud83d in Beijing"]}'

    answer = viewer.post(f"{API}/predict", content=body, headers={"Content-Type": "application/json"})

    check_problem(answer, 422, "field 'texts.0'")
    assert "Beijing" not in answer.text


def test_a_body_that_is_too_large_is_refused_with_and_without_an_announced_length(viewer: TestClient) -> None:
    body = json.dumps({"texts": ["长" * 90_000] * 40}, ensure_ascii=False).encode()
    assert len(body) > MAX_API_BODY_BYTES
    kind = {"Content-Type": "application/json"}

    check_problem(viewer.post(f"{API}/predict", content=body, headers=kind), 413, "fewer texts")
    check_problem(viewer.post(f"{API}/predict", content=iter([body]), headers=kind), 413, "fewer texts")


def test_models_and_versions_are_listed_with_what_the_gate_decided(
    viewer: TestClient, loop: Loop, tmp_path: Path
) -> None:
    loop.registry.promote(register(loop, tmp_path, Decision(True, "better")))
    loop.registry.mark_files(register(loop, tmp_path, Decision(False, "worse")), "2026-01-01")

    models = {row["model"]: row for row in viewer.get(f"{API}/models").json()}
    versions = viewer.get(f"{API}/models/medical/versions").json()

    assert models["medical"] == {"model": "medical", "production": "medical-v1", "projects": [1]}
    assert models["lac"]["production"] == STARTER_VERSION
    said = ("version", "decision", "reason", "in_production", "files_removed")
    assert [tuple(version[key] for key in said) for version in versions] == [
        ("medical-v2", "rejected", "worse", False, "2026-01-01"),
        ("medical-v1", "promoted", "better", True, ""),
    ]
    check_problem(viewer.get(f"{API}/models/legal/versions"), 404, "legal")


def test_where_a_model_stands_is_known_while_label_studio_is_down(
    viewer: TestClient, loop: Loop, tmp_path: Path
) -> None:
    loop.registry.promote(register(loop, tmp_path, Decision(True, "better")))
    loop.registry.append("medical", "pause", "lina", "audit")
    waits = register(loop, tmp_path, Decision(True, "better still"))
    loop.state.add_new_labels("medical", ["7", "8"])

    state = viewer.get(f"{API}/models/medical").json()

    assert (state["production"], state["f1"], state["previous"]) == ("medical-v1", 0.8, STARTER_VERSION)
    assert (state["paused"]["by"], state["paused"]["why"]) == ("lina", "audit")
    assert state["waiting"] == [str(waits)]
    assert (state["new_labels"], state["train_threshold"]) == (2, 50)
    check_problem(viewer.get(f"{API}/projects"), 503, "Label Studio")
    check_problem(viewer.get(f"{API}/models/legal"), 404, "legal")


def test_it_speaks_chinese_to_who_asks_for_it(
    viewer: TestClient, operator: TestClient, loop: Loop, tmp_path: Path
) -> None:
    register(loop, tmp_path, Decision(False, "refused because micro-F1 is lower"))
    for client in (viewer, operator):
        client.headers["Accept-Language"] = "zh-CN,zh;q=0.9,en;q=0.8"

    (version,) = viewer.get(f"{API}/models/medical/versions").json()
    unknown = viewer.get(f"{API}/models/legal/versions")
    unlike = viewer.post(f"{API}/predict", json={"texts": []})
    checks = operator.get(f"{API}/doctor").json()

    assert version["reason"] == "拒绝：micro-F1 更低"
    check_problem(unknown, 404, "没有模型 'legal'")
    assert unknown.headers["content-language"] == "zh"
    check_problem(unlike, 422, "字段 'texts'：至少 1 项")
    assert "Redis 响应正常" in {check["name"] for check in checks}


def test_what_a_replica_cannot_serve_is_told_in_the_language_that_is_asked_for(viewer: TestClient, loop: Loop) -> None:
    reason = "there is no model 'legal'; GET /api/v1/models lists them"  # any of ours
    loop.state.beat("one", {"medical": "medical-v1"}, {"medical": {"version": "medical-v2", "reason": reason}}, 60)
    loop.state.beat("two", {"medical": "medical-v1"}, {}, 60)

    system = viewer.get(f"{API}/system").json()

    assert system["replicas"] == {"one": {"medical": "medical-v1"}, "two": {"medical": "medical-v1"}}
    assert system["refused"] == {"one": {"medical": {"version": "medical-v2", "reason": reason}}}
    system = viewer.get(f"{API}/system", headers={"Accept-Language": "zh"}).json()
    assert "没有模型 'legal'" in system["refused"]["one"]["medical"]["reason"]


@pytest.mark.parametrize("what", ["export", "dataset", "report", "feedback"])
def test_of_a_project_that_is_not_connected_nothing_is_told_and_nothing_written(
    operator: TestClient, what: str
) -> None:
    path = f"{API}/projects/2/{what}"

    answer = operator.post(path, json={"text": TEXT, "entities": []}) if what == "feedback" else operator.get(path)

    check_problem(answer, 404, "project 2 is not connected")


def test_of_an_unknown_field_no_more_than_the_beginning_of_its_name_is_repeated(anybody: TestClient) -> None:
    sent = {"name": "a", "password": "b", ": " * 50_000: 1}

    answer = anybody.post(f"{API}/login", json=sent, headers={"Accept-Language": "zh"})

    check_problem(answer, 422)
    assert len(answer.text) < 500


def test_a_bug_is_a_problem_too_and_is_counted(viewer: TestClient, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError(f"{loop.settings.home} is nobody's business")

    monkeypatch.setattr("nerloop.runs.Runs.models", broken)
    forgiving = TestClient(viewer.app, headers=viewer.headers, raise_server_exceptions=False)

    answer = forgiving.get(f"{API}/models")

    check_problem(answer, 500, "RuntimeError", "log")
    assert str(loop.settings.home) not in answer.text
    assert 'route="/api/v1/models",status="500"' in viewer.get("/metrics").text


def test_a_fine_tune_is_queued_once(operator: TestClient, loop: Loop) -> None:
    assert operator.post(f"{API}/models/medical/train").json() == {"queued": True}
    assert operator.post(f"{API}/models/medical/train").json() == {"queued": False}

    assert operator.get(f"{API}/models/medical/training").json()["state"] == "queued"
    check_problem(operator.post(f"{API}/models/lac/train"), 404, "nerloop connect")


def test_a_fine_tune_that_waits_can_be_stopped_and_queued_again(operator: TestClient, loop: Loop) -> None:
    stop, train = f"{API}/models/medical/training/stop", f"{API}/models/medical/train"
    assert operator.post(stop).json() == {"stopped": False}
    operator.post(train)

    assert operator.post(stop).json() == {"stopped": True}

    assert operator.get(f"{API}/models/medical/training").json()["state"] == "canceled"
    assert not loop.jobs.enqueue_fine_tune("medical")  # the labels are due as before, but it cools down
    assert operator.post(stop).json() == {"stopped": False}
    assert operator.post(train).json() == {"queued": True}


def test_a_named_version_predicts_whatever_serves(viewer: TestClient, loop: Loop, tmp_path: Path) -> None:
    register(loop, tmp_path, Decision(False, "worse"))

    def made_by(**body: str) -> str:
        return str(viewer.post(f"{API}/predict", json={"texts": [TEXT], **body}).json()["model_version"])

    assert made_by(version="medical-v1") == "medical-v1"
    assert made_by(model="medical") == STARTER_VERSION
    assert made_by(version=STARTER_VERSION) == STARTER_VERSION
    check_problem(viewer.post(f"{API}/predict", json={"texts": [TEXT], "version": "medical-v2"}), 404, "medical-v2")


def test_a_version_whose_files_are_gone_cannot_be_asked(viewer: TestClient, loop: Loop, tmp_path: Path) -> None:
    loop.registry.mark_files(register(loop, tmp_path, Decision(False, "worse")), "2026-05-01")

    answer = viewer.post(f"{API}/predict", json={"texts": [TEXT], "version": "medical-v1"})

    check_problem(answer, 410, "medical-v1", "retention")


def test_prometheus_is_told_what_is_served_predicted_and_waited_for(
    viewer: TestClient, operator: TestClient, anybody: TestClient, loop: Loop
) -> None:
    loop.state.add_new_labels("medical", ["7", "8"])
    operator.post(f"{API}/models/medical/train")
    before = metrics_of(viewer)
    viewer.post(f"{API}/predict", json={"texts": [TEXT, ""], "model": "medical"})

    after = metrics_of(viewer)

    texts = 'nerloop_predicted_texts_total{model_version="lac-starter"}'
    asked = 'nerloop_request_seconds_count{route="/api/v1/predict",status="200"}'
    assert after[texts] == before.get(texts, 0) + 2
    assert after[asked] == before.get(asked, 0) + 1
    assert after['nerloop_serving{model="medical",model_version="lac-starter"}'] == 1
    assert after['nerloop_new_labels{model="medical"}'] == 2
    assert after['nerloop_train_threshold{model="medical"}'] == 50
    assert after['nerloop_queued_jobs{queue="train"}'] == 1
    assert anybody.get("/metrics").status_code == 401


def test_prometheus_is_answered_while_redis_is_down(
    services: Services, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.post(f"{API}/predict", json={"texts": [TEXT]})
    monkeypatch.setitem(
        services.loop.__dict__, "state", Loop(Settings.load({"NERLOOP_REDIS_URL": "redis://127.0.0.1:1"})).state
    )

    told = metrics_of(viewer)

    assert told['nerloop_serving{model="lac",model_version="lac-starter"}'] == 1
    assert not any(name.startswith("nerloop_new_labels") for name in told)


def metrics_of(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def test_how_a_fine_tune_goes_on_is_sent_as_it_changes_until_it_has_ended(
    operator: TestClient, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_backend.api.SECONDS_BETWEEN_EVENTS", 0.05)
    operator.post(f"{API}/models/medical/train")
    read = threading.Event()
    training = api._training

    def noted(loop: Loop, model: str, language: Language) -> api.Training:
        found = training(loop, model, language)
        read.set()
        return found

    def end() -> None:
        read.wait(20)
        loop.redis.flushall()

    monkeypatch.setattr(api, "_training", noted)
    ending = threading.Thread(target=end)
    ending.start()
    states = []
    with operator.stream("GET", f"{API}/models/medical/training/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data:"):
                states.append(json.loads(line.removeprefix("data:"))["state"])
    ending.join()

    assert states == ["queued", "idle"]


def test_promote_rollback_pause_and_resume_keep_who_and_why(operator: TestClient, loop: Loop, tmp_path: Path) -> None:
    register(loop, tmp_path, Decision(False, "worse"))

    promoted = operator.post(f"{API}/versions/medical-v1/promote", json={"why": "审计"})
    back = operator.post(f"{API}/models/medical/rollback", json={"why": "finds no drugs"})
    paused = operator.post(f"{API}/models/medical/pause", json={})
    resumed = operator.post(f"{API}/models/medical/resume", json={"why": "mended"})

    assert promoted.json() == {"production": "medical-v1"}
    assert back.json() == {"before": "medical-v1", "production": STARTER_VERSION}
    assert (paused.json(), resumed.json()) == ({"changed": False}, {"changed": True})
    log = loop.registry.promotion_log("medical")
    assert [(entry.kind, entry.by, entry.why) for entry in log.valid] == [
        ("forced", "lina", "审计"),
        ("rollback", "lina", "finds no drugs"),
    ]
    assert loop.jobs.status(refresh_id(1)) is not None  # predictions follow


def test_what_cannot_be_decided_is_answered_with_the_way_out(operator: TestClient) -> None:
    check_problem(operator.post(f"{API}/versions/medical-v9/promote", json={"why": "x"}), 404, "versions lists them")
    check_problem(operator.post(f"{API}/versions/latest/promote", json={"why": "x"}), 404)
    check_problem(operator.post(f"{API}/versions/medical-v1/promote", json={"why": " "}), 422, "field 'why'")
    check_problem(operator.post(f"{API}/models/medical/rollback", json={}), 400, "in production already")


def test_label_studio_being_away_is_a_503_that_says_so(viewer: TestClient) -> None:
    check_problem(viewer.get(f"{API}/projects"), 503, "Label Studio does not answer")
    check_problem(viewer.get(f"{API}/projects/1/export"), 503, "Label Studio does not answer")


def test_an_unknown_path_of_the_api_is_a_problem_too(viewer: TestClient) -> None:
    check_problem(viewer.get(f"{API}/nothing"), 404)
    check_problem(viewer.put(f"{API}/models"), 405)


def test_the_description_of_the_api_names_its_paths_and_not_label_studios(anybody: TestClient) -> None:
    paths = anybody.get(f"{API}/openapi.json").json()["paths"]

    assert f"{API}/predict" in paths
    assert all(path.startswith(API) for path in paths)
    assert anybody.get("/docs").status_code == 404  # it would load its scripts from the internet


def test_the_page_of_the_api_loads_nothing_from_elsewhere(anybody: TestClient) -> None:
    page = anybody.get(f"{API}/docs").text

    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert linked
    assert all(anybody.get(address).status_code == 200 for address in linked)
    assert "http" not in "".join(linked)
    assert f"'{API}/openapi.json'" in page


def test_an_address_that_nothing_answers_at_is_given_up_soon_and_our_settings_are_not_blamed(
    operator: TestClient, firewalled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_system, "CHECK_SECONDS", 0.3)

    for url in (firewalled, "http://127.0.0.1:9"):
        answer = operator.post(f"{API}/label-studio/check", json={"url": url, "token": "0" * 40})

        check_problem(answer, 400, f"nothing answers at {url}", "mend the address")
        assert "LABEL_STUDIO_" not in answer.text
