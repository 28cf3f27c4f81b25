"""The audit: each change is one event, a refusal none, and what was written stays as it was."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import webtest
from click.testing import CliRunner
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import delete, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import sessionmaker

from datameta.api import serialize
from datameta.cli import main
from datameta.database import Database
from datameta.logic import audit
from datameta.logic.sweep import sweep
from datameta.models import AuditEvent, AuditPending, AuditSeal
from tests.conftest import (
    PASSWORD,
    Client,
    Portal,
    actor_of,
    announce,
    assert_refused,
    counted,
    list_events,
    read_pages,
    send,
    sign_in,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user("Lab A")


@contextmanager
def recorded(portal: Portal) -> Iterator[list[AuditEvent]]:
    """Yield a list that holds, afterwards, the events that were written meanwhile."""
    former = {event.id for event in list_events(portal, "")}
    events: list[AuditEvent] = []
    yield events
    events.extend(event for event in list_events(portal, "") if event.id not in former)


def do(client: Client, method: str, path: str, body: Any = None, status: int = 200) -> tuple[AuditEvent, Any]:
    """Do one thing; return its one event, which names who did it in which request, and the answer."""
    with recorded(client.portal) as events:
        answer = client.request(method, path, body)
    assert answer.status_int == status, answer.body
    [event] = events
    assert (str(event.actor_uuid), event.actor_site_id) == (client.uuid, client.site_id)
    assert event.key_uuid == actor_of(client).key_uuid
    assert event.request_id == answer.headers["X-Request-Id"]
    return event, answer.json if answer.body else None


def said(event: AuditEvent) -> tuple[Any, ...]:
    """Return what an event says of which thing, before and after."""
    return event.event, event.entity_type, event.entity_site_id or str(event.entity_uuid), event.before, event.after


def definition(**changes: Any) -> dict[str, Any]:
    texts = dict.fromkeys(("regexDescription", "longDescription", "example", "regExp", "dateTimeFmt"), "")
    flags = dict.fromkeys(("isMandatory", "isFile", "isSubmissionUnique", "isSiteUnique"), False)
    return {"name": "ID", **texts, **flags, "order": 1, "serviceId": None, **changes}


# Each change is one event.


def test_each_change_of_a_file_is_an_event(lab: Client) -> None:
    checksum, other = "0" * 32, "f1f8f4bf413b16ad135722aa4591043e"
    event, file = do(lab, "post", "/files", {"name": "a.fq", "checksum": checksum})
    site, path = file["id"]["site"], f"/files/{file['id']['uuid']}"
    assert said(event) == ("file.announced", "File", site, None, {"name": "a.fq", "checksum": checksum})
    assert str(event.entity_uuid) == file["id"]["uuid"]
    event, renewed = do(lab, "post", f"{path}/upload-url")
    until = {"until": file["expires"]}, {"until": renewed["expires"]}
    assert said(event) == ("file.changed", "File", site, *until)
    event, _ = do(lab, "put", path, {"name": "b.fq"})
    before, after = {"name": "a.fq", "checksum": checksum}, {"name": "b.fq", "checksum": checksum}
    assert said(event) == ("file.changed", "File", site, before, after)
    event, _ = do(lab, "put", path, {"contentUploaded": True, "name": "c.fq"}, status=400)
    assert said(event) == ("file.refused", "File", site, None, {"checksum": checksum, "reason": "no_data"})
    send(lab, renewed, b"ACGT")
    event, _ = do(lab, "put", path, {"contentUploaded": True}, status=409)
    assert said(event) == ("file.refused", "File", site, None, {"checksum": checksum, "reason": "checksum_mismatch"})
    event, _ = do(lab, "put", path, {"contentUploaded": True, "checksum": other})
    assert said(event)[:4] == ("file.confirmed", "File", site, after)
    assert event.after == {"name": "b.fq", "checksum": other, "size": 4, "storage_key": event.after["storage_key"]}
    event, url = do(lab, "get", f"/rpc/get-file-url/{site}")
    assert said(event) == ("file.url_issued", "File", site, None, {"until": url["expires"]})
    event, _ = do(lab, "get", f"/rpc/get-file-url/{site}?redirect=true", status=307)
    assert event.event == "file.url_issued"
    event, _ = do(lab, "delete", path, status=204)
    state = {"name": "b.fq", "checksum": other, "state": "confirmed"}
    assert said(event) == ("file.deleted", "File", site, state, None)


def test_a_checksum_of_the_other_kind_is_one_change(lab: Client) -> None:
    file = announce(lab)
    event, changed = do(lab, "put", f"/files/{file['id']['uuid']}", {"checksum": "0" * 64})
    assert said(event)[:3] == ("file.changed", "File", file["id"]["site"])
    assert event.before["checksum"] == file_checksum(lab, b"ACGT")
    assert event.after == {"name": "a.fq", "checksum": changed["checksum"]}


def file_checksum(lab: Client, content: bytes) -> str:
    return str(lab.upload("other.fq", content)["checksum"])


def test_what_the_sweeper_removes_is_an_event_of_nobody(lab: Client) -> None:
    file = announce(lab)
    with lab.portal.database.engine.begin() as connection:
        connection.execute(text("UPDATE files SET upload_expires_at = now() - interval '2 hours'"))
    with recorded(lab.portal) as events:
        sweep(lab.portal.database.sessions, lab.portal.storage)
    [event] = events
    assert (event.event, event.entity_site_id) == ("file.deleted", file["id"]["site"])
    assert event.before is not None
    assert (event.before["name"], event.before["state"]) == ("a.fq", "announced")
    assert (event.actor_uuid, event.key_uuid, event.request_id, event.after) == (None, None, None, None)
    with recorded(lab.portal) as events:
        sweep(lab.portal.database.sessions, lab.portal.storage)
    assert events == []


def test_each_change_of_a_set_is_an_event(lab: Client) -> None:
    event, staged = do(lab, "post", "/metadatasets", {"record": {}})
    site = staged["id"]["site"]
    assert said(event) == ("metadataset.staged", "MetaDataSet", site, None, None)
    event, _ = do(lab, "delete", f"/metadatasets/{site}", status=204)
    assert said(event) == ("metadataset.deleted", "MetaDataSet", site, None, None)


def test_what_is_deleted_at_once_is_an_event_each(lab: Client) -> None:
    sets, files = [lab.stage()["id"]["uuid"] for _ in range(3)], [announce(lab)["id"]["uuid"] for _ in range(3)]
    with recorded(lab.portal) as events:
        assert lab.post("/rpc/delete-metadatasets", {"metadatasetIds": sets}).status_int == 204
        assert lab.post("/rpc/delete-files", {"fileIds": [*files, files[0]]}).status_int == 204
    assert sorted((event.event, str(event.entity_uuid)) for event in events) == sorted(
        [("metadataset.deleted", each) for each in sets] + [("file.deleted", each) for each in files]
    )


def test_a_submission_is_one_event_and_its_trial_none(lab: Client) -> None:
    body = {"metadatasetIds": [lab.stage()["id"]["uuid"] for _ in range(2)], "fileIds": [], "label": "first"}
    with recorded(lab.portal) as events:
        assert lab.post("/presubvalidation", body).status_int == 204
    assert events == []
    event, submitted = do(lab, "post", "/submissions", body)
    after = {"label": "first", "metadatasets": 2, "files": 0}
    assert said(event) == ("submission.created", "Submission", submitted["id"]["site"], None, after)


def test_each_change_of_a_service_is_an_event(admin: Client, lab: Client) -> None:
    event, service = do(admin, "post", "/services", {"name": "Analysis"})
    site, path = service["id"]["site"], f"/services/{service['id']['uuid']}"
    assert said(event) == ("service.created", "Service", site, None, {"name": "Analysis"})
    event, _ = do(admin, "put", path, {"userIds": [lab.site_id]})
    assert said(event) == ("service.changed", "Service", site, {"users": []}, {"users": [lab.site_id]})
    event, _ = do(admin, "put", path, {"name": "QC"})
    assert said(event) == ("service.changed", "Service", site, {"name": "Analysis"}, {"name": "QC"})
    staged = lab.stage()
    lab.submit([staged])
    event, _ = do(lab, "post", f"/service-execution/{site}/{staged['id']['uuid']}", {"record": {}, "fileIds": []})
    after = {"service": site, "files": 0}
    assert said(event) == ("service.executed", "MetaDataSet", staged["id"]["site"], None, after)


def test_each_change_of_a_definition_is_an_event(admin: Client) -> None:
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    event, metadatum = do(admin, "post", "/metadata", definition(serviceId=service))
    uuid = metadatum["id"]["uuid"]
    assert said(event)[:4] == ("metadatum.created", "MetaDatum", uuid, None)
    assert event.after is not None
    assert (event.after["name"], event.after["order"], event.after["service"]) == ("ID", 1, service)
    event, _ = do(admin, "put", f"/metadata/{uuid}", definition(name="Sample", isMandatory=True))
    before = {"name": "ID", "isMandatory": False, "service": service}
    after = {"name": "Sample", "isMandatory": True, "service": None}
    assert said(event) == ("metadatum.changed", "MetaDatum", uuid, before, after)


def test_a_change_to_what_it_is_already_is_no_event(admin: Client, lab: Client) -> None:
    metadatum = admin.post("/metadata", definition()).json["id"]["uuid"]
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["uuid"]
    file = announce(lab)["id"]["uuid"]
    with recorded(admin.portal) as events:
        assert admin.put(f"/metadata/{metadatum}", definition()).status_int == 200
        assert admin.put(f"/services/{service}", {"name": "Analysis", "userIds": []}).status_int == 200
        assert admin.put(f"/services/{service}", {}).status_int == 200
        assert lab.put(f"/files/{file}", {"name": "a.fq"}).status_int == 200
        assert lab.put(f"/files/{file}", {}).status_int == 200
        assert lab.post("/rpc/delete-files", {"fileIds": []}).status_int == 204
        assert lab.post("/rpc/delete-metadatasets", {"metadatasetIds": []}).status_int == 204
    assert [event.event for event in events] == []


# What was refused or undone is no event.


def test_a_refusal_is_no_event(portal: Portal, admin: Client, lab: Client) -> None:
    stranger = portal.add_user("Lab B")
    admin.add_field("ID", isSiteUnique=True)
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["uuid"]
    metadatum = admin.get("/metadata").json[0]["id"]["uuid"]
    file, confirmed = announce(lab)["id"]["uuid"], lab.upload("b.fq", b"b")["id"]["uuid"]
    submitted, rival, staged = lab.stage(ID="1"), lab.stage(ID="1"), lab.stage(ID="2")["id"]["uuid"]
    lab.submit([submitted])
    execution = f"/service-execution/{service}/{submitted['id']['uuid']}"
    answer = {"record": {}, "fileIds": []}
    refusals: list[tuple[Client, str, str, Any, int]] = [
        (lab, "post", "/files", {"name": "a/b", "checksum": "0" * 32}, 400),
        (lab, "put", f"/files/{file}", {"name": "a/b"}, 400),
        (lab, "put", f"/files/{confirmed}", {"name": "c.fq"}, 403),
        (lab, "put", f"/files/{confirmed}", {"contentUploaded": True}, 403),
        (lab, "post", f"/files/{confirmed}/upload-url", None, 403),
        (lab, "get", f"/rpc/get-file-url/{file}", None, 400),
        (stranger, "put", f"/files/{file}", {"name": "c.fq"}, 403),
        (stranger, "get", f"/rpc/get-file-url/{confirmed}", None, 403),
        (stranger, "delete", f"/files/{file}", None, 403),
        (stranger, "delete", f"/metadatasets/{staged}", None, 403),
        (lab, "delete", f"/files/{UNKNOWN}", None, 404),
        (lab, "post", "/rpc/delete-files", {"fileIds": [file, UNKNOWN]}, 404),
        (lab, "post", "/metadatasets", {"record": {"Unknown": "1"}}, 400),
        (lab, "delete", f"/metadatasets/{submitted['id']['uuid']}", None, 403),
        (lab, "post", "/rpc/delete-metadatasets", {"metadatasetIds": [staged, UNKNOWN]}, 404),
        (lab, "post", "/submissions", {"metadatasetIds": [], "fileIds": []}, 400),
        (lab, "post", "/submissions", {"metadatasetIds": [rival["id"]["uuid"]], "fileIds": []}, 400),
        (lab, "post", "/services", {"name": "QC"}, 403),
        (admin, "post", "/services", {"name": "Analysis"}, 400),
        (admin, "put", f"/services/{service}", {"name": "QC", "userIds": [UNKNOWN]}, 400),
        (lab, "post", execution, answer, 403),
        (lab, "post", "/metadata", definition(), 403),
        (admin, "post", "/metadata", definition(), 400),
        (admin, "put", f"/metadata/{metadatum}", definition(regExp="("), 400),
        (admin, "put", f"/metadata/{UNKNOWN}", definition(), 404),
        (portal.anonymous(), "post", "/metadatasets", {"record": {}}, 401),
    ]
    with recorded(portal) as events:
        for client, method, path, body, status in refusals:
            assert client.request(method, path, body).status_int == status, (method, path, body)
    assert [said(event) for event in events] == []


def test_what_was_undone_is_no_event(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialize, "show_metadataset", lambda *_: {"unfit": True})
    with recorded(lab.portal) as events:
        assert_refused(lab.post("/metadatasets", {"record": {}}), 500, ("internal_error", None))
    monkeypatch.undo()
    assert events == []
    assert lab.get("/staged/metadatasets").json == []


def test_no_secret_is_in_an_event(portal: Portal, admin: Client, lab: Client) -> None:
    browser = sign_in(lab)
    announced = lab.post("/files", {"name": "a.fq", "checksum": "0" * 32}, headers={"Idempotency-Key": "a key"}).json
    renewed = lab.post(f"/files/{announced['id']['uuid']}/upload-url").json
    confirmed = lab.upload("b.fq", b"b")
    url = lab.get(f"/rpc/get-file-url/{confirmed['id']['uuid']}").json["fileUrl"]
    with portal.database.engine.connect() as connection:
        everything = str(connection.scalar(text("SELECT json_agg(audit_events)::text FROM audit_events")))
    assert confirmed["id"]["uuid"] in everything
    tokens = [each["requestHeaders"]["Access-Token"] for each in (announced, renewed)]
    for secret in (PASSWORD, admin.token, lab.token, browser.cookie, browser.csrf, *tokens, url.rsplit("/")[-1]):
        assert secret
        assert secret not in everything


# One id for a request.


def test_every_answer_has_an_id_of_its_own(portal: Portal, lab: Client) -> None:
    answers = [
        lab.get("/rpc/whoami"),
        lab.get("/rpc/whoami", headers={"X-Request-Id": "mine"}),
        lab.get("/files/unknown"),
        lab.post("/files", {}),
        portal.anonymous().get("/rpc/whoami"),
        portal.anonymous().get("/unknown"),
        portal.anonymous().delete("/server"),
        portal.app.head("/api/v1/server"),
        portal.app.get("/api/v1/openapi.yaml"),
        portal.app.get("/%ff", expect_errors=True),
    ]
    ids = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(ids) == len(answers)
    assert all(len(each) == 32 and each.isalnum() for each in ids)


def test_a_failure_is_logged_with_the_id_that_the_client_has(
    lab: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for failure in (lambda *_: {"unfit": True}, lambda *_: 1 // 0):
        monkeypatch.setattr(serialize, "show_metadataset", failure)
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            answer = lab.post("/metadatasets", {"record": {}})
        assert answer.status_int == 500
        [record] = [record for record in caplog.records if record.name == "datameta.api"]
        assert f"(request {answer.headers['X-Request-Id']})" in record.getMessage()


# What was written stays.


@pytest.mark.parametrize("table", ["audit_events", "audit_events_0", "audit_events_default", "audit_seals"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET id = id", "UPDATE {} SET id = id WHERE false", "DELETE FROM {}", "TRUNCATE {} CASCADE"]
)
def test_the_database_refuses_to_change_what_was_written(lab: Client, table: str, statement: str) -> None:
    seal(lab.portal)
    before = len(list_events(lab.portal, ""))
    with pytest.raises(ProgrammingError) as refused, lab.portal.database.engine.begin() as connection:
        connection.execute(text(statement.format(table)))
    assert isinstance(refused.value.orig, InsufficientPrivilege)
    assert len(list_events(lab.portal, "")) == before > 0


def test_the_portals_own_sessions_are_refused_too(lab: Client) -> None:
    statements = (update(AuditEvent).values(event="nothing"), delete(AuditSeal), delete(AuditEvent))
    for statement in statements:
        with pytest.raises(ProgrammingError), lab.portal.database.sessions.begin() as db:
            db.execute(statement)
    with pytest.raises(ProgrammingError), lab.portal.database.sessions.begin() as db:
        db.delete(db.get_one(AuditEvent, list_events(lab.portal, "")[0].id))


# The chain.


def seal(portal: Portal) -> int:
    """Seal once; return how many events that were."""
    with portal.database.sessions.begin() as db:
        return audit.seal_events(db)


def find_broken(portal: Portal) -> int | None:
    with portal.database.sessions() as db:
        return audit.find_broken_seal(db)


def tamper(database: Database, *statements: str, **values: Any) -> None:
    """Do to the tables what their triggers would refuse."""
    with database.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            connection.execute(text(statement), values)


@pytest.fixture
def chain(lab: Client) -> list[int]:
    """The ids of five events or more, sealed."""
    for number in range(3):
        lab.post("/files", {"name": f"{number}.fq", "checksum": "0" * 32})
    lab.submit([lab.stage()])
    ids = [event.id for event in list_events(lab.portal, "")]
    assert len(ids) >= 5
    assert seal(lab.portal) == len(ids)
    assert find_broken(lab.portal) is None
    return ids


def test_nothing_is_a_whole_chain(portal: Portal) -> None:
    assert seal(portal) == 0
    assert find_broken(portal) is None


def test_each_event_is_sealed_once(lab: Client, chain: list[int]) -> None:
    assert seal(lab.portal) == 0
    with lab.portal.database.sessions() as db:
        seals = db.query(AuditSeal).order_by(AuditSeal.id).all()
        assert [each.event_id for each in seals] == chain
        assert len({each.hash for each in seals}) == len(chain)
        assert db.query(AuditPending).all() == []
        first = db.get_one(AuditEvent, chain[0])
        assert audit.hash_event(bytes(32), first) == seals[0].hash


def test_a_chain_goes_on_over_batches(lab: Client, chain: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        lab.stage()
    monkeypatch.setattr(audit, "SEAL_BATCH", 2)
    assert [seal(lab.portal) for _ in range(4)] == [2, 2, 1, 0]
    assert find_broken(lab.portal) is None


@pytest.mark.parametrize(
    "change",
    [
        "at = at + interval '1 microsecond'",
        "event = 'file.deleted'",
        "actor_uuid = gen_random_uuid()",
        "actor_uuid = NULL",
        "actor_site_id = 'DMU-00000000'",
        "key_uuid = gen_random_uuid()",
        "request_id = 'another'",
        "ip = '192.0.2.1'",
        "entity_type = 'Service'",
        "entity_uuid = gen_random_uuid()",
        "entity_site_id = 'DMF-00000000'",
        "before = '{}'",
        "after = '{}'",
        "after = NULL",
    ],
)
def test_a_changed_event_breaks_the_chain(lab: Client, chain: list[int], change: str) -> None:
    announced = list_events(lab.portal, "file.announced")[1].id
    tamper(lab.portal.database, f"UPDATE audit_events SET {change} WHERE id = :id", id=announced)
    assert find_broken(lab.portal) == announced


REMOVE_EVENT = "DELETE FROM audit_events WHERE id = :second"
REMOVE_SEAL = "DELETE FROM audit_seals WHERE event_id = :second"
SWAP_SEALS = (
    "UPDATE audit_seals SET event_id = -1 WHERE event_id = :second",
    "UPDATE audit_seals SET event_id = :second WHERE event_id = :third",
    "UPDATE audit_seals SET event_id = :third WHERE event_id = -1",
)


@pytest.mark.parametrize(
    ("statements", "broken"),
    [
        ([REMOVE_EVENT], 1),
        ([REMOVE_SEAL], 2),
        ([REMOVE_SEAL, REMOVE_EVENT], 2),
        (SWAP_SEALS, 2),
        (["UPDATE audit_seals SET hash = sha256(hash) WHERE event_id = :second"], 1),
        (["DELETE FROM audit_seals WHERE event_id = :last"], -1),
    ],
    ids=["event removed", "seal removed", "both removed", "order changed", "hash changed", "last seal removed"],
)
def test_a_gap_breaks_the_chain(lab: Client, chain: list[int], statements: Sequence[str], broken: int) -> None:
    tamper(lab.portal.database, *statements, second=chain[1], third=chain[2], last=chain[-1])
    assert find_broken(lab.portal) == chain[broken]


def test_an_event_that_was_never_to_be_sealed_is_found(lab: Client, chain: list[int]) -> None:
    tamper(lab.portal.database, "INSERT INTO audit_events (event) VALUES ('login.ok')")
    assert seal(lab.portal) == 0
    assert find_broken(lab.portal) == list_events(lab.portal, "")[-1].id


def test_events_are_sealed_in_whatever_order_they_are_committed(portal: Portal) -> None:
    early, late = portal.database.sessions(), portal.database.sessions()
    with early, late:
        for db in (early, late):
            audit.record_event(db, "test.event", actor=None)
        late.commit()
        assert seal(portal) == 1
        early.commit()
    assert seal(portal) == 1
    assert find_broken(portal) is None
    with portal.database.sessions() as db:
        sealed = [each.event_id for each in db.query(AuditSeal).order_by(AuditSeal.id)]
    assert sealed == sorted(sealed, reverse=True)


def test_of_racing_sealers_each_event_is_sealed_by_one(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SEAL_BATCH", 3)
    for _ in range(10):
        lab.stage()
    total = len(list_events(lab.portal, ""))
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: seal(lab.portal), range(12)))
    assert sum(counts) == total
    assert find_broken(lab.portal) is None


def test_the_chain_is_checked_whatever_the_sessions_time_zone(lab: Client, chain: list[int]) -> None:
    with lab.portal.database.engine.connect() as connection:
        connection.execute(text("SET LOCAL timezone = 'Asia/Tokyo'"))
        with sessionmaker(connection)() as db:
            assert audit.find_broken_seal(db) is None


# Reading it.


def names(answer: webtest.TestResponse) -> list[str]:
    assert answer.status_int == 200, answer.body
    return [event["event"] for event in answer.json]


def test_the_audit_is_for_site_admins(portal: Portal) -> None:
    for roles in ({}, {"group_admin": True}, {"site_read": True}):
        assert_refused(portal.add_user(**roles).get("/audit"), 403, ("forbidden", None))
    assert_refused(portal.anonymous().get("/audit"), 401, ("unauthenticated", None))


def test_an_event_is_told_whole(admin: Client, lab: Client) -> None:
    file = announce(lab)
    [event] = list_events(lab.portal, "file.announced")
    key = actor_of(lab).key_uuid
    told = {
        "id": event.id,
        "at": event.at.isoformat(),
        "event": "file.announced",
        "actorId": {"uuid": lab.uuid, "site": lab.site_id},
        "keyId": {"uuid": str(key)},
        "requestId": event.request_id,
        "ip": None,
        "entityType": "File",
        "entityId": file["id"],
        "before": None,
        "after": {"name": "a.fq", "checksum": "f1f8f4bf413b16ad135722aa4591043e"},
    }
    assert admin.get("/audit?event=file.announced").json == [{**told, "hash": None}]
    seal(lab.portal)
    [told_since] = admin.get("/audit?event=file.announced").json
    digest = told_since.pop("hash")
    assert told_since == told
    with lab.portal.database.sessions() as db:
        assert bytes.fromhex(digest) == db.query(AuditSeal).filter_by(event_id=event.id).one().hash


def test_the_address_of_a_request_is_told(admin: Client, lab: Client) -> None:
    lab.post("/metadatasets", {"record": {}}, extra_environ={"REMOTE_ADDR": "2001:db8::1"})
    assert [event["ip"] for event in admin.get("/audit?event=metadataset.staged").json] == ["2001:db8::1"]


def test_every_condition_must_hold(portal: Portal, admin: Client, lab: Client) -> None:
    other = portal.add_user("Lab B")
    staged = lab.stage()["id"]
    other.stage()
    announce(lab)
    for text_ in (lab.uuid, lab.uuid.upper(), lab.site_id):
        assert names(admin.get("/audit", params={"actorId": text_})) == ["file.announced", "metadataset.staged"]
        query = {"actorId": text_, "event": "metadataset.staged"}
        assert [event["entityId"] for event in admin.get("/audit", params=query).json] == [staged]
    for text_ in staged.values():
        assert names(admin.get("/audit", params={"entityId": text_})) == ["metadataset.staged"]
        assert names(admin.get("/audit", params={"entityId": text_, "actorId": other.uuid})) == []
    for text_ in (UNKNOWN, "DMU-00000000", "nobody"):
        assert names(admin.get("/audit", params={"actorId": text_})) == []


def test_both_ends_of_a_time_are_exclusive(admin: Client, lab: Client) -> None:
    lab.stage()
    [at] = [event.at for event in list_events(lab.portal, "metadataset.staged")]
    tick = timedelta(microseconds=1)

    def find(**query: datetime) -> list[str]:
        instants = {name: instant.isoformat() for name, instant in query.items()}
        return names(admin.get("/audit", params={"event": "metadataset.staged", **instants}))

    assert find(after=at) == find(before=at) == []
    assert find(after=at - tick) == find(before=at + tick) == find(after=at - tick, before=at + tick)
    assert find(after=at - tick) == ["metadataset.staged"]


def test_a_condition_without_sense_is_refused(admin: Client) -> None:
    answer = admin.get("/audit", params={"after": "yesterday", "before": "tomorrow"})
    assert_refused(answer, 400, ("invalid_date", "after"), ("invalid_date", "before"))
    assert_refused(admin.get("/audit?cursor=nonsense"), 400, ("invalid_cursor", "cursor"))
    assert_refused(admin.get("/audit?limit=0"), 400, ("out_of_range", "limit"))
    assert_refused(admin.get("/audit?limit=1001"), 400, ("out_of_range", "limit"))


def test_pages_give_each_event_once_newest_first(admin: Client, lab: Client) -> None:
    for _ in range(7):
        lab.stage()
    everything = [event["id"] for event in admin.get("/audit").json]
    pages = read_pages(admin, "/audit", limit=3)
    assert [event["id"] for page in pages for event in page] == everything == sorted(everything, reverse=True)
    assert {len(page) for page in pages[:-1]} == {3}
    found = read_pages(admin, "/audit", limit=3, event="metadataset.staged", actorId=lab.site_id)
    assert [len(page) for page in found] == [3, 3, 1]


def test_users_read_what_concerns_their_own_security(portal: Portal, admin: Client, lab: Client) -> None:
    other = portal.add_user("Lab A", group_admin=True, site_read=True)
    sign_in(lab)
    portal.anonymous().post("/sessions", {"email": lab.email, "password": "wrong"})
    lab.stage()
    admin.put(f"/users/{lab.uuid}", {"siteRead": True})
    for client in (lab, admin):
        for user_id in (lab.uuid, lab.site_id):
            events = client.get(f"/users/{user_id}/events")
            assert names(events)[:3] == ["user.changed", "login.failed", "login.ok"]
            assert "metadataset.staged" not in names(events)
            mine = {lab.uuid}
            assert all(
                mine & {(event[name] or {}).get("uuid") for name in ("actorId", "entityId")} for event in events.json
            )
    assert_refused(other.get(f"/users/{lab.uuid}/events"), 403, ("forbidden", None))
    assert_refused(lab.get(f"/users/{other.uuid}/events"), 403, ("forbidden", None))
    assert_refused(lab.get(f"/users/{UNKNOWN}/events"), 404, ("not_found", None))
    assert_refused(portal.anonymous().get(f"/users/{lab.uuid}/events"), 401, ("unauthenticated", None))
    pages = read_pages(lab, f"/users/{lab.uuid}/events", limit=1)
    assert [event for [event] in pages] == lab.get(f"/users/{lab.uuid}/events").json


def test_odd_and_long_values_are_told_as_they_are(admin: Client, lab: Client) -> None:
    name, text_ = "\U0001f9ec" * 240 + " \"'\\ <b>%s", "\U0001f9ec\n" * 5000
    created = admin.post("/metadata", definition(name=name, longDescription=text_, example="null", regExp="a" * 1000))
    assert created.status_int == 200, created.body
    assert admin.post("/services", {"name": name}).status_int == 200
    assert lab.submit([lab.stage()], label="\U0001f9ec" * 100).status_int == 200
    assert lab.post("/files", {"name": "é" * 255, "checksum": "A" * 64}).status_int == 200
    assert lab.put(f"/services/{admin.get('/services').json[0]['id']['uuid']}", {}).status_int == 403
    seal(lab.portal)
    told = {event["event"]: event["after"] for event in read_pages(admin, "/audit", limit=1000)[0]}
    assert told["metadatum.created"]["name"] == told["service.created"]["name"] == name
    assert told["metadatum.created"]["longDescription"] == text_
    assert told["submission.created"]["label"] == "\U0001f9ec" * 100
    assert told["file.announced"] == {"name": "é" * 255, "checksum": "a" * 64}
    assert find_broken(lab.portal) is None


def test_many_events_take_as_few_statements_as_one(admin: Client, lab: Client) -> None:
    admin.get("/audit")
    counts = []
    for _ in range(2):
        for path in ("/audit", f"/users/{admin.uuid}/events"):
            with counted(admin.portal) as statements:
                admin.get(path)
            counts.append(len(statements))
        for _ in range(5):
            lab.stage()
    assert counts[:2] == counts[2:]
    assert max(counts) <= 4


def test_deleting_many_writes_their_events_in_one_statement(lab: Client) -> None:
    ids = [lab.stage()["id"]["uuid"] for _ in range(20)]
    with counted(lab.portal) as statements:
        assert lab.post("/rpc/delete-metadatasets", {"metadatasetIds": ids}).status_int == 204
    assert sum("INSERT INTO audit_events" in statement for statement in statements) == 1


def test_from_where_an_administrator_acted_is_for_administrators(portal: Portal, admin: Client, lab: Client) -> None:
    assert admin.put(f"/users/{lab.uuid}", {"name": "Renamed"}).status_int == 204
    [seen] = [event for event in lab.get(f"/users/{lab.uuid}/events").json if event["event"] == "user.changed"]
    assert seen["actorId"]["uuid"] == admin.uuid
    assert (seen["ip"], seen["keyId"], seen["requestId"]) == (None, None, None)
    [seen] = [event for event in admin.get(f"/users/{lab.uuid}/events").json if event["event"] == "user.changed"]
    assert seen["keyId"] is not None
    assert seen["requestId"] is not None


def test_the_command_line_walks_the_chain(
    portal: Portal, chain: list[int], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAMETA_DATABASE_URL", database_url)
    words = ["audit", "check", "--home", str(tmp_path)]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.stdout) == (0, "The chain of events is whole.\n")
    tamper(portal.database, "UPDATE audit_events SET event = 'nothing.happened' WHERE id = :id", id=chain[2])
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert f"The chain is broken at event {chain[2]}" in done.output
