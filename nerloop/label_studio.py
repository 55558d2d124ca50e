"""The door to Label Studio: its REST API as typed calls, its errors as ours. Owns no decision about the loop.

Requests go through the SDK's HTTP client, which handles both kinds of token; its typed methods are left aside, since
they lack some endpoints and parse every task into models, which costs more than the request.
"""

import itertools
import json
import logging
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import httpx
from label_studio_sdk import LabelStudio as Sdk
from label_studio_sdk.core.api_error import ApiError

from nerloop.documents import Prediction
from nerloop.errors import (
    BadInput,
    LabelStudioError,
    LabelStudioUnauthorized,
    LabelStudioUnreachable,
    ProjectNotFound,
)
from nerloop.tasks import (
    BARE_TASK_FIELDS,
    PROJECT_FIELDS,
    TASK_FIELDS,
    Json,
    Project,
    Task,
    TaskPrediction,
    read_prediction,
    read_project,
    read_task,
    task_text,
)

logger = logging.getLogger(__name__)

PAGE = 1000
TRIES = 5
TIMEOUT_SECONDS = 600
JSON_BODY = {"content-type": "application/json"}


class LabelStudio:
    """A Label Studio server seen with one user's token."""

    def __init__(self, url: str, api_key: str, timeout: float = TIMEOUT_SECONDS) -> None:
        """Keep address, token and seconds to wait without connecting; an empty token: `LabelStudioUnauthorized`."""
        self.url = url.rstrip("/")
        self._timeout = timeout
        if not api_key:
            raise LabelStudioUnauthorized(
                "LABEL_STUDIO_API_KEY is not set; copy a token from Label Studio, Account & Settings, Access Token"
            )
        self._api_key = api_key

    @cached_property
    def _http(self) -> Any:
        # Label Studio's own server sends an answer in two packets and, on a connection that was used before, waits
        # 40 ms for the first to be acknowledged (Nagle's algorithm). Where TLS is spoken, a proxy answers at once.
        kept = httpx.Limits(max_keepalive_connections=0 if self.url.startswith("http://") else None)
        client = httpx.Client(timeout=self._timeout, follow_redirects=True, limits=kept)
        with self._errors_of(f"GET {self.url}"):
            sdk = Sdk(base_url=self.url, api_key=self._api_key, timeout=self._timeout, httpx_client=client)
            return sdk._client_wrapper.httpx_client

    def version(self) -> str:
        """Return the server's release."""
        return str(self._call("GET", "api/version")["release"])

    def user(self) -> str:
        """Return the e-mail of the token's owner; raises `LabelStudioUnauthorized` on a bad token."""
        return str(self._call("GET", "api/current-user/whoami")["email"])

    def project(self, project_id: int) -> Project:
        """Return a project; raises `ProjectNotFound`."""
        return read_project(self._call("GET", f"api/projects/{project_id}/"))

    def projects(self) -> list[Project]:
        """Return all projects the token's owner sees."""
        return [read_project(row) for row in self._pages("api/projects/", {"include": ",".join(PROJECT_FIELDS)}, 100)]

    def create_project(self, title: str, label_config: str) -> Project:
        """Create a project; raises `BadInput` on a label config that Label Studio refuses."""
        return read_project(self._call("POST", "api/projects/", body={"title": title, "label_config": label_config}))

    def update_project(self, project_id: int, **values: Any) -> None:
        """Change fields of a project (`model_version`, `sampling`, …)."""
        self._call("PATCH", f"api/projects/{project_id}/", body=values)

    def import_tasks(self, project_id: int, rows: Sequence[Json]) -> None:
        """Import tasks, each `{"data": {...}}`, in one request."""
        self._call("POST", f"api/projects/{project_id}/import", body=list(rows), once=True)

    def create_task(self, project: Project, data: Json) -> int:
        """Create one task and return its id."""
        return int(self._call("POST", "api/tasks/", body={"project": project.id, "data": data}, once=True)["id"])

    def mark_task(self, task_id: int, field: str, value: str) -> None:
        """Set one field of a task's data; all others stay."""
        data = self._call("GET", f"api/tasks/{task_id}/")["data"]
        self._call("PATCH", f"api/tasks/{task_id}/", body={"data": {**data, field: value}})

    def tasks(
        self,
        project: Project,
        *,
        annotated: bool | None = None,
        lacking_version: str | None = None,
        min_predictions: int = 0,
        changed_since: datetime | None = None,
        ids: Sequence[int] = (),
        containing: str = "",
        bare: bool = False,
        page_size: int = PAGE,
    ) -> Iterator[Task]:
        """Yield tasks by id, a page at a time: all, only annotated (or not), only those without a version's prediction.

        `changed_since` asks for those whose `updated_at` is not before it, `ids` for these only (some hundreds: they
        stand in the address), `containing` for those whose text holds it, whatever the case of its letters. `bare`
        leaves out annotations and predictions, which is faster. Safe against tasks that
        leave the filter while the pages are read: each page starts behind the last id.
        """
        wanted = _conditions(annotated, lacking_version, min_predictions)
        if changed_since is not None:
            moment = changed_since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            wanted.append(_condition("updated_at", "greater_or_equal", "Datetime", moment))
        if ids:
            wanted.append(_condition("id", "in_list", "List", list(ids)))
        if containing:
            wanted.append(_containing(project, containing))
        last = 0
        while True:
            conditions = [*wanted, _condition("id", "greater", "Number", last)]
            rows = self._task_page(project.id, conditions, page_size, bare=bare)["tasks"]
            yield from (read_task(row, project.label_config) for row in rows)
            if len(rows) < page_size:
                return
            last = rows[-1]["id"]

    def count_tasks(
        self,
        project_id: int,
        *,
        annotated: bool | None = None,
        lacking_version: str | None = None,
        min_predictions: int = 0,
    ) -> int:
        """Return how many tasks match, without reading them."""
        conditions = _conditions(annotated, lacking_version, min_predictions)
        return int(self._task_page(project_id, conditions, 1, bare=True)["total"])

    def next_tasks(self, project: Project, limit: int, *, containing: str = "") -> list[Task]:
        """Return the unlabelled tasks that annotators will see next under the project's present scores.

        Only those whose text holds `containing`, whatever the case of its letters.
        """
        conditions = _conditions(False, None, 0)
        if containing:
            conditions.append(_containing(project, containing))
        page = self._task_page(project.id, conditions, limit, order="tasks:predictions_score")
        return [read_task(row, project.label_config) for row in page["tasks"]]

    def next_task(self, project: Project) -> Task | None:
        """Take the task that Label Studio serves the token's owner next, with its predictions; None at the end."""
        try:
            row = self._call("GET", f"api/projects/{project.id}/next/")
        except ProjectNotFound:
            return None  # Label Studio answers 404 when nothing is left to label
        return self.task(project, row["id"])

    def task(self, project: Project, task_id: int) -> Task:
        """Return one task with everything on it."""
        return read_task(self._call("GET", f"api/tasks/{task_id}/"), project.label_config)

    def annotation_ids(self, project_id: int, task_id: int) -> list[str] | None:
        """Return the ids of a task's annotations, or None where there is no such task.

        Raises `BadInput` where the task is another project's.
        """
        try:
            row = self._call("GET", f"api/tasks/{task_id}/")
        except ProjectNotFound:
            return None
        if row["project"] != project_id:
            raise BadInput(f"task {task_id} belongs to project {row['project']}, not to project {project_id}")
        return [str(annotation["id"]) for annotation in row.get("annotations") or ()]

    def delete_task(self, task_id: int) -> None:
        """Delete a task with its annotations and predictions; one that is gone already is fine."""
        try:
            self._call("DELETE", f"api/tasks/{task_id}/")
        except ProjectNotFound:
            logger.debug("Task %s was already gone", task_id)

    def prediction_version(self, prediction_id: int) -> str:
        """Return the version that made a stored prediction; raises `ProjectNotFound` where there is no such one."""
        return str(self._call("GET", f"api/predictions/{prediction_id}/").get("model_version") or "")

    def predictions_at_submit(self, project: Project, task_ids: Sequence[int]) -> dict[int, TaskPrediction]:
        """Return annotation id → the prediction of the version shown when it was submitted, of some hundred tasks.

        Label Studio stores it with the annotation, where it outlives the prediction itself; only exports hold it.
        """
        params = {"exportType": "JSON", "download_all_tasks": "true", "ids[]": list(task_ids)}
        rows = self._call("GET", f"api/projects/{project.id}/export", params=params)
        return {
            annotation["id"]: read_prediction(
                annotation["prediction"], task_text(row["data"], project.label_config.field) or "", project.label_config
            )
            for row in rows
            for annotation in row["annotations"]
            if annotation.get("prediction")
        }

    def create_annotation(
        self, task_id: int, result: Sequence[Json], *, lead_time: float, parent_prediction: int | None
    ) -> int:
        """Submit an annotation as the token's owner and return its id; `lead_time` in seconds."""
        body = {"result": list(result), "lead_time": lead_time, "parent_prediction": parent_prediction}
        return int(self._call("POST", f"api/tasks/{task_id}/annotations/", body=body, once=True)["id"])

    def import_predictions(self, project: Project, predictions: Sequence[tuple[Task, Prediction, float]]) -> int:
        """Store (task, prediction, score) rows in one request and return how many Label Studio says it stored.

        `score` is the order in which tasks are served, lowest first. Not repeatable: a second call stores them twice,
        so the request is sent once and the caller asks again what is missing before another try.
        """
        rows = [
            {
                "task": task.id,
                "model_version": prediction.model_version,
                "score": score,
                "result": project.label_config.regions(task.text or "", prediction.entities),
            }
            for task, prediction, score in predictions
        ]
        path = f"api/projects/{project.id}/import/predictions"
        return int(self._call("POST", path, body=rows, once=True)["created"])

    def change_prediction(self, prediction_id: int, **values: Any) -> None:
        """Change fields of a stored prediction (`result`, `score`); one that is gone is fine."""
        try:
            self._call("PATCH", f"api/predictions/{prediction_id}/", body=values)
        except ProjectNotFound:
            logger.debug("Prediction %s was already gone", prediction_id)

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete a prediction; one that is gone already is fine."""
        try:
            self._call("DELETE", f"api/predictions/{prediction_id}/")
        except ProjectNotFound:
            logger.debug("Prediction %s was already gone", prediction_id)

    def ml_backends(self, project_id: int) -> list[Json]:
        """Return the project's ML backend connections as Label Studio gives them."""
        return list(self._call("GET", "api/ml/", params={"project": project_id}))

    def save_ml_backend(self, values: Json, backend_id: int | None = None) -> Json:
        """Create or change an ML backend connection; Label Studio calls /health and /setup before it answers."""
        if backend_id is None:
            return dict(self._call("POST", "api/ml/", body=values, once=True))
        return dict(self._call("PATCH", f"api/ml/{backend_id}", body=values))

    def webhooks(self, project_id: int) -> list[Json]:
        """Return the project's webhooks as Label Studio gives them."""
        return list(self._call("GET", "api/webhooks/", params={"project": project_id}))

    def save_webhook(self, values: Json, webhook_id: int | None = None) -> None:
        """Create or change a webhook."""
        if webhook_id is None:
            self._call("POST", "api/webhooks/", body=values, once=True)
        else:
            self._call("PATCH", f"api/webhooks/{webhook_id}/", body=values)

    def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook."""
        self._call("DELETE", f"api/webhooks/{webhook_id}/")

    def _task_page(
        self,
        project_id: int,
        conditions: Sequence[Json],
        page_size: int,
        *,
        order: str = "tasks:id",
        bare: bool = False,
    ) -> Json:
        query = {"filters": {"conjunction": "and", "items": list(conditions)}, "ordering": [order]}
        params = {
            "project": project_id,
            "query": json.dumps(query),
            "fields": "task_only" if bare else "all",
            "include": ",".join(BARE_TASK_FIELDS if bare else TASK_FIELDS),
            "page_size": page_size,
        }
        return dict(self._call("GET", "api/tasks/", params=params))

    def _pages(self, path: str, params: Json, page_size: int) -> Iterator[Json]:
        page = 1
        while True:
            answer = self._call("GET", path, params={**params, "page": page, "page_size": page_size})
            yield from answer["results"]
            if not answer.get("next"):
                return
            page += 1

    def _call(self, method: str, path: str, *, params: Json | None = None, body: Any = None, once: bool = False) -> Any:
        """Send a request; a busy server (429, 5xx: SQLite's "database is locked") is asked again unless `once`."""
        what = f"{method} {self.url}/{path}"
        for attempt in itertools.count(1):
            with self._errors_of(what):
                # The SDK's `json=` copies a body value by value first, which takes eight times as long as writing it.
                content = None if body is None else _encoded(body)
                answer = self._http.request(
                    path,
                    method=method,
                    params=params,
                    content=content,
                    headers=None if body is None else JSON_BODY,
                    request_options={"max_retries": 0},
                )
            busy = answer.status_code == 429 or answer.status_code >= 500
            if not busy or once or attempt == TRIES:
                return _content(answer, what)
            time.sleep(random.uniform(0.5, 1.5) * 0.25 * 2**attempt)

    @contextmanager
    def _errors_of(self, what: str) -> Iterator[None]:
        """Turn what the HTTP client and the SDK raise into our errors."""
        try:
            yield
        except httpx.TransportError as error:
            raise LabelStudioUnreachable(
                f"{what}: Label Studio does not answer ({type(error).__name__}); "
                f"is it running at LABEL_STUDIO_URL={self.url}?"
            ) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise BadInput(f"{self.url} is no address: {error}") from error
        except ApiError as error:  # the SDK exchanging a personal access token
            raise LabelStudioUnauthorized(_UNAUTHORIZED) from error


_UNAUTHORIZED = (
    "Label Studio refuses the token in LABEL_STUDIO_API_KEY: copy a fresh one from Account & Settings. A legacy token "
    "(40 hex digits) works only where the organization allows legacy tokens; a personal access token works always"
)


def _encoded(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _content(answer: httpx.Response, what: str) -> Any:
    status = answer.status_code
    if status < 300:
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise LabelStudioError(f"{what}: the answer is not JSON; is LABEL_STUDIO_URL Label Studio's?") from None
    if status == 401:
        raise LabelStudioUnauthorized(_UNAUTHORIZED)
    if "reserved network address" in _detail(answer):
        raise BadInput(
            f"{what}: Label Studio refuses local and private addresses. Where all parts are on one machine, start it "
            "with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (both); elsewhere exempt your subnet as "
            "docker-compose.yml does"
        )
    if status in (403, 404):
        raise ProjectNotFound(f"{what}: {_detail(answer)}; it does not exist, or the token's owner may not see it")
    if status < 500:
        raise BadInput(f"{what}: Label Studio answered {status}: {_detail(answer)}")
    raise LabelStudioError(f"{what}: Label Studio answered {status}: {_detail(answer)}; see its log")


def _detail(answer: httpx.Response) -> str:
    try:
        content = answer.json()
    except ValueError:
        return answer.reason_phrase
    if isinstance(content, dict):
        content = content.get("validation_errors") or content.get("detail") or content
    return str(content)[:300]


def _conditions(annotated: bool | None, lacking_version: str | None, min_predictions: int) -> list[Json]:
    conditions = []
    if annotated is not None:
        conditions.append(_condition("total_annotations", "greater" if annotated else "equal", "Number", 0))
    if lacking_version is not None:
        conditions.append(_condition("predictions_model_versions", "not_contains", "List", [lacking_version]))
    if min_predictions:
        conditions.append(_condition("total_predictions", "greater", "Number", min_predictions - 1))
    return conditions


def _containing(project: Project, text: str) -> Json:
    return _condition(f"data.{project.label_config.field}", "contains", "String", text)


def _condition(column: str, operator: str, kind: str, value: object) -> Json:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
