"""Administration of the site: settings, audit, jobs, storage; what is set here is seen by everybody."""

import csv
import re
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect
from sqlalchemy import NullPool, create_engine, text

from datameta import embedded
from datameta.logic.appsettings import CATALOGUE
from tests.e2e.conftest import REPOSITORY
from tests.portal.conftest import Site, check_page, sign_in, wait_for
from tests.portal.filled import fill


def make_png(width: int, height: int) -> bytes:
    """Make a picture that no compression makes smaller."""
    noise = Random(7)
    rows = b"".join(b"\0" + noise.randbytes(3 * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def read_site(site: Site) -> dict[str, object]:
    """Return what the site says of itself to strangers."""
    answer: dict[str, object] = requests.get(f"{site.address}/api/v1/site", timeout=60).json()
    return answer


def read_setting(site: Site, key: str) -> str:
    """Return the value of a setting."""
    listed = site.call("site.admin", "GET", "/appsettings").json()
    return next(str(each["value"]) for each in listed if each["key"] == key)


def test_the_appearance_is_previewed_saved_and_seen_by_everybody(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/settings")
    expect(page.get_by_role("link", name="Appearance")).to_have_attribute("aria-current", "page")
    preview = page.get_by_role("region", name="Preview")
    page.get_by_label("Name of the site").fill("Institute of Genomes")
    page.get_by_label("Notice on every page").fill("Closed on Friday.")
    page.get_by_label("Welcome").fill("Hello.\n\nHand in what you have.")
    page.get_by_label("Colour", exact=True).fill("#f0f0f0")
    expect(page.get_by_text("On a light page this colour is hard to see")).to_be_visible()
    expect(preview.get_by_text("Institute of Genomes")).to_have_count(2)
    expect(preview.get_by_text("Closed on Friday.")).to_have_count(2)
    page.get_by_label("Colour", exact=True).fill("#2f7fb5")
    expect(page.get_by_text("This colour is easy to see.")).to_be_visible()
    check_page(page, "admin-settings")
    assert read_site(site)["name"] == "DataMeta"
    for _ in range(4):
        page.get_by_role("button", name="Save").first.click()
        expect(page.get_by_text(re.compile("^Saved: "))).to_be_visible()
        page.locator(".toasts").get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    expect(page.get_by_role("banner").get_by_text("Institute of Genomes")).to_be_visible()

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in", level=1)).to_be_visible()
    expect(page.get_by_text("Hand in what you have.")).to_be_visible()
    expect(page.get_by_text("Closed on Friday.")).to_be_visible()
    expect(page.get_by_role("banner").get_by_text("Institute of Genomes")).to_be_visible()
    assert read_site(site)["color"] == "#2f7fb5"


def test_a_value_that_does_not_fit_is_told_in_its_place(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/settings")
    imprint = page.get_by_label("Imprint")
    imprint.fill("our imprint")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The value of site_imprint must be an address such as")).to_be_visible()
    expect(imprint).to_have_attribute("aria-invalid", "true")
    page.get_by_role("button", name="Undo").click()
    expect(imprint).to_have_value("")
    expect(page.get_by_text("The value of site_imprint must be")).to_have_count(0)

    page.get_by_role("link", name="Security").click()
    length = page.get_by_label("Shortest password", exact=True)
    length.fill("3")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("a whole number from 8 to 128")).to_be_visible()
    assert read_setting(site, "password_min_length") == "15"
    check_page(page, "admin-settings-security")


def test_a_logo_is_taken_made_smaller_or_refused(page: Page, site: Site, tmp_path: Path) -> None:
    sign_in(page, site, "site.admin", "/admin/settings?area=branding")
    small, large, other = tmp_path / "small.png", tmp_path / "large.png", tmp_path / "logo.svg"
    small.write_bytes(make_png(20, 10))
    large.write_bytes(make_png(400, 400))
    other.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    chooser = page.locator("input[type=file]")
    chooser.set_input_files(other)
    expect(page.get_by_text("A logo is a PNG, JPEG or WebP picture.")).to_be_visible()
    small.with_name("broken.png").write_bytes(b"\x89PNG not really")
    chooser.set_input_files(small.with_name("broken.png"))
    expect(page.get_by_text("This picture can't be read.")).to_be_visible()
    chooser.set_input_files(large)
    expect(page.get_by_text("has been made smaller")).to_be_visible()
    chooser.set_input_files(small)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved: Logo.")).to_be_visible()
    expect(page.get_by_role("banner").locator("img")).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    assert str(read_site(site)["logo"]).startswith("data:image/png;base64,")
    chooser.set_input_files(large)
    expect(page.get_by_role("button", name="Save")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved: Logo.")).to_have_count(2)
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("banner").locator("img")).to_have_attribute("src", "/icon.svg")


def test_registration_is_closed_and_opened(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/settings?area=registration")
    page.get_by_label("Strangers may ask for an account").uncheck()
    assert read_site(site)["hasRegistration"] is True
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved: Strangers may ask for an account.")).to_be_visible()
    assert read_site(site)["hasRegistration"] is False
    page.goto(f"{site.address}/admin/registrations")
    expect(page.get_by_text("Registration is closed")).to_be_visible()
    page.get_by_role("link", name="Change this in the settings").click()
    page.get_by_role("button", name="Back to the default").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Strangers may ask for an account")).to_be_checked()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    assert read_site(site)["hasRegistration"] is True


def test_a_quota_is_set_in_the_unit_that_suits(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/settings?area=limits")
    quota = page.get_by_label("Most data of a user", exact=True)
    expect(quota).to_have_value("0")
    expect(page.get_by_text("0 is no limit.")).to_have_count(2)
    quota.fill("1.5")
    page.get_by_label("Unit").first.select_option("TB")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved: Most data of a user.")).to_be_visible()
    assert read_setting(site, "quota_user_bytes") == "1500000000000"
    page.reload()
    expect(quota).to_have_value("1.5")
    expect(page.get_by_label("Unit").first).to_have_value("TB")


def test_a_mail_is_previewed_while_it_is_written(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/settings?area=mails")
    check_page(page, "admin-settings-mails")
    page.get_by_role("link", name=re.compile("Welcome to a new user")).click()
    preview = page.get_by_role("region", name="Preview")
    expect(preview.get_by_text("Hello Ada Example")).to_be_visible()
    page.get_by_label("Subject").fill("You are in at {site_name}")
    expect(preview.get_by_text(re.compile("^You are in at (DataMeta|Institute of Genomes)$"))).to_be_visible()
    page.get_by_label("Text", exact=True).fill("Dear {person}: {link}")
    expect(page.get_by_text("names no other placeholders than {name}")).to_be_visible()
    page.get_by_label("Text", exact=True).fill("Dear ")
    page.get_by_role("button", name="{name}", exact=True).click()
    expect(page.get_by_label("Text", exact=True)).to_have_value("Dear {name}")
    expect(preview.get_by_text("Dear Ada Example")).to_be_visible()
    expect(page.get_by_text("names no other placeholders")).to_have_count(0)
    check_page(page, "admin-settings-mail")
    page.get_by_role("button", name="Save").first.click()
    expect(page.get_by_text("Saved: Subject.")).to_be_visible()
    assert read_setting(site, "mail_welcome_subject") == "You are in at {site_name}"

    # The text is not saved yet, and not lost by a click.
    page.get_by_role("link", name="Users").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_label("Text", exact=True)).to_have_value("Dear {name}")
    page.get_by_role("link", name="All mails").click()
    expect(page.get_by_role("link", name=re.compile("Welcome to a new user"))).to_contain_text("Own words")
    expect(page.get_by_role("link", name=re.compile("Password forgotten"))).to_contain_text("As delivered")
    expect(page.get_by_role("link", name="Mails (not saved)")).to_be_visible()
    page.get_by_role("link", name="Users").click()
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_role("heading", name="Users")).to_be_visible()


@pytest.mark.parametrize("locale", ["en", "de"])
def test_every_setting_has_words(page: Page, site: Site, locale: str) -> None:
    sign_in(page, site, "site.admin", "/admin/settings")
    page.get_by_label("Language").select_option(locale)
    tabs = page.locator(".tabs a")
    expect(tabs).to_have_count(5)
    for place in range(5):
        tabs.nth(place).click()
        for key in CATALOGUE:
            expect(page.get_by_text(key)).to_have_count(0)


def test_settings_in_german_on_a_phone(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, site, "site.admin", "/admin/settings")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("heading", name="Einstellungen")).to_be_visible()
    check_page(page, "admin-settings-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("link", name="E-Mails").click()
    page.get_by_role("link", name=re.compile("Passwort vergessen")).click()
    expect(page.get_by_role("region", name="Vorschau").get_by_text("Ada Example")).to_be_visible()
    check_page(page, "admin-settings-mail-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def list_recorded_events() -> set[str]:
    """Return every event that the portal's source records."""
    call = re.compile(r'record_events?\(\s*(?:db|session|connection),\s*"([a-z_.]+)"')
    sources = (REPOSITORY / "datameta").rglob("*.py")
    return {name for path in sources for name in call.findall(path.read_text("utf-8"))}


def test_every_event_that_is_recorded_can_be_asked_for(page: Page, site: Site) -> None:
    recorded = list_recorded_events()
    assert len(recorded) > 40
    sign_in(page, site, "site.admin", "/admin/audit")
    options = page.get_by_label("What happened", exact=True).locator("option")
    offered = [option.get_attribute("value") for option in options.all()]
    assert set(offered) - {""} == recorded
    assert not set(options.all_inner_texts()) & recorded


def test_what_happened_is_found_and_told_in_words(page: Page, site: Site, tmp_path: Path) -> None:
    [lena] = site.call("site.admin", "GET", "/users?search=lab@demo.example").json()[:1]
    assert lena["name"] == "Lena Lab"
    answer = site.call("site.admin", "PUT", f"/users/{lena['id']['site']}", json={"siteRead": True})
    assert answer.status_code == 204
    sign_in(page, site, "site.admin", "/admin/audit")
    expect(page.locator("tbody tr").first).to_contain_text("Signed in")
    check_page(page, "admin-audit")
    page.get_by_label("What happened", exact=True).select_option(label="A user was changed")
    row = page.locator("tbody tr").first
    expect(row).to_contain_text("Site read")
    expect(row.locator("del")).to_have_text("no")
    expect(row.locator("ins")).to_have_text("yes")
    expect(row.get_by_role("link", name="Alex Admin")).to_be_visible()
    expect(page).to_have_url(re.compile("event=user.changed"))
    row.get_by_text("Details").click()
    expect(row.get_by_text("127.0.0.1")).to_be_visible()
    row.get_by_role("button", name="Only what happened to Lena Lab").click()
    expect(page).to_have_url(re.compile(f"entity={lena['id']['site']}"))
    expect(page.locator("tbody tr")).to_have_count(1)
    check_page(page, "admin-audit-found")

    with page.expect_download() as download:
        page.get_by_role("button", name="Save what is shown as csv").click()
    path = tmp_path / "audit.csv"
    download.value.save_as(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        [found] = csv.DictReader(file)
    assert (found["Event"], found["Who"], found["To what (id)"]) == ("user.changed", "Alex Admin", lena["id"]["site"])
    assert (found["Before"], found["After"]) == ("Site read: no", "Site read: yes")

    page.reload()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.go_back()
    expect(page.get_by_label("To what", exact=True)).to_have_value("")
    page.get_by_label("Until").fill("2020-01-01")
    expect(page.get_by_text("Nothing like this has happened.")).to_be_visible()
    page.get_by_role("link", name="Show everything").first.click()
    page.get_by_label("Who", exact=True).fill("DMU-00000000")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Nothing like this has happened.")).to_be_visible()
    page.get_by_label("Who", exact=True).fill(lena["id"]["site"])
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"actor={lena['id']['site']}"))


def test_the_audit_is_shown_page_by_page(page: Page, site: Site) -> None:
    setting = CATALOGUE["site_notice"]
    with requests.Session() as session:
        body = {"email": "site.admin@demo.example", "password": site.passwords["site.admin"]}
        begun = session.post(f"{site.address}/api/v1/sessions", json=body, timeout=60).json()
        session.headers["X-CSRF-Token"] = begun["csrfToken"]
        for number in range(60):
            url = f"{site.address}/api/v1/appsettings/{setting.uuid}"
            assert session.put(url, json={"value": f"={number}"}, timeout=60).status_code == 204
        session.put(url, json={"value": ""}, timeout=60)
    sign_in(page, site, "site.admin", "/admin/audit?event=setting.changed")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(50)
    expect(rows.nth(1)).to_contain_text("Notice on every page")
    expect(rows.nth(1).locator("del")).to_have_text("=58")
    page.get_by_role("button", name="Show more").click()
    expect(page.get_by_text(re.compile(r"^(6\d|7\d|8\d) events$"))).to_be_visible()
    rows.nth(1).get_by_role("link").last.click()
    expect(page.get_by_label("Name of the site")).to_be_visible()


def find_job(site: Site, address: str) -> dict[str, Any]:
    """Return the job of the mail to this address, once it has been tried."""

    def find() -> dict[str, Any] | None:
        jobs = site.call("site.admin", "GET", "/jobs").json()
        return next((job for job in jobs if job["detail"].get("to") == address and job["attempts"]), None)

    return wait_for(find)


def give_up(site: Site, job: dict[str, Any]) -> None:
    """Let a job have failed for good, as a worker does after the last attempt."""
    query = text("UPDATE procrastinate_jobs SET status = CAST(:status AS procrastinate_job_status) WHERE id = :id")
    with embedded.running(site.served.home) as url, create_engine(url, poolclass=NullPool).begin() as connection:
        for status in ("doing", "failed"):
            connection.execute(query, {"id": job["id"], "status": status})


def test_a_job_that_failed_comes_first_and_is_tried_again(page: Page, site: Site) -> None:
    address = "other.lab@demo.example"
    folder = site.served.home / "mail"
    folder.mkdir(exist_ok=True)
    folder.rename(folder.with_name("mails-before"))
    folder.write_text("in the way")
    site.call("lab", "POST", "/rpc/request-password-reset", json={"email": address})
    job = find_job(site, address)
    page.clock.install()
    sign_in(page, site, "site.admin", "/admin/jobs")
    row = page.get_by_role("row", name=re.compile(address))
    expect(row).to_contain_text("“Password forgotten”")
    expect(row).to_contain_text("Waiting")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)

    give_up(site, job)
    page.clock.fast_forward(11_000)
    expect(page.get_by_text("A job has failed.")).to_be_visible()
    expect(page.locator("tbody tr").first).to_contain_text(address)
    expect(page.locator("tbody tr").first).to_contain_text("The mail server did not take it")
    check_page(page, "admin-jobs")
    page.get_by_label("Refresh every 10 seconds").uncheck()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/api/v1/jobs" in request.url else None)
    page.clock.fast_forward(60_000)
    page.get_by_label("State").select_option("Running")
    expect(page.get_by_text("There are no such jobs.")).to_be_visible()
    assert len(asked) == 1
    check_page(page, "admin-jobs-none")
    page.get_by_label("State").select_option("Failed")
    expect(page).to_have_url(re.compile("status=failed"))

    folder.unlink()
    page.get_by_role("button", name=f"Try again: job {job['id']}").click()
    expect(page.get_by_text("The job waits for the worker now.")).to_be_visible()
    expect(row).to_have_count(0)
    wait_for(lambda: list(folder.glob("*.eml")))
    page.goto(f"{site.address}/admin/audit?event=job.retried")
    expect(page.locator("tbody tr")).to_contain_text("A failed job was given another try")


def test_what_is_stored_is_told_by_group_and_month(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/storage")
    expect(page.get_by_text("Nothing has been submitted yet.")).to_be_visible()
    fill(site)
    page.reload()
    row = page.get_by_role("row", name=re.compile("Demo Lab North"))
    expect(row.get_by_role("cell").nth(1)).to_have_text("2")
    expect(page.get_by_text("0damaged files")).to_be_visible()
    page.get_by_text("As a table").click()
    expect(page.get_by_role("rowheader").last).to_be_visible()
    check_page(page, "admin-storage-usage")
    page.goto(f"{site.address}/admin/groups")
    row = page.get_by_role("row", name=re.compile("Demo Lab South"))
    expect(row.get_by_role("cell").nth(2)).to_have_text("1")
    expect(page.get_by_role("row", name=re.compile("Demo Office")).get_by_role("cell").nth(2)).to_have_text("0")


def test_the_store_is_checked(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/storage")
    page.get_by_role("button", name="Check the store now").click()
    expect(page.get_by_text("The store keeps what the portal promises.")).to_be_visible()
    expect(page.get_by_text("Files are kept in a folder of the portal.")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="Content is never replaced")).to_contain_text("As it should be")
    expect(page.get_by_role("listitem").filter(has_text="Free space")).to_contain_text("GiB")
    check_page(page, "admin-storage")
    storage = site.served.home / "storage"
    storage.rename(storage.with_name("moved"))
    storage.write_text("in the way")
    try:
        page.get_by_role("button", name="Check the store now").click()
        expect(page.get_by_text("The store does not keep what the portal promises.")).to_be_visible()
        expect(page.get_by_role("listitem").filter(has_text="The check ran to its end")).to_contain_text("Failed")
        check_page(page, "admin-storage-failed")
    finally:
        storage.unlink()
        storage.with_name("moved").rename(storage)


@pytest.mark.parametrize(("path", "heading"), [("audit", "Protokoll"), ("jobs", "Aufträge"), ("storage", "Speicher")])
def test_these_pages_in_german_on_a_phone(page: Page, site: Site, path: str, heading: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, site, "site.admin", f"/admin/{path}")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    if path == "storage":
        page.get_by_role("button", name="Speicher jetzt prüfen").press("Enter")
        expect(page.get_by_text("Der Speicher hält, was das Portal verspricht.")).to_be_visible()
        expect(page.get_by_text("Inhalt wird nie ersetzt")).to_be_visible()
    expect(page.get_by_text("Wird geladen")).to_have_count(0)
    check_page(page, f"admin-{path}-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
