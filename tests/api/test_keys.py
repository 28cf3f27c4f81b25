"""API keys over the API: made, limited, used, revoked; and who one is with a key."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest
from pyramid.request import Request
from sqlalchemy import func, select, update

from datameta.authz import Origin
from datameta.clock import utc_now
from datameta.credentials import hash_token
from datameta.errors import UnauthenticatedError
from datameta.logic import keys
from datameta.logic.throttle import RULES
from datameta.models import ApiKey, User
from datameta.security import SecurityPolicy
from tests.conftest import (
    PASSWORD,
    Client,
    Portal,
    actor_of,
    assert_refused,
    codes,
    counted,
    list_events,
    set_setting,
    sign_in,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def make_key(client: Client, **body: Any) -> tuple[dict[str, Any], Client]:
    """Make a key; return the answer and a client that uses it."""
    response = client.post("/keys", {"label": "more", **body})
    assert response.status_int == 200, response.body
    return response.json, replace(client, token=response.json["token"])


def test_a_key_is_made_with_a_key_and_shown_once(portal: Portal) -> None:
    user = portal.add_user()
    made, holder = make_key(user, label="ä bot")
    assert re.fullmatch("[A-Za-z0-9]{64}", made["token"])
    assert set(made) == {"id", "userId", "token", "label", "expires"}
    assert set(made["id"]) == {"uuid"}
    assert made["userId"] == {"uuid": user.uuid, "site": user.site_id}
    assert holder.get("/rpc/whoami").status_int == 200
    listed = user.get(f"/users/{user.uuid}/keys")
    assert made["token"] not in listed.text
    assert listed.json[0] == {
        "id": made["id"],
        "label": "ä bot",
        "expires": made["expires"],
        "hasExpired": False,
    }
    with portal.database.sessions() as db:
        assert hash_token(made["token"]) in db.scalars(select(ApiKey.token_hash)).all()


def test_a_key_ends_no_later_than_the_key_it_was_made_with(portal: Portal) -> None:
    user = portal.add_user()
    in_an_hour = (utc_now() + timedelta(hours=1)).isoformat()
    made, holder = make_key(user, expires=in_an_hour)
    assert made["expires"] == in_an_hour
    child, _ = make_key(holder)
    assert child["expires"] == in_an_hour
    same, _ = make_key(holder, expires=in_an_hour)
    assert same["expires"] == in_an_hour
    later = (utc_now() + timedelta(hours=2)).isoformat()
    assert codes(holder.post("/keys", {"label": "x", "expires": later})) == {("expires_late", "expires")}


def test_a_key_lives_as_long_as_the_site_allows_and_not_longer(portal: Portal) -> None:
    user = portal.add_user()
    with portal.database.sessions.begin() as db:
        db.execute(update(ApiKey).values(expires_at=utc_now() + timedelta(days=5000)))
    made, _ = make_key(user)
    longest = utc_now() + timedelta(days=portal.settings.api_key_max_days)
    assert longest - timedelta(minutes=5) < datetime.fromisoformat(made["expires"]) <= longest
    late = (utc_now() + timedelta(days=366)).isoformat()
    assert codes(user.post("/keys", {"label": "x", "expires": late})) == {("expires_late", "expires")}


@pytest.mark.parametrize(
    ("expires", "code"),
    [
        ("2001-01-01T00:00:00", "expires_past"),
        ("2001-01-01", "expires_past"),
        ("tomorrow", "invalid_date"),
        ("", "invalid_date"),
        ("2025-13-01T00:00:00", "invalid_date"),
        ("0001-01-01T00:00:00+23:00", "invalid_date"),
        ("9999-12-31T23:59:59-23:00", "invalid_date"),
        ("9999-12-31T23:59:59", "expires_late"),
        (None, "wrong_type"),
        (5, "wrong_type"),
    ],
)
def test_a_wrong_end_of_a_key_is_refused(portal: Portal, expires: Any, code: str) -> None:
    user = portal.add_user()
    response = user.post("/keys", {"label": "x", "expires": expires})
    assert response.status_int == 400
    assert codes(response) == {(code, "expires")}
    assert len(user.get(f"/users/{user.uuid}/keys").json) == 1


def test_the_time_zone_of_an_end_is_respected(portal: Portal) -> None:
    end = (utc_now() + timedelta(days=1)).replace(microsecond=0)
    user = portal.add_user()
    elsewhere = end.replace(tzinfo=None).isoformat() + "+02:00"
    assert make_key(user, expires=elsewhere)[0]["expires"] == (end - timedelta(hours=2)).isoformat()
    assert make_key(user, expires=end.replace(tzinfo=None).isoformat())[0]["expires"] == end.isoformat()
    assert end.tzinfo is UTC


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "missing", "label"),
        ({"label": None}, "wrong_type", "label"),
        ({"label": "x" * 201}, "too_long", "label"),
        ({"label": "a\0"}, "invalid_text", "label"),
        ({"label": "x", "scope": "all"}, "unknown_property", "scope"),
    ],
)
def test_a_wrong_wish_for_a_key_is_refused(portal: Portal, body: dict[str, Any], code: str, field: str) -> None:
    response = portal.add_user().post("/keys", body)
    assert response.status_int == 400
    assert codes(response) == {(code, field)}


def test_a_revoked_key_and_the_keys_made_with_it_are_dead(portal: Portal) -> None:
    user = portal.add_user()
    made, holder = make_key(user)
    _, child = make_key(holder)
    _, grandchild = make_key(child)
    sibling, other = make_key(user)
    response = user.delete(f"/keys/{made['id']['uuid']}")
    assert (response.status_int, response.body) == (200, b"")
    for dead in (holder, child, grandchild):
        assert dead.get("/rpc/whoami").status_int == 401
    assert other.get("/rpc/whoami").status_int == 200
    listed = user.get(f"/users/{user.uuid}/keys").json
    assert [key["id"] for key in listed[:-1]] == [sibling["id"]]
    assert user.delete(f"/keys/{made['id']['uuid']}").status_int == 404


def test_keys_are_their_owners_alone(portal: Portal) -> None:
    user, admin = portal.add_user(), portal.add_user(site_admin=True, site_read=True, group_admin=True)
    made, holder = make_key(user)
    assert admin.delete(f"/keys/{made['id']['uuid']}").status_int == 403
    assert admin.get(f"/users/{user.site_id}/keys").status_int == 403
    assert holder.get(f"/users/{user.site_id}/keys").status_int == 200
    for unknown in (UNKNOWN, "DMU-00000000", "0"):
        assert admin.get(f"/users/{unknown}/keys").status_int == 404
        assert admin.delete(f"/keys/{unknown}").status_int == 404


def test_a_key_revoked_twice_at_once_is_revoked_once(portal: Portal) -> None:
    user = portal.add_user()
    made, _ = make_key(user)
    with ThreadPoolExecutor(4) as pool:
        statuses = pool.map(lambda _: user.delete(f"/keys/{made['id']['uuid']}").status_int, range(4))
    assert sorted(statuses) == [200, 404, 404, 404]


def test_a_key_that_was_revoked_meanwhile_makes_no_key(portal: Portal) -> None:
    user = portal.add_user()
    actor = actor_of(user)
    [key] = user.get(f"/users/{user.uuid}/keys").json
    user.delete(f"/keys/{key['id']['uuid']}")
    with portal.database.sessions() as db, pytest.raises(UnauthenticatedError):
        keys.create_key(db, actor, settings=portal.settings, label="x")


def test_a_user_without_a_key_may_ask_for_the_longest_life(portal: Portal) -> None:
    actor = replace(actor_of(portal.add_user()), key_id=None, key_expires_at=None)
    with portal.database.sessions.begin() as db:
        key, _ = keys.create_key(db, actor, settings=portal.settings, label="x")
    assert key.parent_id is None
    assert key.expires_at > utc_now() + timedelta(days=364)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer " + "x" * 64,
        "Bearer " + "x" * 65,
        "Bearer " + "\xff" * 64,
        "Basic " + "x" * 64,
        "x" * 64,
    ],
)
def test_no_credential_is_unauthenticated(portal: Portal, header: str) -> None:
    stranger = portal.anonymous()
    for response in (
        stranger.get("/rpc/whoami", headers={"Authorization": header}),
        stranger.post("/keys", {"label": "x"}, headers={"Authorization": header}),
        stranger.get(f"/users/{UNKNOWN}", headers={"Authorization": header}),
        stranger.put(f"/groups/{UNKNOWN}", {"name": 5}, headers={"Authorization": header}),
    ):
        assert response.status_int == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert codes(response) == {("unauthenticated", None)}


def test_the_word_bearer_is_taken_in_any_case(portal: Portal) -> None:
    user = portal.add_user()
    assert user.get("/rpc/whoami", headers={"Authorization": f"bearer  {user.token} "}).status_int == 200
    assert user.token is not None
    changed = user.token[:-1] + ("a" if user.token[-1] != "a" else "b")
    assert user.get("/rpc/whoami", headers={"Authorization": f"Bearer {changed}"}).status_int == 401


def test_an_expired_key_and_a_disabled_user_are_unauthenticated(portal: Portal) -> None:
    expired, disabled = portal.add_user(), portal.add_user()
    with portal.database.sessions.begin() as db:
        owner = select(User.id).where(User.site_id == expired.site_id).scalar_subquery()
        db.execute(update(ApiKey).where(ApiKey.user_id == owner).values(expires_at=func.now()))
        db.execute(update(User).where(User.site_id == disabled.site_id).values(enabled=False))
    assert expired.get("/rpc/whoami").status_int == 401
    assert disabled.get("/rpc/whoami").status_int == 401


def test_an_expired_key_is_listed_as_such(portal: Portal) -> None:
    user = portal.add_user()
    made, _ = make_key(user)
    with portal.database.sessions.begin() as db:
        db.execute(update(ApiKey).where(ApiKey.uuid == made["id"]["uuid"]).values(expires_at=func.now()))
    listed = user.get(f"/users/{user.uuid}/keys").json
    assert [key["hasExpired"] for key in listed] == [True, False]


def test_whoami_tells_everything_of_oneself(portal: Portal) -> None:
    user = portal.add_user("Lab A", site_read=True, group_admin=True)
    whoami = user.get("/rpc/whoami").json
    assert whoami == {
        "id": {"uuid": user.uuid, "site": user.site_id},
        "name": "User 1",
        "groupAdmin": True,
        "siteAdmin": False,
        "siteRead": True,
        "email": user.email,
        "group": {"id": {"uuid": user.group, "site": whoami["group"]["id"]["site"]}, "name": "Lab A"},
    }


def test_the_policy_knows_one_permission(portal: Portal) -> None:
    policy, request = SecurityPolicy(), Request.blank("/")
    request.database = portal.database
    assert policy.authenticated_userid(request) is None
    assert not policy.permits(request, None, "authenticated")
    user = portal.add_user()
    request = Request.blank("/", authorization=f"Bearer {user.token}")
    request.database, request.origin = portal.database, Origin()
    assert policy.authenticated_userid(request) == user.uuid
    assert policy.permits(request, None, "authenticated")
    assert not policy.permits(request, None, "everything")
    assert policy.remember(request, user.uuid) == []
    assert policy.forget(request) == [("WWW-Authenticate", "Bearer")]


def test_a_key_is_made_with_an_address_and_password(portal: Portal) -> None:
    user, stranger = portal.add_user(), portal.anonymous()
    made, holder = make_key(stranger, email=user.email.upper(), password=PASSWORD)
    assert made["userId"] == {"uuid": user.uuid, "site": user.site_id}
    assert holder.get("/rpc/whoami").json["email"] == user.email
    # It is nobody's child: it ends when it says, and with no other key.
    assert datetime.fromisoformat(made["expires"]) > utc_now() + timedelta(days=364)
    for body in ({"email": user.email}, {"password": PASSWORD}, {"email": user.email, "password": "another one"}):
        assert_refused(stranger.post("/keys", {"label": "x", **body}), 401, ("unauthenticated", None))


def test_a_credential_of_the_request_counts_before_one_in_its_body(portal: Portal) -> None:
    user, other = portal.add_user(), portal.add_user()
    for asker in (user, sign_in(user)):
        made, _ = make_key(asker, email=other.email, password="not even right")
        assert made["userId"]["uuid"] == user.uuid


def test_a_user_has_a_limited_number_of_live_keys(portal: Portal) -> None:
    user = portal.add_user()
    set_setting(portal, "api_key_max_live", "3")
    made, _ = make_key(user)
    make_key(user)
    assert_refused(user.post("/keys", {"label": "x"}), 400, ("too_many_keys", None))
    with portal.database.sessions.begin() as db:
        db.execute(update(ApiKey).where(ApiKey.uuid == made["id"]["uuid"]).values(expires_at=func.now()))
    make_key(user)
    assert_refused(user.post("/keys", {"label": "x"}), 400, ("too_many_keys", None))
    make_key(portal.add_user())


def test_keys_made_at_once_keep_to_the_limit(portal: Portal) -> None:
    user = portal.add_user()
    set_setting(portal, "api_key_max_live", "4")
    bodies = [{"label": "x"}, {"label": "x", "email": user.email, "password": PASSWORD}] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda body: (portal.anonymous() if "email" in body else user).post("/keys", body).status_int, bodies
        )
        assert sorted(answers) == [200] * 3 + [400] * 5
    assert len(user.get(f"/users/{user.uuid}/keys").json) == 4


def test_the_use_of_a_key_is_noted_once_a_day(portal: Portal) -> None:
    user = portal.add_user()

    def read() -> Any:
        with portal.database.sessions() as db:
            return db.execute(select(ApiKey.last_used_on, ApiKey.last_used_ip, func.current_date())).one()

    assert read()[:2] == (None, None)
    user.get("/rpc/whoami", extra_environ={"REMOTE_ADDR": "192.0.2.1"})
    used_on, ip, today = read()
    assert (used_on, ip) == (today, "192.0.2.1")
    user.get("/rpc/whoami", extra_environ={"REMOTE_ADDR": "192.0.2.2"})
    assert read()[1] == "192.0.2.1"
    with portal.database.sessions.begin() as db:
        db.execute(update(ApiKey).values(last_used_on=today - timedelta(days=1)))
    user.get("/rpc/whoami", extra_environ={"REMOTE_ADDR": "192.0.2.2"})
    assert read()[:2] == (today, "192.0.2.2")


def test_a_request_costs_one_query_to_know_who_it_is(portal: Portal) -> None:
    user = portal.add_user()
    browser = sign_in(user)
    for client in (user, browser):
        client.get("/rpc/whoami")
        with counted(portal) as statements:
            assert client.get("/rpc/whoami").status_int == 200
        assert len(statements) == 1, statements


def test_unknown_keys_are_slowed_down_by_where_they_come_from(portal: Portal) -> None:
    user, guesser = portal.add_user(), replace(portal.anonymous(), token="x" * 64)
    here, there = ({"REMOTE_ADDR": f"2001:db8:0:{number}::1"} for number in (1, 2))
    limit = RULES["bad_key"].limit
    # The bucket drains while it is filled, so how many it takes depends on the machine; it takes the limit at least.
    answers = (guesser.get("/rpc/whoami", extra_environ=here).status_int for _ in range(10 * limit))
    assert len(list(takewhile(lambda status: status == 401, answers))) >= limit
    refused = guesser.get("/rpc/whoami", extra_environ={"REMOTE_ADDR": "2001:db8:0:1:ffff::5"})
    assert_refused(refused, 429, ("too_many_requests", None))
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert guesser.get("/rpc/whoami", extra_environ=there).status_int == 401
    assert user.get("/rpc/whoami", extra_environ=here).status_int == 200


def test_an_expired_key_in_use_takes_nothing_from_its_owner(portal: Portal) -> None:
    user = portal.add_user()
    with portal.database.sessions.begin() as db:
        db.execute(update(ApiKey).values(expires_at=func.now()))
    assert {user.get("/rpc/whoami").status_int for _ in range(150)} == {401}
    sign_in(user)
    with portal.database.sessions() as db:
        assert db.scalars(select(User.password_failures)).one() == 0


def test_keys_are_audited_with_those_that_go_with_them(portal: Portal) -> None:
    user = portal.add_user()
    made, holder = make_key(user, label="first")
    child, _ = make_key(holder, label="second")
    user.delete(f"/keys/{made['id']['uuid']}")
    events = list_events(portal, "key.")
    assert [(event.event, (event.after or event.before)["label"]) for event in events] == [
        ("key.created", "first"),
        ("key.created", "second"),
        ("key.revoked", "first"),
        ("key.revoked", "second"),
    ]
    assert {str(event.entity_uuid) for event in events} == {made["id"]["uuid"], child["id"]["uuid"]}
    assert {str(event.actor_uuid) for event in events} == {user.uuid}
    assert str(events[1].key_uuid) == made["id"]["uuid"]
    assert all(event.request_id for event in events)
