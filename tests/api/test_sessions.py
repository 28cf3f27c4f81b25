"""Sessions over the API: begun, listed, ended; and what protects a change by cookie."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from datameta.clock import utc_now
from datameta.credentials import hash_token
from datameta.logic import sessions
from datameta.models import LoginSession, User
from tests.conftest import (
    BASE_URL,
    PASSWORD,
    Browser,
    Portal,
    assert_refused,
    list_events,
    make_second_factor,
    set_setting,
    sign_in,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"
GENERIC = ("unauthenticated", None)


def current(browser: Browser) -> Any:
    return browser.get("/sessions/current").json


def change_session(portal: Portal, browser: Browser, **values: Any) -> None:
    with portal.database.sessions.begin() as db:
        token_hash = hash_token(browser.cookie)
        db.execute(update(LoginSession).where(LoginSession.token_hash == token_hash).values(**values))


@pytest.mark.parametrize(("base_url", "is_secure"), [(BASE_URL, False), ("https://portal.test/data", True)])
def test_the_cookie_is_for_the_browser_alone(portal: Portal, base_url: str, is_secure: bool) -> None:
    safe = Portal(portal.database, replace(portal.settings, base_url=base_url), portal.storage)
    user = safe.add_user()
    response = safe.anonymous().post("/sessions", {"email": user.email, "password": PASSWORD})
    [cookie] = response.headers.getall("Set-Cookie")
    value, *attributes = cookie.split("; ")
    assert re.fullmatch("datameta=[A-Za-z0-9]{64}", value)
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Lax"} | ({"secure"} if is_secure else set())
    token = value.removeprefix("datameta=")
    assert token not in response.text
    with portal.database.sessions() as db:
        assert db.scalars(select(LoginSession.token_hash)).all() == [hash_token(token)]


def test_a_session_is_described_as_at_its_beginning(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    session = current(browser)
    assert session["csrfToken"] == browser.csrf
    assert session["userId"] == {"uuid": user.uuid, "site": user.site_id}
    assert set(session["id"]) == {"uuid"}
    end = datetime.fromisoformat(session["expires"])
    assert timedelta(hours=23) < end - utc_now() <= timedelta(hours=24)
    assert_refused(user.get("/sessions/current"), 404, ("not_found", None))
    assert_refused(user.delete("/sessions/current"), 404, ("not_found", None))


def test_one_sees_where_one_is_signed_in(portal: Portal) -> None:
    user, other = portal.add_user(), portal.add_user()
    first = sign_in(user)
    body = {"email": user.email, "password": PASSWORD}
    environ = {"REMOTE_ADDR": "192.0.2.1", "HTTP_USER_AGENT": "Browser ä " + "x" * 2000}
    second = portal.anonymous().post("/sessions", body, extra_environ=environ).json
    portal.app.reset()
    sign_in(other)
    listed = first.get("/sessions").json
    assert [item["id"] for item in listed] == [second["id"], current(first)["id"]]
    assert [item["isCurrent"] for item in listed] == [False, True]
    assert set(listed[0]) == {"id", "createdAt", "lastSeenAt", "expires", "ip", "userAgent", "isCurrent"}
    assert (listed[0]["ip"], len(listed[0]["userAgent"])) == ("192.0.2.1", 1000)
    assert (listed[1]["ip"], listed[1]["userAgent"]) == (None, None)
    assert first.cookie not in first.get("/sessions").text
    assert [item["isCurrent"] for item in user.get("/sessions").json] == [False, False]


def test_each_login_begins_a_session_of_its_own(portal: Portal) -> None:
    user = portal.add_user()
    first = sign_in(user)
    response = first.post("/sessions", {"email": user.email, "password": PASSWORD})
    assert response.json["id"] != current(first)["id"]
    assert first.cookie not in response.headers["Set-Cookie"]


def test_signing_out_ends_the_session_and_clears_the_cookie(portal: Portal) -> None:
    user = portal.add_user()
    browser, other = sign_in(user), sign_in(user)
    response = browser.delete("/sessions/current")
    assert (response.status_int, response.body) == (204, b"")
    assert "datameta=; Max-Age=0; Path=/; expires=" in response.headers["Set-Cookie"]
    assert_refused(browser.get("/rpc/whoami"), 401, GENERIC)
    assert other.get("/rpc/whoami").status_int == 200
    assert [event.event for event in list_events(portal, "logout")] == ["logout"]


def test_one_ends_ones_own_sessions_only(portal: Portal) -> None:
    user, stranger = portal.add_user(), sign_in(portal.add_user())
    browser, lost = sign_in(user), sign_in(user)
    lost_id = current(lost)["id"]["uuid"]
    assert_refused(stranger.delete(f"/sessions/{lost_id}"), 403, ("forbidden", None))
    for session_id in (UNKNOWN, "x", user.uuid):
        assert_refused(browser.delete(f"/sessions/{session_id}"), 404, ("not_found", None))
    assert lost.get("/rpc/whoami").status_int == 200
    assert browser.delete(f"/sessions/{lost_id}").status_int == 204
    assert_refused(lost.get("/rpc/whoami"), 401, GENERIC)
    assert_refused(browser.delete(f"/sessions/{lost_id}"), 404, ("not_found", None))
    assert user.delete(f"/sessions/{current(browser)['id']['uuid']}").status_int == 204
    assert_refused(browser.get("/rpc/whoami"), 401, GENERIC)
    events = list_events(portal, "session.")
    assert [(event.event, str(event.actor_uuid)) for event in events] == [("session.ended", user.uuid)] * 2
    assert str(events[0].entity_uuid) == lost_id


@pytest.mark.parametrize(
    "values",
    [
        {"last_seen_at": func.now() - timedelta(hours=8, seconds=1)},
        {"expires_at": func.now()},
    ],
)
def test_a_session_ends_by_itself(portal: Portal, values: dict[str, Any]) -> None:
    browser, other = (sign_in(user) for user in [portal.add_user()] * 2)
    change_session(portal, browser, **values)
    assert_refused(browser.get("/rpc/whoami"), 401, GENERIC)
    assert [item["isCurrent"] for item in other.get("/sessions").json] == [True]


def test_how_long_a_session_lives_is_a_setting(portal: Portal) -> None:
    user = portal.add_user()
    set_setting(portal, "session_idle_hours", "1")
    set_setting(portal, "session_max_hours", "2")
    browser = sign_in(user)
    assert datetime.fromisoformat(current(browser)["expires"]) < utc_now() + timedelta(hours=2)
    change_session(portal, browser, last_seen_at=func.now() - timedelta(minutes=59))
    assert browser.get("/rpc/whoami").status_int == 200
    change_session(portal, browser, last_seen_at=func.now() - timedelta(minutes=61))
    assert browser.get("/rpc/whoami").status_int == 401


def test_the_use_of_a_session_is_noted_once_a_minute(portal: Portal) -> None:
    browser = sign_in(portal.add_user())

    def last_seen() -> datetime:
        return datetime.fromisoformat(browser.get("/sessions").json[0]["lastSeenAt"])

    first = last_seen()
    assert last_seen() == first
    change_session(portal, browser, last_seen_at=func.now() - timedelta(seconds=61))
    assert last_seen() >= first


def test_a_session_is_dead_with_its_user(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    with portal.database.sessions.begin() as db:
        db.execute(update(User).values(enabled=False))
    assert_refused(browser.get("/rpc/whoami"), 401, GENERIC)


@pytest.mark.parametrize(
    "cookie", ["", "x", "x" * 64, "x" * 65, "ä" * 64, '"quoted', "a\\000", "=;=;", "\xff\xfe", "x" * 64 + "; other=1"]
)
def test_a_cookie_that_is_none_is_no_credential(portal: Portal, cookie: str) -> None:
    stranger = portal.anonymous()
    environ = {"HTTP_COOKIE": f"datameta={cookie}"}
    assert_refused(stranger.get("/rpc/whoami", extra_environ=environ), 401, GENERIC)
    assert_refused(stranger.post("/keys", {"label": "x"}, extra_environ=environ), 401, GENERIC)


def test_beside_a_key_the_cookie_does_not_count(portal: Portal) -> None:
    user, other = portal.add_user(), portal.add_user()
    browser = sign_in(user)
    both = replace(browser, token=other.token, csrf="")
    assert both.get("/rpc/whoami").json["email"] == other.email
    assert both.post("/keys", {"label": "x"}).json["userId"]["uuid"] == other.uuid
    for header in ("", "Bearer", "Bearer " + "x" * 64, "Basic eDp4"):
        assert_refused(browser.get("/rpc/whoami", headers={"Authorization": header}), 401, GENERIC)


def test_a_change_by_cookie_needs_the_token_of_the_session(portal: Portal) -> None:
    user = portal.add_user()
    browser, other = sign_in(user), sign_in(user)
    assert browser.post("/keys", {"label": "x"}).status_int == 200
    for csrf in ("", "x", browser.csrf + "x", browser.csrf[:-1], other.csrf, browser.cookie, "\xe4"):
        forged = replace(browser, csrf=csrf)
        assert forged.get("/rpc/whoami").status_int == 200
        assert forged.request("head", "/rpc/whoami").status_int == 200
        for response in (
            forged.post("/keys", {"label": "x"}),
            forged.put(f"/groups/{user.group}", {"name": 5}),
            forged.delete("/sessions/current"),
            forged.delete(f"/sessions/{UNKNOWN}"),
            forged.put(f"/users/{user.uuid}/password", {"passwordChangeCredential": PASSWORD, "newPassword": "x" * 20}),
        ):
            assert_refused(response, 403, ("csrf_failed", None))
    assert len(user.get(f"/users/{user.uuid}/keys").json) == 2
    assert browser.get("/rpc/whoami").status_int == 200


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, True),
        ({"Origin": BASE_URL}, True),
        ({"Origin": BASE_URL + ":80"}, True),
        ({"Origin": BASE_URL, "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": BASE_URL, "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "https://portal.test"}, False),
        ({"Origin": BASE_URL + ":8080"}, False),
        ({"Origin": BASE_URL + ":x"}, False),
        ({"Origin": BASE_URL + ".evil.example"}, False),
        ({"Origin": "http://[evil"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        # The name by which the request came says nothing.
        ({"Origin": "http://evil.example", "Host": "evil.example"}, False),
    ],
)
def test_a_change_by_cookie_and_a_login_come_from_our_own_pages(
    portal: Portal, headers: dict[str, str], is_own: bool
) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    body = {"email": user.email, "password": PASSWORD}
    for response in (
        browser.post("/keys", {"label": "x"}, headers=headers),
        portal.anonymous().post("/sessions", body, headers=headers),
    ):
        portal.app.reset()
        if is_own:
            assert response.status_int == 200
        else:
            assert_refused(response, 403, ("csrf_failed", None))
    assert browser.get("/rpc/whoami", headers=headers).status_int == 200
    assert user.post("/keys", {"label": "x"}, headers=headers).status_int == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_change_by_cookie_is_json(portal: Portal, kind: str) -> None:
    browser = sign_in(portal.add_user())
    headers = {"Cookie": f"datameta={browser.cookie}", "X-CSRF-Token": browser.csrf, "Content-Type": kind}
    for chunked in (False, True):
        more = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {}
        response = portal.app.post("/api/v1/metadatasets", '{"record": {}}', headers, more, expect_errors=True)
        assert_refused(response, 403, ("csrf_failed", None))
        # Where strangers may come, the body is looked at first.
        response = portal.app.post("/api/v1/keys", '{"label": "x"}', headers, more, expect_errors=True)
        assert_refused(response, 415, ("unsupported_type", None))
    headers["Content-Type"] = "application/json; charset=utf-8"
    assert portal.app.post("/api/v1/keys", '{"label": "x"}', headers).status_int == 200


def test_where_a_second_factor_is_required_a_session_can_only_set_one_up(portal: Portal) -> None:
    user, admin = portal.add_user(), portal.add_user(site_admin=True)
    before = sign_in(user)
    set_setting(portal, "second_factor_required", "1")
    browser = sign_in(user)
    for session in (before, browser):
        assert current(session)["secondFactor"] == "setup_required"
        assert session.get("/rpc/whoami").status_int == 200
        for response in (
            session.get("/sessions"),
            session.get("/metadata"),
            session.get(f"/users/{user.uuid}/keys"),
            session.get(f"/users/{UNKNOWN}"),
            session.post("/keys", {"label": "x"}),
            session.put(f"/users/{user.uuid}/password", {"passwordChangeCredential": PASSWORD, "newPassword": "x"}),
            session.delete(f"/users/{user.uuid}/totp-secret"),
            session.delete(f"/sessions/{UNKNOWN}"),
        ):
            assert_refused(response, 403, ("second_factor_required", None))
    assert user.get("/metadata").status_int == admin.get("/users").status_int == 200
    assert before.delete("/sessions/current").status_int == 204
    make_second_factor(user)
    assert current(browser)["secondFactor"] == "active"
    assert browser.get("/metadata").status_int == 200


def test_sessions_of_a_user_are_ended_but_for_one(portal: Portal) -> None:
    user, other = portal.add_user(), sign_in(portal.add_user())
    kept, *ended = (sign_in(user) for _ in range(3))
    with portal.database.sessions.begin() as db:
        user_id, session_id = db.execute(
            select(LoginSession.user_id, LoginSession.id).where(LoginSession.token_hash == hash_token(kept.cookie))
        ).one()
        assert sessions.end_sessions(db, user_id, except_id=session_id) == 2
    assert kept.get("/rpc/whoami").status_int == other.get("/rpc/whoami").status_int == 200
    assert {browser.get("/rpc/whoami").status_int for browser in ended} == {401}
    with portal.database.sessions.begin() as db:
        assert sessions.end_sessions(db, user_id) == 1
    assert kept.get("/rpc/whoami").status_int == 401
