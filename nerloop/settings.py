"""Every setting, as one table: environment name, default, help. Owns reading them; each entry point reads them once."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from platformdirs import user_cache_path

from nerloop.acquisition import STRATEGIES
from nerloop.errors import SettingsError

SETTINGS_FILE = "settings.env"
USERS_FILE = "users.json"
REGISTRY_FILE = "mlflow.db"
MINIMUM = {
    "NERLOOP_TRAIN_THRESHOLD": 1,
    "NERLOOP_QUIET_SECONDS": 0,
    "NERLOOP_MAX_AGE_SECONDS": 0,
    "NERLOOP_MEMORY_COUNT": 0,
    "NERLOOP_KEEP_VERSIONS": 1,
    "NERLOOP_KEEP_DAYS": 0,
    "NERLOOP_GRACE_SECONDS": 0,
    "NERLOOP_POLL_SECONDS": 1,
    "NERLOOP_MODEL_MEMORY_MB": 1,
    "NERLOOP_RECONCILE_SECONDS": 1,
    "NERLOOP_COOL_DOWN_SECONDS": 1,
    "NERLOOP_TRAIN_TIMEOUT_SECONDS": 60,
    "NERLOOP_UNLABELLED_RATIO": 0,
    "NERLOOP_BACKEND_PORT": 1,
    "NERLOOP_CONSOLE_PORT": 1,
    "NERLOOP_LABEL_STUDIO_PORT": 1,
    "NERLOOP_REDIS_PORT": 1,
}
NOTIFY_FORMATS = ("json", "feishu", "dingtalk", "wecom")
SCHEMES = {
    "NERLOOP_NOTIFY_URL": ("http", "https"),
    "LABEL_STUDIO_URL": ("http", "https"),
    "NERLOOP_LABEL_STUDIO_PUBLIC_URL": ("http", "https"),
    "NERLOOP_BACKEND_URL": ("http", "https"),
    "NERLOOP_REDIS_URL": ("redis", "rediss", "unix"),
    "NERLOOP_REGISTRY_URL": ("http", "https", "sqlite", "postgresql", "postgresql+psycopg2"),
}
SWITCH = {"true": True, "1": True, "false": False, "0": False}
LOCAL = ("sqlite", "unix")


def _setting(name: str, default: Any, help: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"name": name, "help": help, "secret": secret}, repr=not secret)


@dataclass(frozen=True)
class Settings:
    """The settings of a process; secrets never show in its `repr`."""

    home: Path = _setting(
        "NERLOOP_HOME", Path(".nerloop"), "Folder of all local data; `settings.env` in it is read too."
    )
    label_studio_url: str = _setting("LABEL_STUDIO_URL", "http://127.0.0.1:8080", "Address of Label Studio.")
    label_studio_api_key: str = _setting(
        "LABEL_STUDIO_API_KEY",
        "",
        "Token of a Label Studio user: a personal access token or a legacy one.",
        secret=True,
    )
    label_studio_public_url: str = _setting(
        "NERLOOP_LABEL_STUDIO_PUBLIC_URL", "", "Address of Label Studio in people's browsers; empty: LABEL_STUDIO_URL."
    )
    redis_url: str = _setting(
        "NERLOOP_REDIS_URL", "redis://127.0.0.1:6380/0", "Address of Redis or Valkey.", secret=True
    )
    registry_url: str = _setting(
        "NERLOOP_REGISTRY_URL",
        "",
        "Address of MLflow (`http://…`), or a database (`sqlite:///…`); empty: in the home folder.",
        secret=True,
    )
    model_dir: Path | None = _setting("MODEL_DIR", None, "Cache of downloaded checkpoints; empty: in the home folder.")
    backend_url: str = _setting(
        "NERLOOP_BACKEND_URL", "http://127.0.0.1:9090", "Address under which Label Studio reaches the ML backend."
    )
    backend_host: str = _setting("NERLOOP_BACKEND_HOST", "127.0.0.1", "Interface the ML backend listens on.")
    backend_port: int = _setting("NERLOOP_BACKEND_PORT", 9090, "Port the ML backend listens on.")
    basic_auth_user: str = _setting(
        "BASIC_AUTH_USER", "", "User that Label Studio names to the ML backend; empty: no auth."
    )
    basic_auth_pass: str = _setting("BASIC_AUTH_PASS", "", "Password that goes with it.", secret=True)
    webhook_secret: str = _setting(
        "NERLOOP_WEBHOOK_SECRET", "", "Value of the header X-Nerloop-Secret that webhooks carry.", secret=True
    )
    session_secret: str = _setting(
        "NERLOOP_SESSION_SECRET", "", "Signs the sessions of people who log in; empty: nobody can.", secret=True
    )
    console_host: str = _setting("NERLOOP_CONSOLE_HOST", "127.0.0.1", "Interface the console listens on.")
    console_port: int = _setting("NERLOOP_CONSOLE_PORT", 9091, "Port the console listens on.")
    base_model: str = _setting(
        "NERLOOP_BASE_MODEL",
        "lac",
        "What fine-tuning starts from: `lac`, `production`, a checkpoint's directory, a version, or a ModelScope id.",
    )
    train_threshold: int = _setting(
        "NERLOOP_TRAIN_THRESHOLD", 50, "New labels that start a fine-tune, where a project does not say otherwise."
    )
    quiet_seconds: int = _setting(
        "NERLOOP_QUIET_SECONDS", 10, "Seconds without a new label before reaching the threshold starts a fine-tune."
    )
    max_age_seconds: int = _setting(
        "NERLOOP_MAX_AGE_SECONDS", 86400, "Seconds after which a new label starts a fine-tune by itself; 0: never."
    )
    unlabelled_ratio: int = _setting(
        "NERLOOP_UNLABELLED_RATIO", 2, "Unlabelled texts that a fine-tune learns from too, for each labelled one."
    )
    dev_share: float = _setting("NERLOOP_DEV_SHARE", 0.1, "Share of texts held out for early stopping and calibration.")
    gate_share: float = _setting("NERLOOP_GATE_SHARE", 0.1, "Share of texts held out for judging promotions.")
    strategy: str = _setting(
        "NERLOOP_STRATEGY", "diverse", f"Which tasks annotators see first: {', '.join(STRATEGIES)}."
    )
    random_share: float = _setting("NERLOOP_RANDOM_SHARE", 0.1, "Share of the other texts that come up by chance.")
    blind_held_out: bool = _setting(
        "NERLOOP_BLIND_HELD_OUT", False, "Whether annotators see no pre-labels on held-out texts."
    )
    target_precision: float = _setting(
        "NERLOOP_TARGET_PRECISION",
        0.0,
        "Share of a label's pre-labels that must be right; the least sure are hidden until it is; 0: show all.",
    )
    label_margin: float = _setting(
        "NERLOOP_LABEL_MARGIN", 0.1, "F1 that one label may lose in a promotion which is no loss as a whole."
    )
    memory_count: int = _setting(
        "NERLOOP_MEMORY_COUNT", 2, "Times that a surface was labelled before it is proposed elsewhere; 0: never."
    )
    memory_agreement: float = _setting(
        "NERLOOP_MEMORY_AGREEMENT", 0.9, "Share of its places in which it must have been labelled, and so."
    )
    keep_versions: int = _setting("NERLOOP_KEEP_VERSIONS", 20, "Newest versions of a model whose checkpoint is kept.")
    keep_days: int = _setting(
        "NERLOOP_KEEP_DAYS", 365, "Days for which the checkpoint of what was in production is kept."
    )
    notify_url: str = _setting(
        "NERLOOP_NOTIFY_URL", "", "Webhook that is told of promotions, refusals, failures and rollbacks.", secret=True
    )
    notify_format: str = _setting("NERLOOP_NOTIFY_FORMAT", "json", "Its kind: json, feishu, dingtalk or wecom.")
    notify_secret: str = _setting(
        "NERLOOP_NOTIFY_SECRET", "", "Secret that messages to Feishu or DingTalk are signed with.", secret=True
    )
    grace_seconds: int = _setting(
        "NERLOOP_GRACE_SECONDS",
        86400,  # as long as Label Studio reserves a task for who has opened it
        "Seconds that old predictions stay after they were replaced, for pages that are still open.",
    )
    poll_seconds: int = _setting("NERLOOP_POLL_SECONDS", 15, "Seconds between two looks of a replica at the registry.")
    model_memory_mb: int = _setting(
        "NERLOOP_MODEL_MEMORY_MB", 2000, "Megabytes that the models a process holds may take; the least used go."
    )
    reconcile_seconds: int = _setting("NERLOOP_RECONCILE_SECONDS", 60, "Seconds between two reconciliations.")
    cool_down_seconds: int = _setting(
        "NERLOOP_COOL_DOWN_SECONDS", 300, "Seconds without a new try after a failed fine-tune."
    )
    train_timeout_seconds: int = _setting(
        "NERLOOP_TRAIN_TIMEOUT_SECONDS", 7200, "Seconds after which a fine-tune is stopped."
    )
    label_studio_port: int = _setting(
        "NERLOOP_LABEL_STUDIO_PORT", 8080, "Port of the embedded Label Studio (`make up`)."
    )
    redis_port: int = _setting("NERLOOP_REDIS_PORT", 6380, "Port of the embedded Valkey (`make up`).")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the environment, then `settings.env` in the home folder, then defaults; an empty value counts as unset.

        Raises `SettingsError` naming the variable and what it must be.
        """
        environ = os.environ if environ is None else environ
        home = Path(environ.get("NERLOOP_HOME") or cls.home)
        try:
            file = dotenv_values(home / SETTINGS_FILE, interpolate=False)  # a password may hold a $
        except UnicodeDecodeError:
            raise SettingsError(f"{home / SETTINGS_FILE} is not UTF-8; convert it") from None
        given = {name: value for name, value in file.items() if value} | {
            name: value for name, value in environ.items() if value
        }
        values = {
            entry.name: _parse(entry.metadata["name"], given[entry.metadata["name"]], entry.default)
            for entry in fields(cls)
            if entry.metadata["name"] in given
        }
        settings = cls(**values)
        settings._check()
        return settings

    @classmethod
    def load_or_exit(cls) -> "Settings":
        """Read them as `load` does; what is wrong ends the process with its message and exit code 1."""
        try:
            return cls.load()
        except SettingsError as error:
            sys.exit(f"nerloop: {error}")

    @property
    def console_url(self) -> str:
        """Where this machine reaches its console, which may listen on all addresses or on another than loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.console_host, self.console_host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.console_port}"

    @property
    def has_own_label_studio(self) -> bool:
        """Tell whether Label Studio is the embedded one, and not one that somebody runs elsewhere."""
        address = urlsplit(self.label_studio_url)
        return address.hostname in {"127.0.0.1", "localhost"} and address.port == self.label_studio_port

    def project_page(self, project_id: int) -> str:
        """Return the address of a project's tasks in Label Studio, for a browser."""
        return f"{(self.label_studio_public_url or self.label_studio_url).rstrip('/')}/projects/{project_id}/data"

    @property
    def registry_address(self) -> str:
        """The registry's address with the default filled in."""
        return self.registry_url or f"sqlite:///{(self.home / REGISTRY_FILE).resolve()}"

    @property
    def has_registry(self) -> bool:
        """Whether there is one to ask; else its database in the home folder would only be made by asking."""
        return bool(self.registry_url) or (self.home / REGISTRY_FILE).exists()

    @property
    def artifacts(self) -> Path | None:
        """Where checkpoints are stored, or None where an MLflow server has its own store."""
        return None if self.registry_address.startswith("http") else self.home / "artifacts"

    @property
    def users_file(self) -> Path:
        """Where the API's users are kept."""
        return self.home / USERS_FILE

    @property
    def checkpoint_cache(self) -> Path:
        """Where downloaded checkpoints lie."""
        return self.model_dir or self.home / "checkpoints"

    @property
    def model_cache(self) -> Path:
        """Where ModelScope's models and what was timed of any model lie: with the checkpoints, once there is a home.

        Before that it is the user's cache folder: a command on files leaves nothing in the folder it is run in. A
        registered version never lies there, since the same name means another one in another registry.
        """
        if self.model_dir or self.home != type(self).home or self.home.is_dir():
            return self.checkpoint_cache
        return user_cache_path("nerloop")

    def _check(self) -> None:
        if not (self.dev_share >= 0 and self.gate_share > 0 and self.dev_share + self.gate_share < 1):  # nan too
            raise SettingsError(
                "NERLOOP_DEV_SHARE and NERLOOP_GATE_SHARE: give shares whose sum is below 1, gate above 0"
            )
        if not 0 <= self.target_precision <= 1:  # nan too
            raise SettingsError(f"NERLOOP_TARGET_PRECISION={self.target_precision}: must be a share, from 0 to 1")
        if not 0 < self.memory_agreement <= 1:  # nan too
            raise SettingsError(
                f"NERLOOP_MEMORY_AGREEMENT={self.memory_agreement}: must be a share, above 0 and at most 1"
            )
        if not 0 <= self.label_margin <= 1:  # nan too
            raise SettingsError(f"NERLOOP_LABEL_MARGIN={self.label_margin}: must be a share of F1, from 0 to 1")
        if self.strategy not in STRATEGIES:
            raise SettingsError(f"NERLOOP_STRATEGY={self.strategy}: must be {', '.join(STRATEGIES)}")
        if not 0 <= self.random_share <= 1:  # nan too
            raise SettingsError(f"NERLOOP_RANDOM_SHARE={self.random_share}: must be a share, from 0 to 1")
        if self.notify_format not in NOTIFY_FORMATS:
            raise SettingsError(f"NERLOOP_NOTIFY_FORMAT={self.notify_format}: must be {', '.join(NOTIFY_FORMATS)}")
        if not self.label_studio_api_key.isascii():
            raise SettingsError("LABEL_STUDIO_API_KEY: holds characters that no token has; copy it again")
        for entry in fields(self):
            name, value = entry.metadata["name"], getattr(self, entry.name)
            if name in MINIMUM and value < MINIMUM[name]:
                raise SettingsError(f"{name}={value}: must be at least {MINIMUM[name]}")
            if name in SCHEMES and value and not _is_address(value, SCHEMES[name]):
                # The value is not shown: an address may hold a password.
                raise SettingsError(f"{name}: must be an address that begins with {' or '.join(SCHEMES[name])}://")
        if bool(self.basic_auth_user) != bool(self.basic_auth_pass):
            raise SettingsError("BASIC_AUTH_USER and BASIC_AUTH_PASS: set both or neither")


def _is_address(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and (parts.scheme in LOCAL or bool(parts.hostname)) and port != 0


def _parse(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in SWITCH:
            raise SettingsError(f"{name}={text!r}: must be true or false")
        return SWITCH[text.lower()]
    kind = Path if default is None else type(default)
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"{name}={text!r}: must be a {'whole number' if kind is int else 'number'}") from None
