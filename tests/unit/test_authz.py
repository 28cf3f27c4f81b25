"""Who may see what: one truth table, on which the predicates, the SQL scopes and the API agree."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import joinedload

from datameta import authz
from datameta.identifiers import find_by_id
from datameta.models import File, Group, MetaDataSet, MetaDatum, ServiceExecution, Submission, User
from tests.conftest import Client, Portal, actor_of

ACTORS = (
    "stranger",
    "group admin elsewhere",
    "owner",
    "same group",
    "owner who left",
    "site read",
    "site admin",
    "service user",
    "other service user",
)
SEES = {
    "staged set": {"owner", "owner who left"},
    "staged file": {"owner", "owner who left"},
    "submitted set": {"owner", "same group", "site read"},
    "submitted file": {"owner", "same group", "site read"},
    "service file": {"site read", "service user"},
    "service value": {"site read", "service user"},
}


@dataclass
class World:
    """Somebody of every kind, and one thing of every kind that belongs to the owner or to the service."""

    clients: dict[str, Client]
    service: str
    sets: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]


@pytest.fixture
def world(portal: Portal) -> World:
    owner = portal.add_user("Lab A")
    leaver = portal.add_user("Lab A")
    clients = {
        "stranger": portal.add_user("Lab B"),
        "group admin elsewhere": portal.add_user("Lab B", group_admin=True),
        "owner": owner,
        "same group": portal.add_user("Lab A"),
        "owner who left": leaver,
        "site read": portal.add_user("Office", site_read=True),
        "site admin": portal.add_user("Office", site_admin=True),
        "service user": portal.add_user("Bots"),
        "other service user": portal.add_user("Bots"),
    }
    admin, bot = clients["site admin"], clients["service user"]
    services = [admin.post("/services", {"name": name}).json["id"]["site"] for name in ("One", "Two")]
    for service, user in zip(services, (bot, clients["other service user"]), strict=True):
        admin.put(f"/services/{service}", {"userIds": [user.site_id]})
    admin.add_field("File", isFile=True)
    admin.add_field("Report", isFile=True, serviceId=services[0], order=2)
    sets, files = {}, {}
    for name, user in (("owner", owner), ("leaver", leaver)):
        sets[f"submitted set of {name}"] = user.stage(File="a.txt")
        files[f"submitted file of {name}"] = user.upload("a.txt", b"a")
        submitted = user.submit([sets[f"submitted set of {name}"]], [files[f"submitted file of {name}"]])
        assert submitted.status_int == 200
        sets[f"staged set of {name}"] = user.stage()
        files[f"staged file of {name}"] = user.upload("b.txt", b"b")
    files["service file"] = bot.upload("report.txt", b"r")
    executed = bot.post(
        f"/service-execution/{services[0]}/{sets['submitted set of owner']['id']['site']}",
        {"record": {"Report": "report.txt"}, "fileIds": [files["service file"]["id"]["site"]]},
    )
    assert executed.status_int == 200
    with portal.database.sessions.begin() as db:
        elsewhere = select(Group.id).where(Group.name == "Lab B").scalar_subquery()
        db.execute(update(User).where(User.site_id == leaver.site_id).values(group_id=elsewhere))
    return World(clients, services[0], sets, files)


def expect(thing: str, actor: str) -> bool:
    """Return what the truth table says of a thing of the owner's or of the one's who left."""
    kind, _, of = thing.partition(" of ")
    sees = SEES[kind]
    if kind.startswith("staged"):
        return actor == {"owner": "owner", "leaver": "owner who left", "": ""}[of]
    return actor in sees


def test_the_table_is_about_everybody() -> None:
    assert set().union(*SEES.values()) <= set(ACTORS)


def test_predicates_scopes_and_answers_agree(world: World, portal: Portal) -> None:
    assert tuple(world.clients) == ACTORS
    for name, client in world.clients.items():
        actor = actor_of(client)
        listed = client.get("/metadatasets")
        answered = {item["id"]["site"] for item in listed.json} if listed.status_int == 200 else set()
        with portal.database.sessions() as db:
            query = select(MetaDataSet.site_id).join(Submission).where(authz.visible_submitted(actor))
            scope = set(db.scalars(query))
            assert answered == scope, name
            for thing, item in world.sets.items():
                site_id = item["id"]["site"]
                row = find_by_id(db, MetaDataSet, site_id, joinedload(MetaDataSet.submission))
                assert authz.may_view_metadataset(actor, row) is expect(thing, name), (name, thing)
                assert (site_id in scope) is (thing.startswith("submitted") and expect(thing, name)), (name, thing)
                status = client.get(f"/metadatasets/{site_id}").status_int
                assert status == (200 if expect(thing, name) else 403), (name, thing)
            for thing, item in world.files.items():
                site_id = item["id"]["site"]
                row = find_by_id(db, File, site_id, joinedload(File.submission), joinedload(File.service_execution))
                assert authz.may_view_file(actor, row) is expect(thing, name), (name, thing)
                for path in (f"/files/{site_id}", f"/rpc/get-file-url/{site_id}"):
                    status = client.get(path).status_int
                    assert status == (200 if expect(thing, name) else 403), (name, thing)


def test_what_a_service_answered_is_seen_by_its_users_and_site_read(world: World, portal: Portal) -> None:
    submitted = world.sets["submitted set of owner"]["id"]["site"]
    with portal.database.sessions() as db:
        report = db.scalars(select(MetaDatum).where(MetaDatum.name == "Report")).one()
        lab = db.scalars(select(MetaDatum).where(MetaDatum.name == "File")).one()
    assert report.service_id is not None
    for name, client in world.clients.items():
        actor = actor_of(client)
        assert authz.may_view_metadatum(actor, report) is (name in SEES["service value"])
        assert authz.may_view_metadatum(actor, lab)
        with portal.database.sessions() as db:
            executions = db.scalars(select(ServiceExecution).where(authz.visible_executions(actor))).all()
        assert bool(executions) is (name in SEES["service value"])
        assert authz.may_execute_service(actor, report.service_id) is (name == "service user")
        assert authz.may_query_awaiting(actor, report.service_id) is (name in SEES["service value"])
        response = client.get(f"/metadatasets/{submitted}")
        if response.status_int == 200:
            assert ("Report" in response.json["record"]) is (name in SEES["service value"])
            assert ("Report" in response.json["fileIds"]) is (name in SEES["service value"])
            assert (response.json["serviceExecutions"] is not None) is (name in SEES["service value"])
        awaiting = client.get("/metadatasets", params={"awaitingService": world.service})
        assert awaiting.status_int == ((200 if name == "site read" else 404) if name in SEES["service value"] else 400)


def test_only_the_owner_changes(world: World, portal: Portal) -> None:
    for name, client in world.clients.items():
        actor = actor_of(client)
        with portal.database.sessions() as db:
            row = find_by_id(db, MetaDataSet, world.sets["staged set of owner"]["id"]["site"])
            file = find_by_id(db, File, world.files["staged file of owner"]["id"]["site"])
        assert authz.may_change_metadataset(actor, row) is (name == "owner")
        assert authz.may_change_file(actor, file) is (name == "owner")


@pytest.mark.parametrize(
    ("changes", "group", "submissions", "user", "roles"),
    [
        ({}, False, False, False, False),
        ({"group_id": 7}, True, True, False, False),
        ({"group_id": 7, "group_admin": True}, True, True, True, True),
        ({"group_admin": True}, False, False, False, False),
        ({"site_read": True}, True, True, True, False),
        ({"site_admin": True}, True, False, True, True),
        ({"id": 5, "group_id": 7}, True, True, True, False),
    ],
)
def test_who_sees_groups_and_users(
    world: World, portal: Portal, changes: dict[str, Any], group: bool, submissions: bool, user: bool, roles: bool
) -> None:
    """The group is 7 and the user is 5."""
    nobody = replace(actor_of(world.clients["stranger"]), id=-1, group_id=-1)
    actor = replace(nobody, **changes)
    assert authz.may_view_group(actor, 7) is group
    assert authz.may_view_group_submissions(actor, 7) is submissions
    assert authz.may_view_user(actor, 5, 7) is user
    assert authz.may_view_user_roles(actor, 7) is roles
    assert authz.may_administer_site(actor) is actor.site_admin
