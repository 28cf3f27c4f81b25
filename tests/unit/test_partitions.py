"""What grows without bound lies in partitions: nothing is lost on the way there and back, and each is guarded."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from datameta import migrations
from datameta.database import Database
from datameta.logic import audit
from tests.unit.test_migrations import run, url

__all__ = ["url"]

FILL = """
INSERT INTO groups (id, site_id, name) VALUES (1, 'G1', 'Lab');
INSERT INTO users (id, site_id, group_id, name, email, password_hash, enabled, site_admin, site_read, group_admin)
    VALUES (1, 'U1', 1, 'A', 'a@example.org', 'x', true, false, false, false);
INSERT INTO metadata (id, name, is_mandatory, "order", is_file, is_submission_unique, is_site_unique)
    VALUES (1, 'Sample', false, 1, false, false, true);
INSERT INTO metadatasets (id, site_id, user_id, record)
    SELECT n, 'M' || n, 1, jsonb_build_object('1', n::text) FROM generate_series(1, 200) n;
INSERT INTO unique_claims SELECT 1, 0, sha256(n::text::bytea), n FROM generate_series(1, 200) n;
INSERT INTO audit_events (event, entity_uuid, after)
    SELECT 'metadataset.staged', uuid, record FROM metadatasets ORDER BY id
"""
READ = {
    "events": "SELECT * FROM audit_events ORDER BY id",
    "seals": "SELECT * FROM audit_seals ORDER BY id",
    "pending": "SELECT * FROM audit_pending ORDER BY event_id",
    "claims": "SELECT metadatum_id, scope, value_hash, metadataset_id FROM unique_claims ORDER BY 3",
}


CHANGES = ("UPDATE {} SET event = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE")


def read_rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what the migration of partitions moves."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return {name: [tuple(row) for row in connection.execute(text(query))] for name, query in READ.items()}


def do(url: str, action: Callable[[Session], Any]) -> Any:
    database = Database(url)
    try:
        with database.sessions.begin() as db:
            return action(db)
    finally:
        database.dispose()


def list_indexes(url: str) -> set[str]:
    """Return the indexes of the audit, as they are written; each partition has them all."""
    query = """
        SELECT inhrelid::regclass::text AS place,
            replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') AS definition
        FROM pg_index LEFT JOIN pg_inherits ON inhrelid = indrelid AND inhparent = 'audit_events'::regclass
        WHERE indrelid = 'audit_events'::regclass OR inhrelid IS NOT NULL
    """
    found: dict[str | None, set[str]] = {}
    for place, definition in do(url, lambda db: db.execute(text(query)).all()):
        table, kind = re.fullmatch(r"CREATE (?:UNIQUE )?INDEX \S+ ON public\.(\S+) (USING .+)", definition).groups()
        assert table == place or place is None
        found.setdefault(place, set()).add(kind)
    whole = found.pop(None)
    assert all(indexes == whole for indexes in found.values())
    return whole


def count_partitions(url: str, table: str) -> int:
    return int(do(url, lambda db: db.scalar(text(f"SELECT count(*) FROM pg_partition_tree('{table}') WHERE isleaf"))))


@pytest.mark.parametrize("first", [1, 19_999_900])
def test_what_is_there_is_moved_into_partitions_and_back(url: str, first: int) -> None:
    before = next(
        script.down_revision
        for script in ScriptDirectory.from_config(migrations.make_config(url)).walk_revisions()
        if script.revision == "0007"
    )
    assert isinstance(before, str)
    migrations.upgrade(url, before)
    run(url, f"ALTER TABLE audit_events ALTER id RESTART WITH {first}")
    run(url, FILL)
    # Half of the events are sealed, and the others still to be.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "SEAL_BATCH", 100)
        assert do(url, audit.seal_events) == 100
    indexes = list_indexes(url)
    rows = read_rows(url)
    assert [len(found) for found in rows.values()] == [200, 100, 100, 200]
    for number, move in enumerate((migrations.upgrade, migrations.downgrade, migrations.upgrade)):
        move(url, before if move is migrations.downgrade else "0007")
        assert read_rows(url) == rows
        assert (count_partitions(url, "unique_claims") == 16) is (move is migrations.upgrade)
        assert list_indexes(url) == indexes
        assert do(url, audit.find_broken_seal) is None
        # The numbers go on, the trigger notes what is new, and nothing that was written can be changed.
        run(url, "INSERT INTO audit_events (event) VALUES ('login.ok')")
        rows = read_rows(url)
        assert rows["events"][-1][0] == rows["pending"][-1][0] == first + 200 + number
        for statement in (
            "UPDATE audit_events SET event = 'x'",
            "DELETE FROM audit_events",
            "TRUNCATE audit_events CASCADE",
        ):
            with pytest.raises(ProgrammingError, match="rows of audit_events are never changed or removed"):
                run(url, statement)
        with pytest.raises(IntegrityError, match="unique constraint"):
            run(url, "INSERT INTO unique_claims SELECT * FROM unique_claims LIMIT 1")
        for table in ("audit_pending (event_id) VALUES (0)", "audit_seals (event_id, hash) VALUES (0, '')"):
            with pytest.raises(IntegrityError, match="event_id_audit_events"):
                run(url, f"INSERT INTO {table}")
    migrations.upgrade(url)
    assert migrations.find_drift(url) == []
    do(url, audit.seal_events)
    assert do(url, audit.find_broken_seal) is None


def list_places(url: str, newest: int) -> list[str]:
    """Return in which partitions the newest events are."""
    query = f"SELECT tableoid::regclass::text FROM audit_events ORDER BY id DESC LIMIT {newest}"
    return do(url, lambda db: list(reversed(db.scalars(text(query)).all())))


def add_events(url: str, first: int, number: int) -> None:
    run(url, f"ALTER TABLE audit_events ALTER id RESTART WITH {first}")
    run(url, f"INSERT INTO audit_events (event) SELECT 'login.ok' FROM generate_series(1, {number})")


def test_partitions_of_the_audit_are_made_ahead(url: str) -> None:
    migrations.upgrade(url)
    assert do(url, audit.make_room) == 0
    add_events(url, 9_999_999, 2)
    assert list_places(url, 2) == ["audit_events_0", "audit_events_1"]
    assert do(url, audit.make_room) == 1
    assert do(url, audit.make_room) == 0
    # Where nobody made any, events are kept all the same, and later ones have partitions again.
    add_events(url, 49_999_999, 2)
    assert list_places(url, 2) == ["audit_events_default"] * 2
    assert do(url, audit.make_room) == 1
    add_events(url, 59_999_999, 3)
    assert list_places(url, 3) == ["audit_events_default", "audit_events_6", "audit_events_6"]
    assert do(url, audit.make_room) == 1
    assert do(url, audit.seal_events) == 7
    assert do(url, audit.find_broken_seal) is None
    assert migrations.find_drift(url) == []
    query = "SELECT relid::regclass::text FROM pg_partition_tree('audit_events')"
    tables = do(url, lambda db: db.scalars(text(query)).all())
    assert len(tables) == 7
    for table in tables:
        for statement in CHANGES:
            with pytest.raises(ProgrammingError, match=f"rows of {table} are never changed or removed"):
                run(url, statement.format(table))


def test_who_makes_room_waits_a_moment_only(url: str) -> None:
    migrations.upgrade(url)
    add_events(url, 10_000_000, 1)
    database = Database(url)
    with database.engine.begin() as connection:
        connection.execute(text("LOCK TABLE audit_events IN ROW EXCLUSIVE MODE"))
        with pytest.raises(OperationalError, match="lock timeout"):
            do(url, audit.make_room)
    database.dispose()
    assert do(url, audit.make_room) == 1
