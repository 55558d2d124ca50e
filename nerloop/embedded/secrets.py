"""The embedded stack's passwords and tokens, generated at its first start. Owns `settings.env` (mode 0600)."""

import secrets

from dotenv import dotenv_values

from nerloop.errors import SettingsError
from nerloop.private_file import write_private
from nerloop.settings import SETTINGS_FILE, Settings

ADMIN = "admin@example.com"


def ensure_secrets(settings: Settings) -> dict[str, str]:
    """Return the stored settings of the embedded stack; what is missing is generated and added.

    Raises `SettingsError` where the home folder cannot be written.
    """
    path = settings.home / SETTINGS_FILE
    stored = {name: value for name, value in dotenv_values(path).items() if value}
    redis_password = secrets.token_hex(16)
    generated = {
        "LABEL_STUDIO_USERNAME": ADMIN,
        "LABEL_STUDIO_PASSWORD": secrets.token_urlsafe(12),
        "LABEL_STUDIO_API_KEY": secrets.token_hex(20),
        "LABEL_STUDIO_URL": f"http://127.0.0.1:{settings.label_studio_port}",
        "NERLOOP_LABEL_STUDIO_PORT": str(settings.label_studio_port),
        "NERLOOP_REDIS_PORT": str(settings.redis_port),
        "NERLOOP_REDIS_URL": f"redis://:{redis_password}@127.0.0.1:{settings.redis_port}/0",
        "NERLOOP_BACKEND_PORT": str(settings.backend_port),
        "NERLOOP_BACKEND_URL": f"http://127.0.0.1:{settings.backend_port}",
        "NERLOOP_CONSOLE_PORT": str(settings.console_port),
        "BASIC_AUTH_USER": "label-studio",
        "BASIC_AUTH_PASS": secrets.token_urlsafe(24),
        "NERLOOP_WEBHOOK_SECRET": secrets.token_urlsafe(24),
        "NERLOOP_SESSION_SECRET": secrets.token_urlsafe(24),
    }
    if generated.keys() <= stored.keys():
        return stored
    complete = generated | stored
    lines = [
        "# Made by `nerloop up`. Holds passwords: keep it to yourself. Variables of the environment go first.",
        *(f"{name}={value}" for name, value in complete.items()),
    ]
    try:
        write_private(path, "\n".join(lines) + "\n")
    except OSError as error:
        raise SettingsError(
            f"cannot write {path} ({error.strerror}); set NERLOOP_HOME to a folder that can be written"
        ) from None
    return complete
