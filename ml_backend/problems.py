"""What the REST API answers where something is wrong: problem details (RFC 9457). Owns their form and status codes."""

import logging
from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ml_backend.language import language_of, said
from nerloop.errors import BadInput, FilesRemoved, NerLoopError, ProjectNotFound

logger = logging.getLogger(__name__)

PREFIX = "/api/"
MEDIA_TYPE = "application/problem+json"
LONGEST_FIELD = 200  # characters of a field's name that an answer repeats: whoever sends it has made it up


class Unauthorized(NerLoopError):
    """The request carries no password or token that is known."""


class Forbidden(NerLoopError):
    """Who asks is known, but may not do this."""


class TooManyRequests(NerLoopError):
    """Who asks has been wrong too often lately."""


class NotFound(NerLoopError):
    """There is no such model, version or project."""


STATUS: tuple[tuple[type[NerLoopError], int], ...] = (
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (ProjectNotFound, 404),
    (TooManyRequests, 429),
    (BadInput, 400),
    (FilesRemoved, 410),
)


def is_api(request: Request) -> bool:
    """Tell whether a request is one to the REST API, and not Label Studio's."""
    return request.url.path.startswith(PREFIX)


def problem(request: Request, status: int, detail: str) -> JSONResponse:
    """Return a problem-details answer in the request's language; `detail` says what to do about it."""
    language = language_of(request.headers.get("accept-language", ""))
    headers = {"Content-Language": language} | ({"WWW-Authenticate": "Bearer"} if status == 401 else {})
    title, detail = HTTPStatus(status).phrase, said(detail, language)
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def of_error(request: Request, error: NerLoopError) -> JSONResponse:
    """Answer with one of our errors; what is down (Label Studio, Redis, the registry) is a 503."""
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 503)
    if status == 503:
        logger.error("%s %s: %s", request.method, request.url.path, error)
    return problem(request, status, str(error))


def of_validation(request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer with the first field that is wrong; what was sent is not repeated."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])[:LONGEST_FIELD] or "body"
    return problem(request, 422, f"field {field!r}: {first['msg']}")


def of_http(request: Request, error: HTTPException) -> JSONResponse:
    """Answer with what FastAPI itself raises: no such path, no such method, no JSON."""
    answer = problem(request, error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


class BodyLimit:
    """Middleware that refuses larger bodies of the REST API before anything reads them whole."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes in; also where no length was announced."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        left = self._limit

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"the request is larger than {self._limit} bytes; send fewer texts at once")
            return message

        await self._app(scope, counted, send)
