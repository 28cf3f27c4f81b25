"""Users and groups over the API."""

from typing import Any

import pytest

from datameta.errors import ValidationError
from datameta.logic import groups, users
from datameta.models import Group
from tests.conftest import Portal, codes

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
