"""What commands say on standard error, beside the data on standard output. Owns the two ways of saying it."""

from rich.console import Console
from rich.markup import escape


def say(console: Console, text: str) -> None:
    """Print a line as it is: brackets in a label are no markup, and a log is not wrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def warn(console: Console, text: str) -> None:
    """Print a line that people should not miss."""
    console.print(f"[yellow]![/] {escape(text)}", highlight=False, soft_wrap=True)


def done(console: Console, text: str) -> None:
    """Print that something has ended well."""
    console.print(f"[green]✓[/] {escape(text)}", highlight=False, soft_wrap=True)
