"""`nerloop rollback`, `promote`, `pause` and `resume`: what people decide about production beside the gate."""

import getpass

import click
from rich.console import Console

from nerloop.cli.console import done, say, warn
from nerloop.errors import BadInput
from nerloop.loop import Loop
from nerloop.settings import Settings

by_option = click.option("--by", help="Who decides it; kept in the promotion log.  [default: your login name]")
why_option = click.option("--why", default="", help="The reason; kept in the promotion log.")


@click.command()
@click.argument("model")
@click.option("--to", default="", metavar="VERSION", help="Version to go back to.  [default: the one before]")
@by_option
@why_option
def rollback(model: str, to: str, by: str | None, why: str) -> None:
    """Put the version before this one into production again, and pause automatic promotion.

    Before the first promotion that is the starter. A second rollback goes back one more. Replicas and predictions
    follow within seconds. Fine-tunes go on; what passes the gate waits until `nerloop resume MODEL`.

    \b
    nerloop rollback medical --why "finds no drugs since this morning"
    nerloop rollback medical --to medical-v3 --by "Li Na" --why "the last one before the new guideline"
    nerloop rollback medical --to lac-starter
    """
    from sync.push import roll_back

    loop, by = Loop(Settings.load()), _who(by)
    before, serves = roll_back(loop, model, to.strip(), by, why.strip())
    console = Console(stderr=True)
    done(console, f"{serves} is in production instead of {before}; replicas and predictions follow within seconds")
    say(console, f"  Automatic promotion of {model} is paused. `nerloop resume {model}` ends that.")
    click.echo(serves)


@click.command()
@click.argument("version")
@by_option
@click.option("--why", required=True, help="The reason; kept in the promotion log.")
def promote(version: str, by: str | None, why: str) -> None:
    """Put a version into production by hand, whatever the gate said of it and though automatic promotion is paused.

    For one that waits while the pause shall stay, that was rejected, or that was rolled back and is wanted again.

    \b
    nerloop promote medical-v8 --why "the guideline of May: no drug classes"
    """
    from nerloop.versions import version_named
    from sync.push import promote_by_hand

    loop, by = Loop(Settings.load()), _who(by)
    named = version_named(version)
    if named is None:
        raise BadInput(f"{version!r} is no version; give one such as medical-v7, see `nerloop status`")
    if not why.strip():
        raise BadInput("--why: give the reason")
    promote_by_hand(loop, loop.registry.version(*named), by, why.strip())
    done(Console(stderr=True), f"{version} is in production; replicas and predictions follow within seconds")


@click.command("pause")
@click.argument("model")
@by_option
@why_option
def pause_command(model: str, by: str | None, why: str) -> None:
    """Keep production as it is until `nerloop resume MODEL`: no candidate is promoted automatically.

    Fine-tunes go on; a candidate that passes the gate waits. A person can still promote and roll back.

    \b
    nerloop pause medical --why "audit until Friday"
    """
    from sync.push import pause

    console = Console(stderr=True)
    if pause(Loop(Settings.load()), model, _who(by), why.strip()):
        done(console, f"Automatic promotion of {model} is paused; `nerloop resume {model}` ends that")
    else:
        warn(console, f"Automatic promotion of {model} is paused already; see `nerloop status`")


@click.command("resume")
@click.argument("model")
@by_option
@why_option
def resume_command(model: str, by: str | None, why: str) -> None:
    """Let what passes the gate be promoted automatically again, after `nerloop pause` or `rollback`.

    Of the candidates that wait, the newest is promoted at the next reconciliation, within a minute or so.

    \b
    nerloop resume medical
    """
    from sync.push import resume

    waited = resume(Loop(Settings.load()), model, _who(by), why.strip())
    console = Console(stderr=True)
    if waited is None:
        warn(console, f"Automatic promotion of {model} is not paused")
        return
    done(console, f"Candidates of {model} that pass the gate are promoted automatically again")
    if waited:
        say(console, f"  {waited[0]} waits and is promoted at the next reconciliation.")


def _who(by: str | None) -> str:
    try:
        name = (by if by is not None else getpass.getuser()).strip()
    except (KeyError, OSError):  # a container's user may have no name
        name = ""
    if not name:
        raise BadInput("--by: say who decides it")
    return name
