"""The first page: what is there, what to do next, and for site admins how the site is doing."""

import re

import pytest
from playwright.sync_api import Page, expect

from datameta.logic.appsettings import CATALOGUE
from tests.portal.conftest import Site, check_page, sign_in
from tests.portal.filled import MANY, Filled, fill, stage


@pytest.fixture(scope="module")
def filled(site: Site) -> Filled:
    """The filled portal, in which the lab goes on, and has a quota that is nearly used up."""
    filled = fill(site)
    stage(filled.lab, "NEXT")
    filled.lab.announce("next.fastq", b"next")
    uuid = CATALOGUE["quota_user_bytes"].uuid
    answer = site.call("site.admin", "PUT", f"/appsettings/{uuid}", json={"value": "30"})
    assert answer.status_code == 204, answer.text
    wish = {"name": "Nora New", "email": "nora@demo.example", "org_select": None, "check_user_agreement": True}
    wish |= {"org_create": "yes", "org_new_name": "Demo Lab East"}
    assert site.call("lab", "POST", "/registrations", json=wish).status_code == 204
    return filled


def test_who_has_nothing_is_told_how_to_begin(page: Page, site: Site) -> None:
    sign_in(page, site, "lab")
    expect(page.get_by_text("You have no data here yet.")).to_be_visible()
    expect(page.get_by_role("heading", name="Last submissions")).to_have_count(0)
    check_page(page, "overview-empty")
    page.get_by_role("link", name="Submit your first run").click()
    expect(page).to_have_url(f"{site.address}/submit")


def test_a_lab_sees_what_it_has_staged_submitted_and_stored(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab")
    expect(page.get_by_text(re.compile(r"1 metadataset,\s+1 file,"))).to_be_visible()
    expect(page.get_by_text("1 not confirmed")).to_be_visible()
    expect(page.get_by_text(re.compile(rf"2 submissions,\s+{MANY + 1} metadatasets,\s+2 files"))).to_be_visible()
    expect(page.get_by_text("26 bytes of 30 bytes")).to_be_visible()
    bar = page.get_by_role("progressbar", name="Storage used: Your files")
    assert bar.evaluate("bar => [bar.value, bar.max]") == [26, 30]
    expect(page.get_by_text("Little room is left.")).to_be_visible()
    expect(page.get_by_text("26 bytes, no limit")).to_be_visible()
    expect(page.get_by_role("heading", name="The whole site")).to_have_count(0)
    expect(page.get_by_text("Genome analysis")).to_have_count(0)
    check_page(page, "overview-lab")
    page.get_by_role("link", name="Many").click()
    expect(page).to_have_url(f"{site.address}/data/submissions/{filled.many['id']['site']}")
    page.go_back()
    page.get_by_role("link", name="See the data").click()
    expect(page).to_have_url(f"{site.address}/data")
    page.go_back()
    page.get_by_role("link", name="Go on with your submission").click()
    expect(page).to_have_url(f"{site.address}/submit")


def test_a_colleague_sees_what_the_group_submitted_and_nothing_staged(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "group.admin")
    expect(page.get_by_role("link", name="Many")).to_be_visible()
    expect(page.get_by_text("Nothing of yours waits to be submitted.")).to_be_visible()
    expect(page.get_by_role("link", name="Begin a submission")).to_be_visible()


def test_the_other_lab_sees_nothing_of_it(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "other.lab")
    expect(page.get_by_role("link", name=filled.foreign["id"]["site"])).to_be_visible()
    expect(page.get_by_text(re.compile(r"1 submission,\s+1 metadataset,\s+1 file,"))).to_be_visible()
    expect(page.get_by_text("Lena Lab")).to_have_count(0)
    expect(page.get_by_text("Many")).to_have_count(0)


def test_site_read_sees_all_submissions_and_answers(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "site.read")
    for name in ("Many", "S-1", filled.foreign["id"]["site"]):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    answers = page.get_by_role("region", name="Last answers of services")
    expect(answers).to_contain_text("Genome analysis")
    check_page(page, "overview-read")
    answers.get_by_role("link", name=filled.answered["id"]["site"]).click()
    expect(page).to_have_url(f"{site.address}/data/metadatasets/{filled.answered['id']['site']}")


def test_a_site_admin_sees_the_site_over_time_and_what_waits(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "site.admin")
    duties = page.get_by_role("region", name="What waits for an administrator")
    for name, path in (
        ("1 registration waits", "/admin/registrations"),
        ("No failed jobs", "/admin/jobs"),
        ("No damaged files", "/admin/storage"),
    ):
        expect(duties.get_by_role("link", name=name)).to_have_attribute("href", path)
    groups = page.get_by_role("region", name="Storage by group")
    expect(groups.get_by_role("row").nth(1)).to_contain_text("Demo Lab North")
    expect(groups.get_by_role("row").nth(2)).to_contain_text("Demo Lab South")
    check_page(page, "overview-admin")

    chart = page.get_by_role("figure").filter(has_text="Submissions by month")
    expect(chart).to_contain_text("3 submissions in all")
    bars = chart.get_by_role("img")
    bars.focus()
    this_month = page.evaluate("new Intl.DateTimeFormat('en', { month: 'short', year: 'numeric' }).format(new Date())")
    expect(chart).to_contain_text(f"{this_month}: 3 submissions")
    page.keyboard.press("ArrowLeft")
    expect(chart).to_contain_text(": no submissions")
    page.keyboard.press("End")
    expect(chart).to_contain_text(f"{this_month}: 3 submissions")
    page.keyboard.press("Tab")
    expect(chart).to_contain_text("3 submissions in all")
    bars.hover(position={"x": 3, "y": 20})
    expect(chart).to_contain_text(": no submissions")
    chart.get_by_text("As a table").click()
    expect(chart.get_by_role("row")).to_have_count(25)
    expect(chart.get_by_role("row").last).to_contain_text("3 submissions")
    # What the header covers cannot be touched.
    page.evaluate("scrollTo(0, 0)")
    check_page(page, "overview-chart")


def test_it_fits_a_phone(page: Page, site: Site, filled: Filled) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, site, "site.admin")
    expect(page.get_by_role("heading", name="The whole site")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_page(page, "overview-phone")


def test_it_is_all_there_in_german(page: Page, site: Site, filled: Filled) -> None:
    sign_in(page, site, "lab")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("heading", name="Letzte Einreichungen")).to_be_visible()
    expect(page.get_by_text("26 Byte von 30 Byte")).to_be_visible()
    expect(page.get_by_role("link", name="Weiter mit Ihrer Einreichung")).to_be_visible()
    check_page(page, "overview-german")
