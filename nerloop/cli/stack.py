"""`nerloop up` and `nerloop down`: the embedded stack and its demo project."""

import contextlib
import os
import signal
import sys
import time

import click
from rich.console import Console
from rich.panel import Panel

from nerloop.demo import DEMO_FOLDER, DEMO_MARK, create_project
from nerloop.documents import labels_of, read_jsonl
from nerloop.embedded.secrets import ensure_secrets
from nerloop.embedded.stack import Stack, StackError
from nerloop.errors import NerLoopError, ProjectNotFound
from nerloop.loop import Loop
from nerloop.settings import Settings
from nerloop.tasks import Project
from nerloop.users import Users

console = Console(stderr=True)
DEMO_MODEL = "demo"
PRE_LABEL_SECONDS = 300


@click.command()
@click.option("--detach", is_flag=True, help="Return when everything answers; stop it with `nerloop down`.")
@click.option("--demo/--no-demo", default=True, show_default=True, help="Create the demo project at the first start.")
def up(detach: bool, demo: bool) -> None:
    """Start the whole stack on this machine and wait until it answers. Ctrl-C stops it.

    \b
    nerloop up                 in the foreground
    nerloop up --detach        in the background
    """
    settings = Settings.load()
    stored = ensure_secrets(settings)
    loop = Loop(Settings.load())
    own = loop.settings.has_own_label_studio
    if own:
        _make_operator(loop.settings, stored["LABEL_STUDIO_USERNAME"])
    stack = Stack(loop.settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` stops everything in order, as Ctrl-C does
    was_running = stack.is_running()
    try:
        if was_running:
            console.print("The stack is already running.")
        else:
            stack.check()
            with console.status("Setting up the model registry …"):
                loop.registry.check()
            stack.start()
        with console.status("Starting …") as progress:
            for name in stack.wait_until_ready():
                progress.update(f"Waiting for {name} …")
        parts = "Valkey, ML backend, workers, schedule and console are up"
        console.print(f"[green]✓[/] {'Label Studio, ' if own else ''}{parts}")
        # Into somebody's own Label Studio no demo project is put.
        _print_screen(loop.settings, stored, _demo_project(loop) if demo and own else None)
        if not detach:
            _watch(stack)
    except KeyboardInterrupt:
        with console.status("Stopping …"):
            stack.stop()
        console.print("Stopped. `make up` goes on where it was.")
    except NerLoopError:
        if not was_running:  # leave nothing half-started behind
            stack.stop()
        raise


@click.command()
def down() -> None:
    """Stop the stack that `nerloop up` started."""
    stack = Stack(Settings.load())
    if not stack.is_running():
        console.print("The stack is not running.")
        return
    with console.status("Stopping …"):
        stack.stop()
    console.print("Stopped.")


def _make_operator(settings: Settings, account: str) -> None:
    """Let the first account of Label Studio decide in the console, unless the file of users says otherwise."""
    users = Users(settings.users_file)
    if users.named(account) is None:
        users.add(account, "operator")  # its token is worth nothing: nobody has seen it; one logs in with the password


def _watch(stack: Stack) -> None:
    while stack.is_running():
        time.sleep(1)
    raise StackError("the stack was stopped from elsewhere (`nerloop down`), or supervisord died; see .nerloop/logs")


def _demo_project(loop: Loop) -> Project:
    """Return the demo project, made at the first start and pre-labelled by the starter before this returns."""
    from sync.connect import connect  # the SDK of Label Studio takes a second

    mark = loop.settings.home / DEMO_MARK
    if mark.exists():
        with contextlib.suppress(ProjectNotFound):  # it was deleted: then it is made again
            return loop.label_studio.project(int(mark.read_text()))
    with console.status("Creating the demo project …") as progress:
        documents = read_jsonl(DEMO_FOLDER / "train.jsonl")
        labels = labels_of(documents)
        project = create_project(loop.label_studio, "nerloop demo 演示", documents, labels)
        mark.write_text(str(project.id))
        connect(loop, project.id, DEMO_MODEL)
        version = loop.registry.production(DEMO_MODEL).name
        deadline = time.monotonic() + PRE_LABEL_SECONDS
        while lacking := loop.label_studio.count_tasks(project.id, lacking_version=version):
            if time.monotonic() > deadline:
                raise StackError("the demo project is not pre-labelled; see worker-predict.log in the logs folder")
            progress.update(f"Pre-labelling {len(documents) - lacking} of {len(documents)} tasks …")
            time.sleep(0.5)
    console.print(f"[green]✓[/] Demo project: {len(documents)} tasks, pre-labelled by {version}")
    return project


def _print_screen(settings: Settings, stored: dict[str, str], project: Project | None) -> None:
    page = settings.project_page(project.id) if project else settings.label_studio_url
    command = os.path.relpath(sys.argv[0])
    if settings.has_own_label_studio:
        login = [
            f"[bold]Login[/]          {stored['LABEL_STUDIO_USERNAME']}   (the same for both)",
            f"[bold]Password[/]       {stored['LABEL_STUDIO_PASSWORD']}   (kept in {settings.home}/settings.env)",
        ]
        steps = [
            "  1. Log in to Label Studio, open the demo project and press",
            "     [bold]Label All Tasks[/]. Persons, places and organisations are",
            "     pre-labelled; the least certain task comes first.",
            "  2. Or let an annotator be played:",
            f"       {command} demo annotate --count 60",
            "  3. Watch the loop turn on the console's page Loop, or with",
            f"       {command} status --watch",
            "  4. Bind your own project on the page Connect, or with",
            f"       {command} connect --project ID",
        ]
    else:
        login = ["[bold]Login[/]          an account of that Label Studio, which was not started here"]
        steps = [
            "  1. Let an account decide, not only look:",
            f"       {command} user add E-MAIL --role operator",
            "  2. Bind a project on the console's page Connect, or with",
            f"       {command} connect --project ID",
            "  3. See whether every link holds, both ways:",
            f"       {command} doctor",
        ]
    lines = [
        f"[bold]Label Studio[/]   {page}",
        f"[bold]Console[/]        {settings.console_url}",
        *login,
        "",
        "[bold]What to do next[/]",
        *steps,
        "",
        "Ctrl-C stops everything. Logs are in " + str(settings.home / "logs"),
    ]
    Console().print(Panel("\n".join(lines), title="nerloop", border_style="green", expand=False))
