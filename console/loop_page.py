"""The page Loop 闭环: where each model's loop stands, live, and the buttons that steer it."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nicegui import ui

from console.api import GENERAL, ApiProblem
from console.layout import View, cell, chart, failed, section, subheading, table
from console.project import ProjectPart
from console.system import SystemPanel

SECONDS_BETWEEN_LOOKS = 2.0  # at trainings
LOOKS_AT_ALL = 4  # as many looks at trainings make one at all the rest, which asks Label Studio and the registry

Row = dict[str, Any]


async def fill(view: View) -> None:
    """Build the page: the models first, which are known and can be steered while Label Studio does not answer."""
    await LoopPage(view, await view.api.get("/models")).build()


class LoopPage:
    """A panel a model, and what runs."""

    def __init__(self, view: View, models: Sequence[Row]) -> None:
        self._view = view
        self._looks = itertools.count(1)
        self._problem = ""
        self._notice = ui.element("div")
        self._panels = [ModelPanel(view, row["model"]) for row in models if row["projects"] or row["model"] != GENERAL]
        if not self._panels:
            ui.label(view.t("no_project")).classes("panel")
        self._system = SystemPanel(view)

    async def build(self) -> None:
        """Fill the panels, and keep them up to date."""
        await asyncio.gather(*(panel.look() for panel in self._panels), self._system.look())
        await ui.context.client.connected()
        self._view.every(SECONDS_BETWEEN_LOOKS, self._look)
        await self._show_projects()

    async def _look(self) -> None:
        changed = [await panel.look_at_training() for panel in self._panels]
        if any(changed) or next(self._looks) % LOOKS_AT_ALL == 0:
            for panel in self._panels:
                await panel.look()
            await self._system.look()
            await self._show_projects()

    async def _show_projects(self) -> None:
        """Bring the projects up to date; what Label Studio keeps us from knowing is said on top of the page."""
        projects, problem = [], None
        try:
            projects = await self._view.api.get("/projects")
        except ApiProblem as raised:
            problem = raised
        if self._view.client.is_deleted:  # nobody looks at the page any more
            return
        if str(problem or "") != self._problem:
            self._problem = str(problem or "")
            self._notice.clear()
            if problem:
                with self._notice:
                    failed(self._view.t, problem)
        for panel in self._panels:
            await panel.show([project for project in projects if project["model"] == panel.model])


class ModelPanel:
    """One model, and the projects that feed it."""

    def __init__(self, view: View, model: str) -> None:
        self._view = view
        self._status: Row = {}
        self._training: Row = {}
        self._drawn: object = None  # what the state was drawn from, so that only a change draws it anew
        self._offered: object = None  # likewise the buttons
        self._listed: object = None
        self._parts: dict[int, ProjectPart] = {}
        self._unreported: set[int] = set()
        self.model = model
        with section(model):
            self._state = ui.element("div").classes("stack")
            self._curves = Curves(view)
            self._buttons = ui.row().classes("controls")
            self._versions = ui.element("div")
            self._projects = ui.element("div")

    async def look(self) -> None:
        """Bring the model up to date."""
        self._status = await self._view.api.get(f"/models/{self.model}")
        await self.look_at_training()
        versions = await self._view.api.get(f"/models/{self.model}/versions")
        if versions != self._listed:
            self._listed = versions
            self._list(versions)
            self._unreported.update(self._parts)

    async def show(self, projects: Sequence[Row]) -> None:
        """Bring its projects up to date; a report is asked for where a project is new here, and after a training."""
        for project in projects:
            number = project["project_id"]
            if number in self._parts:
                self._parts[number].draw(project)
            else:
                with self._projects:
                    self._parts[number] = ProjectPart(self._view, project)
                self._unreported.add(number)
        for number in sorted(self._unreported & {project["project_id"] for project in projects}):
            self._unreported.discard(number)
            await self._parts[number].report()

    async def look_at_training(self) -> bool:
        """Bring the fine-tune up to date; tell whether one has begun or ended."""
        before, self._training = self._training, await self._view.api.get(f"/models/{self.model}/training")
        if (self._status, self._training) != self._drawn:
            self._drawn = (self._status, self._training)
            self._draw()
        return bool(before) and before["state"] != self._training["state"]

    def _draw(self) -> None:
        t, status, training = self._view.t, self._status, self._training
        self._state.clear()
        with self._state:
            count, threshold = status["new_labels"], status["train_threshold"]
            if threshold:  # else no project feeds it
                said = t("new_labels", count=count, threshold=threshold)
                ui.label(said)
                bar = ui.linear_progress(min(1.0, count / threshold), show_value=False)
                bar.props(f'aria-label="{said}"')
            serving = t("serving", version=status["production"])
            if status["f1"] is not None:
                serving += " · " + t("f1_is", f1=f"{status['f1']:.3f}")
            if status["provisional"]:
                serving += " · " + t("provisional")
            ui.label(serving).classes("strong")
            if status["paused"]:
                why = f": {status['paused']['why']}" if status["paused"]["why"] else ""
                since, by = self._view.local_time(status["paused"]["since"]), status["paused"]["by"]
                ui.label(t("paused", by=by, since=since, why=why)).classes("warning")
            ui.label(self._progress()).classes("warning" if training["state"] == "failed" else "")
        self._curves.draw(training["progress"].get("curve") or [])
        runs = training["state"] in {"queued", "started"}
        offered = (runs, status["previous"], bool(status["paused"]), bool(threshold))
        if offered != self._offered:  # a button that is drawn anew while somebody clicks it does nothing
            self._offered = offered
            self._draw_buttons(*offered)

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

    def _draw_buttons(self, runs: bool, previous: str, paused: bool, is_fed: bool) -> None:
        t = self._view.t
        self._buttons.clear()
        with self._buttons:
            if not self._view.is_operator:
                ui.label(t("operators_only")).classes("hint")
                return
            if runs:
                self._button(t("stop_training"), self._stop)
            elif is_fed:
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
            answer = await self._view.api.post(f"/models/{self.model}/train")
            self._view.say(self._view.t("train_queued" if answer["queued"] else "train_there"))
            await self.look()

    async def _stop(self) -> None:
        t = self._view.t
        confirmed = await self._view.confirmed(t("stop_title", model=self.model), t("stop_training"), asks_why=False)
        if confirmed is None:
            return
        async with self._view.told():
            answer = await self._view.api.post(f"/models/{self.model}/training/stop")
            self._view.say(t("stopped" if answer["stopped"] else "nothing_to_stop"))
            await self.look()

    async def _pause(self) -> None:
        why = await self._view.confirmed(self._view.t("pause_title", model=self.model), self._view.t("pause"))
        if why is not None:
            await self._decide(f"/models/{self.model}/pause", why=why)

    async def _resume(self) -> None:
        t, waiting = self._view.t, ", ".join(self._status["waiting"])
        note = t("resume_note", versions=waiting) if waiting else ""
        why = await self._view.confirmed(t("resume_title", model=self.model), t("resume"), note=note)
        if why is not None:
            await self._decide(f"/models/{self.model}/resume", why=why)

    async def _roll_back(self, version: str) -> None:
        t = self._view.t
        why = await self._view.confirmed(
            t("roll_back_title", version=version), t("roll_back"), note=t("roll_back_note"), needs_reason=True
        )
        if why is not None:
            await self._decide(f"/models/{self.model}/rollback", to=version, why=why)

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
            await self.look()

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
