"""Much data, quickly: sets staged thousands at a time, files that are rows alone, submissions made by SQL."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from datameta import embedded
from tests.bench.portal import LAB, Client, Portal

BATCH = 10_000
ADD_FILES = """
INSERT INTO files
    (uuid, site_id, user_id, name, checksum, state, upload_expires_at, storage_key, size, confirmed_at)
SELECT
    sent.uuid, 'B' || sent.uuid, users.id, sent.name, repeat('0', 32),
    'confirmed', now(), 'files/' || sent.uuid, 1, now()
FROM unnest(%s::uuid[], %s::text[]) AS sent (uuid, name), users WHERE users.email = %s
"""
ADD_SUBMISSION = (
    "INSERT INTO submissions (site_id, user_id, group_id) SELECT %s, id, group_id FROM users WHERE email = %s"
)
FILL_SUBMISSION = """
UPDATE metadatasets SET submission_id = (SELECT max(id) FROM submissions) WHERE submission_id IS NULL
"""


@contextmanager
def connected(portal: Portal) -> Iterator[psycopg.Connection[Any]]:
    """Connect to a portal's database; each statement is committed."""
    with (
        embedded.running(portal.home) as url,
        psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection,
    ):
        yield connection


def stage_sets(lab: Client, records: Sequence[dict[str, str]]) -> list[str]:
    """Stage records; return the ids of their sets."""
    ids = []
    for start in range(0, len(records), BATCH):
        answer = lab.call("POST", "/rpc/stage-metadatasets", {"records": records[start : start + BATCH]})
        ids += [result["id"]["uuid"] for result in answer["results"]]
    return ids


def add_files(connection: psycopg.Connection[Any], names: Sequence[str]) -> list[str]:
    """Add confirmed files of the laboratory without content; return their ids."""
    ids = [uuid.uuid4() for _ in names]
    connection.execute(ADD_FILES, [ids, list(names), LAB])
    return [str(each) for each in ids]


def submit_staged(connection: psycopg.Connection[Any], name: str) -> None:
    """Submit all that is staged, by SQL."""
    connection.execute(ADD_SUBMISSION, [name, LAB])
    connection.execute(FILL_SUBMISSION)
    connection.execute("VACUUM ANALYZE metadatasets")
