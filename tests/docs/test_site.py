"""The documents are a site: each link in them leads somewhere, and nothing in it comes from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs import DOCS, check_document

ROOT = DOCS.parent
TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGES.md")
LINK = re.compile(r"\]\(([^)\s]+)\)")
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches by itself; links wait for somebody to follow them."""
FORTY_LINES = 40


class Loads(HTMLParser):
    """Collects the addresses that a page makes a browser fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name == LOADED.get(tag) and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does; a link or an anchor that leads nowhere, or a page without a place, fails."""
    folder = tmp_path_factory.mktemp("site")
    mkdocs = [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--quiet", "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(mkdocs, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    pages = {path.stem for path in site.glob("*.html")}
    assert {path.stem for path in DOCS.glob("*.md")} | {"changes", "contributing", "security"} <= pages


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        loaded = Loads(text).found
        assert loaded, page
        assert [address for address in loaded if re.match("([a-z]+:)?//", address)] == [], page
        assert re.findall(r"url\(['\"]?(?:https?:)?//", text) == [], page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//", sheet.read_text("utf-8")) == [], sheet


def test_the_site_has_the_files_that_pages_link_to(site: Path) -> None:
    linked = {link for page in DOCS.glob("*.md") for link in LINK.findall(page.read_text("utf-8"))}
    files = {link.removeprefix("../") for link in linked if link.startswith("../") and not link.endswith(".md")}
    assert "openapi.yaml" in files
    for name in files:
        assert (site / "files" / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize("name", TOP)
def test_links_at_the_top_of_the_repository_lead_somewhere(name: str) -> None:
    for link in LINK.findall((ROOT / name).read_text("utf-8")):
        if not re.match("[a-z]+:", link):
            path, _, anchor = link.partition("#")
            assert (ROOT / path).exists(), link
            assert not anchor, "headings of other pages are compared in the site only"


def test_the_bot_of_the_tutorial_is_the_one_that_is_tested_and_has_forty_lines() -> None:
    code = (ROOT / "examples/bot/bot.py").read_text("utf-8")
    assert code.count("\n") <= FORTY_LINES
    unit = (ROOT / "examples/bot/datameta-bot.service").read_text("utf-8")
    text = (DOCS / "tutorial-bot.md").read_text("utf-8")
    for fence, content in (("```python\n", code), ("```ini\n", unit)):
        before, after = text.split(fence)
        text = before + fence + content + after[after.index("```\n") :]
    check_document("tutorial-bot.md", text)
