"""Reading from a real streaming replica: never older than the question, and from the database where it can't be."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import webtest
from sqlalchemy import event, make_url, text

from datameta import embedded, migrations
from datameta.api import iterate_operations, load_spec
from datameta.api.reading import OPERATIONS
from datameta.app import make_app, open_replica
from datameta.database import Database
from datameta.logic import metadatasets
from datameta.replica import Replica
from datameta.settings import Settings
from datameta.storage import open_storage
from tests.conftest import BASE_URL, Client, Portal, counted, empty_tables

PATIENT_MS = 10_000
"""A replica on this machine is never behind for so long, unless it was told to hold still."""


@dataclass
class Pair:
    """A database and its replica."""

    url: str
    replica_url: str

    def tell_replica(self, statement: str) -> None:
        """Run a statement on the replica, past the portal."""
        with psycopg.connect(to_psycopg(self.replica_url), autocommit=True) as connection:
            connection.execute(statement.encode())

    def end(self, connection: Any) -> None:
        """End the replica's side of a connection."""
        pid = connection.connection.driver_connection.info.backend_pid
        self.tell_replica(f"SELECT pg_terminate_backend({pid}, 10000)")


def to_psycopg(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Run a database and a replica of it."""
    homes = [tmp_path_factory.mktemp(name) for name in ("primary", "replica")]
    with embedded.running(homes[0], durable=False) as url:
        with psycopg.connect(to_psycopg(url), autocommit=True) as connection:
            # The tests' databases are otherwise told done what is not written yet.
            connection.execute("ALTER DATABASE datameta SET synchronous_commit = on")
        migrations.upgrade(url)
        copy_database(url, homes[0] / "postgres", homes[1] / "postgres")
        with embedded.running(homes[1], durable=False) as replica_url:
            yield Pair(url, replica_url)


def copy_database(url: str, original: Path, copy: Path) -> None:
    """Make a replica's data folder."""
    programs = embedded.find_programs()
    parts = make_url(url)
    subprocess.run(
        [programs[max(programs)] / "pg_basebackup", "-D", copy, "-R", "-X", "stream", "-c", "fast", "--no-sync"],
        check=True,
        env={
            **embedded._environment(),
            "PGHOST": str(parts.query["host"]),
            "PGPORT": str(parts.port),
            "PGUSER": str(parts.username),
            "PGPASSWORD": str(parts.password),
        },
    )
    # The original's, which lies in its data folder.
    for path in copy.glob(".s.PGSQL.*"):
        path.unlink()
    status = original.stat()
    if os.geteuid() == 0:
        for path in [copy, *copy.rglob("*")]:
            shutil.chown(path, status.st_uid, status.st_gid)


@dataclass
class Mirrored(Portal):
    """A portal that has a replica."""

    replica: Replica | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.replica = open_replica(self.settings, self.database)
        self.app = webtest.TestApp(make_app(self.settings, self.database, self.storage, self.replica))

    @property
    def copy(self) -> Database:
        assert self.replica is not None
        return self.replica.copy


@pytest.fixture
def site(pair: Pair, tmp_path: Path) -> Iterator[Mirrored]:
    yield from open_site(pair, tmp_path)


def open_site(pair: Pair, folder: Path, **changes: Any) -> Iterator[Mirrored]:
    settings = Settings(
        home=folder,
        base_url=BASE_URL,
        bcrypt_cost=4,
        database_url=pair.url,
        database_replica_url=pair.replica_url,
        database_replica_wait_ms=PATIENT_MS,
    )
    settings = replace(settings, **changes)
    database = Database(pair.url)
    empty_tables(database)
    site = Mirrored(database, settings, open_storage(settings))
    yield site
    site.copy.dispose()
    database.dispose()


def submit(lab: Client, value: str) -> Any:
    """Submit one set, and return the submission."""
    answer = lab.submit([lab.stage(Sample=value)])
    assert answer.status_int == 200, answer.body
    return answer.json


@pytest.fixture
def lab(site: Mirrored) -> Client:
    site.add_user("Office", site_admin=True).add_field("Sample")
    return site.add_user(site_read=True, site_admin=True)


class Asked:
    """The statements that the replica was sent, and what is to happen before one of them."""

    def __init__(self, database: Database) -> None:
        self.statements: list[str] = []
        self.before: Any = None
        self.after: Any = None
        event.listen(database.engine, "before_cursor_execute", self.note)
        event.listen(database.engine, "after_cursor_execute", self.go_on)

    def note(self, connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "pg_last_wal_replay_lsn" in statement:
            return
        self.statements.append(statement)
        if self.before is not None:
            self.before(connection)

    def go_on(self, connection: Any, *more: Any) -> None:
        if self.after is not None:
            self.after(connection)


@pytest.fixture
def asked(site: Mirrored) -> Asked:
    return Asked(site.copy)


def test_what_was_submitted_is_read_from_the_replica_and_nothing_else(
    site: Mirrored, lab: Client, asked: Asked
) -> None:
    submission = submit(lab, "S1")
    others = []
    for path, method, described in iterate_operations(load_spec()):
        name = described["operationId"]
        if method != "get":
            assert name not in OPERATIONS
            continue
        path = path.replace("{id}", _choose_id(path, lab, submission))
        asked.statements.clear()
        with counted(site) as of_database:
            answer = lab.get(path)
        if name in OPERATIONS:
            assert answer.status_int == 200, (name, answer.body)
            assert asked.statements, name
            # Who asks is looked up in the database, and how far it is.
            assert len(of_database) == 2, (name, of_database)
            assert "api_keys" in of_database[0]
            assert "pg_current_wal_flush_lsn" in of_database[1]
        else:
            others.append(name)
            assert asked.statements == [], name
    assert "listStagedMetaDataSets" in others


def _choose_id(path: str, lab: Client, submission: Any) -> str:
    if path.startswith("/users"):
        return lab.uuid
    if path.startswith("/groups"):
        return lab.group
    if path.startswith("/metadatasets"):
        return str(submission["metadatasetIds"][0]["uuid"])
    return str(submission["id"]["uuid"])


def test_what_somebody_was_told_is_done_everybody_sees_at_once(site: Mirrored, lab: Client, asked: Asked) -> None:
    other = site.add_user("Reader", site_read=True)
    for number in range(50):
        submit(lab, f"S{number}")
        for reader in (lab, other):
            found = reader.get("/search", params={"q": f"S{number}"}).json
            assert [row["metadataset"]["record"]["Sample"] for row in found["rows"]] == [f"S{number}"]
    assert asked.statements


def test_a_replica_that_is_behind_is_not_read(pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for site in open_site(pair, tmp_path, database_replica_wait_ms=0):
        site.add_user("Office", site_admin=True).add_field("Sample")
        lab = site.add_user()
        assert site.replica is not None
        asked = Asked(site.copy)
        pair.tell_replica("SELECT pg_wal_replay_pause()")
        try:
            submit(lab, "S1")
            assert lab.get("/search").json["total"] == 1
        finally:
            pair.tell_replica("SELECT pg_wal_replay_resume()")
        assert asked.statements == []
        assert "the replica is not read for 5 seconds: it is more than 0 seconds behind" in caplog.text
        # Nobody else waits for it meanwhile.
        with counted(site) as statements:
            lab.get("/search")
        assert not any("pg_current_wal_flush_lsn" in statement for statement in statements)
        # It is asked again after a while.
        site.replica.rests_until = 0
        site.replica.wait_seconds = PATIENT_MS / 1000
        assert lab.get("/search").json["total"] == 1
        assert asked.statements


@pytest.mark.parametrize("operation", ["/search", "/metadatasets", "/search/export?format=csv"])
def test_a_replica_that_dies_while_it_is_read_is_not_noticed(
    pair: Pair, site: Mirrored, lab: Client, asked: Asked, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    submit(lab, "S1")

    def end(connection: Any) -> None:
        asked.before = None
        pair.end(connection)

    before = lab.get(operation).body
    asked.before = end
    assert lab.get(operation).body == before
    assert asked.before is None
    assert "the replica is not read for 5 seconds: AdminShutdown" in caplog.text
    assert "SELECT" not in caplog.text


def test_a_replica_that_dies_after_it_was_read_is_not_noticed(
    pair: Pair, site: Mirrored, lab: Client, asked: Asked
) -> None:
    submit(lab, "S1")
    before = lab.get("/search").json
    last = 2 * len(asked.statements)

    def end(connection: Any) -> None:
        if len(asked.statements) == last:
            asked.after = None
            pair.end(connection)

    asked.after = end
    assert lab.get("/search").json == before
    assert asked.after is None
    assert len(asked.statements) == last
    assert site.replica is not None
    assert site.replica.is_resting


def test_a_refusal_is_a_refusal_on_the_replica_too(site: Mirrored, lab: Client, asked: Asked) -> None:
    assert lab.get("/search", params={"sort": "nothing"}).status_int == 400
    assert site.replica is not None
    assert not site.replica.is_resting


def test_what_is_streamed_goes_on_from_the_database(
    site: Mirrored, lab: Client, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadatasets, "PAGE_SIZE", 2)
    for number in range(7):
        submit(lab, f"S{number}")

    def rest(connection: Any) -> None:
        if sum("FROM metadatasets" in statement for statement in asked.statements) == 2:
            asked.before = None
            assert site.replica is not None
            site.replica.rest("tried")

    asked.before = rest
    assert len(lab.get("/metadatasets").json) == 7
    assert asked.before is None


@pytest.mark.parametrize("url", ["postgresql+psycopg://datameta:x@127.0.0.1:1/datameta", "itself", "another", "other"])
def test_what_is_no_replica_of_the_database_is_not_read(
    pair: Pair, database_url: str, tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    named = {
        # One that has become a database of its own looks like this one.
        "itself": pair.url,
        "another": database_url,
        # In the same replica there is another database.
        "other": make_url(pair.replica_url).set(database="postgres").render_as_string(hide_password=False),
    }
    for site in open_site(pair, tmp_path, database_replica_url=named.get(url, url)):
        site.add_user("Office", site_admin=True).add_field("Sample")
        lab = site.add_user()
        submit(lab, "S1")
        assert lab.get("/search").json["total"] == 1
        reason = "it is no replica of this database" if url in named else "OperationalError: connection failed"
        assert f"the replica is not read for 5 seconds: {reason}" in caplog.text
        # And what is streamed does not wait for it, when that is found out first.
        assert site.replica is not None
        if url not in named:
            site.replica.rests_until = 0
            with site.replica.copy.sessions() as db:
                assert db.scalar(text("SELECT count(*) FROM submissions")) == 1
            assert site.replica.is_resting
