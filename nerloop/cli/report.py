"""`nerloop report`: what pre-labels were worth, as tables for people or one JSON object for scripts."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nerloop.loop import Loop
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.corrections import Corrections
    from sync.report import Report


@click.command()
@click.option("--project", "project_id", type=int, required=True, help="Id of the project in Label Studio.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def report(project_id: int, as_json: bool) -> None:
    """Show what annotators did to the pre-labels of each version.

    \b
    nerloop report --project 3
    nerloop report --project 3 --json | python -m json.tool
    """
    from sync.report import report as gather

    found = gather(Loop(Settings.load()), project_id)
    if as_json:
        click.echo(json.dumps(_row(found), ensure_ascii=False))
        return
    console = Console()
    console.print(_versions(found))
    if found.without:
        console.print(f"{found.without} more annotations began without pre-labels, or with some nobody knows any more.")
    console.print(_confidence(found))


def _row(found: "Report") -> dict[str, Any]:
    versions = [
        {"version": version, **asdict(done), "edits_per_annotation": done.edits_per_annotation}
        for version, done in found.versions.items()
    ]
    return {
        "project_id": found.project_id,
        "title": found.title,
        "versions": versions,
        "accepted_by_confidence": [asdict(each) for each in found.accepted.bins],
        "without_pre_labels": found.without,
    }


def _versions(found: "Report") -> Table:
    title = Text(f"{found.title}: what became of pre-labels")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)  # so that 80 columns are enough
    table.add_column("version", no_wrap=True)
    for name in ("texts", "shown", "accepted", "re-\nlabelled", "resized", "deleted", "added", "edits\na text"):
        table.add_column(name, justify="right")
    for version, done in found.versions.items():
        table.add_row(version, *_cells(done))
    return table


def _cells(done: "Corrections") -> list[str]:
    """Return the cells of a row; `added` is a share of what was labelled in the end, the others of what was shown."""
    shares = [_percent(count, done.shown) for count in (done.accepted, done.relabelled, done.resized, done.deleted)]
    added = _percent(done.added, done.kept)
    return [str(done.annotations), str(done.shown), *shares, added, f"{done.edits_per_annotation:.1f}"]


def _confidence(found: "Report") -> Table:
    table = Table(title="By confidence", title_justify="left")
    for name in ("score", "shown", "mean score", "accepted"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for each in found.accepted.bins:
        if each.count:
            span = f"{each.low:.1f} to {each.high:.1f}"
            table.add_row(span, str(each.count), f"{each.confidence:.3f}", f"{each.accuracy:.1%}")
    return table


def _percent(count: int, whole: int) -> str:
    return f"{count / whole:.1%}" if whole else "–"
