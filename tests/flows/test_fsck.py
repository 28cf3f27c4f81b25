"""``datameta fsck`` finds each kind of damage, names it, and finds nothing else; after normal use it finds nothing."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from datameta.cli import main
from datameta.database import Database
from datameta.errors import UnavailableError
from datameta.logic import audit, fsck, inventory, sweep, verification
from datameta.logic.fsck import Finding, Proof
from datameta.models import Base
from datameta.queue import store_job
from datameta.settings import Settings
from datameta.storage import StorageUnavailableError, open_storage
from tests.conftest import (
    BASE_URL,
    Client,
    FaultyStorage,
    Portal,
    announce,
    confirm,
    counted,
    do_before,
    empty_tables,
    send,
)
from tests.storage.backends import make_s3, s3_settings, set_credentials

MD5 = hashlib.md5(b"ACGT").hexdigest()
NAME = "Probe Ä.fq"
TABLES = [table.name for table in Base.metadata.sorted_tables]


@dataclass
class Site:
    """A portal in normal use: a submission of two sets with a file each, and a service's answer to each with a file."""

    portal: Portal
    admin: Client
    lab: Client

    def execute(self, statement: str, **values: Any) -> None:
        with self.portal.database.engine.begin() as connection:
            # The audit's tables refuse to be changed; for a replica's session triggers are off.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            for each in statement.split(";"):
                connection.execute(text(each), values)


def use(portal: Portal) -> Site:
    admin, lab = portal.add_user("Office", site_admin=True), portal.add_user()
    service = admin.post("/services", {"name": "qc"}).json
    admin.put(f"/services/{service['id']['uuid']}", {"userIds": [lab.uuid]})
    uuid = service["id"]["uuid"]
    admin.add_field("sample", isSiteUnique=True)
    admin.add_field("tube", isSubmissionUnique=True)
    admin.add_field("day", isSiteUnique=True, dateTimeFmt="%d.%m.%Y")
    admin.add_field("code", isSiteUnique=True)
    admin.add_field("reads", isFile=True)
    admin.add_field("run", serviceId=uuid, isSiteUnique=True)
    admin.add_field("lane", serviceId=uuid, isSubmissionUnique=True)
    admin.add_field("report", serviceId=uuid, isFile=True)
    sets = [
        lab.stage(sample="S1", tube=" 1 ", day="24.12.2026", reads=unicodedata.normalize("NFD", NAME)),
        lab.stage(sample="S2", tube=" ", code=" ", reads="b.fq"),
    ]
    files = [lab.upload(NAME, b"ACGT"), lab.upload("b.fq", b"")]
    assert lab.submit(sets, files).status_int == 200
    for number, metadataset in enumerate(sets):
        report = lab.upload(f"report{number}", b"fine")
        answer = lab.post(
            f"/service-execution/{uuid}/{metadataset['id']['uuid']}",
            {
                "record": {"run": f"R{number}", "lane": f"L{number}", "report": f"report{number}"},
                "fileIds": [report["id"]["uuid"]],
            },
        )
        assert answer.status_int == 200, answer.body
    lab.upload("loose", b"TTTT")
    lab.stage(sample="S1")
    announce(lab, name="announced")
    with portal.database.sessions.begin() as db:
        audit.seal_events(db)
    return Site(portal, admin, lab)


@pytest.fixture(scope="module")
def used(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that all tests of this module damage and bring back."""
    empty_tables(shared_database)
    settings = Settings(home=tmp_path_factory.mktemp("used") / "home", base_url=BASE_URL, bcrypt_cost=4)
    site = use(Portal(shared_database, settings, open_storage(settings)))
    saves = "; ".join(f"CREATE TABLE saved.{name} AS TABLE {name}" for name in TABLES)
    site.execute(f"CREATE SCHEMA saved; {saves}")
    yield site
    site.execute("DROP SCHEMA saved CASCADE")


@pytest.fixture
def site(used: Site, database: Database) -> Site:
    """The site in normal use, whatever the tests before have done to its rows."""
    used.execute("; ".join(f"INSERT INTO {name} TABLE saved.{name}" for name in TABLES))
    return used


def prove(portal: Portal, *, content: bool = False) -> tuple[list[Finding], list[Proof]]:
    sessions, storage = portal.database.sessions, portal.storage
    reports = list(fsck.prove_site(sessions, storage, orphan_days=35))
    if content:
        reports += fsck.prove_content(sessions, storage, advance=lambda size: None)
    findings = [report for report in reports if isinstance(report, Finding)]
    proofs = [report for report in reports if isinstance(report, Proof)]
    assert sum(proof.wrong for proof in proofs) == sum(finding.is_wrong for finding in findings)
    return findings, proofs


def messages(portal: Portal, **options: bool) -> list[str]:
    return sorted(f"{finding.subject.split()[0]}: {finding.message}" for finding in prove(portal, **options)[0])


def test_after_normal_use_nothing_is_found(site: Site) -> None:
    findings, proofs = prove(site.portal, content=True)
    assert findings == []
    assert {proof.what: proof.count for proof in proofs} == {
        "store that is this database's": 1,
        "files with their content in the store": 5,
        "objects and uploads that a file needs": 6,
        "files that are done, or go on": 6,
        "files that agree with themselves and with their submission": 6,
        "parts of uploads in parts": 0,
        "submissions that are whole": 1,
        "metadatasets": 3,
        "answers of services": 2,
        "references from fields to files": 4,
        "values that have to be unique, and their claims": 8,
        "sealed events of the audit": count_seals(site),
        "files whose content was read, and has the announced checksum": 5,
    }


def count_seals(site: Site) -> int:
    with site.portal.database.engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM audit_seals")).scalar_one())


LOOSE = "WHERE name = 'loose'"
ANNOUNCED = "WHERE name = 'announced'"
B = "WHERE name = 'b.fq'"
S2 = "WHERE submission_id IS NOT NULL AND record::text LIKE '%S2%'"
ADMIN = "(SELECT id FROM users WHERE site_admin)"
OWN_KEY = "storage_key = 'files/' || uuid, size = 4, state_changed_at = now() - interval '1 hour'"
NO_UPLOAD = "upload: no file needs it, and it is 0.0 hours old"
NO_FIELD = "file: it is submitted, and no field names it"
NO_FILE = "metadataset: its field {} names a file, and refers to none"
NOT_NAMED = "file: the field that refers to it does not name it"
STUCK = "file: it has been {} for too long"
NO_CLAIM = "metadataset: it has no claim to its value in the field {}"
NOT_HELD = "metadataset: it has a claim to a value that it does not hold in the field {}"
TWICE = "metadataset: it has the same value as another of its submission in the field {}"
NO_RECORD = "metadataset: its record holds something else than texts of fields"


def field_id(name: str) -> str:
    return f"(SELECT id::text FROM metadata WHERE name = '{name}')"


def give(name: str, value: str, table: str = "metadatasets", rows: str = S2) -> str:
    """Return the statement that gives a field another value."""
    return f"UPDATE {table} SET record = jsonb_set(record, ARRAY[{field_id(name)}], '{value}') {rows}"


PLANTED = {
    "content missing": (
        f"UPDATE files SET state = 'confirmed', {OWN_KEY} {ANNOUNCED}",
        ["file: its content is not in the store", NO_UPLOAD],
    ),
    "content of a failed file missing": (
        f"UPDATE files SET state = 'failed', {OWN_KEY} {ANNOUNCED}",
        ["file: its content is not in the store"],
    ),
    "other size": (f"UPDATE files SET size = 5 {LOOSE}", ["file: its content has not 5 bytes"]),
    "known damage": (
        f"UPDATE files SET problem = 'content_changed' {LOOSE}",
        ["file: its content was found damaged before"],
    ),
    "upload of another": (
        f"UPDATE files SET upload = repeat('0', 32) {ANNOUNCED}",
        [NO_UPLOAD],
    ),
    "no row": (f"DELETE FROM files {LOOSE}", ["object: no file needs it, and it is 0.0 hours old"]),
    "other MD5": (
        f"UPDATE files SET md5 = repeat('0', 32) {LOOSE}",
        ["file: its content has not the digest that was announced"],
    ),
    "other SHA-256": (
        f"UPDATE files SET checksum = repeat('0', 64) {LOOSE}",
        ["file: its content has not the digest that was announced"],
    ),
    "key of another": (
        f"UPDATE files SET storage_key = (SELECT storage_key FROM files WHERE name = 'report0') {LOOSE}",
        ["file: its content is not at a key of its own"],
    ),
    "other size than announced": (
        f"UPDATE files SET part_size = 5, announced_size = 5 {LOOSE}",
        ["file: it has another size than its upload in parts"],
    ),
    "submitted twice": (
        f"UPDATE files SET service_execution_id = (SELECT max(id) FROM service_executions) {B}",
        [NOT_NAMED, "file: it is in a submission, and in the answer of a service as well"],
    ),
    "file of another": (f"UPDATE files SET user_id = {ADMIN} {B}", ["file: somebody else submitted it"]),
    "file of another in an answer": (
        f"UPDATE files SET user_id = {ADMIN} WHERE name = 'report1'",
        ["file: somebody else submitted it"],
    ),
    "no reference": (
        f"DELETE FROM file_references WHERE file_id = (SELECT id FROM files {B})",
        [NO_FIELD, NO_FILE.format("reads")],
    ),
    "no reference in an answer": (
        "DELETE FROM file_references WHERE file_id = (SELECT id FROM files WHERE name = 'report1')",
        [NO_FIELD, NO_FILE.format("report")],
    ),
    "reference from another field": (
        f"UPDATE file_references SET metadatum_id = CAST({field_id('sample')} AS bigint) "
        f"WHERE file_id = (SELECT id FROM files {B})",
        [NOT_NAMED, NO_FILE.format("reads")],
    ),
    "reference from another answer": (
        "UPDATE files SET service_execution_id = (SELECT min(id) FROM service_executions) WHERE name = 'report1'",
        ["file: the field that refers to it is not of its submission"],
    ),
    "same name": (
        f"UPDATE files SET name = '{unicodedata.normalize('NFD', NAME)}' {B}",
        [NOT_NAMED, *["file: another file of its submission has the same name"] * 2],
    ),
    "parts without a session": (
        f"INSERT INTO upload_parts (file_id, number, md5) SELECT id, 1, '' FROM files {LOOSE}",
        ["file: its part 1 belongs to no upload in parts"],
    ),
    "parts beyond the end": (
        f"UPDATE files SET part_size = 2, announced_size = 4 {LOOSE}; INSERT INTO upload_parts (file_id, number, md5) "
        f"SELECT id, generate_series(0, 3), '' FROM files {LOOSE}",
        ["file: its part 0 belongs to no upload in parts", "file: its part 3 belongs to no upload in parts"],
    ),
    "torn submission": (
        f"UPDATE metadatasets SET submission_id = NULL {S2}",
        [
            "file: the field that refers to it is not of its submission",
            "metadataset: a service has answered for it, and it is not submitted",
            *(NOT_HELD.format(name) for name in ("lane", "run", "sample")),
            "submission: it does not hold what was submitted",
        ],
    ),
    "submission without one of its files": (
        f"UPDATE files SET submission_id = NULL {B}",
        [
            "file: the field that refers to it is not of its submission",
            "submission: it does not hold what was submitted",
        ],
    ),
    "empty submission": (
        "INSERT INTO submissions (site_id, user_id, group_id) SELECT 'X', user_id, group_id FROM submissions",
        ["submission: it is empty"],
    ),
    "set of another": (
        f"UPDATE metadatasets SET user_id = {ADMIN} {S2}",
        ["metadataset: somebody else submitted it"],
    ),
    "value that is no text": (give("tube", "2"), [NO_RECORD]),
    "value of no field": ("""UPDATE metadatasets SET record = record || '{"0": "x"}' """ + S2, [NO_RECORD]),
    "record that is none": (
        "UPDATE metadatasets SET record = '[]' WHERE submission_id IS NULL",
        [NO_RECORD],
    ),
    "answer with a value of no field": (
        """UPDATE service_executions SET record = record || '{"0": "x"}' WHERE id IN (SELECT min(id) """
        "FROM service_executions)",
        ["metadataset: a service's answer holds something else than texts of fields"],
    ),
    "no claims": (
        "DELETE FROM unique_claims",
        [NO_CLAIM.format(name) for name in ("day", "lane", "lane", "run", "run", "sample", "sample")],
    ),
    "claims to something else": (
        f"UPDATE unique_claims SET value_hash = sha256(value_hash) WHERE metadatum_id::text = {field_id('lane')}",
        [*[NOT_HELD.format("lane")] * 2, *[NO_CLAIM.format("lane")] * 2],
    ),
    "claim of another": (
        "UPDATE unique_claims SET metadataset_id = (SELECT id FROM metadatasets WHERE submission_id IS NULL) "
        f"WHERE metadatum_id::text = {field_id('day')}",
        [NOT_HELD.format("day"), NO_CLAIM.format("day")],
    ),
    "claims of a field that is not unique": (
        "UPDATE metadata SET is_site_unique = FALSE WHERE name = 'day'",
        [NOT_HELD.format("day")],
    ),
    "site-unique value twice": (give("sample", '"S1"'), [NOT_HELD.format("sample"), NO_CLAIM.format("sample")]),
    "submission-unique value twice": (give("tube", '"1"'), [TWICE.format("tube")] * 2),
    "changed event": (
        "UPDATE audit_events SET event = 'x' WHERE id = (SELECT min(event_id) FROM audit_seals)",
        ["audit: it is not what was sealed, or it was added or removed"],
    ),
}


@pytest.mark.parametrize("damage", PLANTED)
def test_each_kind_of_damage_is_found_and_nothing_else(site: Site, damage: str) -> None:
    statement, expected = PLANTED[damage]
    site.execute(statement)
    assert messages(site.portal) == sorted(expected)


@pytest.mark.parametrize(
    ("state", "column", "minutes"),
    [
        ("new", "state_changed_at", 10),
        ("announced", "upload_expires_at", 60),
        ("confirming", "state_changed_at", 2),
        ("deleting", "state_changed_at", 2),
        ("verifying", "state_changed_at", 2),
        ("verifying", "lease_until", 2),
        ("failed", "state_changed_at", 7 * 24 * 60),
    ],
)
def test_a_file_is_stuck_once_the_sweeper_has_passed_it_by_twice(
    site: Site, state: str, column: str, minutes: int
) -> None:
    name = "loose" if state in ("verifying", "failed") else "announced"
    statement = f"UPDATE files SET state = :state, {column} = now() - CAST(:age AS interval) WHERE name = :name"
    for more, expected in ((19, []), (21, [STUCK.format(state)])):
        site.execute(statement, state=state, age=f"{minutes + more} minutes", name=name)
        assert [said for said in messages(site.portal) if "needs it" not in said] == expected


def test_what_waits_for_its_verification_is_not_stuck(site: Site) -> None:
    site.execute(f"UPDATE files SET state = 'verifying', state_changed_at = now() - interval '1 hour' {LOOSE}")
    with site.portal.database.sessions.begin() as db:
        file_id = db.execute(text(f"SELECT id FROM files {LOOSE}")).scalar_one()
        store_job(db, verification.TASK, queue_name=verification.QUEUE, file_id=file_id)
    assert messages(site.portal) == []
    site.execute("DELETE FROM procrastinate_jobs")
    assert messages(site.portal) == [STUCK.format("verifying")]


@pytest.mark.parametrize(
    ("name", "property_", "damage", "expected"),
    [
        ("tube", "isSubmissionUnique", give("tube", '"1"'), [TWICE.format("tube")] * 2),
        (
            "lane",
            "service",
            f"DELETE FROM unique_claims WHERE metadatum_id::text = {field_id('lane')}",
            [NO_CLAIM.format("lane")] * 2,
        ),
        (
            "reads",
            "isFile",
            f"DELETE FROM file_references WHERE file_id = (SELECT id FROM files {B})",
            [NO_FIELD, NO_FILE.format("reads")],
        ),
    ],
)
def test_a_rule_that_came_later_binds_only_what_was_submitted_after(
    site: Site, name: str, property_: str, damage: str, expected: list[str]
) -> None:
    site.execute(damage)
    site.execute(
        "WITH change AS (INSERT INTO audit_events (event, entity_uuid, after) SELECT 'metadatum.changed', uuid, "
        "jsonb_build_object(CAST(:property AS text), true) FROM metadata WHERE name = :name RETURNING id) "
        "INSERT INTO audit_pending SELECT id FROM change",
        property=property_,
        name=name,
    )
    assert messages(site.portal) == [said for said in sorted(expected) if said == NO_FIELD]
    site.execute("UPDATE audit_events SET at = at - interval '1 day' WHERE event = 'metadatum.changed'")
    assert messages(site.portal) == sorted(expected)


def test_claims_stay_right_whatever_their_fields_become(portal: Portal) -> None:
    site = use(portal)
    fields = {field["name"]: field for field in site.admin.get("/metadata").json}

    def change(name: str, **changes: Any) -> None:
        former = fields[name] | {"serviceId": (fields[name]["serviceId"] or {}).get("uuid")}
        definition = {key: "" if value is None else value for key, value in (former | changes).items() if key != "id"}
        answer = site.admin.put(f"/metadata/{fields[name]['id']['uuid']}", definition)
        assert answer.status_int == 200, answer.body

    change("day", dateTimeFmt="%Y-%m-%d")
    change("sample", isSiteUnique=False)
    change("tube", isSiteUnique=True)
    change("run", isSiteUnique=False, isSubmissionUnique=True)
    change("lane", isSubmissionUnique=False, serviceId=None)
    assert messages(portal) == []
    change("sample", isSiteUnique=True, isSubmissionUnique=True)
    change("lane", isSubmissionUnique=True, isSiteUnique=True)
    assert messages(portal) == []


# What changes meanwhile.


def test_the_content_of_deleted_files_is_a_note_as_long_as_backups_need_it(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = portal.add_user()
    for name in "ab":
        lab.delete(f"/files/{lab.upload(name, b'ACGT')['id']['uuid']}")
    [note], proofs = prove(portal)
    assert (note.subject, note.is_wrong) == ("deleted files", False)
    assert note.message == "the store has the content of 2 of them, 8 bytes"
    assert not any(proof.wrong for proof in proofs)
    for days, is_wrong in ((36, False), (38, True)):
        monkeypatch.setattr(fsck, "utc_now", lambda days=days: datetime.now(UTC) + timedelta(days=days))
        assert {finding.is_wrong for finding in prove(portal)[0]} == {is_wrong}


def test_what_is_deleted_or_confirmed_meanwhile_does_not_count(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = portal.add_user()
    files = [announce(lab, name=name) for name in "ab"]
    stored = lab.upload("c", b"ACGT")
    for file in files:
        send(lab, file)
    monkeypatch.setattr(fsck, "utc_now", lambda: datetime.now(UTC) + timedelta(days=5))

    def act() -> None:
        # The uploads have been listed, the objects have not.
        assert confirm(lab, files[0]).status_int == 200
        for file in (files[1], stored):
            assert lab.delete(f"/files/{file['id']['uuid']}").status_int == 204

    do_before(monkeypatch, portal.storage, "list_objects", act)
    assert messages(portal) == []
    assert len(list(portal.storage.list_objects())) == 2


def test_a_listing_that_lags_is_no_loss(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = portal.add_user()
    lab.upload("a", b"ACGT")
    with monkeypatch.context() as patch:
        patch.setattr(portal.storage, "list_objects", lambda: iter(()))
        assert messages(portal) == []


def test_what_is_deleted_while_it_is_looked_at_is_no_loss(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = portal.add_user()
    file = lab.upload("a", b"ACGT")
    path = f"/files/{file['id']['uuid']}"
    portal.storage.delete(f"files/{file['id']['uuid']}")
    assert messages(portal) == ["file: its content is not in the store"]
    do_before(monkeypatch, portal.storage, "size", lambda: lab.delete(path))
    assert messages(portal) == []
    file = lab.upload("a", b"ACGT")
    path = f"/files/{file['id']['uuid']}"
    do_before(monkeypatch, portal.storage, "read", lambda: lab.delete(path))
    assert messages(portal, content=True) == []


# Content.


def test_changed_bytes_are_found_by_reading(portal: Portal) -> None:
    lab = portal.add_user()
    for name in "abc":
        lab.upload(name, b"ACGT")
    first, second, _ = sorted((portal.settings.home / "storage" / "files").rglob("*-*-*-*-*/*"))
    first.write_bytes(b"ACGA")
    second.unlink()
    changed = f"file: its content is another, of 4 bytes with the SHA-256 {hashlib.sha256(b'ACGA').hexdigest()}"
    missing = "file: its content is not in the store"
    assert messages(portal) == [missing]
    assert messages(portal, content=True) == [changed, missing, missing]
    sessions, read = portal.database.sessions, []
    assert fsck.measure_content(sessions) == 12
    list(fsck.prove_content(sessions, portal.storage, advance=read.append))
    assert sum(read) == 12


def test_content_that_cannot_be_read_is_told_and_a_silent_store_ends_the_proof(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = portal.add_user()
    lab.upload("a", b"ACGT")
    monkeypatch.setattr(verification, "FIRST_WAIT", 0)
    error = StorageUnavailableError("Input/output error")
    broken = Portal(portal.database, portal.settings, FaultyStorage(portal.storage, "read", error))  # type: ignore[arg-type]
    assert messages(broken, content=True) == ["file: its content can't be read: Input/output error"]
    monkeypatch.setattr(portal.storage, "size", broken.storage.read)
    with pytest.raises(UnavailableError):
        prove(broken, content=True)
    for method in ("list_objects", "list_uploads"):
        silent = FaultyStorage(portal.storage, method, error)
        with pytest.raises(UnavailableError):
            prove(Portal(portal.database, portal.settings, silent))  # type: ignore[arg-type]


def test_a_site_without_files_has_nothing_to_read(portal: Portal) -> None:
    assert fsck.measure_content(portal.database.sessions) == 0
    assert messages(portal, content=True) == []


# The store.


@pytest.fixture(params=["local", "rgw"])
def stored(request: pytest.FixtureRequest, portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Portal:
    """A portal over each store."""
    if request.param == "local":
        return portal
    gateway = request.getfixturevalue("rgw")
    set_credentials(monkeypatch, gateway.access_key, gateway.secret_key)
    settings = s3_settings(tmp_path, gateway.endpoint, "gateway", base_url=BASE_URL, bcrypt_cost=4)
    return Portal(portal.database, settings, make_s3(settings))


def test_what_lies_about_is_noted_and_wrong_once_the_sweeper_has_left_it(
    stored: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, lab = stored.storage, stored.add_user()
    kept = announce(lab, algorithm="sha256")
    send(lab, kept)
    lab.upload("a", b"ACGT")
    in_parts = storage.begin_parts("files/00000000-0000-4000-8000-000000000000")
    assert in_parts
    key = "files/00000000-0000-4000-8000-000000000001"
    upload = storage.begin_upload(key, MD5)
    storage.write(key, upload, [b"ACGT"])
    storage.complete(key, upload, MD5)
    findings, _ = prove(stored)
    assert [finding.is_wrong for finding in findings] == [False, False]
    assert [finding.advice[:19] for finding in findings] == ["It is kept until 20" for finding in findings]
    late = 2 * sweep.ORPHAN_AGE + timedelta(hours=1)
    monkeypatch.setattr(fsck, "utc_now", lambda: datetime.now(UTC) + late)
    findings, _ = prove(stored)
    assert [(finding.subject.split()[0], finding.is_wrong) for finding in findings] == [
        ("upload", True),
        ("object", False),
    ]
    monkeypatch.setattr(fsck, "utc_now", lambda: datetime.now(UTC) + timedelta(days=35) + late)
    findings, _ = prove(stored)
    assert [(finding.subject, finding.is_wrong) for finding in findings] == [
        ("upload files/00000000-0000-4000-8000-000000000000", True),
        (f"object {key}", True),
    ]
    assert confirm(lab, kept).status_int == 200


def test_what_is_gone_from_the_store_is_found_by_its_listing(stored: Portal) -> None:
    lab = stored.add_user()
    files = [lab.upload(name, b"ACGT") for name in "abc"]
    key = f"files/{files[0]['id']['uuid']}"
    assert messages(stored) == []
    stored.storage.delete(key)
    upload = stored.storage.begin_upload(key, MD5)
    assert messages(stored) == ["file: its content is not in the store"]
    stored.storage.write(key, upload, [b"ACGTA"])
    stored.storage.complete(key, upload, hashlib.md5(b"ACGTA").hexdigest())
    assert messages(stored) == ["file: its content has not 4 bytes"]


def test_the_work_of_the_database_does_not_grow_by_statements(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = portal.add_user()
    lab.upload("a", b"A")
    numbers = []
    for _ in range(2):
        with counted(portal) as statements:
            assert messages(portal) == []
        numbers.append(len(statements))
        for name in "bcdefg":
            lab.upload(name, name.encode())
    assert numbers[0] == numbers[1]
    for module, names in ((inventory, ("PAGE", "COPIED")), (fsck, ("PAGE",))):
        for name in names:
            monkeypatch.setattr(module, name, 2)
    assert messages(portal, content=True) == []
    for entry in list(portal.storage.list_objects()):
        portal.storage.delete(entry.key)
    assert messages(portal) == ["file: its content is not in the store"] * 13


# The command.


def test_the_command_prints_what_is_wrong_and_what_was_proven(site: Site) -> None:
    environment = {"DATAMETA_DATABASE_URL": site.portal.database.url}
    words = ["fsck", "--content", "--home", str(site.portal.settings.home)]
    done = CliRunner().invoke(main, words, env=environment)
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 13
    assert all(line.startswith("ok ") for line in done.stdout.splitlines())
    site.execute(f"UPDATE files SET size = 5 {LOOSE}; UPDATE files SET upload = repeat('0', 32) {ANNOUNCED}")
    done = CliRunner().invoke(main, words[:1] + words[2:], env=environment)
    assert done.exit_code == 1
    wrong, note, *rest = done.stdout.splitlines()
    assert re.fullmatch(
        r"FAIL  file DM\w+-\d+ \(.{36}\): its content has not 5 bytes\. Restore files/.{36} from a backup of the .*",
        wrong,
    )
    assert note.startswith("note  upload files/")
    assert rest[1] == "FAIL              5 files with their content in the store: 1 wrong"
    assert done.stderr == "Error: Not everything is as it should be.\n"
