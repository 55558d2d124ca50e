"""`nerloop connect`, `export` and `train`: what one does with a project of one's own."""

from pathlib import Path

import click
from rich.console import Console

from nerloop.annotations import ANNOTATION_STRATEGIES, AnnotationStrategy
from nerloop.errors import BadInput
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.settings import Settings
from nerloop.tagging import DecoderKind

console = Console(stderr=True)


@click.command()
@click.option("--project", "project_id", type=int, required=True, help="Id of the project, as in its address.")
@click.option("--model", help="Model (business line) it feeds and is labelled by.  [default: as it is, else its own]")
@click.option(
    "--train-threshold",
    type=click.IntRange(min=1),
    help="New labels that start a fine-tune.  [default: as it is, else 50]",
)
@click.option(
    "--decoder",
    type=click.Choice(["flat", "nested"]),
    help="nested: entities may overlap.  [default: as it is, else flat]",
)
@click.option(
    "--annotations",
    type=click.Choice(ANNOTATION_STRATEGIES),
    help="Where a task has several: the last one, the ground truth first, or what most annotators agree on.  "
    "[default: as it is, else ground-truth]",
)
def connect(
    project_id: int,
    model: str | None,
    train_threshold: int | None,
    decoder: DecoderKind | None,
    annotations: AnnotationStrategy | None,
) -> None:
    """Bind a Label Studio project to a model. Safe to run again; existing annotations count as new labels.

    \b
    nerloop connect --project 3 --model medical --train-threshold 100
    nerloop connect --project 3 --decoder nested
    nerloop connect --project 3 --annotations majority
    """
    from sync import connect as connecting  # the SDK of Label Studio takes a second

    loop = Loop(Settings.load())
    binding = connecting.connect(loop, project_id, model, train_threshold, decoder, annotations)
    labels = ", ".join(loop.label_studio.project(project_id).label_config.labels)
    console.print(f"[green]✓[/] Project {project_id} feeds model [bold]{binding.model}[/], labels {labels}")
    if binding.decoder == "nested":
        console.print("  Its next fine-tune learns entities that overlap (decoder nested).")
    if binding.annotations != Binding.annotations:
        console.print(f"  Where a task has several annotations, its next fine-tune goes by: {binding.annotations}.")
    console.print(f"  A fine-tune starts at {binding.train_threshold} new labels; predictions are on their way.")


@click.command()
@click.option("--project", "project_id", type=int, required=True, help="Id of the project, as in its address.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSONL file to write."
)
def export(project_id: int, output: Path) -> None:
    """Write a project's labelled texts as JSONL, ordered by task. The file appears only when it is complete.

    \b
    nerloop export --project 3 -o medical.jsonl
    """
    from sync import pull  # as above

    loop = Loop(Settings.load())
    if not output.parent.is_dir():
        raise BadInput(f"{output.parent}: no such folder; make it first or write elsewhere")
    with console.status("Exporting …"):
        count = pull.export(loop, loop.label_studio.project(project_id), output)
    console.print(f"[green]✓[/] {count} documents in {output}")


@click.command()
@click.option("--model", required=True, help="Model to fine-tune now, whatever its threshold says.")
def train(model: str) -> None:
    """Queue a fine-tune of a model now.

    \b
    nerloop train --model medical
    """
    loop = Loop(Settings.load())
    if not loop.state.bound_to(model):
        raise BadInput(f"no project is connected to model {model!r}; see `nerloop status`")
    queued = loop.jobs.enqueue_fine_tune(model, forced=True)
    console.print("Queued." if queued else "A fine-tune of this model is queued or running already.")
