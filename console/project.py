"""One project that feeds a model: its tasks, its predictions, its report; a part of the page Loop."""

from typing import Any

from nicegui import ui

from console.layout import View, subheading
from console.report import draw_report

Row = dict[str, Any]


class ProjectPart:
    """One project below its model."""

    def __init__(self, view: View, project: Row) -> None:
        self._view = view
        self._drawn: Row = {}
        self._id = project["project_id"]
        subheading(project["title"])
        ui.link(view.t("open_project"), project["url"], new_tab=True)
        self._state = ui.element("div").classes("stack")
        self._report = ui.element("div")
        self.draw(project)

    def draw(self, project: Row) -> None:
        """Bring the numbers up to date."""
        if project == self._drawn:
            return
        self._drawn = project
        t = self._view.t
        said = t("fresh_stale", fresh=project["fresh"], stale=project["stale"])
        refresh = project["refresh"]
        if refresh and refresh["state"] in {"queued", "started"} and "total" in refresh:
            said += " · " + t("refreshing", done=refresh.get("done", 0), total=refresh["total"])
            if refresh.get("seconds_left") is not None:
                said += " · " + t("seconds_left", seconds=refresh["seconds_left"])
        self._state.clear()
        with self._state:
            ui.label(t("annotated", annotated=project["annotated"], tasks=project["tasks"]))
            ui.label(said)

    async def report(self) -> None:
        """Show what takes longer to find out: the learning curve, corrections, time saved, advice."""
        async with self._view.told():
            report = await self._view.api.get(f"/projects/{self._id}/report")
            if self._view.client.is_deleted:  # nobody looks at the page any more
                return
            self._report.clear()
            with self._report:
                draw_report(self._view, report)
