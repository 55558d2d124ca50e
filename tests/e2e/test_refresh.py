"""A refresh beside people who annotate: whatever they submit is taken, and nothing is deleted that they still name."""

import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from nerloop import checkpoint
from nerloop.demo import DEMO_FOLDER, create_project
from nerloop.documents import Prediction, Uncertainty, labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox
from nerloop.errors import BadInput
from nerloop.gate import Decision
from nerloop.label_studio import LabelStudio
from nerloop.loop import Loop
from nerloop.project_state import Binding
from nerloop.promotions import STARTER_VERSION
from nerloop.settings import Settings
from nerloop.starter import starter
from nerloop.tasks import Project
from nerloop.versions import Candidate
from sync import predictions, slices
from sync.predictions import refresh_predictions

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:20]
OLDER = Prediction((), 0.5, "older-v1", Uncertainty(0.5, -0.1, 0.2, 0.3))
MANY = 3000


class Killed(BaseException):
    """What ends a process in the middle."""


@pytest.fixture
def alone(stack: Sandbox) -> Iterator[Project]:
    """A project of twenty tasks that shows predictions of an older version, and that no worker knows of."""
    label_studio = stack.loop.label_studio
    made = create_project(label_studio, "refresh", GOLD, labels_of(GOLD))
    label_studio.import_predictions(made, [(task, OLDER, 0.5) for task in label_studio.tasks(made)])
    label_studio.update_project(made.id, model_version=OLDER.model_version)
    yield label_studio.project(made.id)
    label_studio._call("DELETE", f"api/projects/{made.id}/")


@pytest.fixture
def connected(stack: Sandbox) -> Iterator[Project]:
    """A connected project of twenty tasks whose threshold is out of reach."""
    made = stack.connected_project("refresh", GOLD, "--train-threshold", "100000")
    yield made
    stack.loop.label_studio._call("DELETE", f"api/projects/{made.id}/")


def refresh(stack: Sandbox, project: Project, grace_seconds: int) -> None:
    """Refresh a project in this process, with eyes of its own."""
    loop = Loop(Settings.load({**stack.environ, "NERLOOP_GRACE_SECONDS": str(grace_seconds)}))
    assert refresh_predictions(loop, Binding(project.id, "refresh", 50)) == STARTER_VERSION


def submit_next(label_studio: LabelStudio, project: Project) -> None:
    """Open the next task and submit it, naming the prediction that is shown."""
    task = label_studio.next_task(project)
    assert task is not None
    shown = task.predictions[0].id if task.predictions else None
    label_studio.create_annotation(task.id, [], lead_time=1, parent_prediction=shown)


@pytest.mark.parametrize("page_size", [1, 5, 20])
def test_each_task_is_read_once_whatever_lies_between_their_ids_and_happens_meanwhile(
    stack: Sandbox, alone: Project, page_size: int
) -> None:
    label_studio, field = stack.loop.label_studio, alone.label_config.field
    between = create_project(label_studio, "between", GOLD, labels_of(GOLD))
    later = [{"data": {field: f"后来的第{number}条。"}} for number in range(7)]
    label_studio.import_tasks(alone.id, later)
    there = [task.id for task in label_studio.tasks(alone)]
    read: list[int] = []

    for task in label_studio.tasks(alone, annotated=False, page_size=page_size):
        if not read:
            label_studio.import_tasks(alone.id, [{"data": {field: "读的时候导入的。"}}])
        read.append(task.id)
        label_studio.create_annotation(task.id, [], lead_time=1, parent_prediction=None)  # it leaves the filter

    assert len(there) == len(GOLD) + len(later)
    assert read == [task.id for task in label_studio.tasks(alone)]
    assert read[:-1] == there
    label_studio._call("DELETE", f"api/projects/{between.id}/")


def test_a_page_that_was_open_when_the_version_changed_submits_well(stack: Sandbox, alone: Project) -> None:
    label_studio = stack.loop.label_studio
    open_page = label_studio.next_task(alone)
    assert open_page is not None

    refresh(stack, alone, grace_seconds=3600)

    (named,) = open_page.predictions
    label_studio.create_annotation(open_page.id, [], lead_time=1, parent_prediction=named.id)
    assert named.id in {prediction.id for prediction in label_studio.task(alone, open_page.id).predictions}
    assert label_studio.count_tasks(alone.id, annotated=False, min_predictions=2) == len(GOLD) - 1


def test_old_predictions_stay_for_the_grace_period_since_label_studio_refuses_what_names_a_deleted_one(
    stack: Sandbox, alone: Project
) -> None:
    label_studio = stack.loop.label_studio
    task = next(label_studio.tasks(alone))

    refresh(stack, alone, grace_seconds=0)

    assert {p.model_version for t in label_studio.tasks(alone) for p in t.predictions} == {STARTER_VERSION}
    with pytest.raises(BadInput, match="Invalid pk"):
        label_studio.create_annotation(task.id, [], lead_time=1, parent_prediction=task.predictions[0].id)


def test_a_task_of_a_page_says_all_that_it_says_alone(stack: Sandbox, alone: Project) -> None:
    label_studio = stack.loop.label_studio
    task = next(label_studio.tasks(alone))
    regions = alone.label_config.regions(GOLD[0].text, GOLD[0].entities)
    label_studio.create_annotation(task.id, regions, lead_time=2.5, parent_prediction=task.predictions[0].id)

    of_page = next(label_studio.tasks(alone))

    (annotation,) = of_page.annotations
    assert (annotation.lead_time, annotation.parent_prediction) == (2.5, task.predictions[0].id)
    assert of_page == label_studio.task(alone, task.id)


def test_a_draft_keeps_the_predictions_of_its_task_whoever_made_it(stack: Sandbox, alone: Project) -> None:
    label_studio = stack.loop.label_studio
    drafted, drafted_by_another, untouched = list(label_studio.tasks(alone))[:3]
    draft = {"result": [], "lead_time": 1}
    label_studio._call("POST", f"api/tasks/{drafted.id}/drafts", body=draft)
    with colleague(stack) as browser:
        token = {"X-CSRFToken": browser.cookies["csrftoken"]}
        browser.post(f"/api/tasks/{drafted_by_another.id}/drafts", json=draft, headers=token).raise_for_status()

    refresh(stack, alone, grace_seconds=0)

    assert {p.model_version for p in label_studio.task(alone, untouched.id).predictions} == {STARTER_VERSION}
    for task in (drafted, drafted_by_another):
        (named,) = task.predictions
        assert named.id in {prediction.id for prediction in label_studio.task(alone, task.id).predictions}
        label_studio.create_annotation(task.id, [], lead_time=1, parent_prediction=named.id)


@contextmanager
def colleague(stack: Sandbox) -> Iterator[httpx.Client]:
    """Sign another annotator up, by the organization's invitation, and give the browser that is logged in."""
    invitation = {"token": stack.loop.label_studio._call("GET", "api/invite")["token"]}
    address = stack.loop.settings.label_studio_url
    with httpx.Client(base_url=address, headers={"Referer": address}, follow_redirects=True) as browser:
        browser.get("/user/signup/", params=invitation)
        form = {"email": "colleague@example.com", "password": secrets.token_urlsafe(12)}
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        browser.post("/user/signup/", params=invitation, data=form).raise_for_status()
        yield browser


def test_a_refresh_that_is_killed_between_two_posts_goes_on_and_doubles_nothing(
    stack: Sandbox, alone: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio = stack.loop.label_studio
    label_studio.import_tasks(alone.id, [{"data": {"text": f"第{n}位患者王小明在北京就诊。"}} for n in range(180)])
    monkeypatch.setattr(slices, "TASKS_A_SLICE", 50)
    store = LabelStudio.import_predictions
    posts: list[int] = []

    def die_after_the_second(*arguments: object) -> int:
        posts.append(store(*arguments))  # type: ignore[arg-type]
        if len(posts) == 2:
            raise Killed
        return posts[-1]

    with monkeypatch.context() as dying:
        dying.setattr(LabelStudio, "import_predictions", die_after_the_second)
        with pytest.raises(Killed):
            refresh(stack, alone, grace_seconds=3600)
    missing = label_studio.count_tasks(alone.id, lacking_version=STARTER_VERSION)
    assert 0 < missing < 200

    refresh(stack, alone, grace_seconds=0)

    predictions = [task.predictions for task in label_studio.tasks(alone)]
    assert [[p.model_version for p in of_task] for of_task in predictions] == [[STARTER_VERSION]] * 200


def test_a_promotion_in_the_middle_of_a_refresh_ends_it_and_another_begins(
    stack: Sandbox, alone: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loop = Loop(Settings.load({**stack.environ, "NERLOOP_GRACE_SECONDS": "3600"}))
    loop.label_studio.import_tasks(alone.id, [{"data": {"text": f"第{n}位患者王小明在北京就诊。"}} for n in range(180)])
    monkeypatch.setattr(slices, "TASKS_A_SLICE", 50)
    shown_then: list[str] = []

    def promote_once(done: int, total: int) -> None:
        if not shown_then:
            shown_then.append(loop.label_studio.project(alone.id).model_version)
            checkpoint.save(starter(), checkpoint.Provenance("lac", ""), tmp_path / "made")
            (tmp_path / "dataset.jsonl").touch()
            candidate = Candidate(tmp_path / "made", starter().decoder.labels, "", STARTER_VERSION, 0, {})
            made = loop.registry.register("turned", candidate, tmp_path / "dataset.jsonl", {}, Decision(True, "better"))
            loop.registry.promote(made)

    assert refresh_predictions(loop, Binding(alone.id, "turned", 50), promote_once) == "turned-v1"

    made = Counter(found.model_version for task in loop.label_studio.tasks(alone) for found in task.predictions)
    assert shown_then == [STARTER_VERSION]
    assert made["turned-v1"] == 200
    assert made[STARTER_VERSION] <= 100  # the first slice, and the post that was on its way
    assert loop.label_studio.project(alone.id).model_version == "turned-v1"


def test_where_other_jobs_wait_a_refresh_stops_after_a_post_and_goes_on_when_they_had_their_turn(
    stack: Sandbox, alone: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(Settings.load({**stack.environ, "NERLOOP_GRACE_SECONDS": "3600"}))
    loop.label_studio.import_tasks(alone.id, [{"data": {"text": f"第{n}位患者王小明在北京就诊。"}} for n in range(180)])
    monkeypatch.setattr(slices, "TASKS_A_SLICE", 20)
    monkeypatch.setattr(predictions, "SLICES_A_POST", 1)
    monkeypatch.setattr(predictions, "TURN_SECONDS", 0)
    binding = Binding(alone.id, "turns", 50)

    with monkeypatch.context() as others:
        others.setattr(loop.jobs, "others_wait", lambda _project_id, _model: True)
        assert refresh_predictions(loop, binding) is None
        done = [200 - loop.label_studio.count_tasks(alone.id, lacking_version=STARTER_VERSION)]
        assert refresh_predictions(loop, binding) is None
        done.append(200 - loop.label_studio.count_tasks(alone.id, lacking_version=STARTER_VERSION))

    assert refresh_predictions(loop, binding) == STARTER_VERSION
    assert 0 < done[0] < done[1] < 200
    made = Counter(found.model_version for task in loop.label_studio.tasks(alone) for found in task.predictions)
    assert made[STARTER_VERSION] == 200


def test_no_submit_fails_while_thousands_of_predictions_are_stored(stack: Sandbox, connected: Project) -> None:
    label_studio = stack.loop.label_studio
    texts = [f"第{number}位患者王小明在北京协和医院就诊。" for number in range(MANY)]
    label_studio.import_tasks(connected.id, [{"data": {"text": text}} for text in texts])
    stack.loop.jobs.enqueue_refresh(connected.id)
    submitted = 0

    while stack.stale(connected, STARTER_VERSION):
        submit_next(label_studio, connected)
        submitted += 1

    assert submitted
    assert label_studio.count_tasks(connected.id, annotated=True) == submitted
    assert not label_studio.count_tasks(connected.id, min_predictions=2)
