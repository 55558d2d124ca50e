"""The console's routes: pages, logging in and out, the export. Owns the session cookie and the headers of answers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI, Form, Request
from fastapi.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from nicegui import ui
from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console import connect_page, correct_page, data_page, loop_page, try_page
from console.api import Api, ApiProblem, connect
from console.layout import SESSION_COOKIE, add_page, look_of, said
from console.login_page import login_html
from console.texts import Texts
from nerloop.settings import Settings

HEADERS = {
    # NiceGUI writes scripts into its pages and compiles templates; nothing may come from elsewhere or go there.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; "
    "form-action 'self'; base-uri 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
RECONNECT_SECONDS = 120  # a phone that sleeps for less goes on where it was
FILLS = {
    "try": try_page.fill,
    "correct": correct_page.fill,
    "loop": loop_page.fill,
    "data": data_page.fill,
    "connect": connect_page.fill,
}


def make_app(settings: Settings) -> FastAPI:
    """Return the console as a web app."""
    client = connect(settings.backend_url)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SecurityHeaders)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))

    @app.get("/health")
    def health() -> JSONResponse:
        return JSONResponse({"status": "UP"})

    @app.get("/")
    def root() -> Response:
        return RedirectResponse("/try", status_code=303)

    _add_login(app, client)
    _add_export(app, client)
    for name, fill in FILLS.items():
        add_page(name, fill, lambda request: _api(client, request))
    ui.run_with(
        app,
        title="nerloop",
        favicon="🔁",
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=RECONNECT_SECONDS,
    )
    return app


def _add_login(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.get("/login")
    def login(request: Request) -> Response:
        return HTMLResponse(login_html(look_of(request)))

    @app.post("/login")
    async def log_in(request: Request, name: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
        if not _is_own(request):
            return HTMLResponse("This form was sent by another site.", status_code=403)
        try:
            answer = await Api(client, look_of(request).language).post("/login", name=name.strip(), password=password)
        except ApiProblem as problem:
            return HTMLResponse(login_html(look_of(request), problem, name), status_code=problem.status or 503)
        response = RedirectResponse("/try", status_code=303)
        secure = request.url.scheme == "https"
        response.set_cookie(
            SESSION_COOKIE, answer["session"], answer["seconds"], httponly=True, samesite="lax", secure=secure
        )
        return response

    @app.post("/logout")
    def log_out(request: Request) -> Response:
        if not _is_own(request):
            return HTMLResponse("This form was sent by another site.", status_code=403)
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(SESSION_COOKIE)
        return response


def _add_export(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.get("/export/{project_id}")
    async def export(request: Request, project_id: int) -> Response:
        api = _api(client, request)
        opening = AsyncExitStack()
        try:
            answer = await opening.enter_async_context(api.stream(f"/projects/{project_id}/export"))
        except ApiProblem as problem:
            if problem.status == 401:
                return RedirectResponse("/login", status_code=303)
            return PlainTextResponse(said(Texts(look_of(request).language), problem), status_code=problem.status or 503)

        async def lines() -> AsyncIterator[bytes]:
            async with opening:
                async for part in answer.aiter_bytes():
                    yield part

        kept = {name: answer.headers[name] for name in ("content-type", "content-disposition")}
        return StreamingResponse(lines(), headers=kept)


def _api(client: httpx.AsyncClient, request: Request) -> Api:
    return Api(client, look_of(request).language, request.cookies.get(SESSION_COOKIE, ""))


def _is_own(request: Request) -> bool:
    """Tell whether a form comes from our own page: browsers name the origin of every POST."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


class SecurityHeaders:
    """Middleware that adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back with the headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
