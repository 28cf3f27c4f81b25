"""Signing in by password: one answer for all that does not fit, slowed down where there is too much of it."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import bcrypt
import pytest
import webtest
from sqlalchemy import func, select, text, update

from datameta import credentials
from datameta.logic import login, throttle
from datameta.logic.throttle import RULES
from datameta.models import Throttle, User
from tests.conftest import (
    PASSWORD,
    Client,
    Portal,
    assert_refused,
    list_events,
    make_second_factor,
    read_mails,
    set_setting,
    sign_in,
)

GENERIC = ("unauthenticated", None)


def attempt(client: Client, password: str = "not the password", ip: str | None = None, **more: Any) -> Any:
    """Try to sign in; every answer is returned."""
    environ = {} if ip is None else {"REMOTE_ADDR": ip}
    body = {"email": client.email, "password": password, **more}
    response = client.portal.anonymous().post("/sessions", body, extra_environ=environ)
    client.portal.app.reset()
    return response


def somebody(portal: Portal, email: str = "nobody@example.org") -> Client:
    """Return a client whom the portal does not know."""
    return Client(portal, None, "", "", email, "")


def change_user(portal: Portal, client: Client, **values: Any) -> None:
    with portal.database.sessions.begin() as db:
        db.execute(update(User).where(User.site_id == client.site_id).values(**values))


def read_user(portal: Portal, client: Client) -> User:
    with portal.database.sessions() as db:
        return db.scalars(select(User).where(User.site_id == client.site_id)).one()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hashes that bcrypt is asked about."""
    seen: list[bytes] = []
    real = bcrypt.checkpw

    def note(password: bytes, kept: bytes) -> bool:
        seen.append(kept)
        return real(password, kept)

    monkeypatch.setattr(credentials.bcrypt, "checkpw", note)
    return seen


def test_one_signs_in_with_an_address_in_any_case(portal: Portal) -> None:
    user = portal.add_user()
    response = attempt(somebody(portal, user.email.upper()), PASSWORD)
    assert response.status_int == 200
    assert set(response.json) == {"id", "userId", "csrfToken", "expires", "secondFactor"}
    assert response.json["userId"] == {"uuid": user.uuid, "site": user.site_id}
    assert response.json["secondFactor"] == "none"


@pytest.mark.parametrize("path", ["/sessions", "/keys"])
def test_whatever_does_not_fit_is_one_refusal_at_the_cost_of_one_bcrypt(
    portal: Portal, checks: list[bytes], path: str
) -> None:
    wrong, disabled, paused = portal.add_user(), portal.add_user(), portal.add_user()
    change_user(portal, disabled, enabled=False)
    change_user(portal, paused, password_failures=login.MAX_FAILURES)
    label = {"label": "x"} if path == "/keys" else {}
    answers = []
    for client, password in (
        (wrong, "not the password"),
        (somebody(portal), PASSWORD),
        (disabled, PASSWORD),
        (paused, PASSWORD),
        (somebody(portal, ""), ""),
        (somebody(portal, "%"), PASSWORD),
    ):
        response = portal.anonymous().post(path, {"email": client.email, "password": password, **label})
        assert_refused(response, 401, GENERIC)
        assert "Set-Cookie" not in response.headers
        answers.append((response.body, response.headers["WWW-Authenticate"]))
    assert len(set(answers)) == 1
    assert len(checks) == 6
    assert {len(kept) for kept in checks} == {60}
    assert {kept[:7] for kept in checks} == {b"$2b$04$"}


def test_a_failure_is_counted_though_it_is_refused(portal: Portal) -> None:
    user = portal.add_user()
    for number in (1, 2):
        attempt(user)
        assert read_user(portal, user).password_failures == number
    events = list_events(portal, "login.")
    assert [(event.event, str(event.entity_uuid), event.actor_uuid) for event in events] == [
        ("login.failed", user.uuid, None)
    ] * 2


def test_a_success_clears_the_count_of_failures(portal: Portal) -> None:
    user = portal.add_user()
    for _ in range(9):
        assert attempt(user).status_int == 401
    sign_in(user)
    assert read_user(portal, user).password_failures == 0
    for _ in range(10):
        assert attempt(user).status_int == 401
    assert attempt(user).status_int == 429


def test_the_use_of_a_key_or_session_clears_no_count(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    attempt(user)
    assert user.get("/rpc/whoami").status_int == browser.get("/rpc/whoami").status_int == 200
    assert read_user(portal, user).password_failures == 1


@pytest.mark.parametrize("is_known", [True, False])
def test_the_eleventh_failure_of_an_account_has_to_wait(portal: Portal, is_known: bool, checks: list[bytes]) -> None:
    user, other = portal.add_user(), portal.add_user()
    target = user if is_known else somebody(portal)
    assert {attempt(target).status_int for _ in range(10)} == {401}
    for password in ("not the password", PASSWORD):
        response = attempt(target, password)
        assert_refused(response, 429, ("too_many_requests", None))
        assert 1 <= int(response.headers["Retry-After"]) <= 90
    assert len(checks) == 10
    sign_in(other)
    assert user.get("/rpc/whoami").status_int == 200
    if is_known:
        assert read_user(portal, user).enabled
    # A little later there is room for one more.
    with portal.database.sessions.begin() as db:
        db.execute(update(Throttle).values(empty_at=Throttle.empty_at - timedelta(seconds=90)))
    assert attempt(target).status_int == 401
    assert attempt(target).status_int == 429


def test_spelling_an_address_otherwise_gives_no_more_attempts(portal: Portal) -> None:
    user = portal.add_user()
    for number in range(10):
        email = user.email.upper() if number % 2 else user.email
        assert attempt(somebody(portal, email)).status_int == 401
    assert attempt(user).status_int == 429
    for number in range(10):
        assert attempt(somebody(portal, "Nobody@x.org" if number % 2 else "nobody@X.ORG")).status_int == 401
    assert attempt(somebody(portal, "nobody@x.org")).status_int == 429


def test_attempts_at_once_do_not_slip_through(portal: Portal) -> None:
    user = portal.add_user()

    def guess(_: int) -> int:
        app = webtest.TestApp(portal.app.app)
        body = {"email": user.email, "password": "not the password"}
        return app.post_json("/api/v1/sessions", body, expect_errors=True).status_int

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(guess, range(24)))
    assert (statuses.count(401), statuses.count(429)) == (10, 14)


def test_an_address_of_the_network_has_thirty_failures(portal: Portal) -> None:
    users = [portal.add_user() for _ in range(4)]
    for user in users[:3]:
        assert {attempt(user, ip="2001:db8::1").status_int for _ in range(10)} == {401}
    assert attempt(users[3], PASSWORD, ip="2001:db8::2").status_int == 429
    assert attempt(users[3], PASSWORD, ip="2001:db8:0:1::2").status_int == 200
    assert attempt(users[3], PASSWORD, ip="192.0.2.1").status_int == 200


def test_many_who_sign_in_from_one_address_are_not_slowed_down(portal: Portal) -> None:
    user = portal.add_user()
    assert {attempt(user, PASSWORD, ip="192.0.2.1").status_int for _ in range(40)} == {200}


def test_attempts_that_are_refused_unseen_are_noted_once(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    user = portal.add_user()
    for _ in range(15):
        attempt(user)
    [event] = list_events(portal, "login.throttled")
    assert str(event.entity_uuid) == user.uuid
    assert len([record for record in caplog.records if record.name == "datameta.login"]) == 1


def test_a_wave_of_failures_raises_an_alarm_and_stops_nobody(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    user = portal.add_user()
    attempt(user)
    assert not [record for record in caplog.records if record.name == "datameta.login"]
    with portal.database.sessions.begin() as db:
        full = func.now() + timedelta(seconds=RULES["login_site"].seconds)
        db.execute(update(Throttle).where(Throttle.bucket.startswith("login_site")).values(empty_at=full))
    assert attempt(user).status_int == 401
    assert [record.levelno for record in caplog.records if record.name == "datameta.login"] == [logging.ERROR]
    sign_in(user)


def test_a_hundred_failures_pause_the_password_until_a_mailed_link_is_used(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    change_user(portal, user, password_failures=99)
    attempt(user)
    assert_refused(attempt(user, PASSWORD), 401, GENERIC)
    assert read_user(portal, user).enabled
    assert user.get("/rpc/whoami").status_int == browser.get("/rpc/whoami").status_int == 200
    portal.anonymous().post("/rpc/request-password-reset", {"email": user.email})
    token = read_mails(portal)[-1].values["link"].partition("#")[2]
    new = "another quite long one"
    body = {"passwordChangeCredential": token, "newPassword": new}
    assert portal.anonymous().put("/users/0/password", body).status_int == 204
    sign_in(user, new)


def test_a_password_hash_of_the_time_before_is_made_anew_at_login(portal: Portal) -> None:
    user = portal.add_user()
    password = "pässwört " * 20
    old = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    change_user(portal, user, password_hash=old)
    assert attempt(user).status_int == 401
    assert read_user(portal, user).password_hash == old
    sign_in(user, password)
    renewed = read_user(portal, user).password_hash
    assert renewed.startswith("$bs256$2b$04$")
    sign_in(user, password)
    assert read_user(portal, user).password_hash == renewed
    # From now on nothing is cut off.
    assert attempt(user, password + "x").status_int == 401


def test_a_hash_of_another_cost_is_made_anew_at_login(portal: Portal) -> None:
    user = portal.add_user()
    change_user(portal, user, password_hash=credentials.hash_password(PASSWORD, 5))
    sign_in(user)
    assert read_user(portal, user).password_hash.startswith("$bs256$2b$04$")


def test_first_logins_at_once_with_an_old_hash_all_succeed(portal: Portal) -> None:
    user = portal.add_user()
    change_user(portal, user, password_hash=bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode())

    def enter(_: int) -> int:
        app = webtest.TestApp(portal.app.app)
        return app.post_json("/api/v1/sessions", {"email": user.email, "password": PASSWORD}).status_int

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(enter, range(6))) == {200}


def do_after(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], Any]) -> None:
    """Let ``action`` happen after a function of the login."""
    real = getattr(login, name)

    def act(*arguments: Any, **more: Any) -> Any:
        result = real(*arguments, **more)
        action()
        return result

    monkeypatch.setattr(login, name, act)


@pytest.mark.parametrize("change", [{"enabled": False}, {"password_hash": credentials.hash_password("other", 4)}])
@pytest.mark.parametrize("step", ["is_password", "_check_password"])
def test_who_was_disabled_or_given_another_password_meanwhile_does_not_get_in(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], step: str
) -> None:
    user = portal.add_user()
    do_after(monkeypatch, step, lambda: change_user(portal, user, **change))
    assert_refused(attempt(user, PASSWORD), 401, GENERIC)
    assert not list_events(portal, "login.ok")


def test_a_login_ends_a_link_to_set_a_password(portal: Portal) -> None:
    user = portal.add_user()
    portal.anonymous().post("/rpc/request-password-reset", {"email": user.email})
    token = read_mails(portal)[-1].values["link"].partition("#")[2]
    sign_in(user)
    body = {"passwordChangeCredential": token, "newPassword": "another quite long one"}
    assert_refused(portal.anonymous().put("/users/0/password", body), 404, ("not_found", None))


def test_where_a_second_factor_is_required_a_password_alone_makes_no_key(portal: Portal) -> None:
    user = portal.add_user()
    set_setting(portal, "second_factor_required", "1")
    body = {"email": user.email, "password": PASSWORD, "label": "x"}
    assert_refused(portal.anonymous().post("/keys", body), 403, ("second_factor_required", None))
    assert user.post("/keys", {"label": "x"}).status_int == 200
    code = make_second_factor(user)
    headers = {"DataMeta-OTP": code()}
    assert portal.anonymous().post("/keys", body, headers=headers).status_int == 200


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "missing", "email"),
        ({"email": "a@b"}, "missing", "password"),
        ({"email": "a@b", "password": "x" * 257}, "too_long", "password"),
        ({"email": "a@b", "password": "a\0b"}, "invalid_text", "password"),
        ({"email": "a\0@b", "password": "x"}, "invalid_text", "email"),
        ({"email": None, "password": "x"}, "wrong_type", "email"),
        ({"email": "a@b", "password": "x", "otp": 5}, "wrong_type", "otp"),
        ({"email": "a@b", "password": "x", "admin": True}, "unknown_property", "admin"),
    ],
)
def test_a_malformed_login_is_refused(portal: Portal, body: dict[str, Any], code: str, field: str) -> None:
    response = portal.anonymous().post("/sessions", body)
    assert response.status_int == 400
    assert (code, field) in {(problem["error_code"], problem.get("field")) for problem in response.json}


def test_buckets_that_are_empty_are_swept_away(portal: Portal) -> None:
    user = portal.add_user()
    attempt(user)
    with portal.database.sessions.begin() as db:
        assert throttle.delete_empty_buckets(db) == 0
        db.execute(update(Throttle).values(empty_at=func.now() - timedelta(seconds=1)))
        assert throttle.delete_empty_buckets(db) == 2
        assert db.scalars(select(Throttle)).all() == []


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:", "unix:"),
    ],
)
def test_a_network_is_what_one_may_own_at_will(ip: str, network: str) -> None:
    assert throttle._name_network(ip) == network


def every_text(portal: Portal) -> Iterator[str]:
    """Yield all that the database holds, as text."""
    with portal.database.sessions() as db:
        tables = db.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        for table in tables:
            yield from db.scalars(text(f'SELECT "{table}"::text FROM "{table}"'))


def test_no_secret_is_logged_or_kept_as_it_is(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    user = portal.add_user()
    typed = "a password typed into the wrong field"
    with caplog.at_level(logging.DEBUG):
        attempt(user, "a wrong password")
        attempt(somebody(portal, typed), PASSWORD)
        browser = sign_in(user)
        begun = browser.post(f"/users/{user.uuid}/totp", {"password": PASSWORD}).json
        attempt(user, PASSWORD, otp="123456")
        key = portal.anonymous().post("/keys", {"email": user.email, "password": PASSWORD, "label": "x"}).json
        portal.anonymous().post("/rpc/request-password-reset", {"email": user.email})
        link = read_mails(portal)[-1].values["link"].partition("#")[2]
        change = {"passwordChangeCredential": PASSWORD, "newPassword": "another quite long one"}
        assert browser.put(f"/users/{user.uuid}/password", change).status_int == 204
        browser.post("/keys", {"label": 5})
    secrets = (
        PASSWORD,
        "a wrong password",
        typed,
        browser.cookie,
        browser.csrf,
        begun["secret"],
        key["token"],
        link,
        "another quite long one",
    )
    logged = "\n".join(str(record.__dict__) for record in caplog.records)
    kept = "\n".join(every_text(portal))
    assert user.email in kept
    for secret in secrets:
        assert secret not in kept
        assert secret not in logged
