"""Entities inside one another, all the way: overlapping regions are learned, and come back as overlapping regions."""

import json

from nerloop.demo import annotate, create_project
from nerloop.documents import Document, Entity, labels_of
from nerloop.embedded.sandbox import Sandbox, wait_until

CITIES = ("北京", "上海", "天津", "重庆", "南京", "广州", "杭州", "成都", "武汉", "西安")
DISTRICTS = ("朝阳", "海淀", "浦东", "江宁", "天河", "西湖", "武侯", "雁塔")
SENTENCES = ("我住在{}。", "昨天去了{}开会", "{}的天气很好，适合出门。", "公司搬到了{}，离家很近。")


def addresses(count: int) -> list[Document]:
    """Return sentences in which 北京 and 北京市 and 北京市朝阳区 are all LOC."""
    documents = []
    for number in range(count):
        city, district = CITIES[number % len(CITIES)], DISTRICTS[number % len(DISTRICTS)]
        sentence = SENTENCES[number % len(SENTENCES)]
        start = sentence.index("{}")
        text = f"{sentence.format(f'{city}市{district}区')} 第{number}条"
        spans = [(start, start + 2), (start, start + 3), (start, start + 6)]
        documents.append(Document("", text, tuple(Entity(*span, "LOC") for span in spans)))
    return documents


def test_nested_labels_are_learned_and_pre_labelled(stack: Sandbox) -> None:
    loop = stack.loop
    gold = addresses(140)
    project = create_project(loop.label_studio, "e2e nested", gold, labels_of(gold))
    stack.run(
        "connect", "--project", str(project.id), "--model", "nested", "--train-threshold", "90", "--decoder", "nested"
    )

    list(annotate(loop.label_studio, project, gold, 90))

    wait_until(lambda: loop.registry.production("nested").version is not None, 240, "a promotion")
    wait_until(lambda: not stack.stale(project, "nested-v1"), 60, "fresh predictions")
    expected = {document.text: set(document.entities) for document in gold}
    predicted = list(loop.label_studio.tasks(project, annotated=False))
    right = sum(set(task.predictions[-1].entities) == expected[task.text] for task in predicted if task.text)
    assert right >= 0.9 * len(predicted) > 0
    exported = loop.settings.home / "nested.jsonl"
    stack.run("export", "--project", str(project.id), "-o", str(exported))
    lines = [json.loads(line) for line in exported.read_text(encoding="utf-8").splitlines()]
    assert {len(line["entities"]) for line in lines} == {3}
