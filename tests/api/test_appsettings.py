"""Settings over the API: each has a type and bounds, and a value that does not fit is refused."""

from datetime import date, time
from typing import Any

import pytest
from sqlalchemy import select

from datameta.logic.appsettings import CATALOGUE, PLACEHOLDERS, Setting, get_setting, get_settings
from datameta.models import AppSetting
from tests.conftest import Client, Portal, assert_refused, list_events, set_setting

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user(site_admin=True)


def put(admin: Client, key: str, value: Any) -> Any:
    return admin.put(f"/appsettings/{CATALOGUE[key].uuid}", {"value": value})


def read(admin: Client) -> dict[str, str]:
    return {item["key"]: item["value"] for item in admin.get("/appsettings").json}


def test_settings_are_for_site_admins(portal: Portal, admin: Client) -> None:
    path = f"/appsettings/{CATALOGUE['site_name'].uuid}"
    for other in (portal.add_user(group_admin=True), portal.add_user(site_read=True)):
        assert_refused(other.get("/appsettings"), 403, ("forbidden", None))
        assert_refused(other.put(path, {"value": "X"}), 403, ("forbidden", None))
        assert_refused(other.put(f"/appsettings/{UNKNOWN}", {"value": "X"}), 403, ("forbidden", None))
    assert portal.anonymous().get("/appsettings").status_int == 401
    assert read(admin)["site_name"] == "DataMeta"


def test_every_setting_is_listed_with_its_default(portal: Portal, admin: Client) -> None:
    listed = admin.get("/appsettings").json
    assert [item["key"] for item in listed] == list(CATALOGUE)
    for item in listed:
        setting = CATALOGUE[item["key"]]
        assert item == {
            "id": {"uuid": str(setting.uuid)},
            "key": setting.key,
            "valueType": setting.value_type,
            "value": setting.default,
        }
    with portal.database.sessions() as db:
        values = get_settings(db, *CATALOGUE)
        assert db.scalars(select(AppSetting).where(AppSetting.key.in_(CATALOGUE))).all() == []
    assert all(isinstance(values[key], int if CATALOGUE[key].value_type == "int" else str) for key in CATALOGUE)


def test_details_are_told_to_who_asks(admin: Client) -> None:
    assert put(admin, "site_name", "Elsewhere").status_int == 204
    listed = admin.get("/appsettings?details=true").json
    assert [item["key"] for item in listed] == list(CATALOGUE)
    for item in listed:
        setting = CATALOGUE[item["key"]]
        assert (item["default"], item["description"]) == (setting.default, setting.doc)
    assert {item["key"]: item["value"] for item in listed}["site_name"] == "Elsewhere"
    assert "default" not in admin.get("/appsettings?details=false").json[0]
    assert_refused(admin.get("/appsettings?details=perhaps"), 400, ("invalid_parameter", "details"))


def test_every_setting_is_documented_and_its_default_fits() -> None:
    for setting in CATALOGUE.values():
        assert setting.parse(setting.default) is not None
        assert setting.doc.endswith(".")
    assert {f"mail_{kind}_{part}" for kind in PLACEHOLDERS for part in ("subject", "body")} <= set(CATALOGUE)
    assert len({setting.uuid for setting in CATALOGUE.values()}) == len(CATALOGUE)


def test_a_changed_setting_holds_and_is_told_to_the_audit(portal: Portal, admin: Client) -> None:
    for value in (" 12 ", "20", "20"):
        response = put(admin, "password_min_length", value)
        assert (response.status_int, response.body) == (204, b"")
    assert put(admin, "site_name", "Genome Depot").status_int == 204
    assert read(admin)["password_min_length"] == "20"
    with portal.database.sessions() as db:
        assert get_setting(db, "password_min_length") == 20
        assert get_setting(db, "site_name") == "Genome Depot"
    assert [(event.entity_uuid, event.before, event.after) for event in list_events(portal, "setting.")] == [
        (CATALOGUE["password_min_length"].uuid, {"password_min_length": "15"}, {"password_min_length": "12"}),
        (CATALOGUE["password_min_length"].uuid, {"password_min_length": "12"}, {"password_min_length": "20"}),
        (CATALOGUE["site_name"].uuid, {"site_name": "DataMeta"}, {"site_name": "Genome Depot"}),
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("password_min_length", "7"),
        ("password_min_length", "129"),
        ("password_min_length", "many"),
        ("password_min_length", ""),
        ("password_min_length", "8.5"),
        ("password_min_length", "9" * 5000),
        ("password_min_length_second_factor", "7"),
        ("password_history", "-1"),
        ("second_factor_required", "2"),
        ("second_factor_required", "true"),
        ("session_idle_hours", "0"),
        ("registration_days", "366"),
        ("site_name", ""),
        ("site_name", " x"),
        ("site_name", "a\nb"),
        ("site_name", "x" * 256),
        ("support_email", "nobody"),
        ("mail_sender", ""),
        ("mail_sender", "a@b, c@d"),
        ("mail_sender", "a@b\r\nBcc: c@d"),
        ("mail_reset_subject", ""),
        ("mail_reset_subject", "two\nlines"),
        ("mail_reset_subject", "{message}"),
        ("mail_reset_body", " \n"),
        ("mail_reset_body", "x" * 10_001),
        ("mail_reset_body", "{password}"),
        # What a stranger wrote is not sent on to an address that nobody has proved.
        ("mail_registration_received_body", "Hello {name}"),
        ("mail_registration_refused_body", "Hello {name}"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(portal: Portal, admin: Client, key: str, value: str) -> None:
    response = put(admin, key, value)
    assert_refused(response, 400, ("invalid_setting", "value"))
    assert response.json[0]["message"].startswith(f"The value of {key} must be ")
    assert read(admin)[key] == CATALOGUE[key].default
    assert list_events(portal, "setting.") == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("support_email", ""),
        ("support_email", "help@example.org"),
        ("user_agreement", ""),
        ("user_agreement", "Be\n\nkind. {anything}" * 1000),
        ("mail_reset_body", "{name} {link} {expires} {site_name} {} {Name} {0}"),
    ],
)
def test_a_value_that_fits_is_kept_to_the_letter(admin: Client, key: str, value: str) -> None:
    assert put(admin, key, value).status_int == 204
    assert read(admin)[key] == value


@pytest.mark.parametrize(
    ("value", "code"), [(5, "wrong_type"), (None, "wrong_type"), ("a\0", "invalid_text"), ("x" * 100_001, "too_long")]
)
def test_a_value_that_is_no_text_is_malformed(admin: Client, value: Any, code: str) -> None:
    assert_refused(put(admin, "site_name", value), 400, (code, "value"))


@pytest.mark.parametrize("setting_id", [UNKNOWN, "0", "site_name", "DMU-00000000"])
def test_an_unknown_setting_is_not_found(admin: Client, setting_id: str) -> None:
    assert_refused(admin.put(f"/appsettings/{setting_id}", {"value": "X"}), 404, ("not_found", None))


def test_a_stored_value_that_does_not_fit_any_more_counts_as_the_default(portal: Portal, admin: Client) -> None:
    set_setting(portal, "password_min_length", "1")
    with portal.database.sessions() as db:
        assert get_setting(db, "password_min_length") == 15
    assert read(admin)["password_min_length"] == "15"


@pytest.mark.parametrize(
    ("value_type", "text", "value"),
    [
        ("int", "-5", -5),
        ("string", " as it is ", " as it is "),
        ("float", "2.5e3", 2500.0),
        ("date", "2030-01-31", date(2030, 1, 31)),
        ("time", "17:30", time(17, 30)),
    ],
)
def test_each_type_is_read_as_what_it_means(value_type: str, text: str, value: Any) -> None:
    assert Setting("x", value_type, "", "", lambda value: None).parse(text) == value


@pytest.mark.parametrize(
    ("value_type", "text"),
    [("float", "inf"), ("float", "nan"), ("float", "x"), ("date", "31.1.2030"), ("date", ""), ("time", "25:00")],
)
def test_what_is_not_of_the_type_says_what_is_expected(value_type: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"^a (number|date such as|time such as)"):
        Setting("x", value_type, "", "", lambda value: None).parse(text)
