"""The explorer of the API, in a real browser under its strict policy, as a stranger opens it."""

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from datameta.api import iterate_operations, load_spec
from tests.conftest import API, BASE_URL, Portal, assert_refused
from tests.e2e.conftest import Served, serve_cleanly

PAGE = f"{API}/"
TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "png": "image/png"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("explorer")
    with serve_cleanly(folder / "home", folder, "--demo") as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; where nothing may be left out, its absence is a failure."""
    path = shutil.which("chromium")
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Chromium is not installed")
    with sync_playwright() as playwright:
        # Root, as which tests may run in a container, has no sandbox.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The explorer, opened; at the end the browser must have had nothing to complain of."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.address + PAGE)
    page.wait_for_selector(".opblock")
    yield page
    page.close()
    # A breach of the policy is an error on the console, too.
    assert complaints == []
    assert [url for url in asked if not url.startswith((served.address + PAGE, "data:"))] == []


def test_its_page_and_files_are_public_and_nothing_else_is_there(portal: Portal) -> None:
    stranger = portal.anonymous()
    answer = stranger.get("")
    assert (answer.status_int, answer.headers["Location"]) == (302, BASE_URL + PAGE)
    page = stranger.get("/")
    assert page.status_int == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    addresses = re.findall(r'(?:href|src)="(explorer/[^"]+)"', page.text)
    assert len(addresses) == 5
    for address in addresses:
        file = stranger.get(f"/{address}")
        assert file.status_int == 200
        assert file.headers["Content-Type"] == TYPES[address.split("?")[0].rsplit(".", 1)[1]]
        assert file.headers["Cache-Control"] == "max-age=31536000"
        assert file.headers["X-Content-Type-Options"] == "nosniff"
    for address in ("/explorer/", "/explorer/index.html", "/explorer/../explorer.html", "/explorer/%2e%2e/__init__.py"):
        assert_refused(stranger.get(address), 404, ("unknown_address", None))
    for path in ("", "/", "/explorer/explorer.js"):
        answer = stranger.post(path)
        assert_refused(answer, 405, ("method_not_allowed", None))
        assert answer.headers["Allow"] == "GET"


def run(page: Page, path: str, method: str = "get") -> Locator:
    """Open an operation, execute it, and return the answer that is shown."""
    operation = page.locator(f".opblock-{method}", has=page.locator(f"[data-path='{path}']"))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response")
    answer.wait_for()
    return answer


def status_of(answer: Locator) -> str:
    return answer.locator(".response-col_status").inner_text().split()[0]


def test_it_shows_every_operation_of_the_specification(page: Page) -> None:
    assert page.locator(".opblock").count() == len(list(iterate_operations(load_spec())))
    assert page.locator(".info .title").inner_text().startswith("DataMeta")


def test_a_key_is_entered_once_and_an_operation_tried(page: Page, served: Served) -> None:
    page.locator(".auth-wrapper button.authorize").click()
    # Only the key: a page cannot set the cookie.
    assert page.locator(".auth-container input").count() == 1
    page.locator(".auth-container input").fill(served.read_demo()["lab_key"])
    page.locator(".auth-container button.authorize").click()
    page.locator(".auth-container button.btn-done").click()
    answer = run(page, "/rpc/whoami")
    assert status_of(answer) == "200"
    assert '"lab@demo.example"' in answer.inner_text()


def test_whoever_has_signed_in_can_change_things(page: Page, served: Served) -> None:
    email = "lab@demo.example"
    body = {"email": email, "password": served.read_demo()["passwords"][email]}
    assert page.request.post(f"{served.address}/api/v1/sessions", data=body).ok
    answer = run(page, "/sessions/current", "delete")
    assert status_of(answer) == "204", answer.inner_text()
