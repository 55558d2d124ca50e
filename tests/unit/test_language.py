"""What the REST API says in Chinese: every sentence it can answer with has a translation, with the same values."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ml_backend
from ml_backend.chinese import CHINESE
from ml_backend.language import language_of, said
from nerloop import errors
from nerloop.documents import Document, Entity
from nerloop.gate import Decision, Rival, decide
from nerloop.promotions import STARTER_VERSION
from nerloop.stopping import Point, advice

ROOT = Path(ml_backend.__file__).parents[1]
SPOKEN = [  # what people meet on the console's pages, and not in the shell or in Label Studio alone
    *(
        f"ml_backend/{name}.py"
        for name in ("access", "api", "api_projects", "api_system", "problems", "services", "sessions")
    ),
    *(f"nerloop/{name}.py" for name in ("checkpoint", "documents", "jobs", "label_config", "label_studio")),
    *(f"nerloop/{name}.py" for name in ("label_studio_account", "mlflow_door", "promotions", "registry", "serving")),
    *(f"nerloop/{name}.py" for name in ("gazetteer", "versions")),
    *(f"sync/{name}.py" for name in ("connect", "doctor", "feedback", "judge", "label_copy", "push")),
]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type)} | {
    *("Unauthorized", "Forbidden", "TooManyRequests", "NotFound", "HTTPException", "Check")
}
LETTERS = re.compile("[A-Za-z]{2}")
OF_NO_LANGUAGE = {"{} of {}", "{}/health: {}", "pong"}  # the first stands for two that are translated


def template(node: ast.expr, constants: dict[str, str]) -> str | None:
    """Return what a string in the code is a template of, `{}` for each value."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.Name(id=name):
            return constants.get(name)
    return None


def sentences(path: Path) -> Iterator[str]:
    """Yield the templates of all errors and checks that a module makes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            found = (template(argument, constants) for argument in node.args)
            yield from (text for text in found if text is not None and LETTERS.search(text))


@pytest.mark.parametrize("module", SPOKEN)
def test_every_sentence_of_a_module_has_a_translation(module: str) -> None:
    missing = [text for text in sentences(ROOT / module) if text not in CHINESE.keys() | OF_NO_LANGUAGE]

    assert not missing


@pytest.mark.parametrize("said_often", [": ", "; ", ", : ", "field : ", " is refused: "])
def test_what_is_made_to_fit_many_templates_is_answered_and_stays_as_it_is_where_it_is_too_long(said_often):
    text = "a" + said_often * (3000 // len(said_often))

    assert said(text, "zh").count("a") >= 1
    assert said(text * 2, "zh") == text * 2


@pytest.mark.parametrize("english", CHINESE)
def test_a_translation_holds_every_value_once(english: str) -> None:
    values = [f"\u00ab{number}\u00bb" for number in range(english.count("{}"))]

    chinese = said(english.format(*values), "zh")

    assert sorted(re.findall("\u00ab[0-9]+\u00bb", chinese)) == sorted(values)
    assert re.search("[\u4e00-\u9fff]", chinese)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh", "zh"),
        ("fr,zh;q=0.2", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("de", "en"),
        ("*", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_what_the_request_prefers(accepted: str, language: str) -> None:
    assert language_of(accepted) == language


def decisions() -> Iterator[Decision]:
    """Yield a decision of each kind that the gate can take."""
    few, many = [documents(3, "PER")] * 2, [documents(40, "PER"), documents(40, "LOC")]
    nothing = [Document("", document.text, ()) for document in documents(40, "PER")]
    for gold, found in (few, many, (many[0], many[0]), (many[0], nothing)):
        for version in (STARTER_VERSION, "medical-v1"):
            rival = Rival(version, frozenset({"PER"}), found)
            best = Rival("medical-v2", frozenset({"PER"}), gold)
            yield decide(gold, found, ["PER", "LOC"], rival)
            yield decide(gold, gold, ["PER", "LOC"], rival, best)
            yield decide(gold, nothing[: len(gold)], ["PER", "LOC"], rival, best)
            yield decide(nothing, nothing, ["PER", "LOC"], Rival(version, frozenset({"PER"}), nothing))


def documents(count: int, label: str) -> list[Document]:
    text = "张三和李四在王五家。"
    spans = ((0, 2), (3, 5), (6, 8))
    entities = tuple(Entity(start, end, label) for start, end in spans)
    return [Document(str(number), text, entities) for number in range(count)]


def test_every_sentence_of_the_gate_is_all_chinese() -> None:
    reasons = {said(decision.reason, "zh") for decision in decisions()}

    assert len(reasons) > 8
    names = re.compile("micro-F1|F1|lac-starter|medical-v[0-9]+|PER|LOC")
    assert not [reason for reason in reasons if LETTERS.search(names.sub("", reason))]


def test_what_somebody_says_of_a_forced_version_stays_as_it_was_said() -> None:
    forced = Decision(False, "refused because micro-F1 is lower").forced("Li Na", "guideline of May; see it")

    assert said(forced.reason, "zh") == (
        "\u62d2\u7edd\uff1amicro-F1 \u66f4\u4f4e\uff1b"
        "\u4ecd\u7136\u664b\u5347\uff1a\u7531 Li Na \u5f3a\u5236\uff0c\u7406\u7531\uff1aguideline of May\uff1bsee it"
    )


@pytest.mark.parametrize("points", [[], [Point("m-v1", 50, 0.5, 0.02, (0.01, 0.03), 0.9)] * 3])
def test_advice_is_all_chinese(points: list[Point]) -> None:
    sentence = said(advice(points).sentence, "zh")

    assert not LETTERS.search(re.sub("F1|kappa", "", sentence))


def test_what_nobody_has_translated_stays_english() -> None:
    assert said("something new; project 3 is not connected; run `nerloop connect --project 3`", "zh").startswith("some")
