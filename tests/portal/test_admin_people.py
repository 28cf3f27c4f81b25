"""Administration of people: users, groups, registrations, services; what is done here is seen by those it concerns."""

import re
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any
from uuid import uuid4

import pyotp
import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.portal.conftest import Site, check_page, email_of, read_mails, sign_in, wait_for

PASSWORD = "a quite improbable phrase 47"
LINK = re.compile(r"\S+/setpass#(\S+)")


def read_mail(site: Site, address: str, words: str) -> EmailMessage:
    """Wait for a mail to this address that has these words, and return it."""
    return wait_for(
        lambda: next((mail for mail in read_mails(site, address) if words in mail.get_content()), None),
    )


def set_password(site: Site, message: EmailMessage) -> None:
    """Follow a mailed link."""
    found = LINK.search(message.get_content())
    assert found is not None
    body = {"passwordChangeCredential": found[1], "newPassword": PASSWORD}
    answer = requests.put(f"{site.address}/api/v1/users/0/password", json=body, timeout=60)
    assert answer.status_code == 204, answer.text


def try_to_sign_in(page: Page, site: Site, address: str, password: str) -> None:
    """Fill in the form and send it."""
    page.goto(site.address)
    page.get_by_label("E-mail address").fill(address)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture
def other(browser: Browser, watch: Callable[[Page], Page]) -> Any:
    """Somebody else's browser."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    context.set_default_timeout(20_000)
    yield watch(context.new_page())
    context.close()


def open_user(page: Page, name: str) -> Locator:
    """Open a user's dialog from the list."""
    page.get_by_role("link", name=name, exact=True).click()
    dialog = page.get_by_role("dialog", name=name)
    expect(dialog).to_be_visible()
    return dialog


def add_user(site: Site, name: str, group: str = "Demo Lab North") -> tuple[str, str]:
    """Add a user over the API and set the password; return the address and the site id."""
    groups = site.call("site.admin", "GET", "/groups").json()
    [group_id] = [one["id"]["site"] for one in groups if one["name"] == group]
    address = f"{uuid4().hex[:12]}@demo.example"
    body = {"name": name, "email": address, "groupId": group_id}
    answer = site.call("site.admin", "POST", "/users", json=body)
    assert answer.status_code == 200, answer.text
    set_password(site, read_mail(site, address, "setpass"))
    return address, answer.json()["id"]["site"]


def test_a_new_user_gets_a_mail_and_signs_in(page: Page, site: Site, other: Page) -> None:
    sign_in(page, site, "site.admin", "/admin/users")
    expect(page.get_by_role("link", name="Lena Lab")).to_be_visible()
    check_page(page, "admin-users")
    page.get_by_role("button", name="Add a user").click()
    dialog = page.get_by_role("dialog", name="Add a user")
    dialog.get_by_label("Name").fill("Nora New")
    dialog.get_by_label("E-mail address").fill(email_of("lab"))
    dialog.get_by_label("Group", exact=True).select_option("Demo Lab South")
    check_page(page, "admin-users-add")
    dialog.get_by_role("button", name="Add and send the mail").click()
    expect(dialog.get_by_role("alert")).to_contain_text("lab@demo.example already")
    dialog.get_by_label("E-mail address").fill("nora@demo.example")
    dialog.get_by_label("Site read").check()
    dialog.get_by_role("button", name="Add and send the mail").click()
    expect(page.get_by_text("Nora New has been added.")).to_be_visible()
    expect(page.get_by_role("dialog", name="Nora New")).to_be_visible()
    expect(page).to_have_url(re.compile(r"user=\w+"))

    set_password(site, read_mail(site, "nora@demo.example", "setpass"))
    try_to_sign_in(other, site, "nora@demo.example", PASSWORD)
    expect(other.get_by_text("Nora New")).to_be_visible()
    expect(other.get_by_role("banner").get_by_text("Demo Lab South")).to_be_visible()


def test_a_role_is_looked_for_on_all_pages_of_the_list(page: Page, site: Site) -> None:
    """The portal knows no such filter: the page asks for page after page."""
    asked: list[str] = []

    def shorten(route: Route) -> None:
        asked.append(route.request.url)
        route.continue_(url=route.request.url.replace("limit=200", "limit=1"))

    page.route(re.compile(r"/api/v1/users\?limit=200"), shorten)
    sign_in(page, site, "site.admin", "/admin/users?role=siteRead")
    expect(page.get_by_role("link", name="Robin Read")).to_be_visible()
    expect(page.get_by_role("link", name="Analysis Bot")).to_be_visible()
    expect(page.get_by_role("link", name="Lena Lab")).to_have_count(0)
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)
    assert len(asked) == len(site.call("site.admin", "GET", "/users").json())


def test_who_is_disabled_is_told_and_nothing_else_changes(page: Page, site: Site, other: Page) -> None:
    address, _ = add_user(site, "Dora Disabled")
    try_to_sign_in(other, site, address, PASSWORD)
    expect(other.get_by_text("Dora Disabled")).to_be_visible()
    sign_in(page, site, "site.admin", "/admin/users?q=dora")
    dialog = open_user(page, "Dora Disabled")
    expect(dialog.get_by_role("button", name="Save")).to_be_disabled()
    expect(dialog.get_by_text("Saving signs the user out")).to_have_count(0)
    dialog.get_by_label("May sign in").uncheck()
    expect(dialog.get_by_text("Saving signs the user out everywhere")).to_be_visible()
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    expect(dialog.get_by_text("A user was changed")).to_be_visible()
    expect(dialog.get_by_text("Who may not sign in gets no link.")).to_be_visible()
    expect(dialog.get_by_role("button", name="Send a link for a new password")).to_be_disabled()
    check_page(page, "admin-user")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("row", name=re.compile("Dora")).get_by_text("Disabled", exact=True)).to_be_visible()
    expect(page).not_to_have_url(re.compile("user="))

    # The open page of the one who was shut out asks for the password, which does not help.
    other.get_by_role("button", name="Sign out").click()
    again = other.get_by_role("dialog", name="Sign in again")
    again.get_by_label("Password", exact=True).fill(PASSWORD)
    again.get_by_role("button", name="Sign in").click()
    expect(again.get_by_role("alert")).to_contain_text("There is no such user")


def test_name_group_and_roles_are_changed(page: Page, site: Site, other: Page) -> None:
    address, site_id = add_user(site, "Max Mover")
    sign_in(page, site, "site.admin", f"/admin/users?user={site_id}")
    dialog = page.get_by_role("dialog", name="Max Mover")
    dialog.get_by_label("Name").fill("Max Moved")
    dialog.get_by_label("Group", exact=True).select_option("Demo Office")
    dialog.get_by_label("Site admin").check()
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog", name="Max Moved")).to_be_visible()
    try_to_sign_in(other, site, address, PASSWORD)
    expect(other.get_by_text("Max Moved")).to_be_visible()
    expect(other.get_by_role("banner").get_by_text("Demo Office")).to_be_visible()
    expect(other.get_by_role("link", name="Administration")).to_be_visible()
    page.go_back()
    page.goto(f"{site.address}/admin/users?q=max&role=siteAdmin")
    row = page.get_by_role("row", name=re.compile("Max Moved"))
    expect(row.get_by_text("Site admin", exact=True)).to_be_visible()


def test_what_one_may_not_do_to_oneself_is_explained(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/users?q=site.admin")
    dialog = open_user(page, "Alex Admin")
    expect(dialog.get_by_label("Site admin")).to_be_disabled()
    expect(dialog.get_by_text("You can't take this role from yourself")).to_be_visible()
    expect(dialog.get_by_label("May sign in")).to_be_disabled()
    expect(dialog.get_by_text("You can't shut yourself out")).to_be_visible()
    expect(dialog.get_by_text("The address can't be changed, and users aren't deleted")).to_be_visible()
    dialog.get_by_label("Name").fill("   ")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("A user needs a name.")).to_be_visible()


def test_a_link_for_a_new_password_is_sent(page: Page, site: Site, other: Page) -> None:
    address, site_id = add_user(site, "Fred Forgetful")
    sign_in(page, site, "site.admin", f"/admin/users?user={site_id}")
    dialog = page.get_by_role("dialog", name="Fred Forgetful")
    dialog.get_by_role("button", name="Send a link for a new password").click()
    check_page(page, "admin-user-confirm")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_text(f"the mail to {address} is a file")).to_be_visible()
    expect(dialog.get_by_text("A link for a new password was asked for")).to_be_visible()
    assert read_mail(site, address, "asked for a new password")


def test_a_second_factor_is_removed(page: Page, site: Site, other: Page) -> None:
    address, site_id = add_user(site, "Tina Totp")
    with requests.Session() as session:
        body = {"email": address, "password": PASSWORD}
        begun = session.post(f"{site.address}/api/v1/sessions", json=body, timeout=60)
        session.headers["X-CSRF-Token"] = begun.json()["csrfToken"]
        url = f"{site.address}/api/v1/users/{site_id}/totp"
        secret = session.post(url, json={"password": PASSWORD}, timeout=60).json()["secret"]
        code = pyotp.TOTP(secret).now()
        assert session.put(url, json={"code": code}, timeout=60).status_code == 200
    try_to_sign_in(other, site, address, PASSWORD)
    expect(other.get_by_label("Code of your second factor")).to_be_visible()

    sign_in(page, site, "site.admin", f"/admin/users?user={site_id}")
    dialog = page.get_by_role("dialog", name="Tina Totp")
    expect(dialog.get_by_text("set up", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Remove the second factor").click()
    page.get_by_role("button", name="Cancel").click()
    expect(dialog.get_by_text("set up", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Remove the second factor").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(dialog.get_by_text("not set up")).to_be_visible()
    expect(dialog.get_by_text("The second factor was removed")).to_be_visible()
    assert read_mail(site, address, "second factor")
    try_to_sign_in(other, site, address, PASSWORD)
    expect(other.get_by_text("Tina Totp")).to_be_visible()


def test_users_are_found_by_text_group_role_and_state(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/users")
    names = page.locator("tbody a")
    page.get_by_label("Search").fill("OTIS")
    expect(names).to_have_text(["Otis Other"])
    expect(page).to_have_url(re.compile("q=OTIS"))
    page.get_by_label("Search").fill("")
    page.get_by_label("Group").select_option("Demo Lab North")
    page.get_by_label("Role").select_option("Group admin")
    expect(names).to_have_text(["Greta Group"])
    page.reload()
    expect(names).to_have_text(["Greta Group"])
    expect(page.get_by_label("Group")).to_have_value(re.compile("."))
    page.get_by_label("State").select_option("Disabled")
    expect(page.get_by_text("Nobody was found.")).to_be_visible()
    check_page(page, "admin-users-none")
    page.get_by_role("link", name="Show everybody").click()
    expect(page.get_by_role("link", name="Lena Lab")).to_be_visible()


def test_many_users_are_shown_page_by_page(page: Page, site: Site) -> None:
    [group] = [one for one in site.call("site.admin", "GET", "/groups").json() if one["name"] == "Demo Office"]
    for number in range(55):
        body = {"name": f"Crowd {number:02}", "email": f"crowd{number:02}@demo.example", "groupId": group["id"]["site"]}
        assert site.call("site.admin", "POST", "/users", json=body).status_code == 200
    sign_in(page, site, "site.admin", "/admin/users?q=crowd")
    names = page.locator("tbody a")
    expect(names).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(names).to_have_count(55)
    expect(page.get_by_text("55 users")).to_be_visible()
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)


def test_an_unknown_user_in_the_address_is_told(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/users?user=DMU-00000000")
    expect(page.locator(".toasts .error")).to_be_visible()
    expect(page).not_to_have_url(re.compile("user="))


def test_users_in_german_on_a_phone_by_keyboard(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, site, "site.admin", "/admin/users")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("heading", name="Personen")).to_be_visible()
    page.get_by_label("Suche").focus()
    page.keyboard.type("greta")
    expect(page.locator("tbody a")).to_have_text(["Greta Group"])
    page.get_by_role("link", name="Greta Group").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Greta Group")
    expect(dialog.get_by_text("Gruppenverwaltung", exact=True)).to_be_visible()
    check_page(page, "admin-user-phone")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    check_page(page, "admin-users-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_groups_are_added_and_renamed(page: Page, site: Site, other: Page) -> None:
    sign_in(other, site, "other.lab")
    expect(other.get_by_role("banner").get_by_text("Demo Lab South")).to_be_visible()
    sign_in(page, site, "site.admin", "/admin/groups")
    row = page.get_by_role("row", name=re.compile("Demo Lab South"))
    expect(row.get_by_role("link")).to_have_text(re.compile("users?$"))
    check_page(page, "admin-groups")
    page.get_by_role("button", name="Add a group").click()
    dialog = page.get_by_role("dialog", name="Add a group")
    dialog.get_by_label("Name").fill("Demo Lab South")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_text("There is a group with this name already.")).to_be_visible()
    check_page(page, "admin-groups-add")
    dialog.get_by_label("Name").fill("Demo Lab East")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("row", name=re.compile("Demo Lab East"))).to_contain_text("No users")

    page.get_by_role("button", name="Rename Demo Lab South").click()
    dialog = page.get_by_role("dialog", name="Rename Demo Lab South")
    expect(dialog.get_by_label("Name")).to_have_value("Demo Lab South")
    dialog.get_by_label("Name").fill("Demo Lab Far South")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    other.reload()
    expect(other.get_by_role("banner").get_by_text("Demo Lab Far South")).to_be_visible()
    page.get_by_label("Search").fill("far")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody a").click()
    expect(page.get_by_role("link", name="Otis Other")).to_be_visible()
    expect(page.get_by_role("link", name="Lena Lab")).to_have_count(0)


def ask_for_account(site: Site, name: str, **wish: Any) -> str:
    """Ask for an account as a stranger; return the address."""
    address = f"{uuid4().hex[:12]}@demo.example"
    body = {"name": name, "email": address, "org_create": None, "org_select": "", "org_new_name": "", **wish}
    body["check_user_agreement"] = True
    answer = requests.post(f"{site.address}/api/v1/registrations", json=body, timeout=60)
    assert answer.status_code == 204, answer.text
    return address


def test_a_registration_is_accepted_into_the_group_that_was_asked_for(page: Page, site: Site, other: Page) -> None:
    groups = requests.get(f"{site.address}/api/v1/registrationsettings", timeout=60).json()["groups"]
    [north] = [group["id"]["site"] for group in groups if group["name"] == "Demo Lab North"]
    address = ask_for_account(site, "Rita Registers", org_select=north)
    sign_in(page, site, "site.admin", "/admin/registrations")
    item = page.get_by_role("listitem").filter(has_text="Rita Registers")
    expect(item).to_contain_text(address)
    expect(item).to_contain_text("Demo Lab North")
    check_page(page, "admin-registrations")
    page.get_by_role("button", name="Accept Rita Registers").click()
    dialog = page.get_by_role("dialog", name="Accept Rita Registers")
    dialog.get_by_label("Message").fill("See you on Monday.")
    check_page(page, "admin-registrations-accept")
    dialog.get_by_role("button", name="Accept", exact=True).click()
    expect(page.get_by_text("Rita Registers has an account now")).to_be_visible()
    expect(item).to_have_count(0)
    set_password(site, read_mail(site, address, "See you on Monday."))
    try_to_sign_in(other, site, address, PASSWORD)
    expect(other.get_by_text("Rita Registers")).to_be_visible()
    expect(other.get_by_role("banner").get_by_text("Demo Lab North")).to_be_visible()


def test_a_registration_is_accepted_into_a_new_group_or_refused(page: Page, site: Site) -> None:
    first = ask_for_account(site, "Nils New", org_create="1", org_new_name="Institute of Novelty")
    second = ask_for_account(site, "Rolf Refused", org_create="1", org_new_name="Nowhere")
    sign_in(page, site, "site.admin", "/admin/registrations")
    expect(page.get_by_role("listitem").filter(has_text="Nils New")).to_contain_text("Institute of Novelty")
    page.get_by_role("button", name="Accept Nils New").click()
    dialog = page.get_by_role("dialog", name="Accept Nils New")
    expect(dialog.get_by_label("Name of the new group")).to_have_value("Institute of Novelty")
    dialog.get_by_label("Name of the new group").fill("Demo Office")
    dialog.get_by_role("button", name="Accept", exact=True).click()
    expect(dialog.get_by_text("There is a group with this name already.")).to_be_visible()
    dialog.get_by_label("Name of the new group").fill("Novelty Institute")
    dialog.get_by_role("button", name="Accept", exact=True).click()
    expect(dialog).to_be_hidden()
    assert read_mail(site, first, "has been accepted")
    found = site.call("site.admin", "GET", f"/users?search={first}").json()
    assert [user["group"]["name"] for user in found] == ["Novelty Institute"]

    page.get_by_role("button", name="Refuse Rolf Refused").click()
    dialog = page.get_by_role("dialog", name="Refuse Rolf Refused")
    dialog.get_by_label("Message").fill("Ask your own laboratory first.")
    check_page(page, "admin-registrations-refuse")
    dialog.get_by_role("button", name="Refuse", exact=True).click()
    expect(dialog).to_be_hidden()
    assert read_mail(site, second, "Ask your own laboratory first.")
    expect(page.get_by_text("Nobody waits for an answer.")).to_be_visible()
    check_page(page, "admin-registrations-none")


def test_who_answers_a_registration_second_is_told(page: Page, site: Site) -> None:
    ask_for_account(site, "Tom Twice", org_create="1", org_new_name="Twice")
    sign_in(page, site, "site.admin", "/admin/registrations")
    page.get_by_role("button", name="Accept Tom Twice").click()
    [waiting] = site.call("site.admin", "GET", "/registrations").json()
    refused = site.call("site.admin", "PUT", f"/registrations/{waiting['id']['uuid']}", json={"accept": False})
    assert refused.status_code == 204
    dialog = page.get_by_role("dialog", name="Accept Tom Twice")
    dialog.get_by_role("button", name="Accept", exact=True).click()
    expect(dialog.get_by_text("This request has been answered already.")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Nobody waits for an answer.")).to_be_visible()


def test_services_are_added_renamed_and_given_users(page: Page, site: Site) -> None:
    sign_in(page, site, "site.admin", "/admin/services")
    region = page.get_by_role("region", name="Genome analysis")
    expect(region.get_by_role("link", name="Analysis Bot")).to_be_visible()
    expect(region.get_by_role("link", name="Accession")).to_be_visible()
    expect(region.get_by_role("link", name="Lab-ID")).to_have_count(0)
    page.get_by_role("button", name="Add a service").click()
    dialog = page.get_by_role("dialog", name="Add a service")
    dialog.get_by_label("Name").fill("Genome analysis")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_text("There is a service with this name already.")).to_be_visible()
    dialog.get_by_label("Name").fill("Typing")
    dialog.get_by_role("button", name="Add", exact=True).click()
    region = page.get_by_role("region", name="Typing")
    expect(region.get_by_text("Nobody can answer")).to_be_visible()
    check_page(page, "admin-services")

    page.get_by_role("button", name="Add users to Typing").click()
    dialog = page.get_by_role("dialog", name="Add users to Typing")
    dialog.get_by_label("Search").fill("robin")
    dialog.get_by_role("button", name="Add Robin Read").click()
    expect(dialog.get_by_text("is a user")).to_be_visible()
    dialog.get_by_label("Search").fill("nobody at all")
    expect(dialog.get_by_text("Nobody was found.")).to_be_visible()
    dialog.get_by_label("Search").fill("lab")
    # Another administrator adds the bot at the same time; both are users then.
    services = {each["name"]: each for each in site.call("site.admin", "GET", "/services").json()}
    bot = services["Genome analysis"]["userIds"][0]["uuid"]
    robin = services["Typing"]["userIds"][0]["uuid"]
    path = f"/services/{services['Typing']['id']['uuid']}"
    assert site.call("site.admin", "PUT", path, json={"userIds": [robin, bot]}).status_code == 200
    dialog.get_by_role("button", name="Add Lena Lab").click()
    expect(dialog.get_by_text("is a user")).to_be_visible()
    check_page(page, "admin-services-users")
    dialog.get_by_role("button", name="Close").last.click()
    for name in ("Robin Read", "Analysis Bot", "Lena Lab"):
        expect(region.get_by_role("link", name=name)).to_be_visible()
    awaited = f"/metadatasets?awaitingService={services['Typing']['id']['uuid']}"
    # There is nothing yet; others than users of the service are told that they may not ask.
    assert site.call("lab", "GET", awaited).status_code == 404

    page.get_by_role("button", name="Remove Lena Lab from Typing").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(region.get_by_role("link", name="Lena Lab")).to_have_count(0)
    assert site.call("lab", "GET", awaited).status_code == 400
    page.get_by_role("button", name="Rename Typing").click()
    dialog = page.get_by_role("dialog", name="Rename Typing")
    dialog.get_by_label("Name").fill("Sequence typing")
    dialog.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("region", name="Sequence typing")).to_be_visible()


@pytest.mark.parametrize(
    ("path", "heading"), [("groups", "Gruppen"), ("registrations", "Registrierungen"), ("services", "Dienste")]
)
def test_these_pages_in_german_on_a_phone(page: Page, site: Site, path: str, heading: str) -> None:
    if path == "registrations":
        ask_for_account(site, "Petra Phone", org_create="1", org_new_name="Phones")
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, site, "site.admin", f"/admin/{path}")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    expect(page.get_by_text("Wird geladen")).to_have_count(0)
    check_page(page, f"admin-{path}-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
