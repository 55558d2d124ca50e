"""The page Data 数据: what is labelled in each project, on which side of the held-out split, and the export."""

from typing import Any

from nicegui import ui

from console.layout import View, bound_projects, cell, chart, section, table

SIDES = ("train", "dev", "gate")


async def fill(view: View) -> None:
    """Build a panel a project; the counts follow, since they read every label."""
    panels = []
    for project in await bound_projects(view):
        with section(f"{project['title']} · {project['model']}") as panel:
            ui.label(view.t("annotated", annotated=project["annotated"], tasks=project["tasks"]))
            with ui.row().classes("controls"):
                ui.link(view.t("export"), f"/export/{project['project_id']}").classes("button")
                ui.link(view.t("open_project"), project["url"], new_tab=True)
        panels.append((project, panel))
    await ui.context.client.connected()
    for project, panel in panels:
        async with view.told():
            counts = await view.api.get(f"/projects/{project['project_id']}/dataset")
            if view.client.is_deleted:  # nobody looks at the page any more
                return
            with panel:
                _counts(view, counts)


def _counts(view: View, counts: dict[str, dict[str, Any]]) -> None:
    t = view.t
    if not any(side["documents"] for side in counts.values()):
        ui.label(t("no_labels_yet"))
        return
    with table((t("label"), *(t(f"{side}_side") for side in SIDES), t("total"))):
        for key, name in (("documents", "texts"), ("characters", "characters")):
            _row(t(name), [counts[side][key] for side in SIDES])
        for label in counts["train"]["entities"]:
            _row(label, [counts[side]["entities"][label] for side in SIDES])
    labels = list(counts["train"]["entities"])
    options = {
        "legend": {"top": 0},
        "grid": {"top": 40, "bottom": 30, "left": 50, "right": 20},
        "xAxis": {"type": "category", "data": labels},
        "yAxis": {"type": "value"},
        "series": [
            {
                "name": t(f"{side}_side"),
                "type": "bar",
                "stack": "entities",
                "data": [counts[side]["entities"][label] for label in labels],
            }
            for side in SIDES
        ],
    }
    chart(view, options, t("entities_by_label"))


def _row(name: str, numbers: list[int]) -> None:
    with ui.element("tr"):
        with ui.element("th").props("scope=row"):
            ui.label(name)
        for number in (*numbers, sum(numbers)):
            cell(f"{number:,}", "number")
