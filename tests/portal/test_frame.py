"""The frame of all pages: who may see what, language, colours, addresses, a session that ends."""

import re
from typing import Literal

import pytest
from playwright.sync_api import Page, Route, expect

from tests.portal.conftest import Site, check_page, sign_in, wait_for

MOST_SCRIPT = 300_000
APPLICATION = re.compile(r"/assets/index-[^/]+\.js$")


def test_a_stranger_signs_in_and_gets_where_the_link_led(page: Page, site: Site) -> None:
    page.goto(site.address + "/data?q=x")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    check_page(page, "sign-in")
    sign_in(page, site, "lab", "/data?q=x")
    expect(page).to_have_url(f"{site.address}/data?q=x")


def test_a_wrong_password_is_said_and_nothing_is_lost(page: Page, site: Site) -> None:
    page.goto(site.address)
    page.get_by_label("E-mail address").fill("lab@demo.example")
    page.get_by_label("Password", exact=True).fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("E-mail address")).to_have_value("lab@demo.example")


def test_signing_out_ends_the_session(page: Page, site: Site) -> None:
    sign_in(page, site, "lab")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(site.address + "/account")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_address_of_nothing_says_so(page: Page, site: Site) -> None:
    sign_in(page, site, "lab", "/")
    page.goto(site.address + "/no/such/page")
    expect(page.get_by_text("There is nothing at this address.").last).to_be_visible()
    check_page(page, "not-found")


@pytest.mark.parametrize("who", ["lab", "group.admin", "site.read", "other.lab"])
def test_administration_is_for_site_admins(page: Page, site: Site, who: str) -> None:
    sign_in(page, site, who, "/admin/users")
    expect(page.get_by_text("This page is for administrators of the site.")).to_be_visible()
    expect(page.get_by_role("link", name="Administration")).to_have_count(0)


def test_german_and_dark_are_remembered(page: Page, site: Site) -> None:
    sign_in(page, site, "lab")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("link", name="Einreichen")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.get_by_label("Farben").select_option("dark")
    page.reload()
    expect(page.get_by_role("link", name="Einreichen")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-scheme", "dark")


@pytest.mark.parametrize(("scheme", "other"), [("dark", "light"), ("light", "dark")])
def test_a_chosen_scheme_is_there_before_the_application(
    page: Page, site: Site, scheme: str, other: Literal["dark", "light"]
) -> None:
    """Nobody who chose dark sees a flash of light, nor the other way round."""

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme=other)
    page.goto(site.address)
    unchosen = background()
    page.get_by_label("Colours").select_option(scheme)
    chosen = background()
    assert chosen != unchosen
    held: list[Route] = []
    page.route(APPLICATION, lambda route: held.append(route))
    page.reload(wait_until="commit")
    [application] = wait_for(lambda: held, page)
    expect(page.locator("html")).to_have_attribute("data-scheme", scheme)
    assert background() == chosen
    assert page.get_by_role("heading").count() == 0
    application.continue_()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    # Paper is light.
    page.emulate_media(media="print")
    assert background() == (chosen if scheme == "light" else unchosen)


def test_a_page_fetches_little_script(page: Page, site: Site) -> None:
    page.goto(site.address)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    weigh(page, "the first page")
    sign_in(page, site, "lab")
    for path in ("/", "/submit"):
        page.goto(site.address + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        weigh(page, path)


def weigh(page: Page, name: str) -> None:
    """Demand that the scripts of a page, compressed as they are sent, are small."""
    bytes_ = page.evaluate(
        """() => performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('.js'))
            .reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0)"""
    )
    print(f"{name}: {bytes_ / 1000:.0f} kB of script")
    assert 0 < bytes_ < MOST_SCRIPT


def test_a_session_that_ends_is_renewed_over_the_page(page: Page, site: Site) -> None:
    sign_in(page, site, "lab")
    page.context.clear_cookies()
    page.get_by_role("button", name="Sign out").click()
    dialog = page.get_by_role("dialog", name="Sign in again")
    expect(dialog).to_be_visible()
    check_page(page, "sign-in-again")
    dialog.get_by_label("Password", exact=True).fill(site.passwords["lab"])
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_phone_has_a_menu(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    sign_in(page, site, "lab")
    expect(page.get_by_role("link", name="Submit", exact=True)).to_be_hidden()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Submit", exact=True).click()
    expect(page).to_have_url(re.compile("/submit$"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
