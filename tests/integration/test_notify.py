"""Messages to a real HTTP server that stands for the robots, which are outside our control: it answers as they do."""

import base64
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from nerloop.cli import cli
from nerloop.settings import Settings
from sync import notify as notifying
from sync.notify import Event, NotifyError, notify, send

PROMOTED = Event("promoted", "medical", "medical-v7", "micro-F1 0.70 → 0.75 on 60 gate documents")


class Robot:
    """What arrived, and what is answered next: status and JSON."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, list[str]], dict[str, Any]]] = []
        self.answers: list[tuple[int, Any]] = []
        robot = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                robot.received.append((parse_qs(urlsplit(self.path).query), body))
                status, answer = robot.answers.pop(0) if robot.answers else (200, {"errcode": 0, "code": 0})
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def settings(self, kind: str, secret: str = "") -> Settings:
        url = f"http://127.0.0.1:{self.server.server_port}/robot?access_token=key-of-the-robot"
        return replace(Settings(), notify_url=url, notify_format=kind, notify_secret=secret)


@pytest.fixture
def robot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Robot]:
    monkeypatch.setattr(notifying, "WAITS", (0, 0))
    made = Robot()
    yield made
    made.server.shutdown()


def signed(key: str, message: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), message.encode(), hashlib.sha256).digest()).decode()


def test_json_names_every_field(robot: Robot) -> None:
    send(robot.settings("json"), PROMOTED)

    ((query, body),) = robot.received
    assert query == {"access_token": ["key-of-the-robot"]}
    assert body.pop("text").startswith("[nerloop] medical-v7: promoted 已上线")
    assert body == {"event": "promoted", "model": "medical", "version": "medical-v7", "reason": PROMOTED.reason}


def test_feishu_gets_a_signed_text(robot: Robot) -> None:
    send(robot.settings("feishu", "s3cret"), PROMOTED)

    ((_, body),) = robot.received
    assert (body["msg_type"], body["content"]) == ("text", {"text": PROMOTED.text})
    assert body["sign"] == signed(f"{body['timestamp']}\ns3cret", "")


def test_dingtalk_gets_a_text_at_a_signed_address(robot: Robot) -> None:
    send(robot.settings("dingtalk", "s3cret"), PROMOTED)

    ((query, body),) = robot.received
    assert body == {"msgtype": "text", "text": {"content": PROMOTED.text}}
    assert query["sign"] == [signed("s3cret", f"{query['timestamp'][0]}\ns3cret")]
    assert query["access_token"] == ["key-of-the-robot"]


def test_wecom_gets_a_text(robot: Robot) -> None:
    send(robot.settings("wecom"), PROMOTED)

    assert robot.received[0][1] == {"msgtype": "text", "text": {"content": PROMOTED.text}}


def test_a_webhook_that_is_busy_is_asked_again(robot: Robot) -> None:
    robot.answers = [(503, {}), (502, {})]

    send(robot.settings("json"), PROMOTED)

    assert len(robot.received) == 3


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        ("feishu", {"code": 19021, "msg": "sign match fail or timestamp is not within one hour"}),
        ("dingtalk", {"errcode": 310000, "errmsg": "keywords not in content"}),
        ("wecom", {"errcode": 93000, "errmsg": "invalid webhook url"}),
    ],
)
def test_a_robot_that_says_200_and_refuses_has_refused(robot: Robot, kind: str, refusal: dict[str, Any]) -> None:
    robot.answers = [(200, refusal)] * 3

    with pytest.raises(NotifyError, match=str(next(iter(refusal.values())))):
        send(robot.settings(kind), PROMOTED)


@pytest.mark.parametrize("answer", ["ok", 1, ["ok"], None])
def test_what_is_no_robot_may_answer_as_it_likes_but_a_robot_must_answer_as_one(robot: Robot, answer: object) -> None:
    robot.answers = [(200, answer)] * 4

    send(robot.settings("json"), PROMOTED)

    with pytest.raises(NotifyError, match="does not answer as a robot does"):
        send(robot.settings("feishu"), PROMOTED)


def test_an_address_that_is_none_fails_no_promotion_and_is_not_logged(
    robot: Robot, caplog: pytest.LogCaptureFixture
) -> None:
    notify(replace(robot.settings("json"), notify_url="https://robot\n/key-of-the-robot"), PROMOTED)

    assert "NERLOOP_NOTIFY_URL is no address" in caplog.text
    assert "key-of-the-robot" not in caplog.text


def test_a_promotion_does_not_fail_with_its_message_and_the_log_keeps_the_key_secret(
    robot: Robot, caplog: pytest.LogCaptureFixture
) -> None:
    robot.server.shutdown()
    robot.server.server_close()

    with caplog.at_level(logging.WARNING):
        notify(robot.settings("json"), PROMOTED)

    assert "Could not tell that medical-v7 promoted" in caplog.text
    assert "key-of-the-robot" not in caplog.text


def test_the_command_says_what_is_missing(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "NERLOOP_NOTIFY_URL is not set" in str(CliRunner().invoke(cli, ["notify"]).exception)
    monkeypatch.setenv("NERLOOP_NOTIFY_URL", robot.settings("json").notify_url)

    assert CliRunner().invoke(cli, ["notify"]).exit_code == 0

    assert robot.received[0][1]["event"] == "test"
