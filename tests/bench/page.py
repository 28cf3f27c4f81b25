"""What somebody waits for in the browser: the first page, and a key in a large table.

The first page is interactive with the picture that follows its form, in a browser that has nothing of the portal yet. A
key is done with the picture that follows it, in a table of 10,000 rows and 20 columns.
"""

import csv
import io
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from datameta.web.portal import BUILT
from tests.bench.portal import LAB, Portal, running_portal
from tests.bench.report import Figure

TURNS = 7
ROWS, COLUMNS = 10_000, 20
KEYS = 60
DEADLINE = 600_000

WATCH_START = """new MutationObserver((_, observer) => {
  if (!document.querySelector('input[type=email]')) return
  observer.disconnect()
  requestAnimationFrame(() => {
    const channel = new MessageChannel()
    channel.port1.onmessage = () => { window.interactive = performance.now() / 1000 }
    channel.port2.postMessage(null)
  })
}).observe(document, { childList: true, subtree: true })"""
SCRIPT = """() => performance.getEntriesByType('resource')
  .filter(({ name }) => new URL(name).pathname.endsWith('.js'))
  .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0) / 1000"""
WATCH_KEYS = """() => {
  window.spent = []
  addEventListener('keydown', (event) => {
    requestAnimationFrame(() => {
      const channel = new MessageChannel()
      channel.port1.onmessage = () => window.spent.push(performance.now() - event.timeStamp)
      channel.port2.postMessage(null)
    })
  }, true)
}"""


def measure() -> Iterator[Figure]:
    """Measure the first page and a key."""
    with running_browser() as browser:
        if browser is None:
            return
        with running_portal() as portal:
            yield from _measure_start(browser, portal)
        with running_portal() as portal:
            yield _measure_keys(browser, portal)


@contextmanager
def running_browser() -> Iterator[Browser | None]:
    """Run Debian's Chromium; where it or the page is missing, say so."""
    path = shutil.which("chromium")
    if path is None or not BUILT.exists():
        print("Not measured: install chromium, and run: make portal", file=sys.stderr)
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def sign_in(page: Page, portal: Portal) -> None:
    """Open the page of submissions as the laboratory's user."""
    page.goto(f"{portal.address}/submit")
    page.get_by_label("E-mail address").fill(LAB)
    page.get_by_label("Password", exact=True).fill("a long enough password")
    page.get_by_role("button", name="Sign in").click()


def _measure_start(browser: Browser, portal: Portal) -> Iterator[Figure]:
    seconds, script = [], 0.0
    for _ in range(TURNS):
        context = browser.new_context()
        context.add_init_script(WATCH_START)
        page = context.new_page()
        page.goto(portal.address)
        page.wait_for_function("() => window.interactive")
        seconds.append(page.evaluate("() => window.interactive"))
        script = page.evaluate(SCRIPT)
        context.close()
    yield Figure(
        "first page interactive, with nothing in the browser's cache", statistics.median(seconds), "s", below=1
    )
    yield Figure("script of the first page, compressed", script, "kB", below=300)


def _measure_keys(browser: Browser, portal: Portal) -> Figure:
    names = [f"Column {number}" for number in range(1, COLUMNS + 1)]
    texts = dict.fromkeys(("regexDescription", "longDescription", "example", "regExp", "dateTimeFmt"), "")
    flags = dict.fromkeys(("isMandatory", "isFile", "isSubmissionUnique", "isSiteUnique"), False)
    admin = portal.admin()
    for number, name in enumerate(names):
        admin.call("POST", "/metadata", {"name": name, "order": number, "serviceId": None, **texts, **flags})
    sheet = io.StringIO()
    csv.writer(sheet).writerows([names, *([f"value {row}"] * COLUMNS for row in range(ROWS))])
    page = browser.new_context().new_page()
    page.set_default_timeout(DEADLINE)
    sign_in(page, portal)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a sample sheet").click()
    chooser.value.set_files({"name": "run.csv", "mimeType": "text/csv", "buffer": sheet.getvalue().encode()})
    page.locator(f'[role=grid][aria-rowcount="{ROWS + 2}"]').wait_for()
    page.locator('[aria-rowindex="5"] > [aria-colindex="3"]').click()
    page.evaluate(WATCH_KEYS)
    for number in range(KEYS // 6):
        page.keyboard.type(f"v{number:03}")
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowRight")
    page.wait_for_function(f"() => window.spent.length === {KEYS}")
    spent: list[float] = page.evaluate("() => window.spent")
    page.context.close()
    return Figure(f"a key in a table of {ROWS:,} rows and {COLUMNS} columns", statistics.median(spent), "ms", below=50)
