"""`nerloop doctor`: checks every link of the loop and prints the fix for what is wrong."""

import click


@click.command()
def doctor() -> None:
    """Check every link between Label Studio, ML backend, Redis and registry."""
