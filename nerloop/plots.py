"""Pictures of an evaluation, as SVG files whose text stays text, so that Chinese labels show in any browser."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nerloop.calibration import Calibration
from nerloop.evaluation import NO_LABEL, Evaluation
from nerloop.stopping import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw which label was predicted for which, over entities on the same span; `–` is no entity."""
    labels = [*sorted(evaluation.per_label), NO_LABEL]
    names = [label or "–" for label in labels]
    counts = [[evaluation.confusion.get(gold, {}).get(guess, 0) for guess in labels] for gold in labels]
    size = 2.5 + 0.5 * len(labels)
    with _figure(path, size) as axes:
        axes.imshow(counts, cmap="Blues")
        axes.set_xticks(range(len(labels)), names, rotation=45, ha="right", parse_math=False)  # $ is a letter here
        axes.set_yticks(range(len(labels)), names, parse_math=False)
        axes.set(xlabel="predicted 预测", ylabel="gold 标注", title="Confusion of labels 标签混淆")
        darkest = max((count for row in counts for count in row), default=0)
        for y, row in enumerate(counts):
            for x, count in enumerate(row):
                if count:
                    axes.text(x, y, str(count), ha="center", va="center", color="w" if count > darkest / 2 else "k")


def plot_reliability(calibration: Calibration, path: Path) -> None:
    """Draw how often entities are right against the confidence they carry; the diagonal is perfect."""
    bins = [one for one in calibration.bins if one.count]
    with _figure(path, 4.5) as axes:
        axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
        axes.bar([(one.low + one.high) / 2 for one in bins], [one.accuracy for one in bins], width=0.09, alpha=0.8)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence 置信度", ylabel="share that is right 正确率")
        axes.set_title(f"Reliability 可靠性   ECE {calibration.ece:.3f}")


def plot_learning_curve(curve: Sequence[Point], path: Path) -> None:
    """Draw each version's gate F1, and its agreement with the one before, over the texts it was trained on."""
    with _figure(path, 5.5) as axes:
        axes.plot([one.documents for one in curve], [one.f1 for one in curve], marker="o", label="F1")
        measured = {one.documents: one.kappa for one in curve if one.kappa is not None}
        axes.plot([*measured], [*measured.values()], "x:", label="kappa")
        axes.set(ylim=(0, 1), xlabel="texts trained on 训练文本数", title="Learning curve 学习曲线")
        axes.set_xlim(left=0)
        axes.legend()


@contextmanager
def _figure(path: Path, size: float) -> Iterator["Axes"]:
    import matplotlib  # a second, which only who draws pays
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # it only measures the text, which the browser draws
        figure = Figure(figsize=(size, size), layout="constrained")
        yield figure.subplots()
        figure.savefig(path, format="svg")
