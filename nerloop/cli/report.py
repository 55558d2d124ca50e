"""`nerloop report`: what pre-labels were worth, as tables for people or one JSON object for scripts."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nerloop.cli.console import say
from nerloop.loop import Loop
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.calibration import Bin
    from nerloop.corrections import Corrections
    from nerloop.stopping import Point
    from sync.report import Report


@click.command()
@click.option("--project", "project_id", type=int, required=True, help="Id of the project in Label Studio.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the learning curve into an SVG file."
)
def report(project_id: int, as_json: bool, plot: Path | None) -> None:
    """Show what annotators did to the pre-labels of each version, and whether labelling more still pays.

    \b
    nerloop report --project 3
    nerloop report --project 3 --json | python -m json.tool
    nerloop report --project 3 --plot curve.svg
    """
    from sync.report import report as gather

    found = gather(Loop(Settings.load()), project_id)
    if plot is not None:
        from nerloop.plots import plot_learning_curve

        plot_learning_curve(found.curve, plot)
    if as_json:
        click.echo(json.dumps(found.row(), ensure_ascii=False))
        return
    console = Console()
    console.print(_versions(found))
    if found.without:
        console.print(f"{found.without} more annotations began without pre-labels, or with some nobody knows any more.")
    console.print(_confidence(found))
    for line in _about_bias(found):
        say(console, line)
    if found.curve:
        console.print(_curve(found.curve))
    say(console, found.advice.sentence)


def _versions(found: "Report") -> Table:
    title = Text(f"{found.title}: what became of pre-labels")
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)  # so that 80 columns are enough
    table.add_column("version", no_wrap=True)
    for name in ("texts", "shown", "accepted", "re-\nlabelled", "resized", "deleted", "added", "edits\na text"):
        table.add_column(name, justify="right")
    for version, done in found.versions.items():
        table.add_row(version, *_cells(done))
    return table


def _cells(done: "Corrections") -> list[str]:
    """Return the cells of a row; `added` is a share of what was labelled in the end, the others of what was shown."""
    shares = [_percent(count, done.shown) for count in (done.accepted, done.relabelled, done.resized, done.deleted)]
    added = _percent(done.added, done.kept)
    return [str(done.annotations), str(done.shown), *shares, added, f"{done.edits_per_annotation:.1f}"]


def _confidence(found: "Report") -> Table:
    table = Table(title="By confidence", title_justify="left")
    for name in ("score", "shown", "mean score", "accepted", *(["right where blind", "of"] if found.bias else [])):
        table.add_column(name, justify="left" if name == "score" else "right")
    for number, each in enumerate(found.accepted.bins):
        blind = found.bias.right.bins[number] if found.bias else None
        if each.count or (blind and blind.count):
            span = f"{each.low:.1f} to {each.high:.1f}"
            mean = f"{each.confidence:.3f}" if each.count else "–"
            cells = [span, str(each.count), mean, _share(each)]
            table.add_row(*cells, *([_share(blind), str(blind.count)] if blind else []))
    return table


def _about_bias(found: "Report") -> Iterator[str]:
    """Yield the sentences on time and on wrong pre-labels that pass."""
    from nerloop.blind import MIN_TASKS  # numpy, which most commands need not wait for

    bias = found.bias
    if bias is None:
        yield (
            "What pre-labels save and how many wrong ones pass can be said where held-out texts are labelled blind: "
            "NERLOOP_BLIND_HELD_OUT in docs/settings.md."
        )
        return
    if bias.time is None:
        yield (
            f"Time saved: not known yet. It takes {MIN_TASKS} blind tasks and {MIN_TASKS} that came up by chance with "
            f"pre-labels, by one annotator; there are {bias.blind} and {bias.by_chance}, by all."
        )
    else:
        low, high = bias.time.interval
        yield (
            f"Time saved: {bias.time.share:.0%} (95 % interval {low:.0%} to {high:.0%}). 100 characters take "
            f"{bias.time.seconds:.1f} s with pre-labels and {bias.time.blind_seconds:.1f} s without, over "
            f"{bias.time.tasks} and {bias.time.blind_tasks} tasks, each of {bias.time.annotators} annotators compared "
            "with their own."
        )
    if bias.passed is not None:
        wrong, accepted = bias.passed
        yield (
            f"Wrong ones that pass: about {wrong:.0f} of {accepted} accepted, by what {bias.version} finds in "
            f"{bias.blind} texts labelled blind."
        )


def _curve(curve: Sequence["Point"]) -> Table:
    table = Table(title="Learning curve", title_justify="left")
    for name in ("version", "texts", "gate F1", "for 100 more texts", "kappa"):
        table.add_column(name, justify="left" if name == "version" else "right")
    for point in curve:
        low, high = point.interval or (0.0, 0.0)
        gain = "–" if point.gain is None else f"{point.gain:+.3f} ({low:+.3f} to {high:+.3f})"
        kappa = "–" if point.kappa is None else f"{point.kappa:.3f}"
        table.add_row(point.version, str(point.documents), f"{point.f1:.3f}", gain, kappa)
    return table


def _share(each: "Bin") -> str:
    return f"{each.accuracy:.1%}" if each.count else "–"


def _percent(count: int, whole: int) -> str:
    return f"{count / whole:.1%}" if whole else "–"
