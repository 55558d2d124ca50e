"""The page Loop 闭环: where each model's loop stands, live, and the buttons that steer it."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nicegui import ui

from console.layout import View, bound_projects, cell, chart, section, subheading, table
from console.report import draw_report
from console.system import SystemPanel

SECONDS_BETWEEN_LOOKS = 2.0  # at trainings
LOOKS_AT_ALL = 4  # as many looks at trainings make one at all the rest, which asks Label Studio and the registry

Row = dict[str, Any]


async def fill(view: View) -> None:
    """Build a panel a project, then what runs."""
    panels = [ProjectPanel(view, project) for project in await bound_projects(view)]
    system = SystemPanel(view)
    await asyncio.gather(*(panel.look() for panel in panels), system.look())

    looks = itertools.count(1)

    async def look() -> None:
        changed = [await panel.look_at_training() for panel in panels]
        if any(changed) or next(looks) % LOOKS_AT_ALL == 0:
            rows = {row["project_id"]: row for row in await view.api.get("/projects")}
            for panel in panels:
                if panel.project_id in rows:
                    await panel.look(rows[panel.project_id])
            await system.look()

    await ui.context.client.connected()
    view.every(SECONDS_BETWEEN_LOOKS, look)
    for panel in panels:
        await panel.report()


class ProjectPanel:
    """One project and its model."""

    def __init__(self, view: View, project: Row) -> None:
        self._view = view
        self._project = project
        self._training: Row = {}
        self._drawn: object = None  # what the state was drawn from, so that only a change draws it anew
        self._offered: object = None  # likewise the buttons
        self._listed: object = None
        self.project_id = project["project_id"]
        with section(f"{project['title']} · {project['model']}"):
            ui.link(view.t("open_project"), project["url"], new_tab=True)
            self._state = ui.element("div").classes("stack")
            self._curves = Curves(view)
            self._buttons = ui.row().classes("controls")
            self._versions = ui.element("div")
            self._report = ui.element("div")

    @property
    def _model(self) -> str:
        return str(self._project["model"])

    async def look(self, project: Row | None = None) -> None:
        """Bring the panel up to date."""
        self._project = project or self._project
        await self.look_at_training()
        versions = await self._view.api.get(f"/models/{self._model}/versions")
        if versions != self._listed:
            reported, self._listed = self._listed is not None, versions
            self._list(versions)
            if reported:
                await self.report()

    async def look_at_training(self) -> bool:
        """Bring the fine-tune up to date; tell whether one has begun or ended."""
        before, self._training = self._training, await self._view.api.get(f"/models/{self._model}/training")
        if (self._project, self._training) != self._drawn:
            self._drawn = (self._project, self._training)
            self._draw()
        return bool(before) and before["state"] != self._training["state"]

    def _draw(self) -> None:
        t, project, training = self._view.t, self._project, self._training
        self._state.clear()
        with self._state:
            count, threshold = project["new_labels"], project["train_threshold"]
            said = t("new_labels", count=count, threshold=threshold)
            ui.label(said)
            bar = ui.linear_progress(min(1.0, count / threshold), show_value=False)
            bar.props(f'aria-label="{said}"')
            ui.label(t("annotated", annotated=project["annotated"], tasks=project["tasks"]))
            serving = t("serving", version=project["production"])
            if project["f1"] is not None:
                serving += " · " + t("f1_is", f1=f"{project['f1']:.3f}")
            if project["provisional"]:
                serving += " · " + t("provisional")
            ui.label(serving).classes("strong")
            ui.label(self._predictions())
            if project["paused"]:
                why = f": {project['paused']['why']}" if project["paused"]["why"] else ""
                since, by = self._view.local_time(project["paused"]["since"]), project["paused"]["by"]
                ui.label(t("paused", by=by, since=since, why=why)).classes("warning")
            ui.label(self._progress()).classes("warning" if training["state"] == "failed" else "")
        self._curves.draw(training["progress"].get("curve") or [])
        runs = training["state"] in {"queued", "started"}
        offered = (runs, project["previous"], bool(project["paused"]))
        if offered != self._offered:  # a button that is drawn anew while somebody clicks it does nothing
            self._offered = offered
            self._draw_buttons(*offered)

    def _predictions(self) -> str:
        t, project = self._view.t, self._project
        said = t("fresh_stale", fresh=project["fresh"], stale=project["stale"])
        refresh = project["refresh"]
        if refresh and refresh["state"] in {"queued", "started"} and "total" in refresh:
            said += " · " + t("refreshing", done=refresh.get("done", 0), total=refresh["total"])
            if refresh.get("seconds_left") is not None:
                said += " · " + t("seconds_left", seconds=refresh["seconds_left"])
        return said

    def _progress(self) -> str:
        t, progress = self._view.t, self._training["progress"]
        match self._training["state"]:
            case "queued" | "deferred" | "scheduled":
                return t("job_queued")
            case "started" if progress.get("step") == "training":
                said = t("job_epoch", **{key: progress[key] for key in ("epoch", "epochs", "loss")})
                return f"{said} · {t('seconds_left', seconds=progress['seconds_left'])}"
            case "started":
                step = progress.get("step")
                return t("job_started", step=t(f"step_{step}") if step else "…")
            case "failed":
                return t("job_failed", error=self._training["error"])
            case _:
                return t("job_none")

    def _draw_buttons(self, runs: bool, previous: str, paused: bool) -> None:
        t = self._view.t
        self._buttons.clear()
        with self._buttons:
            if not self._view.is_operator:
                ui.label(t("operators_only")).classes("hint")
                return
            if runs:
                self._button(t("stop_training"), self._stop)
            else:
                self._button(t("train_now"), self._train)
            if previous:
                self._button(t("roll_back_to", version=previous), lambda: self._roll_back(previous)).props("icon=undo")
            if paused:
                self._button(t("resume"), self._resume)
            else:
                self._button(t("pause"), self._pause)

    def _button(self, text: str, action: Callable[[], Awaitable[None]]) -> ui.button:
        return ui.button(text, on_click=action).props("outline no-caps")

    async def _train(self) -> None:
        async with self._view.told():
            answer = await self._view.api.post(f"/models/{self._model}/train")
            self._view.say(self._view.t("train_queued" if answer["queued"] else "train_there"))
            await self.look()

    async def _stop(self) -> None:
        t = self._view.t
        confirmed = await self._view.confirmed(t("stop_title", model=self._model), t("stop_training"), asks_why=False)
        if confirmed is None:
            return
        async with self._view.told():
            answer = await self._view.api.post(f"/models/{self._model}/training/stop")
            self._view.say(t("stopped" if answer["stopped"] else "nothing_to_stop"))
            await self.look()

    async def _pause(self) -> None:
        why = await self._view.confirmed(self._view.t("pause_title", model=self._model), self._view.t("pause"))
        if why is not None:
            await self._decide(f"/models/{self._model}/pause", why=why)

    async def _resume(self) -> None:
        t, waiting = self._view.t, ", ".join(self._project["waiting"])
        note = t("resume_note", versions=waiting) if waiting else ""
        why = await self._view.confirmed(t("resume_title", model=self._model), t("resume"), note=note)
        if why is not None:
            await self._decide(f"/models/{self._model}/resume", why=why)

    async def _roll_back(self, version: str) -> None:
        t = self._view.t
        why = await self._view.confirmed(
            t("roll_back_title", version=version), t("roll_back"), note=t("roll_back_note"), needs_reason=True
        )
        if why is not None:
            await self._decide(f"/models/{self._model}/rollback", to=version, why=why)

    async def _promote(self, version: Row) -> None:
        t, name = self._view.t, version["version"]
        note = t("rejected_note", reason=version["reason"]) if version["decision"] == "rejected" else ""
        why = await self._view.confirmed(t("promote_title", version=name), t("promote"), note=note, needs_reason=True)
        if why is not None:
            await self._decide(f"/versions/{name}/promote", why=why)

    async def _decide(self, path: str, **fields: str) -> None:
        async with self._view.told():
            answer = await self._view.api.post(path, **fields)
            t = self._view.t
            serves = answer.get("production")
            self._view.say(t("now_serving", version=serves) if serves else t("done"), type="positive")
            rows = await self._view.api.get("/projects")
            await self.look(next((row for row in rows if row["project_id"] == self.project_id), None))

    def _list(self, versions: Sequence[Row]) -> None:
        t = self._view.t
        self._versions.clear()
        with self._versions:
            subheading(t("versions"))
            if not versions:
                ui.label(t("no_versions"))
                return
            actions = (t("actions"),) if self._view.is_operator else ()
            headings = (t("version"), t("created"), "F1", t("decision"), *actions)
            with table(headings):
                for version in versions:
                    self._version_rows(version, len(headings))

    def _version_rows(self, version: Row, columns: int) -> None:
        """Add a version's figures, and the gate's sentence below them over the whole width."""
        t = self._view.t
        classes = "serves" if version["in_production"] else ""
        with ui.element("tr").classes(f"{classes} joined"):
            name = f"{version['version']} ●" if version["in_production"] else version["version"]
            cell(name, "nowrap")
            cell(self._view.local_time(version["created_at"]), "nowrap")
            cell("–" if version["gate_f1"] is None else f"{version['gate_f1']:.3f}")
            decision = t(f"decision_{version['decision']}") if version["decision"] else "–"
            cell(f"{decision} · {t('files_removed')}" if version["files_removed"] else decision, "nowrap")
            if self._view.is_operator:
                with cell(classes="nowrap"):
                    if not (version["in_production"] or version["files_removed"]):
                        button = ui.button(t("promote"), on_click=lambda: self._promote(version))
                        button.props("flat dense no-caps").props(f'aria-label="{t("promote")} {version["version"]}"')
        with ui.element("tr").classes(classes):
            cell(version["reason"], "hint").props(f"colspan={columns}")

    async def report(self) -> None:
        """Show what takes longer to find out: the learning curve, corrections, time saved, advice."""
        async with self._view.told():
            report = await self._view.api.get(f"/projects/{self.project_id}/report")
            if self._view.client.is_deleted:  # nobody looks at the page any more
                return
            self._report.clear()
            with self._report:
                draw_report(self._view, report)


class Curves:
    """Loss and F1 of the fine-tune that runs, an epoch a point; hidden while there is none."""

    def __init__(self, view: View) -> None:
        t = view.t
        axes: list[dict[str, Any]] = [{"type": "value", "name": t("loss")}, {"type": "value", "name": "F1", "max": 1}]
        options = {
            "legend": {"top": 0},
            "grid": {"top": 40, "bottom": 45, "left": 50, "right": 50},
            "xAxis": {"type": "category", "name": t("epoch"), "nameLocation": "middle", "nameGap": 28, "data": []},
            "yAxis": axes,
            "series": [
                {"name": t("loss"), "type": "line", "data": []},
                {"name": t("dev_f1"), "type": "line", "yAxisIndex": 1, "data": []},
            ],
        }
        self._chart = chart(view, options, t("curves"))
        self._chart.set_visibility(False)

    def draw(self, curve: Sequence[Row]) -> None:
        """Show the epochs that have ended."""
        self._chart.set_visibility(bool(curve))
        self._chart.options["xAxis"]["data"] = [point["epoch"] for point in curve]
        self._chart.options["series"][0]["data"] = [point["loss"] for point in curve]
        self._chart.options["series"][1]["data"] = [point["dev_f1"] for point in curve]
        self._chart.update()
