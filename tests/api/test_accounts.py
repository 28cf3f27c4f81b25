"""Keys, users and groups over the API."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyramid.request import Request
from sqlalchemy import func, select, update

from datameta.clock import utc_now
from datameta.credentials import hash_token
from datameta.errors import UnauthenticatedError, ValidationError
from datameta.logic import accounts
from datameta.models import ApiKey, Group, User
from datameta.security import SecurityPolicy
from tests.conftest import Client, Portal, actor_of, codes

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
        accounts.create_key(db, actor, settings=portal.settings, label="x")


def test_a_user_without_a_key_may_ask_for_the_longest_life(portal: Portal) -> None:
    actor = replace(actor_of(portal.add_user()), key_id=None, key_expires_at=None)
    with portal.database.sessions.begin() as db:
        key, _ = accounts.create_key(db, actor, settings=portal.settings, label="x")
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


def test_who_reads_a_user_and_how_much(portal: Portal) -> None:
    user = portal.add_user("Lab A", site_read=True)
    group = user.get("/rpc/whoami").json["group"]["id"]
    names = {"id": {"uuid": user.uuid, "site": user.site_id}, "name": "User 1", "groupId": group}
    closed = {**names, "groupAdmin": None, "siteAdmin": None, "siteRead": None, "email": None}
    everything = {**names, "groupAdmin": False, "siteAdmin": False, "siteRead": True, "email": user.email}
    askers = [
        (user, closed),
        (portal.add_user("Office", site_read=True), closed),
        (portal.add_user("Lab A", group_admin=True), everything),
        (portal.add_user("Office", site_admin=True), everything),
        (portal.add_user("Lab A"), None),
        (portal.add_user("Lab B", group_admin=True), None),
    ]
    for asker, expected in askers:
        for user_id in (user.uuid, user.site_id):
            response = asker.get(f"/users/{user_id}")
            assert response.status_int == (403 if expected is None else 200)
            assert expected is None or response.json == expected
        assert asker.get(f"/users/{UNKNOWN}").status_int == 404


def test_who_reads_a_group(portal: Portal) -> None:
    member = portal.add_user("Lab A")
    group = member.get("/rpc/whoami").json["group"]
    readers = [member, portal.add_user("Office", site_admin=True), portal.add_user("Office", site_read=True)]
    for reader in readers:
        for group_id in group["id"].values():
            assert reader.get(f"/groups/{group_id}").json == group
        assert reader.get(f"/groups/{UNKNOWN}").status_int == 404
    assert portal.add_user("Lab B", group_admin=True).get(f"/groups/{member.group}").status_int == 403


def test_a_group_is_renamed_by_site_admins(portal: Portal) -> None:
    admin, member = (
        portal.add_user("Office", site_admin=True),
        portal.add_user("Lab A", group_admin=True, site_read=True),
    )
    path = f"/groups/{member.group}"
    assert member.put(path, {"name": "Lab Z"}).status_int == 403
    assert admin.put(f"/groups/{UNKNOWN}", {"name": "Lab Z"}).status_int == 404
    for name in ("Lab A", "Lab Z", "Ä " + "x" * 253):
        response = admin.put(path, {"name": name})
        assert (response.status_int, response.body) == (204, b"")
        assert member.get(path).json["name"] == name


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "Office"}, "duplicate_name"),
        ({"name": " \n"}, "mandatory_missing"),
        ({"name": ""}, "mandatory_missing"),
        ({"name": "x" * 256}, "too_long"),
        ({"name": "a\0"}, "invalid_text"),
        ({"name": None}, "wrong_type"),
        ({}, "missing"),
    ],
)
def test_a_wrong_name_of_a_group_is_refused(portal: Portal, body: dict[str, Any], code: str) -> None:
    admin, member = portal.add_user("Office", site_admin=True), portal.add_user("Lab A")
    response = admin.put(f"/groups/{member.group}", body)
    assert response.status_int == 400
    assert codes(response) == {(code, "name")}
    assert member.get(f"/groups/{member.group}").json["name"] == "Lab A"


@pytest.mark.parametrize("email", ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\n", "a\t@b", "x" * 254 + "@b"])
def test_what_is_no_address_makes_no_user(portal: Portal, email: str) -> None:
    with portal.database.sessions() as db, pytest.raises(ValidationError, match="is no e-mail address"):
        accounts.add_user(
            db, settings=portal.settings, email=email, name="A", group=Group(id=1), password="a long enough password"
        )


def test_an_address_has_one_user_in_any_letter_case(portal: Portal) -> None:
    user = portal.add_user()
    with portal.database.sessions.begin() as db:
        group, is_new = accounts.find_or_add_group(db, name="Lab A", site_id_format=portal.settings.id_groups)
        assert (str(group.uuid), is_new) == (user.group, False)
        with pytest.raises(ValidationError, match="a user with the address") as refused:
            accounts.add_user(
                db, settings=portal.settings, email=user.email.upper(), name="A", group=group, password="x"
            )
        assert refused.value.problems[0].code == "duplicate_email"
        added = accounts.add_user(
            db, settings=portal.settings, email="Änne@Example.org", name="A", group=group, password="x"
        )
        assert accounts.get_user_by_email(db, "Änne@example.ORG") is added
        assert accounts.get_user_by_email(db, "nobody@example.org") is None


def test_the_policy_knows_one_permission(portal: Portal) -> None:
    policy, request = SecurityPolicy(), Request.blank("/")
    request.database = portal.database
    assert policy.authenticated_userid(request) is None
    assert not policy.permits(request, None, "authenticated")
    user = portal.add_user()
    request = Request.blank("/", authorization=f"Bearer {user.token}")
    request.database = portal.database
    assert policy.authenticated_userid(request) == user.uuid
    assert policy.permits(request, None, "authenticated")
    assert not policy.permits(request, None, "everything")
    assert policy.remember(request, user.uuid) == []
    assert policy.forget(request) == [("WWW-Authenticate", "Bearer")]
