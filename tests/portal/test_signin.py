"""Signing in with a second factor, setting one up, a forgotten password, and a new account."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import serve_cleanly
from tests.portal.conftest import Site, check_page, email_of, open_site, read_mails, sign_in, wait_for

STEP_SECONDS = 30
GOOD = "seven purple herons rest"


def find_link(site: Site, to: str, seen: int = 0) -> str:
    """Wait for the ``seen + 1``-th mail to somebody, and return the link in the newest."""
    mails = wait_for(lambda: read_mails(site, to)[seen:])
    [link] = re.findall(r"https?://\S+/setpass#\w+", mails[-1].get_content())
    return str(link)


def set_setting(site: Site, key: str, value: str) -> None:
    """Change a setting of the site, as its admin does."""
    [setting] = [each for each in site.call("site.admin", "GET", "/appsettings").json() if each["key"] == key]
    path = f"/appsettings/{setting['id']['uuid']}"
    assert site.call("site.admin", "PUT", path, json={"value": value}).status_code == 204


def set_up(page: Page, password: str) -> pyotp.TOTP:
    """Go through the first two steps of setting up a second factor; return what the device knows."""
    page.get_by_label("Your password, once more").fill(password)
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("Enter the secret by hand instead").click()
    secret = page.locator("details code").inner_text().replace(" ", "")
    return pyotp.TOTP(secret)


def next_code(device: pyotp.TOTP, after: str) -> str:
    """Return a code that is good and was not used: the one after, for clocks may differ by a step."""
    now = time.time()
    return next(code for code in (device.at(now), device.at(now + STEP_SECONDS)) if code != after)


def fill_sign_in(page: Page, who: str, password: str) -> None:
    page.get_by_label("E-mail address").fill(email_of(who))
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_a_second_factor_from_the_qr_code_to_a_lost_phone(page: Page, site: Site) -> None:
    sign_in(page, site, "other.lab", "/second-factor")
    check_page(page, "second-factor-password")
    page.get_by_label("Your password, once more").fill("not the password")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("alert")).to_have_text("The password is wrong.")
    device = set_up(page, site.passwords["other.lab"])
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    check_page(page, "second-factor-code")
    page.get_by_label("Code", exact=True).fill("wrong")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("alert")).to_have_text("The code is wrong.")
    used = device.now()
    page.get_by_label("Code", exact=True).fill(used)
    page.keyboard.press("Enter")
    codes = page.get_by_role("listitem").filter(has_text=re.compile(r"^([A-Z2-7]{4}-?){4}$"))
    expect(codes).to_have_count(10)
    check_page(page, "second-factor-recovery")
    [recovery, *_] = codes.all_inner_texts()
    page.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()").split() == codes.all_inner_texts()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    kept = download.value.path().read_text("utf-8")
    assert "Recovery codes of other.lab@demo.example at DataMeta" in kept
    assert recovery in kept
    page.get_by_role("button", name="I have kept them").click()
    expect(page).to_have_url(re.compile("/account#second-factor$"))

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    fill_sign_in(page, "other.lab", site.passwords["other.lab"])
    code = page.get_by_label("Code of your second factor")
    expect(code).to_be_focused()
    check_page(page, "sign-in-code")
    code.fill(used)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The code is wrong, or was used before.")
    check_page(page, "sign-in-code-wrong")
    code.fill(next_code(device, used))
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()

    # The phone is lost: a recovery code lets in, once.
    page.get_by_role("button", name="Sign out").click()
    fill_sign_in(page, "other.lab", site.passwords["other.lab"])
    code.fill(recovery.lower())
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Sign out").click()
    fill_sign_in(page, "other.lab", site.passwords["other.lab"])
    code.fill(recovery)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The code is wrong, or was used before.")


def test_who_mistook_the_account_starts_again(page: Page, site: Site) -> None:
    page.goto(site.address)
    fill_sign_in(page, "other.lab", site.passwords["other.lab"])
    page.get_by_role("button", name="Not you?").click()
    expect(page.get_by_label("E-mail address")).to_have_value("other.lab@demo.example")
    fill_sign_in(page, "lab", site.passwords["lab"])
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_too_many_attempts_say_how_long_to_wait(page: Page, site: Site) -> None:
    page.goto(site.address)
    alert = page.get_by_role("alert")
    for _ in range(10):
        fill_sign_in(page, "site.read", "not the password")
        expect(alert).to_have_text("There is no such user, or the password is another.")
    fill_sign_in(page, "site.read", site.passwords["site.read"])
    expect(alert).to_have_text(
        re.compile(r"^There were too many attempts\. Wait (1 min )?\d+ secs?, then try again\.$")
    )
    check_page(page, "sign-in-throttled")
    page.get_by_label("Language").select_option("de")
    page.get_by_role("button", name="Anmelden").click()
    expect(alert).to_have_text(re.compile(r"^Das waren zu viele Versuche\. Warten Sie (1 Min\. )?\d+ Sek\. und"))


def test_a_forgotten_password_is_set_by_a_mailed_link(page: Page, site: Site) -> None:
    who, email = "group.admin", email_of("group.admin")
    page.goto(site.address)
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("link", name="Password forgotten?").click()
    expect(page.get_by_role("heading", name="Password forgotten")).to_be_visible()
    expect(page.get_by_label("E-mail address")).to_have_value(email)
    check_page(page, "forgotten")
    page.get_by_role("button", name="Send me a link").click()
    expect(page.get_by_text(f"If there is an account with the address {email}")).to_be_visible()
    check_page(page, "forgotten-sent")
    link = find_link(site, email)

    page.goto(link)
    password = page.get_by_label("New password")
    button = page.get_by_role("button", name="Set a password")
    expect(page.get_by_text("At least 15 characters (0 so far)")).to_be_visible()
    expect(button).to_be_disabled()
    check_page(page, "set-password")
    password.fill("abababababababababab")
    expect(page.get_by_text("No piece that repeats itself, nothing like abcdef (not fulfilled)")).to_be_visible()
    password.fill("my DataMeta word")
    expect(page.get_by_text("Too short without what anybody can guess: datameta")).to_be_visible()
    check_page(page, "set-password-broken")
    expect(button).to_be_disabled()
    # What only the portal knows: the group, here.
    password.fill("Demo Lab North!!")
    button.click()
    expect(page.get_by_role("alert")).to_contain_text("Anybody can guess: north, demo.")
    password.fill(GOOD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_text("Your password is set.")).to_be_visible()
    fill_sign_in(page, who, GOOD)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()

    page.goto(link)
    page.get_by_label("New password").fill("five green toads jump")
    page.get_by_role("button", name="Set a password").click()
    expect(page.get_by_text("This link does not work any more.")).to_be_visible()
    check_page(page, "set-password-over")
    page.get_by_role("link", name="Ask for another link").click()
    expect(page.get_by_role("heading", name="Password forgotten")).to_be_visible()


def test_a_stranger_hears_the_same_and_gets_no_mail(page: Page, site: Site) -> None:
    page.goto(site.address + "/forgotten")
    page.get_by_label("E-mail address").fill("nobody@demo.example")
    page.get_by_role("button", name="Send me a link").click()
    expect(page.get_by_text("If there is an account with the address nobody@demo.example")).to_be_visible()
    assert read_mails(site, "nobody@demo.example") == []


def test_an_address_without_its_token_says_so(page: Page, site: Site) -> None:
    page.goto(site.address + "/setpass")
    expect(page.get_by_text("This address is not complete.")).to_be_visible()
    check_page(page, "set-password-missing")


def test_a_new_lab_registers_and_gets_its_password(page: Page, site: Site) -> None:
    agreement = "1. Be honest.\n2. Be kind.\n" + "\n".join(f"{number}. And so on." for number in range(3, 40))
    set_setting(site, "user_agreement", agreement)
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(site.address)
    page.get_by_role("link", name="New here? Register").click()
    expect(page.get_by_role("region", name="User agreement")).to_contain_text("2. Be kind.")
    check_page(page, "register-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_label("Your name").fill("Nora New")
    page.get_by_label("E-mail address").fill("nora@example.org")
    page.get_by_label("Your organisation", exact=True).select_option("Demo Lab South")
    page.get_by_label("It is new here").check()
    page.get_by_label("Name of your organisation").fill("Demo Lab North")
    page.get_by_label("I accept the user agreement").check()
    page.get_by_role("button", name="Ask for an account").click()
    expect(page.get_by_role("alert")).to_have_text("There is a group with this name already; choose it from the list.")
    check_page(page, "register-refused")
    page.get_by_label("Name of your organisation").fill("New Lab")
    page.get_by_role("button", name="Ask for an account").click()
    expect(page.get_by_text("Your request has been received.")).to_be_visible()
    check_page(page, "register-sent")

    [wish] = site.call("site.admin", "GET", "/registrations").json()
    assert (wish["name"], wish["email"], wish["newGroupName"]) == ("Nora New", "nora@example.org", "New Lab")
    path = f"/registrations/{wish['id']['uuid']}"
    assert site.call("site.admin", "PUT", path, json={"accept": True}).status_code == 204
    page.goto(find_link(site, "nora@example.org", seen=1))
    page.get_by_label("New password").fill(GOOD)
    page.get_by_role("button", name="Set a password").click()
    page.get_by_label("E-mail address").fill("nora@example.org")
    page.get_by_label("Password", exact=True).fill(GOOD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Nora New")).to_be_visible()


def test_german_speaks_german_also_when_it_refuses(page: Page, site: Site) -> None:
    set_setting(site, "user_agreement", "Seien Sie ehrlich.")
    page.goto(site.address + "/register")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("heading", name="Registrieren")).to_be_visible()
    page.get_by_label("Ihr Name").fill("Nora Neu")
    page.get_by_label("E-Mail-Adresse").fill(".nora@example.org")
    page.get_by_label("Ihre Organisation", exact=True).select_option("Demo Lab South")
    page.get_by_label("Ich nehme die Nutzungsvereinbarung an").check()
    page.get_by_role("button", name="Um ein Konto bitten").click()
    expect(page.get_by_role("alert")).to_have_text("Dies ist keine E-Mail-Adresse.")
    check_page(page, "register-german")
    page.get_by_role("link", name="Ich habe schon ein Konto: anmelden").click()
    page.get_by_label("E-Mail-Adresse").fill(email_of("lab"))
    page.get_by_label("Passwort", exact=True).fill("falsch")
    page.get_by_role("button", name="Anmelden").click()
    expect(page.get_by_role("alert")).to_have_text("Die E-Mail-Adresse oder das Passwort stimmt nicht.")


def test_who_has_signed_in_is_not_asked_again(page: Page, site: Site) -> None:
    sign_in(page, site, "lab")
    page.goto(site.address + "/sign-in?next=/account")
    expect(page).to_have_url(f"{site.address}/account")
    page.goto(site.address + "/sign-in?next=//elsewhere.example/")
    expect(page).to_have_url(f"{site.address}/")


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Site]:
    """A demo portal of one test, which may change what the site demands."""
    with serve_cleanly(tmp_path / "home", tmp_path, "--demo") as served:
        yield open_site(served)


def test_a_site_that_requires_a_second_factor_asks_for_it_first(page: Page, strict: Site) -> None:
    set_setting(strict, "registration_open", "0")
    set_setting(strict, "second_factor_required", "1")
    page.goto(strict.address + "/data")
    expect(page.get_by_role("link", name="Register")).to_have_count(0)
    fill_sign_in(page, "lab", strict.passwords["lab"])
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    expect(page.get_by_text("This site requires a second factor.")).to_be_visible()
    # There is no way round it.
    page.goto(strict.address + "/account")
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()
    check_page(page, "second-factor-required")
    page.goto(strict.address + "/second-factor?next=/data")
    device = set_up(page, strict.passwords["lab"])
    page.get_by_label("Code", exact=True).fill(device.now())
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("button", name="I have kept them").click()
    expect(page).to_have_url(f"{strict.address}/data")
    page.goto(strict.address + "/register")
    expect(page.get_by_text("This site takes no registrations.")).to_be_visible()
    check_page(page, "register-closed")
