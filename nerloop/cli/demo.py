"""`nerloop demo`: plays the annotator, so that the loop can be seen turning without labelling by hand."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from nerloop import demo as demonstration
from nerloop.documents import read_jsonl
from nerloop.errors import BadInput
from nerloop.loop import Loop
from nerloop.settings import Settings


@click.group()
def demo() -> None:
    """Play the annotator of the demo project."""


@demo.command()
@click.option("--count", type=click.IntRange(min=1), default=60, show_default=True, help="Tasks to annotate.")
@click.option("--project", "project_id", type=int, help="Id of the project.  [default: the demo project]")
@click.option(
    "--gold",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=demonstration.DEMO_FOLDER / "train.jsonl",
    help="JSONL file the project was made from.  [default: the demo's]",
)
def annotate(count: int, project_id: int | None, gold: Path) -> None:
    """Correct the pre-labels of the next tasks to gold, through Label Studio's own API.

    \b
    nerloop demo annotate --count 60
    """
    loop = Loop(Settings.load())
    mark = loop.settings.home / demonstration.DEMO_MARK
    if project_id is None and not mark.exists():
        raise BadInput("there is no demo project; start the stack with `nerloop up`, or name one with --project")
    project = loop.label_studio.project(project_id or int(mark.read_text()))
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Annotating", total=count)
        for _ in demonstration.annotate(loop.label_studio, project, read_jsonl(gold), count):
            progress.advance(bar)
