"""Files sent by the page, whatever happens to it: to a portal with a local store, and straight to a Ceph store."""

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Request, Route, expect

from tests.e2e.conftest import Api, serve_cleanly
from tests.e2e.test_s3_rgw import make_store
from tests.portal.conftest import Site, check_page, open_site, sign_in
from tests.rgw import RGW

PART = 16 << 20
PARTS = re.compile(r"/api/v1/upload/[^/?]+/\d+$|[?&]partNumber=")
"""Where parts go: to the portal, or to the store."""
LONG = 120_000


@pytest.fixture(scope="module")
def direct(rgw: RGW, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A demo portal whose pages send straight to a Ceph store."""
    folder = tmp_path_factory.mktemp("direct")
    store = make_store(rgw)
    with serve_cleanly(folder / "home", folder, "--demo", variables=store.settings) as served:
        rule = {
            "AllowedOrigins": [served.address],
            "AllowedMethods": ["PUT", "GET"],
            "AllowedHeaders": ["content-md5", "content-type"],
        }
        store.client.put_bucket_cors(Bucket=store.bucket, CORSConfiguration={"CORSRules": [rule]})
        yield open_site(served)


@dataclass
class Lab:
    """A laboratory's computer: its files, its browser, and what it sees of the portal past the browser."""

    folder: Path
    site: Site
    context: BrowserContext
    api: Api
    sent: list[str] = field(default_factory=list)
    """The addresses of the parts that somebody took, in the order of the answers."""

    def write(self, name: str, size: int, seed: str = "") -> Path:
        """Write a file of random bytes, always the same for a name, a size and a seed."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(f"{name} {size} {seed}").randbytes(size))
        return path

    def open(self, page: Page, path: str = "/submit") -> Page:
        """Open the page as the lab, signing in if need be."""
        page.goto(self.site.address + path)
        page.get_by_role("heading", name=re.compile("Sign in|Submit")).first.wait_for()
        if page.get_by_role("heading", name="Sign in").is_visible():
            sign_in(page, self.site, "lab", path)
        expect(page.get_by_role("heading", name="Files", exact=True)).to_be_visible()
        return page

    def staged(self) -> dict[str, Any]:
        """Return the user's files that are not submitted, by name; none is there twice."""
        files = self.api.call("GET", "/staged/files?limit=1000")
        by_name = {file["name"]: file for file in files}
        assert len(by_name) == len(files), files
        return by_name

    def check(self, *paths: Path) -> None:
        """Demand that the portal has exactly these files, and what they contain."""
        staged = self.staged()
        assert sorted(staged) == sorted(path.name for path in paths)
        for path in paths:
            file = staged[path.name]
            assert file["contentUploaded"], file
            with path.open("rb") as opened:
                assert file["checksum"] == hashlib.file_digest(opened, "md5").hexdigest()
            assert file["filesize"] == path.stat().st_size

    def empty(self) -> None:
        """Delete what is staged."""
        while files := self.api.call("GET", "/staged/files?limit=1000"):
            ids = [file["id"]["uuid"] for file in files]
            self.api.call("POST", "/rpc/delete-files", {"fileIds": ids}, status=204)


@pytest.fixture
def make_lab(context: BrowserContext, tmp_path: Path) -> Callable[[Site], Lab]:
    """Return what makes the lab of a site, with nothing staged."""

    def make(site: Site) -> Lab:
        lab = Lab(tmp_path / "files", site, context, site.served.open_lab())
        lab.empty()

        def note(request: Request) -> None:
            answer = request.response()
            if request.method == "PUT" and PARTS.search(request.url) and answer is not None and answer.ok:
                lab.sent.append(request.url)

        context.on("requestfinished", note)
        return lab

    return make


@pytest.fixture
def lab(make_lab: Callable[[Site], Lab], site: Site) -> Lab:
    """The lab of the portal with a local store."""
    return make_lab(site)


def choose(page: Page, *paths: Path) -> None:
    """Choose files by the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(paths)


def row(page: Page, name: str) -> Locator:
    """Return the row of a file."""
    return page.get_by_role("region", name="Files and how far").get_by_role("listitem").filter(has_text=name)


def expect_state(page: Page, name: str, state: str) -> None:
    """Wait until a file is in a state."""
    expect(row(page, name).locator(".badge")).to_have_text(state, timeout=LONG)


@dataclass
class Gate:
    """Lets so many parts through; the others wait until it is opened, or for ever."""

    page: Page
    left: int
    held: list[Route] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.route(PARTS, self._handle)

    def _handle(self, route: Route) -> None:
        if route.request.method != "PUT":
            route.continue_()
        elif self.left > 0:
            self.left -= 1
            route.continue_()
        else:
            self.held.append(route)

    def open(self) -> None:
        """Let all go on."""
        self.left = 1_000_000
        for route in self.held:
            route.continue_()


def wait_for_parts(lab: Lab, page: Page, count: int) -> None:
    """Wait until so many parts have arrived."""
    while len(lab.sent) < count:
        page.wait_for_event("requestfinished", timeout=LONG)


@pytest.mark.parametrize("store", ["site", "direct"])
def test_files_of_any_size_arrive_as_they_are(
    store: str, request: pytest.FixtureRequest, make_lab: Callable[[Site], Lab], page: Page
) -> None:
    lab = make_lab(request.getfixturevalue(store))
    sizes = {"empty.txt": 0, "small.csv": 1000, "just.bin": PART, "parts.bin": PART + 1, "Größe 80 %.bin": 5 * PART + 7}
    paths = [lab.write(name, size) for name, size in sizes.items()]
    lab.open(page)
    check_page(page, f"files-none-{store}")
    choose(page, *paths)
    expect(page.get_by_text("All 5 files are here").first).to_be_visible(timeout=LONG)
    lab.check(*paths)
    assert len(lab.sent) == 2 + 6
    check_page(page, f"files-all-{store}")
