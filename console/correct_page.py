"""The page Correct 纠错: a text and its entities, put right by hand and sent to Label Studio as feedback."""

import json
from collections.abc import Sequence
from typing import Any

from nicegui import ui

from console.annotated_text import AnnotatedText
from console.api import ApiProblem
from console.highlight import Shown, highlighted, hue
from console.layout import View, bound_projects, open_for_typing, text_area

MAX_CHARACTERS = 100_000  # as the API takes
SECONDS_BETWEEN_LOOKS = 5.0  # at whether a model has learned from what was sent
KEYS = {"[": ("start", -1), "]": ("start", 1), "{": ("end", -1), "}": ("end", 1)}

Entity = dict[str, Any]
"""A span [start, end) in code points and its label."""


async def fill(view: View) -> None:
    """Build the page with the text that comes from the page Try, or without one."""
    projects = await bound_projects(view)
    if projects:
        await CorrectPage(view, projects).build()


class CorrectPage:
    """The state of one open page."""

    def __init__(self, view: View, projects: Sequence[dict[str, Any]]) -> None:
        self._view = view
        self._projects: dict[int, dict[str, Any]] = {row["project_id"]: row for row in projects}
        self._text = ""
        self._entities: list[Entity] = []  # also those whose label the project lacks: another may have it
        self._model_version = ""
        self._chosen: Entity | None = None
        self._selected: tuple[int, int] | None = None
        self._sent: list[dict[str, Any]] = []

    async def build(self) -> None:
        """Add the page's elements, and fill in what this tab has kept once the browser is there."""
        t = self._view.t
        names = {number: f"{row['title']} · {row['model']}" for number, row in self._projects.items()}
        with ui.element("section").classes("panel"):
            with ui.row().classes("controls"):
                self._project = ui.select(names, value=next(iter(names)), label=t("project")).props("outlined dense")
                self._project.on_value_change(self._draw_labels)
                ui.button(t("pre_label"), on_click=self._pre_label).props("outline no-caps icon=auto_fix_high")
            self._area = text_area(t, "typed", MAX_CHARACTERS)
            self._area.on_value_change(lambda event: self._type(event.value or ""))
        with ui.element("section").classes("panel"):
            ui.label(t("correct_hint")).classes("hint")
            self._shown = AnnotatedText(self._select, self._choose, self._press).classes("text correcting")
            self._shown.props(f'id=correct-text role=group lang=zh-CN aria-label="{t("text")}"')
            self._state = ui.label().classes("summary").props("role=status")
            self._labels = ui.row().classes("controls").props(f'role=group aria-label="{t("labels")}"')
            with ui.row().classes("controls"):
                for name, (border, by) in zip(
                    ("start_left", "start_right", "end_left", "end_right"), KEYS.values(), strict=True
                ):
                    ui.button(t(name), on_click=lambda border=border, by=by: self._move(border, by)).props(
                        "flat dense no-caps"
                    )
                ui.button(t("delete"), on_click=self._delete).props("flat dense no-caps icon=delete")
            ui.button(t("send"), on_click=self._send).props("unelevated no-caps icon=send")
        self._list = ui.element("section").classes("panel").props("aria-live=polite")
        self._list.set_visibility(False)
        await ui.context.client.connected()
        kept, typed = await self._view.kept("correct"), await self._view.kept("typed")
        if kept:
            self._text, self._model_version = kept["text"], kept["model_version"]
            self._entities = [_span(found) for found in kept["entities"]]
            self._area.value = self._text if typed is None else typed  # what was typed while nothing answered
            self._project.value = self._project_to_go_on_with(kept)
        open_for_typing(self._area)
        self._draw_labels()
        self._sent = await self._view.kept("sent") or []
        self._list_sent()
        self._view.every(SECONDS_BETWEEN_LOOKS, self._look, immediate=bool(self._sent))

    @property
    def _bound(self) -> dict[str, Any]:
        return self._projects[self._project.value]

    def _project_to_go_on_with(self, kept: dict[str, Any]) -> int:
        """Return the project that was open here, else the first whose model found the entities, else the first."""
        of_model = [number for number, row in self._projects.items() if row["model"] == kept.get("model")]
        return next(
            number for number in (kept.get("project_id"), *of_model, *self._projects) if number in self._projects
        )

    def _type(self, text: str) -> None:
        """Take another text; where nothing of the one before is left, no model has labelled it."""
        if not any(common(self._text, text)):
            self._model_version = ""
        self._text, self._entities = text, moved(self._text, text, self._entities)
        self._let_go()

    async def _pre_label(self) -> None:
        text, project_id, t = self._text, self._project.value, self._view.t
        async with self._view.told():
            answer = await self._view.api.post(f"/projects/{project_id}/predict", texts=[text])
            if (text, project_id) != (self._text, self._project.value):
                self._view.say(t("changed_meanwhile"))
                return
            self._model_version = answer["model_version"]
            self._entities = [_span(found) for found in answer["documents"][0]["entities"]]
            self._let_go()
            self._view.say(t("pre_label_replaces", version=self._model_version))

    def _select(self, start: int, end: int) -> None:
        """Take the characters that somebody has selected."""
        self._selected, self._chosen = (start, min(end, len(self._text))), None
        self._draw()

    def _choose(self, number: int | None) -> None:
        """Take the entity that somebody has chosen."""
        entities = self._ordered()
        self._selected = None
        self._chosen = entities[number] if number is not None and number < len(entities) else None  # it may be gone
        self._draw()

    def _press(self, key: str) -> None:
        if key in KEYS:
            self._move(*KEYS[key])
        elif key == "Escape":
            self._let_go()
        elif key in {"Delete", "Backspace"}:
            self._delete()
        elif int(key) <= len(self._bound["labels"]):
            self._label(self._bound["labels"][int(key) - 1])

    def _label(self, label: str) -> None:
        """Give the chosen entity another label, or make an entity of the selected text."""
        if self._chosen is not None:
            self._change({**self._chosen, "label": label})
        elif self._selected is not None:
            entity = {"start": self._selected[0], "end": self._selected[1], "label": label}
            if entity in self._entities:
                self._view.say(self._view.t("same_entity"))
                return
            self._entities.append(entity)
            self._selected, self._chosen = None, entity
            self._draw()
        else:
            self._view.say(self._view.t("select_first"))

    def _move(self, border: str, by: int) -> None:
        if self._chosen is None:
            self._view.say(self._view.t("select_first"))
            return
        moved = {**self._chosen, border: self._chosen[border] + by}
        if 0 <= moved["start"] < moved["end"] <= len(self._text):
            self._change(moved)

    def _change(self, changed: Entity) -> None:
        self._entities = replaced(self._entities, self._chosen, changed)
        self._chosen = changed
        self._draw()

    def _delete(self) -> None:
        if self._chosen is None:
            self._view.say(self._view.t("select_first"))
            return
        self._entities.remove(self._chosen)
        self._let_go()

    def _let_go(self) -> None:
        self._chosen = self._selected = None
        self._draw()

    def _ordered(self) -> list[Entity]:
        """Return the entities that the project can have, as they are drawn and sent."""
        known = [one for one in self._entities if one["label"] in self._bound["labels"]]
        return sorted(known, key=lambda one: (one["start"], -one["end"], one["label"]))

    def _draw(self) -> None:
        t = self._view.t
        entities = self._ordered()
        shown = [Shown(one["start"], one["end"], one["label"], one["label"]) for one in entities]
        active = next((number for number, one in enumerate(entities) if one is self._chosen), None)
        self._shown.show(highlighted(self._text, shown, active=active))
        if self._chosen is not None:
            span = self._text[self._chosen["start"] : self._chosen["end"]]
            self._state.set_text(t("chosen", text=span, label=self._chosen["label"]))
        elif self._selected is not None:
            self._state.set_text(t("selected", text=self._text[slice(*self._selected)]))
        else:
            left_out = len(self._entities) - len(entities)
            self._state.set_text(t("left_out", count=left_out) if left_out else t("nothing_chosen"))
        wrong = {
            "text": self._text,
            "entities": self._entities,
            "model_version": self._model_version,
            "project_id": self._project.value,
        }
        ui.run_javascript(f"nerloop.keep('correct', {json.dumps(wrong)})")

    def _draw_labels(self) -> None:
        """Offer the labels of the project."""
        self._labels.clear()
        with self._labels:
            for number, label in enumerate(self._bound["labels"], start=1):
                button = ui.button(f"{number} {label}", on_click=lambda label=label: self._label(label))
                button.props("flat dense no-caps").classes("label").style(f"--hue:{hue(label)}")
        self._let_go()

    async def _send(self) -> None:
        text, project_id = self._text, self._project.value
        async with self._view.told():
            answer = await self._view.api.post(
                f"/projects/{project_id}/feedback",
                text=text,
                entities=self._ordered(),
                model_version=self._model_version,
            )
            t = self._view.t
            said = "sent_repeated" if answer["repeated"] else f"sent_{answer['serves']}"
            self._view.say(t(said), type="positive" if answer["serves"] == "training" else "info", multi_line=True)
            sent = {**answer, "project_id": project_id, "text": text[:30], "live_in": None}
            self._sent = [one for one in self._sent if one["annotation_id"] != answer["annotation_id"]] + [sent]
            self._list_sent()

    async def _look(self) -> None:
        """See whether what is in production has learned from what was sent."""
        for sent in [one for one in self._sent if one["serves"] == "training"]:
            try:
                state = await self._view.api.get(f"/projects/{sent['project_id']}/feedback/{sent['annotation_id']}")
            except ApiProblem as problem:
                if problem.status != 404:
                    raise
                self._sent.remove(sent)  # somebody has deleted it, or its project is bound no more
                self._list_sent()
                continue
            if state["live_in"] != sent["live_in"]:
                sent["live_in"] = state["live_in"]
                self._list_sent()

    def _list_sent(self) -> None:
        t = self._view.t
        ui.run_javascript(f"nerloop.keep('sent', {json.dumps(self._sent)})")
        self._list.set_visibility(bool(self._sent))
        self._list.clear()
        with self._list:
            ui.label(t("sent")).classes("heading").props("role=heading aria-level=2")
            for sent in reversed(self._sent):
                with ui.row().classes("controls sent"):
                    ui.label(sent["text"])
                    ui.link(t("open_task"), sent["url"], new_tab=True)
                    live = t("live_in", version=sent["live_in"]) if sent["live_in"] else t("waits")
                    state = live if sent["serves"] == "training" else t("sent_evaluation")
                    ui.label(state).classes("live" if sent["live_in"] else "")


def _span(found: dict[str, Any]) -> Entity:
    return {key: found[key] for key in ("start", "end", "label")}


def replaced(entities: Sequence[Entity], chosen: Entity | None, changed: Entity) -> list[Entity]:
    """Return the entities with the chosen one changed; another that is now the same goes."""
    return [changed if one is chosen else one for one in entities if one is chosen or one != changed]


def moved(before: str, after: str, entities: Sequence[Entity]) -> list[Entity]:
    """Return the entities of a text that was changed: those outside of the change, where they are now."""
    first, last = common(before, after)
    shift = len(after) - len(before)
    kept = []
    for one in entities:
        if one["end"] <= first:
            kept.append(one)
        elif one["start"] >= len(before) - last:
            kept.append({**one, "start": one["start"] + shift, "end": one["end"] + shift})
    return kept


def common(before: str, after: str) -> tuple[int, int]:
    """Return how many characters two texts have in common at the start, and at the end of what is left."""
    shorter = min(len(before), len(after))
    first = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    last = next((i for i in range(shorter - first) if before[-1 - i] != after[-1 - i]), shorter - first)
    return first, last
