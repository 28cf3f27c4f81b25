"""The browser application over a real portal, in Debian's Chromium, as people use it.

``page`` must have had nothing to complain of at its end: no error on the console, no breach of the policy.
"""

import io
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.e2e.conftest import REPOSITORY, Served, serve_cleanly

AXE = REPOSITORY / "frontend/node_modules/axe-core/axe.min.js"
BUILT = REPOSITORY / "datameta/web/portal/index.html"
RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]},
    "dark": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
}
"""By colour scheme: all rules of WCAG, then those again that are about colours, in which alone the schemes differ."""
REFUSED = re.compile(
    r"Failed to load resource: (the server responded with a status of 4\d\d|net::ERR_(INTERNET_DISCON|UPLOAD_FILE_CH))"
)
"""What Chromium says of every refusal, lost connection and changed file, also of those that the page expects."""
Found = TypeVar("Found")
DEADLINE_SECONDS = 60
SCREENSHOTS = os.environ.get("DATAMETA_SCREENSHOTS")
"""Where pictures of the pages go; without it none are taken."""
LONGEST_PICTURE = 1900


@dataclass
class Site:
    """A demo portal: where it is, and its users' passwords by the first word of their address."""

    served: Served
    address: str
    passwords: dict[str, str]

    def call(self, who: str, method: str, path: str, **rest: Any) -> requests.Response:
        """Make a call of the API as a user, by a session of their own."""
        with requests.Session() as session:
            body = {"email": email_of(who), "password": self.passwords[who]}
            answer = session.post(f"{self.address}/api/v1/sessions", json=body, timeout=60)
            assert answer.status_code == 200, answer.text
            session.headers["X-CSRF-Token"] = answer.json()["csrfToken"]
            return session.request(method, f"{self.address}/api/v1{path}", timeout=60, **rest)


def email_of(who: str) -> str:
    """Return the address of a user of the demo: lab, group.admin, site.read, site.admin, other.lab, bot."""
    return f"{who}@demo.example"


def wait_for(find: Callable[[], Found | None], page: Page | None = None) -> Found:
    """Wait for what no page shows, and return it; whatever else the page has to do goes on meanwhile."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := find()):
        assert time.monotonic() < deadline, "it has not come"
        if page:
            page.wait_for_timeout(100)
        else:
            time.sleep(0.1)
    return found


def read_mails(site: Site, to: str) -> list[EmailMessage]:
    """Return the mails to somebody, the oldest first."""
    paths = sorted((site.served.home / "mail").glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
    mails = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in paths]
    return [mail for mail in mails if mail["To"] == to]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; where nothing may be left out, its absence is a failure.

    One for each module: as long as Playwright runs, its event loop is that of the process, and no job's can be.
    """
    path = shutil.which("chromium")
    for message in ([] if path else ["Chromium is not installed"]) + ([] if BUILT.exists() else ["run: make portal"]):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    with sync_playwright() as playwright:
        # Root, as which tests may run in a container, has no sandbox.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A demo portal of this module with local storage."""
    folder = tmp_path_factory.mktemp("portal")
    with serve_cleanly(folder / "home", folder, "--demo") as served:
        yield open_site(served)


def open_site(served: Served) -> Site:
    """Return a demo portal as its users see it."""
    passwords = served.read_demo()["passwords"]
    return Site(served, served.address, {email.split("@")[0]: word for email, word in passwords.items()})


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser of somebody's own, in English and in Berlin."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, locale="en-GB", timezone_id="Europe/Berlin", accept_downloads=True
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    yield context
    context.close()


@pytest.fixture
def watch() -> Iterator[Callable[[Page], Page]]:
    """Watch a page; at the end of the test none may have complained."""
    complaints: list[str] = []

    def watch(page: Page) -> Page:
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type in ("error", "warning") and not REFUSED.match(message.text)
                else None
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield watch
    assert complaints == []


@pytest.fixture
def page(context: BrowserContext, watch: Callable[[Page], Page]) -> Page:
    """A page of a browser without a session."""
    return watch(context.new_page())


def sign_in(page: Page, site: Site, who: str, path: str = "/") -> None:
    """Open a page as somebody: they are asked to sign in first, and get where they wanted."""
    page.goto(site.address + path)
    page.get_by_label("E-mail address").fill(email_of(who))
    page.get_by_label("Password", exact=True).fill(site.passwords[who])
    page.get_by_role("button", name="Sign in").click()
    # Beside a dialog, with which a page may open, everything else is hidden from who can't see it.
    expect(page.get_by_role("button", name=re.compile("Sign out|Abmelden"), include_hidden=True)).to_be_visible()


@contextmanager
def unrolled(page: Page) -> Iterator[None]:
    """Make the window as high as the page: no bar at its edges then lies over half of a button, and all is judged."""
    before, offset = page.viewport_size, page.evaluate("scrollY")
    assert before is not None
    height = before["height"]
    # What takes a share of the window grows with it, up to its own limit.
    while (wanted := page.evaluate("document.documentElement.scrollHeight")) > height:
        height = wanted
        page.set_viewport_size({"width": before["width"], "height": height})
    yield
    page.set_viewport_size(before)
    page.evaluate("offset => scrollTo(0, offset)", offset)


def check_page(page: Page, name: str) -> None:
    """Demand that nobody is shut out, in both colour schemes (WCAG 2.2 A and AA), and take the pictures."""
    with unrolled(page):
        for scheme in ("light", "dark"):
            check_scheme(page, name, scheme)
    page.emulate_media(color_scheme="light")


def check_scheme(page: Page, name: str, scheme: Literal["light", "dark"]) -> None:
    """Demand it of one colour scheme."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    # A page hears of it with the next frame.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("rules => axe.run({ runOnly: rules })", RULES[scheme])
    assert [
        (violation["id"], violation["help"], [node["html"][:200] for node in violation["nodes"][:5]])
        for violation in found["violations"]
    ] == [], f"{name}, {scheme}"
    if SCREENSHOTS:
        take_picture(page, Path(SCREENSHOTS) / f"{name}-{scheme}.png")


def take_picture(page: Page, path: Path) -> None:
    """Write what the page looks like, down to where a picture becomes too long, in as many colours as a page needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(page.screenshot(full_page=True))) as taken:
        seen = taken.convert("RGB").crop((0, 0, taken.width, min(taken.height, LONGEST_PICTURE)))
    seen.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
