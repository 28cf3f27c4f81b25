"""What anybody may know of the site, and the settings that say it."""

import base64
from dataclasses import replace

import pytest

from datameta import __version__
from datameta.logic.appsettings import CATALOGUE, MAX_LOGO_BYTES
from datameta.logic.demo import add_demo
from tests.conftest import Client, Portal, assert_refused, set_setting

PNG, JPEG, WEBP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\n\n\n\nWEBP"


def make_logo(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user(site_admin=True)


def put(admin: Client, key: str, value: str) -> int:
    response = admin.put(f"/appsettings/{CATALOGUE[key].uuid}", {"value": value})
    if response.status_int != 204:
        assert_refused(response, 400, ("invalid_setting", "value"))
    return int(response.status_int)


def test_a_stranger_reads_a_site_of_which_nothing_is_set(portal: Portal) -> None:
    assert portal.anonymous().get("/site").json == {
        "name": "DataMeta",
        "welcome": None,
        "notice": None,
        "color": None,
        "logo": None,
        "imprint": None,
        "contact": None,
        "version": __version__,
        "uploadMode": "gateway",
        "sheetMaxBytes": portal.settings.sheet_max_bytes,
        "passwordMinLength": 15,
        "passwordMinLengthSecondFactor": 8,
        "isDemo": False,
        "hasMail": False,
        "hasRegistration": True,
    }


def test_what_is_set_is_shown(portal: Portal, admin: Client) -> None:
    values = {
        "site_name": "Genome Depot",
        "site_welcome": "Welcome.\n\nHand in what you have.",
        "site_notice": "Closed on Friday.",
        "site_color": "#0A7d5c",
        "site_logo": make_logo(PNG),
        "site_imprint": "https://www.example.org/imprint?lang=en#top",
        "support_email": "help@example.org",
        "registration_open": "0",
        "password_min_length": "12",
        "password_min_length_second_factor": "10",
    }
    assert {put(admin, key, value) for key, value in values.items()} == {204}
    shown = portal.anonymous().get("/site").json
    names = ("name", "welcome", "notice", "color", "logo", "imprint", "contact")
    assert [shown[name] for name in names] == list(values.values())[:-3]
    assert shown["hasRegistration"] is False
    assert (shown["passwordMinLength"], shown["passwordMinLengthSecondFactor"]) == (12, 10)
    for key in ("site_welcome", "site_notice", "site_color", "site_logo", "site_imprint", "support_email"):
        assert put(admin, key, "") == 204
    assert {portal.anonymous().get("/site").json[name] for name in names} == {"Genome Depot", None}


def test_how_the_portal_runs_is_shown(portal: Portal) -> None:
    settings = replace(
        portal.settings, upload_mode="presigned", storage="s3", smtp_host="mail.example.org", sheet_max_bytes=5000
    )
    with portal.database.sessions.begin() as db:
        add_demo(db, settings)
    shown = Portal(portal.database, settings, portal.storage).anonymous().get("/site").json
    assert (shown["uploadMode"], shown["hasMail"], shown["sheetMaxBytes"]) == ("direct", True, 5000)
    assert shown["isDemo"] is True


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("site_welcome", "x" * 10_001),
        ("site_notice", "x" * 1001),
        ("site_color", "green"),
        ("site_color", "#0a7d5"),
        ("site_color", "#0a7d5c;"),
        ("site_logo", "https://www.example.org/logo.png"),
        ("site_logo", make_logo(b"<svg/>", "svg+xml")),
        ("site_logo", make_logo(b"<svg/>")),
        ("site_logo", make_logo(PNG, "jpeg")),
        ("site_logo", make_logo(PNG) + "A"),
        ("site_logo", "data:image/png;base64,iVBOR"),
        ("site_logo", make_logo(PNG) + "\n"),
        ("site_logo", make_logo(PNG + bytes(MAX_LOGO_BYTES - len(PNG) + 1))),
        ("site_imprint", "www.example.org"),
        ("site_imprint", "javascript:alert(1)"),
        ("site_imprint", "https://"),
        ("site_imprint", "https://[example.org"),
        ("site_imprint", "https://me@example.org/"),
        ("site_imprint", "https://example.org/an imprint"),
        ("site_imprint", "https://example.org/" + "x" * 255),
    ],
)
def test_a_value_that_does_not_fit_is_refused(admin: Client, key: str, value: str) -> None:
    assert put(admin, key, value) == 400


@pytest.mark.parametrize(
    "logo",
    [
        make_logo(PNG + bytes(MAX_LOGO_BYTES - len(PNG))),
        make_logo(JPEG, "jpeg"),
        make_logo(WEBP, "webp"),
    ],
)
def test_a_picture_is_a_logo(portal: Portal, admin: Client, logo: str) -> None:
    assert put(admin, "site_logo", logo) == 204
    assert portal.anonymous().get("/site").json["logo"] == logo


def test_a_stored_value_that_does_not_fit_any_more_is_not_shown(portal: Portal) -> None:
    set_setting(portal, "site_logo", make_logo(b"<svg/>", "svg+xml"))
    assert portal.anonymous().get("/site").json["logo"] is None
