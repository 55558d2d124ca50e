"""`nerloop register` and `nerloop publish`: checkpoints on their way into serving and out to ModelScope's hub."""

import os
from typing import TYPE_CHECKING

import click
from rich.console import Console

from nerloop.cli.console import done, say, warn
from nerloop.cli.models import open_model
from nerloop.errors import BadInput
from nerloop.loop import Loop
from nerloop.models import find_folder
from nerloop.settings import Settings

if TYPE_CHECKING:
    from sync.judge import Judgement, Outcome


@click.command()
@click.argument("checkpoint", metavar="DIR")
@click.option("--model", required=True, help="Model (business line) that it is a candidate of.")
@click.option("--by", default="", help="Who registers it; kept with the reason of the decision.")
@click.option("--force", is_flag=True, help="Promote it though the gate refuses; needs --by and --why.")
@click.option("--why", default="", help="Why it is forced; kept with the version.")
def register(checkpoint: str, model: str, by: str, force: bool, why: str) -> None:
    """Take a checkpoint through the gate into serving, as if a worker had trained it; prints its version.

    It is scored beside what serves on the held-out documents of the model's projects, registered whatever comes of it,
    and promoted if it is not worse (docs/decisions/0009 has the rules).

    \b
    nerloop register models/medical --model medical --by "Li Na"
    nerloop register models/medical --model medical --by "Li Na" --force --why "guideline of May: no drug classes"
    """
    from nerloop.checkpoint import Provenance
    from sync.judge import register_checkpoint

    by, why = by.strip(), why.strip()
    if force and not (by and why):
        raise BadInput("--force: say who answers for it with --by, and the reason with --why")
    if why and not force:
        raise BadInput("--why: is the reason of --force, which is not given")
    console = Console(stderr=True)
    loop = Loop(Settings.load())
    opened = open_model(checkpoint, loop.settings, console)
    made = opened.provenance or Provenance(opened.source, "", revision=opened.revision)
    with console.status("Reading the labels, scoring and registering …"):
        judgement, outcome = register_checkpoint(loop, model, opened.tagger, made, by, why)
    _say_outcome(console, judgement, outcome)
    click.echo(str(outcome.version))


@click.command()
@click.argument("source", metavar="VERSION_OR_DIR")
@click.option("--to", "repository", required=True, help="Repository on ModelScope, NAMESPACE/NAME; made if missing.")
@click.option("--tag", help="Tag it has there.  [default: the version, or the directory's name]")
def publish(source: str, repository: str, tag: str | None) -> None:
    """Upload a checkpoint to ModelScope, tagged with its version; prints the address of its page.

    VERSION_OR_DIR is a registered version such as medical-v7, or a checkpoint's directory. The token is read from
    MODELSCOPE_API_TOKEN. A repository that is missing is made, private; a tag that exists is never replaced.

    \b
    nerloop publish medical-v7 --to clinic/ner-medical
    nerloop publish models/medical --to clinic/ner-medical --tag v1
    """
    from nerloop import checkpoint, hub

    console = Console(stderr=True)
    folder = find_folder(source, Loop(Settings.load()))
    with console.status("Checking the files …"):
        checkpoint.load(folder)
    token = os.environ.get(hub.TOKEN_VARIABLE, "")
    with console.status("Uploading …"):
        page = hub.publish(folder, repository, token, tag or folder.resolve().name)
    done(console, f"{source} is published")
    click.echo(page)


def _say_outcome(console: Console, judgement: "Judgement", outcome: "Outcome") -> None:
    said = f"{outcome.version}: {outcome.decision}. {outcome.reason}"
    if outcome.decision == "promoted":
        done(console, said)
    else:
        warn(console, said)
    for contest in judgement.decision.contests:
        say(console, f"  {contest}")
    say(
        console,
        f"  Candidate: precision {judgement.candidate.micro.precision:.3f}, recall "
        f"{judgement.candidate.micro.recall:.3f}; serving: precision {judgement.current.micro.precision:.3f}, recall "
        f"{judgement.current.micro.recall:.3f}",
    )
    say(console, "  What it was trained on is not known here: if these documents were among it, its F1 is too good.")
