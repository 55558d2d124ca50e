"""The console in a real browser, on a whole stack: what people see, do, and may not do."""

import contextlib
import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from nerloop import __version__, checkpoint
from nerloop.demo import DEMO_FOLDER, annotate, create_project
from nerloop.documents import Document, labels_of, read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.embedded.stack import Stack
from nerloop.gate import Decision
from nerloop.promotions import STARTER_VERSION
from nerloop.split import side_of
from nerloop.starter import fresh_starter
from nerloop.tasks import Project
from nerloop.users import Users
from nerloop.versions import Candidate

GOLD = read_jsonl(DEMO_FOLDER / "train.jsonl")[80:160]
MODEL = "shown"
SURFACE = "乐活通"
PAGES = ("try", "correct", "loop", "data", "connect")
PHONE = 390  # pixels
LONG = 240_000  # milliseconds that a training may take
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def project(stack: Sandbox) -> Project:
    """A connected project whose threshold nobody reaches; it stays, since others share the stack."""
    made = stack.connected_project("console", GOLD, "--model", MODEL, "--train-threshold", "1000")
    list(annotate(stack.loop.label_studio, made, GOLD, 2))
    return made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, else the one that `playwright install chromium` has fetched."""
    expect.set_options(timeout=20_000)  # beside other tests everything takes longer
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, url: str) -> Iterator[BrowserContext]:
    """A browser that nobody has logged in with."""
    made = chromium.new_context(base_url=url, locale="zh-CN", reduced_motion="reduce")
    made.set_default_timeout(20_000)
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(stack: Sandbox) -> str:
    return stack.loop.settings.console_url


@pytest.fixture(scope="module")
def account(stack: Sandbox) -> tuple[str, str]:
    """The e-mail address and the password of Label Studio's first account, which is an operator."""
    return stack.account


@pytest.fixture
def page(context: BrowserContext, account: tuple[str, str], project: Project) -> Page:
    """The page Try, as an operator sees it."""
    return logged_in(context, *account)


@pytest.fixture
def viewers_page(context: BrowserContext, stack: Sandbox, project: Project) -> Page:
    token = Users(stack.loop.settings.users_file).add("wang", "viewer")
    return logged_in(context, "wang", token)


def logged_in(context: BrowserContext, name: str, password: str) -> Page:
    page = context.new_page()
    page.goto("/login")
    page.get_by_label("邮箱或用户名").fill(name)
    page.get_by_label("密码或令牌").fill(password)
    page.get_by_role("button", name="登录").click()
    page.wait_for_url("**/try")
    expect(page.locator("mark").first).to_be_visible()
    return page


def type_text(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="文本").fill(text)


def choose(page: Page, label: str, option: str, nth: int = 0) -> None:
    """Choose from a list, as somebody does: open it again where it has closed or does not have the option yet."""
    wanted = page.get_by_role("option", name=option, exact=True)

    def is_open() -> bool:
        page.keyboard.press("Escape")
        page.get_by_role("combobox", name=label).nth(nth).click()
        with contextlib.suppress(PlaywrightTimeout):
            wanted.wait_for(timeout=2000)
        return wanted.is_visible()

    wait_until(is_open, 20, f"{option} in the list {label}")
    wanted.click()


def spans(page: Page, where: str = ".text >> nth=0") -> list[tuple[int, int, str]]:
    """Return (start, end, label) of the entities that are drawn, counted in the characters that are shown."""
    return [tuple(span) for span in page.locator(where).evaluate(SPANS)]


SPANS = """root => [...root.querySelectorAll("mark")].map(mark => {
    const before = document.createRange();
    before.setStart(root, 0);
    before.setEnd(mark, 0);
    const start = Array.from(before.toString()).length;
    return [start, start + Array.from(mark.textContent).length, mark.dataset.label];
})"""

WHERE = """([root, surface]) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const at = walker.currentNode.data.indexOf(surface);
        if (at >= 0) {
            const range = document.createRange();
            range.setStart(walker.currentNode, at);
            range.setEnd(walker.currentNode, at + surface.length);
            const box = range.getBoundingClientRect();
            return [box.left + 1, box.right - 1, box.top + box.height / 2];
        }
    }
    throw new Error(surface + " is not there");
}"""


def drag_over(page: Page, surface: str, *, down_by: int = 0) -> None:
    """Select a part of the text with the mouse, or from there on to a place further down."""
    shown = page.locator("#correct-text")
    shown.scroll_into_view_if_needed()
    left, right, middle = page.evaluate(WHERE, [shown.element_handle(), surface])
    page.mouse.move(left, middle)
    page.mouse.down()
    page.mouse.move((left + right) / 2, middle + down_by)
    page.mouse.move(right, middle + down_by)
    page.mouse.up()


def key_of(page: Page, label: str) -> str:
    """Return the digit that gives a label."""
    labels = page.get_by_role("group", name="标签").get_by_role("button").all_inner_texts()
    return next(text.split()[0] for text in labels if text.endswith(label))


def panel_of(page: Page, model: str) -> Locator:
    """Return the panel of a model on the page Loop."""
    return page.locator("section", has=page.get_by_role("heading", name=model, exact=True))


def candidate_in(folder: Path) -> Candidate:
    """Make a candidate that is the starter, its checkpoint and an empty `dataset.jsonl` in a folder."""
    checkpoint.save(fresh_starter(), checkpoint.Provenance("lac", ""), folder / "made")
    (folder / "dataset.jsonl").touch()
    return Candidate(folder / "made", ("PER",), "", STARTER_VERSION, 0, {"gate_f1": 0.5})


def training_text(stack: Sandbox) -> str:
    settings = stack.loop.settings
    texts = (f"第{n}天，{SURFACE}的负责人昨天没有回应。" for n in itertools.count())
    return next(text for text in texts if side_of(text, settings.dev_share, settings.gate_share) == "train")


# Who gets in


@pytest.mark.parametrize("path", [*(f"/{page}" for page in PAGES), "/", "/export/1"])
def test_an_anonymous_visitor_sees_the_log_in_page_whatever_is_asked(context: BrowserContext, path: str) -> None:
    page = context.new_page()

    page.goto(path)

    page.wait_for_url("**/login")
    expect(page.get_by_role("button", name="登录")).to_be_visible()


def test_a_wrong_password_is_refused_and_said_so(context: BrowserContext, account: tuple[str, str]) -> None:
    page = context.new_page()
    page.goto("/login")
    page.get_by_label("邮箱或用户名").fill(account[0])
    page.get_by_label("密码或令牌").fill("wrong")

    page.get_by_role("button", name="登录").click()

    expect(page.get_by_role("alert")).to_contain_text("用户名或密码不对")
    assert "nerloop_session" not in {cookie["name"] for cookie in context.cookies()}


def test_whoever_logs_out_is_out(page: Page) -> None:
    page.get_by_role("button", name="退出").click()
    page.wait_for_url("**/login")

    page.goto("/loop")

    page.wait_for_url("**/login")
    expect(page.get_by_role("button", name="登录")).to_be_visible()


def test_whoever_logs_out_leaves_no_text_behind_in_any_tab(page: Page) -> None:
    type_text(page, "这是一份病历。")
    other = page.context.new_page()
    other.goto("/try")
    type_text(other, "这是另一份病历。")
    expect(other.locator(".text").first).to_have_text("这是另一份病历。")
    other.get_by_role("button", name="错误反馈").first.click()
    other.wait_for_url("**/correct")
    expect(other.locator("#correct-text")).to_have_text("这是另一份病历。")
    assert other.evaluate("nerloop.kept('correct').text") == "这是另一份病历。"
    assert page.evaluate("nerloop.kept('text')") == "这是一份病历。"

    page.get_by_role("button", name="退出").click()

    page.wait_for_url("**/login")
    other.wait_for_url("**/login")
    for tab in (page, other):
        tab.goto("/login")
        assert tab.evaluate("Object.keys(sessionStorage).filter(key => /text|typed|correct/.test(key))") == []


def test_the_session_is_out_of_reach_of_scripts_and_of_other_sites(page: Page, context: BrowserContext) -> None:
    (session,) = (cookie for cookie in context.cookies() if cookie["name"] == "nerloop_session")

    assert (session["httpOnly"], session["sameSite"]) == (True, "Lax")
    answer = context.request.post("/logout", headers={"Origin": "http://evil.example"}, max_redirects=0)
    assert answer.status == 403


def test_a_viewer_sees_the_loop_and_steers_nothing(viewers_page: Page) -> None:
    viewers_page.goto("/loop")

    expect(viewers_page.get_by_role("heading", name=MODEL, exact=True)).to_be_visible()
    expect(viewers_page.get_by_text("只有操作员可以这样做").first).to_be_visible()
    for name in ("立即训练", "晋升", "回滚", "暂停自动晋升"):
        expect(viewers_page.get_by_role("button", name=name)).to_have_count(0)
    viewers_page.goto("/connect")
    expect(viewers_page.get_by_text("只有操作员可以这样做")).to_be_visible()


# Try


def test_what_is_typed_is_highlighted_with_exact_offsets_and_hovering_tells_label_confidence_and_version(
    stack: Sandbox, page: Page
) -> None:
    text = "👩‍⚕️ 昨天，李明\t从南京大学去了<b>上海</b>。\n次日，他回来了。"
    token = Users(stack.loop.settings.users_file).add("program", "viewer")
    answer = httpx.post(
        f"{stack.loop.settings.backend_url}/api/v1/predict",
        headers={"Authorization": f"Bearer {token}"},
        json={"texts": [text]},
    ).json()

    type_text(page, text)

    person = page.locator("mark", has_text="李明")
    expect(person).to_be_visible()
    found = answer["documents"][0]["entities"]
    assert spans(page) == [(e["start"], e["end"], e["label"]) for e in found]
    assert len(found) >= 4
    assert page.locator(".text").first.evaluate("root => root.textContent") == text
    person.hover()
    tip = person.evaluate("mark => getComputedStyle(mark, '::before').content")
    assert "PER" in tip
    assert "置信度" in tip
    assert STARTER_VERSION in tip


def test_the_slider_hides_just_what_the_model_is_less_sure_of(page: Page) -> None:
    type_text(page, "栖云轩的李明昨天去了北京。")
    expect(page.locator("mark", has_text="栖云轩")).to_be_visible()
    tips = {m.inner_text(): str(m.get_attribute("data-tip")) for m in page.locator("mark").all()}
    percents = {surface: int(tip.split("置信度 ")[1].split("%")[0]) for surface, tip in tips.items()}
    least = (min(percents.values()) + max(percents.values())) // 2 + 1
    sure = [surface for surface, percent in percents.items() if percent >= least]
    assert 0 < len(sure) < len(percents)

    slider = page.get_by_role("slider")
    page.get_by_role("switch", name="对比另一个模型").focus()
    page.keyboard.press("Tab")
    for _ in range(least):
        page.keyboard.press("ArrowRight")

    expect(slider).to_have_attribute("aria-valuenow", str(least))
    expect(page.locator("mark")).to_have_text(sure)


def test_two_models_that_find_the_same_stand_side_by_side_without_marks(page: Page) -> None:
    page.get_by_role("switch", name="对比另一个模型").click()
    choose(page, "模型", MODEL, nth=1)

    expect(page.locator(".text")).to_have_count(2)
    second = page.locator(".text").nth(1).locator("mark")
    expect(second).to_have_text(page.locator(".text").first.locator("mark").all_inner_texts())
    assert spans(page, ".text >> nth=0") == spans(page, ".text >> nth=1")
    expect(page.locator("mark.marked")).to_have_count(0)


# Correct


def test_a_correction_is_an_annotation_in_label_studio_which_the_next_model_has_learned_and_a_rollback_forgets(
    stack: Sandbox, project: Project, page: Page
) -> None:
    list(annotate(stack.loop.label_studio, project, GOLD, 60))
    text = training_text(stack)
    choose(page, "模型", MODEL)
    type_text(page, text)
    expect(page.locator(".text").first).to_have_text(text)
    expect(page.locator("mark", has_text=SURFACE)).to_have_count(0)

    page.get_by_role("button", name="错误反馈").first.click()
    page.wait_for_url("**/correct")
    expect(page.get_by_role("combobox", name="项目")).to_have_value(f"console · {MODEL}")  # it teaches that model
    shown = page.locator("#correct-text")
    expect(shown).to_have_text(text)
    drag_over(page, SURFACE)
    expect(page.get_by_text(f"已选文字：{SURFACE}")).to_be_visible()
    page.get_by_role("button", name="ORG").click()
    expect(shown.locator("mark", has_text=SURFACE)).to_have_attribute("data-label", "ORG")
    page.get_by_role("button", name="提交反馈").click()
    expect(page.get_by_text("等待下一轮训练")).to_be_visible()

    (task,) = (task for task in stack.loop.label_studio.tasks(project) if task.text == text)
    (annotation,) = task.annotations
    entities, _ = project.label_config.entities(text, annotation.result)
    start = text.index(SURFACE)
    assert (start, start + 3, "ORG") in {(e.start, e.end, e.label) for e in entities}
    assert task.feedback

    tab = page.context.new_page()
    tab.goto("/loop")
    panel = panel_of(tab, MODEL)
    panel.get_by_role("button", name="立即训练").click()
    expect(panel.get_by_text(f"线上：{MODEL}-v1")).to_be_visible(timeout=LONG)
    expect(panel.get_by_text(re.compile(rf"门禁 \d+ 篇文档.* micro-F1 0\.\d+（{STARTER_VERSION}）"))).to_be_visible()
    expect(panel.get_by_text("学习曲线：F1 与标注量")).to_be_visible()  # on the page that was there before the version
    expect(panel.get_by_text("继续标注：")).to_be_visible()
    expect(page.get_by_text(f"已生效：{MODEL}-v1 学过这条反馈")).to_be_visible()

    page.goto("/try")
    choose(page, "模型", MODEL)
    type_text(page, text)
    expect(page.locator("mark", has_text=SURFACE)).to_be_visible(timeout=LONG)  # as soon as the replica serves it
    choose(page, "版本", f"{MODEL}-v1")
    expect(page.locator("mark", has_text=SURFACE)).to_be_visible()
    page.get_by_role("switch", name="对比另一个模型").click()
    choose(page, "模型", "lac（通用）", nth=1)
    unknown_to_the_starter = page.locator(".text").first.locator("mark.marked")
    expect(unknown_to_the_starter).to_have_text([SURFACE])
    page.get_by_role("switch", name="对比另一个模型").click()

    panel.get_by_role("button", name=f"回滚到 {STARTER_VERSION}").click()
    tab.get_by_label("原因").fill("看看差别")
    tab.get_by_role("button", name="回滚", exact=True).click()
    expect(panel.get_by_text(f"线上：{STARTER_VERSION}")).to_be_visible()
    expect(panel.get_by_text("自动晋升已暂停")).to_contain_text("看看差别")
    choose(page, "版本", "线上版本")
    expect(page.locator(".summary").first).to_contain_text(STARTER_VERSION, timeout=LONG)  # though nobody types
    expect(page.locator("mark", has_text=SURFACE)).to_have_count(0)


def test_a_version_without_files_is_not_offered_and_the_page_says_what_a_replica_cannot_serve(
    stack: Sandbox, page: Page, tmp_path: Path
) -> None:
    registry = stack.loop.registry
    candidate = candidate_in(tmp_path)
    kept, removed = (
        registry.register(MODEL, candidate, tmp_path / "dataset.jsonl", {}, Decision(False, "worse")) for _ in range(2)
    )
    registry.mark_files(removed, "2026-01-01")
    stack.loop.state.beat("elsewhere", {}, {MODEL: {"version": str(kept), "reason": "a damaged file"}}, seconds=60)

    choose(page, "模型", MODEL)
    choose(page, "版本", str(kept))
    page.get_by_role("combobox", name="版本").first.click()
    expect(page.get_by_role("option", name=str(kept), exact=True)).to_be_visible()
    expect(page.get_by_role("option", name=str(removed), exact=True)).to_have_count(0)

    page.goto("/loop")
    expect(page.get_by_role("row", name=re.compile(f"{removed}.*未通过 · 文件已清理"))).to_be_visible()
    expect(page.get_by_role("button", name=f"晋升 {kept}")).to_be_visible()
    expect(page.get_by_role("button", name=f"晋升 {removed}")).to_have_count(0)
    expect(page.get_by_text(f"无法提供 {kept}：a damaged file")).to_be_visible()


def test_a_model_is_rolled_back_while_label_studio_is_down_and_the_projects_come_back_with_it(
    stack: Sandbox, page: Page, tmp_path: Path
) -> None:
    candidate = candidate_in(tmp_path)
    version = stack.loop.registry.register(MODEL, candidate, tmp_path / "dataset.jsonl", {}, Decision(False, "worse"))
    stack.run("promote", str(version), "--why", "to be taken back")
    supervisor = Stack(stack.loop.settings).supervisor
    panel = panel_of(page, MODEL)
    supervisor.stopProcess("label-studio")
    try:
        page.goto("/loop")
        expect(page.get_by_role("alert")).to_contain_text("Label Studio 没有响应")
        expect(panel.get_by_text(f"线上：{version}")).to_be_visible()
        expect(page.get_by_text(re.compile(rf"工作进程 .* · {__version__} · train · .* · 最近心跳 20"))).to_be_visible()

        panel.get_by_role("button", name="回滚到").click()
        page.get_by_label("原因").fill("错得太多")
        page.get_by_role("button", name="回滚", exact=True).click()

        expect(panel.get_by_text(f"线上：{STARTER_VERSION}")).to_be_visible()
        assert stack.loop.registry.promotion_log(MODEL).valid[-1].why == "错得太多"
    finally:
        supervisor.startProcess("label-studio")
    expect(panel.get_by_role("link", name="打开项目")).to_be_visible(timeout=120_000)
    expect(page.get_by_role("alert")).to_have_count(0)


def report_error(page: Page, text: str) -> None:
    """Go from Try to Correct with a text."""
    choose(page, "模型", MODEL)
    type_text(page, text)
    expect(page.locator(".text").first).to_have_text(text)
    page.get_by_role("button", name="错误反馈").first.click()
    page.wait_for_url("**/correct")
    expect(page.locator("#correct-text")).to_have_text(text)


def test_a_correction_needs_no_mouse(page: Page) -> None:
    report_error(page, "李明昨天没有回应。")
    shown = page.locator("#correct-text")
    expect(shown.locator("mark")).to_have_text(["李明"])  # 昨天 is a TIME, and the project has no such label
    drug = key_of(page, "DRUG")

    shown.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Shift+ArrowRight", drug, "}"):
        page.keyboard.press(key)
    expect(shown.locator("mark", has_text="昨天没")).to_have_attribute("data-label", "DRUG")
    assert (2, 5, "DRUG") in spans(page, "#correct-text")

    page.keyboard.press("ArrowRight")  # on from what was selected, although all has been drawn anew
    expect(page.get_by_text("已选文字：没", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    shown.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("已选中：李明（PER）")).to_be_visible()
    page.keyboard.press("Delete")
    expect(shown.locator("mark")).to_have_text(["昨天没"])


def test_keys_go_on_working_after_a_click_on_an_entity(page: Page) -> None:
    report_error(page, "李明昨天没有回应。")
    shown = page.locator("#correct-text")

    shown.locator("mark", has_text="李明").click()
    for key in (key_of(page, "DRUG"), "}", "Escape"):
        page.keyboard.press(key)

    expect(shown.locator("mark")).to_have_text(["李明昨"])
    assert spans(page, "#correct-text") == [(0, 3, "DRUG")]
    page.mouse.move(0, 0)  # Playwright takes the tooltip, which no pointer meets, for the middle of the entity
    shown.locator("mark").click()
    page.keyboard.press("Backspace")
    expect(shown.locator("mark")).to_have_count(0)


def test_a_selection_may_end_outside_of_the_text_and_may_be_made_without_a_mouse(page: Page) -> None:
    report_error(page, "李明昨天没有回应。")

    drag_over(page, "没有", down_by=200)
    expect(page.get_by_text("已选文字：没有回应。", exact=True)).to_be_visible()

    handles = "root => getSelection().setBaseAndExtent(root.lastChild, 2, root.lastChild, 4)"  # as those of a phone do
    page.locator("#correct-text").evaluate(handles)
    expect(page.get_by_text("已选文字：没有", exact=True)).to_be_visible()
    assert page.evaluate("getSelection().toString()") == "没有"  # the answer has not taken it away

    page.get_by_role("button", name="LOC").click()  # and the keys work from there on
    expect(page.locator("#correct-text mark")).to_have_text(["李明", "没有"])
    page.locator("#correct-text").focus()
    for end in (7, 8):
        page.keyboard.press("}")
        expect(page.locator("#correct-text mark").last).to_have_text("没有回应"[: end - 4])
        page.wait_for_timeout(300)  # no selection comes back, which takes the page half as long


def test_entities_whose_label_a_project_lacks_come_back_with_another_project(stack: Sandbox, page: Page) -> None:
    places = [Document(d.id, d.text, tuple(e for e in d.entities if e.label == "LOC")) for d in GOLD]
    stack.connected_project("places", [d for d in places if d.entities][:3], "--model", "places")
    report_error(page, "李明昨天没有回应。")

    choose(page, "项目", "places · places")
    expect(page.locator("#correct-text mark")).to_have_count(0)
    expect(page.get_by_text("2 个实体的标签不属于这个项目")).to_be_visible()

    choose(page, "项目", f"console · {MODEL}")
    expect(page.locator("#correct-text mark")).to_have_text(["李明"])


def test_the_model_pre_labels_a_text_with_the_labels_of_the_project(page: Page) -> None:
    page.goto("/correct")
    choose(page, "项目", f"console · {MODEL}")
    type_text(page, "李明昨天没有回应。")

    page.get_by_role("button", name="用模型预标注").click()

    expect(page.locator("#correct-text mark")).to_have_count(1)  # and not 昨天, which is no label of the project's
    assert spans(page, "#correct-text") == [(0, 2, "PER")]


def test_a_text_that_is_held_out_is_said_to_serve_evaluation(stack: Sandbox, project: Project, page: Page) -> None:
    settings = stack.loop.settings
    text = next(d.text for d in GOLD if side_of(d.text, settings.dev_share, settings.gate_share) == "gate")
    page.goto("/correct")
    choose(page, "项目", f"console · {MODEL}")
    type_text(page, text)
    expect(page.locator("#correct-text")).to_have_text(text)

    page.get_by_role("button", name="提交反馈").click()

    expect(page.locator(".sent", has_text="不会参与训练")).to_be_visible()


# Data and Connect


def test_an_export_is_byte_for_byte_what_the_command_writes(
    stack: Sandbox, project: Project, page: Page, tmp_path: Path
) -> None:
    list(annotate(stack.loop.label_studio, project, GOLD, 2))
    page.goto("/data")
    panel = page.locator("section", has_text=f"console · {MODEL}")
    expect(panel.get_by_role("row", name="PER")).to_be_visible()

    with page.expect_download() as download:
        panel.get_by_role("link", name="导出 JSONL").click()
    download.value.save_as(tmp_path / "page.jsonl")

    stack.run("export", "--project", str(project.id), "--output", str(tmp_path / "command.jsonl"))
    assert (tmp_path / "page.jsonl").read_bytes() == (tmp_path / "command.jsonl").read_bytes()
    documents = read_jsonl(tmp_path / "page.jsonl")
    assert panel.get_by_role("row", name="PER").get_by_role("cell").last.inner_text() == str(
        sum(entity.label == "PER" for document in documents for entity in document.entities)
    )


def test_a_project_is_bound_by_the_wizard_and_every_link_is_checked(stack: Sandbox, page: Page) -> None:
    made = create_project(stack.loop.label_studio, "wizard", GOLD[:3], labels_of(GOLD))
    page.goto("/connect")

    page.get_by_role("button", name=f"绑定 {made.id}", exact=True).click()
    page.get_by_label("模型名").fill("by-wizard")
    page.get_by_label("多少新标注触发训练").fill("70")
    page.get_by_role("button", name="绑定", exact=True).click()

    expect(page.get_by_text("这里能连上 ML 后端")).to_be_visible(timeout=60_000)
    binding = stack.loop.state.binding(made.id)
    assert binding is not None
    assert (binding.model, binding.train_threshold) == ("by-wizard", 70)
    expect(page.get_by_text("已绑定 by-wizard")).to_be_visible()


def test_another_label_studio_is_tried_before_it_is_used(stack: Sandbox, page: Page) -> None:
    settings = stack.loop.settings
    page.goto("/connect")
    page.get_by_text("检查另一个 Label Studio").click()
    page.get_by_label("地址").fill(settings.label_studio_url)
    page.get_by_label("令牌").fill("0" * 40)
    page.get_by_role("button", name="检查", exact=True).click()
    expect(page.get_by_text("拒绝这个令牌")).to_be_visible()

    page.get_by_label("令牌").fill(settings.label_studio_api_key)
    page.get_by_role("button", name="检查", exact=True).click()

    expect(page.get_by_text("可以使用")).to_be_visible()
    assert settings.label_studio_api_key not in page.locator("body").inner_text()


# Every page


# What each page shows last: it comes by WebSocket, which no "network idle" waits for.
LAST: dict[str, Callable[[Page], Locator]] = {
    "try": lambda page: page.locator(".text mark").first,
    "correct": lambda page: page.get_by_role("group", name="标签").get_by_role("button").first,
    "loop": lambda page: page.locator("section", has_text="打开项目").last.get_by_text("建议"),
    "data": lambda page: page.locator("section", has_text="导出 JSONL").last.get_by_text(re.compile("合计|还没有标注")),
    "connect": lambda page: page.get_by_text("已绑定").first,
}


def visit(page: Page, check: Callable[[str], None], names: Sequence[str] = PAGES) -> None:
    """Look at pages with all that they show."""
    for name in names:
        page.goto(f"/{name}")
        expect(LAST[name](page)).to_be_visible()
        check(name)


def test_nothing_is_asked_of_any_other_machine(page: Page, url: str) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)

    visit(page, lambda _: None)

    assert len(asked) > len(PAGES)
    assert [address for address in asked if not address.startswith((url, "data:", "blob:"))] == []


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", PHONE), ("cyberpunk", 1280)])
def test_no_page_is_hard_to_use_for_people_with_disabilities(page: Page, url: str, theme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.context.add_cookies([{"name": "nerloop_theme", "value": theme, "url": url}])
    found: list[Any] = []

    def check(name: str) -> None:
        violations = Axe().run(page).response["violations"]
        found.extend((name, v["id"], v["nodes"][0]["html"]) for v in violations if v["impact"] in SERIOUS)

    visit(page, check)
    page.goto("/loop")
    page.get_by_role("button", name="暂停自动晋升").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.wait_for_function("document.getAnimations().length === 0")
    check("dialog")
    page.goto("/login")
    expect(page.get_by_role("button", name="登录")).to_be_visible()
    check("login")

    assert found == []


def test_pages_are_in_the_language_and_theme_that_were_chosen(page: Page) -> None:
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("link", name="Loop")).to_be_visible()
    page.get_by_label("Theme").select_option("cyberpunk")
    expect(page.locator("body.theme-cyberpunk")).to_be_visible()

    page.goto("/data")

    expect(page.get_by_role("heading", name="Data")).to_be_visible()
    expect(page.locator("body.theme-cyberpunk")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "en-US")
    expect(page.locator("#popup")).to_contain_text("Connection lost")


def test_chinese_pages_hold_no_english_sentence(page: Page) -> None:
    sentence = re.compile(r"(?:\b[A-Za-z][a-z]+\b[ ,;:]+){4}.*")
    found: list[str] = []

    def look(name: str) -> None:
        found.extend(f"{name}: {one}" for one in sentence.findall(page.locator("body").inner_text()))

    visit(page, look)
    page.goto("/connect")
    page.get_by_role("button", name="开始检查").click()
    expect(page.get_by_text("Redis 响应正常")).to_be_visible(timeout=60_000)
    look("checks")

    assert found == []
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.locator("#popup")).to_contain_text("连接丢失")


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_shows_every_page_without_scrolling_sideways(page: Page, name: str) -> None:
    page.set_viewport_size({"width": PHONE, "height": 844})
    widths: list[int] = []

    visit(page, lambda _: widths.append(page.evaluate("document.documentElement.scrollWidth")), [name])

    assert widths[0] <= PHONE
