"""The second factor over the API: set up, asked for, used once, removed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp
import pytest
import webtest
from sqlalchemy import func, select, update

from datameta.logic import second_factor, totp
from datameta.models import RecoveryCode, Throttle, User
from tests.conftest import (
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


def enter(client: Client, otp: Any = None, path: str = "/sessions") -> webtest.TestResponse:
    """Try to sign in with the right password; every answer is returned."""
    body = {"email": client.email, "password": PASSWORD}
    if path == "/sessions":
        return webtest.TestApp(client.portal.app.app).post_json("/api/v1/sessions", body | {"otp": otp}, status="*")
    headers = {} if otp is None else {"DataMeta-OTP": otp}
    return client.portal.anonymous().post("/keys", {**body, "label": "x"}, headers=headers)


def begin(browser: Browser) -> pyotp.TOTP:
    """Begin to set up a second factor, and return what the user's device makes of it."""
    response = browser.post(f"/users/{browser.uuid}/totp", {"password": PASSWORD})
    assert response.status_int == 200, response.body
    assert set(response.json) == {"secret", "uri"}
    device = pyotp.parse_uri(response.json["uri"])
    assert isinstance(device, pyotp.TOTP)
    assert device.secret == response.json["secret"]
    return device


def test_a_second_factor_is_set_up_and_asked_for(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    device = begin(browser)
    assert (device.issuer, device.name) == ("DataMeta", user.email)
    # It is not asked for until the device has shown that it has it.
    assert enter(user).json["secondFactor"] == "none"
    code = device.now()
    response = browser.put(f"/users/{user.site_id}/totp", {"code": code})
    assert response.status_int == 200
    codes = response.json["recoveryCodes"]
    assert len(set(codes)) == 10
    assert browser.get("/sessions/current").json["secondFactor"] == "active"
    for path in ("/sessions", "/keys"):
        for otp in (None, ""):
            assert_refused(enter(user, otp, path), 401, ("otp_required", None))
        assert_refused(enter(user, "000000 ", path), 401, ("otp_invalid", None))
        assert enter(user, codes.pop(), path).status_int == 200
    # The code that confirmed it is used.
    assert_refused(enter(user, code), 401, ("otp_invalid", None))
    [event] = list_events(portal, "totp.")
    assert (event.event, str(event.entity_uuid), str(event.actor_uuid)) == ("totp.enrolled", user.uuid, user.uuid)


@pytest.mark.parametrize("path", ["/sessions", "/keys"])
def test_a_code_is_good_for_one_use(portal: Portal, path: str) -> None:
    user = portal.add_user()
    code = make_second_factor(user)
    first, second = code(), code()
    assert enter(user, first, path).status_int == 200
    assert_refused(enter(user, first, path), 401, ("otp_invalid", None))
    assert enter(user, f"{second[:3]} {second[3:]}", path).status_int == 200
    # The one before is not good any more, though its time may not be over.
    assert_refused(enter(user, first, path), 401, ("otp_invalid", None))


def test_a_code_sent_many_times_at_once_is_used_once(portal: Portal) -> None:
    user = portal.add_user()
    code = make_second_factor(user)()
    with ThreadPoolExecutor(5) as pool:
        statuses = sorted(answer.status_int for answer in pool.map(lambda _: enter(user, code), range(5)))
    assert statuses == [200, 401, 401, 401, 401]


def test_a_recovery_code_sent_many_times_at_once_is_used_once(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    device = begin(browser)
    [code, *_] = browser.put(f"/users/{user.uuid}/totp", {"code": device.now()}).json["recoveryCodes"]
    typed = code.lower().replace("-", " ")
    with ThreadPoolExecutor(5) as pool:
        statuses = sorted(answer.status_int for answer in pool.map(lambda _: enter(user, typed), range(5)))
    assert statuses == [200, 401, 401, 401, 401]
    [event] = list_events(portal, "recovery_code.")
    assert (event.event, event.after) == ("recovery_code.used", {"left": 9})


@pytest.mark.parametrize(("steps", "is_good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_the_device_s_clock_may_differ_by_a_step(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, steps: int, is_good: bool
) -> None:
    user = portal.add_user()
    code = make_second_factor(user, step=1000)()
    monkeypatch.setattr(totp, "utc_now", lambda: datetime.fromtimestamp((1000 - steps) * 30, UTC))
    assert enter(user, code).status_int == (200 if is_good else 401)


def test_codes_can_be_guessed_five_times(portal: Portal) -> None:
    user, other = portal.add_user(), portal.add_user()
    code, others = make_second_factor(user), make_second_factor(other)
    for _ in range(5):
        assert_refused(enter(user, "x"), 401, ("otp_invalid", None))
    response = enter(user, code())
    assert_refused(response, 429, ("too_many_requests", None))
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert enter(other, others()).status_int == 200
    assert user.get("/rpc/whoami").status_int == 200
    with portal.database.sessions.begin() as db:
        db.execute(update(Throttle).values(empty_at=Throttle.empty_at - timedelta(seconds=60)))
    assert enter(user, code()).status_int == 200
    with portal.database.sessions() as db:
        assert db.scalars(select(Throttle).where(Throttle.bucket.startswith("otp_"))).all() == []


@pytest.mark.parametrize(("rule", "seconds"), [("otp_hour", 3600), ("otp_day", 86400)])
def test_codes_cannot_be_guessed_for_hours(portal: Portal, rule: str, seconds: int) -> None:
    user = portal.add_user()
    make_second_factor(user)
    enter(user, "x")
    with portal.database.sessions.begin() as db:
        full = func.now() + timedelta(seconds=seconds)
        db.execute(update(Throttle).where(Throttle.bucket.startswith(rule)).values(empty_at=full))
    assert enter(user, "x").status_int == 429


def test_a_right_password_clears_no_count_of_codes(portal: Portal) -> None:
    user = portal.add_user()
    make_second_factor(user)
    for _ in range(5):
        enter(user, "x")
        assert_refused(enter(user), 401, ("otp_required", None))
    assert enter(user, "x").status_int == 429


def test_a_wrong_code_counts_as_no_wrong_password(portal: Portal) -> None:
    user = portal.add_user()
    make_second_factor(user)
    enter(user, "x")
    with portal.database.sessions() as db:
        assert db.scalars(select(User.password_failures)).one() == 0
    [event] = list_events(portal, "login.failed")
    assert (event.after, str(event.entity_uuid)) == ({"factor": "otp"}, user.uuid)


def test_a_factor_that_is_not_confirmed_is_replaced_and_an_active_one_is_not(portal: Portal) -> None:
    browser = sign_in(portal.add_user())
    path = f"/users/{browser.uuid}/totp"
    assert_refused(browser.put(path, {"code": "123456"}), 409, ("totp_not_begun", None))
    first, second = begin(browser), begin(browser)
    assert_refused(browser.put(path, {"code": first.now()}), 400, ("otp_invalid", "code"))
    assert browser.put(path, {"code": second.now()}).status_int == 200
    assert_refused(browser.put(path, {"code": second.now()}), 409, ("totp_active", None))
    assert_refused(browser.post(path, {"password": PASSWORD}), 409, ("totp_active", None))


def test_codes_to_confirm_with_can_be_guessed_five_times(portal: Portal) -> None:
    browser = sign_in(portal.add_user())
    device = begin(browser)
    path = f"/users/{browser.uuid}/totp"
    for _ in range(5):
        assert browser.put(path, {"code": "x"}).status_int == 400
    assert browser.put(path, {"code": device.now()}).status_int == 429


def test_two_who_confirm_at_once_get_one_set_of_recovery_codes(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    code = begin(browser).now()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: browser.put(f"/users/{user.uuid}/totp", {"code": code}), range(4)))
    assert sorted(answer.status_int for answer in answers) == [200, 409, 409, 409]
    with portal.database.sessions() as db:
        assert db.scalar(select(func.count()).select_from(RecoveryCode)) == 10


def test_a_factor_that_was_begun_anew_meanwhile_is_not_confirmed(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = sign_in(portal.add_user())
    device = begin(browser)
    real = second_factor.find_step

    def find_step(*arguments: Any) -> int | None:
        with portal.database.sessions.begin() as db:
            db.execute(update(User).values(totp_secret=b"another"))
        return real(*arguments)

    monkeypatch.setattr(second_factor, "find_step", find_step)
    response = browser.put(f"/users/{browser.uuid}/totp", {"code": device.now()})
    assert_refused(response, 409, ("totp_not_begun", None))


def test_a_second_factor_is_set_up_by_its_user_in_a_session_with_the_password(portal: Portal) -> None:
    user, admin = portal.add_user(), sign_in(portal.add_user(site_admin=True))
    browser = sign_in(user)
    path = f"/users/{user.uuid}/totp"
    for method, body in (("post", {"password": PASSWORD}), ("put", {"code": "123456"})):
        assert_refused(user.request(method, path, body), 403, ("key_not_allowed", None))
        assert_refused(admin.request(method, path, body), 403, ("forbidden", None))
        assert_refused(browser.request(method, f"/users/{UNKNOWN}/totp", body), 404, ("not_found", None))
        assert_refused(portal.anonymous().request(method, path, body), 401, ("unauthenticated", None))
    assert_refused(browser.post(path, {"password": "another"}), 403, ("wrong_password", None))
    with portal.database.sessions() as db:
        assert db.scalars(select(User.totp_secret).where(User.site_id == user.site_id)).one() is None


def test_passwords_cannot_be_guessed_in_a_session_either(portal: Portal) -> None:
    browser = sign_in(portal.add_user())
    path = f"/users/{browser.uuid}/totp"
    assert {browser.post(path, {"password": "x"}).status_int for _ in range(10)} == {403}
    assert browser.post(path, {"password": PASSWORD}).status_int == 429


def enrol(browser: Browser) -> list[str]:
    """Give the user of a session a second factor, and return the recovery codes."""
    device = begin(browser)
    codes: list[str] = browser.put(f"/users/{browser.uuid}/totp", {"code": device.now()}).json["recoveryCodes"]
    return codes


def test_a_user_renews_the_recovery_codes(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    old = enrol(browser)
    response = browser.post(f"/users/{user.site_id}/totp/recovery-codes", {"password": PASSWORD, "code": old[0]})
    assert response.status_int == 200
    codes = response.json["recoveryCodes"]
    assert len({*codes, *old}) == 20
    assert_refused(enter(user, old[1]), 401, ("otp_invalid", None))
    assert enter(user, codes[0]).status_int == 200
    [event] = list_events(portal, "recovery_code.renewed")
    assert (str(event.entity_uuid), str(event.actor_uuid)) == (user.uuid, user.uuid)


def test_a_user_removes_the_second_factor_and_hears_of_it(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    codes = enrol(browser)
    response = browser.post(f"/users/{user.uuid}/totp/removal", {"password": PASSWORD, "code": codes[0]})
    assert (response.status_int, response.body) == (204, b"")
    assert browser.get("/sessions/current").json["secondFactor"] == "none"
    assert enter(user).json["secondFactor"] == "none"
    assert [(mail.template, mail.to) for mail in read_mails(portal)] == [("totp_removed", user.email)]
    event = list_events(portal, "totp.")[-1]
    assert (event.event, str(event.actor_uuid), event.before) == ("totp.removed", user.uuid, {"active": True})
    # Another can be set up, and the recovery codes went with the first.
    enrol(browser)
    assert_refused(enter(user, codes[1]), 401, ("otp_invalid", None))


@pytest.mark.parametrize("path", ["recovery-codes", "removal"])
def test_who_changes_a_second_factor_shows_password_and_code_once_more(portal: Portal, path: str) -> None:
    user, admin = portal.add_user(), sign_in(portal.add_user(site_admin=True))
    browser = sign_in(user)
    address = f"/users/{user.uuid}/totp/{path}"
    body = {"password": PASSWORD, "code": "000000 "}
    assert_refused(browser.post(address, body), 409, ("totp_inactive", None))
    codes = enrol(browser)
    body["code"] = codes[0]
    assert_refused(user.post(address, body), 403, ("key_not_allowed", None))
    assert_refused(admin.post(address, body), 403, ("forbidden", None))
    assert_refused(browser.post(f"/users/{UNKNOWN}/totp/{path}", body), 404, ("not_found", None))
    assert_refused(browser.post(address, body | {"password": "another"}), 403, ("wrong_password", None))
    for code in ("", "000000 "):
        assert_refused(browser.post(address, body | {"code": code}), 400, ("otp_invalid", "code"))
    # The wrong ones have changed nothing, and count as attempts.
    assert enter(user, codes[1]).status_int == 200
    for _ in range(5):
        browser.post(address, body | {"code": "x"})
    assert browser.post(address, body).status_int == 429


def test_a_site_admin_removes_a_second_factor_and_the_user_hears_of_it(portal: Portal) -> None:
    user, admin = portal.add_user(), portal.add_user(site_admin=True)
    browser = sign_in(user)
    device = begin(browser)
    codes = browser.put(f"/users/{user.uuid}/totp", {"code": device.now()}).json["recoveryCodes"]
    for stranger in (user, browser, portal.add_user(group_admin=True, site_read=True)):
        assert_refused(stranger.delete(f"/users/{user.uuid}/totp-secret"), 403, ("forbidden", None))
    assert_refused(admin.delete(f"/users/{UNKNOWN}/totp-secret"), 404, ("not_found", None))
    assert not read_mails(portal)
    response = admin.delete(f"/users/{user.site_id}/totp-secret")
    assert (response.status_int, response.body) == (200, b"")
    assert enter(user).json["secondFactor"] == "none"
    assert [(mail.template, mail.to) for mail in read_mails(portal)] == [("totp_removed", user.email)]
    event = list_events(portal, "totp.")[-1]
    assert (event.event, str(event.entity_uuid), str(event.actor_uuid)) == ("totp.removed", user.uuid, admin.uuid)
    # There is nothing to remove any more, and nothing to tell.
    assert admin.delete(f"/users/{user.uuid}/totp-secret").status_int == 200
    assert len(read_mails(portal)) == 1
    # The recovery codes went with it.
    make_second_factor(user)
    assert enter(user, codes[0]).status_int == 401


def test_the_removal_of_a_factor_that_was_never_active_is_not_told(portal: Portal) -> None:
    user, admin = portal.add_user(), portal.add_user(site_admin=True)
    browser = sign_in(user)
    device = begin(browser)
    assert admin.delete(f"/users/{user.uuid}/totp-secret").status_int == 200
    assert not read_mails(portal)
    assert_refused(browser.put(f"/users/{user.uuid}/totp", {"code": device.now()}), 409, ("totp_not_begun", None))


def test_without_the_site_s_key_only_recovery_codes_let_in(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    device = begin(browser)
    codes = browser.put(f"/users/{user.uuid}/totp", {"code": device.now()}).json["recoveryCodes"]
    elsewhere = Portal(portal.database, replace(portal.settings, secret_key="k" * 32), portal.storage)
    moved = replace(user, portal=elsewhere)
    assert_refused(enter(moved, "123456"), 401, ("otp_invalid", None))
    assert f"the second factor of {user.site_id} cannot be read" in caplog.text
    assert enter(moved, codes[0]).status_int == 200


def test_the_site_s_name_is_shown_in_the_authenticator(portal: Portal) -> None:
    set_setting(portal, "site_name", "Labor: Ä & B")
    assert begin(sign_in(portal.add_user())).issuer == "Labor: Ä & B"
