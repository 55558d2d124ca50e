"""`nerloop status`: where the loop of each project stands."""

import json
import time
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nerloop.embedded.stack import Stack
from nerloop.errors import NerLoopError
from nerloop.loop import Loop
from nerloop.settings import Settings
from nerloop.status import ProjectStatus, project_statuses


@click.command()
@click.option("--watch", is_flag=True, help="Show it again every two seconds until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def status(watch: bool, as_json: bool) -> None:
    """Show labels, jobs, versions and predictions of every connected project.

    \b
    nerloop status --watch
    nerloop status --json | python -m json.tool
    """
    loop = Loop(Settings.load())
    if as_json:
        click.echo(json.dumps(_as_json(loop), ensure_ascii=False))
        return
    console = Console()
    if not watch:
        console.print(_screen(loop))
        return
    with Live(_screen(loop), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(2)
            live.update(_screen_or_error(loop), refresh=True)


def _as_json(loop: Loop) -> dict[str, Any]:
    return {
        "label_studio_url": loop.settings.label_studio_url,
        "backend_url": loop.settings.backend_url,
        "processes": Stack(loop.settings).status(),
        "replicas": loop.state.replicas(),
        "refused": loop.state.refused(),
        "projects": [asdict(project) for project in project_statuses(loop)],
    }


def _screen_or_error(loop: Loop) -> RenderableType:
    try:
        return _screen(loop)
    except NerLoopError as error:  # while something restarts, say so and go on watching
        return Text(str(error), style="red")


def _screen(loop: Loop) -> RenderableType:
    head = Text(f"Label Studio {loop.settings.label_studio_url}   ML backend {loop.settings.backend_url}")
    processes = Stack(loop.settings).status()
    if processes:
        head.append("\n" + "   ".join(f"{name} {state.lower()}" for name, state in processes.items()), style="dim")
    projects = project_statuses(loop)
    if not projects:
        return Group(head, Text("No project is connected; run `nerloop connect --project ID`."))
    replicas, refused = loop.state.replicas(), loop.state.refused()
    return Group(head, *(_project_table(project, replicas, refused) for project in projects))


def _project_table(
    project: ProjectStatus, replicas: dict[str, dict[str, str]], refused: dict[str, dict[str, dict[str, str]]]
) -> Table:
    table = Table(title=f"{project.title} → model {project.model}", title_justify="left", show_header=False)
    bar = ProgressBar(
        total=project.train_threshold, completed=min(project.new_labels, project.train_threshold), width=30
    )
    table.add_row("new labels", Group(Text(f"{project.new_labels} of {project.train_threshold}"), bar))
    table.add_row("fine-tune", _fine_tune(project.fine_tune))
    f1 = "" if project.f1 is None else f"   gate F1 {project.f1:.3f}"
    f1 += ", provisional" if project.provisional else ""
    serving = ", ".join(sorted({versions.get(project.model, "–") for versions in replicas.values()})) or "no replica"
    table.add_row("production", f"{project.production}{f1}   (replicas serve {serving})")
    for replica, models in refused.items():
        if refusal := models.get(project.model):
            said = f"by replica {replica}: {refusal['version']}: {refusal['reason']}"
            table.add_row("refused", Text(said, style="red"))
    if project.change_kind in {"forced", "rollback"}:
        table.add_row("by hand", Text(project.change))
    if project.paused:
        table.add_row("paused", Text(_paused(project.model, project.paused)))
    if project.waiting:
        table.add_row("waits", Text(f"{', '.join(project.waiting)} passed the gate; the newest goes first"))
    if project.promotion and project.promotion not in project.last_decision:
        table.add_row("promoted", Text(project.promotion))
    lines = [project.last_decision or "–", *map(str, project.last_contests)]
    table.add_row("last decision", Text("\n".join(lines)))  # a label may hold what rich takes for its markup
    if project.dropped_entities:
        nested = f"`nerloop connect --project {project.project_id} --decoder nested`"
        table.add_row("not learned", f"{project.dropped_entities} entities overlap others; if they are meant: {nested}")
    table.add_row("tasks", f"{project.annotated} of {project.tasks} annotated")
    refresh = _refresh(project.refresh)
    table.add_row("predictions", f"{project.fresh} fresh, {project.stale} stale{refresh}")
    table.add_row("open", project.url)
    return table


def _paused(model: str, pause: dict[str, str]) -> str:
    why = f": {pause['why']}" if pause["why"] else ""
    how = "with a rollback " if pause["kind"] == "rollback" else ""
    said = f"automatic promotion, {how}at {pause['since']} by {pause['by']}{why}"
    return f"{said}; `nerloop resume {model}` ends it"


def _fine_tune(job: dict[str, Any] | None) -> str:
    if job is None:
        return "none"
    if job["state"] == "failed":
        return f"failed: {job.get('error', '')}"
    step = job.get("step", "")
    if step == "training":
        f1 = "" if job.get("dev_f1") is None else f", dev F1 {job['dev_f1']:.3f}"
        return f"epoch {job['epoch']} of {job['epochs']}, loss {job['loss']}{f1}, {job['seconds_left']} s left"
    return f"{job['state']} {step}".strip()


def _refresh(job: dict[str, Any] | None) -> str:
    if job is None or job["state"] not in ("queued", "started"):
        return ""
    left = "" if job.get("seconds_left") is None else f", {job['seconds_left']} s left"
    return f", refresh {job['state']} {job.get('done', 0)}/{job.get('total', '?')}{left}"
