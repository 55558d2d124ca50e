"""Times the console in a real browser: the first page that it has never seen, and highlighting after typing stops.

The stack is one of its own, with the demo project and the starter model. Chromium is the system's, else that
of `playwright install`.

python benchmarks/console.py
python benchmarks/console.py --quick        3 page loads, 5 texts
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from machine import machine
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console

from nerloop.demo import DEMO_FOLDER
from nerloop.documents import read_jsonl
from nerloop.embedded.sandbox import Sandbox

console = Console(stderr=True)

# From the last key until what is drawn is what belongs to the text that was typed.
TYPE = """([text]) => new Promise(resolve => {
    const area = document.querySelector("textarea");
    const shown = document.querySelector(".text");
    const started = performance.now();
    const observer = new MutationObserver(() => {
        if (shown.textContent === text) {
            observer.disconnect();
            requestAnimationFrame(() => resolve(performance.now() - started));
        }
    });
    observer.observe(shown, {childList: true, subtree: true, characterData: true});
    area.value = text;
    area.dispatchEvent(new Event("input", {bubbles: true}));
})"""


def main() -> None:
    """Run the benchmark and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 page loads, 5 texts")
    parser.add_argument("--out", type=Path, help="file to write the JSON to as well")
    arguments = parser.parse_args()
    loads, texts = (3, 5) if arguments.quick else (10, 50)
    with tempfile.TemporaryDirectory(prefix="nerloop-benchmark-") as folder, sync_playwright() as playwright:
        console.print("Starting a stack of its own …")
        with Sandbox(Path(folder) / "home") as sandbox:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
            result = measure(browser, sandbox, loads, texts)
    line = json.dumps(result, ensure_ascii=False)
    if arguments.out:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def measure(browser: Browser, sandbox: Sandbox, loads: int, texts: int) -> dict[str, Any]:
    """Load the page Try in browsers that know nothing yet, then type texts into the last."""
    documents = read_jsonl(DEMO_FOLDER / "train.jsonl")
    sandbox.connected_project("benchmark", documents, "--model", "demo", seconds=120)
    name, password = sandbox.account
    browser.new_page().goto("about:blank")  # the browser itself has started
    first = []
    for _ in range(loads):
        context = browser.new_context(base_url=sandbox.loop.settings.console_url, locale="zh-CN")
        account: dict[str, str | float | bool] = {"name": name, "password": password}
        context.request.post("/login", form=account, max_redirects=0)  # its cookie; the browser has loaded nothing yet
        page = context.new_page()
        page.goto("/try")
        page.wait_for_selector("mark")
        first.append(page.evaluate("performance.now()"))
    typed = [highlight(page, document.text) for document in documents[:texts]]
    return {
        "first_page_ms": round(median(first)),
        "first_page_each_ms": [round(each) for each in first],
        "highlight_ms": round(median(typed)),
        "highlight_max_ms": round(max(typed)),
        "loads": loads,
        "texts": texts,
        "machine": machine(),
    }


def highlight(page: Page, text: str) -> float:
    """Return the milliseconds from the last key until the text is shown with its entities."""
    return float(page.evaluate(TYPE, [text]))


if __name__ == "__main__":
    main()
