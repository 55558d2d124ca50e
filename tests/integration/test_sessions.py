"""Logging in to the REST API: with a token, or with an account of Label Studio's, whose login form is asked."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs

import pytest
from fastapi.testclient import TestClient
from itsdangerous import TimestampSigner
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from ml_backend import model as backend_model
from ml_backend import sessions
from ml_backend.app import app
from ml_backend.services import Services
from nerloop.loop import Loop
from nerloop.settings import Settings
from nerloop.users import Users

API = "/api/v1"
EMAIL, PASSWORD = "li@example.com", "a long password"
BEHIND_A_PROXY = "proxy@example.com"


class LoginForm(BaseHTTPRequestHandler):
    """Label Studio's login form; tests/e2e/test_console.py logs in to the real one."""

    def do_GET(self) -> None:
        self.answer(200, "Set-Cookie", "csrftoken=abc; Path=/")

    def do_POST(self) -> None:
        sent = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        fits = sent == {"email": [EMAIL], "password": [PASSWORD], "csrfmiddlewaretoken": ["abc"]}
        if sent["email"] == [BEHIND_A_PROXY]:
            self.answer(302, "Location", "https://sso.example.com/")
        elif fits and "csrftoken=abc" in self.headers["Cookie"]:
            self.answer(302, "Set-Cookie", "sessionid=xyz; Path=/")
        else:
            self.answer(200, "X-Form", "shown again")

    def answer(self, status: int, header: str, value: str) -> None:
        self.send_response(status)
        self.send_header(header, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def label_studio() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), LoginForm)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def users(loop: Loop) -> Users:
    return Users(loop.settings.users_file)


@pytest.fixture
def start(loop: Loop, valkey: str, label_studio: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    yield from client(loop.settings.home, valkey, label_studio, monkeypatch, secret="s" * 40)


def client(
    home: Path, valkey: str, label_studio: str, monkeypatch: pytest.MonkeyPatch, secret: str
) -> Iterator[TestClient]:
    environ = {
        "NERLOOP_HOME": str(home),
        "NERLOOP_REDIS_URL": valkey,
        "LABEL_STUDIO_URL": label_studio,
        "LABEL_STUDIO_API_KEY": "0" * 40,
        "NERLOOP_SESSION_SECRET": secret,
    }
    made = Services(Settings.load(environ))
    monkeypatch.setattr(backend_model, "_services", lambda: made)
    monkeypatch.setattr(sessions, "_limiter", MovingWindowRateLimiter(MemoryStorage()))  # nobody has tried yet
    with TestClient(app) as anybody:
        yield anybody


def log_in(anybody: TestClient, name: str, password: str) -> str:
    answer = anybody.post(f"{API}/login", json={"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["session"])


def me(anybody: TestClient, session: str) -> object:
    answer = anybody.get(f"{API}/me", headers={"Authorization": f"Bearer {session}"})
    return answer.json() if answer.status_code == 200 else answer.status_code


def test_a_user_logs_in_with_name_and_token(start: TestClient, users: Users) -> None:
    token = users.add("lina", "operator")

    session = log_in(start, "lina", token)

    assert session != token
    assert me(start, session) == me(start, token) == {"name": "lina", "role": "operator"}


def test_a_session_ends_with_the_token_it_was_made_from(start: TestClient, users: Users) -> None:
    session = log_in(start, "lina", users.add("lina", "operator"))
    assert me(start, session) == {"name": "lina", "role": "operator"}

    users.add("lina", "operator")

    assert me(start, session) == 401


def test_an_account_of_label_studio_is_a_viewer_unless_the_file_of_users_says_operator(
    start: TestClient, users: Users
) -> None:
    session = log_in(start, EMAIL, PASSWORD)
    assert me(start, session) == {"name": EMAIL, "role": "viewer"}

    users.add(EMAIL.upper(), "operator")

    assert me(start, session) == {"name": EMAIL, "role": "operator"}


def test_a_proxy_that_sends_every_login_elsewhere_lets_nobody_in(start: TestClient) -> None:
    answer = start.post(f"{API}/login", json={"name": BEHIND_A_PROXY, "password": PASSWORD})

    assert answer.status_code == 503
    assert "answered 302" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "password"),
    [(EMAIL, "wrong"), ("lina", PASSWORD), ("lina", "nerloop_guessed"), ("wang", "TOKEN OF LINA")],
)
def test_what_does_not_fit_is_refused(start: TestClient, users: Users, name: str, password: str) -> None:
    token = users.add("lina", "operator")
    sent = {"name": name, "password": password.replace("TOKEN OF LINA", token)}

    answer = start.post(f"{API}/login", json=sent)

    assert answer.status_code == 401
    assert "neither" in answer.json()["detail"]


def test_who_guesses_is_stopped_for_a_while_and_others_are_not(start: TestClient, users: Users) -> None:
    token = users.add("wang", "viewer")
    tries = [start.post(f"{API}/login", json={"name": EMAIL, "password": str(n)}).status_code for n in range(7)]

    assert tries == [401] * 5 + [429] * 2
    for same in (EMAIL.upper(), f" {EMAIL} "):
        assert start.post(f"{API}/login", json={"name": same, "password": PASSWORD}).status_code == 429
    assert log_in(start, "wang", token)


def test_who_logs_in_often_is_not_stopped(start: TestClient) -> None:
    assert len([log_in(start, EMAIL, PASSWORD) for _ in range(8)]) == 8


@pytest.mark.parametrize(
    "change", [lambda s: s[:-2] + ("AA" if s[-2:] != "AA" else "BB"), lambda s: "x" + s, lambda _: ""]
)
def test_a_session_that_somebody_has_changed_is_worth_nothing(start: TestClient, change) -> None:  # type: ignore[no-untyped-def]
    assert me(start, change(log_in(start, EMAIL, PASSWORD))) == 401


def test_a_session_is_good_for_twelve_hours_by_the_clock(start: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = start.post(f"{API}/login", json={"name": EMAIL, "password": PASSWORD}).json()
    assert answer["seconds"] == 12 * 3600

    def clock_goes_on(hours: float) -> None:
        moment = int(time.time() + hours * 3600)
        monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _: moment)

    clock_goes_on(11.9)
    assert me(start, answer["session"]) == {"name": EMAIL, "role": "viewer"}
    clock_goes_on(12.1)
    assert me(start, answer["session"]) == 401


def test_where_sessions_cannot_be_signed_nobody_logs_in_and_the_message_names_the_setting(
    loop: Loop, valkey: str, label_studio: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for anybody in client(loop.settings.home, valkey, label_studio, monkeypatch, secret=""):
        answer = anybody.post(f"{API}/login", json={"name": EMAIL, "password": PASSWORD})

        assert answer.status_code == 503
        assert "NERLOOP_SESSION_SECRET" in answer.json()["detail"]
        assert me(anybody, "anything") == 401


def test_where_label_studio_is_down_that_is_said(start: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Settings.load({"LABEL_STUDIO_URL": "http://127.0.0.1:9", "NERLOOP_SESSION_SECRET": "s" * 40})
    monkeypatch.setattr(backend_model, "_services", lambda: Services(gone))

    answer = start.post(f"{API}/login", json={"name": EMAIL, "password": PASSWORD})

    assert answer.status_code == 503
    assert "Label Studio does not answer" in answer.json()["detail"]


def test_names_that_nobody_has_are_not_remembered_without_end(
    start: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "TRIES_OF_ALL", RateLimitItemPerMinute(3))

    tried = [start.post(f"{API}/login", json={"name": f"n{n}", "password": "x"}).status_code for n in range(6)]

    assert tried == [401] * 3 + [429] * 3
    assert len(sessions._limiter.storage.events) == 1 + 3  # type: ignore[attr-defined]  # all together, and a name each
