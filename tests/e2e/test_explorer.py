"""The explorer of the API, in a real browser under its strict policy, as a stranger opens it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from datameta.api import iterate_operations, load_spec
from tests.e2e.conftest import Served, serve_cleanly

PAGE = "/api/v1/"


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
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("?")[0].rsplit("/api/", 1)[0]))
    page.goto(served.address + PAGE)
    page.wait_for_selector(".opblock")
    yield page
    page.close()
    # A breach of the policy is an error on the console, too.
    assert complaints == []
    assert hosts == {served.address}


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
