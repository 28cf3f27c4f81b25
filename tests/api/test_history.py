"""The history of a set: what happened to it, for whoever may see it; what services did for those who may see that."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from datameta.logic import history
from tests.conftest import Client, Portal, assert_refused, counted

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def read(client: Client, metadataset: dict[str, Any], kind: str = "uuid") -> list[dict[str, Any]]:
    answer = client.get(f"/metadatasets/{metadataset['id'][kind]}/history")
    assert answer.status_int == 200, answer.body
    events: list[dict[str, Any]] = answer.json
    return events


def name(client: Client) -> dict[str, Any]:
    """Return how the history names somebody."""
    me = client.get("/rpc/whoami").json
    return {"id": me["id"], "name": me["name"]}


@pytest.fixture
def lab(portal: Portal) -> Client:
    admin = portal.add_user("Office", site_admin=True)
    admin.add_field("ID", order=1)
    admin.add_field("Place", order=2)
    return portal.add_user("Lab A")


def test_a_set_is_staged_changed_and_submitted(portal: Portal, lab: Client) -> None:
    staged = lab.stage(ID="1")
    lab.put(f"/metadatasets/{staged['id']['uuid']}", {"record": {"ID": "2", "Place": "x"}})
    other = lab.stage(ID="other")
    assert [event["event"] for event in read(lab, staged)] == ["metadataset.staged", "metadataset.changed"]
    lab.submit([staged, other], label="Run")
    for client in (lab, portal.add_user("Lab A"), portal.add_user("Office", site_read=True)):
        told = read(client, staged, "site")
        assert told == read(lab, staged)
        instants = [datetime.fromisoformat(event.pop("at")) for event in told]
        assert instants == sorted(instants)
        assert told == [
            {"event": "metadataset.staged", "actor": name(lab), "before": None, "after": None},
            {"event": "metadataset.changed", "actor": name(lab), "before": None, "after": {"fields": ["ID", "Place"]}},
            {
                "event": "submission.created",
                "actor": name(lab),
                "before": None,
                "after": {"label": "Run", "metadatasets": 2, "files": 0},
            },
        ]
    assert [event["event"] for event in read(lab, other)] == ["metadataset.staged", "submission.created"]


def test_what_services_did_is_told_to_those_who_may_see_it(portal: Portal, lab: Client) -> None:
    admin = portal.add_user("Office", site_admin=True)
    reader = portal.add_user("Office", site_read=True)
    staged = lab.stage(ID="1")
    lab.submit([staged])
    bots, services = [], []
    for title in ("One", "Two"):
        bot = portal.add_user("Lab A")
        service = admin.post("/services", {"name": title}).json["id"]["site"]
        admin.put(f"/services/{service}", {"userIds": [bot.uuid]})
        admin.add_field(f"Result {title}", serviceId=service)
        body = {"record": {f"Result {title}": "fine"}, "fileIds": []}
        assert bot.post(f"/service-execution/{service}/{staged['id']['site']}", body).status_int == 200
        bots.append(bot)
        services.append(service)
    executed = [
        {"event": "service.executed", "actor": name(bot), "before": None, "after": {"service": service, "files": 0}}
        for bot, service in zip(bots, services, strict=True)
    ]
    for client, expected in ((lab, []), (bots[0], executed[:1]), (bots[1], executed[1:]), (reader, executed)):
        begin, submitted, *rest = read(client, staged)
        assert (begin["event"], submitted["event"]) == ("metadataset.staged", "submission.created")
        assert [{key: event[key] for key in executed[0]} for event in rest] == expected


def test_a_history_is_for_whoever_may_see_the_set(portal: Portal, lab: Client) -> None:
    staged, submitted = lab.stage(ID="1"), lab.stage(ID="2")
    lab.submit([submitted])
    for client in (portal.add_user("Lab A"), portal.add_user("Office", site_read=True, site_admin=True)):
        answer = client.get(f"/metadatasets/{staged['id']['site']}/history")
        assert_refused(answer, 403, ("forbidden", None))
    for client in (portal.add_user("Lab B"), portal.add_user("Office", site_admin=True)):
        answer = client.get(f"/metadatasets/{submitted['id']['uuid']}/history")
        assert_refused(answer, 403, ("forbidden", None))
    for metadataset_id in (UNKNOWN, "nothing"):
        assert_refused(lab.get(f"/metadatasets/{metadataset_id}/history"), 404, ("not_found", None))
    answer = portal.anonymous().get(f"/metadatasets/{staged['id']['uuid']}/history")
    assert_refused(answer, 401, ("unauthenticated", None))


def test_who_is_nobody_is_null(portal: Portal, lab: Client) -> None:
    staged = lab.stage(ID="1")
    with portal.database.engine.begin() as connection:
        statement = "INSERT INTO audit_events (event, entity_uuid) VALUES ('metadataset.moved', :uuid)"
        connection.execute(text(statement), {"uuid": staged["id"]["uuid"]})
    assert [event["actor"] for event in read(lab, staged)] == [name(lab), None]


def test_a_long_history_takes_one_statement_and_ends_with_the_last_event(
    portal: Portal, lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = lab.stage(ID="0")
    counts = []
    for number in range(1, 6):
        lab.put(f"/metadatasets/{staged['id']['uuid']}", {"record": {"ID": str(number)}})
        with counted(portal) as statements:
            assert len(read(lab, staged)) == number + 1
        counts.append(len(statements))
    assert set(counts) == {counts[0]}
    whole = read(lab, staged)
    monkeypatch.setattr(history, "MOST_EVENTS", 2)
    assert read(lab, staged) == whole[-2:]
