from dataclasses import fields
from pathlib import Path

import pytest

from nerloop.errors import SettingsError
from nerloop.settings import SETTINGS_FILE, Settings

GIVEN = {
    str: ("given-value", "given-value"),
    int: ("77", 77),
    float: ("0.25", 0.25),
    bool: ("true", True),
    Path: ("given/path", Path("given/path")),
}
ENTRIES = {entry.metadata["name"]: entry for entry in fields(Settings) if entry.name != "home"}
NUMBERS = [name for name, entry in ENTRIES.items() if type(entry.default) in {int, float}]
SECRETS = [name for name, entry in ENTRIES.items() if entry.metadata["secret"]]
PARTNERS = {"BASIC_AUTH_USER": "BASIC_AUTH_PASS", "BASIC_AUTH_PASS": "BASIC_AUTH_USER"}


ADDRESSES = {
    "LABEL_STUDIO_URL": "https://labels.example:8443",
    "NERLOOP_BACKEND_URL": "http://10.0.0.7:9090",
    "NERLOOP_REDIS_URL": "rediss://:hush-hush@queue.example:6379/2",
    "NERLOOP_REGISTRY_URL": "postgresql://mlflow:hush-hush@db.example/mlflow",
    "NERLOOP_LABEL_STUDIO_PUBLIC_URL": "https://labels.example",
    "NERLOOP_NOTIFY_URL": "https://robot.example/hook/hush-hush",
}
CHOICES = {"NERLOOP_NOTIFY_FORMAT": "wecom", "NERLOOP_STRATEGY": "mnlp"}


def environment(home, name, value):
    partner = {PARTNERS[name]: "partner"} if name in PARTNERS else {}
    return {"NERLOOP_HOME": str(home), name: value, **partner}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_setting_is_read_from_its_variable(tmp_path, name):
    kind = Path if ENTRIES[name].default is None else type(ENTRIES[name].default)
    fitting = ADDRESSES | CHOICES
    text, value = (fitting[name],) * 2 if name in fitting else GIVEN[kind]

    settings = Settings.load(environment(tmp_path, name, text))

    assert getattr(settings, ENTRIES[name].name) == value


def test_without_variables_every_setting_has_its_default(tmp_path):
    assert Settings.load({"NERLOOP_HOME": str(tmp_path)}) == Settings(home=tmp_path)


def test_variables_of_the_process_are_read_when_none_are_given(monkeypatch, tmp_path):
    monkeypatch.setenv("NERLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("NERLOOP_TRAIN_THRESHOLD", "8")

    assert Settings.load().train_threshold == 8
    assert Settings.load().home == tmp_path


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["many", "1,5", "5 tasks"])
def test_a_bad_number_is_refused_by_name(tmp_path, name, text):
    with pytest.raises(SettingsError, match=f"^{name}='{text}': must be a (whole )?number"):
        Settings.load(environment(tmp_path, name, text))


def test_an_empty_variable_counts_as_unset(tmp_path):
    assert Settings.load(environment(tmp_path, "NERLOOP_TRAIN_THRESHOLD", "")).train_threshold == 50


def test_the_settings_file_in_the_home_folder_is_read(tmp_path):
    (tmp_path / SETTINGS_FILE).write_text(
        'NERLOOP_TRAIN_THRESHOLD=12\nLABEL_STUDIO_API_KEY="a#b c"\n# 注释\nUNKNOWN=1\n', encoding="utf-8"
    )

    settings = Settings.load({"NERLOOP_HOME": str(tmp_path)})

    assert settings.train_threshold == 12
    assert settings.label_studio_api_key == "a#b c"


def test_the_environment_wins_over_the_settings_file_unless_it_is_empty(tmp_path):
    (tmp_path / SETTINGS_FILE).write_text("NERLOOP_TRAIN_THRESHOLD=12\nNERLOOP_BACKEND_PORT=1234\n", encoding="utf-8")

    settings = Settings.load(
        {"NERLOOP_HOME": str(tmp_path), "NERLOOP_TRAIN_THRESHOLD": "20", "NERLOOP_BACKEND_PORT": ""}
    )

    assert (settings.train_threshold, settings.backend_port) == (20, 1234)


def test_a_bad_number_in_the_settings_file_is_refused_by_name(tmp_path):
    (tmp_path / SETTINGS_FILE).write_text("NERLOOP_POLL_SECONDS=often\n", encoding="utf-8")

    with pytest.raises(SettingsError, match="NERLOOP_POLL_SECONDS='often'"):
        Settings.load({"NERLOOP_HOME": str(tmp_path)})


def test_a_settings_file_in_another_encoding_is_refused_by_name(tmp_path):
    (tmp_path / SETTINGS_FILE).write_bytes("# 阈值\nNERLOOP_TRAIN_THRESHOLD=12\n".encode("gbk"))

    with pytest.raises(SettingsError, match=SETTINGS_FILE):
        Settings.load({"NERLOOP_HOME": str(tmp_path)})


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_never_shows_when_settings_are_printed(tmp_path, name):
    settings = Settings.load(environment(tmp_path, name, ADDRESSES.get(name, "hush-hush")))

    assert "hush-hush" not in repr(settings)
    assert "hush-hush" not in str(settings)


def test_a_dollar_in_a_password_of_the_settings_file_is_taken_as_it_is(tmp_path):
    (tmp_path / SETTINGS_FILE).write_text("NERLOOP_WEBHOOK_SECRET=a${HOME}b\n", encoding="utf-8")

    assert Settings.load({"NERLOOP_HOME": str(tmp_path)}).webhook_secret == "a${HOME}b"


def test_a_password_in_the_registrys_address_never_shows_either(tmp_path):
    settings = Settings.load(environment(tmp_path, "NERLOOP_REGISTRY_URL", "postgresql://mlflow:hush-hush@db/mlflow"))

    assert "hush-hush" not in repr(settings)


def test_tokens_passwords_and_addresses_that_may_hold_one_are_secrets():
    assert set(SECRETS) == {
        "LABEL_STUDIO_API_KEY",
        "NERLOOP_REDIS_URL",
        "NERLOOP_REGISTRY_URL",
        "BASIC_AUTH_PASS",
        "NERLOOP_WEBHOOK_SECRET",
        "NERLOOP_NOTIFY_URL",
        "NERLOOP_NOTIFY_SECRET",
        "NERLOOP_SESSION_SECRET",
    }


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize(
    "text", ["localhost:6379", "ftp://hush-hush@x", "http://", "http://x:port", "redis://:hu/sh@x:y"]
)
def test_an_address_that_is_none_is_refused_without_showing_it(tmp_path, name, text):
    with pytest.raises(SettingsError, match=name) as refused:
        Settings.load(environment(tmp_path, name, text))

    assert "hu" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"NERLOOP_GATE_SHARE": "0"}, "NERLOOP_GATE_SHARE"),
        ({"NERLOOP_DEV_SHARE": "-0.1"}, "NERLOOP_DEV_SHARE"),
        ({"NERLOOP_DEV_SHARE": "0.5", "NERLOOP_GATE_SHARE": "0.5"}, "NERLOOP_DEV_SHARE"),
        ({"NERLOOP_TRAIN_THRESHOLD": "0"}, "NERLOOP_TRAIN_THRESHOLD"),
        ({"BASIC_AUTH_USER": "me"}, "BASIC_AUTH_PASS"),
        ({"BASIC_AUTH_PASS": "hush"}, "BASIC_AUTH_USER"),
        ({"NERLOOP_GATE_SHARE": "nan"}, "NERLOOP_GATE_SHARE"),
        ({"NERLOOP_STRATEGY": "hardest"}, "least-confidence"),
        *(({"NERLOOP_RANDOM_SHARE": text}, "NERLOOP_RANDOM_SHARE") for text in ("-0.1", "1.5", "nan")),
        *(({"NERLOOP_LABEL_MARGIN": text}, "NERLOOP_LABEL_MARGIN") for text in ("-0.1", "1.5", "nan")),
        *(({"NERLOOP_TARGET_PRECISION": text}, "NERLOOP_TARGET_PRECISION") for text in ("-0.1", "1.5", "nan")),
        ({"NERLOOP_BLIND_HELD_OUT": "maybe"}, "NERLOOP_BLIND_HELD_OUT"),
        *(
            ({name: "0"}, name)
            for name in ("NERLOOP_POLL_SECONDS", "NERLOOP_RECONCILE_SECONDS", "NERLOOP_BACKEND_PORT")
        ),
        ({"NERLOOP_GRACE_SECONDS": "-5"}, "NERLOOP_GRACE_SECONDS"),
        ({"LABEL_STUDIO_API_KEY": "标记"}, "LABEL_STUDIO_API_KEY"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(tmp_path, values, named):
    with pytest.raises(SettingsError, match=named):
        Settings.load({"NERLOOP_HOME": str(tmp_path), **values})


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False)]
)
def test_a_switch_is_read_as_people_write_it(tmp_path, text, value):
    settings = Settings.load({"NERLOOP_HOME": str(tmp_path), "NERLOOP_BLIND_HELD_OUT": text})

    assert settings.blind_held_out is value


def test_every_setting_says_what_it_is_for():
    assert all(entry.metadata["help"].endswith(".") for entry in fields(Settings))


def test_the_registry_and_its_files_are_in_the_home_folder_unless_said_otherwise(tmp_path):
    settings = Settings(home=tmp_path)

    assert settings.registry_address == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert settings.artifacts == tmp_path / "artifacts"
    assert settings.checkpoint_cache == tmp_path / "checkpoints"


def test_models_are_kept_in_the_users_cache_until_there_is_a_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = Settings.load({}).model_cache

    (tmp_path / ".nerloop").mkdir()

    assert before == tmp_path / "cache" / "nerloop"
    assert Settings.load({}).model_cache == Path(".nerloop/checkpoints")


@pytest.mark.parametrize(
    ("name", "cache"), [("NERLOOP_HOME", "chosen/checkpoints"), ("MODEL_DIR", "chosen")], ids=["home", "cache"]
)
def test_a_folder_that_was_chosen_is_the_cache_before_it_is_there(tmp_path, monkeypatch, name, cache):
    monkeypatch.chdir(tmp_path)

    assert Settings.load({name: "chosen"}).model_cache == Path(cache)


def test_registered_versions_never_lie_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert Settings.load({}).checkpoint_cache == Path(".nerloop/checkpoints")


def test_an_mlflow_server_keeps_its_own_files():
    settings = Settings(registry_url="http://mlflow:5000", model_dir=Path("/cache"))

    assert settings.registry_address == "http://mlflow:5000"
    assert settings.artifacts is None
    assert settings.checkpoint_cache == Path("/cache")
