"""What pre-labels were worth in a project, and whether more labels are: a part of the page Loop."""

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from console.layout import View, cell, chart, subheading, table

Row = dict[str, Any]


def draw_report(view: View, report: Row) -> None:
    """Add the learning curve, corrections, time saved and advice of a report of the API's."""
    t = view.t
    _learning_curve(view, report["learning_curve"])
    _corrections(view, report["versions"])
    subheading(t("time_saved"))
    time_saved = report["bias"] and report["bias"]["time"]
    if time_saved:
        low, high = (f"{100 * end:.0f}" for end in time_saved["interval"])
        ui.label(t("time_saved_is", share=f"{100 * time_saved['share']:.0f}", low=low, high=high))
    else:
        ui.label(t("time_unknown"))
    subheading(t("advice"))
    ui.label(report["advice"]["sentence"]).classes("live" if report["advice"]["enough"] else "")


def _learning_curve(view: View, points: Sequence[Row]) -> None:
    t = view.t
    if not points:
        return
    subheading(t("learning_curve"))
    data = [{"value": [point["documents"], point["f1"]], "name": point["version"]} for point in points]
    options = {
        "grid": {"top": 30, "bottom": 45, "left": 50, "right": 30},
        "tooltip": {"trigger": "item", "formatter": "{b}: {c}"},
        "xAxis": {"type": "value", "name": t("documents"), "nameLocation": "middle", "nameGap": 28},
        "yAxis": {"type": "value", "name": "F1", "max": 1},
        "series": [{"type": "line", "data": data}],
    }
    chart(view, options, t("learning_curve"))


def _corrections(view: View, versions: Sequence[Row]) -> None:
    t = view.t
    subheading(t("corrections"))
    if not versions:
        ui.label(t("no_corrections"))
        return
    done = ("accepted", "relabelled", "resized", "added", "deleted")
    with table((t("version"), t("annotations"), *(t(each) for each in done), t("edits"))):
        for row in versions:
            with ui.element("tr"):
                cell(row["version"], "nowrap")
                cell(row["annotations"])
                for each in done:
                    cell(row[each])
                cell(f"{row['edits_per_annotation']:.2f}")
