"""The page Try 试用: a text, and what one or two models find in it while it is typed."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from nicegui import ui

from console.api import GENERAL
from console.highlight import Shown, highlighted
from console.layout import View, open_for_typing, text_area
from console.texts import Texts

EXAMPLE = "张三在北京的阿里巴巴工作，周末常去上海看望在复旦大学读书的妹妹李娜。"
SECONDS_BETWEEN_LOOKS = 3.0  # at what the replicas serve
MAX_CHARACTERS = 20_000  # that are labelled anew whenever somebody stops typing

Found = dict[str, Any]
"""An entity as the API gives it: start, end, label, text, score."""


async def fill(view: View) -> None:
    """Build the page, and label the text that this tab has kept, or an example."""
    await TryPage(view, await view.api.get("/models")).build()


class Slider(ui.slider):
    """A slider whose steps are the browser's own: one that waits for our echo loses some while a key is held."""

    LOOPBACK = False


class Side:
    """One model's half of the page: what is chosen there, and what it has found in the text last."""

    def __init__(self, view: View, models: Sequence[str], model: str) -> None:
        t = view.t
        self.asked_model = model
        self.text = ""
        self.found: list[Found] = []  # in that text, which the box may be ahead of
        self.model_version = ""
        self.milliseconds = 0
        with ui.element("section").classes("panel") as self.panel:
            with ui.row().classes("controls"):
                names = {name: t("general", model=name) if name == GENERAL else name for name in models}
                self.model = ui.select(names, value=model, label=t("model")).props("outlined dense")
                self.version = ui.select({"": t("in_production")}, value="", label=t("version"))
                self.version.props("outlined dense")
            self._text = ui.html("", sanitize=False).classes("text").props("lang=zh-CN")
            self._summary = ui.label().classes("summary").props("role=status")

    @property
    def request(self) -> dict[str, str]:
        """What the API is asked: a version, or the model's production."""
        return {"version": self.version.value} if self.version.value else {"model": self.model.value}

    def draw(self, t: Texts, shown: Sequence[Found], others: Sequence[Found] | None) -> None:
        """Show the text with some of what was found in it; what is not among the `others` stands out."""
        theirs = shown if others is None else others
        marked = [number for number, one in enumerate(shown) if _key(one) not in {_key(other) for other in theirs}]
        entities = [Shown(one["start"], one["end"], one["label"], self._tip(t, one)) for one in shown]
        self._text.set_content(highlighted(self.text, entities, marked=marked))
        said = t("found", count=len(shown), version=self.model_version, milliseconds=self.milliseconds)
        self._summary.set_text(f"{said} · {t('differ', count=len(marked))}" if marked else said)

    def _tip(self, t: Texts, found: Found) -> str:
        return f"{found['label']} · {t('confidence', percent=round(100 * found['score']))} · {self.model_version}"


class TryPage:
    """The state of one open page."""

    def __init__(self, view: View, models: Sequence[dict[str, Any]]) -> None:
        self._view = view
        self._models = [row["model"] for row in models]
        self._one_at_a_time = asyncio.Lock()
        self._asked = 0  # requests so far: an answer that a later one has overtaken is dropped

    async def build(self) -> None:
        """Add the page's elements, and fill in the text once the browser is there."""
        t = self._view.t
        with ui.element("section").classes("panel"):
            self._text = text_area(t, "text", MAX_CHARACTERS)
            with ui.row().classes("controls"):
                self._comparing = ui.switch(t("compare"))
                ui.label(t("least_confidence")).props("id=least-confidence")
                self._least = Slider(min=0, max=100, value=0).classes("slider")
                self._least.props("label aria-labelledby=least-confidence")
        other = next((model for model in self._models if model != GENERAL), GENERAL)
        with ui.element("div").classes("sides"):
            self._sides = [Side(self._view, self._models, model) for model in (GENERAL, other)]
        self._sides[1].panel.bind_visibility_from(self._comparing, "value")
        for side in self._sides:
            with side.panel:
                report = ui.button(t("report_error"), on_click=lambda side=side: self._report(side))
                report.props("outline no-caps icon=flag")
            side.model.on_value_change(lambda _, side=side: self._choose(side))
            side.version.on_value_change(self._label)
            await self._list_versions(side)
        self._text.on_value_change(self._label)
        self._comparing.on_value_change(self._label)
        self._least.on_value_change(self._draw)
        await ui.context.client.connected()
        self._text.value = await self._view.kept("text") or EXAMPLE
        open_for_typing(self._text)
        self._view.every(SECONDS_BETWEEN_LOOKS, self._follow)

    async def _choose(self, side: Side) -> None:
        await self._list_versions(side)
        await self._label()

    async def _list_versions(self, side: Side) -> None:
        """Offer the versions of the side's model; its production is chosen."""
        model, production = side.model.value, {"": self._view.t("in_production")}
        side.version.set_options(production, value="")  # another model's version would be asked for meanwhile
        async with self._view.told():
            versions = await self._view.api.get(f"/models/{model}/versions")
            if side.model.value == model:
                there = {row["version"]: row["version"] for row in versions if not row["files_removed"]}
                side.version.set_options(production | there)

    async def _label(self) -> None:
        self._asked += 1
        asked = self._asked
        async with self._one_at_a_time:  # the backend works a request out even where nobody waits for it any more
            await self._ask(asked)

    async def _follow(self) -> None:
        """Label anew where no replica serves the version any more that has answered for a model's production."""
        replicas = (await self._view.api.get("/system"))["replicas"].values()
        for side in self._sides[: 1 + self._comparing.value]:
            served = {replica[side.asked_model] for replica in replicas if side.asked_model in replica}
            if side.model_version and not side.version.value and served and side.model_version not in served:
                await self._label()
                return

    async def _ask(self, asked: int) -> None:
        text = self._text.value or ""
        for side in self._sides[: 1 + self._comparing.value]:
            if asked != self._asked:
                return
            async with self._view.told():  # a side that fails shows what it had, beside the other
                model, started = side.model.value, time.monotonic()
                answer = await self._view.api.post("/predict", texts=[text], **side.request)
                if asked != self._asked:
                    return
                side.asked_model, side.text = model, text
                side.milliseconds = round((time.monotonic() - started) * 1000)
                side.model_version = answer["model_version"]
                side.found = answer["documents"][0]["entities"]
        self._draw()

    def _draw(self) -> None:
        least = self._least.value / 100
        first, second = ([found for found in side.found if found["score"] >= least] for side in self._sides)
        comparing = self._comparing.value and self._sides[0].text == self._sides[1].text
        self._sides[0].draw(self._view.t, first, second if comparing else None)
        if comparing:
            self._sides[1].draw(self._view.t, second, first)

    async def _report(self, side: Side) -> None:
        """Go on to the page Correct with the text and what was found in it, once there is an answer."""
        wanted = (self._text.value or "", side.model.value)
        if (side.text, side.asked_model) != wanted:
            await self._label()
        if (side.text, side.asked_model) != wanted:
            return
        wrong = {
            "text": side.text,
            "entities": side.found,
            "model": side.asked_model,
            "model_version": side.model_version,
        }
        with self._view.client:
            ui.run_javascript(
                f"nerloop.keep('correct', {json.dumps(wrong)}); nerloop.keep('typed', null); location.href = '/correct'"
            )


def _key(found: Found) -> tuple[int, int, str]:
    return found["start"], found["end"], found["label"]
