"""The replicas and workers that are alive: a part of the page Loop."""

from nicegui import ui

from console.layout import View, section


class SystemPanel:
    """The replicas and workers that are alive."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._drawn: object = None
        with section(view.t("system")):
            self._list = ui.element("div").classes("stack")

    async def look(self) -> None:
        """Bring the panel up to date."""
        t = self._view.t
        system = await self._view.api.get("/system")
        models = {row["model"]: row["production"] for row in await self._view.api.get("/models")}
        if (system, models) == self._drawn:
            return
        self._drawn = (system, models)
        self._list.clear()
        with self._list:
            if not system["replicas"]:
                ui.label(t("no_replica")).classes("warning")
            for name, serving in sorted(system["replicas"].items()):
                said = ", ".join(f"{model}: {version}" for model, version in sorted(serving.items()))
                ui.label(f"{t('replica', name=name)} · {t('serves')} {said or t('nothing_loaded')}")
                for model, version in sorted(serving.items()):
                    if models.get(model, version) != version:
                        ui.label(f"{model}: {version}, {t('behind', version=models[model])}").classes("warning")
                for refused in system["refused"].get(name, {}).values():
                    ui.label(t("refuses", **refused)).classes("warning")
            if not system["workers"]:
                ui.label(t("no_worker")).classes("warning")
            for worker in system["workers"]:
                queues = ", ".join(worker["queues"])
                does = t("busy", job=worker["job"]) if worker["job"] else t("idle")
                heard = t("heard", at=self._view.local_time(worker["heard_at"]))
                ui.label(f"{t('worker', name=worker['name'])} · {worker['version']} · {queues} · {does} · {heard}")
