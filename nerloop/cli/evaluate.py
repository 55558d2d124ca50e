"""`nerloop evaluate`: how good a model is on labelled texts, as tables for people or one JSON object for scripts."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from nerloop.cli.console import say, warn
from nerloop.cli.models import MODEL_HELP, open_model, open_predictor
from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.errors import BadInput
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.calibration import Calibration
    from nerloop.comparison import Comparison
    from nerloop.evaluation import Evaluation, Scores
    from nerloop.tagging import Decoder

TEXTS_AT_ONCE = 256
MISTAKES_SHOWN = 12


@click.command()
@click.option("--model", required=True, help=MODEL_HELP)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="JSONL with the right entities.")
@click.option("--against", help="Another model: is the difference between the two more than luck?")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for scripts, on the last line.")
def evaluate(model: str, data: Path, against: str | None, as_json: bool) -> None:
    """Score a model on labelled texts: precision, recall and F1, each label, and whether confidence can be trusted.

    An entity is right when its start, end and label are. Runs in fp32, whatever serves here.

    \b
    nerloop evaluate --model models/medical --data test.jsonl
    nerloop evaluate --model models/medical --data test.jsonl --against lac
    nerloop evaluate --model models/medical --data test.jsonl --json | python -m json.tool
    """
    from nerloop.comparison import compare

    console = Console(stderr=True)
    gold = read_jsonl(data)
    if not gold:
        raise BadInput(f"--data {data}: no documents; give labelled texts, one JSON object a line")
    result = _evaluated(model, gold, console)
    comparison = None
    if against is not None:
        comparison = compare(gold, _evaluated(against, gold, console).predicted, result.predicted)
    if as_json:
        row = {"model": model, "data": str(data), **_row(result)}
        if against is not None and comparison is not None:
            row["against"] = _comparison_row(against, comparison)
        click.echo(json.dumps(row))
        return
    screen = Console()
    for part in _tables(result):
        screen.print(part)
    if against is not None and comparison is not None:
        say(screen, _sentence(model, against, comparison))


@dataclass(frozen=True)
class _Result:
    predicted: list[Document]
    evaluation: "Evaluation"
    calibration: "Calibration"
    perfect_ece: float
    temperature: float
    unknown_labels: tuple[str, ...]
    extra_labels: tuple[str, ...]


def _evaluated(source: str, gold: Sequence[Document], console: Console) -> _Result:
    from nerloop.calibration import calibration, perfect_ece
    from nerloop.evaluation import evaluate as score

    settings = Settings.load()
    model = open_model(source, settings, console)
    predictor = open_predictor(model, settings, console, exact=True)
    predicted = []
    starts = range(0, len(gold), TEXTS_AT_ONCE)
    hidden = not console.is_terminal
    for start in track(starts, f"Labelling with {source}", console=console, transient=True, disable=hidden):
        texts = [document.text for document in gold[start : start + TEXTS_AT_ONCE]]
        predicted += [Document("", "", prediction.entities) for prediction in predictor.predict(texts)]
    scores = [entity.score for document in predicted for entity in document.entities if entity.score is not None]
    result = _Result(
        predicted,
        score(gold, predicted),
        calibration(gold, predicted),
        perfect_ece(scores),
        model.tagger.temperature,
        tuple(sorted(set(labels_of(gold)) - set(predictor.labels))),
        tuple(sorted(set(labels_of(predicted)) - set(labels_of(gold)))),
    )
    _warn_of_labels(source, result, console)
    _warn_of_inner_entities(source, model.tagger.decoder, result, console)
    return result


def _warn_of_labels(source: str, result: _Result, console: Console) -> None:
    scores = result.evaluation.per_label
    if result.unknown_labels:
        missed = sum(scores[label].support for label in result.unknown_labels)
        warn(console, f"{source} does not know {', '.join(result.unknown_labels)}: {missed} entities count as missed.")
    if result.extra_labels:
        confusion = result.evaluation.confusion
        wrong = sum(count for row in confusion.values() for label, count in row.items() if label in result.extra_labels)
        warn(
            console,
            f"The data has no {', '.join(result.extra_labels)}, which {source} finds: {wrong} entities count as wrong.",
        )


def _warn_of_inner_entities(source: str, decoder: "Decoder", result: _Result, console: Console) -> None:
    inner = result.evaluation.inner_support
    if inner and decoder.kind == "flat":
        warn(
            console,
            f"{inner} entities lie inside others, where the flat decoder of {source} finds none: they count as missed. "
            "A fine-tune with --decoder nested learns them.",
        )


def _row(result: _Result) -> dict[str, Any]:
    from nerloop.evaluation import as_row

    return {
        **as_row(result.evaluation),
        "ece": result.calibration.ece,
        "perfect_ece": result.perfect_ece,
        "temperature": result.temperature,
        "reliability": [asdict(each) for each in result.calibration.bins],
        "unknown_labels": result.unknown_labels,
    }


def _comparison_row(against: str, comparison: "Comparison") -> dict[str, Any]:
    return {
        "model": against,
        "f1": comparison.first_f1,
        "difference": comparison.difference,
        "interval": comparison.interval,
        "probability_worse": comparison.probability_worse(),
    }


def _sentence(model: str, against: str, comparison: "Comparison") -> str:
    low, high = comparison.interval
    verdict = "more than luck" if low > 0 or high < 0 else "may be luck"
    return (
        f"{model} against {against}: F1 {comparison.first_f1:.3f} → {comparison.second_f1:.3f}, difference "
        f"{comparison.difference:+.3f}, 95 % interval {low:+.3f} to {high:+.3f} ({verdict}); "
        f"P(worse) {comparison.probability_worse():.3f}"
    )


def _tables(result: _Result) -> list[Table | Text]:
    evaluation = result.evaluation
    parts = [_overall(evaluation), _labels(evaluation)]
    mistakes = _mistakes(evaluation)
    if mistakes.rows:
        parts.append(mistakes)
    return [*parts, _reliability(result.calibration), _about_calibration(result)]


def _overall(evaluation: "Evaluation") -> Table:
    table = _table(f"{evaluation.documents} texts, {evaluation.micro.support} entities", "", *SCORES)
    table.add_row("all labels (micro)", *_cells(evaluation.micro))
    table.add_row("mean of labels (macro)", "", "", f"{evaluation.macro_f1:.3f}")
    table.add_row("boundaries only", *_cells(evaluation.boundary))
    table.add_row("label, overlapping", *_cells(evaluation.typing))
    if evaluation.inner_support:
        table.add_row("inside a longer one", "", f"{evaluation.inner_recall:.3f}", "", str(evaluation.inner_support))
    return table


SCORES = ("precision", "recall", "F1", "entities")


def _labels(evaluation: "Evaluation") -> Table:
    table = _table("By label", "label", *SCORES)
    for label, scores in evaluation.per_label.items():
        table.add_row(Text(label), *_cells(scores))
    return table


def _mistakes(evaluation: "Evaluation") -> Table:
    table = _table("Most frequent mistakes", "labelled", "found", "times")
    table.columns[1].justify = "left"
    pairs = [
        (count, gold or "–", found or "–")
        for gold, row in evaluation.confusion.items()
        for found, count in row.items()
        if gold != found
    ]
    for count, gold, found in sorted(pairs, key=lambda pair: -pair[0])[:MISTAKES_SHOWN]:
        table.add_row(Text(gold), Text(found), str(count))
    return table


def _reliability(calibration: "Calibration") -> Table:
    table = _table("Confidence", "score", "entities", "mean score", "right")
    for each in calibration.bins:
        if each.count:
            span = f"{each.low:.1f} to {each.high:.1f}"
            table.add_row(span, str(each.count), f"{each.confidence:.3f}", f"{each.accuracy:.3f}")
    return table


def _about_calibration(result: _Result) -> Text:
    return Text(
        f"Expected calibration error {result.calibration.ece:.3f}; a perfectly calibrated model with these scores "
        f"would show {result.perfect_ece:.3f}. Temperature {result.temperature:.2f}."
    )


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _cells(scores: "Scores") -> tuple[str, str, str, str]:
    return f"{scores.precision:.3f}", f"{scores.recall:.3f}", f"{scores.f1:.3f}", str(scores.support)
