"""Plots are files that a browser shows, with the figures in them."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from nerloop.plots import plot_learning_curve
from nerloop.stopping import Point

CURVE = [Point("m-v1", 40, 0.5, None, None, None), Point("m-v2", 90, 0.6, 0.2, (0.1, 0.3), 0.8)]


@pytest.mark.parametrize("curve", [CURVE, []])
def test_a_learning_curve_names_its_axes_and_lines_also_while_there_is_no_version(
    curve: list[Point], tmp_path: Path
) -> None:
    plot_learning_curve(curve, tmp_path / "curve.svg")

    drawn = ElementTree.parse(tmp_path / "curve.svg").getroot()
    said = " ".join(drawn.itertext())
    assert drawn.tag.endswith("svg")
    assert all(name in said for name in ("Learning curve 学习曲线", "texts trained on", "F1", "kappa"))
