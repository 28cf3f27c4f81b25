"""Files sent by the page, whatever happens to it: to a portal with a local store, and straight to a Ceph store."""

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Response, Route, expect

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
    store: str
    """Where the bytes go: `site`, through the portal, or `direct`."""
    sent: list[str] = field(default_factory=list)
    """The addresses of the parts that somebody took, in the order of the answers."""

    def note(self, answer: Response) -> None:
        """Note an answer that the browser has got, if it is about a part."""
        if answer.request.method == "PUT" and PARTS.search(answer.url) and answer.ok:
            self.sent.append(answer.url)

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
        files = page.get_by_role("heading", name="Files", exact=True)
        # The rows are in one tab at a time; what another one sends goes on all the same.
        take_over = page.get_by_role("button", name="Go on here")
        files.or_(take_over).first.wait_for()
        if take_over.is_visible():
            take_over.click()
        expect(files).to_be_visible()
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
def make_lab(context: BrowserContext, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Lab]:
    """Return what makes the lab of a site by its fixture, with nothing staged."""

    def make(store: str) -> Lab:
        site: Site = request.getfixturevalue(store)
        lab = Lab(tmp_path / "files", site, context, site.served.open_lab(), store)
        lab.empty()
        context.on("response", lab.note)
        return lab

    return make


@pytest.fixture
def lab(make_lab: Callable[[str], Lab]) -> Lab:
    """The lab of the portal with a local store."""
    return make_lab("site")


@pytest.fixture(params=["site", "direct"])
def any_lab(make_lab: Callable[[str], Lab], request: pytest.FixtureRequest) -> Lab:
    """The lab of each portal."""
    return make_lab(request.param)


def choose(page: Page, *paths: Path) -> None:
    """Choose files by the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=re.compile("^(Choose files|Dateien wählen)$")).click()
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
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.page.route(PARTS, self._handle)

    def _handle(self, route: Route) -> None:
        if route.request.method != "PUT":
            route.continue_()
        elif self.is_closed:
            route.abort("internetdisconnected")
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

    def close_page(self) -> None:
        """Close the page; what is held never arrives, which it might if the browser were left to itself.

        Who hears that a part was lost sends it again; what is sent while the page closes nobody holds any more. So it
        sends nothing from here on.
        """
        self.page.evaluate("() => { XMLHttpRequest.prototype.send = () => undefined }")
        self.is_closed = True
        for route in self.held:
            route.abort("internetdisconnected")
        self.page.close()


def wait_for_parts(lab: Lab, page: Page, count: int) -> None:
    """Wait until so many parts have arrived."""
    while len(lab.sent) < count:
        page.wait_for_event("response", timeout=LONG)


def begin(lab: Lab, page: Page, count: int, *paths: Path) -> Gate:
    """Open the page and choose files, and wait until so many parts have arrived; the others are held."""
    gate = Gate(lab.open(page), count)
    choose(page, *paths)
    wait_for_parts(lab, page, count)
    return gate


def break_off(lab: Lab, page: Page, count: int, path: Path) -> Page:
    """Close a page that has sent so many parts of a file; return another one that says so."""
    begin(lab, page, count, path).close_page()
    again = lab.open(lab.context.new_page())
    expect_state(again, path.name, "Not complete")
    return again


def expect_parts(lab: Lab, page: Page, count: int) -> None:
    """Demand that so many parts have been taken in all; the last answers may not have been heard of yet."""
    wait_for_parts(lab, page, count)
    assert len(lab.sent) == count


def test_files_of_any_size_arrive_as_they_are(any_lab: Lab, page: Page) -> None:
    lab = any_lab
    sizes = {"empty.txt": 0, "small.csv": 1000, "just.bin": PART, "parts.bin": PART + 1, "Größe 80 %.bin": 5 * PART + 7}
    paths = [lab.write(name, size) for name, size in sizes.items()]
    lab.open(page)
    check_page(page, f"files-none-{lab.store}")
    choose(page, *paths)
    expect(page.get_by_text("All 5 files are here").first).to_be_visible(timeout=LONG)
    lab.check(*paths)
    # To the store a small file, too, goes as a part, its only one.
    expect_parts(lab, page, 2 + 6 + (3 if lab.store == "direct" else 0))
    check_page(page, f"files-all-{lab.store}")


def test_a_page_that_is_closed_in_the_middle_is_resumed_with_what_is_missing(any_lab: Lab, page: Page) -> None:
    lab = any_lab
    path = lab.write("reads.bin", 5 * PART + 7)
    again = break_off(lab, page, 3, path)
    expect(row(again, "reads.bin")).to_contain_text("50 MB of 84 MB")
    check_page(again, f"files-missing-{lab.store}")
    choose(again, path)
    expect_state(again, "reads.bin", "Here")
    lab.check(path)
    expect_parts(lab, again, 6)
    assert len(set(lab.sent)) == 6


def test_another_file_than_the_one_that_was_begun_is_refused_and_sent_on_request(lab: Lab, page: Page) -> None:
    path = lab.write("reads.bin", 2 * PART + 7)
    again = break_off(lab, page, 2, path)
    choose(again, lab.write("longer/reads.bin", 3 * PART))
    expect_state(again, "reads.bin", "Not sent")
    expect(row(again, "reads.bin")).to_contain_text("this one has 50 MB, that one 34 MB")
    # The same size and the same beginning: only what has arrived tells them apart.
    content = bytearray(path.read_bytes())
    for place in (PART, -1):
        content[place] ^= 1
    other = lab.folder / "other" / "reads.bin"
    other.parent.mkdir()
    other.write_bytes(content)
    choose(again, other)
    expect(row(again, "reads.bin")).to_contain_text("the content differs")
    check_page(again, "files-conflict")
    expect_parts(lab, again, 2)
    row(again, "reads.bin").get_by_role("button", name="Keep the former one").click()
    expect_state(again, "reads.bin", "Not complete")
    choose(again, other)
    row(again, "reads.bin").get_by_role("button", name="Send this one instead").click()
    again.get_by_role("dialog").get_by_role("button", name="Send this one instead").click()
    expect_state(again, "reads.bin", "Here")
    lab.check(other)


def test_what_is_there_already_is_not_sent_again_and_never_replaced_unasked(lab: Lab, page: Page) -> None:
    small, large = lab.write("small.csv", 1000), lab.write("large.bin", 2 * PART)
    other = lab.write("other/small.csv", 1000)
    choose(lab.open(page), small, large)
    expect(page.get_by_text("All 2 files are here").first).to_be_visible(timeout=LONG)
    before = {name: file["id"] for name, file in lab.staged().items()}
    page.reload()
    puts: list[str] = []
    page.on("request", lambda request: puts.append(request.url) if request.method == "PUT" else None)
    last = lab.write("last.csv", 10)
    choose(page, small, large, last)
    expect(page.get_by_text("All 3 files are here").first).to_be_visible(timeout=LONG)
    # Those that are looked at can be paused.
    expect(page.get_by_role("button", name=re.compile("^Pause"))).to_have_count(0)
    assert len([url for url in puts if "/upload/" in url]) == 1
    choose(page, other)
    expect(row(page, "small.csv")).to_contain_text("another file of this name, with other content")
    lab.check(small, large, last)
    row(page, "small.csv").get_by_role("button", name="Send this one instead").click()
    page.get_by_role("dialog").get_by_role("button", name="Send this one instead").click()
    expect_state(page, "small.csv", "Here")
    lab.check(other, large, last)
    assert before["large.bin"] == lab.staged()["large.bin"]["id"]
    assert before["small.csv"] != lab.staged()["small.csv"]["id"]


@pytest.mark.parametrize("size", [1000, 2 * PART + 7])
def test_bytes_that_are_spoilt_on_their_way_are_sent_again(lab: Lab, page: Page, size: int) -> None:
    path = lab.write("reads.bin", size)
    spoilt: list[Route] = []
    answers: list[int] = []

    def spoil(route: Route) -> None:
        is_first = size < PART or route.request.url.endswith("/1")
        if spoilt or not is_first:
            route.continue_()
            return
        spoilt.append(route)
        answer = route.fetch(post_data=b"?" * min(size, PART))
        answers.append(answer.status)
        route.fulfill(response=answer)

    lab.open(page).route(re.compile(r"/api/v1/upload/"), spoil)
    choose(page, path)
    expect_state(page, "reads.bin", "Here")
    lab.check(path)
    assert answers == [400 if size > PART else 204]


def test_pausing_stops_at_once_and_going_on_sends_the_rest(lab: Lab, page: Page) -> None:
    path = lab.write("reads.bin", 4 * PART + 7)
    gate = begin(lab, page, 2, path)
    page.get_by_role("button", name="Pause reads.bin").click()
    expect_state(page, "reads.bin", "Paused")
    check_page(page, "files-paused")
    gate.left, gate.held = 1_000_000, []
    page.get_by_role("button", name="Go on with all").click()
    expect_state(page, "reads.bin", "Here")
    lab.check(path)
    expect_parts(lab, page, 5)


def test_a_lost_connection_is_waited_for(lab: Lab, page: Page) -> None:
    path = lab.write("reads.bin", 4 * PART + 7)
    gate = begin(lab, page, 2, path)
    lab.context.set_offline(True)
    gate.open()
    expect(row(page, "reads.bin")).to_contain_text("can't be reached", timeout=LONG)
    lab.context.set_offline(False)
    expect_state(page, "reads.bin", "Here")
    lab.check(path)
    expect_parts(lab, page, 5)


def test_a_session_that_ends_meanwhile_is_renewed_and_the_upload_goes_on(lab: Lab, page: Page) -> None:
    path = lab.write("reads.bin", 2 * PART + 7)
    gate = begin(lab, page, 2, path)
    lab.context.clear_cookies()
    gate.open()
    dialog = page.get_by_role("dialog", name="Sign in again")
    dialog.get_by_label("Password", exact=True).fill(lab.site.passwords["lab"])
    dialog.get_by_role("button", name="Sign in").click()
    expect_state(page, "reads.bin", "Here")
    lab.check(path)
    expect_parts(lab, page, 3)


def test_a_file_that_changes_while_it_is_sent_is_refused(lab: Lab, page: Page) -> None:
    path = lab.write("reads.bin", 2 * PART + 7)
    gate = begin(lab, page, 1, path)
    with path.open("ab") as file:
        file.write(b"more")
    gate.open()
    expect_state(page, "reads.bin", "Not sent")
    expect(row(page, "reads.bin")).to_contain_text("was changed or moved since it was chosen")
    assert not lab.staged()["reads.bin"]["contentUploaded"]


def test_of_two_tabs_one_sends_a_file(lab: Lab, page: Page) -> None:
    paths = [lab.write("reads.bin", 3 * PART + 7), *(lab.write(f"s{number}.csv", 1000) for number in range(20))]
    gate = begin(lab, page, 1, *paths)
    other = lab.open(lab.context.new_page())
    expect(row(other, "reads.bin")).to_contain_text("Another tab of this browser is sending it")
    choose(other, *paths)
    expect(row(other, "reads.bin")).to_contain_text("Another tab of this browser is sending it")
    gate.open()
    expect(other.get_by_text("All 21 files are here").first).to_be_visible(timeout=LONG)
    lab.check(*paths)
    expect_parts(lab, other, 4)


def test_closing_the_tab_that_sends_lets_the_other_one_go_on(lab: Lab, page: Page) -> None:
    path = lab.write("reads.bin", 3 * PART + 7)
    gate = begin(lab, page, 2, path)
    other = lab.open(lab.context.new_page())
    choose(other, path)
    expect(row(other, "reads.bin")).to_contain_text("Another tab of this browser is sending it")
    gate.close_page()
    expect_state(other, "reads.bin", "Here")
    lab.check(path)
    expect_parts(lab, other, 4)


def test_a_full_quota_is_said_and_asked_about_again(lab: Lab, page: Page) -> None:
    settings = lab.site.call("site.admin", "GET", "/appsettings").json()
    quota = next(each["id"]["uuid"] for each in settings if each["key"] == "quota_user_bytes")

    def allow(size: str) -> None:
        answer = lab.site.call("site.admin", "PUT", f"/appsettings/{quota}", json={"value": size})
        assert answer.status_code == 204, answer.text

    paths = [lab.write("a.csv", 800), lab.write("b.csv", 800), lab.write("c.bin", 2 * PART)]
    allow("1000")
    try:
        choose(lab.open(page), *paths)
        refused = page.get_by_role("region", name="Files and how far").get_by_text("Delete what is not needed, or ask")
        expect(refused).to_have_count(2, timeout=LONG)
        check_page(page, "files-quota")
    finally:
        allow("0")
    page.get_by_role("button", name="Try all again").click()
    expect(page.get_by_text("All 3 files are here").first).to_be_visible(timeout=LONG)
    lab.check(*paths)


def test_two_thousand_files(lab: Lab, page: Page) -> None:
    paths = [lab.write(f"sample-{number:04}.fastq", 100 + number) for number in range(2000)]
    lab.open(page)
    # To hear of six thousand answers would take longer than the answers.
    lab.context.remove_listener("response", lab.note)
    choose(page, *paths)
    expect(row(page, "sample-0000.fastq")).to_be_visible()
    # Of the rows only those that are seen are there.
    assert page.get_by_role("region", name="Files and how far").get_by_role("listitem").count() < 50
    expect(page.get_by_text("All 2,000 files are here").first).to_be_visible(timeout=5 * LONG)
    check_page(page, "files-2000")
    staged: dict[str, Any] = {}
    cursor = ""
    while True:
        answer = lab.api.request("GET", f"/staged/files?limit=1000{cursor}")
        staged |= {file["name"]: file for file in answer.json()}
        if "next" not in answer.links:
            break
        cursor = f"&cursor={parse_qs(urlsplit(answer.links['next']['url']).query)['cursor'][0]}"
    assert len(staged) == 2000
    for path in paths:
        assert staged[path.name]["checksum"] == hashlib.md5(path.read_bytes()).hexdigest()
        assert staged[path.name]["contentUploaded"]
    lab.empty()


def test_leaving_is_asked_about_while_files_are_on_their_way(lab: Lab, page: Page) -> None:
    path = lab.write("reads.bin", 2 * PART)
    gate = begin(lab, page, 1, path)
    # Another page of the portal is no leaving.
    page.get_by_role("link", name="Account").click()
    page.get_by_role("link", name="Submit").click()
    expect_state(page, "reads.bin", "Sending")
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.close(run_before_unload=True)
    gate.open()
    expect_state(page, "reads.bin", "Here")
    assert asked == ["beforeunload"]


def test_removing_a_file_removes_it_at_the_portal(lab: Lab, page: Page) -> None:
    kept, gone, begun = lab.write("kept.csv", 10), lab.write("gone.csv", 10), lab.write("begun.bin", 2 * PART)
    begin(lab, page, 1, kept, gone, begun)
    expect_state(page, "gone.csv", "Here")
    expect_state(page, "kept.csv", "Here")
    for name in ("gone.csv", "begun.bin"):
        page.get_by_role("button", name=f"Remove {name}").click()
        page.get_by_role("dialog", name=f"Delete {name}?").get_by_role("button", name="Delete").click()
        expect(row(page, name)).to_have_count(0)
    lab.check(kept)


def test_files_are_dropped_anywhere_on_the_panel(lab: Lab, page: Page) -> None:
    lab.open(page)
    transfer = page.evaluate_handle(
        """() => { const data = new DataTransfer()
            for (const name of ['one.txt', 'two.txt']) data.items.add(new File([name], name))
            return data }"""
    )
    panel = page.get_by_role("region", name="Files", exact=True)
    panel.dispatch_event("dragenter", {"dataTransfer": transfer})
    expect(page.get_by_text("Drop the files here")).to_be_visible()
    panel.dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.get_by_text("All 2 files are here").first).to_be_visible(timeout=LONG)
    assert sorted(lab.staged()) == ["one.txt", "two.txt"]


def test_a_folder_is_dropped_with_all_that_is_in_it(lab: Lab, page: Page) -> None:
    """As from a file manager: what a page makes itself is no folder."""
    paths = [lab.write("run7/one.txt", 100), lab.write("run7/lane 2/two.txt", 200)]
    lab.write("run7/.hidden", 10)
    lab.open(page)
    panel = page.get_by_role("region", name="Files", exact=True)
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    assert box is not None
    browser = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(lab.folder / "run7")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 20}
        browser.send("Input.dispatchDragEvent", {"type": kind, "data": data, **where})
    expect(page.get_by_text("All 2 files are here").first).to_be_visible(timeout=LONG)
    lab.check(*paths)


def test_a_single_file_is_spoken_of_in_the_singular(lab: Lab, page: Page) -> None:
    path = lab.write("reads.bin", 2 * PART)
    gate = begin(lab, page, 1, path)
    panel = page.get_by_role("region", name=re.compile("^(Files|Dateien)$"))
    expect(panel).to_contain_text("The file is not here yet")
    gate.open()
    expect(panel).to_contain_text("The file is here", timeout=LONG)
    page.get_by_label("Language").select_option("de")
    expect(panel).to_contain_text("Die Datei ist da")


def test_german_on_a_phone(lab: Lab, page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    path = lab.write("ein-sehr-langer-name-einer-datei-wie-sie-geraete-gern-vergeben_L001_R1_001.fastq.gz", 2 * PART)
    Gate(lab.open(page), 1)
    page.get_by_label("Language").select_option("de")
    choose(page, path)
    wait_for_parts(lab, page, 1)
    expect(page.get_by_role("listitem").filter(has_text=path.name).locator(".badge")).to_have_text("Wird gesendet")
    check_page(page, "files-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
