"""Passwords over the API: changed with the old one, set with a mailed link, and what makes them good."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import webtest
from sqlalchemy import func, select, text, update

from datameta import credentials
from datameta.logic import links, login, passwords, throttle
from datameta.logic.throttle import RULES
from datameta.models import ApiKey, OldPassword, PasswordToken, User
from tests.conftest import (
    BASE_URL,
    PASSWORD,
    Browser,
    Client,
    Portal,
    assert_refused,
    list_events,
    make_second_factor,
    read_mails,
    set_setting,
    sign_in,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"
NEW = "another quite long one"


def change(client: Client, old: str = PASSWORD, new: str = NEW, user_id: str = "") -> webtest.TestResponse:
    body = {"passwordChangeCredential": old, "newPassword": new}
    return client.put(f"/users/{user_id or client.uuid}/password", body)


def reset(portal: Portal, token: str, new: str = NEW) -> webtest.TestResponse:
    return change(portal.anonymous(), token, new, "0")


def ask_for_link(portal: Portal, email: str, **more: Any) -> webtest.TestResponse:
    return portal.anonymous().post("/rpc/request-password-reset", {"email": email}, **more)


def get_token(portal: Portal, email: str) -> str:
    """Return the token of a link that is asked for and mailed now."""
    assert ask_for_link(portal, email).status_int == 204
    return read_mails(portal)[-1].values["link"].partition("#")[2]


def is_let_in(client: Client, password: str) -> bool:
    body = {"email": client.email, "password": password}
    response = client.portal.anonymous().post("/sessions", body)
    client.portal.app.reset()
    return bool(response.status_int == 200)


def test_a_password_is_changed_with_the_old_one_and_other_sessions_end(portal: Portal) -> None:
    user = portal.add_user()
    browser, other, stranger = sign_in(user), sign_in(user), sign_in(portal.add_user())
    response = change(browser, user_id=user.site_id)
    assert (response.status_int, response.body) == (204, b"")
    assert (is_let_in(user, PASSWORD), is_let_in(user, NEW)) == (False, True)
    assert other.get("/rpc/whoami").status_int == 401
    for client in (browser, stranger, user):
        assert client.get("/rpc/whoami").status_int == 200
    [event] = list_events(portal, "password.")
    assert (event.event, str(event.entity_uuid), str(event.actor_uuid)) == ("password.changed", user.uuid, user.uuid)
    assert event.after == {"sessions_ended": 1}


def test_a_password_is_changed_by_nobody_else(portal: Portal) -> None:
    user, admin = portal.add_user(), sign_in(portal.add_user(site_admin=True))
    browser = sign_in(user)
    assert_refused(change(user), 403, ("key_not_allowed", None))
    assert_refused(change(admin, user_id=user.uuid), 403, ("forbidden", None))
    for unknown in (UNKNOWN, "x", "00", "current"):
        assert_refused(change(browser, user_id=unknown), 403, ("forbidden", None))
    for user_id in (user.uuid, UNKNOWN):
        assert_refused(change(portal.anonymous(), user_id=user_id), 401, ("unauthenticated", None))
    assert_refused(change(browser, "not the password"), 403, ("wrong_password", None))
    assert is_let_in(user, PASSWORD)


def test_old_passwords_cannot_be_guessed_in_a_session(portal: Portal) -> None:
    browser = sign_in(portal.add_user())
    assert {change(browser, "x").status_int for _ in range(10)} == {403}
    assert_refused(change(browser), 429, ("too_many_requests", None))
    events = list_events(portal, "login.failed")
    assert [str(event.actor_uuid) for event in events] == [browser.uuid] * 10


def test_two_changes_at_once_are_one(portal: Portal) -> None:
    browser = sign_in(portal.add_user())
    wishes = [f"{number} another quite long one" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda new: change(browser, new=new).status_int, wishes))
    assert sorted(statuses) == [204, 403, 403, 403]
    assert is_let_in(browser, wishes[statuses.index(204)])


def test_a_password_changed_while_another_change_is_checked_stays(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = sign_in(portal.add_user())
    other = credentials.hash_password("set meanwhile, and long", 4)
    real = passwords.require_own_password

    def require_own_password(*arguments: Any, **more: Any) -> User:
        user = real(*arguments, **more)
        with portal.database.sessions.begin() as db:
            db.execute(update(User).values(password_hash=other))
        return user

    monkeypatch.setattr(passwords, "require_own_password", require_own_password)
    assert_refused(change(browser), 403, ("wrong_password", None))
    assert is_let_in(browser, "set meanwhile, and long")


@pytest.mark.parametrize(
    ("new", "code"),
    [
        ("", "password_too_short"),
        ("short", "password_too_short"),
        ("14 characters!", "password_too_short"),
        ("x" * 257, "too_long"),
        ("a long enough\0password", "invalid_text"),
        ("1qaz2wsx3edc4rfv", "password_common"),
        ("1QAZ2wsx3edc4RFV", "password_common"),
        ("passwordpassword", "password_common"),
        ("aaaaaaaaaaaaaaaaaaaa", "password_common"),
        ("abcdefghijklmnopqrstuvwxyz", "password_common"),
        ("9876543210/.-,+*", "password_common"),
        ("DataMeta-2026!!", "password_guessable"),
        ("freiburgfreiburg1", "password_guessable"),
        ("USER1-Freiburg-7", "password_guessable"),
        (PASSWORD, "password_used"),
    ],
)
def test_a_bad_password_is_refused(portal: Portal, new: str, code: str) -> None:
    user = portal.add_user("Lab Freiburg")
    assert_refused(change(sign_in(user), new=new), 400, (code, "newPassword"))
    assert_refused(reset(portal, get_token(portal, user.email), new), 400, (code, "newPassword"))
    assert is_let_in(user, PASSWORD)


@pytest.mark.parametrize(
    "new",
    [
        "exactly fifteen",
        "密码" * 7 + "很",
        "🔑 no rules of composition",
        "x" * 200 + "y" * 56,
        "DataMeta is where I hand in",
    ],
)
def test_a_long_password_of_any_script_is_taken(portal: Portal, new: str) -> None:
    user = portal.add_user()
    assert change(sign_in(user), new=new).status_int == 204
    assert is_let_in(user, new)


def test_a_refused_password_leaves_the_link_as_it_is(portal: Portal) -> None:
    user = portal.add_user()
    token = get_token(portal, user.email)
    assert reset(portal, token, "short").status_int == 400
    assert reset(portal, token).status_int == 204


def test_how_long_a_password_must_be_is_a_setting_and_less_with_a_second_factor(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    set_setting(portal, "password_min_length", "12")
    assert change(browser, new="twelve chars").status_int == 204
    assert change(browser, "twelve chars", "9 chars !").status_int == 400
    make_second_factor(user)
    assert change(browser, "twelve chars", "9 chars !").status_int == 204
    assert change(browser, "9 chars !", "7 chars").status_int == 400
    assert change(browser, "9 chars !", "password").status_int == 400


def test_passwords_of_before_do_not_come_again_soon(portal: Portal) -> None:
    browser = sign_in(portal.add_user())
    set_setting(portal, "password_history", "2")
    used = [PASSWORD, *(f"long password number {number}" for number in range(13))]
    for old, new in pairwise(used):
        assert change(browser, old, new).status_int == 204
    for again in used[-3:]:
        assert_refused(change(browser, used[-1], again), 400, ("password_used", "newPassword"))
    assert change(browser, used[-1], used[-4]).status_int == 204
    with portal.database.sessions() as db:
        assert db.scalar(select(func.count()).select_from(OldPassword)) == 10


def test_without_a_history_only_the_present_password_is_refused(portal: Portal) -> None:
    browser = sign_in(portal.add_user())
    set_setting(portal, "password_history", "0")
    assert change(browser).status_int == 204
    assert change(browser, NEW, NEW).status_int == 400
    assert change(browser, NEW, PASSWORD).status_int == 204


def test_a_link_to_set_a_password_is_mailed(portal: Portal) -> None:
    user = portal.add_user()
    response = ask_for_link(portal, user.email.upper(), headers={"Host": "evil.example"})
    assert (response.status_int, response.body) == (204, b"")
    [mail] = read_mails(portal)
    assert (mail.template, mail.to) == ("reset", user.email)
    assert set(mail.values) == {"name", "link", "expires"}
    assert re.fullmatch(re.escape(BASE_URL) + "/setpass#[A-Za-z0-9]{64}", mail.values["link"])
    token = mail.values["link"].partition("#")[2]
    with portal.database.sessions() as db:
        row = db.scalars(select(PasswordToken)).one()
        assert row.token_hash == credentials.hash_token(token)
        assert row.expires_at - row.created_at == timedelta(minutes=30)
        assert token not in str(db.scalars(text("SELECT args::text FROM procrastinate_jobs")).all())
    assert reset(portal, token).status_int == 204
    assert is_let_in(user, NEW)
    assert [event.event for event in list_events(portal, "password.")] == ["password.reset_requested", "password.reset"]


def test_nobody_learns_whose_addresses_are_known(portal: Portal) -> None:
    user, disabled = portal.add_user(), portal.add_user()
    with portal.database.sessions.begin() as db:
        db.execute(update(User).where(User.site_id == disabled.site_id).values(enabled=False))
    answers = set()
    for email in (user.email, disabled.email, "nobody@x.org", ""):
        response = ask_for_link(portal, email)
        assert response.headers.pop("X-Request-Id")
        answers.add((response.status, str(sorted(response.headers.items())), response.body))
    assert len(answers) == 1
    assert [mail.to for mail in read_mails(portal)] == [user.email]


def test_a_reset_ends_all_sessions_and_revokes_all_keys(portal: Portal) -> None:
    user, other = portal.add_user(), portal.add_user()
    browser = sign_in(user)
    token = get_token(portal, user.email)
    assert reset(portal, token).status_int == 204
    assert browser.get("/rpc/whoami").status_int == user.get("/rpc/whoami").status_int == 401
    assert other.get("/rpc/whoami").status_int == 200
    with portal.database.sessions() as db:
        assert db.scalar(select(func.count()).select_from(ApiKey)) == 1
    assert [event.before["label"] for event in list_events(portal, "key.revoked") if event.before] == ["test"]
    assert list_events(portal, "password.reset")[-1].after == {"sessions_ended": 1}


def test_a_reset_keeps_the_second_factor(portal: Portal) -> None:
    user = portal.add_user()
    code = make_second_factor(user)
    assert reset(portal, get_token(portal, user.email)).status_int == 204
    body = {"email": user.email, "password": NEW}
    assert_refused(portal.anonymous().post("/sessions", body), 401, ("otp_required", None))
    assert portal.anonymous().post("/sessions", {**body, "otp": code()}).status_int == 200


def test_a_reset_lets_in_at_once_who_was_slowed_down(portal: Portal) -> None:
    user = portal.add_user()
    for _ in range(10):
        assert not is_let_in(user, "x")
    assert portal.anonymous().post("/sessions", {"email": user.email, "password": PASSWORD}).status_int == 429
    assert reset(portal, get_token(portal, user.email)).status_int == 204
    assert is_let_in(user, NEW)


def test_a_link_is_good_for_one_use(portal: Portal) -> None:
    user = portal.add_user()
    token = get_token(portal, user.email)
    assert reset(portal, token).status_int == 204
    assert_refused(reset(portal, token, "yet another long one"), 404, ("not_found", None))
    for unknown in ("", "x", "x" * 64, token.lower(), PASSWORD):
        assert_refused(reset(portal, unknown), 404, ("not_found", None))
    assert is_let_in(user, NEW)


def test_a_link_used_many_times_at_once_is_used_once(portal: Portal) -> None:
    user = portal.add_user()
    token = get_token(portal, user.email)
    wishes = [f"{number} another quite long one" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda new: reset(portal, token, new).status_int, wishes))
    assert sorted(statuses) == [204, 404, 404, 404]
    assert is_let_in(user, wishes[statuses.index(204)])


def test_a_link_ends_with_its_time_the_next_link_and_a_change_of_password(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    first, second = get_token(portal, user.email), get_token(portal, user.email)
    assert_refused(reset(portal, first), 404, ("not_found", None))
    with portal.database.sessions.begin() as db:
        db.execute(update(PasswordToken).values(expires_at=func.now()))
    assert_refused(reset(portal, second), 410, ("expired", None))
    third = get_token(portal, user.email)
    assert change(browser).status_int == 204
    assert_refused(reset(portal, third, "yet another long one"), 404, ("not_found", None))
    assert is_let_in(user, NEW)


def test_a_link_of_a_user_who_was_disabled_is_not_known(portal: Portal) -> None:
    user = portal.add_user()
    token = get_token(portal, user.email)
    with portal.database.sessions.begin() as db:
        db.execute(update(User).values(enabled=False))
    assert_refused(reset(portal, token), 404, ("not_found", None))


def test_a_link_needs_no_login_and_heeds_none(portal: Portal) -> None:
    user, other = portal.add_user(), portal.add_user()
    token = get_token(portal, user.email)
    foreign = replace(sign_in(other), csrf="")
    assert change(foreign, token, NEW, "0").status_int == 204
    assert (is_let_in(user, NEW), is_let_in(other, PASSWORD)) == (True, True)


def test_how_long_a_link_lives_is_a_setting(portal: Portal) -> None:
    user = portal.add_user()
    set_setting(portal, "password_token_minutes", "10")
    get_token(portal, user.email)
    with portal.database.sessions() as db:
        row = db.scalars(select(PasswordToken)).one()
    assert row.expires_at - row.created_at == timedelta(minutes=10)


@pytest.mark.parametrize("is_known", [True, False])
def test_an_account_gets_five_links_a_day_and_nobody_learns_that(portal: Portal, is_known: bool) -> None:
    email = portal.add_user().email if is_known else "nobody@example.org"
    assert {ask_for_link(portal, email).status_int for _ in range(7)} == {204}
    assert len(read_mails(portal)) == (5 if is_known else 0)


def test_an_address_of_the_network_asks_for_twenty_links_a_day(portal: Portal) -> None:
    environ = {"REMOTE_ADDR": "192.0.2.1"}
    for number in range(RULES["reset_ip"].limit):
        assert ask_for_link(portal, f"{number}@x.org", extra_environ=environ).status_int == 204
    refused = ask_for_link(portal, "x@x.org", extra_environ=environ)
    assert_refused(refused, 429, ("too_many_requests", None))
    assert ask_for_link(portal, "x@x.org", extra_environ={"REMOTE_ADDR": "192.0.2.2"}).status_int == 204


def test_a_link_that_is_not_mailed_costs_the_same_work(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    user = portal.add_user()
    stored: list[str] = []
    real = login.store_mail

    def store_mail(*arguments: Any, **more: Any) -> None:
        stored.append(more["to"])
        real(*arguments, **more)

    for module in (links, login):
        monkeypatch.setattr(module, "store_mail", store_mail)
    ask_for_link(portal, user.email)
    ask_for_link(portal, "nobody@example.org")
    assert stored == [user.email, "nobody@example.org"]


def test_registrations_may_be_throttled_by_address(portal: Portal) -> None:
    sessions = portal.database.sessions
    assert [throttle.is_free(sessions, "registration", "192.0.2.1") for _ in range(6)] == [True] * 5 + [False]
    assert throttle.is_free(sessions, "registration", "192.0.2.2")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"newPassword": NEW}, "missing", "passwordChangeCredential"),
        ({"passwordChangeCredential": "x"}, "missing", "newPassword"),
        ({"passwordChangeCredential": "x", "newPassword": None}, "wrong_type", "newPassword"),
        ({"passwordChangeCredential": 5, "newPassword": NEW}, "wrong_type", "passwordChangeCredential"),
        ({"passwordChangeCredential": "x", "newPassword": NEW, "otp": ""}, "unknown_property", "otp"),
    ],
)
@pytest.mark.parametrize("user_id", ["0", UNKNOWN])
def test_a_malformed_change_is_refused(
    portal: Portal, body: dict[str, Any], code: str, field: str, user_id: str
) -> None:
    browser: Browser = sign_in(portal.add_user())
    assert_refused(browser.put(f"/users/{user_id}/password", body), 400, (code, field))
