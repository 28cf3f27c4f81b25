"""One's own account, and the API's page: what people do there, and what a program then can."""

import re
import shlex
import subprocess
from collections.abc import Callable

import pyotp
import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.conftest import DATAMETA, make_environment
from tests.portal.conftest import Site, check_page, email_of, sign_in
from tests.portal.test_signin import fill_sign_in, next_code, set_up

GOOD = "seven purple herons rest"


def section(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def find_token(curl: str) -> str:
    [token] = re.findall(r"Bearer (\w{64})", curl)
    return str(token)


def whoami(site: Site, token: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{site.address}/api/v1/rpc/whoami", headers=headers, timeout=60)


@pytest.fixture
def second_page(browser: Browser, watch: Callable[[Page], Page], site: Site) -> Page:
    """Another browser of the same person, in which the lab has signed in."""
    context = browser.new_context(locale="en-GB", user_agent="Mozilla/5.0 (Windows NT 10.0) Firefox/140.0")
    page = watch(context.new_page())
    sign_in(page, site, "lab")
    return page


def test_all_sections_are_there_and_have_addresses(page: Page, site: Site) -> None:
    sign_in(page, site, "lab", "/account#keys")
    expect(section(page, "API keys")).to_be_focused()
    expect(section(page, "API keys")).to_be_in_viewport()
    expect(section(page, "Profile")).to_contain_text("lab@demo.example")
    expect(section(page, "My group")).to_contain_text("Demo Lab North")
    check_page(page, "account")
    page.get_by_role("navigation", name="Sections").get_by_role("link", name="Sessions").click()
    expect(section(page, "Sessions")).to_be_focused()
    page.go_back()
    expect(section(page, "API keys")).to_be_focused()


def test_a_name_is_changed(page: Page, site: Site) -> None:
    sign_in(page, site, "lab", "/account")
    name = section(page, "Profile").get_by_label("Name")
    save = section(page, "Profile").get_by_role("button", name="Save")
    expect(save).to_be_disabled()
    name.fill("Lena Laboratory")
    name.press("Enter")
    expect(page.get_by_role("banner")).to_contain_text("Lena Laboratory")
    assert site.call("lab", "GET", "/rpc/whoami").json()["name"] == "Lena Laboratory"


def test_sessions_elsewhere_are_ended(page: Page, second_page: Page, site: Site) -> None:
    sign_in(page, site, "lab", "/account")
    sessions = section(page, "Sessions")
    expect(sessions.get_by_role("listitem").first).to_contain_text("this one")
    elsewhere = sessions.get_by_role("listitem").filter(has_text="Firefox on Windows")
    expect(elsewhere).to_have_count(1)
    elsewhere.get_by_role("button", name="End").click()
    expect(page.get_by_text("The session has ended.")).to_be_visible()
    expect(elsewhere).to_have_count(0)
    second_page.get_by_role("link", name="Account").click()
    expect(second_page.get_by_role("dialog", name="Sign in again")).to_be_visible()

    # Those of the tests before, and two more.
    site.call("lab", "GET", "/site")
    site.call("lab", "GET", "/site")
    page.reload()
    sessions.get_by_role("button", name="End all others").click()
    page.get_by_role("dialog").get_by_role("button", name="End all others").click()
    expect(sessions.get_by_role("listitem")).to_have_count(1)
    expect(sessions.get_by_role("listitem")).to_contain_text("this one")


def test_a_new_password_ends_the_other_sessions(page: Page, second_page: Page, site: Site) -> None:
    sign_in(page, site, "lab", "/account")
    password = section(page, "Password")
    change = password.get_by_role("button", name="Change the password")
    password.get_by_label("Present password").fill("not the password")
    password.get_by_label("New password").fill("north lab is mine")
    expect(password.get_by_text("Too short without what anybody can guess: north")).to_be_visible()
    expect(change).to_be_disabled()
    password.get_by_label("New password").fill(GOOD)
    change.click()
    expect(password.get_by_role("alert")).to_have_text("The password is wrong.")
    check_page(page, "account-password-wrong")
    password.get_by_label("Present password").fill(site.passwords["lab"])
    password.get_by_label("New password").fill(site.passwords["lab"])
    change.click()
    expect(password.get_by_role("alert")).to_have_text("You have used this password before.")
    password.get_by_label("New password").fill(GOOD)
    change.click()
    expect(page.get_by_text("Your password is changed.")).to_be_visible()
    expect(password.get_by_label("Present password")).to_have_value("")
    site.passwords["lab"] = GOOD
    second_page.get_by_role("link", name="Account").click()
    again = second_page.get_by_role("dialog", name="Sign in again")
    again.get_by_label("Password", exact=True).fill(GOOD)
    again.get_by_role("button", name="Sign in").click()
    expect(section(second_page, "Profile")).to_be_visible()


def test_the_second_factor_is_renewed_and_switched_off(page: Page, site: Site) -> None:
    who, password = "site.read", site.passwords["site.read"]
    sign_in(page, site, who, "/account")
    factor = section(page, "Second factor")
    factor.get_by_role("link", name="Set up a second factor").click()
    device: pyotp.TOTP = set_up(page, password)
    page.get_by_label("Code", exact=True).fill(used := device.now())
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("button", name="I have kept them").click()
    expect(factor.get_by_text("you are asked for a code")).to_be_visible()
    # A shorter password will do now.
    expect(page.get_by_text("At least 8 characters (0 so far)")).to_be_visible()

    factor.get_by_role("button", name="Renew recovery codes").click()
    dialog = page.get_by_role("dialog", name="Renew recovery codes")
    dialog.get_by_label("Your password").fill(password)
    dialog.get_by_label("Code of your second factor").fill("wrong")
    dialog.get_by_role("button", name="Renew recovery codes").click()
    expect(dialog.get_by_role("alert")).to_have_text("The code is wrong, or was used before.")
    check_page(page, "account-factor-renew")
    dialog.get_by_label("Code of your second factor").fill(next_code(device, used))
    dialog.get_by_role("button", name="Renew recovery codes").click()
    expect(dialog.get_by_text("These codes are good from now on")).to_be_visible()
    recovery = dialog.get_by_role("listitem").first.inner_text()
    check_page(page, "account-factor-renewed")
    # Escape would lose them.
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="I have kept them").click()

    factor.get_by_role("button", name="Switch off").click()
    dialog = page.get_by_role("dialog", name="Switch off")
    dialog.get_by_label("Your password").fill(password)
    dialog.get_by_label("Code of your second factor").fill(recovery)
    dialog.get_by_role("button", name="Switch off").click()
    expect(factor.get_by_text("your password alone lets you in")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    fill_sign_in(page, who, password)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_key_is_made_used_and_deleted(page: Page, site: Site) -> None:
    sign_in(page, site, "other.lab", "/account#keys")
    keys = section(page, "API keys")
    expect(keys.get_by_text("You have no API keys.")).to_be_visible()
    keys.get_by_label("Label").fill("sequencer")
    keys.get_by_label("Ends").select_option("on a day of your choice")
    keys.get_by_label("Last day").fill("2999-12-31")
    keys.get_by_role("button", name="Make a key").click()
    expect(keys.get_by_role("alert")).to_contain_text("A key made now ends at")
    keys.get_by_label("Ends").select_option("in 30 days")
    keys.get_by_role("button", name="Make a key").click()
    dialog = page.get_by_role("dialog", name="Key “sequencer”")
    check_page(page, "account-key-made")
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Copy: curl").click()
    curl = page.evaluate("navigator.clipboard.readText()")
    token = find_token(curl)
    done = subprocess.run(shlex.split(curl), check=True, capture_output=True, text=True, env=make_environment())
    assert '"other.lab@demo.example"' in done.stdout
    dialog.get_by_role("button", name="Copy: Command-line client").click()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    variables = dict(line.removeprefix("export ").split("=") for line in lines[:-1])
    assert variables == {"DATAMETA_URL": site.address, "DATAMETA_TOKEN": token}
    assert lines[-1].split()[:2] == ["datameta", "check"]
    template = subprocess.run(
        [DATAMETA, "template", "--to", site.served.folder / "template.csv"],
        check=True,
        capture_output=True,
        env=make_environment(**variables),
    )
    assert template.returncode == 0
    dialog.get_by_role("button", name="I have kept it").click()
    expect(dialog).to_be_hidden()
    row = keys.get_by_role("row").filter(has_text="sequencer")
    check_page(page, "account-keys")
    # It is shown this once.
    assert token not in page.content()
    row.get_by_role("button", name="Delete").click()
    question = page.get_by_role("dialog", name="Delete the key “sequencer”?")
    question.get_by_role("button", name="Cancel").click()
    assert whoami(site, token).status_code == 200
    row.get_by_role("button", name="Delete").click()
    question.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    assert whoami(site, token).status_code == 401


def test_security_events_are_told_in_words(page: Page, site: Site) -> None:
    body = {"email": email_of("group.admin"), "password": "not the password"}
    assert requests.post(f"{site.address}/api/v1/sessions", json=body, timeout=60).status_code == 401
    site.call("group.admin", "POST", "/keys", json={"label": "harvester"})
    for _ in range(12):
        site.call("group.admin", "GET", "/site")
        site.call("group.admin", "DELETE", "/sessions/current")
    sign_in(page, site, "group.admin", "/account#events")
    events = section(page, "Security events")
    expect(events.get_by_role("listitem")).to_have_count(20)
    expect(events.get_by_role("listitem").first).to_contain_text("Signed in")
    expect(events.get_by_text("Signed out")).not_to_have_count(0)
    page.get_by_role("button", name="Show more").click()
    expect(events.get_by_text("An attempt to sign in failed")).to_be_visible()
    expect(events.get_by_text("wrong password · from 127.0.0.1")).to_be_visible()
    expect(events.get_by_text("An API key was made")).to_be_visible()
    expect(events.get_by_text("“harvester” · from 127.0.0.1")).to_be_visible()
    # None has but the name that it has in the database.
    assert not re.search(
        r"\b[a-z_]+\.[a-z_]+\b", "\n".join(events.locator("li > div > span:first-child").all_inner_texts())
    )
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_text("Ein Versuch, sich anzumelden, schlug fehl")).to_be_visible()
    expect(page.get_by_text("falsches Passwort · von 127.0.0.1")).to_be_visible()
    check_page(page, "account-german")


def test_a_group_admin_looks_after_the_group(page: Page, site: Site) -> None:
    sign_in(page, site, "group.admin", "/account#group")
    group = section(page, "My group")
    row = group.get_by_role("listitem").filter(has_text="lab@demo.example")
    expect(group.get_by_role("listitem").filter(has_text="group.admin@demo.example")).to_contain_text("you")
    expect(group.get_by_text("other.lab@demo.example")).to_have_count(0)
    row.get_by_role("button", name="Bar from signing in").click()
    page.get_by_role("dialog").get_by_role("button", name="Bar from signing in").click()
    expect(row).to_contain_text("may not sign in")
    check_page(page, "account-group")
    body = {"email": email_of("lab"), "password": site.passwords["lab"]}
    assert requests.post(f"{site.address}/api/v1/sessions", json=body, timeout=60).status_code == 401
    row.get_by_role("button", name="Let sign in").click()
    page.get_by_role("dialog").get_by_role("button", name="Let sign in").click()
    expect(row).not_to_contain_text("may not sign in")
    assert site.call("lab", "GET", "/rpc/whoami").status_code == 200


def test_the_account_fits_a_phone_and_the_keyboard(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, site, "group.admin", "/account")
    expect(page.get_by_role("listitem").filter(has_text="group.admin@demo.example")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_page(page, "account-phone")
    page.get_by_label("Label").focus()
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Key “by hand”")
    expect(dialog).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_page(page, "account-key-made-phone")
    for _ in range(20):
        if dialog.get_by_role("button", name="I have kept it").evaluate("button => button === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("row").filter(has_text="by hand")).to_be_visible()


def open_operation(page: Page, path: str, method: str) -> Locator:
    operation = page.locator(f".opblock-{method}", has=page.locator(f"[data-path='{path}']"))
    operation.locator(".opblock-summary-control").click()
    return operation


def run_operation(operation: Locator) -> Locator:
    operation.get_by_role("button", name="Execute").click()
    return operation.locator(".live-responses-table .response")


def test_the_api_page_acts_for_who_has_signed_in(page: Page, site: Site) -> None:
    sign_in(page, site, "other.lab", "/explorer")
    page.locator(".opblock").first.wait_for()
    check_page(page, "explorer")
    answer = run_operation(open_operation(page, "/rpc/whoami", "get"))
    expect(answer).to_contain_text('"other.lab@demo.example"')
    # A change, by the session's token against forged requests.
    operation = open_operation(page, "/rpc/request-password-reset", "post")
    operation.locator("textarea").fill('{"email": "nobody@demo.example"}')
    expect(run_operation(operation).locator(".response-col_status")).to_contain_text("204")
    check_page(page, "explorer-tried")
    # Its styles leave with it.
    page.get_by_role("link", name="Account").click()
    expect(section(page, "API keys")).to_be_visible()
    assert page.locator("link[href*='swagger-ui.css']").count() == 0
    page.go_back()
    page.locator(".opblock").first.wait_for()


def test_the_api_page_takes_a_key_and_ends_it(page: Page, site: Site) -> None:
    sign_in(page, site, "other.lab", "/explorer")
    page.get_by_role("button", name="Use a key for an hour").click()
    expect(page.get_by_text("Calls are made with a key")).to_be_visible()
    check_page(page, "explorer-key")
    operation = open_operation(page, "/rpc/whoami", "get")
    expect(run_operation(operation)).to_contain_text('"other.lab@demo.example"')
    curl = operation.locator(".curl").inner_text()
    token = find_token(curl)
    assert whoami(site, token).status_code == 200
    page.get_by_role("button", name="End it now").click()
    expect(page.get_by_role("button", name="Use a key for an hour")).to_be_visible()
    expect(run_operation(operation)).to_contain_text('"other.lab@demo.example"')
    assert "Bearer" not in operation.locator(".curl").inner_text()
    assert whoami(site, token).status_code == 401
    # Leaving the page ends it, too.
    page.get_by_role("button", name="Use a key for an hour").click()
    expect(page.get_by_text("Calls are made with a key")).to_be_visible()
    with page.expect_response(lambda answer: answer.request.method == "DELETE" and "/keys/" in answer.url) as ended:
        page.get_by_role("link", name="Account").click()
    assert ended.value.status == 200


def test_the_api_page_speaks_german_and_fits_a_phone(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, site, "other.lab", "/explorer#/Accounts/createApiKey")
    # A link to an operation opens it.
    page.locator("#operations-Accounts-createApiKey.is-open").wait_for()
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("button", name="Eine Stunde lang einen Schlüssel verwenden")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check_page(page, "explorer-phone")
