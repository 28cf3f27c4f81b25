"""A mail is previewed as it would be sent, with made-up values, before its text is saved."""

from typing import Any

import pytest

from datameta.logic.appsettings import CATALOGUE, PLACEHOLDERS
from tests.conftest import BASE_URL, Client, Portal, assert_refused, list_events, set_setting

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user(site_admin=True)


def send(admin: Client, key: str, value: Any) -> Any:
    """Preview a setting; every answer is returned."""
    return admin.post(f"/appsettings/{CATALOGUE[key].uuid}/preview", {"value": value})


def test_only_site_admins_see_previews(portal: Portal) -> None:
    for user in (portal.add_user(group_admin=True), portal.add_user(site_read=True)):
        assert_refused(send(user, "mail_reset_body", "x"), 403, ("forbidden", None))
        assert_refused(user.post(f"/appsettings/{UNKNOWN}/preview", {"value": "x"}), 403, ("forbidden", None))
    assert_refused(send(portal.anonymous(), "mail_reset_body", "x"), 401, ("unauthenticated", None))


@pytest.mark.parametrize("key", ["site_name", "mail_sender"])
def test_what_is_no_mail_has_no_preview(admin: Client, key: str) -> None:
    assert_refused(send(admin, key, "x"), 404, ("not_found", None))
    assert_refused(admin.post(f"/appsettings/{UNKNOWN}/preview", {"value": "x"}), 404, ("not_found", None))


def test_the_text_is_filled_in_and_the_subject_is_that_of_today(portal: Portal, admin: Client) -> None:
    set_setting(portal, "site_name", "Genome Depot")
    set_setting(portal, "mail_reset_subject", "For {name} at {site_name}")
    text = "  Hello {name},\n\n{link}\n\nat {site_name}. {Name} {} \n\n"
    answer = send(admin, "mail_reset_body", text).json
    assert answer == {
        "subject": "For Ada Example at Genome Depot",
        "text": f"Hello Ada Example,\n\n{BASE_URL}/setpass#EXAMPLE\n\nat Genome Depot. {{Name}} {{}}\n",
        "problems": [],
    }
    assert list_events(portal, "setting.") == []
    assert send(admin, "mail_reset_body", "{name}").json["text"] == "Ada Example\n"


def test_the_subject_is_filled_in_and_the_text_is_that_of_today(admin: Client) -> None:
    answer = send(admin, "mail_totp_removed_subject", "Your  second factor, {name}").json
    assert answer["subject"] == "Your second factor, Ada Example"
    assert answer["text"].startswith("Hello Ada Example,\n\nan administrator has removed")
    assert answer["problems"] == []


@pytest.mark.parametrize("kind", PLACEHOLDERS)
def test_everything_that_a_mail_may_name_has_a_sample(admin: Client, kind: str) -> None:
    text = "".join(f"<{{{name}}}>" for name in PLACEHOLDERS[kind])
    answer = send(admin, f"mail_{kind}_body", text).json
    assert answer["problems"] == []
    assert "<>" not in answer["text"]


@pytest.mark.parametrize(
    ("part", "value"), [("subject", ""), ("body", " "), ("body", "{password}"), ("subject", "a\nb")]
)
def test_a_value_that_can_not_be_saved_is_shown_with_its_problem(admin: Client, part: str, value: str) -> None:
    key = f"mail_reset_{part}"
    refused = admin.put(f"/appsettings/{CATALOGUE[key].uuid}", {"value": value})
    assert_refused(refused, 400, ("invalid_setting", "value"))
    answer = send(admin, key, value)
    assert answer.status_int == 200
    message = refused.json[0]["message"]
    assert answer.json["problems"] == [{"code": "invalid_setting", "message": message, "field": "value"}]


def test_the_longest_value_is_shown(admin: Client) -> None:
    answer = send(admin, "mail_reset_body", "{link}" * 16_666).json
    assert len(answer["text"]) > 100_000
    assert answer["problems"][0]["code"] == "invalid_setting"
    assert_refused(send(admin, "mail_reset_body", "x" * 100_001), 400, ("too_long", "value"))
