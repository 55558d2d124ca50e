"""`nerloop lineage`: where a version comes from, down to the annotations it learned from."""

import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nerloop.errors import BadInput
from nerloop.lineage import Lineage
from nerloop.lineage import lineage as trace
from nerloop.loop import Loop
from nerloop.settings import Settings
from nerloop.versions import version_named


@click.command()
@click.argument("version", required=False)
@click.option("--prediction", "prediction_id", type=int, help="Id of a prediction in Label Studio, instead of VERSION.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with the id of every annotation.")
def lineage(version: str | None, prediction_id: int | None, as_json: bool) -> None:
    """Trace a version: its decision, promotions, run, data and parents, and the annotations it learned from.

    \b
    nerloop lineage medical-v7
    nerloop lineage --prediction 4711 --json
    """
    if (version is None) == (prediction_id is None):
        raise BadInput("give a version such as medical-v7, or --prediction with the id of one in Label Studio")
    loop = Loop(Settings.load())
    name = version if prediction_id is None else loop.label_studio.prediction_version(prediction_id)
    named = version_named(name or "")
    if named is None:
        made = "" if prediction_id is None else f"prediction {prediction_id} was made by "
        raise BadInput(f"{made}{name!r}, which is no version of the registry: it learned from no annotation here")
    found = trace(loop.registry, *named)
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False))
    else:
        Console().print(_table(found))


def _table(found: Lineage) -> Table:
    table = Table(title=found.version, title_justify="left", show_header=False)
    decision = f"{found.decision}{', provisional' if found.provisional else ''}: {found.reason}"
    table.add_row("decision", Text("\n".join([decision, *map(str, found.contests)])))
    changes = [f"{change['at']} {change['sentence']}" for change in found.changes]
    table.add_row("production", Text("\n".join(changes or ["never"]) + ("\nserves now" if found.in_production else "")))
    table.add_row("made", Text(f"{found.created_at}, run {found.run_id}"))
    table.add_row("base", Text(found.base or "not noted"))
    table.add_row("parents", Text(" ← ".join(found.parents)))
    if found.trained_here:
        erased = f", {found.erased} documents erased from it since" if found.erased else ""
        table.add_row("dataset", Text(f"{found.dataset_fingerprint}{erased}"))
        table.add_row("annotations", f"{len(found.annotations)} (`--json` lists their ids)")
    else:
        table.add_row(
            "dataset", Text(f"trained elsewhere{': ' if found.dataset_fingerprint else ''}{found.dataset_fingerprint}")
        )
    if found.files_removed:
        table.add_row("files", f"removed by retention, {found.files_removed}")
    return table
