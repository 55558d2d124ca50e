"""The order in which Label Studio serves tasks is the strategy's, and two annotators never get the same one."""

import re
from pathlib import Path

import httpx
import pytest

from nerloop import checkpoint
from nerloop.demo import DEMO_FOLDER
from nerloop.documents import labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.gate import Decision
from nerloop.label_studio import LabelStudio
from nerloop.loop import Loop
from nerloop.pre_annotation import order_of, pre_annotate, rescore_head
from nerloop.promotions import STARTER_VERSION
from nerloop.starter import fresh_starter
from nerloop.tagger import adapt
from nerloop.tagging import Decoder
from nerloop.tasks import Project, Task
from nerloop.versions import Candidate
from sync.push import push

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[:60]
PASSWORD = "two-annotators-1"


@pytest.fixture
def project(stack: Sandbox) -> Project:
    """A connected project of sixty tasks, which stays: while Label Studio deletes one, its counters stand still."""
    return stack.connected_project("ordered", GOLD, "--train-threshold", "1000")


def test_after_a_promotion_the_tasks_served_next_are_those_that_the_strategy_ranks_first(
    stack: Sandbox, project: Project, tmp_path: Path
) -> None:
    loop, model = stack.loop, f"project-{project.id}"
    tagger = adapt(fresh_starter(), Decoder.flat(labels_of(GOLD)))
    tagger.temperature = 3.0  # other scores than the starter's, and so another order
    checkpoint.save(tagger, checkpoint.Provenance("lac", ""), tmp_path / "made")

    (tmp_path / "dataset.jsonl").touch()
    candidate = Candidate(tmp_path / "made", tuple(labels_of(GOLD)), "", STARTER_VERSION, 0, {})
    version = loop.registry.register(model, candidate, tmp_path / "dataset.jsonl", {}, Decision(True, "better"))
    assert push(loop, version) == "promoted"
    wait_until(lambda: not stack.stale(project, f"{model}-v1"), 120, "predictions of the new version")

    ranked = ranked_together(loop, project, model)

    def coming() -> list[str]:
        return [task.text or "" for task in loop.label_studio.next_tasks(project, len(GOLD))]

    wait_until(lambda: [text for text in coming() if text in ranked] == ranked, 60, "the order of them all")
    next_ones = coming()[:10]
    served = [taken(loop.label_studio, project) for _ in range(10)]
    assert [task.text for task in served] == next_ones
    assert set(next_ones) & set(ranked)  # the others come up by chance


def test_no_task_is_served_to_two_annotators(stack: Sandbox, project: Project) -> None:
    first, second = stack.loop.label_studio, LabelStudio(stack.loop.label_studio.url, token_of_another(stack))

    served = []
    for _ in range(5):
        one, other = first.next_task(project), second.next_task(project)
        assert one is not None and other is not None
        served += [one.id, other.id]
        for label_studio, task in ((first, one), (second, other)):
            label_studio.create_annotation(task.id, [], lead_time=1, parent_prediction=None)

    assert len(set(served)) == 10


def ranked_together(loop: Loop, project: Project, model: str) -> list[str]:
    """Return the texts that do not come up by chance in the strategy's order of them all."""
    order = order_of(loop.settings)
    texts = [document.text for document in GOLD if not order.by_chance(document.text)]
    predictor = loop.serving.update(model)
    predictions, scores = zip(*pre_annotate(predictor, project.label_config, texts, loop.settings), strict=True)
    dealt = rescore_head(predictor, project.label_config, texts, predictions, scores, loop.settings)
    return [text for _, text in sorted(zip(dealt, texts, strict=True))]


def taken(label_studio: LabelStudio, project: Project) -> Task:
    """Take the next task and submit it."""
    task = label_studio.next_task(project)
    assert task is not None
    label_studio.create_annotation(task.id, [], lead_time=1, parent_prediction=None)
    return task


def token_of_another(stack: Sandbox) -> str:
    """Sign a second annotator up as Label Studio's own page does, and return their token."""
    label_studio = stack.loop.label_studio
    invited = label_studio._call("GET", "api/invite")["invite_url"]
    with httpx.Client(base_url=label_studio.url, follow_redirects=True) as browser:
        page = browser.get(invited)
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert found is not None
        form = {"csrfmiddlewaretoken": found[1], "email": "second@example.com", "password": PASSWORD}
        browser.post(page.url, data=form, headers={"Referer": str(page.url)}).raise_for_status()
        return str(browser.get("api/current-user/token").raise_for_status().json()["token"])
