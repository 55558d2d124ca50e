"""`nerloop inspect` and `nerloop convert`: what a checkpoint is, and RaNER directories as checkpoints of ours."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nerloop.cli.console import done, say
from nerloop.cli.models import open_model, refuse_existing
from nerloop.models import Model
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.runtime import Choice


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts.")
def inspect(model: str, as_json: bool) -> None:
    """Show what a model is, how it came to be, and what runs it fastest on this machine.

    MODEL is a checkpoint's directory, `lac`, a registered version such as medical-v7, or a ModelScope id. Every file
    is checked against its sha256.

    \b
    nerloop inspect models/medical
    nerloop inspect medical-v7 --json | python -m json.tool
    """
    from nerloop.runtime import fastest, graphs_folder

    console = Console(stderr=True)
    settings = Settings.load()
    opened = open_model(model, settings, console)
    with console.status("Timing the runtimes of this machine (once a model) …"):
        folder = graphs_folder(settings.model_cache, opened.tagger)
        _, choice = fastest(opened.tagger, opened.admitted, folder)
    facts = {"model": model, **_facts(opened, choice)}
    if as_json:
        click.echo(json.dumps(facts))
    else:
        Console().print(_table(facts))


@click.command()
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
def convert(source: str, output: Path) -> None:
    """Write any model that can be read as a checkpoint of ours: ModelScope's layout and nerloop.json.

    IN is a directory (as RaNER's are published, as ModelScope saves them, or with AdaSeq's keys), a ModelScope id,
    `lac`, or a registered version. OUT must not exist.

    \b
    nerloop convert downloads/nlp_raner_named-entity-recognition_chinese-base-news models/news
    nerloop convert iic/nlp_raner_named-entity-recognition_chinese-base-cmeee models/cmeee
    """
    from nerloop import checkpoint

    console = Console(stderr=True)
    output = output.absolute()
    refuse_existing(output, "OUT")
    opened = open_model(source, Settings.load(), console)
    made = opened.provenance or checkpoint.Provenance(opened.source, "", revision=opened.revision)
    with console.status("Writing …"):
        checkpoint.save(opened.tagger, made, output)
    labels = ", ".join(opened.tagger.decoder.labels)
    done(console, f"{opened.tagger.decoder.kind} decoder, labels {labels}; written and read back, same weights")
    say(console, f"  `nerloop inspect {output}` shows it.")
    click.echo(output)


def _facts(model: Model, choice: "Choice") -> dict[str, Any]:
    from nerloop.predictor import window_overlap
    from nerloop.runtime import INEXACT

    tagger, made = model.tagger, model.provenance
    encoder = tagger.encoder
    refused = made.refused if made else {}
    return {
        "folder": None if model.folder is None else str(model.folder),
        "format": _format(model),
        "sums_verified": made is not None,
        "labels": tagger.decoder.labels,
        "decoder": {"kind": tagger.decoder.kind, "layers": [layer.tags for layer in tagger.decoder.layers]},
        "encoder": {
            "kind": encoder.kind,
            "model_type": encoder.config.get("model_type", encoder.kind),
            "parameters": sum(weight.numel() for weight in tagger.parameters()),
            "hidden_size": encoder.hidden_size,
            "reads": "characters" if encoder.tokenizer.split_into_characters else "words",
        },
        "bytes": None if model.folder is None else sum(p.stat().st_size for p in model.folder.iterdir() if p.is_file()),
        "made_from": None if made is None else asdict(made),
        "temperature": tagger.temperature,
        "windows": {"tokens": encoder.max_tokens, "overlap": window_overlap(encoder.max_tokens)},
        "runtime": {
            "fastest": choice.name,
            "milliseconds": dict(choice.milliseconds),
            "not_admitted": {
                name: refused.get(name, "not measured when it was made")
                for name in INEXACT
                if name not in model.admitted
            },
        },
    }


def _format(model: Model) -> str:
    if model.folder is None:
        return "starter"
    return "nerloop" if model.provenance is not None else "RaNER"


def _table(facts: Mapping[str, Any]) -> Table:
    table = Table(title=Text(facts["model"]), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    encoder, decoder, made = facts["encoder"], facts["decoder"], facts["made_from"] or {}
    size = "" if facts["bytes"] is None else f", {facts['bytes'] / 1e6:.1f} MB on disk"
    layers = len(decoder["layers"])
    rows = {
        "labels": ", ".join(facts["labels"]),
        "decoder": f"{decoder['kind']}, {layers} layer{'s' if layers > 1 else ''}",
        "encoder": f"{encoder['model_type']}, {encoder['parameters'] / 1e6:.1f} M weights{size}",
        "tags": f"one for each of its {encoder['reads']}",
        "windows": f"of {facts['windows']['tokens']} tokens, {facts['windows']['overlap']} shared by neighbours",
        "temperature": f"{facts['temperature']:.3f}",
        "format": f"{facts['format']}, sha256 of every file verified" if facts["sums_verified"] else facts["format"],
        "base": " @ ".join(filter(None, [made.get("base", ""), made.get("revision", "")])),
        "documents": made.get("dataset_fingerprint", ""),
        "metrics": _lines(made.get("metrics", {})),
        "fastest here": _runtimes(facts["runtime"]),
        "admitted": "\n".join(f"{name}: {_lines(figures, ', ')}" for name, figures in made.get("admitted", {}).items()),
        "not admitted": "\n".join(f"{name}: {why}" for name, why in facts["runtime"]["not_admitted"].items()),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))
    return table


def _lines(figures: Mapping[str, float], between: str = "\n") -> str:
    return between.join(f"{name} {value:.4g}" for name, value in figures.items())


def _runtimes(runtime: Mapping[str, Any]) -> str:
    if not runtime["milliseconds"]:
        return f"{runtime['fastest']} (with a GPU nothing is timed)"
    timed = sorted(runtime["milliseconds"].items(), key=lambda item: item[1])
    return "\n".join(
        f"{name} {value:.2f} ms a text{' ←' if name == runtime['fastest'] else ''}" for name, value in timed
    )
