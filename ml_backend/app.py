"""The web app: Label Studio's ML backend protocol over HTTP. Owns routes, auth and status codes; dispatches the rest.

/health and /setup answer from memory in milliseconds: Label Studio asks both before every prediction and page view.
"""

import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from ml_backend import api, problems
from ml_backend.access import Viewer
from ml_backend.events import take_event
from ml_backend.metrics import LoopCollector, Timing, registry
from ml_backend.model import RanerBackend, services
from ml_backend.problems import BodyLimit, Unauthorized
from ml_backend.watcher import Watcher, tidy_memory
from nerloop.errors import BadInput, NerLoopError, QueueUnreachable
from nerloop.label_config import parse_label_config
from nerloop.logs import set_up_logs
from nerloop.promotions import STARTER_VERSION
from sync.connect import SECRET_HEADER

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 250_000_000  # Label Studio's own limit for what it sends in one request
MAX_API_BODY_BYTES = 10_000_000


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    set_up_logs()
    loop = services().loop
    loop.registry, loop.serving  # noqa: B018 -- their imports take seconds, in which a request would wait
    tidy_memory()
    watcher = Watcher(services())
    watcher.start()
    yield
    await run_in_threadpool(watcher.stop)


# FastAPI's own page of the API would load its scripts from the internet.
app = FastAPIOffline(
    title="nerloop",
    lifespan=_lifespan,
    docs_url=f"{api.router.prefix}/docs",
    redoc_url=None,
    openapi_url=f"{api.router.prefix}/openapi.json",
    static_url=f"{api.router.prefix}/docs-static",
)
app.add_middleware(BodyLimit, limit=MAX_API_BODY_BYTES)
app.add_middleware(Timing)
app.include_router(api.router)
_basic = HTTPBasic(auto_error=False)


async def _authorize(request: Request, credentials: Annotated[HTTPBasicCredentials | None, Depends(_basic)]) -> None:
    """Let a request in with the basic-auth password, or a webhook with its secret header; all where none is set."""
    settings = services().settings
    if not settings.basic_auth_user:
        return
    header = request.headers.get(SECRET_HEADER, "")
    if request.url.path == "/webhook" and settings.webhook_secret and _equal(header, settings.webhook_secret):
        return
    user, password = (credentials.username, credentials.password) if credentials else ("", "")
    if not (_equal(user, settings.basic_auth_user) & _equal(password, settings.basic_auth_pass)):
        raise Unauthorized("set BASIC_AUTH_USER and BASIC_AUTH_PASS as the ML backend has them; `nerloop connect` does")


def _equal(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())


@app.get("/", include_in_schema=False)
@app.get("/health", include_in_schema=False)
async def health() -> dict[str, str]:
    """Say that the process is alive; touches nothing."""
    return {"status": "UP", "model_class": RanerBackend.__name__}


@app.get("/health/ready", include_in_schema=False)
async def ready(response: Response) -> dict[str, Any]:
    """Say which model versions are loaded, and which one in production is refused and why; 503 until one is loaded."""
    serving = services().loop.serving
    versions = serving.versions()
    response.status_code = 200 if versions else 503
    return {"ready": bool(versions), "serving": versions, "refused": serving.refused()}


@app.get("/metrics", include_in_schema=False)
def metrics(_: Viewer) -> Response:
    """Tell Prometheus what is counted here; with the token of a viewer, since labels and models have names."""
    loop = LoopCollector(services().loop)
    counted = [generate_latest(one) for one in (registry, loop)]
    return Response(b"".join(counted), media_type=CONTENT_TYPE_LATEST)


@app.post("/setup", include_in_schema=False, dependencies=[Depends(_authorize)])
async def setup(request: Request) -> dict[str, str]:
    """Note the project's binding and answer with the version that serves it."""
    body = await _body(request)
    project_id = _project_id(body)
    binding = services().remember_binding(project_id, body.get("extra_params"))
    return {"model_version": services().loop.serving.version(binding.model)}


@app.post("/predict", include_in_schema=False, dependencies=[Depends(_authorize)])
async def predict(request: Request) -> dict[str, Any]:
    """Predict: exactly one result a task, in order, since Label Studio drops the whole batch otherwise."""
    body = await _body(request)
    tasks = body.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise BadInput("field 'tasks' is missing or not a list of task objects")
    label_config = body.get("label_config")
    if not isinstance(label_config, str):
        raise BadInput("field 'label_config' is missing or not a string")
    parse_label_config(label_config)  # label-studio-ml's own reader, next, answers a bad config with a traceback
    backend = RanerBackend(label_config=label_config)
    results = await run_in_threadpool(backend.predict, tasks, project=body.get("project"))
    version = results[0]["model_version"] if results else STARTER_VERSION
    return {"results": results, "model_version": version}


@app.post("/webhook", status_code=201, include_in_schema=False, dependencies=[Depends(_authorize)])
async def webhook(request: Request) -> dict[str, Any]:
    """Take an event. Redis being down is no error here: reconcile finds what this event said."""
    body = await _body(request)
    action = body.get("action")
    if not isinstance(action, str):
        raise BadInput("field 'action' is missing or not a string")
    try:
        return await take_event(services(), action, body)
    except QueueUnreachable as error:
        if action == "START_TRAINING":
            raise  # a person asked for it, and nothing finds it later
        logger.warning("Event %s was not counted: %s; reconcile will find it", action, error)
        return {"deferred": action}


@app.get("/versions", include_in_schema=False, dependencies=[Depends(_authorize)])
async def versions() -> dict[str, list[str]]:
    """List the versions this replica serves; Label Studio names no project here."""
    return {"versions": sorted(set(services().loop.serving.versions().values()))}


@app.exception_handler(NerLoopError)
async def _on_error(request: Request, error: NerLoopError) -> JSONResponse:
    if problems.is_api(request):
        return problems.of_error(request, error)
    if isinstance(error, Unauthorized):
        return JSONResponse({"error": str(error)}, 401, {"WWW-Authenticate": 'Basic realm="nerloop"'})
    if isinstance(error, BadInput):
        return JSONResponse({"error": str(error)}, 400)
    logger.error("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse({"error": str(error)}, 503)


@app.exception_handler(HTTPException)
async def _on_http_error(request: Request, error: HTTPException) -> Response:
    if problems.is_api(request):
        return problems.of_http(request, error)
    return await http_exception_handler(request, error)


@app.exception_handler(Exception)
async def _on_bug(request: Request, error: Exception) -> Response:
    detail = f"{type(error).__name__}: this is a bug of ours; the log of the ML backend says where"
    if problems.is_api(request):
        return problems.problem(request, 500, detail)
    return JSONResponse({"error": detail}, 500)


@app.exception_handler(RequestValidationError)
async def _on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    return problems.of_validation(request, error)  # only the REST API declares what it takes


async def _body(request: Request) -> dict[str, Any]:
    """Read a JSON object; raises `BadInput` on anything else. Bodies may hold tokens and are never logged."""
    content = bytearray()
    async for chunk in request.stream():  # counted as it comes: a chunked request announces no length
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise BadInput(f"the request is larger than {MAX_BODY_BYTES} bytes; send fewer tasks at once")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the request is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadInput("the request must be a JSON object")
    return body


def _project_id(body: dict[str, Any]) -> int:
    identifier = str(body.get("project", "")).partition(".")[0]
    if not identifier.isdecimal():
        raise BadInput("field 'project' is missing; Label Studio sends `<id>.<created>`")
    return int(identifier)
