"""Fields and rules in the administration: made, ordered, tried, changed, and what that does to a lab's staging."""

import re
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.portal.conftest import Site, check_page, sign_in

RECORD = {
    "Sampling date": "2026-03-14",
    "ZIPCode": "720",
    "Sequencing platform": "Illumina",
    "FileR1": "R1.fastq",
}
NUMBERS = count(1)
FIELD = {
    "regexDescription": "",
    "longDescription": "",
    "example": "",
    "regExp": "",
    "dateTimeFmt": "",
    "isMandatory": False,
    "order": 5000,
    "isFile": False,
    "isSubmissionUnique": False,
    "isSiteUnique": False,
    "serviceId": None,
}
PLAIN = {"kind": "text", "unit": "", "minimum": None, "maximum": None, "isInteger": False, "missingTerms": []}


def admin(site: Site, method: str, path: str, body: Any = None) -> Any:
    answer = site.call("site.admin", method, path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def add_field(site: Site, name: str, refinement: dict[str, Any] | None = None, **definition: Any) -> str:
    """Add a field by the API; return its UUID."""
    uuid: str = admin(site, "POST", "/metadata", FIELD | {"name": name} | definition)["id"]["uuid"]
    if refinement is not None:
        admin(site, "PUT", f"/metadata/{uuid}/refinement", PLAIN | refinement)
    return uuid


def stage(site: Site, **values: str) -> Any:
    """Stage a sample as the lab; return the answer."""
    record = RECORD | {"Lab-ID": f"F{next(NUMBERS)}"} | values
    return site.call("lab", "POST", "/metadatasets", json={"record": record})


def list_names(site: Site) -> list[str]:
    return [field["name"] for field in admin(site, "GET", "/metadata")]


def shown_names(page: Page) -> list[str]:
    return page.get_by_role("list", name="Fields in their order").get_by_role("link").all_inner_texts()


def open_new(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/fields")
    page.get_by_role("link", name="New field").click()
    expect(page.get_by_role("heading", name="New field")).to_be_visible()


def trial(page: Page) -> Locator:
    return page.get_by_role("region", name="Try it")


def attempt(page: Page, value: str, verdict: str) -> None:
    trial(page).get_by_label("A value, as a lab would write it").fill(value)
    expect(trial(page).get_by_text(verdict)).to_be_visible()


def save_new(page: Page) -> None:
    page.get_by_role("button", name="Create the field").click()
    expect(page.get_by_text("The field is created.")).to_be_visible()
    expect(page).to_have_url(re.compile("/admin/fields/[0-9a-f-]{36}$"))
    expect(page.get_by_text("Everything is saved")).to_be_visible()


def refinement_of(site: Site, page: Page) -> Any:
    return admin(site, "GET", f"/metadata/{page.url.rsplit('/', 1)[1]}/refinement")


def definition_of(site: Site, name: str) -> Any:
    return next(field for field in admin(site, "GET", "/metadata") if field["name"] == name)


def test_the_list_shows_what_fields_are(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/fields")
    rows = page.get_by_role("list", name="Fields in their order").get_by_role("listitem")
    expect(rows.filter(has_text="Lab-ID")).to_contain_text("unique in the site")
    expect(rows.filter(has_text="Sampling date")).to_contain_text("as %Y-%m-%d")
    expect(rows.filter(has_text="ZIPCode")).to_contain_text("The first three digits of the postal code.")
    expect(rows.filter(has_text="Sequencing platform")).to_contain_text("4 words")
    expect(rows.filter(has_text="FileR1")).to_contain_text("File")
    expect(rows.filter(has_text="Accession")).to_contain_text("filled by Genome analysis")
    check_page(page, "admin-fields")
    page.get_by_role("link", name="ZIPCode").click()
    expect(page.get_by_role("heading", name="ZIPCode")).to_be_visible()
    page.go_back()
    expect(rows.filter(has_text="ZIPCode")).to_be_visible()


def test_a_text_is_created_and_tried(page: Page, site: Site) -> None:
    open_new(page, site)
    check_page(page, "admin-field-new")
    page.get_by_role("button", name="Create the field").click()
    expect(page.get_by_text("A field needs a name.")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.get_by_label("Name", exact=True).fill("Lab-ID")
    expect(page.get_by_text("There is a field with this name already.")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("Plate")
    page.get_by_role("textbox", name="Meaning").fill("The plate that the sample is on.")
    page.get_by_label("Regular expression").fill("P[0-9")
    expect(page.get_by_text("The regular expression does not compile")).to_be_visible()
    expect(trial(page).get_by_text("no value can be judged")).to_be_visible()
    page.get_by_label("Regular expression").fill("P[0-9]+")
    page.get_by_label("What is said if it does not match").fill("A P and digits.")
    attempt(page, "P12", "“P12” is accepted.")
    attempt(page, "12", "“12” is refused.")
    expect(trial(page).get_by_text("A P and digits.")).to_be_visible()
    attempt(page, "", "No value is accepted")
    page.get_by_text("Reasons for a missing value").click()
    page.get_by_label("not collected").check()
    attempt(page, "not collected", "“not collected” is accepted.")
    save_new(page)
    field = definition_of(site, "Plate")
    assert (field["regExp"], field["regexDescription"]) == ("P[0-9]+", "A P and digits.")
    assert field["order"] == max(each["order"] for each in admin(site, "GET", "/metadata"))
    assert refinement_of(site, page)["missingTerms"] == ["not collected"]
    page.reload()
    expect(page.get_by_role("textbox", name="Meaning")).to_have_value("The plate that the sample is on.")
    expect(page.get_by_label("not collected")).to_be_checked()


def test_a_date_is_created_and_tried(page: Page, site: Site) -> None:
    open_new(page, site)
    page.get_by_label("Name", exact=True).fill("Frozen")
    page.get_by_role("radio", name="Date").check()
    page.get_by_role("button", name="Create the field").click()
    expect(page.get_by_text("A date needs a format.")).to_be_visible()
    page.get_by_label("Format of dates").fill("day")
    expect(page.get_by_text("The date format does not read back what it writes")).to_be_visible()
    page.get_by_role("button", name="14.03.2026", exact=True).click()
    expect(page.get_by_label("Format of dates")).to_have_value("%d.%m.%Y")
    attempt(page, "14.03.2026", "“14.03.2026” is accepted.")
    attempt(page, "2026-03-14", "“2026-03-14” is refused.")
    save_new(page)
    assert definition_of(site, "Frozen")["dateTimeFmt"] == "%d.%m.%Y"


def test_a_number_is_created_and_tried(page: Page, site: Site) -> None:
    open_new(page, site)
    page.get_by_label("Name", exact=True).fill("Concentration")
    page.get_by_role("radio", name="Number").check()
    page.get_by_role("textbox", name="Unit").fill("ng/µl")
    page.get_by_label("Least number").fill("0,5")
    expect(page.get_by_text("Write a number with a decimal point")).to_be_visible()
    page.get_by_label("Least number").fill("5")
    page.get_by_label("Greatest number").fill("1")
    expect(page.get_by_text("The least value is larger than the greatest.")).to_be_visible()
    page.get_by_label("Greatest number").fill("100")
    page.get_by_label("Whole numbers only").check()
    attempt(page, "7", "“7” is accepted.")
    attempt(page, "101", "“101” is refused.")
    expect(trial(page).get_by_text("The number must be from 5 to 100 ng/µl.")).to_be_visible()
    attempt(page, "7.5", "“7.5” is refused.")
    check_page(page, "admin-field-number")
    save_new(page)
    kept = refinement_of(site, page)
    assert (kept["kind"], kept["unit"], kept["minimum"], kept["maximum"]) == ("number", "ng/µl", "5", "100")
    assert kept["isInteger"] is True
    # A number becomes a date, and a number again.
    page.get_by_role("radio", name="Date").check()
    page.get_by_role("button", name="2026", exact=True).click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The field is saved.")).to_be_visible()
    assert refinement_of(site, page)["kind"] == "text"
    page.get_by_role("radio", name="Number").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The field is saved.")).to_be_visible()
    assert (refinement_of(site, page)["unit"], definition_of(site, "Concentration")["dateTimeFmt"]) == ("ng/µl", None)


def test_a_vocabulary_is_created_edited_and_tried(page: Page, site: Site) -> None:
    open_new(page, site)
    page.get_by_label("Name", exact=True).fill("Tissue")
    page.get_by_role("radio", name="Vocabulary").check()
    page.get_by_role("button", name="Create the field").click()
    expect(page.get_by_text("A vocabulary needs words.")).to_be_visible()
    words = page.get_by_role("region", name="Words")
    for word in ("blood", "bone", "skin"):
        words.get_by_label("New word").fill(word)
        words.get_by_label("New word").press("Enter")
    words.get_by_label("New word").fill("bone")
    words.get_by_role("button", name="Add the word").click()
    expect(words.get_by_text("The word is there already.")).to_be_visible()
    words.get_by_label("New word").fill("")
    words.get_by_role("button", name="Edit blood").click()
    dialog = page.get_by_role("dialog", name="Edit a word")
    dialog.get_by_label("Synonyms").fill("serum\nskin")
    dialog.get_by_role("button", name="Apply").click()
    expect(dialog.get_by_text("“skin” is a word itself, and can't be a synonym.")).to_be_visible()
    dialog.get_by_label("Synonyms").fill("serum\nplasma\n")
    dialog.get_by_role("button", name="Apply").click()
    expect(dialog).to_be_hidden()
    # The draft's words count for the trial.
    attempt(page, "plasma", "“plasma” is refused.")
    expect(trial(page).get_by_text("Did you mean “blood”?")).to_be_visible()
    attempt(page, "blood", "“blood” is accepted.")
    words.get_by_role("button", name="Move skin up").click()
    expect(words.get_by_role("button", name="Move skin up")).to_be_focused()
    words.get_by_role("button", name="Move skin up").press("Enter")
    expect(words.get_by_role("button", name="Move skin down")).to_be_focused()
    words.get_by_role("button", name="Remove bone").click()
    expect(words.get_by_role("button", name="Remove blood")).to_be_focused()
    drag(page, words.get_by_title("Drag to another place").nth(1), words.get_by_title("Drag to another place").nth(0))
    check_page(page, "admin-field-vocabulary")
    save_new(page)
    uuid = page.url.rsplit("/", 1)[1]
    assert admin(site, "GET", f"/metadata/{uuid}/vocabulary")["terms"] == [
        {"term": "blood", "synonyms": ["serum", "plasma"]},
        {"term": "skin", "synonyms": []},
    ]
    assert refinement_of(site, page)["kind"] == "vocabulary"


def test_a_file_and_a_service_s_field_are_created(page: Page, site: Site) -> None:
    open_new(page, site)
    page.get_by_label("Name", exact=True).fill("Assembly")
    page.get_by_label("Values are names of files").check()
    page.get_by_label("Who fills the field?").select_option(label="Service: Genome analysis")
    page.get_by_label("Order", exact=True).fill("1.5")
    expect(page.get_by_text("Write a whole number, such as 100.")).to_be_visible()
    page.get_by_label("Order", exact=True).fill("9000")
    save_new(page)
    field = definition_of(site, "Assembly")
    assert (field["isFile"], field["order"], field["serviceId"]) == (
        True,
        9000,
        definition_of(site, "Accession")["serviceId"],
    )


def drag(page: Page, handle: Locator, target: Locator) -> None:
    """Drag by a handle to where another one is, in steps as a hand does."""
    handle.scroll_into_view_if_needed()
    start, end = handle.bounding_box(), target.bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    beyond = 8 if end["y"] > start["y"] else -8
    page.mouse.move(start["x"] + 5, (start["y"] + end["y"]) / 2, steps=4)
    page.mouse.move(end["x"] + 5, end["y"] + end["height"] / 2 + beyond, steps=6)
    page.mouse.up()


def test_fields_are_ordered_by_dragging(page: Page, site: Site) -> None:
    before = {field["name"]: field["order"] for field in admin(site, "GET", "/metadata")}
    sign_in(page, site, "site.admin", "/admin/fields")
    handles = page.get_by_title("Drag to another place")
    expect(handles).to_have_count(len(before))
    drag(page, handles.nth(0), handles.nth(3))
    expect(page.get_by_text("Lab-ID is now number 4 of")).to_be_visible()
    expect(page.get_by_text("The order is saved.")).to_be_visible()
    names = list_names(site)
    assert names[:4] == ["Sampling date", "ZIPCode", "Sequencing platform", "Lab-ID"]
    assert shown_names(page) == names
    after = {field["name"]: field["order"] for field in admin(site, "GET", "/metadata")}
    assert [name for name in before if before[name] != after[name]] == ["Lab-ID"]
    # Escape puts back what is dragged.
    box = handles.nth(3).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 5, box["y"] - 150, steps=5)
    assert shown_names(page) != names
    page.keyboard.press("Escape")
    page.mouse.up()
    assert shown_names(page) == names
    page.reload()
    expect(handles).to_have_count(len(before))
    assert shown_names(page) == names
    assert list_names(site) == names


def test_fields_are_ordered_by_keyboard(page: Page, site: Site) -> None:
    names = list_names(site)
    sign_in(page, site, "site.admin", "/admin/fields")
    up = page.get_by_role("button", name="Move Lab-ID up")
    up.focus()
    for _ in range(names.index("Lab-ID")):
        page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Move Lab-ID down")).to_be_focused()
    expect(up).to_be_disabled()
    expect(page.get_by_text("Lab-ID is now number 1 of")).to_be_visible()
    expect(page.get_by_text("The order is saved.")).to_be_visible()
    expected = ["Lab-ID", *(name for name in names if name != "Lab-ID")]
    assert shown_names(page) == expected
    assert list_names(site) == expected


def test_who_changes_a_field_sees_how_many_staged_rows_it_refuses(page: Page, site: Site) -> None:
    uuid = add_field(site, "Batch")
    for value in ("1", "2", "x"):
        assert stage(site, Batch=value).status_code == 200
    sign_in(page, site, "site.admin", f"/admin/fields/{uuid}")
    expect(trial(page).get_by_text("None that passes today would be refused.")).to_be_visible()
    page.get_by_label("Regular expression").fill("[0-9]+")
    expect(trial(page).get_by_text("1 staged metadataset that passes today would be refused.")).to_be_visible()
    page.get_by_label("Regular expression").fill("[0-1]+")
    expect(trial(page).get_by_text("2 staged metadatasets that pass today would be refused.")).to_be_visible()
    check_page(page, "admin-field-affected")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The field is saved. 2 staged metadatasets are refused as they are")).to_be_visible()
    assert stage(site, Batch="2").status_code == 400
    page.get_by_label("Regular expression").fill("")
    expect(page.get_by_text("The field is saved.")).to_be_hidden()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The field is saved. No staged metadataset is refused for it.")).to_be_visible()


def test_words_are_imported_with_a_preview_and_exported(page: Page, site: Site, tmp_path: Path) -> None:
    uuid = add_field(site, "Host")
    words = [{"term": "Homo sapiens", "synonyms": ["human"]}, {"term": "Mus musculus", "synonyms": []}]
    admin(site, "PUT", f"/metadata/{uuid}/vocabulary", {"terms": words})
    admin(site, "PUT", f"/metadata/{uuid}/refinement", PLAIN | {"kind": "vocabulary"})
    assert stage(site, Host="Mus musculus").status_code == 200
    sign_in(page, site, "site.admin", f"/admin/fields/{uuid}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export csv").click()
    assert download.value.suggested_filename == "Host.csv"
    exported = Path(download.value.path()).read_text("utf-8-sig")
    assert exported.splitlines() == ["term,synonym", "Homo sapiens,human", "Mus musculus"]

    def choose(content: bytes) -> None:
        path = tmp_path / "hosts.csv"
        path.write_bytes(content)
        with page.expect_file_chooser() as chooser:
            dialog.get_by_role("button", name="Choose a csv file").click()
        chooser.value.set_files(path)

    page.get_by_role("button", name="Import csv").click()
    dialog = page.get_by_role("dialog", name="Import words from csv")
    choose("Homo sapiens\nBär\n".encode("latin-1"))
    expect(dialog.get_by_text("A byte is not UTF-8.")).to_be_visible()
    expect(dialog.get_by_role("button", name="Take over")).to_be_disabled()
    choose(b"Homo sapiens;human\nRattus;rat\nRattus\n;x\n")
    expect(dialog.get_by_label("Cells are separated by")).to_have_value("semicolon")
    expect(dialog.get_by_text("Line 3: “Rattus” stands in the list twice.")).to_be_visible()
    expect(dialog.get_by_text("Line 4: There are synonyms, and no word")).to_be_visible()
    choose(b"term;synonym\nHomo sapiens;human;man\nRattus;rat\n")
    expect(dialog.get_by_text("1 new, 1 with other synonyms, 1 go, 0 stay as they are.")).to_be_visible()
    expect(dialog.get_by_role("row").filter(has_text="Homo sapiens")).to_contain_text("human, man")
    check_page(page, "admin-field-import")
    dialog.get_by_label("What becomes of the words that are there?").select_option("merge")
    expect(dialog.get_by_text("1 new, 1 with other synonyms, 0 go, 1 stay as they are.")).to_be_visible()
    dialog.get_by_label("What becomes of the words that are there?").select_option("replace")
    dialog.get_by_role("button", name="Take over").click()
    expect(dialog).to_be_hidden()
    expect(trial(page).get_by_text("1 staged metadataset that passes today would be refused.")).to_be_visible()
    assert admin(site, "GET", f"/metadata/{uuid}/vocabulary")["terms"] == words
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("1 staged metadataset is refused as it is")).to_be_visible()
    assert admin(site, "GET", f"/metadata/{uuid}/vocabulary")["terms"] == [
        {"term": "Homo sapiens", "synonyms": ["human", "man"]},
        {"term": "Rattus", "synonyms": ["rat"]},
    ]
    assert stage(site, Host="Mus musculus").status_code == 400


def test_what_the_portal_refuses_is_said_in_place(page: Page, site: Site) -> None:
    uuid = add_field(site, "Amount", {"kind": "number"}, order=5100)
    add_field(site, "Least", {"kind": "number"}, order=5200)
    rule = {"message": "No.", "when": [], "then": [{"field": "Amount", "operator": "at_least", "otherField": "Least"}]}
    admin(site, "PUT", "/recordrules", {"rules": [rule]})
    sign_in(page, site, "site.admin", f"/admin/fields/{uuid}")
    page.get_by_role("radio", name="Text").check()
    expect(page.get_by_text("A rule compares this field with another")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Something is wrong with the field. See what is marked.")).to_be_visible()
    page.get_by_role("button", name="Discard changes").click()
    expect(page.get_by_role("radio", name="Number")).to_be_checked()
    expect(page.get_by_text("Everything is saved")).to_be_visible()
    # Another administrator takes the name between the trial and the saving.
    with page.expect_response("**/rpc/try-field"):
        page.get_by_label("Name", exact=True).fill("Quantity")
    add_field(site, "Quantity")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("This was refused, and nothing was saved:")).to_be_visible()
    expect(page.get_by_text("There is a field with this name already.")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Quantity")
    admin(site, "PUT", "/recordrules", {"rules": []})


def test_who_leaves_with_unsaved_changes_is_asked(page: Page, site: Site) -> None:
    uuid = add_field(site, "Note")
    sign_in(page, site, "site.admin", f"/admin/fields/{uuid}")
    page.get_by_role("textbox", name="Meaning").fill("Unsaved")
    page.get_by_role("link", name="All fields").click()
    dialog = page.get_by_role("dialog", name="Leave without saving?")
    expect(dialog).to_be_visible()
    check_page(page, "admin-field-leave")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("textbox", name="Meaning")).to_have_value("Unsaved")
    # The browser asks, too, before it closes or reloads the page.
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]
    expect(page.get_by_role("textbox", name="Meaning")).to_have_value("")
    page.get_by_role("textbox", name="Meaning").fill("Unsaved")
    page.get_by_role("link", name="All fields").click()
    dialog.get_by_role("button", name="Leave and lose them").click()
    expect(page).to_have_url(f"{site.address}/admin/fields")
    assert definition_of(site, "Note")["longDescription"] is None
    page.goto(f"{site.address}/admin/rules")
    page.get_by_role("button", name="Add a rule").click()
    page.get_by_role("link", name="Users").click()
    expect(dialog).to_be_visible()


def choose_condition(part: Locator, field: str, operator: str, *, other: str | None = None) -> None:
    part.get_by_label("Field", exact=True).last.select_option(field)
    part.get_by_label("Comparison").last.select_option(label=operator)
    if other is not None:
        part.get_by_label("Other field").last.select_option(other)


def test_rules_are_built_and_hold_for_the_lab(page: Page, site: Site) -> None:
    admin(site, "PUT", "/recordrules", {"rules": []})
    host = add_field(site, "Species", order=6000)
    admin(site, "PUT", f"/metadata/{host}/vocabulary", {"terms": [{"term": "human"}, {"term": "mouse"}]})
    admin(site, "PUT", f"/metadata/{host}/refinement", PLAIN | {"kind": "vocabulary", "missingTerms": ["missing"]})
    add_field(site, "Age", order=6100)
    add_field(site, "Receipt date", order=6200, dateTimeFmt="%d.%m.%Y")
    assert stage(site, Species="human").status_code == 200
    sign_in(page, site, "site.admin", "/admin/rules")
    expect(page.get_by_text("There are no rules yet")).to_be_visible()
    check_page(page, "admin-rules-empty")
    page.get_by_role("button", name="Add a rule").click()
    first = page.get_by_role("list", name="Rules in their order").locator("> li").nth(0)
    page.get_by_role("button", name="Save").click()
    expect(first.get_by_text("Something is missing in this rule.")).to_be_visible()
    when = first.get_by_role("region", name="If all of this holds")
    then = first.get_by_role("region", name="then this must hold")
    choose_condition(when, "Species", "is one of")
    # A vocabulary's words are chosen, and its terms for missing values.
    expect(when.get_by_label("Values").get_by_role("option")).to_have_text(
        ["Choose a word …", "human", "mouse", "missing"]
    )
    when.get_by_label("Values").select_option("human")
    choose_condition(then, "Age", "has a value")
    expect(first.get_by_text("If Species is human, Age is required.")).to_be_visible()
    page.get_by_role("button", name="Add a rule").click()
    second = page.get_by_role("list", name="Rules in their order").locator("> li").nth(1)
    second.get_by_role("button", name="Remove", exact=True).first.click()
    expect(second.get_by_text("No condition: the rule holds for every sample.")).to_be_visible()
    then = second.get_by_role("region", name="then this must hold")
    choose_condition(then, "Receipt date", "is not before", other="Sampling date")
    expect(then.get_by_label("Other field").get_by_role("option", name="Age")).to_have_count(0)
    second.get_by_label("Message").fill("Samples are received after they are taken.")
    expect(second.get_by_text("Receipt date must not be before Sampling date.")).to_be_visible()
    check_page(page, "admin-rules")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The rules are saved. 1 staged metadataset breaks one")).to_be_visible()
    expect(page.get_by_text("Message: Samples are received after they are taken.")).to_be_visible()

    def refuse(**values: str) -> list[tuple[str, str]]:
        answer = stage(site, **values)
        problems = answer.json() if answer.status_code == 400 else []
        return [(problem["error_code"], problem["message"]) for problem in problems]

    assert refuse(Species="human") == [("conditionally_mandatory", "If Species is human, Age is required.")]
    assert refuse(Species="human", Age="7") == []
    assert refuse(Species="mouse") == []
    assert refuse(**{"Receipt date": "01.03.2026"}) == [("rule_broken", "Samples are received after they are taken.")]

    page.get_by_role("button", name="Move rule 2 up").click()
    page.get_by_role("button", name="Remove rule 2").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The rules are saved. No staged metadataset breaks one.")).to_be_visible()
    assert [rule["message"] for rule in admin(site, "GET", "/recordrules")["rules"]] == [
        "Samples are received after they are taken."
    ]
    assert refuse(Species="human") == []


def test_values_are_tried_on_the_rules(page: Page, site: Site) -> None:
    add_field(site, "Tried age", order=6250)
    rule = {"message": "Adults only.", "when": [{"field": "Sampling date", "operator": "is_filled"}],
            "then": [{"field": "Tried age", "operator": "is_filled"},
                     {"field": "Tried age", "operator": "is_not", "values": ["7"]}]}  # fmt: skip
    admin(site, "PUT", "/recordrules", {"rules": [rule]})
    before = admin(site, "GET", "/staged/metadatasets")
    sign_in(page, site, "site.admin", "/admin/rules")
    expect(trial(page).get_by_role("textbox")).to_have_count(2)
    trial(page).get_by_label("Sampling date").fill("2026-03-14")
    expect(trial(page).get_by_text("Tried age: Adults only.")).to_be_visible()
    check_page(page, "admin-rules-trial")
    trial(page).get_by_label("Tried age").fill("7")
    expect(trial(page).get_by_text("Tried age: Adults only.")).to_be_visible()
    trial(page).get_by_label("Tried age").fill("18")
    expect(trial(page).get_by_text("No rule is broken.")).to_be_visible()
    trial(page).get_by_label("Sampling date").fill("14.3.")
    expect(trial(page).get_by_text("Sampling date is wrong in itself, so no rule judges it.")).to_be_visible()
    # A rule that is being written is tried before it is saved, too.
    trial(page).get_by_label("Sampling date").fill("")
    expect(trial(page).get_by_text("No rule is broken.")).to_be_visible()
    page.get_by_role("button", name="Add a rule").click()
    draft = page.get_by_role("list", name="Rules in their order").locator("> li").nth(1)
    draft.get_by_role("button", name="Remove", exact=True).first.click()
    choose_condition(draft, "Tried age", "is one of")
    draft.get_by_label("Values").fill("19")
    draft.get_by_label("Values").press("Enter")
    expect(trial(page).get_by_text("Tried age: Tried age must be 19.")).to_be_visible()
    check_page(page, "admin-rules-draft")
    page.get_by_role("button", name="Remove rule 2").click()
    page.get_by_role("button", name="Remove rule 1").click()
    expect(trial(page)).to_have_count(0)
    assert admin(site, "GET", "/recordrules")["rules"][0]["message"] == "Adults only."
    assert admin(site, "GET", "/staged/metadatasets") == before


def test_a_refused_rule_is_marked(page: Page, site: Site) -> None:
    name = "Renamed soon"
    uuid = add_field(site, name, order=6300)
    admin(site, "PUT", "/recordrules", {"rules": []})
    sign_in(page, site, "site.admin", "/admin/rules")
    page.get_by_role("button", name="Add a rule").click()
    rule = page.get_by_role("list", name="Rules in their order").locator("> li").nth(0)
    rule.get_by_role("button", name="Remove", exact=True).first.click()
    choose_condition(rule, name, "is one of")
    rule.get_by_label("Values").fill("x")
    rule.get_by_label("Values").press("Enter")
    rule.get_by_label("Values").fill("y")
    expect(rule.get_by_text(f"{name} must be x.")).to_be_visible()
    admin(site, "PUT", f"/metadata/{uuid}", FIELD | {"name": "Renamed", "order": 6300})
    trial(page).get_by_label(name).fill("x")
    expect(trial(page).get_by_text("Rule 1 judges nothing as it is. There is no field")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(rule.get_by_text("There is no field with this id or name.")).to_be_visible()
    # What was written and not added yet is not lost.
    expect(rule.get_by_text(f"{name} must be x or y.")).to_be_visible()
    page.get_by_role("button", name="Discard changes").click()
    expect(page.get_by_text("There are no rules yet")).to_be_visible()


def test_an_unknown_field_is_said_to_be_none(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/fields/00000000-0000-4000-8000-000000000000")
    expect(page.get_by_text("There is no such field")).to_be_visible()
    page.get_by_role("link", name="All fields").last.click()
    expect(page).to_have_url(f"{site.address}/admin/fields")


def test_all_of_it_in_german_on_a_phone(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    rule = {"message": "Nein.", "when": [{"field": "ZIPCode", "operator": "is", "values": ["720"]}],
            "then": [{"field": "FileR2", "operator": "is_filled"}]}  # fmt: skip
    admin(site, "PUT", "/recordrules", {"rules": [rule]})
    sign_in(page, site, "site.admin", "/admin/fields")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("link", name="Neues Feld")).to_be_visible()
    expect(page.get_by_text("eindeutig im Portal").first).to_be_visible()

    def fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    fits()
    check_page(page, "admin-fields-phone")
    page.get_by_role("link", name="Sequencing platform").click()
    expect(page.get_by_role("radio", name="Vokabular")).to_be_checked()
    page.get_by_label("Ein Wert, wie ein Labor ihn schriebe").fill("Illumina")
    expect(page.get_by_text("„Illumina“ wird angenommen.")).to_be_visible()
    fits()
    check_page(page, "admin-field-phone")
    page.get_by_role("link", name="Regeln zwischen Feldern").click()
    expect(page.get_by_text("Wenn ZIPCode 720 ist, ist FileR2 Pflicht.")).to_be_visible()
    page.get_by_role("button", name="Regel 1 bearbeiten").click()
    fits()
    check_page(page, "admin-rules-phone")
    admin(site, "PUT", "/recordrules", {"rules": []})


@pytest.mark.parametrize("path", ["/admin/fields", "/admin/fields/new", "/admin/rules"])
def test_fields_and_rules_are_for_site_admins(page: Page, site: Site, path: str) -> None:
    sign_in(page, site, "group.admin", path)
    expect(page.get_by_text("This page is for administrators of the site.")).to_be_visible()
