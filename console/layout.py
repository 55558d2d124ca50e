"""What all pages share: who is looking, in which language and theme; header, navigation, errors, confirmation."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cache
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from nicegui import Client, ui

from console.api import TIMEOUT_SECONDS, Api, ApiProblem
from console.texts import LANGUAGES, Language, Texts, language_of
from nerloop import __version__

SESSION_COOKIE = "nerloop_session"
LANGUAGE_COOKIE = "nerloop_language"
THEME_COOKIE = "nerloop_theme"
ZONE_COOKIE = "nerloop_zone"  # which the browser sets by itself

Theme = Literal["light", "dark", "cyberpunk"]
THEMES: tuple[Theme, ...] = get_args(Theme)
# As in console.css, for what takes no style sheet.
ACCENTS: dict[Theme, str] = {"light": "#1257c0", "dark": "#8ab6ff", "cyberpunk": "#00f0ff"}
INKS: dict[Theme, str] = {"light": "#1b2430", "dark": "#e8edf3", "cyberpunk": "#e9f7ff"}
BUILD_SECONDS = TIMEOUT_SECONDS + 10  # for a page: the API says itself that it does not answer
DEBOUNCE_MILLISECONDS = 120
BROWSER_SECONDS = 20.0  # that a busy browser may take to answer
PAGES = ("try", "correct", "loop", "data", "connect")
# Enter, but not the one that ends the composition of a Chinese word; the number is how Safari marks that.
ON_ENTER = "(event) => { if (!event.isComposing && event.keyCode !== 229) emit(); }"


@dataclass(frozen=True)
class Look:
    """How a browser wants to see a page; `zone` is None where it has not said where it is."""

    language: Language
    theme: Theme
    zone: tzinfo | None


@dataclass(frozen=True)
class View:
    """One page as one person sees it: the API on that person's behalf, name and role, texts, and how it looks.

    `client` is the open page itself, where what a button does goes on also when that button is gone.
    """

    client: Client
    api: Api
    name: str
    role: str
    t: Texts
    look: Look

    @property
    def is_operator(self) -> bool:
        """Whether this person may train and decide."""
        return self.role == "operator"

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """Run a block that calls the API; what it refuses is shown, and the block ends there.

        Whoever's session is over is led to the log-in page.
        """
        try:
            yield
        except ApiProblem as problem:
            self._tell(problem)

    def _tell(self, problem: ApiProblem) -> None:
        if problem.status == 401:
            self.client.open("/login")
        else:
            self.say(said(self.t, problem), type="negative", multi_line=True, close_button=True)

    def every(self, seconds: float, look: Callable[[], Awaitable[None]], *, immediate: bool = False) -> None:
        """Do something again and again while somebody sees the page; a tab in the background asks for nothing.

        What the API refuses is shown, but not a second time in a row.
        """
        told = ""

        async def look_and_tell() -> None:
            nonlocal told
            try:
                await look()
                told = ""
            except ApiProblem as problem:
                if told != str(problem):
                    told = str(problem)
                    self._tell(problem)

        timer = ui.timer(seconds, look_and_tell, immediate=immediate)
        ui.on("seen", timer.activate)
        ui.on("unseen", timer.deactivate)

    def local_time(self, moment: str | None) -> str:
        """Return a moment of the API's by the clock of whoever is looking, else by that of the console's machine."""
        return f"{datetime.fromisoformat(moment).astimezone(self.look.zone):%Y-%m-%d %H:%M}" if moment else "–"

    async def kept(self, name: str) -> Any:
        """Return what this tab has kept under a name, or None; also where the browser does not answer in time."""
        try:
            return await ui.run_javascript(f"return nerloop.kept({name!r})", timeout=BROWSER_SECONDS)
        except TimeoutError:
            return None

    def say(self, text: str, **look: Any) -> None:
        """Show a message for a moment."""
        with self.client:
            ui.notify(text, **look)

    async def confirmed(
        self, title: str, action: str, *, note: str = "", asks_why: bool = True, needs_reason: bool = False
    ) -> str | None:
        """Ask whether something shall be done, and why; return the reason, or None where it shall not.

        `action` is what the button says that does it.
        """
        with self.dialog(title) as dialog:
            if note:
                ui.label(note)
            why = ui.input(self.t("why")).props("outlined autofocus maxlength=1000").classes("full")

            def decide() -> None:
                if needs_reason and not why.value.strip():
                    why.props("error").props(f'error-message="{self.t("why_missing")}"')
                else:
                    dialog.submit(why.value.strip())

            why.on("keydown.enter", decide, js_handler=ON_ENTER)
            why.set_visibility(asks_why)
            with ui.row().classes("actions"):
                ui.button(self.t("cancel"), on_click=lambda: dialog.submit(None)).props("flat no-caps")
                ui.button(action, on_click=decide).props("no-caps unelevated")
        answer: str | None = await dialog  # typed loosely by NiceGUI
        return answer

    @contextmanager
    def dialog(self, title: str) -> Iterator[ui.dialog]:
        """Make a dialog whose elements are added in the block, and which is opened by waiting for it."""
        with self.client, ui.dialog() as dialog, ui.card().classes("dialog"):
            dialog.props["aria-label"] = title
            dialog.on("hide", dialog.delete)
            ui.label(title).classes("dialog-title").props("role=heading aria-level=2")
            yield dialog


def look_of(request: Request) -> Look:
    """Return the language, theme and time zone of a request's cookies, or the defaults."""
    theme: Theme = next((theme for theme in THEMES if theme == request.cookies.get(THEME_COOKIE)), "light")
    language = language_of(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))
    zone = request.cookies.get(ZONE_COOKIE)
    return Look(language, theme, ZoneInfo(zone) if zone in _zones() else None)


def add_page(name: str, fill: Callable[[View], Awaitable[None]], api_for: Callable[[Request], Api]) -> None:
    """Add the page that `fill` fills at `/name`, for whoever has logged in; others are led to the log-in page."""

    @ui.page(f"/{name}", title=f"nerloop · {Texts('zh')(name)} {Texts('en')(name)}", response_timeout=BUILD_SECONDS)
    async def page(request: Request) -> Response | None:
        api, look = api_for(request), look_of(request)
        try:
            me = await api.get("/me")
        except ApiProblem as problem:
            if problem.status == 401:
                return RedirectResponse("/login", status_code=303)
            _frame(None, look, name)
            failed(Texts(look.language), problem)
            return None
        view = View(ui.context.client, api, me["name"], me["role"], Texts(look.language), look)
        _frame(view, look, name)
        with ui.element("div").props("id=content tabindex=-1").classes("content"):
            ui.label(view.t(name)).classes("title").props("role=heading aria-level=1")
            try:
                await fill(view)
            except ApiProblem as problem:
                failed(view.t, problem)
        return None


async def bound_projects(view: View) -> list[dict[str, Any]]:
    """Return the rows of the bound projects; where there are none the page says so."""
    projects: list[dict[str, Any]] = await view.api.get("/projects")
    if not projects:
        ui.label(view.t("no_project")).classes("panel")
    return projects


def failed(t: Texts, problem: ApiProblem) -> None:
    """Say on the page that it could not be filled, and offer to try again."""
    with ui.element("div").classes("panel problem").props("role=alert"):
        ui.label(said(t, problem))
        ui.button(t("reload"), on_click=ui.navigate.reload).props("no-caps outline")


def said(t: Texts, problem: ApiProblem) -> str:
    """Return what people are told of a problem."""
    if problem.status == 0:
        return t("backend_silent", error=problem)
    return str(problem) if problem.status < 500 else t("not_answered", detail=problem)


def section(title: str) -> ui.element:
    """Open a part of a page with its heading; used as a context manager."""
    panel = ui.element("section").classes("panel")
    with panel:
        ui.label(title).classes("heading").props("role=heading aria-level=2")
    return panel


def subheading(text: str) -> None:
    """Add a heading inside a section."""
    ui.label(text).classes("subheading").props("role=heading aria-level=3")


def table(headings: tuple[str, ...]) -> ui.element:
    """Open a table, wider than a phone's screen if it must be; used as a context manager around `row`s."""
    with ui.element("div").classes("scroll").props("tabindex=0 role=group"), ui.element("table"):
        with ui.element("thead"), ui.element("tr"):
            for heading in headings:
                with ui.element("th").props("scope=col"):
                    ui.label(heading)
        return ui.element("tbody")


def cell(text: object = "", classes: str = "") -> ui.element:
    """Add a cell to the row around it; used as a context manager where it holds more than a text."""
    made = ui.element("td").classes(classes)
    if text != "":
        with made:
            ui.label(str(text))
    return made


def text_area(t: Texts, kept_as: str, max_characters: int) -> ui.textarea:
    """Add the box for a text, which this tab keeps under a name; what is typed is told when somebody pauses.

    It takes no text before `open_for_typing`: what somebody typed while the page fills it would be lost.
    """
    area = ui.textarea(t("text"), placeholder=t("text_hint")).classes("full")
    area.props(f"outlined autogrow readonly debounce={DEBOUNCE_MILLISECONDS} maxlength={max_characters}")
    return area.on("update:model-value", js_handler=f"(text) => nerloop.keep({kept_as!r}, text)")


def open_for_typing(area: ui.textarea) -> None:
    """Let somebody type into the box, now that what the tab has kept is in it."""
    area.props(remove="readonly")


def chart(view: View, options: dict[str, Any], title: str) -> ui.echart:
    """Draw a chart that a screen reader knows by its title."""
    ink = {"color": INKS[view.look.theme]}
    axis = {"axisLabel": ink, "nameTextStyle": ink}
    theme = {"legend": {"textStyle": ink}, "categoryAxis": axis, "valueAxis": axis, "backgroundColor": "transparent"}
    drawn = ui.echart({"animation": False, **options}, theme=theme).classes("chart")
    drawn.props(f'role=img aria-label="{title}"')
    return drawn


def _frame(view: View | None, look: Look, current: str) -> None:
    t = Texts(look.language)
    ui.add_head_html(
        f'<link rel="stylesheet" href="/static/console.css?{__version__}">'
        f'<script src="/static/console.js?{__version__}"></script>'
    )
    ui.dark_mode(look.theme != "light")
    ui.colors(primary=ACCENTS[look.theme])
    ui.query("body").classes(f"theme-{look.theme}")
    client = ui.context.client
    client.page = copy(client.page)  # else the language, which is this visitor's, would be everybody's
    client.page.language = "zh-CN" if look.language == "zh" else "en-US"
    ui.link(t("skip"), "#content").classes("skip")
    with ui.element("header").classes("top"):
        ui.label("nerloop").classes("brand")
        with ui.element("nav").props(f'aria-label="{t("pages")}"'):
            for page in PAGES if view else ():
                link = ui.link(t(page), f"/{page}")
                if page == current:
                    link.props("aria-current=page")
        ui.element("div").classes("space")
        _choices(t, look)
        if view:
            ui.label(f"{view.name} · {t(view.role)}").classes("who")
            log_out = f'<button onclick="nerloop.forget()">{t("log_out")}</button>'
            ui.html(f'<form method="post" action="/logout">{log_out}</form>', sanitize=False)


@cache
def _zones() -> set[str]:
    return available_timezones()


def _choices(t: Texts, look: Look) -> None:
    other = next(language for language in LANGUAGES if language != look.language)

    def choose(cookie: str, value: str) -> str:
        return f"() => nerloop.choose({cookie!r}, {value!r})"

    language = ui.element("button").props(f"lang={other}").on("click", js_handler=choose(LANGUAGE_COOKIE, other))
    with language:
        ui.label(t("other_language"))
    options = "".join(
        f'<option value="{theme}"{" selected" if theme == look.theme else ""}>{t(theme)}</option>' for theme in THEMES
    )
    choice = f"nerloop.choose('{THEME_COOKIE}', this.value)"
    ui.html(f'<select aria-label="{t("theme")}" onchange="{choice}">{options}</select>', sanitize=False)
