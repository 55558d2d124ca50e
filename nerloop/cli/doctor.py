"""`nerloop doctor`: checks every link of the loop and prints the fix for what is wrong."""

import sys

import click
from rich.console import Console
from rich.markup import escape

from nerloop.loop import Loop
from nerloop.settings import Settings


@click.command()
def doctor() -> None:
    """Check every link between Label Studio, ML backend, Redis and registry; exit code 1 if one is broken.

    \b
    nerloop doctor
    """
    from sync.doctor import examine  # loads the doors to all servers, which takes seconds

    console = Console()
    broken = 0
    for check in examine(Loop(Settings.load())):
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
        console.print(f"{mark} {escape(check.name)}: [dim]{escape(check.seen)}[/]", highlight=False)
        if not check.ok:
            broken += 1
            console.print(f"    → {escape(check.fix)}", highlight=False)
    sys.exit(1 if broken else 0)
