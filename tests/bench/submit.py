"""A submission of 1,000 sets with a file each, and what comes before it.

The bare limit of the submission is PostgreSQL writing as many rows of the same tables anew, and
committing; that of an upload is hashing, writing and syncing the same bytes.
"""

import hashlib
import os
import statistics
from collections.abc import Iterator

from sqlalchemy import create_engine, text

from datameta import embedded
from tests.bench.portal import Client, Portal, make_fields, make_record, running_portal, spread
from tests.bench.report import ROUNDS, Figure, measure_seconds, median_seconds

SETS = 1000
LARGE = 50
MIB = bytes(1 << 20)
REWRITE = (
    "UPDATE metadatasets SET submission_id = submission_id WHERE submission_id = :id",
    "UPDATE files SET submission_id = submission_id WHERE submission_id = :id",
    "UPDATE unique_claims c SET metadataset_id = metadataset_id FROM metadatasets m"
    " WHERE m.id = c.metadataset_id AND m.submission_id = :id",
    "UPDATE file_references r SET file_id = file_id FROM metadatasets m"
    " WHERE m.id = r.metadataset_id AND m.submission_id = :id",
)


def measure() -> Iterator[Figure]:
    """Measure uploads, the trial and the submission."""
    with running_portal() as portal:
        lab, admin = portal.lab(), portal.admin()
        for definition in make_fields(12):
            admin.call("POST", "/metadata", definition)
        large: list[str] = []
        batch = LARGE // ROUNDS
        seconds = median_seconds(lambda: large.extend(lab.upload(f"0-{len(large)}.fq", MIB) for _ in range(batch)))
        bare = median_seconds(lambda: _write_durably(portal, batch))
        yield Figure("announce + 1 MiB upload + confirm, one client", batch / seconds, "1/s", bare=batch / bare)
        trials, submissions = [], []
        for number in range(ROUNDS):
            body = _prepare(portal, number, large if number == 0 else [])
            trials.append(measure_seconds(lambda body=body: lab.call("POST", "/presubvalidation", body)))
            submissions.append(measure_seconds(lambda body=body: lab.call("POST", "/submissions", body)))
        bare = _rewrite_rows(portal)
        yield Figure(f"presubvalidation of {SETS:,} sets with {SETS:,} files", statistics.median(trials), "s")
        name = f"submission of {SETS:,} sets with {SETS:,} files"
        yield Figure(name, statistics.median(submissions), "s", below=1, bare=bare)


def _prepare(portal: Portal, number: int, uploaded: list[str]) -> dict[str, object]:
    """Upload the files that are missing, stage the sets, and return the request that submits them."""
    names = [f"{number}-{place}.fq" for place in range(SETS)]

    def upload(client: Client, name: str) -> str:
        return client.upload(name, name.encode())

    def stage(client: Client, name: str) -> str:
        return client.stage(make_record(f"S-{name}", name))

    files = [*uploaded, *spread(portal.lab, upload, names[len(uploaded) :])]
    return {"metadatasetIds": spread(portal.lab, stage, names), "fileIds": files, "label": f"round {number}"}


def _write_durably(portal: Portal, number: int) -> None:
    folder = portal.home / "bare"
    folder.mkdir(exist_ok=True)
    for place in range(number):
        for algorithm in ("md5", "sha256"):
            hashlib.new(algorithm, MIB).digest()
        with (folder / str(place)).open("wb") as file:
            file.write(MIB)
            file.flush()
            os.fsync(file.fileno())


def _rewrite_rows(portal: Portal) -> float:
    """Return the seconds in which PostgreSQL writes the rows of the last submission anew."""
    with embedded.running(portal.home) as url:
        engine = create_engine(url)
        with engine.connect() as connection:
            newest = connection.scalar(text("SELECT max(id) FROM submissions"))

            def rewrite() -> None:
                with connection.begin():
                    for statement in REWRITE:
                        connection.execute(text(statement), {"id": newest})

            connection.rollback()
            seconds = median_seconds(rewrite)
        engine.dispose()
    return seconds
