"""Groups over the API."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Portal, assert_refused, codes, list_events

UNKNOWN = "00000000-0000-4000-8000-000000000000"


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


def test_who_lists_which_groups(portal: Portal) -> None:
    member, other = portal.add_user("Lab B"), portal.add_user("Lab A", group_admin=True)
    admin, reader = portal.add_user("Office", site_admin=True), portal.add_user("Office", site_read=True)
    for asker, names in (
        (member, ["Lab B"]),
        (other, ["Lab A"]),
        (admin, ["Lab A", "Lab B", "Office"]),
        (reader, ["Lab A", "Lab B", "Office"]),
    ):
        listed = asker.get("/groups").json
        assert [group["name"] for group in listed] == names
        assert all(set(group) == {"id", "name"} for group in listed)
    assert portal.anonymous().get("/groups").status_int == 401


def test_a_group_is_created_by_site_admins(portal: Portal) -> None:
    admin, member = portal.add_user("Office", site_admin=True), portal.add_user("Lab A", group_admin=True)
    assert member.post("/groups", {"name": "Lab Z"}).status_int == 403
    response = admin.post("/groups", {"name": "Lab Z"})
    assert response.status_int == 200
    assert response.json["name"] == "Lab Z"
    assert admin.get(f"/groups/{response.json['id']['site']}").json == response.json
    for name, code in (("Lab Z", "duplicate_name"), (" ", "mandatory_missing"), ("x" * 256, "too_long")):
        assert_refused(admin.post("/groups", {"name": name}), 400, (code, "name"))
    assert len(admin.get("/groups").json) == 3


def test_the_audit_tells_of_groups(portal: Portal) -> None:
    admin = portal.add_user("Office", site_admin=True)
    group = admin.post("/groups", {"name": "Lab A"}).json
    admin.put(f"/groups/{group['id']['uuid']}", {"name": "Lab B"})
    # Nothing changes, so there is nothing to tell.
    admin.put(f"/groups/{group['id']['uuid']}", {"name": "Lab B"})
    events = [event for event in list_events(portal, "group.") if event.entity_site_id == group["id"]["site"]]
    assert [(event.event, event.actor_site_id, event.before, event.after) for event in events] == [
        ("group.created", admin.site_id, None, {"name": "Lab A"}),
        ("group.changed", admin.site_id, {"name": "Lab A"}, {"name": "Lab B"}),
    ]


def test_a_name_that_two_take_at_once_is_ones(portal: Portal) -> None:
    admin = portal.add_user("Office", site_admin=True)
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: admin.post("/groups", {"name": "Lab A"}).status_int, range(4)))
    assert sorted(statuses) == [200, 400, 400, 400]
