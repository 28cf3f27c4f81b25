"""Finding what was submitted: who sees what, searching, the address of a search, exports, pages of single things."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from openpyxl import load_workbook
from playwright.sync_api import Download, Locator, Page, expect

from tests.e2e.conftest import RECORD
from tests.portal.conftest import Site, check_page, sign_in
from tests.portal.filled import MANY, Filled, fill

HEADINGS = ["Metadataset", "Submission", "Submitted", "Group", "User"]


@pytest.fixture(scope="module")
def filled(site: Site) -> Filled:
    return fill(site)


def count(page: Page, number: int) -> None:
    """Demand that so many metadatasets were found."""
    word = "metadataset" if number == 1 else "metadatasets"
    expect(page.get_by_text(re.compile(rf"^\s*{number} {word}\b"))).to_be_visible()


def rows(page: Page) -> Locator:
    """Return the rows of what was found."""
    return page.get_by_role("region", name="What was found").get_by_role("row").filter(has=page.get_by_role("cell"))


def add_condition(page: Page, field: str, comparison: str, text: str | None = None) -> None:
    """Add a condition to the open filters."""
    page.get_by_role("button", name="Add a condition on a field").click()
    page.get_by_label("Field of condition").last.select_option(field)
    page.get_by_label("Comparison of condition").last.select_option(label=comparison)
    if text is not None:
        page.get_by_label("Text of condition").last.fill(text)


def read(download: Download, folder: Path) -> bytes:
    """Return what was saved."""
    path = folder / download.suggested_filename
    download.save_as(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("who", "number"),
    [("lab", MANY + 1), ("group.admin", MANY + 1), ("site.read", MANY + 2), ("other.lab", 1)],
)
def test_everybody_finds_what_they_may_see(page: Page, site: Site, filled: Filled, who: str, number: int) -> None:
    sign_in(page, site, who, "/data")
    count(page, number)


def test_who_sees_nothing_is_told_what_to_do(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "site.admin", "/data")
    expect(page.get_by_text("Nothing has been submitted yet.")).to_be_visible()
    check_page(page, "data-empty")
    page.get_by_role("link", name="Submit your first run").click()
    expect(page).to_have_url(f"{site.address}/submit")


def test_the_other_lab_sees_nothing_of_it(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "other.lab", f"/data/submissions/{filled.first['id']['site']}")
    expect(page.get_by_text("This is not yours to see.")).to_be_visible()
    check_page(page, "data-foreign")
    reads = filled.answered["fileIds"]["FileR1"]["site"]
    for path in (f"metadatasets/{filled.answered['id']['site']}", f"files/{reads}"):
        page.goto(f"{site.address}/data/{path}")
        expect(page.get_by_text("This is not yours to see.")).to_be_visible()
    page.goto(f"{site.address}/data/submissions/DMS-nothing")
    expect(page.get_by_text("There is nothing with this id.")).to_be_visible()
    page.goto(f"{site.address}/data?q=S-1_R1")
    expect(page.get_by_text("Nothing matches all conditions.")).to_be_visible()


def test_text_fields_dates_and_groups_filter_and_the_link_restores_it(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "site.read", "/data")
    page.get_by_role("searchbox").fill("m-0")
    page.get_by_role("button", name="Search", exact=True).click()
    count(page, 100)
    page.get_by_role("button", name="Filters").click()
    add_condition(page, "ZIPCode", "is", "720")
    add_condition(page, "Lab-ID", "contains", "-00")
    add_condition(page, "FileR1", "has no value")
    page.get_by_label("Submitted since").fill("2020-01-01")
    page.get_by_label("Group").select_option("Demo Lab North")
    check_page(page, "data-filters")
    page.get_by_role("button", name="Apply").click()
    count(page, 3)
    expect(rows(page)).to_have_count(3)
    expect(page.get_by_role("button", name="ZIPCode is “720”")).to_be_visible()
    link = page.url

    elsewhere = page.context.new_page()
    elsewhere.goto(link)
    count(elsewhere, 3)
    expect(elsewhere.get_by_role("searchbox")).to_have_value("m-0")
    elsewhere.get_by_role("button", name="Filters").click()
    expect(elsewhere.get_by_label("Text of condition 2")).to_have_value("-00")
    expect(elsewhere.get_by_label("Submitted since")).to_have_value("2020-01-01")

    page.get_by_role("button", name="ZIPCode is “720”").click()
    count(page, 10)
    page.go_back()
    count(page, 3)
    page.go_back()
    count(page, 100)
    page.go_forward()
    count(page, 3)
    page.get_by_role("button", name="Remove all conditions").first.click()
    count(page, MANY + 2)


def test_days_are_those_of_the_reader(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab", "/data")
    today = page.evaluate("new Date().toLocaleDateString('sv')")
    for address, number in ((f"from={today}&to={today}", MANY + 1), (f"from={today}&q=S-1_R1", 1)):
        page.goto(f"{site.address}/data?{address}")
        count(page, number)
    page.goto(f"{site.address}/data?to=2020-01-01")
    expect(page.get_by_text("Nothing matches all conditions.")).to_be_visible()


def test_what_a_service_has_done_filters_for_those_who_see_it(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "site.read", "/data")
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Service").select_option(label="Genome analysis has answered")
    page.get_by_role("button", name="Apply").click()
    count(page, 1)
    expect(page.get_by_role("cell", name="ACC-S-1")).to_be_visible()
    page.get_by_label("Service").select_option(label="Genome analysis has not answered yet")
    page.get_by_role("button", name="Apply").click()
    count(page, MANY + 1)


def test_a_lab_is_not_offered_what_services_answer(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab", "/data")
    count(page, MANY + 1)
    page.get_by_role("button", name="Filters").click()
    expect(page.get_by_label("Submitted since")).to_be_visible()
    expect(page.get_by_label("Service")).to_have_count(0)
    expect(page.get_by_label("Group")).to_have_count(0)
    expect(page.get_by_role("columnheader", name="Accession")).to_have_count(0)


def test_a_link_that_is_wrong_says_so_and_leads_out(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab", "/data?where=Gone%3Dx")
    expect(page.get_by_role("alert")).to_contain_text("There is no field named Gone.")
    check_page(page, "data-wrong")
    page.get_by_role("alert").get_by_role("button", name="Remove all conditions").click()
    count(page, MANY + 1)


def test_columns_sort(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab", "/data?q=M-")
    count(page, MANY)
    page.get_by_role("button", name="Lab-ID").click()
    expect(page.get_by_role("columnheader", name="Lab-ID")).to_have_attribute("aria-sort", "ascending")
    expect(rows(page).first).to_contain_text("M-000")
    page.get_by_role("button", name="Lab-ID").click()
    expect(rows(page).first).to_contain_text(f"M-{MANY - 1:03}")
    page.reload()
    expect(rows(page).first).to_contain_text(f"M-{MANY - 1:03}")
    page.go_back()
    expect(rows(page).first).to_contain_text("M-000")


def test_columns_are_chosen_and_remembered(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab", "/data")
    expect(page.get_by_role("columnheader", name="ZIPCode")).to_be_attached()
    page.get_by_role("button", name="Columns").click()
    dialog = page.get_by_role("dialog", name="Columns")
    check_page(page, "data-columns")
    dialog.get_by_role("button", name="None").click()
    dialog.get_by_label("Lab-ID").check()
    dialog.get_by_role("button", name="Show these").click()
    expect(page.get_by_role("columnheader")).to_have_text(["", "Id", "Lab-ID"])
    page.goto(site.address + "/data")
    expect(page.get_by_role("columnheader")).to_have_text(["", "Id", "Lab-ID"])
    page.get_by_role("button", name="Columns").click()
    dialog.get_by_role("button", name="Back to the usual ones").click()
    expect(page.get_by_role("columnheader", name="ZIPCode")).to_be_attached()


def test_more_is_shown_and_only_what_is_seen_exists(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab", "/data?sort=field:Lab-ID")
    expect(page.get_by_text(f"100 of {MANY + 1} shown")).to_be_visible()
    check_page(page, "data")
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_text(f"{MANY + 1} of {MANY + 1} shown")).to_be_visible()
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)
    assert rows(page).count() < MANY
    region = page.get_by_role("region", name="What was found")
    region.evaluate("element => element.scrollTo(0, element.scrollHeight)")
    expect(page.get_by_role("link", name=filled.answered["id"]["site"])).to_be_visible()
    assert region.get_by_role("table").get_attribute("aria-rowcount") == str(MANY + 2)

    # Who comes back finds the place where they were.
    page.get_by_role("link", name=filled.answered["id"]["site"]).click()
    expect(page.get_by_role("heading", name="History")).to_be_visible()
    page.go_back()
    expect(page.get_by_text(f"{MANY + 1} of {MANY + 1} shown")).to_be_visible()
    expect(page.get_by_role("link", name=filled.answered["id"]["site"])).to_be_in_viewport()


def test_a_selection_is_exported_as_a_workbook(page: Page, site: Site, filled: Filled, tmp_path: Path) -> None:
    sign_in(page, site, "lab", "/data?sort=field:Lab-ID&q=M-00&column=field:Lab-ID&column=field:ZIPCode")
    count(page, 10)
    boxes = rows(page).get_by_role("checkbox")
    boxes.nth(1).check()
    boxes.nth(3).click(modifiers=["Shift"])
    expect(page.get_by_text("3 selected")).to_be_visible()
    page.get_by_role("button", name="Export the selection").click()
    dialog = page.get_by_role("dialog", name="Export")
    expect(dialog.get_by_label("The 3 selected ones")).to_be_checked()
    check_page(page, "data-export")
    with page.expect_download() as waiting:
        dialog.get_by_role("button", name="Download").click()
    assert waiting.value.suggested_filename.endswith(".xlsx")
    sheet = load_workbook(io.BytesIO(read(waiting.value, tmp_path))).worksheets[0]
    found = [[cell.value for cell in row] for row in sheet.rows]
    assert found[0] == [*HEADINGS, "Lab-ID", "ZIPCode"]
    assert [row[5:] for row in found[1:]] == [["M-001", "720"], ["M-002", "803"], ["M-003", "101"]]
    assert {row[4] for row in found[1:]} == {"Lena Lab"}
    expect(dialog).to_be_hidden()


def test_all_that_was_found_is_exported_as_csv(page: Page, site: Site, filled: Filled, tmp_path: Path) -> None:
    sign_in(page, site, "site.read", "/data")
    count(page, MANY + 2)
    page.get_by_label("Select all that are shown").check()
    expect(page.get_by_text("100 selected")).to_be_visible()
    page.get_by_role("button", name=f"Select all {MANY + 2} that were found").click()
    expect(page.get_by_text(f"{MANY + 2} selected")).to_be_visible()
    page.get_by_role("button", name="Export the selection").click()
    dialog = page.get_by_role("dialog", name="Export")
    dialog.get_by_label("All", exact=True).check()
    dialog.get_by_label("Text (csv)").check()
    with page.expect_download() as waiting:
        dialog.get_by_role("button", name="Download").click()
    content = read(waiting.value, tmp_path)
    found = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert content.startswith("\ufeff".encode())
    assert len(found) == MANY + 2
    by_lab = {row["Lab-ID"]: row for row in found}
    assert by_lab["S-1"]["Accession"] == "ACC-S-1"
    assert by_lab["'=O-1+2"]["Group"] == "Demo Lab South"


def test_a_submission_has_its_sets_files_and_receipts(page: Page, site: Site, filled: Filled, tmp_path: Path) -> None:
    page.add_init_script("window.print = () => { document.title = 'printed' }")
    submission, reads = filled.first["id"]["site"], filled.answered["fileIds"]["FileR1"]["site"]
    sign_in(page, site, "group.admin", f"/data/submissions/{submission}")
    expect(page.get_by_role("heading", name="S-1")).to_be_visible()
    expect(page.get_by_text("Lena Lab")).to_be_visible()
    expect(page.get_by_text("Demo Lab North").last).to_be_visible()
    expect(page.get_by_role("link", name=filled.answered["id"]["site"])).to_be_visible()
    check_page(page, "submission")

    page.get_by_role("button", name="Copy").first.click()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == f"datameta download {submission} --to {submission}"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Receipt as JSON").click()
    receipt = json.loads(read(waiting.value, tmp_path))
    assert receipt["submission"]["id"] == filled.first["id"]
    assert receipt["submission"]["user"]["name"] == "Lena Lab"
    assert receipt["metadatasets"] == filled.first["metadatasetIds"]
    assert {file["name"] for file in receipt["files"]} == {"S-1_R1.fastq", "S-1_R2.fastq"}
    checksum = next(file["checksum"] for file in receipt["files"] if file["id"]["site"] == reads)

    page.get_by_role("button", name="Print the receipt").click()
    expect(page).to_have_title("printed")
    page.emulate_media(media="print")
    paper = page.get_by_role("article", name="Receipt")
    expect(paper).to_contain_text(checksum)
    expect(paper).to_be_visible()
    expect(page.get_by_role("button", name="Print the receipt")).to_be_hidden()
    page.emulate_media(media="screen")
    expect(paper).to_be_hidden()

    page.get_by_role("link", name="Search in these").click()
    count(page, 1)


def test_a_long_submission_is_shown_in_parts(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab", f"/data/submissions/{filled.many['id']['site']}")
    expect(page.get_by_text(f"100 of {MANY} shown")).to_be_visible()
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)
    expect(page.get_by_role("link", name=re.compile("^DMM-|^[A-Z]+-"))).to_have_count(MANY)


def test_a_metadataset_has_its_values_files_results_and_history(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "site.read", f"/data/metadatasets/{filled.answered['id']['site']}")
    expect(page.get_by_role("heading", name=filled.answered["id"]["site"])).to_be_visible()
    expect(page.get_by_text("submitted by Lena Lab (Demo Lab North)")).to_be_visible()
    expect(page.get_by_text("ACC-S-1")).to_be_visible()
    expect(page.get_by_text("Answered by Analysis Bot")).to_be_visible()
    events = page.get_by_role("heading", name="History").locator("..").get_by_role("listitem")
    expect(events).to_contain_text(
        [
            "Lena Lab staged it.",
            "Lena Lab submitted it, alone.",
            "Analysis Bot gave the answer of Genome analysis, with a file.",
        ]
    )
    check_page(page, "metadataset")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download S-1_report.txt").click()
    assert waiting.value.path().read_bytes() == b"all is well"


def test_a_lab_sees_its_set_without_what_services_answered(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab", f"/data/metadatasets/{filled.answered['id']['site']}")
    expect(page.get_by_text("Lena Lab submitted it, alone.")).to_be_visible()
    expect(page.get_by_text("ACC-S-1")).to_have_count(0)
    expect(page.get_by_text("Analysis Bot")).to_have_count(0)


def test_the_file_of_an_answer_leads_to_what_was_answered(page: Page, site: Site, filled: Filled) -> None:
    report = filled.answered["fileIds"]["Report"]["site"]
    sign_in(page, site, "site.read", f"/data/files/{report}")
    expect(page.get_by_role("link", name=filled.answered["id"]["site"])).to_be_visible()
    expect(page.get_by_text("Report", exact=True)).to_be_visible()


def test_a_file_says_what_it_is_and_comes(page: Page, site: Site, filled: Filled) -> None:
    reads = filled.answered["fileIds"]["FileR1"]["site"]
    sign_in(page, site, "lab", f"/data/metadatasets/{filled.answered['id']['site']}")
    page.get_by_role("link", name="S-1_R1.fastq").first.click()
    expect(page).to_have_url(f"{site.address}/data/files/{reads}")
    known = filled.lab.call("GET", f"/files/{reads}")
    expect(page.get_by_text(known["checksum"])).to_be_visible()
    expect(page.get_by_text(f"{known['filesize']} bytes")).to_be_visible()
    expect(page.get_by_text("Submitted", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="S-1", exact=True)).to_have_attribute(
        "href", f"/data/submissions/{filled.first['id']['site']}"
    )
    check_page(page, "file")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    assert waiting.value.suggested_filename == "S-1_R1.fastq"
    assert waiting.value.path().read_bytes() == b"@S-1_R1.fastq"


def test_what_is_not_submitted_leads_on(page: Page, site: Site, filled: Filled) -> None:
    announced = filled.lab.announce("later.fastq", b"later")
    staged = filled.lab.call("POST", "/metadatasets", {"record": RECORD | {"Lab-ID": "LATER"}})
    sign_in(page, site, "lab", f"/data/files/{announced['id']['site']}")
    expect(page.get_by_text("Not confirmed")).to_be_visible()
    expect(page.get_by_role("button", name="Download")).to_have_count(0)
    check_page(page, "file-open")
    page.goto(f"{site.address}/data/metadatasets/{staged['id']['site']}")
    page.get_by_role("link", name="Go on with your submission").click()
    expect(page).to_have_url(f"{site.address}/submit")


def test_a_phone_has_cards(page: Page, site: Site, filled: Filled) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, site, "site.read", "/data")
    count(page, MANY + 2)
    page.get_by_label("Sort by").select_option("Lab-ID")
    expect(rows(page).first).to_contain_text("=O-1+2")
    check_page(page, "data-phone")
    for path in (
        "",
        f"/submissions/{filled.first['id']['site']}",
        f"/metadatasets/{filled.answered['id']['site']}",
        f"/files/{filled.answered['fileIds']['FileR1']['site']}",
    ):
        page.goto(f"{site.address}/data{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text("S-1").or_(page.get_by_text("M-1")).first).to_be_attached()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        check_page(page, f"data{path.split('/')[1] if path else ''}-phone")


def test_it_is_all_there_in_german(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "site.read", "/data?q=S-1_R1")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_text("1 Metadatensatz")).to_be_visible()
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_label("Eingereicht seit")).to_be_visible()
    check_page(page, "data-german")
    page.goto(f"{site.address}/data/metadatasets/{filled.answered['id']['site']}")
    expect(page.get_by_text("Lena Lab hat ihn allein eingereicht.")).to_be_visible()
    check_page(page, "metadataset-german")


def test_a_service_whose_name_is_not_told_is_told_by_its_fields(page: Page, site: Site, filled: Filled) -> None:
    """Only site admins may list services; others know the names of those that have answered lately."""
    service = site.call("site.admin", "POST", "/services", json={"name": "Quality control"}).json()
    texts = dict.fromkeys(["regexDescription", "longDescription", "example", "regExp", "dateTimeFmt"], "")
    flags = dict.fromkeys(["isMandatory", "isFile", "isSubmissionUnique", "isSiteUnique"], False)
    for order, name in enumerate(["Coverage", "Contamination"], 9000):
        body = {"name": name, "order": order, "serviceId": service["id"]["uuid"], **texts, **flags}
        assert site.call("site.admin", "POST", "/metadata", json=body).status_code == 200
    sign_in(page, site, "site.read", "/data")
    page.get_by_role("button", name="Filters").click()
    chosen = page.get_by_label("Service")
    chosen.select_option(label="Service (Coverage, Contamination) has not answered yet")
    page.get_by_role("button", name="Apply").click()
    count(page, MANY + 2)
    expect(page.get_by_role("button", name="Service (Coverage, Contamination) has not answered yet")).to_be_visible()
    page.goto(f"{site.address}/data/metadatasets/{filled.answered['id']['site']}")
    expect(page.get_by_role("heading", name="Genome analysis")).to_be_visible()
    expect(page.get_by_role("heading", name="Service (Coverage, Contamination)")).to_be_visible()
