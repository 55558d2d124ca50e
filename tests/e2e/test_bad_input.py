"""Wrong input and broken links: a message that names the fix, never a traceback."""

import socket
from pathlib import Path

import pytest

from nerloop.embedded.sandbox import Sandbox
from nerloop.label_studio import LabelStudio
from nerloop.settings import Settings


def refused(stack: Sandbox, *arguments: str, **environment: str) -> str:
    """Run a command that must fail, and return its message."""
    other = Sandbox.__new__(Sandbox)
    other.environ = stack.environ | environment
    done = other.run(*arguments, check=False)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_unreachable_label_studio_names_its_setting(stack: Sandbox) -> None:
    message = refused(stack, "connect", "--project", "1", LABEL_STUDIO_URL="http://127.0.0.1:1")

    assert "LABEL_STUDIO_URL=http://127.0.0.1:1" in message


@pytest.mark.parametrize("token", ["0" * 40, "not-a-token"])
def test_a_wrong_token_says_where_to_get_one(stack: Sandbox, token: str) -> None:
    message = refused(stack, "connect", "--project", "1", LABEL_STUDIO_API_KEY=token)

    assert "LABEL_STUDIO_API_KEY" in message
    assert token not in message


def test_a_disabled_legacy_token_says_what_works_instead(stack: Sandbox) -> None:
    label_studio = stack.loop.label_studio
    switch = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": False}
    label_studio._call("POST", "api/jwt/settings", body=switch)
    try:
        message = refused(stack, "connect", "--project", "1")
    finally:
        with_session(stack, switch | {"legacy_api_tokens_enabled": True})

    assert "personal access token" in message


def with_session(stack: Sandbox, switch: dict[str, bool]) -> None:
    """Change the organization's token settings as a person does, since no token works at this moment."""
    import httpx

    email, password = stack.account
    with httpx.Client(base_url=stack.loop.settings.label_studio_url, follow_redirects=True) as browser:
        browser.get("/user/login/")
        form = {
            "email": email,
            "password": password,
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        browser.post("/user/login/", data=form, headers={"Referer": str(browser.base_url)})
        browser.post("/api/jwt/settings", json=switch, headers={"X-CSRFToken": browser.cookies["csrftoken"]})


def test_an_unknown_project_is_named(stack: Sandbox) -> None:
    assert "projects/99999" in refused(stack, "connect", "--project", "99999")


def test_a_label_config_without_labels_on_text_shows_one_that_works(stack: Sandbox) -> None:
    config = '<View><Choices name="c" toName="t"><Choice value="A"/></Choices><Text name="t" value="$t"/></View>'
    project = stack.loop.label_studio.create_project("no labels", config)

    message = refused(stack, "connect", "--project", str(project.id))

    assert "no <Labels> on a <Text>" in message
    assert '<Labels name="label" toName="text">' in message


def test_a_second_ml_backend_is_refused_with_its_address(stack: Sandbox) -> None:
    label_studio = stack.loop.label_studio
    project = label_studio.create_project("two backends", '<View><Labels name="l" toName="t"><Label value="A"/></Labels><Text name="t" value="$t"/></View>')  # fmt: skip  # noqa: E501
    settings = stack.loop.settings
    other = settings.backend_url.replace("127.0.0.1", "localhost")
    values = {"project": project.id, "url": other, "title": "other", "auth_method": "BASIC_AUTH"}
    label_studio.save_ml_backend(
        values | {"basic_auth_user": settings.basic_auth_user, "basic_auth_pass": settings.basic_auth_pass}
    )

    message = refused(stack, "connect", "--project", str(project.id))

    assert f"another ML backend, {other}" in message


def test_a_model_name_that_cannot_be_one_is_refused(stack: Sandbox) -> None:
    assert "use 1 to 63 letters" in refused(stack, "connect", "--project", "1", "--model", "医疗")


def test_an_export_into_no_folder_is_refused(stack: Sandbox, tmp_path: Path) -> None:
    assert "no such folder" in refused(stack, "export", "--project", "1", "-o", str(tmp_path / "none" / "x.jsonl"))


def test_redis_down_is_named_without_its_password(stack: Sandbox) -> None:
    message = refused(stack, "status", NERLOOP_REDIS_URL="redis://:hunter2@127.0.0.1:1")

    assert "NERLOOP_REDIS_URL" in message
    assert "hunter2" not in message


def test_a_port_in_use_names_the_setting_to_change(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        started = Sandbox(tmp_path / "home", NERLOOP_BACKEND_PORT=port).run("up", "--detach", check=False)

    message = started.stderr
    assert started.returncode == 1
    assert f"port {port} is in use" in message
    assert "NERLOOP_BACKEND_PORT" in message


def test_a_bad_setting_is_named_with_its_value(stack: Sandbox) -> None:
    assert "NERLOOP_TRAIN_THRESHOLD='many'" in refused(stack, "status", NERLOOP_TRAIN_THRESHOLD="many")


def test_both_kinds_of_token_work(stack: Sandbox) -> None:
    """A personal access token is made with the legacy one and used in its place."""
    label_studio = stack.loop.label_studio
    made = label_studio._call("POST", "api/token/")["token"]

    assert LabelStudio(Settings.load(stack.environ).label_studio_url, made).user() == label_studio.user()


def test_a_backend_address_without_a_dot_is_refused_before_label_studio_drops_its_webhook(stack: Sandbox) -> None:
    message = refused(stack, "connect", "--project", "1", NERLOOP_BACKEND_URL="http://ml-backend:9090")

    assert "hosts with a dot" in message
