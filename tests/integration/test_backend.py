"""Label Studio's ML backend protocol, against the real app with a real Valkey and a real registry."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ml_backend import model as backend_model
from ml_backend.app import app
from ml_backend.notes import Notes
from ml_backend.services import Services
from nerloop import checkpoint
from nerloop.demo import label_config_for
from nerloop.gate import Decision
from nerloop.jobs import Jobs, connect_redis, fine_tune_id, refresh_id
from nerloop.loop import Loop
from nerloop.project_state import Binding, ProjectState
from nerloop.promotions import STARTER_VERSION
from nerloop.settings import Settings
from nerloop.starter import fresh_starter
from nerloop.tagger import adapt
from nerloop.tagging import Decoder
from nerloop.versions import Candidate
from sync.connect import SECRET_HEADER
from sync.push import push
from sync.trigger import queue_due

CONFIG = label_config_for(["PER", "LOC", "ORG"])
AUTH = ("label-studio", "password")
HEADER = {SECRET_HEADER: "webhook-secret"}
TEXT = "张三在北京的阿里巴巴工作。"


@pytest.fixture
def client(loop: Loop, valkey: str, timed_runtimes: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    settings = Settings.load(
        {
            "NERLOOP_HOME": str(loop.settings.home),
            "NERLOOP_REDIS_URL": valkey,
            "BASIC_AUTH_USER": AUTH[0],
            "BASIC_AUTH_PASS": AUTH[1],
            "NERLOOP_WEBHOOK_SECRET": HEADER[SECRET_HEADER],
            "NERLOOP_POLL_SECONDS": "1",
            "NERLOOP_TRAIN_THRESHOLD": "2",
        }
    )
    services = Services(settings)
    monkeypatch.setattr(backend_model, "_services", lambda: services)
    loop.state.save_binding(Binding(1, "project-1", 2))
    with TestClient(app) as running:
        yield running


def predict(client: TestClient, *tasks: dict[str, Any], config: str = CONFIG, project: str = "1.1795442180") -> Any:
    body = {"tasks": list(tasks), "project": project, "label_config": config, "params": {"context": None}}
    return client.post("/predict", json=body, auth=AUTH)


def task(number: int, text: Any = TEXT) -> dict[str, Any]:
    return {"id": number, "project": 1, "data": {"text": text}, "annotations": [], "predictions": []}


def event(client: TestClient, action: str, **payload: Any) -> Any:
    return client.post("/webhook", json={"action": action, "project": {"id": 1}, **payload}, headers=HEADER)


def annotation(number: int, **values: Any) -> dict[str, Any]:
    return {"id": number, "was_cancelled": False, "result": [], **values}


def test_health_needs_no_password(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "UP"


def test_health_and_setup_answer_without_touching_a_model(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("the model was touched")

    monkeypatch.setattr("nerloop.serving.ServingModels.update", forbidden)
    monkeypatch.setattr("nerloop.serving.ServingModels.predictor", forbidden)

    setup = client.post(
        "/setup", json={"project": "1.5", "schema": CONFIG, "extra_params": {"model": "medical"}}, auth=AUTH
    )

    assert client.get("/health").status_code == 200
    assert setup.json() == {"model_version": STARTER_VERSION}


def test_each_task_gets_exactly_one_result_in_order(client: TestClient) -> None:
    texts = [TEXT, "", "没有实体的句子", "李四去了上海。"]

    answer = predict(client, *(task(i, text) for i, text in enumerate(texts))).json()

    found = [[r["value"]["text"] for r in result["result"]] for result in answer["results"]]
    assert found == [["张三", "北京", "阿里巴巴"], [], [], ["李四", "上海"]]
    assert {result["model_version"] for result in answer["results"]} == {STARTER_VERSION}


def test_offsets_are_code_points_of_the_text_as_it_is(client: TestClient) -> None:
    text = " 𠮷田\r\n张三在北京　"

    (result,) = predict(client, task(1, text)).json()["results"]

    assert result["result"]
    assert all(text[r["value"]["start"] : r["value"]["end"]] == r["value"]["text"] for r in result["result"])


@pytest.mark.parametrize("data", [{}, {"text": None}, {"text": 5}, {"text": ["a"]}, {"text": ""}, "abc", [1]])
def test_a_task_without_a_usable_text_does_not_cost_the_others_their_predictions(client: TestClient, data: Any) -> None:
    results = predict(client, {"id": 1, "project": 1, "data": data}, task(2)).json()["results"]

    assert results[0]["result"] == []
    assert [r["value"]["labels"] for r in results[1]["result"]] == [["PER"], ["LOC"], ["ORG"]]


def test_a_text_of_10000_characters_is_labelled_to_its_end(client: TestClient) -> None:
    text = "今天天气很好，我们一起出去玩。" * 700 + "张三在北京。"

    (result,) = predict(client, task(1, text)).json()["results"]

    assert len(text) > 10_000
    assert [r["value"]["text"] for r in result["result"]][-2:] == ["张三", "北京"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"[" * 200_000, "not valid JSON"),
        (b"{}", "'tasks'"),
        (b'{"tasks": [1], "label_config": "x"}', "'tasks'"),
        (b'{"tasks": []}', "'label_config'"),
        (b'{"tasks": [{"id": 1}], "label_config": "<View/>"}', "no <Labels> on a <Text>"),
        (b'{"tasks": [{"id": 1}], "label_config": 5}', "'label_config'"),
    ],
)
def test_a_malformed_request_is_answered_with_the_field_at_fault(client: TestClient, body: bytes, named: str) -> None:
    answer = client.post("/predict", content=body, auth=AUTH)

    assert answer.status_code == 400
    assert named in answer.json()["error"]


def test_a_task_of_no_project_is_refused_with_the_field(client: TestClient) -> None:
    answer = client.post("/predict", json={"tasks": [{"data": {"text": "x"}}], "label_config": CONFIG}, auth=AUTH)

    assert answer.status_code == 400
    assert "'project'" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
def test_strangers_are_refused(client: TestClient, path: str) -> None:
    assert client.post(path, json={}).status_code == 401
    assert client.post(path, json={}, auth=(AUTH[0], "wrong")).status_code == 401
    assert client.post(path, json={}, headers={SECRET_HEADER: "wrong"}).status_code == 401


def test_an_unknown_project_is_refused_with_the_command_that_connects_it(client: TestClient, loop: Loop) -> None:
    body = {"tasks": [{**task(1), "project": 99}], "label_config": CONFIG}
    predicted = client.post("/predict", json=body, auth=AUTH)
    told = client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 99}}, auth=AUTH)

    assert (predicted.status_code, told.status_code) == (400, 400)
    assert "nerloop connect --project 99" in told.json()["error"]
    assert loop.redis.llen("rq:queue:train") == 0


@pytest.mark.parametrize("project", [float("inf"), "²", "x", None, -1])
def test_a_project_that_is_no_id_is_refused(client: TestClient, project: Any) -> None:
    body = json.dumps(
        {"tasks": [{"project": project, "data": {"text": "x"}}], "label_config": CONFIG, "project": project}
    )
    predicted = client.post("/predict", content=body, auth=AUTH)
    set_up = client.post("/setup", content=body, auth=AUTH)

    assert (predicted.status_code, set_up.status_code) == (400, 400)


def test_versions_lists_what_is_served(client: TestClient) -> None:
    predict(client, task(1))

    assert client.get("/versions", auth=AUTH).json() == {"versions": [STARTER_VERSION]}


def test_a_webhook_delivered_twice_counts_once(client: TestClient) -> None:
    event(client, "ANNOTATION_CREATED", annotation=annotation(7))

    answer = event(client, "ANNOTATION_CREATED", annotation=annotation(7))

    assert answer.status_code == 201
    assert answer.json()["new_labels"] == 1


def test_events_that_reach_the_threshold_queue_one_fine_tune(client: TestClient, loop: Loop) -> None:
    for number in range(5):
        event(client, "ANNOTATION_CREATED", annotation=annotation(number))
        queue_due(loop)

    status = loop.jobs.status(fine_tune_id("project-1"))
    assert status is not None and status.state == "queued"
    assert loop.redis.llen("rq:queue:train") == 1


def test_a_skipped_task_is_no_label(client: TestClient) -> None:
    answer = event(client, "ANNOTATION_CREATED", annotation=annotation(7, was_cancelled=True))

    assert answer.json()["new_labels"] == 0


def test_a_list_of_annotations_counts_each(client: TestClient, loop: Loop) -> None:
    event(client, "ANNOTATIONS_CREATED", annotation=[annotation(1), annotation(2), annotation(3)])

    assert loop.state.new_labels("project-1") == 3


def test_an_annotation_created_and_deleted_counts_zero(client: TestClient) -> None:
    event(client, "ANNOTATION_CREATED", annotation=annotation(7))

    answer = event(client, "ANNOTATIONS_DELETED", annotations=[{"id": 7}])

    assert answer.json()["new_labels"] == 0


def test_new_tasks_queue_a_refresh(client: TestClient, loop: Loop) -> None:
    event(client, "TASKS_CREATED", tasks=[{"id": 1}])

    assert loop.jobs.status(refresh_id(1)) is not None


def test_start_training_queues_at_once_with_the_backends_password(client: TestClient, loop: Loop) -> None:
    answer = client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 1}}, auth=AUTH)

    assert answer.status_code == 201
    assert answer.json() == {"job": "fine-tune-project-1", "queued": True}


def test_an_unknown_event_is_named_and_ignored(client: TestClient) -> None:
    assert event(client, "PROJECT_UPDATED").json() == {"ignored": "PROJECT_UPDATED"}


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"action": "ANNOTATION_CREATED"},
        {"action": "ANNOTATION_CREATED", "project": {"id": "x"}},
        {"action": "ANNOTATION_CREATED", "project": {"id": 1}},
        {"action": "ANNOTATION_CREATED", "project": {"id": 1}, "annotation": {"id": None}},
        {"action": 5, "project": {"id": 1}},
    ],
)
def test_a_malformed_event_is_answered_with_400(client: TestClient, payload: dict[str, Any]) -> None:
    answer = client.post("/webhook", json=payload, headers=HEADER)

    assert answer.status_code == 400
    assert "field" in answer.json()["error"]


def test_an_event_while_redis_is_down_is_left_to_reconcile(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    down = Settings.load({"NERLOOP_REDIS_URL": "redis://127.0.0.1:1"})
    monkeypatch.setattr(backend_model.services(), "notes", Notes(ProjectState(connect_redis(down))))

    answer = event(client, "ANNOTATION_CREATED", annotation=annotation(7))

    assert answer.status_code == 201
    assert answer.json() == {"deferred": "ANNOTATION_CREATED"}


def test_start_training_while_redis_is_down_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    down = Settings.load({"NERLOOP_REDIS_URL": "redis://127.0.0.1:1"})
    services = backend_model.services()
    services.learn_binding(Binding(1, "project-1", 2))
    monkeypatch.setattr(services, "loop", Loop(down))

    answer = client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 1}}, auth=AUTH)

    assert answer.status_code == 503
    assert "Redis does not answer" in answer.json()["error"]


def test_an_event_while_redis_hangs_is_answered_before_label_studio_gives_up(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = Settings.load({"NERLOOP_REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}"})
        monkeypatch.setattr(backend_model.services(), "notes", Services(hung).notes)
        started = time.monotonic()

        answer = event(client, "ANNOTATION_CREATED", annotation=annotation(7))

    assert answer.json() == {"deferred": "ANNOTATION_CREATED"}
    assert time.monotonic() - started < 5  # other clients of ours wait ten seconds


def test_projects_have_their_own_models(client: TestClient, loop: Loop, tmp_path: Path) -> None:
    promote_version(loop, tmp_path, "medical")
    client.post("/setup", json={"project": "2.5", "extra_params": {"model": "medical"}}, auth=AUTH)

    of_one = predict(client, task(1)).json()["model_version"]
    of_two = predict(client, {**task(2), "project": 2}, project="2.5").json()["model_version"]

    assert (of_one, of_two) == (STARTER_VERSION, "medical-v1")


def test_a_swap_fails_no_request_and_each_prediction_names_the_version_that_made_it(
    client: TestClient, loop: Loop, tmp_path: Path
) -> None:
    loop.state.save_binding(Binding(1, "medical", 50))
    assert predict(client, task(1)).json()["model_version"] == STARTER_VERSION
    deadline = time.monotonic() + 300  # what gets ready has the lowest priority, and other tests run beside it

    def keep_asking() -> list[tuple[int, str, bool]]:
        seen = []
        while time.monotonic() < deadline:
            answer = predict(client, task(1))
            body = answer.json()
            version = body["model_version"]
            seen.append((answer.status_code, version, body["results"][0]["model_version"] == version))
            if version == "medical-v1":
                break
            time.sleep(0.02)  # as people pause, else what gets ready is starved
        return seen

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(keep_asking) for _ in range(3)]
        promote_version(loop, tmp_path, "medical")
        answers = [answer for future in asking for answer in future.result()]

    assert {(status, consistent) for status, _, consistent in answers} == {(200, True)}
    assert {version for _, version, _ in answers} == {STARTER_VERSION, "medical-v1"}


def test_a_loaded_model_goes_on_serving_without_redis_and_registry(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(client, task(1))
    services = backend_model.services()
    services.remember_binding(1, {})
    monkeypatch.setattr(Jobs, "_enqueue", None)
    monkeypatch.setattr("nerloop.registry.Registry.production", None)
    monkeypatch.setattr("nerloop.project_state.ProjectState.bindings", None)

    assert predict(client, task(1)).status_code == 200


def test_label_studio_ml_serves_the_same_class(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_backend.watcher.Watcher.start", lambda _: None)  # one is running already
    from ml_backend._wsgi import app as flask_app

    flask_client = flask_app.test_client()
    flask_client.post("/setup", json={"project": "1.5", "schema": CONFIG})
    answer = flask_client.post("/predict", json={"tasks": [task(1)], "project": "1.5", "label_config": CONFIG}).json

    assert [r["value"]["text"] for r in answer["results"][0]["result"]] == ["张三", "北京", "阿里巴巴"]
    assert answer["results"][0]["model_version"] == STARTER_VERSION


def promote_version(loop: Loop, folder: Path, model: str) -> None:
    tagger = adapt(fresh_starter(), Decoder.flat(["PER", "LOC", "ORG"]))
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), folder / "candidate")
    (folder / "dataset.jsonl").write_text("")
    candidate = Candidate(folder / "candidate", ("LOC", "ORG", "PER"), "", STARTER_VERSION, 0, {})
    version = loop.registry.register(model, candidate, folder / "dataset.jsonl", {}, Decision(True, "better"))
    assert push(loop, version) == "promoted"
