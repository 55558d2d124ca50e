"""Reconcile on a real Valkey and registry; Label Studio is a stand-in, so that single projects of it can fail."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow import MlflowClient
from rq.job import Job, JobStatus
from rq.results import Result

from nerloop.errors import LabelStudioError, ProjectNotFound
from nerloop.jobs import fine_tune_id
from nerloop.label_config import EXAMPLE
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.promotions import STARTER_VERSION
from nerloop.tasks import Annotation, Project, Task
from nerloop.troubles import Troubles
from sync.reconcile import reconcile

AT = "2025-03-01T10:00:00.000001Z"


class Server:
    """Projects with one annotated task each; those in `broken` answer with an error."""

    def __init__(self, backend_url: str, models: dict[int, str]) -> None:
        self._backend_url = backend_url
        self.models = models
        self.broken: set[int] = set()

    def projects(self) -> list[Project]:
        return [Project(number, "", EXAMPLE, STARTER_VERSION, 1) for number in self.models]

    def project(self, number: int) -> Project:
        self._check(number)
        return next(project for project in self.projects() if project.id == number)

    def ml_backends(self, number: int) -> list[dict[str, Any]]:
        self._check(number)
        params = {"model": self.models[number], "train_threshold": 5}
        return [{"url": self._backend_url, "extra_params": params}]

    def tasks(self, project: Project, **_: Any) -> Iterator[Task]:
        self._check(project.id)
        yield Task(project.id, "张三", (Annotation(project.id, (), False, False, AT),), updated_at=AT)

    def count_tasks(self, number: int, *, annotated: bool, **_: Any) -> int:
        return int(annotated)

    def _check(self, number: int) -> None:
        if number not in self.models:
            raise ProjectNotFound(f"project {number}")
        if number in self.broken:
            raise LabelStudioError(f"project {number}: answered 500")


@pytest.fixture
def server(loop: Loop) -> Server:
    made = Server(loop.settings.backend_url, {1: "medical", 2: "finance"})
    loop.__dict__["label_studio"] = made
    return made


def bound(loop: Loop) -> dict[int, str]:
    return {binding.project_id: binding.model for binding in loop.state.bindings()}


def test_bindings_and_new_labels_are_rebuilt_and_have_waited_since_they_were_made(loop: Loop, server: Server) -> None:
    reconcile(loop, Troubles())

    assert bound(loop) == {1: "medical", 2: "finance"}
    assert loop.state.new_label_ids("medical") == {"1"}
    assert loop.state.waiting("medical").oldest > 86400


def test_a_deleted_project_takes_its_binding_its_labels_and_its_copy_along(
    loop: Loop, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    reconcile(loop, Troubles())
    del server.models[2]

    with caplog.at_level(logging.INFO):
        reconcile(loop, Troubles())
        reconcile(loop, Troubles())

    assert bound(loop) == {1: "medical"}
    assert (loop.state.new_labels("medical"), loop.state.new_labels("finance")) == (1, 0)
    assert [path.name for path in loop.settings.home.glob("labels/*/*.sqlite")] == ["1.sqlite"]
    assert caplog.text.count("Project 2 is gone or no longer connected") == 1


def test_a_project_that_cannot_be_read_keeps_its_binding_and_labels_and_stops_no_other(
    loop: Loop, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = Troubles()
    reconcile(loop, troubles)
    server.models[3] = "news"
    server.broken = {1}

    with caplog.at_level(logging.INFO):
        reconcile(loop, troubles)
        reconcile(loop, troubles)

    assert bound(loop) == {1: "medical", 2: "finance", 3: "news"}
    assert [loop.state.new_labels(model) for model in ("medical", "finance", "news")] == [1, 1, 1]
    assert caplog.text.count("Project 1 is put off") == 1

    server.broken = set()
    with caplog.at_level(logging.INFO):
        reconcile(loop, troubles)
    assert "Project 1 works again" in caplog.text


@pytest.mark.parametrize("state", [JobStatus.STOPPED, JobStatus.FAILED])
def test_a_fine_tune_that_was_ended_from_outside_is_closed_as_failed_once(
    loop: Loop, server: Server, caplog: pytest.LogCaptureFixture, state: JobStatus
) -> None:
    run = loop.registry.runs.begin("medical", "key", {})
    client = MlflowClient(loop.settings.registry_address)
    loop.jobs.enqueue_fine_tune("medical", forced=True)
    job = Job.fetch(fine_tune_id("medical"), connection=loop.redis)
    reconcile(loop, Troubles())
    assert client.get_run(run.id).info.status == "RUNNING"

    job.set_status(state)
    reconcile(loop, Troubles())
    reconcile(loop, Troubles())

    assert client.get_run(run.id).info.status == "FAILED"
    assert [record.message for record in caplog.records if "without a word" in record.message] == [
        "The fine-tune of medical ended without a word: it was stopped"
    ]


def test_a_fine_tune_whose_worker_was_killed_goes_on(loop: Loop, server: Server) -> None:
    run = loop.registry.runs.begin("medical", "key", {})
    loop.jobs.enqueue_fine_tune("medical", forced=True)
    job = Job.fetch(fine_tune_id("medical"), connection=loop.redis)
    job.set_status(JobStatus.FAILED)
    Result.create_failure(job, ttl=60, exc_string="rq.exceptions.AbandonedJobError: moved")

    reconcile(loop, Troubles())

    assert MlflowClient(loop.settings.registry_address).get_run(run.id).info.status == "RUNNING"


def test_reconcile_never_queues_a_fine_tune_itself(loop: Loop, server: Server) -> None:
    loop.state.save_binding(Binding(1, "medical", 1))

    reconcile(loop, Troubles())

    assert loop.redis.llen("rq:queue:train") == 0
