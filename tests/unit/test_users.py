import json
import stat

import pytest
from click.testing import CliRunner

from nerloop.cli import cli
from nerloop.errors import BadInput, SettingsError
from nerloop.users import Users


@pytest.fixture
def users(tmp_path):
    return Users(tmp_path / "home" / "users.json")


def test_a_user_is_known_by_the_token_alone_and_the_file_does_not_hold_it(users, tmp_path):
    token, other = users.add("lina", "operator"), users.add("wang", "viewer")

    file = tmp_path / "home" / "users.json"
    assert [(user.name, user.role) for user in users.all()] == [("lina", "operator"), ("wang", "viewer")]
    assert users.with_token(token).name == "lina"
    assert users.with_token(other).name == "wang"
    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("token", ["", "nerloop_", "nerloop_\udc80", "Bearer"])
def test_no_other_token_lets_anybody_in(users, token):
    users.add("lina", "operator")

    assert users.with_token(token) is None


def test_the_hash_that_the_file_holds_is_no_token(users):
    users.add("lina", "operator")

    assert users.with_token(users.all()[0].token_hash) is None


def test_adding_a_user_again_changes_role_and_token(users):
    before = users.add("lina", "operator")
    now = users.add("lina", "viewer")

    assert users.with_token(before) is None
    assert users.with_token(now).role == "viewer"
    assert len(users.all()) == 1


def test_capital_letters_make_no_other_user(users):
    before = users.add("Lina@Example.com", "operator")
    users.add("lina@example.com", "viewer")

    assert users.with_token(before) is None
    assert [user.role for user in users.all()] == ["viewer"]
    users.remove("LINA@example.com")
    assert users.all() == []


def test_another_account_of_label_studios_is_another_user(users):
    users.add("lisa@example.com", "operator")

    assert not users.all()[0].is_named("li\u017fa@example.com")  # a long s, which case folding makes an s


def test_a_removed_user_is_out_at_once(users):
    token = users.add("lina", "operator")
    users.remove("lina")

    assert users.with_token(token) is None
    with pytest.raises(BadInput, match="there is no user 'lina'"):
        users.remove("lina")


@pytest.mark.parametrize("name", ["", " lina", "lina\n"])
def test_a_name_that_two_people_would_not_write_alike_is_refused(users, name):
    with pytest.raises(BadInput, match="white space"):
        users.add(name, "viewer")


@pytest.mark.parametrize(
    "content", ["{", "[1]", '[{"name": "lina"}]', json.dumps([{"name": "lina", "role": "admin", "token_hash": "x"}])]
)
def test_a_damaged_file_lets_nobody_in_and_is_named(users, tmp_path, content):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "users.json").write_text(content)

    with pytest.raises(SettingsError, match=r"users\.json"):
        users.with_token("nerloop_x")


def test_the_commands_add_list_and_remove(tmp_path, monkeypatch):
    monkeypatch.setenv("NERLOOP_HOME", str(tmp_path))
    run = CliRunner().invoke

    added = run(cli, ["user", "add", "lina", "--role", "operator"])

    token = added.stdout.strip()
    assert Users(tmp_path / "users.json").with_token(token).role == "operator"
    assert "lina" in run(cli, ["user", "list"]).output
    assert run(cli, ["user", "remove", "lina"]).exit_code == 0
    assert "no users" in run(cli, ["user", "list"]).output
