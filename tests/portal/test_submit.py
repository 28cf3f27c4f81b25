"""From a sample sheet to the receipt, in the browser: mended in the table, and nothing is lost or sent twice."""

import csv
import hashlib
import io
import json
import re
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
from openpyxl import Workbook, load_workbook
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from tests.e2e.conftest import REPOSITORY, serve_cleanly
from tests.portal.conftest import SCREENSHOTS, Site, check_page, email_of, open_site, sign_in, wait_for

FIELDS = ["Lab-ID", "Sampling date", "ZIPCode", "Sequencing platform", "FileR1", "FileR2"]
NOTES = [f"Note {number}" for number in range(1, 15)]
NUMBERS = count(1)


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


def sign_out(page: Page) -> None:
    """End the session."""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def find_bar(page: Page) -> Locator:
    """Return what says what is missing."""
    return page.get_by_role("region", name=re.compile("What is missing|Was fehlt"))


def submit(page: Page) -> str:
    """Submit and return the receipt's id."""
    page.get_by_role("button", name=re.compile("^(Submit|Einreichen)$")).click()
    heading = page.get_by_role("heading", name=re.compile("^(Submitted|Eingereicht): "))
    expect(heading).to_be_visible()
    return heading.inner_text().split(": ")[1]


def drop(page: Page, files: list[tuple[str, bytes]]) -> None:
    """Drop files on the page."""
    page.evaluate(
        """files => {
            const data = new DataTransfer()
            for (const [name, text] of files) data.items.add(new File([text], name))
            for (const type of ['dragover', 'drop'])
                document.body.dispatchEvent(
                    new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }))
        }""",
        [[name, content.decode()] for name, content in files],
    )


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
    expect(page.get_by_text("All 4 files are here").first).to_be_visible()
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


def paste(page: Page, text: str) -> None:
    """Paste as from a spreadsheet."""
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    page.keyboard.press("Control+V")


def as_block(rows: list[list[str]]) -> str:
    """Return rows as a spreadsheet copies them."""
    return "".join("\t".join(row) + "\n" for row in rows)


def test_blocks_are_pasted_filled_down_copied_and_undone(page: Page, site: Site) -> None:
    samples = name_samples(3)
    open_page(page, site)
    find_cell(page, 1, "Lab-ID").click()
    paste(page, as_block([[sample, "2026-03-14"] for sample in samples]))
    expect(page.get_by_text("3 rows pasted.")).to_be_visible()
    expect(find_cell(page, 3, "Sampling date")).to_have_text("2026-03-14")
    type_into(page, 1, "ZIPCode", "720")
    find_cell(page, 1, "ZIPCode").click()
    for _ in samples[1:]:
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Control+D")
    expect(find_cell(page, 3, "ZIPCode")).to_have_text("720")
    # A single value is pasted into the whole selection, which the pointer may have made.
    find_cell(page, 1, "Sequencing platform").hover()
    page.mouse.down()
    find_cell(page, 3, "Sequencing platform").hover()
    page.mouse.up()
    paste(page, "Illumina")
    expect(find_cell(page, 2, "Sequencing platform")).to_have_text("Illumina")
    page.keyboard.press("Control+A")
    page.keyboard.press("Control+C")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert copied.splitlines() == [f"{sample}\t2026-03-14\t720\tIllumina\t\t" for sample in samples]
    page.keyboard.press("Delete")
    expect(find_bar(page)).to_contain_text("There is no row yet.")
    for _ in range(3):
        page.keyboard.press("Control+Z")
    expect(find_cell(page, 3, "Sequencing platform")).to_have_text("")
    expect(find_cell(page, 3, "ZIPCode")).to_have_text("")
    expect(find_cell(page, 3, "Lab-ID")).to_have_text(samples[2])
    page.keyboard.press("Control+Y")
    expect(find_cell(page, 3, "ZIPCode")).to_have_text("720")
    page.get_by_role("button", name="Undo").click()
    expect(find_cell(page, 3, "ZIPCode")).to_have_text("")


def test_a_block_with_a_header_finds_its_columns(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    open_page(page, site)
    find_cell(page, 1, "ZIPCode").click()
    paste(page, as_block([["zipcode", "note", "LAB ID"], ["720", "fresh", sample]]))
    expect(page.get_by_text("columns were matched by their names")).to_be_visible()
    expect(find_cell(page, 1, "Lab-ID")).to_have_text(sample)
    expect(find_cell(page, 1, "ZIPCode")).to_have_text("720")


def test_values_stay_what_they_are(page: Page, site: Site) -> None:
    """Nothing is trimmed, turned into a number, or broken by a quotation mark."""
    [sample] = name_samples(1)
    name = f'{sample} "a", é\u0301.fq'
    upload(site, "lab", name)
    open_page(page, site)
    find_cell(page, 1, "Lab-ID").click()
    paste(page, as_block([[f" 00{sample}", "2026-03-14", "007", "Illumina"]]))
    type_into(page, 1, "FileR1", name)
    bar = find_bar(page)
    expect(bar).to_contain_text("1 warning;")
    expect(bar).to_contain_text("Ready to submit")
    submit(page)
    assert count_submitted(site, f" 00{sample}") == 1


def test_words_are_chosen_from_a_list(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    open_page(page, site)
    type_into(page, 1, "Lab-ID", sample)
    find_cell(page, 1, "Sequencing platform").dblclick()
    field = page.get_by_role("combobox", name="Sequencing platform, row 1")
    options = page.get_by_role("listbox").get_by_role("option")
    expect(options).to_have_text(["Illumina", "Oxford Nanopore", "PacBio", "Other"])
    check_page(page, "submit-words")
    field.press_sequentially("pa")
    expect(options).to_have_text(["PacBio"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(find_cell(page, 1, "Sequencing platform")).to_have_text("PacBio")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("F2")
    options.get_by_text("Other").click()
    expect(find_cell(page, 1, "Sequencing platform")).to_have_text("Other")
    # What is given up changes nothing.
    page.keyboard.press("F2")
    page.keyboard.type("x")
    page.keyboard.press("Escape")
    expect(find_cell(page, 1, "Sequencing platform")).to_have_text("Other")


def test_equal_values_and_files_are_told_at_once(page: Page, site: Site) -> None:
    samples = name_samples(2)
    rows = make_rows(samples)
    open_page(page, site)
    choose_sheet(page, make_csv(rows))
    bar = find_bar(page)
    expect(bar).to_contain_text("2 files that were not sent:")
    expect(bar).to_contain_text(f"{rows[0][4]}, {rows[1][4]}")
    type_into(page, 2, "Lab-ID", samples[0])
    type_into(page, 2, "FileR1", rows[0][4])
    expect(bar).to_contain_text("2 rows with errors.")
    find_cell(page, 2, "FileR1").click()
    expect(page.get_by_text("This file is named more than once.")).to_be_visible()
    page.keyboard.press("Control+Z")
    page.keyboard.press("Control+Z")
    expect(bar).not_to_contain_text("with errors")


def test_a_column_tells_what_it_takes(page: Page, site: Site) -> None:
    open_page(page, site)
    find_cell(page, 1, "ZIPCode").click()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("columnheader", name="ZIPCode")).to_be_focused()
    expect(page.get_by_text("The first three digits of the postal code.")).to_be_visible()
    expect(page.get_by_text("Example: 720")).to_be_visible()
    check_page(page, "submit-column")


def test_by_the_keyboard_alone_from_sign_in_to_receipt(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    upload(site, "lab", f"{sample}_R1.fq")
    keys = page.keyboard

    def go_to(target: Locator, key: str = "Tab") -> None:
        for _ in range(80):
            if target.evaluate_all("found => found.includes(document.activeElement)"):
                return
            keys.press(key)
        pytest.fail(f"The keyboard does not get to {target}")

    page.goto(f"{site.address}/submit")
    go_to(page.get_by_label("E-mail address"))
    keys.type(email_of("lab"))
    go_to(page.get_by_label("Password", exact=True))
    keys.type(site.passwords["lab"])
    keys.press("Enter")
    expect(page.get_by_role("grid")).to_be_visible()
    go_to(page.get_by_role("gridcell"))
    for value in (sample, "14.3.2026", "720", "MiSeq", f"{sample}_R1.fq"):
        keys.type(value)
        keys.press("Tab")
    expect(find_bar(page)).to_contain_text("1 row with errors.")
    keys.press("F8")
    expect(page.get_by_role("button", name="Use “")).to_be_visible()
    # The suggestion is behind the cell, and the cell gets the keys back.
    keys.press("Tab")
    expect(page.get_by_role("button", name="Use “2026-03-14”")).to_be_focused()
    keys.press("Enter")
    expect(find_cell(page, 1, "Sampling date")).to_be_focused()
    keys.press("F8")
    expect(find_cell(page, 1, "Sequencing platform")).to_be_focused()
    keys.press("Alt+Enter")
    expect(find_bar(page)).to_contain_text("Ready to submit 1 row and 1 file.")
    go_to(page.get_by_role("button", name="Submit", exact=True))
    keys.press("Enter")
    expect(page.get_by_role("heading", name=re.compile("Submitted: "))).to_be_visible()
    assert count_submitted(site, sample) == 1


def test_a_session_that_ends_while_typing_loses_nothing(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    open_page(page, site)
    type_into(page, 1, "Lab-ID", sample)
    expect(find_bar(page)).to_contain_text("1 row with errors.")
    page.context.clear_cookies()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.type("2026-03-14")
    page.keyboard.press("Tab")
    page.keyboard.type("72")
    dialog = page.get_by_role("dialog", name="Sign in again")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Password", exact=True).fill(site.passwords["lab"])
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    expect(find_cell(page, 1, "Lab-ID")).to_have_text(sample)
    expect(find_cell(page, 1, "Sampling date")).to_have_text("2026-03-14")
    expect(find_cell(page, 1, "ZIPCode")).to_have_text("72")
    expect(find_cell(page, 1, "ZIPCode")).to_have_attribute("aria-invalid", "true")


def test_a_reload_while_typing_loses_nothing(page: Page, site: Site) -> None:
    samples = name_samples(3)
    open_page(page, site)
    choose_sheet(page, make_csv(make_rows(samples, ZIPCode="7")))
    expect(find_bar(page)).to_contain_text("3 rows with errors.")
    page.get_by_label("Name of the submission").fill("Run 8")
    type_into(page, 2, "ZIPCode", "721")
    find_cell(page, 3, "ZIPCode").click()
    page.keyboard.type("72")
    page.reload()
    expect(page.get_by_text("These are your rows of")).to_be_visible()
    expect(page.get_by_label("Name of the submission")).to_have_value("Run 8")
    expect(find_cell(page, 1, "ZIPCode")).to_have_text("7")
    expect(find_cell(page, 2, "ZIPCode")).to_have_text("721")
    expect(find_cell(page, 3, "ZIPCode")).to_have_text("72")
    expect(find_bar(page)).to_contain_text("2 rows with errors.")
    check_page(page, "submit-resumed")
    page.get_by_role("button", name="Start anew").click()
    page.get_by_role("button", name="Remove the rows").click()
    expect(find_bar(page)).to_contain_text("There is no row yet.")
    page.reload()
    expect(find_bar(page)).to_contain_text("There is no row yet.")
    expect(page.get_by_text("These are your rows of")).to_be_hidden()


def test_another_user_of_the_browser_sees_nothing_of_it(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    open_page(page, site)
    type_into(page, 1, "Lab-ID", sample)
    sign_out(page)
    open_page(page, site, "other.lab")
    expect(find_bar(page)).to_contain_text("There is no row yet.")
    sign_out(page)
    open_page(page, site)
    expect(find_cell(page, 1, "Lab-ID")).to_have_text(sample)


def test_two_tabs_do_not_work_against_each_other(page: Page, site: Site, watch: Any) -> None:
    samples = name_samples(2)
    open_page(page, site)
    type_into(page, 1, "Lab-ID", samples[0])
    other = watch(page.context.new_page())
    other.goto(f"{site.address}/submit")
    expect(other.get_by_text("Your rows are open in another tab")).to_be_visible()
    expect(other.get_by_role("grid")).to_be_hidden()
    other.get_by_role("button", name="Go on here").click()
    expect(find_cell(other, 1, "Lab-ID")).to_have_text(samples[0])
    find_cell(other, 2, "Lab-ID").click()
    other.keyboard.type(samples[1])
    expect(page.get_by_text("Your rows are open in another tab")).to_be_visible()
    page.get_by_role("button", name="Go on here").click()
    expect(find_cell(page, 2, "Lab-ID")).to_have_text(samples[1])


def test_a_submission_whose_answer_is_lost_is_made_once(context: BrowserContext, site: Site) -> None:
    # Not watched: the browser itself complains of the loss.
    page = context.new_page()
    [sample] = name_samples(1)
    upload(site, "lab", f"{sample}_R1.fq")
    open_page(page, site)
    choose_sheet(page, make_csv(make_rows([sample])))
    expect(find_bar(page)).to_contain_text("Ready to submit")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/api/v1/submissions", lose)
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(find_bar(page).get_by_role("alert")).to_contain_text("can't be reached")
    page.unroute("**/api/v1/submissions")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.get_by_role("heading", name=re.compile("Submitted: "))).to_be_visible()
    assert count_submitted(site, sample) == 1


def test_a_submission_whose_page_is_closed_is_found_again(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    upload(site, "lab", f"{sample}_R1.fq")
    open_page(page, site)
    choose_sheet(page, make_csv(make_rows([sample])))
    expect(find_bar(page)).to_contain_text("Ready to submit")
    # The portal gets it, the page hears nothing.
    page.route("**/api/v1/submissions", lambda route: (route.fetch(), None)[1])
    with page.expect_request("**/api/v1/submissions"):
        page.get_by_role("button", name="Submit", exact=True).click()
    wait_for(lambda: count_submitted(site, sample) == 1, page)
    page.unroute("**/api/v1/submissions")
    page.reload()
    expect(page.get_by_role("heading", name=re.compile("Submitted: "))).to_be_visible()
    assert count_submitted(site, sample) == 1


def test_rows_from_the_command_line_are_taken_over(page: Page, site: Site) -> None:
    samples = name_samples(2)
    who = "group.admin"
    for sample in samples:
        record = dict(zip(FIELDS, *make_rows([sample]), strict=True)) | {"FileR2": None}
        assert site.call(who, "POST", "/metadatasets", json={"record": record}).status_code == 200
        upload(site, who, f"{sample}_R1.fq")
    open_page(page, site, who)
    expect(page.get_by_text("You have 2 staged rows that are not in this table")).to_be_visible()
    page.get_by_role("button", name="Add to this table").click()
    expect(find_cell(page, 2, "Lab-ID")).to_have_text(samples[1])
    type_into(page, 2, "ZIPCode", "721")
    bar = find_bar(page)
    expect(bar).to_contain_text("Ready to submit 2 rows and 2 files.")
    expect(bar).not_to_contain_text("warning")
    submit(page)
    # The former state of the row that was changed is no longer staged.
    assert site.call(who, "GET", "/staged/metadatasets").json() == []
    assert [count_submitted(site, sample, who) for sample in samples] == [1, 1]


def test_what_was_submitted_meanwhile_is_told_at_its_row(page: Page, site: Site) -> None:
    samples = name_samples(2)
    upload(site, "lab", *[f"{sample}_R1.fq" for sample in samples])
    open_page(page, site)
    choose_sheet(page, make_csv(make_rows(samples)))
    expect(find_bar(page)).to_contain_text("Ready to submit 2 rows")
    # The same row goes another way.
    record = dict(zip(FIELDS, *make_rows(samples[:1]), strict=True)) | {"FileR2": None}
    staged = site.call("lab", "POST", "/metadatasets", json={"record": record}).json()
    files = site.call("lab", "GET", "/staged/files?limit=1000").json()
    body = {
        "metadatasetIds": [staged["id"]["uuid"]],
        "fileIds": [file["id"]["uuid"] for file in files if file["name"] == f"{samples[0]}_R1.fq"],
    }
    made = site.call("lab", "POST", "/submissions", json=body).json()
    page.get_by_role("button", name="Submit", exact=True).click()
    bar = find_bar(page)
    expect(bar).to_contain_text("1 row with errors.")
    bar.get_by_role("button", name="Go to the first").click()
    expect(page.get_by_text(f"as part of {made['id']['site']}")).to_be_visible()
    page.get_by_role("button", name="Delete rows").click()
    expect(bar).to_contain_text("Ready to submit 1 row and 1 file.")
    submit(page)
    assert [count_submitted(site, sample) for sample in samples] == [1, 1]


def test_template_and_marked_workbook_are_fetched(page: Page, site: Site, tmp_path: Path) -> None:
    def fetch(item: str) -> Path:
        page.get_by_role("button", name="Download").click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=item).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        return path

    [sample] = name_samples(1)
    open_page(page, site)
    # Who has no sheet yet sees where to get one; it stays in the menu.
    with page.expect_download() as download:
        page.get_by_role("button", name="Template for samples (xlsx)").click()
    for path in (download.value.path(), fetch("Template for samples (xlsx)")):
        assert [cell.value for cell in load_workbook(io.BytesIO(path.read_bytes())).worksheets[0][1]] == FIELDS
    book = Workbook()
    for row in [FIELDS, *make_rows([sample], ZIPCode="7")]:
        book.active.append(row)
    book.active["B2"] = 46095.5
    book.active["B2"].number_format = "yyyy-mm-dd"
    book.save(tmp_path / "run9.xlsx")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a sample sheet").click()
    chooser.value.set_files(tmp_path / "run9.xlsx")
    expect(find_bar(page)).to_contain_text("1 row with errors.")
    # What the file does not show whole is not taken, and stays wrong until somebody says what it is.
    find_cell(page, 1, "Sampling date").click()
    expect(page.get_by_text("The file shows")).to_be_visible()
    marked = fetch("run9.xlsx with its problems marked")
    assert marked.name == "run9.checked.xlsx"
    assert "Findings" in load_workbook(marked).sheetnames
    type_into(page, 1, "ZIPCode", "720")
    expect(find_bar(page)).to_contain_text("1 row with errors.")
    type_into(page, 1, "Sampling date", "2026-03-14")
    expect(find_bar(page)).not_to_contain_text("with errors")
    rows = list(csv.reader(fetch("These rows (csv)").read_text("utf-8-sig").splitlines()))
    assert rows == [FIELDS, *make_rows([sample])]


def test_how_a_file_was_read_is_told(page: Page, site: Site) -> None:
    samples = name_samples(2)
    open_page(page, site)
    choose_sheet(page, make_csv([[*row, "x"] for row in make_rows(samples)], [*FIELDS, "Note"]))
    expect(page.get_by_text("The site has no such field; the column was not read.")).to_be_visible()
    expect(find_cell(page, 2, "Lab-ID")).to_have_text(samples[1])
    choose_sheet(page, b"\x00\x01\x02 no table", "run.csv")
    page.get_by_role("button", name="Replace").click()
    expect(page.get_by_role("alert").filter(has_text="run.csv:")).to_be_visible()
    expect(find_cell(page, 2, "Lab-ID")).to_have_text(samples[1])
    choose_sheet(page, make_csv(make_rows(name_samples(1))), "more.csv")
    page.get_by_role("button", name="Add below").click()
    expect(find_bar(page)).to_contain_text("3 files that were not sent")


def test_a_sheet_is_dropped_anywhere(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    open_page(page, site)
    drop(page, [("run.csv", make_csv(make_rows([sample])))])
    expect(find_cell(page, 1, "Lab-ID")).to_have_text(sample)


def test_a_file_that_no_row_names_is_told_what_it_may_be(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    name = f"{sample}-r1.fq"
    open_page(page, site, "other.lab")
    choose_sheet(page, make_csv(make_rows([sample])))
    expect(find_bar(page)).to_contain_text("1 file that was not sent:")
    drop(page, [(name, b"reads"), ("notes.txt", b"of another kind")])
    files = page.get_by_role("region", name="Files and how far they are").get_by_role("listitem")
    item = files.filter(has_text=name)
    expect(item).to_contain_text(f"No row names it. Did you mean {sample}_R1.fq? Correct the cell in row 1")
    expect(files.filter(has_text="notes.txt")).to_contain_text("No row names it.")
    expect(files.filter(has_text="notes.txt")).not_to_contain_text("Did you mean")
    check_page(page, "submit-guess")
    type_into(page, 1, "FileR1", name)
    expect(item).to_contain_text("Row 1")
    expect(item).not_to_contain_text("Did you mean")
    expect(find_bar(page)).to_contain_text("Ready to submit 1 row and 1 file.")


HIDDEN = """() => {
    const focused = document.activeElement
    // Behind the last element the browser's own bars are next.
    if (focused === document.body) return null
    const { left, top, width, height } = focused.getBoundingClientRect()
    // Of what is as high as a part of the page, the beginning is enough.
    const ends = height < 120 ? [top + 2, top + height - 2] : [top + 2]
    const isSeen = y => {
        const seen = document.elementFromPoint(Math.max(left, 0) + Math.min(width, innerWidth) / 2, y)
        return seen !== null && (focused.contains(seen) || seen.contains(focused))
    }
    return ends.every(isSeen) ? null : focused.outerHTML.slice(0, 200)
}"""
"""Return what has the focus if it is under a bar, in part at least."""


ALL_HERE = re.compile(r"All \d+ files are here")


@pytest.mark.parametrize("height", [560, 900])
def test_what_has_the_focus_is_never_under_a_bar(page: Page, site: Site, height: int) -> None:
    page.set_viewport_size({"width": 1280, "height": height})
    rows = make_rows(name_samples(12), ZIPCode="7")
    open_page(page, site, "other.lab")
    choose_sheet(page, make_csv(rows))
    expect(find_bar(page)).to_contain_text("12 rows with errors.")
    drop(page, [(row[4], b"reads") for row in rows])
    expect(page.get_by_role("region", name="Files", exact=True)).to_contain_text(ALL_HERE)
    page.get_by_role("link", name="Skip to the content").focus()
    for key in ("Tab", "Shift+Tab"):
        for step in range(70):
            page.keyboard.press(key)
            hidden = page.evaluate(HIDDEN)
            assert hidden is None, f"{key} {step}: {hidden}"


def test_files_that_are_chosen_with_their_sheet_are_sent(page: Page, site: Site) -> None:
    samples = name_samples(2)
    rows = make_rows(samples)
    files = [(row[4], f"reads of {row[4]}".encode()) for row in rows]
    open_page(page, site)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a sample sheet").click()
    chosen = [("run.csv", make_csv(rows)), *files]
    chooser.value.set_files([{"name": name, "mimeType": "", "buffer": content} for name, content in chosen])
    expect(page.get_by_text("All 2 files are here").first).to_be_visible()
    submit(page)
    assert [count_submitted(site, sample) for sample in samples] == [1, 1]


def test_the_run_of_the_tour_is_submitted_as_it_is_told(page: Page, site: Site, tmp_path: Path) -> None:
    """Ten rows and twenty files, made by the lines of docs/tour.md, chosen at once."""
    told = (REPOSITORY / "docs/tour.md").read_text("utf-8")
    lines = re.search(r"```bash\n(.*?)```", told, re.DOTALL)
    assert lines
    subprocess.run(["bash", "-ec", lines[1]], cwd=tmp_path, check=True)
    open_page(page, site)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a sample sheet").click()
    chooser.value.set_files(sorted((tmp_path / "run7").iterdir()))
    expect(page.get_by_text("All 20 files are here").first).to_be_visible()
    expect(find_bar(page)).to_contain_text("Ready to submit 10 rows and 20 files.")
    check_page(page, "tour-submit")
    submit(page)
    check_page(page, "tour-receipt")
    assert [count_submitted(site, f"S{number:02}") for number in range(1, 11)] == [1] * 10


def test_files_and_sheet_come_together_and_are_submitted_when_ready(page: Page, site: Site) -> None:
    samples = name_samples(3)
    rows = make_rows(samples)
    held: list[Route] = []
    page.route("**/api/v1/upload/**", lambda route: held.append(route))
    open_page(page, site)
    drop(page, [("run.csv", make_csv(rows))])
    bar = find_bar(page)
    expect(bar).to_contain_text("3 files that were not sent:")
    drop(page, [(row[4], f"reads of {row[4]}".encode()) for row in rows])
    expect(bar).to_contain_text("3 files on their way:")
    bar.get_by_role("button", name="Submit when ready").click()
    expect(bar).to_contain_text("Will be submitted as soon as everything is there.")
    check_page(page, "submit-waiting")
    # Elsewhere in the portal it goes on.
    page.get_by_role("link", name="Data", exact=True).click()
    wait_for(lambda: len(held) == len(rows), page)
    assert [count_submitted(site, sample) for sample in samples] == [0, 0, 0]
    for route in held:
        route.continue_()
    page.unroute("**/api/v1/upload/**")
    expect(page.get_by_text(re.compile("Submitted as "))).to_be_visible()
    assert [count_submitted(site, sample) for sample in samples] == [1, 1, 1]


def test_what_goes_wrong_while_waiting_ends_the_waiting(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    held: list[Route] = []
    page.route("**/api/v1/upload/**", lambda route: held.append(route))
    open_page(page, site)
    drop(page, [("run.csv", make_csv(make_rows([sample]))), (f"{sample}_R1.fq", b"reads")])
    find_bar(page).get_by_role("button", name="Submit when ready").click()
    type_into(page, 1, "ZIPCode", "7")
    expect(page.get_by_text("Not submitted: something is missing by now.")).to_be_visible()
    wait_for(lambda: held, page)
    for route in held:
        route.continue_()
    page.unroute("**/api/v1/upload/**")
    expect(find_bar(page)).not_to_contain_text("on its way")
    assert count_submitted(site, sample) == 0


def test_a_receipt_is_printed(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    upload(site, "lab", f"{sample}_R1.fq")
    open_page(page, site)
    choose_sheet(page, make_csv(make_rows([sample])))
    receipt = submit(page)
    page.evaluate("() => (window.print = () => (document.title = 'printed'))")
    page.get_by_role("button", name="Print").click()
    expect(page).to_have_title("printed")
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Print")).to_be_hidden()
    expect(page.get_by_role("navigation")).to_be_hidden()
    expect(page.get_by_role("cell", name=f"{sample}_R1.fq", exact=True)).to_be_visible()
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/receipt-print.png", full_page=True)
    page.emulate_media(media="screen")
    # Its address is enough to see it again, and others do not see it.
    page.goto(f"{site.address}/submit?receipt={receipt}")
    expect(page.get_by_role("heading", name=f"Submitted: {receipt}")).to_be_visible()
    sign_out(page)
    sign_in(page, site, "other.lab", f"/submit?receipt={receipt}")
    expect(page.get_by_role("alert")).to_be_visible()


def test_german(page: Page, site: Site) -> None:
    [sample] = name_samples(1)
    upload(site, "lab", f"{sample}_R1.fq")
    open_page(page, site)
    page.get_by_label("Language").select_option("de")
    expect(find_bar(page)).to_contain_text("Es gibt noch keine Zeile.")
    find_cell(page, 1, "Lab-ID").click()
    paste(page, as_block(make_rows([sample], **{"Sequencing platform": "MiSeq", "Sampling date": ""})))
    expect(find_bar(page)).to_contain_text("1 Zeile mit Fehlern.")
    page.keyboard.press("F8")
    expect(page.get_by_text("Dieses Feld ist Pflicht.")).to_be_visible()
    page.keyboard.type("2026-03-14")
    page.keyboard.press("Enter")
    page.keyboard.press("F8")
    page.get_by_role("button", name="„Illumina“ übernehmen").click()
    expect(find_bar(page)).to_contain_text("Bereit zum Einreichen: 1 Zeile, 1 Datei.")
    check_page(page, "submit-german")
    submit(page)
    check_page(page, "receipt-german")


def test_a_phone(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    [sample] = name_samples(1)
    upload(site, "lab", f"{sample}_R1.fq")
    open_page(page, site)
    choose_sheet(page, make_csv(make_rows([sample], ZIPCode="7")))
    expect(find_bar(page)).to_contain_text("1 row with errors.")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    find_bar(page).get_by_role("button", name="Go to the first").click()
    expect(page.get_by_text("The first three digits of the postal code.")).to_be_in_viewport()
    check_page(page, "submit-phone")
    page.keyboard.type("720")
    page.keyboard.press("Enter")
    submit(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_page(page, "receipt-phone")


@pytest.fixture
def wide_site(tmp_path: Path) -> Iterator[Site]:
    """A portal of its own with twenty fields."""
    with serve_cleanly(tmp_path / "home", tmp_path, "--demo") as served:
        site = open_site(served)
        for number, name in enumerate(NOTES, 1000):
            texts = dict.fromkeys(["regexDescription", "longDescription", "example", "regExp", "dateTimeFmt"], "")
            flags = dict.fromkeys(["isMandatory", "isFile", "isSubmissionUnique", "isSiteUnique"], False)
            body = {"name": name, "order": number, "serviceId": None, **texts, **flags}
            assert site.call("site.admin", "POST", "/metadata", json=body).status_code == 200
        yield site


def test_ten_thousand_rows_of_twenty_columns(page: Page, wide_site: Site) -> None:
    """What is typed is there at once, and the whole sheet is checked, walked through and kept."""
    rows = [[*row, *["value"] * len(NOTES)] for row in make_rows(name_samples(10_000))]
    rows[8_999][2] = "x"
    grid = open_page(page, wide_site)
    choose_sheet(page, make_csv(rows, FIELDS + NOTES))
    bar = find_bar(page)
    expect(bar).to_contain_text("1 row with errors.", timeout=120_000)
    expect(grid).to_have_attribute("aria-rowcount", "10002")
    expect(grid).to_have_attribute("aria-colcount", "21")
    assert grid.get_by_role("row").count() < 60
    bar.get_by_role("button", name="Go to the first").click()
    expect(find_cell(page, 9_000, "ZIPCode")).to_be_focused()
    expect(find_cell(page, 9_000, "ZIPCode")).to_be_in_viewport()
    for number in range(12):
        page.keyboard.type(f"72{number % 10}")
        page.keyboard.press("Enter")
        expect(find_cell(page, 9_000 + number, "ZIPCode")).to_have_text(f"72{number % 10}")
    expect(bar).not_to_contain_text("with errors", timeout=120_000)
    page.keyboard.press("Control+Home")
    expect(find_cell(page, 1, "Lab-ID")).to_be_focused()
    page.keyboard.press("Control+End")
    expect(page.locator('[aria-rowindex="10001"] > [aria-colindex="21"]')).to_be_focused()
    page.reload()
    expect(grid).to_have_attribute("aria-rowcount", "10002", timeout=60_000)
