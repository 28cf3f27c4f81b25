"""Small requests from sixteen clients at once, and the reading of many sets in one answer.

The bare limit is Pyramid under waitress with a view that gives the same JSON, or inserts what was sent as one row, and
nothing else; for the reading of sets it is psql with one query by which PostgreSQL writes the same JSON.
"""

import json
import statistics
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg

from datameta.embedded import find_programs
from tests.bench.filled import connected, stage_sets, submit_staged
from tests.bench.memory import read_peak, reset_peak
from tests.bench.portal import (
    API,
    CLIENTS,
    Client,
    Portal,
    make_fields,
    make_record,
    running_bare_pyramid,
    running_portal,
    spread,
)
from tests.bench.report import ROUNDS, Figure, measure_seconds, median_seconds

REQUESTS = 1000
FIELDS = 12
ALL_FIELDS = 30
LISTED = (5_000, 50_000)
LEAST_OF_VIEW, LEAST_OF_INSERT, LEAST_OF_SQL = 0.6, 0.5, 0.4
TYPED = {"Content-Type": "application/json"}
LIMIT_MIB = 32


def measure() -> Iterator[Figure]:
    """Measure small requests."""
    with (
        running_portal() as portal,
        connected(portal) as connection,
        running_bare_pyramid(connection) as bare,
    ):
        fields = make_fields(ALL_FIELDS)
        admin = portal.admin()
        for definition in fields[:FIELDS]:
            admin.call("POST", "/metadata", definition)
        yield _measure_get(portal, bare, "/server", "GET /server")

        bodies = [json.dumps({"record": make_record(f"S{number}")}).encode() for number in range(ROUNDS * REQUESTS)]
        places = [slice(start, start + REQUESTS) for start in range(0, len(bodies), REQUESTS)]

        def stage(client: Client, body: bytes) -> bytes:
            return client.send("POST", f"{API}/metadatasets", body, TYPED)

        def insert(client: Client, body: bytes) -> bytes:
            return client.send("POST", "/rows", body, TYPED)

        seconds = statistics.median(
            measure_seconds(lambda at=at: spread(portal.lab, stage, bodies[at])) for at in places
        )
        bare_seconds = statistics.median(
            measure_seconds(lambda at=at: spread(lambda: Client(bare), insert, bodies[at])) for at in places
        )
        name = f"POST /metadatasets, {FIELDS} fields, {CLIENTS} clients"
        yield Figure(name, REQUESTS / seconds, "1/s", bare=REQUESTS / bare_seconds, least_ratio=LEAST_OF_INSERT)

        for definition in fields[FIELDS:]:
            admin.call("POST", "/metadata", definition)
        yield _measure_get(portal, bare, "/metadata", f"GET /metadata, {ALL_FIELDS} fields")
    yield from measure_lists()


def measure_lists() -> Iterator[Figure]:
    """Measure the reading of all sets."""
    with running_portal() as portal, connected(portal) as connection:
        for definition in make_fields(ALL_FIELDS):
            portal.admin().call("POST", "/metadata", definition)
        yield from _measure_lists(portal, connection)


def _measure_lists(portal: Portal, connection: psycopg.Connection[Any]) -> Iterator[Figure]:
    lab, query = portal.lab(), _write_list(connection)
    info = connection.info
    reach = f"host={info.host} user={info.user} dbname={info.dbname} password={info.password}"
    command = [str(max(find_programs().items())[1] / "psql"), "-XAtq", "-d", reach, "-c", query]
    there = 0
    for count in LISTED:
        stage_sets(lab, [make_record(f"L{number}", texts=ALL_FIELDS - 5) for number in range(there, count)])
        submit_staged(connection, f"L{count}")
        there = count
        before = reset_peak(portal.worker)
        answer = lab.send("GET", f"{API}/metadatasets")
        growth = read_peak(portal.worker) - before
        if json.loads(answer) != json.loads(subprocess.run(command, check=True, capture_output=True).stdout):
            raise SystemExit("The portal and PostgreSQL do not say the same.")
        seconds, bare = [], []
        for _ in range(ROUNDS):
            seconds.append(measure_seconds(lambda: lab.send("GET", f"{API}/metadatasets")))
            bare.append(measure_seconds(lambda: subprocess.run(command, check=True, capture_output=True)))
        rate, bare_rate = (count / statistics.median(each) for each in (seconds, bare))
        name = f"GET /metadatasets, {count:,} sets of {ALL_FIELDS} fields"
        yield Figure(name, statistics.median(seconds), "s")
        yield Figure("the same, beside json_agg", rate, "1/s", bare=bare_rate, least_ratio=LEAST_OF_SQL)
        yield Figure("growth of the worker's memory", growth, "MiB", below=LIMIT_MIB)


def _write_list(connection: psycopg.Connection[Any]) -> str:
    """Return the query by which PostgreSQL alone writes the answer."""
    rows = connection.execute('SELECT id, name, is_file, date_time_fmt FROM metadata ORDER BY "order", id').fetchall()
    names = ", ".join(f"'{name}'" for _, name, _, _ in rows)
    texts = [f"m.record ->> '{key}'" for key, *_ in rows]
    # Of the dates, whose format is ISO's, the time is left out.
    values = ", ".join(f"left({text}, 10)" if row[3] else text for row, text in zip(rows, texts, strict=True))
    files = ", ".join(
        f"'{name}', (SELECT {_identify('f')} FROM file_references r JOIN files f ON f.id = r.file_id"
        f" WHERE r.metadataset_id = m.id AND r.metadatum_id = {key})"
        for key, name, is_file, _ in rows
        if is_file
    )
    return f"""
        SELECT json_agg(json_build_object(
            'record', json_object(ARRAY[{names}], ARRAY[{values}]),
            'fileIds', json_build_object({files}),
            'serviceExecutions', NULL,
            'id', {_identify("m")}, 'submissionId', {_identify("s")}, 'userId', {_identify("u")}
        ) ORDER BY s.submitted_at, m.id)
        FROM metadatasets m JOIN submissions s ON s.id = m.submission_id JOIN users u ON u.id = m.user_id
        WHERE s.group_id = u.group_id
    """


def _identify(table: str) -> str:
    return f"json_build_object('uuid', {table}.uuid, 'site', {table}.site_id)"


def _measure_get(portal: Portal, bare: str, path: str, name: str) -> Figure:
    answer = portal.lab().send("GET", API + path)
    Client(bare).send("PUT", "/json", answer, TYPED)

    def read(client: Client, place: str) -> None:
        client.send("GET", place)

    seconds = median_seconds(lambda: spread(portal.lab, read, [API + path] * REQUESTS))
    bare_seconds = median_seconds(lambda: spread(lambda: Client(bare), read, ["/json"] * REQUESTS))
    rate, bare_rate = REQUESTS / seconds, REQUESTS / bare_seconds
    return Figure(f"{name}, {CLIENTS} clients", rate, "1/s", bare=bare_rate, least_ratio=LEAST_OF_VIEW)
