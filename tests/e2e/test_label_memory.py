"""What annotators label in some tasks is proposed in the others within seconds, on a real stack."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from nerloop.demo import create_project
from nerloop.documents import Document, Entity
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.gazetteer import GAZETTEER
from nerloop.label_memory import LABEL_MEMORY
from nerloop.promotions import STARTER_VERSION
from nerloop.split import side_of
from nerloop.tasks import Project, Task

DRUG = "卡𠮷洛韦"
SECONDS = 20


def texts(side: str, template: str, number: int) -> list[str]:
    """Return texts that the held-out split puts on a side."""
    made = (template.format(n) for n in count())
    found = (text for text in made if (side_of(text, 0.1, 0.1) == "train") == (side == "train"))
    return [next(found) for _ in range(number)]


LABELLED = texts("train", f"第{{}}位患者😀服用{DRUG}后好转。", 2)
WAITING = texts("train", f"第{{}}天开始改用{DRUG}，{DRUG}每日两次。", 3)
HELD_OUT = texts("held out", f"第{{}}天开始停用{DRUG}。", 1)
OTHERS = texts("train", "第{}天没有用药。", 3)


@pytest.fixture
def gazetteer(stack: Sandbox) -> Iterator[Path]:
    """The gazetteer of the model that the project feeds."""
    path = stack.loop.settings.home / "gazetteers" / "remembers.tsv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("# 药品\n没有用药\tdrug\n", encoding="utf-8")
    yield path
    path.unlink()


@pytest.fixture
def project(stack: Sandbox) -> Project:
    """A connected project, which stays.

    The first deletion of a project can leave Label Studio 1.23.2 without the counters that other tests wait for: it
    takes all of Django's signal receivers away meanwhile, and Django remembers for good that a model has none.
    """
    documents = [Document("", text) for text in [*LABELLED, *WAITING, *HELD_OUT, *OTHERS]]
    made = create_project(stack.loop.label_studio, "label memory", documents, ["DRUG"])
    stack.run("connect", "--project", str(made.id), "--model", "remembers", "--train-threshold", "1000")
    wait_until(lambda: not stack.stale(made, STARTER_VERSION), 60, "the starter's predictions")
    return stack.loop.label_studio.project(made.id)


def tasks(stack: Sandbox, project: Project) -> dict[str, Task]:
    return {task.text or "": task for task in stack.loop.label_studio.tasks(project)}


def marked(task: Task, source: str = LABEL_MEMORY) -> list[tuple[int, int, str, float | None]]:
    """Return the regions of a task's only prediction that are marked as coming from a source."""
    (prediction,) = task.predictions
    return [
        (region["value"]["start"], region["value"]["end"], *region["value"]["labels"], region.get("score"))
        for region in prediction.result
        if region.get("meta") == {"text": [source]}
    ]


def expected(text: str, score: float) -> list[tuple[int, int, str, float | None]]:
    starts = [place for place in range(len(text)) if text.startswith(DRUG, place)]
    return [(start, start + len(DRUG), "DRUG", score) for start in starts]


def submit(stack: Sandbox, project: Project, text: str) -> int:
    start = text.index(DRUG)
    regions = project.label_config.regions(text, [Entity(start, start + len(DRUG), "DRUG")])
    task = tasks(stack, project)[text]
    return stack.loop.label_studio.create_annotation(task.id, regions, lead_time=1, parent_prediction=None)


def test_what_was_labelled_twice_is_proposed_elsewhere_until_somebody_says_otherwise(
    stack: Sandbox, project: Project
) -> None:
    before = tasks(stack, project)
    submit(stack, project, LABELLED[0])
    last = submit(stack, project, LABELLED[1])

    def all_show_it() -> bool:
        now = tasks(stack, project)
        return all(marked(now[text]) == expected(text, 0.75) for text in WAITING)  # (2 + 1) / (2 + 2)

    wait_until(all_show_it, SECONDS, "the surface to be proposed in the tasks that wait")
    after = tasks(stack, project)
    for text in WAITING:
        assert [(p.id, p.model_version, p.score) for p in after[text].predictions] == [
            (p.id, p.model_version, p.score) for p in before[text].predictions
        ]
    for text in [*HELD_OUT, *OTHERS]:
        assert after[text].predictions == before[text].predictions

    def answer() -> list[dict[str, object]]:
        rows = [{"id": 1, "project": project.id, "data": {"text": WAITING[0]}}]
        body = {"tasks": rows, "label_config": project.label_config_xml}
        settings = stack.loop.settings
        auth = (settings.basic_auth_user, settings.basic_auth_pass)
        answered = httpx.post(f"{settings.backend_url}/predict", json=body, auth=auth, timeout=60)
        (result,) = answered.json()["results"]
        return [region for region in result["result"] if region.get("meta") == {"text": [LABEL_MEMORY]}]

    wait_until(lambda: len(answer()) == 2, SECONDS, "the backend to propose it too")

    stack.loop.label_studio._call("PATCH", f"api/annotations/{last}/", body={"result": []})

    def none_shows_it() -> bool:
        now = tasks(stack, project)
        return all(marked(now[text]) == [] for text in WAITING) and not answer()

    wait_until(none_shows_it, 2 * SECONDS, "what one annotation says no longer to be taken back")


def test_the_terms_of_a_gazetteer_are_proposed_before_any_label(
    stack: Sandbox, gazetteer: Path, project: Project
) -> None:
    shown = tasks(stack, project)

    for text in OTHERS:
        start = text.index("没有用药")
        assert marked(shown[text], GAZETTEER) == [(start, start + 4, "DRUG", None)]
    assert not any(marked(shown[text], GAZETTEER) for text in [*LABELLED, *WAITING, *HELD_OUT])

    gazetteer.write_text("没有用药 DRUG\n", encoding="utf-8")
    refused = stack.run("connect", "--project", str(project.id), check=False)
    examined = "".join(stack.run("doctor", check=False).stdout.split())  # which wraps its lines
    assert f"{gazetteer.name},line1:" in examined
    assert refused.returncode and f"{gazetteer}, line 1: '没有用药 DRUG' is not a term" in refused.stderr
