"""The page Connect 接入: is Label Studio there, which project feeds which model, does each link hold."""

from html import escape
from typing import Any

from nicegui import ui

from console.layout import View, cell, section, table

Row = dict[str, Any]


async def fill(view: View) -> None:
    """Build the three steps; only an operator can take them."""
    if not view.is_operator:
        ui.label(view.t("operators_only")).classes("panel")
        return
    await ConnectPage(view).build()


class ConnectPage:
    """The state of one open page."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def build(self) -> None:
        """Add the steps, and the projects that Label Studio has."""
        t = self._view.t
        with section(t("step_label_studio")):
            self._used = ui.label()
            with ui.expansion(t("other_label_studio")).classes("full"):
                self._address = ui.input(t("address"), placeholder="https://label-studio.example.com")
                self._address.props("outlined").classes("full")
                self._token = ui.input(t("token"), password=True).props("outlined autocomplete=off").classes("full")
                ui.button(t("check"), on_click=self._check).props("outline no-caps")
                self._found = ui.element("div").props("role=status")
        with section(t("step_project")):
            self._projects = ui.element("div")
        with section(t("step_doctor")):
            self._run = ui.button(t("run_doctor"), on_click=self._examine).props("outline no-caps")
            self._checks = ui.element("div").props("role=status")
        await ui.context.client.connected()
        async with self._view.told():
            self._used.set_text(t("configured", **await self._view.api.get("/label-studio")))
        await self._list()

    async def _check(self) -> None:
        t = self._view.t
        url, token = (self._address.value or "").strip(), (self._token.value or "").strip()
        self._found.clear()
        async with self._view.told():
            found = await self._view.api.post("/label-studio/check", url=url, token=token)
            self._found.clear()
            with self._found:
                ui.label(t("check_found", **found))
                lines = f"LABEL_STUDIO_URL={url}\nLABEL_STUDIO_API_KEY=<{t('your_token')}>"
                ui.html(f"<pre>{escape(lines)}</pre>", sanitize=False)

    async def _list(self) -> None:
        t = self._view.t
        async with self._view.told():
            projects = await self._view.api.get("/label-studio/projects")
            self._projects.clear()
            with self._projects:
                if not projects:
                    ui.label(t("no_projects"))
                    return
                with table((t("project"), t("tasks"), t("labels"), t("model"), t("actions"))):
                    for project in projects:
                        self._row(project)

    def _row(self, project: Row) -> None:
        t = self._view.t
        bound = project["model"]
        with ui.element("tr"):
            cell(f"{project['project_id']} · {project['title']}")
            cell(project["tasks"])
            cell(project["problem"] or ", ".join(project["labels"]), "warning" if project["problem"] else "")
            cell(t("bound_to", model=bound) if bound else "–")
            with cell():
                if not project["problem"]:
                    button = ui.button(t("bind_again" if bound else "bind"), on_click=lambda: self._bind(project))
                    button.props("outline dense no-caps").props(f'aria-label="{t("bind")} {project["project_id"]}"')

    async def _bind(self, project: Row) -> None:
        t = self._view.t
        with self._view.dialog(t("bind_title", title=project["title"])) as dialog:
            model = ui.input(t("model_name"), value=project["model"] or f"project-{project['project_id']}")
            model.props("outlined autofocus").classes("full")
            threshold = (
                ui.number(t("threshold"), min=1, precision=0, placeholder="50").props("outlined").classes("full")
            )
            decoders = {"flat": t("nested_no"), "nested": t("nested_yes")}
            if project["model"]:
                decoders = {"": t("nested_unchanged")} | decoders
            decoder = ui.select(decoders, value=next(iter(decoders)), label=t("nested")).props("outlined")
            decoder.classes("full")
            with ui.row().classes("actions"):
                ui.button(t("cancel"), on_click=lambda: dialog.submit(False)).props("flat no-caps")
                ui.button(t("bind"), on_click=lambda: dialog.submit(True)).props("no-caps unelevated")
        if not await dialog:
            return
        async with self._view.told():
            binding = await self._view.api.post(
                f"/projects/{project['project_id']}/connect",
                model=(model.value or "").strip() or None,
                train_threshold=int(threshold.value) if threshold.value else None,
                decoder=decoder.value or None,
            )
            self._view.say(t("bound", project=binding["project_id"], model=binding["model"]), type="positive")
            await self._list()
            await self._examine()

    async def _examine(self) -> None:
        t = self._view.t
        self._run.props("loading")
        async with self._view.told():
            checks = await self._view.api.get("/doctor")
            wrong = [check for check in checks if not check["ok"]]
            self._checks.clear()
            with self._checks:
                said = t("some_wrong", count=len(wrong)) if wrong else t("all_well")
                ui.label(said).classes("warning" if wrong else "live")
                for check in checks:
                    with ui.element("div").classes("check"):
                        ui.label(f"{'✓' if check['ok'] else '✗'} {check['name']}: {check['seen']}").classes(
                            "" if check["ok"] else "warning"
                        )
                        if not check["ok"]:
                            ui.label(f"→ {check['fix']}").classes("hint")
        self._run.props(remove="loading")
