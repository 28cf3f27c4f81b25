"""From a sample sheet to the receipt, in the browser: what is wrong is mended in the table, and nothing is lost or sent twice."""

import csv
import hashlib
import io
import json
import re
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, Page, Route, expect

from tests.portal.conftest import Site, check_page, email_of, sign_in

FIELDS = ["Lab-ID", "Sampling date", "ZIPCode", "Sequencing platform", "FileR1", "FileR2"]
NUMBERS = count(1)
SLOWEST_KEY = 250
"""Milliseconds, on the slowest of machines; what is aimed at is 50."""


def name_samples(number: int) -> list[str]:
    """Return ids of samples that no other test has."""
    return [f"S{next(NUMBERS):05}" for _ in range(number)]


def make_rows(samples: list[str], **changed: str) -> list[list[str]]:
    """Return rows in which nothing is wrong, but for what is changed, by field."""
    rows = []
    for sample in samples:
        values = dict(zip(FIELDS, [sample, "2026-03-14", "720", "Illumina", f"{sample}_R1.fq", ""], strict=True))
        rows.append(list((values | changed).values()))
    return rows


def make_csv(rows: list[list[str]], header: list[str] = FIELDS) -> bytes:
    """Return a sheet."""
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()


def upload(site: Site, who: str, *names: str) -> None:
    """Send and confirm a file for each name, over the API."""
    with requests.Session() as session:
        body = {"email": email_of(who), "password": site.passwords[who]}
        token = session.post(f"{site.address}/api/v1/sessions", json=body, timeout=60).json()["csrfToken"]
        session.headers["X-CSRF-Token"] = token
        for name in names:
            content = f"reads of {name}".encode()
            announced = {"name": name, "checksum": hashlib.md5(content).hexdigest()}
            file = session.post(f"{site.address}/api/v1/files", json=announced, timeout=60).json()
            sent = requests.put(file["urlToUpload"], data=content, headers=file["requestHeaders"], timeout=60)
            assert sent.ok, sent.text
            path = f"{site.address}/api/v1/files/{file['id']['uuid']}"
            assert session.put(path, json={"contentUploaded": True}, timeout=60).status_code == 200


def choose_sheet(page: Page, content: bytes, name: str = "run7.csv") -> None:
    """Choose a sheet by the button."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a sample sheet").click()
    chooser.value.set_files({"name": name, "mimeType": "text/csv", "buffer": content})


def find_cell(page: Page, row: int, field: str) -> Locator:
    """Return a cell by the number of its row and its field."""
    return page.locator(f'[aria-rowindex="{row + 1}"] > [aria-colindex="{FIELDS.index(field) + 2}"]')


def type_into(page: Page, row: int, field: str, value: str) -> None:
    """Click a cell and type."""
    find_cell(page, row, field).click()
    page.keyboard.type(value)
    page.keyboard.press("Enter")


def open_page(page: Page, site: Site, who: str = "lab") -> Locator:
    """Open the page as somebody and return the table."""
    sign_in(page, site, who, "/submit")
    grid = page.get_by_role("grid", name=re.compile("Samples|Proben"))
    expect(grid).to_be_visible()
    return grid


def find_bar(page: Page) -> Locator:
    """Return what says what is missing."""
    return page.get_by_role("region", name=re.compile("What is missing|Was fehlt"))


def submit(page: Page) -> str:
    """Submit and return the receipt's id."""
    page.get_by_role("button", name=re.compile("^(Submit|Einreichen)$")).click()
    heading = page.get_by_role("heading", name=re.compile("^(Submitted|Eingereicht): "))
    expect(heading).to_be_visible()
    return heading.inner_text().split(": ")[1]


def count_submitted(site: Site, sample: str, who: str = "lab") -> int:
    """Return in how many submitted sets a sample is."""
    answer = site.call(who, "GET", "/metadatasets")
    sets = answer.json() if answer.status_code == 200 else []
    return sum(one["record"]["Lab-ID"] == sample for one in sets)


def test_a_sheet_with_mistakes_is_mended_and_submitted(page: Page, site: Site, tmp_path: Path) -> None:
    samples = name_samples(4)
    rows = make_rows(samples, **{"Sequencing platform": "MiSeq"})
    rows[2][1] = "14.03.2026"
    rows[3][2] = "7200"
    upload(site, "lab", *[row[4] for row in rows])
    open_page(page, site)
    check_page(page, "submit-empty")
    choose_sheet(page, make_csv(rows))
    bar = find_bar(page)
    expect(bar).to_contain_text("4 rows with errors.")
    expect(page.get_by_role("button", name="Submit", exact=True)).to_be_disabled()
    bar.get_by_role("button", name="Go to the first").click()
    expect(find_cell(page, 1, "Sequencing platform")).to_be_focused()
    check_page(page, "submit-errors")
    # One suggestion for all that are alike, one by its key, and one that has to be typed.
    page.get_by_role("button", name="In all 4 cells like this").click()
    expect(bar).to_contain_text("2 rows with errors.")
    page.get_by_role("button", name="Next problem").click()
    expect(find_cell(page, 3, "Sampling date")).to_be_focused()
    page.keyboard.press("Alt+Enter")
    expect(find_cell(page, 3, "Sampling date")).to_have_text("2026-03-14")
    page.keyboard.press("F8")
    expect(find_cell(page, 4, "ZIPCode")).to_be_focused()
    page.keyboard.type("720")
    page.keyboard.press("Enter")
    expect(bar).to_contain_text("Ready to submit 4 rows and 4 files.")
    check_page(page, "submit-ready")
    page.get_by_label("Name of the submission").fill("Run 7")
    receipt = submit(page)
    expect(page).to_have_url(f"{site.address}/submit?receipt={receipt}")
    expect(page.get_by_role("cell", name=rows[0][4], exact=True)).to_be_visible()
    expect(page.get_by_text("Run 7")).to_be_visible()
    check_page(page, "receipt")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as JSON").click()
    path = tmp_path / "receipt.json"
    download.value.save_as(path)
    saved = json.loads(path.read_text("utf-8"))
    assert (saved["id"]["site"], saved["label"], len(saved["metadatasetIds"])) == (receipt, "Run 7", 4)
    wanted = {row[4]: hashlib.md5(f"reads of {row[4]}".encode()).hexdigest() for row in rows}
    assert {file["name"]: file["checksum"] for file in saved["files"]} == wanted
    assert [count_submitted(site, sample) for sample in samples] == [1, 1, 1, 1]
    # The next time there is nothing left of it.
    page.get_by_role("link", name="Submit more").click()
    expect(bar).to_contain_text("There is no row yet.")
