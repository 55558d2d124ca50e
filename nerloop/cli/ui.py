"""`nerloop ui`: MLflow's own page on the registry of this home folder."""

import os
import sys

import click
from rich.console import Console

from nerloop.cli.console import say
from nerloop.embedded.stack import port_is_free
from nerloop.errors import BadInput
from nerloop.loop import Loop
from nerloop.settings import Settings


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port it listens on.")
def ui(port: int) -> None:
    """Open MLflow's page on runs, versions and promotions; it listens on this machine only. Ctrl-C stops it.

    What its names and tags mean is in docs/registry.md.

    \b
    nerloop ui --port 5001
    """
    settings = Settings.load()
    if settings.registry_address.startswith("http"):
        raise BadInput("the registry is an MLflow server, which has its page at NERLOOP_REGISTRY_URL; open that")
    if not settings.has_registry:
        raise BadInput(f"there is no registry in {settings.home} yet; it is made by `nerloop up`")
    if not port_is_free(port):
        raise BadInput(f"port {port} is in use; stop what uses it, or choose another with --port")
    Loop(settings).registry.check()
    say(Console(stderr=True), f"MLflow  http://127.0.0.1:{port}/#/experiments   (Ctrl-C stops it)")
    environ = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": settings.registry_address,  # not an argument: it may hold a password
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes for what the loop has none of
    }
    arguments = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execve(sys.executable, arguments, environ)  # noqa: S606  # no shell is wanted
