from nerloop.documents import Document, Entity
from nerloop.label_matching import known_as


def document(text, **labels):
    found = [Entity(text.index(name), text.index(name) + len(name), label) for label, name in labels.items()]
    return Document("", text, tuple(sorted(found)))


PEOPLE = [
    document("钟南山院士在广州医科大学接受采访。", 医生="钟南山", 市="广州"),
    document("记者采访了李兰娟，她在北京开会。", 医生="李兰娟", 市="北京"),
    document("张文宏昨天到了上海。", 医生="张文宏", 市="上海"),
]


def test_a_label_is_known_by_what_the_base_marks_in_its_entities(lac):
    assert known_as(lac, PEOPLE) == {"医生": "PER", "市": "LOC"}


def test_a_label_the_base_never_marks_is_new(lac):
    drugs = [document("每天吃两片布洛芬。", 药="布洛芬"), document("阿司匹林饭后服用。", 药="阿司匹林")]

    assert known_as(lac, drugs) == {}


def test_a_label_of_the_same_name_needs_no_other(lac):
    assert known_as(lac, [document("钟南山到了。", LOC="钟南山")]) == {}


def test_what_the_project_says_counts_more_than_what_is_seen(lac):
    assert known_as(lac, PEOPLE, {"ORG": "医生"}) == {"医生": "ORG", "市": "LOC"}


def test_of_several_labels_shown_under_one_name_the_one_that_has_it_counts(lac):
    assert known_as(lac, [], {"PER": "PER", "ORG": "PER"}) == {"PER": "PER"}
