"""`nerloop erase`: a document leaves Label Studio, every snapshot and every local copy, for good."""

from typing import TYPE_CHECKING

import click
from rich.console import Console

from nerloop.cli.console import done, say, warn
from nerloop.errors import BadInput
from nerloop.loop import Loop
from nerloop.settings import Settings

if TYPE_CHECKING:
    from sync.erase import Erasure


@click.command()
@click.argument("document")
@click.option("--by", required=True, help="Who answers for it; kept with the runs it was erased from.")
@click.option("--why", required=True, help="The reason, kept likewise; name no person in it.")
@click.option("--yes", is_flag=True, help="Do not ask first.")
def erase(document: str, by: str, why: str, yes: bool) -> None:
    """Erase a document for good; DOCUMENT is PROJECT-TASK, the `id` that exports and snapshots have, such as 3-17.

    Its task is deleted in Label Studio with all annotations and predictions; its text leaves the snapshots of all runs,
    its annotations leave their manifests, and what killed fine-tunes have left on this machine is removed. Safe to
    repeat, also after the task was deleted by hand.

    Prints the versions that were trained on it: their weights may remember it. No version is deleted.

    It cannot reach: files that were uploaded to Label Studio's import page, which it keeps, exports that people made,
    backups of Label Studio and of the registry, earlier versions of objects where a bucket keeps them, runs that were
    deleted in MLflow (until `mlflow gc`), what people copied, and on other machines the copy of the labels (corrected
    when they are next read there) and work folders (removed at the next fine-tune of that model).

    \b
    nerloop erase 3-17 --by "Li Na" --why "consent withdrawn, request 2026-114"
    """
    from sync.erase import erase as erase_document
    from sync.erase import parse_document_id

    if not (by.strip() and why.strip()):
        raise BadInput("--by and --why: say who answers for it, and the reason")
    project_id, task_id = parse_document_id(document)
    if not yes:
        click.confirm(
            f"Erase task {task_id} of project {project_id}, with its annotations and in every snapshot, for good?",
            abort=True,
            err=True,
        )
    console = Console(stderr=True)
    with console.status("Erasing …"):
        erasure = erase_document(Loop(Settings.load()), document, by.strip(), why.strip())
    _say(console, erasure)
    for version in erasure.versions:
        click.echo(version)


def _say(console: Console, erasure: "Erasure") -> None:
    if not (erasure.was_in_label_studio or erasure.runs):
        warn(console, f"Nothing of {erasure.document_id} was found in Label Studio or a snapshot; is the id right?")
        return
    where = "deleted in Label Studio" if erasure.was_in_label_studio else "not in Label Studio any more"
    done(console, f"{erasure.document_id} is {where} and erased from the snapshots of {len(erasure.runs)} runs")
    if erasure.versions:
        serving = f", of which {', '.join(erasure.serving)} serve" if erasure.serving else ", none of which serve"
        warn(console, f"Trained on it, so that their weights may remember it: {', '.join(erasure.versions)}{serving}")
        say(
            console,
            "  `nerloop train --model MODEL` makes one without it; delete the others in MLflow where they must go.",
        )
    for model in erasure.running:
        warn(
            console, f"A fine-tune of {model} is running and may have read it before: run this again when it has ended"
        )
