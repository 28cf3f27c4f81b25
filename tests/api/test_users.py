"""Users over the API: who sees, changes and adds whom."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from datameta.clock import utc_now
from datameta.errors import ForbiddenError, UnauthenticatedError, ValidationError
from datameta.logic import groups, users
from datameta.models import Group, User
from tests.conftest import (
    API,
    BASE_URL,
    Client,
    Portal,
    actor_of,
    assert_refused,
    list_events,
    read_mails,
    sign_in,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"


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


@pytest.mark.parametrize("email", ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\n", "a\t@b", "x" * 254 + "@b"])
def test_what_is_no_address_makes_no_user(portal: Portal, email: str) -> None:
    with portal.database.sessions() as db, pytest.raises(ValidationError, match="is no e-mail address"):
        users.add_user(
            db, settings=portal.settings, email=email, name="A", group=Group(id=1), password="a long enough password"
        )


def test_an_address_has_one_user_in_any_letter_case(portal: Portal) -> None:
    user = portal.add_user()
    with portal.database.sessions.begin() as db:
        group, is_new = groups.find_or_add_group(db, name="Lab A", site_id_format=portal.settings.id_groups)
        assert (str(group.uuid), is_new) == (user.group, False)
        with pytest.raises(ValidationError, match="a user with the address") as refused:
            users.add_user(db, settings=portal.settings, email=user.email.upper(), name="A", group=group, password="x")
        assert refused.value.problems[0].code == "duplicate_email"
        added = users.add_user(
            db, settings=portal.settings, email="Änne@Example.org", name="A", group=group, password="x"
        )
        assert users.get_user_by_email(db, "Änne@example.ORG") is added
        assert users.get_user_by_email(db, "nobody@example.org") is None


BODIES = {
    "name": "New Name",
    "groupId": None,
    "groupAdmin": True,
    "siteAdmin": True,
    "siteRead": True,
    "enabled": False,
}
RIGHTS = {
    # Who asks, and what they may change of an ordinary user of Lab A, of a site admin in Lab A, and of themselves.
    "user": (set(), set(), {"name"}),
    "site_read": (set(), set(), {"name"}),
    "group_admin": ({"name", "groupAdmin", "enabled"}, {"name", "groupAdmin"}, {"name", "groupAdmin"}),
    "other_group_admin": (set(), set(), {"name", "groupAdmin"}),
    "site_admin": (set(BODIES), set(BODIES), {"name", "groupId", "groupAdmin", "siteRead"}),
}


@pytest.mark.parametrize("role", RIGHTS)
@pytest.mark.parametrize("target", [0, 1, 2], ids=["user", "admin", "self"])
def test_who_may_change_what_of_a_user(portal: Portal, role: str, target: int) -> None:
    """Each property alone, by site id; what is refused changes nothing."""
    group = "Lab B" if role == "other_group_admin" else "Lab A"
    flag = {role.removeprefix("other_"): True} if role != "user" else {}
    asker = portal.add_user(group, **flag)
    watcher = portal.add_user("Office", site_admin=True)
    changed = [portal.add_user("Lab A"), portal.add_user("Lab A", site_admin=True), asker][target]
    for field, value in BODIES.items():
        is_allowed = field in RIGHTS[role][target]
        before = see(watcher, changed)
        sent = portal.add_user(f"Lab {field}").group if field == "groupId" else value
        if before.get(field) == sent:
            sent = not sent
        response = asker.put(f"/users/{changed.site_id}", {field: sent})
        after = see(watcher, changed)
        if is_allowed:
            assert (response.status_int, response.body) == (204, b""), field
            assert (after["groupId"]["uuid"] if field == "groupId" else after[field]) == sent
            put_back(portal, changed, before)
        else:
            # Who may change nothing at all is told so once.
            expected = field if RIGHTS[role][target] else None
            assert_refused(response, 403, ("forbidden", expected))
            assert after == before


def see(watcher: Client, user: Client) -> dict[str, Any]:
    [seen] = watcher.get("/users", params={"search": user.email}).json
    return {key: value for key, value in seen.items() if key != "lastSeenAt"}


def put_back(portal: Portal, user: Client, seen: dict[str, Any]) -> None:
    with portal.database.sessions.begin() as db:
        row = users.get_user_by_email(db, user.email)
        assert row is not None
        row.group_id = db.scalars(select(Group.id).where(Group.uuid == UUID(seen["groupId"]["uuid"]))).one()
        row.name, row.enabled = seen["name"], seen["enabled"]
        row.group_admin, row.site_admin, row.site_read = seen["groupAdmin"], seen["siteAdmin"], seen["siteRead"]


def test_all_properties_are_changed_or_none(portal: Portal) -> None:
    leader, user = portal.add_user(group_admin=True), portal.add_user()
    watcher = portal.add_user("Office", site_admin=True)
    before = see(watcher, user)
    response = leader.put(f"/users/{user.uuid}", {"name": "X", "siteRead": True, "groupId": watcher.group})
    assert_refused(response, 403, ("forbidden", "siteRead"), ("forbidden", "groupId"))
    assert_refused(
        leader.put(f"/users/{user.uuid}", {"name": " ", "enabled": False}), 400, ("mandatory_missing", "name")
    )
    response = watcher.put(f"/users/{user.uuid}", {"name": "X", "groupId": UNKNOWN})
    assert_refused(response, 404, ("not_found", "groupId"))
    assert see(watcher, user) == before
    changes = {"name": "Ä", "groupId": watcher.group, "groupAdmin": True, "siteAdmin": True, "siteRead": True}
    assert watcher.put(f"/users/{user.uuid}", changes).status_int == 204
    after = see(watcher, user)
    assert after == {
        **before,
        **changes,
        "groupId": after["group"]["id"],
        "group": {"id": after["groupId"], "name": "Office"},
    }
    assert user.get("/rpc/whoami").json["group"]["name"] == "Office"


def test_an_unknown_user_cannot_be_changed(portal: Portal) -> None:
    admin = portal.add_user(site_admin=True)
    for user_id in (UNKNOWN, "DMU-00000000", "0", " "):
        assert admin.put(f"/users/{user_id}", {"name": "X"}).status_int == 404
        assert portal.add_user().put(f"/users/{user_id}", {"name": "X"}).status_int == 404


def test_a_request_that_changes_nothing_is_still_for_those_who_may(portal: Portal) -> None:
    admin, user = portal.add_user("Office", site_admin=True), portal.add_user()
    assert admin.put(f"/users/{user.uuid}", {}).status_int == 204
    assert user.put(f"/users/{user.uuid}", {}).status_int == 204
    assert portal.add_user("Lab B", site_read=True).put(f"/users/{user.uuid}", {}).status_int == 403
    assert list_events(portal, "user.changed") == []


def test_the_audit_tells_what_changed_of_a_user(portal: Portal) -> None:
    admin, user = portal.add_user("Office", site_admin=True), portal.add_user()
    admin.put(f"/users/{user.uuid}", {"name": "User 2", "siteRead": True, "enabled": False})
    [event] = list_events(portal, "user.changed")
    assert (event.actor_site_id, event.entity_site_id) == (admin.site_id, user.site_id)
    assert event.before == {"site_read": False, "enabled": True}
    assert event.after == {"site_read": True, "enabled": False}
    created = list_events(portal, "user.created")[-1]
    assert created.after is not None
    assert created.after["email"] == user.email
    assert "password" not in str(created.after)


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({"enabled": False}, True),
        ({"groupId": "Office"}, True),
        ({"siteRead": False}, True),
        ({"groupAdmin": False}, True),
        ({"siteAdmin": False}, True),
        ({"name": "Another"}, False),
        ({"groupId": "Lab A", "siteRead": True}, False),
    ],
)
def test_sessions_end_with_a_right(portal: Portal, changes: dict[str, Any], ends: bool) -> None:
    admin = portal.add_user("Office", site_admin=True)
    user = portal.add_user(site_read=True, group_admin=True, site_admin=True)
    browser, bystander = sign_in(user), sign_in(portal.add_user())
    if "groupId" in changes:
        changes = {**changes, "groupId": {"Office": admin.group, "Lab A": user.group}[changes["groupId"]]}
    assert admin.put(f"/users/{user.uuid}", changes).status_int == 204
    assert browser.get("/rpc/whoami").status_int == (401 if ends else 200)
    assert bystander.get("/rpc/whoami").status_int == 200


def test_a_disabled_user_is_out_at_once_and_back_when_enabled(portal: Portal) -> None:
    leader, user = portal.add_user(group_admin=True), portal.add_user()
    assert leader.put(f"/users/{user.uuid}", {"enabled": False}).status_int == 204
    assert user.get("/rpc/whoami").status_int == 401
    assert leader.put(f"/users/{user.uuid}", {"enabled": True}).status_int == 204
    assert user.get("/rpc/whoami").status_int == 200


@pytest.mark.parametrize("changes", [{"siteAdmin": False}, {"enabled": False}], ids=["demote", "disable"])
def test_of_site_admins_who_take_each_other_away_one_is_left(portal: Portal, changes: dict[str, bool]) -> None:
    for _ in range(5):
        pair = [portal.add_user("Office", site_admin=True) for _ in range(2)]
        barrier = Barrier(2)

        def attack(attacker: int, pair: list[Client] = pair, barrier: Barrier = barrier) -> int:
            barrier.wait()
            return pair[attacker].put(f"/users/{pair[1 - attacker].uuid}", changes).status_int

        with ThreadPoolExecutor(2) as pool:
            statuses = sorted(pool.map(attack, range(2)))
        assert statuses[0] == 204
        assert statuses[1] in (401, 403)
        winner = [client for client in pair if client.get("/users").status_int == 200]
        assert len(winner) == 1


def test_rights_are_those_of_the_moment_of_the_change(portal: Portal) -> None:
    admin, user = portal.add_user(site_admin=True), portal.add_user()
    actor = actor_of(admin)
    for gone, refusal in (({"site_admin": False}, ForbiddenError), ({"enabled": False}, UnauthenticatedError)):
        with portal.database.sessions.begin() as db:
            db.execute(update(User).where(User.id == actor.id).values(**gone))
        with portal.database.sessions() as db, pytest.raises(refusal):
            users.change_user(db, actor, user_id=user.uuid, changes={"siteRead": True})


def test_who_lists_which_users(portal: Portal) -> None:
    leader, user = portal.add_user("Lab A", group_admin=True), portal.add_user("Lab A")
    other = portal.add_user("Lab B")
    admin = portal.add_user("Office", site_admin=True)
    for asker in (user, portal.add_user("Office", site_read=True)):
        assert_refused(asker.get("/users"), 403, ("forbidden", None))
    assert [item["email"] for item in leader.get("/users").json] == [leader.email, user.email]
    listed = admin.get("/users").json
    assert [item["email"] for item in listed][:4] == [leader.email, user.email, other.email, admin.email]
    group = user.get("/rpc/whoami").json["group"]
    assert {key: value for key, value in listed[1].items() if key != "lastSeenAt"} == {
        "id": {"uuid": user.uuid, "site": user.site_id},
        "name": "User 2",
        "groupAdmin": False,
        "siteAdmin": False,
        "siteRead": False,
        "email": user.email,
        "groupId": group["id"],
        "group": group,
        "enabled": True,
        "secondFactor": False,
    }
    assert listed[2]["lastSeenAt"] is None
    sign_in(other)
    seen = admin.get("/users", params={"search": other.email}).json[0]["lastSeenAt"]
    assert abs(datetime.fromisoformat(seen) - utc_now()) < timedelta(minutes=5)


def test_users_are_found_by_a_part_of_what_they_are_called(portal: Portal) -> None:
    admin = portal.add_user("Office", site_admin=True)
    user = portal.add_user("Lab A")
    admin.put(f"/users/{user.uuid}", {"name": "Änne_100%"})

    def find(**parameters: str) -> list[str]:
        return [item["email"] for item in admin.get("/users", params=parameters).json]

    for search in ("ÄNNE", "_100%", user.email.upper(), user.site_id.lower(), user.site_id[4:]):
        assert find(search=search) == [user.email], search
    assert find(search="%%") == find(search="nobody") == find(groupId=UNKNOWN) == []
    assert find(groupId=user.group) == [user.email]
    group = user.get("/rpc/whoami").json["group"]["id"]["site"]
    assert find(groupId=group, search="example.org") == [user.email]
    assert find(groupId=admin.group, search=user.email) == []
    assert_refused(admin.get("/users", params={"search": "a\0"}), 400, ("invalid_text", "search"))


def test_users_are_listed_page_by_page(portal: Portal) -> None:
    admin = portal.add_user("Office", site_admin=True)
    emails = [admin.email, *(portal.add_user("Lab A").email for _ in range(4))]
    path, pages = "/users?limit=2&search=example", []
    while path:
        response = admin.get(path)
        pages.append([item["email"] for item in response.json])
        link = response.headers.get("Link", "")
        path = link.removeprefix(f"<{BASE_URL}{API}").partition(">")[0] if link else ""
        assert not link or link.endswith('>; rel="next"')
    assert pages == [emails[:2], emails[2:4], emails[4:]]
    assert_refused(admin.get("/users?cursor=x"), 400, ("invalid_cursor", "cursor"))
    assert admin.get("/users?limit=0").status_int == admin.get("/users?limit=1001").status_int == 400


def test_a_created_user_sets_a_password_by_the_link_in_a_mail(portal: Portal) -> None:
    admin = portal.add_user("Office", site_admin=True)
    wish = {"name": "Ärin New", "email": "New@Example.org", "groupId": admin.group, "siteRead": True}
    response = admin.post("/users", wish)
    assert response.status_int == 200, response.body
    assert {key: value for key, value in response.json.items() if key not in ("id", "groupId")} == {
        "name": "Ärin New",
        "groupAdmin": False,
        "siteAdmin": False,
        "siteRead": True,
        "email": "New@Example.org",
    }
    [mail] = read_mails(portal)
    assert (mail.template, mail.to, mail.values["name"]) == ("welcome", "New@Example.org", "Ärin New")
    start, _, token = mail.values["link"].partition("#")
    assert start == f"{BASE_URL}/setpass"
    assert token not in response.text
    stranger = portal.anonymous()
    credentials = {"email": "new@example.org", "password": "correct horse battery staple"}
    assert stranger.post("/sessions", credentials).status_int == 401
    change = {"passwordChangeCredential": token, "newPassword": credentials["password"]}
    assert stranger.put("/users/0/password", change).status_int == 204
    assert stranger.post("/sessions", credentials).status_int == 200


def test_only_site_admins_create_users(portal: Portal) -> None:
    wish = {"name": "New", "email": "new@example.org", "groupId": portal.add_user().group}
    for roles in ({}, {"group_admin": True}, {"site_read": True}):
        assert_refused(portal.add_user(**roles).post("/users", wish), 403, ("forbidden", None))
    assert read_mails(portal) == []


@pytest.mark.parametrize(
    ("changes", "status", "expected"),
    [
        ({"email": "USER1@example.org"}, 400, {("duplicate_email", "email")}),
        ({"email": "nobody"}, 400, {("invalid_email", "email")}),
        ({"email": "a@b\r\nBcc: c@d", "name": "\t"}, 400, {("invalid_email", "email"), ("mandatory_missing", "name")}),
        ({"email": "x" * 255}, 400, {("too_long", "email")}),
        ({"name": None}, 400, {("wrong_type", "name")}),
        ({"groupId": UNKNOWN}, 404, {("not_found", "groupId")}),
        ({"enabled": True}, 400, {("unknown_property", "enabled")}),
    ],
)
def test_a_wrong_user_is_not_created(
    portal: Portal, changes: dict[str, Any], status: int, expected: set[tuple[str, str]]
) -> None:
    admin = portal.add_user(site_admin=True)
    wish = {"name": "New", "email": "new@example.org", "groupId": admin.group, **changes}
    assert_refused(admin.post("/users", wish), status, *expected)
    assert len(admin.get("/users").json) == 1
    assert read_mails(portal) == []


def test_an_address_that_two_take_at_once_is_ones(portal: Portal) -> None:
    admin = portal.add_user(site_admin=True)
    wish = {"name": "New", "email": "new@example.org", "groupId": admin.group}
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: admin.post("/users", wish).status_int, range(4)))
    assert sorted(statuses) == [200, 400, 400, 400]
    assert len(read_mails(portal)) == 1
