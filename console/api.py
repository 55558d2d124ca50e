"""The REST API as the console calls it, on behalf of whoever has logged in. Owns the connection and what it raises."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx

from console.texts import Language
from nerloop.errors import NerLoopError

GENERAL = "lac"  # what the API calls the starter, which is there without any project
TIMEOUT_SECONDS = 60  # the report of a large project reads all its annotations


class ApiProblem(NerLoopError):
    """What the API answered instead of a result; where it did not answer, `status` is 0 and `detail` what happened."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Api:
    """Calls with one session, answered in one language; all raise `ApiProblem`. One HTTP client serves everybody."""

    def __init__(self, client: httpx.AsyncClient, language: Language, session: str = "") -> None:
        """`client` has the API's address as its base; without a session only logging in is answered."""
        self._client = client
        self._headers = {"Accept-Language": language} | ({"Authorization": f"Bearer {session}"} if session else {})

    async def get(self, path: str) -> Any:
        """Return what the API answers to a GET of `/api/v1` + path."""
        return await self._call("GET", path)

    async def post(self, path: str, **fields: Any) -> Any:
        """Send fields as JSON and return the answer."""
        return await self._call("POST", path, fields)

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[httpx.Response]:
        """Open an answer that is read as it comes."""
        with _problems():
            async with self._client.stream("GET", path, headers=self._headers) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _problem(answer)
                yield answer

    async def _call(self, method: str, path: str, fields: dict[str, Any] | None = None) -> Any:
        with _problems():
            answer = await self._client.request(method, path, json=fields, headers=self._headers)
        if answer.is_error:
            raise _problem(answer)
        return answer.json()


def connect(backend_url: str) -> httpx.AsyncClient:
    """Return the HTTP client for the API of an ML backend."""
    return httpx.AsyncClient(base_url=f"{backend_url.rstrip('/')}/api/v1", timeout=TIMEOUT_SECONDS)


@contextmanager
def _problems() -> Iterator[None]:
    """Turn what the HTTP client raises into `ApiProblem`."""
    try:
        yield
    except httpx.TransportError as error:
        raise ApiProblem(0, type(error).__name__) from error


def _problem(answer: httpx.Response) -> ApiProblem:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.reason_phrase
    return ApiProblem(answer.status_code, str(detail))
