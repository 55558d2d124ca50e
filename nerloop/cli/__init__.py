"""The command line, `nerloop`. One file a group of commands; this one holds the root and turns errors into messages."""

import os
import sys

import click

from nerloop import __version__
from nerloop.cli.checkpoints import convert, inspect
from nerloop.cli.demo import demo
from nerloop.cli.doctor import doctor
from nerloop.cli.erase import erase
from nerloop.cli.evaluate import evaluate
from nerloop.cli.finetune import finetune
from nerloop.cli.lineage import lineage
from nerloop.cli.notify import notify
from nerloop.cli.predict import predict
from nerloop.cli.projects import connect, export, train
from nerloop.cli.promotions import pause_command, promote, resume_command, rollback
from nerloop.cli.releases import publish, register
from nerloop.cli.report import report
from nerloop.cli.stack import down, up
from nerloop.cli.status import status
from nerloop.cli.ui import ui
from nerloop.cli.users import user
from nerloop.errors import NerLoopError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="nerloop")
def cli() -> None:
    """Pre-label, learn and pre-label better: an active-learning loop for Chinese NER in Label Studio.

    \b
    nerloop up                      the whole stack on this machine, with a demo project
    nerloop connect --project 3     bind a project of your own
    nerloop status --watch          see the loop turn

    \b
    nerloop finetune, evaluate, predict and inspect work without any server.
    """


for command in (
    *(up, down, status, report, connect, export, train, doctor, demo),
    *(finetune, evaluate, predict, inspect, convert, register, publish),
    *(rollback, promote, pause_command, resume_command, lineage, erase, notify, ui, user),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors made for people end it with their message and exit code 1."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else it warns of each graph that it writes
    try:
        cli()
    except (NerLoopError, OSError) as error:
        click.echo(f"nerloop: {error}", err=True)
        sys.exit(1)
