"""Makes the screenshots in docs/images: every page of the console, and those of Label Studio that annotators see.

The stack is one of its own; an annotator is played, and two models are trained. It takes minutes, and a Chinese font.

python docs/make_images.py
"""

import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from nerloop.demo import DEMO_FOLDER, annotate
from nerloop.documents import read_jsonl
from nerloop.embedded.sandbox import Sandbox, wait_until
from nerloop.tasks import Project

IMAGES = Path(__file__).parent / "images"
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
TEXT = "王建国昨天在华西附二院开了布洛芬，他在复旦大学读书的妹妹李娜有过敏性鼻炎。"
MODEL = "demo"


def main() -> None:
    """Make all images; without a Chinese font they would be full of boxes."""
    if not subprocess.run(["fc-list", ":lang=zh"], check=True, capture_output=True).stdout:
        sys.exit("no Chinese font is installed: `apt-get install fonts-noto-cjk`")
    with (
        tempfile.TemporaryDirectory(prefix="nerloop-images-") as folder,
        sync_playwright() as playwright,
        Sandbox(Path(folder) / "home", NERLOOP_QUIET_SECONDS="2") as sandbox,
    ):
        project = demo(sandbox)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        of_console(browser, sandbox)
        of_label_studio(browser, sandbox, project)


def demo(sandbox: Sandbox) -> Project:
    """Make the demo project, and play it until a version is in production."""
    documents = read_jsonl(DEMO_FOLDER / "train.jsonl")
    project = sandbox.connected_project("nerloop demo 演示", documents, "--model", MODEL, seconds=120)
    for version in (f"{MODEL}-v1", f"{MODEL}-v2"):
        list(annotate(sandbox.loop.label_studio, project, documents, 70))
        wait_until(partial(decided, sandbox, int(version[-1])), 300, version)
        production = sandbox.loop.registry.production(MODEL).name
        wait_until(partial(fresh, sandbox, project, production), 120, "predictions")
    return project


def decided(sandbox: Sandbox, number: int) -> bool:
    """Tell whether so many versions have been decided."""
    return sum(version.decision != "passed" for version in sandbox.loop.registry.versions(MODEL)) >= number


def fresh(sandbox: Sandbox, project: Project, version: str) -> bool:
    """Tell whether annotators see a version's predictions alone."""
    return not sandbox.stale(project, version)


def of_console(browser: Browser, sandbox: Sandbox) -> None:
    """Take every page of the console at the width of a desk and of a phone."""
    for name, size in (("", DESKTOP), ("-phone", PHONE)):
        context = browser.new_context(
            base_url=sandbox.loop.settings.console_url, locale="zh-CN", viewport=size, reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto("/login")
        log_in(page, sandbox, "[name=name]")
        page.wait_for_selector("mark")
        page.get_by_role("textbox", name="文本").fill(TEXT)
        page.get_by_role("combobox", name="模型").first.click()
        page.get_by_role("option", name=MODEL, exact=True).click()
        page.wait_for_selector("mark:has-text('布洛芬')")
        if not name:
            page.get_by_role("switch").click()
            page.get_by_role("combobox", name="模型").nth(1).click()
            page.get_by_role("option", name="lac（通用）").click()
            page.wait_for_selector(".text >> nth=1 >> mark")
        page.locator("mark", has_text="王建国").first.focus()  # its tooltip
        take(page, f"console-try{name}")
        page.get_by_role("button", name="错误反馈").first.click()
        page.wait_for_url("**/correct")
        page.locator("#correct-text mark", has_text="李娜").click()
        page.wait_for_selector("mark.active")
        take(page, f"console-correct{name}")
        for each, last in (("loop", "预标注节省的时间"), ("data", "合计"), ("connect", "已绑定")):
            page.goto(f"/{each}")
            page.get_by_text(last).first.wait_for()
            page.wait_for_timeout(2000)  # a chart is drawn on a canvas, which nothing tells of
            take(page, f"console-{each}{name}")
        if not name:
            page.get_by_label("外观").select_option("cyberpunk")
            page.goto("/try")
            page.wait_for_selector("mark")
            take(page, "console-cyberpunk")


def of_label_studio(browser: Browser, sandbox: Sandbox, project: Project) -> None:
    """Take the screens of Label Studio that an annotator sees."""
    page = browser.new_context(
        base_url=sandbox.loop.settings.label_studio_url, viewport=DESKTOP, reduced_motion="reduce"
    ).new_page()
    page.goto("/user/login/")
    take(page, "label-studio-login")
    log_in(page, sandbox, "[name=email]")
    page.wait_for_load_state("networkidle")
    page.goto(f"/projects/{project.id}/data")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(2000)
    take(page, "label-studio-tasks")
    page.get_by_role("button", name="Label All Tasks").click()
    page.wait_for_selector(".htx-highlight")
    page.wait_for_timeout(1500)
    take(page, "label-studio-label")
    page.locator(".htx-highlight").first.click()
    page.wait_for_timeout(800)
    take(page, "label-studio-region")
    page.goto("/user/account/hotkeys")
    page.wait_for_selector("text=Submit Annotation")
    take(page, "label-studio-hotkeys")


def log_in(page: Page, sandbox: Sandbox, name: str) -> None:
    """Fill in a login form with the first account."""
    user, password = sandbox.account
    page.fill(name, user)
    page.fill("[name=password]", password)
    page.keyboard.press("Enter")


def take(page: Page, name: str) -> None:
    """Write one image; long pages are taken as a whole, up to what fits into a document."""
    height = min(1600, page.evaluate("document.documentElement.scrollHeight"))
    width = page.viewport_size["width"] if page.viewport_size else 0
    page.screenshot(
        path=IMAGES / f"{name}.png", full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height}
    )
    sys.stderr.write(f"{name}.png\n")


if __name__ == "__main__":
    main()
