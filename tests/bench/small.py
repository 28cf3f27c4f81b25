"""Small requests from sixteen clients at once, and the reading of 5,000 sets.

The bare limit is waitress alone, which takes and gives as many bytes; for the reading of sets it is
PostgreSQL, which gives their ids and records.
"""

import json
from collections.abc import Iterator

import psycopg

from datameta import embedded
from tests.bench.portal import (
    API,
    CLIENTS,
    Client,
    Portal,
    make_fields,
    make_record,
    running_bare,
    running_portal,
    spread,
)
from tests.bench.report import ROUNDS, Figure, median_seconds

REQUESTS = 1000
FIELDS = 12
ALL_FIELDS = 30
READ = "SELECT uuid, site_id, record FROM metadatasets WHERE submission_id IS NOT NULL"


def measure() -> Iterator[Figure]:
    """Measure small requests."""
    with running_portal() as portal, running_bare() as bare:
        fields = make_fields(ALL_FIELDS)
        admin, lab = portal.admin(), portal.lab()
        for definition in fields[:FIELDS]:
            admin.call("POST", "/metadata", definition)
        yield _measure_get(portal, bare, "/server", "GET /server")

        bodies = [json.dumps({"record": make_record(f"S{number}")}).encode() for number in range(ROUNDS * REQUESTS)]
        batches = [bodies[start : start + REQUESTS] for start in range(0, len(bodies), REQUESTS)]
        answers: list[bytes] = []
        typed = {"Content-Type": "application/json"}

        def stage(client: Client, body: bytes) -> bytes:
            return client.send("POST", f"{API}/metadatasets", body, typed)

        remaining = iter(batches)
        seconds = median_seconds(lambda: answers.extend(spread(portal.lab, stage, next(remaining))))
        size = len(answers[0])
        bare_seconds = _measure_bare(bare, "POST", size, bodies[0])
        name = f"POST /metadatasets, {FIELDS} fields, {CLIENTS} clients"
        yield Figure(name, REQUESTS / seconds, "1/s", bare=REQUESTS / bare_seconds)

        for definition in fields[FIELDS:]:
            admin.call("POST", "/metadata", definition)
        yield _measure_get(portal, bare, "/metadata", f"GET /metadata, {ALL_FIELDS} fields")

        ids = [json.loads(answer)["id"]["uuid"] for answer in answers]
        lab.call("POST", "/submissions", {"metadatasetIds": ids, "fileIds": []})
        seconds = median_seconds(lambda: lab.send("GET", f"{API}/metadatasets"))
        with embedded.running(portal.home) as url, psycopg.connect(url.replace("+psycopg", "")) as connection:
            bare_seconds = median_seconds(lambda: connection.execute(READ).fetchall())
        yield Figure(f"GET /metadatasets, {len(ids):,} sets of {ALL_FIELDS} fields", seconds, "s", bare=bare_seconds)


def _measure_get(portal: Portal, bare: str, path: str, name: str) -> Figure:
    sizes = []

    def read(client: Client, _: int) -> None:
        sizes.append(len(client.send("GET", API + path)))

    seconds = median_seconds(lambda: spread(portal.lab, read, range(REQUESTS)))
    bare_seconds = _measure_bare(bare, "GET", sizes[0])
    return Figure(f"{name}, {CLIENTS} clients", REQUESTS / seconds, "1/s", bare=REQUESTS / bare_seconds)


def _measure_bare(bare: str, method: str, size: int, body: bytes | None = None) -> float:
    def send(client: Client, _: int) -> None:
        client.send(method, f"/{size}", body)

    return median_seconds(lambda: spread(lambda: Client(bare), send, range(REQUESTS)))
