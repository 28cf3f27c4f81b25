"""Thousands at once: sets staged in one call, and submissions of up to 10,000 sets with 20,000 files.

The bare limit of the staging is psycopg copying the same rows into the same table; that of a submission the SQL
that it takes, sent by hand: the rows are read under the same locks, claimed, referred to and changed, and committed.
"""

import json
import statistics
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg

from tests.bench.filled import add_files, connected, stage_sets
from tests.bench.memory import read_peak, reset_peak
from tests.bench.portal import LAB, Client, Portal, make_fields, make_record, running_portal
from tests.bench.report import ROUNDS, Figure, measure_seconds

SETS = 10_000
FIELDS = 12
FEW = (1_000, 1)
MANY = (10_000, 2)
LEAST_OF_COPY = 0.25
LEAST_OF_SQL = 0.5
COPY = "COPY metadatasets (uuid, site_id, user_id, record) FROM STDIN"
LOCK = (
    "SELECT * FROM metadata ORDER BY id FOR SHARE",
    "SELECT id, uuid, site_id, record FROM metadatasets WHERE uuid = ANY(%(sets)s) ORDER BY id FOR UPDATE",
    "SELECT id, uuid, site_id, name FROM files WHERE uuid = ANY(%(files)s) ORDER BY id FOR UPDATE",
)
WRITE = (
    "INSERT INTO submissions (uuid, site_id, user_id, group_id)"
    " SELECT %(submission)s, %(submission)s, id, group_id FROM users WHERE email = %(lab)s",
    "INSERT INTO unique_claims (metadatum_id, scope, value_hash, metadataset_id)"
    " SELECT f.id, 0, sha256(convert_to(m.record ->> f.id::text, 'UTF8')), m.id FROM metadatasets m, metadata f"
    " WHERE m.uuid = ANY(%(sets)s) AND f.is_site_unique ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING",
    "INSERT INTO file_references (metadataset_id, metadatum_id, file_id) SELECT m.id, f.id, x.id"
    " FROM metadatasets m, metadata f, files x WHERE m.uuid = ANY(%(sets)s) AND f.is_file"
    " AND x.uuid = ANY(%(files)s) AND x.name = m.record ->> f.id::text",
    "UPDATE metadatasets SET submission_id = (SELECT id FROM submissions WHERE uuid = %(submission)s)"
    " WHERE uuid = ANY(%(sets)s)",
    "UPDATE files SET submission_id = (SELECT id FROM submissions WHERE uuid = %(submission)s)"
    " WHERE uuid = ANY(%(files)s)",
    "INSERT INTO audit_events (event, entity_uuid) VALUES ('submission.created', %(submission)s)",
)


def measure() -> Iterator[Figure]:
    """Measure the staging and the submissions."""
    with running_portal() as portal, connected(portal) as connection:
        admin = portal.admin()
        fields = make_fields(FIELDS)
        for definition in [*fields, {**fields[4], "name": "FileR2", "order": FIELDS}]:
            admin.call("POST", "/metadata", definition)
        yield from _measure_staging(portal, connection)
        yield from _measure_submission(portal, connection, *FEW, below=0.6, least_ratio=LEAST_OF_SQL, most_memory=None)
        yield from _measure_submission(portal, connection, *MANY, below=8, least_ratio=0, most_memory=256)


def _measure_staging(portal: Portal, connection: psycopg.Connection[Any]) -> Iterator[Figure]:
    lab = portal.lab()
    body = json.dumps({"records": [make_record(f"S{number}") for number in range(SETS)]}).encode()
    [user] = connection.execute("SELECT id FROM users WHERE email = %s", [LAB]).fetchone() or [0]
    seconds, copying, growths = [], [], []
    for _ in range(ROUNDS):
        before = reset_peak(portal.worker)
        seconds.append(measure_seconds(lambda: _stage(lab, body)))
        growths.append(read_peak(portal.worker) - before)
        staged = connection.execute("SELECT record::text FROM metadatasets").fetchall()
        connection.execute("DELETE FROM metadatasets")
        copying.append(measure_seconds(lambda staged=staged: _copy(connection, user, staged)))
        connection.execute("DELETE FROM metadatasets")
        connection.execute("VACUUM metadatasets")
    rate, bare = (SETS / statistics.median(each) for each in (seconds, copying))
    name = f"{SETS:,} sets of {FIELDS} fields staged in one call"
    yield Figure(f"{name}, beside COPY", rate, "1/s", bare=bare, least_ratio=LEAST_OF_COPY)
    yield Figure(name, statistics.median(seconds), "s", below=2)
    yield Figure("growth of the worker's memory, worst round", max(growths), "MiB")


def _stage(lab: Client, body: bytes) -> None:
    lab.send("POST", "/api/v1/rpc/stage-metadatasets", body, {"Content-Type": "application/json"})


def _copy(connection: psycopg.Connection[Any], user: int, records: list[tuple[str]]) -> None:
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        for number, (record,) in enumerate(records):
            copy.write_row((uuid.uuid4(), f"B{number}", user, record))


def _measure_submission(
    portal: Portal,
    connection: psycopg.Connection[Any],
    sets: int,
    files_each: int,
    *,
    below: float,
    least_ratio: float,
    most_memory: float | None,
) -> Iterator[Figure]:
    """Submit sets through the portal and by hand, in turns."""
    lab = portal.lab()
    seconds, by_hand, growths = [], [], []
    for number in range(ROUNDS):
        by_portal, bare = (_prepare(lab, connection, f"{sets}-{number}-{way}", sets, files_each) for way in "ab")
        before = reset_peak(portal.worker)
        seconds.append(measure_seconds(lambda sent=by_portal: lab.call("POST", "/submissions", sent)))
        growths.append(read_peak(portal.worker) - before)
        by_hand.append(measure_seconds(lambda sent=bare: _replay(connection, sent)))
    name = f"submission of {sets:,} sets with {sets * files_each:,} files"
    rate, bare_rate = (1 / statistics.median(each) for each in (seconds, by_hand))
    yield Figure(name, statistics.median(seconds), "s", below=below)
    yield Figure(f"{name}, beside its SQL", rate, "1/s", bare=bare_rate, least_ratio=least_ratio)
    if most_memory is not None:
        yield Figure("growth of the worker's memory, worst round", max(growths), "MiB", below=most_memory)


def _prepare(
    lab: Client, connection: psycopg.Connection[Any], name: str, sets: int, files_each: int
) -> dict[str, list[str]]:
    """Stage sets, and add the files that they name; return the request that submits them."""
    records, names = [], []
    for number in range(sets):
        record = make_record(f"{name}-{number}")
        for place in range(1, files_each + 1):
            record[f"FileR{place}"] = f"{name}-{number}-R{place}.fq"
            names.append(record[f"FileR{place}"])
        records.append(record)
    ids = stage_sets(lab, records)
    return {"metadatasetIds": ids, "fileIds": add_files(connection, names)}


def _replay(connection: psycopg.Connection[Any], sent: dict[str, list[str]]) -> None:
    sets, files = ([uuid.UUID(text) for text in sent[name]] for name in ("metadatasetIds", "fileIds"))
    values = {"sets": sets, "files": files, "submission": uuid.uuid4(), "lab": LAB}
    with connection.transaction():
        for query in LOCK:
            connection.execute(query, values).fetchall()
        for statement in WRITE:
            connection.execute(statement, values)
