"""Searches among a million sets, and what a submission costs where little and where much is stored.

Each kind of question is asked once before it is measured, as pages and indexes of a site in use are in memory.
"""

import os
import statistics
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import psycopg

from datameta import embedded
from datameta.paging import make_cursor
from tests.bench.portal import Client, Portal, running_portal, spread
from tests.bench.report import Figure, measure_seconds
from tests.scale.fill import BEGUN_AT, BETWEEN, SETS_OF_A_SUBMISSION, define, fill

FEW, MANY = 10_000, int(os.environ.get("DATAMETA_SCALE_SETS", "1000000"))
TURNS = 9
ROUNDS = 7
SUBMITTED = 100
LIMIT_MS = 200
MOST_GROWTH = 20
QUESTIONS: dict[str, dict[str, Any]] = {
    "everything, the first page": {},
    "everything, a page in the middle": {"cursor": "<middle>"},
    "everything, by id": {"sort": "id"},
    "everything, by group": {"sort": "group"},
    "an id": {"q": "0012345_r1"},
    "part of ids": {"q": "01234"},
    "three digits": {"q": "345"},
    "a word that many have": {"q": "illumina"},
    "a word that few have": {"q": "contaminated"},
    "a word that nobody has": {"q": "zyxwvut"},
    "two characters that nobody has": {"q": "qx"},
    "a day": {"q": "14.03.2021"},
    "what a service said of few": {"q": "withdrawn"},
    "a field is an id": {"where": "Lab-ID==L06-0000601"},
    "a field holds a word and another one": {"where": ["Organism=sars", "Tissue=lung"]},
    "a field is what few have": {"where": "Country==FR"},
    "a field is what nobody has": {"where": "Country==XX"},
    "a field has no value": {"where": "Comment=="},
    "a group's, a word": {"q": "illumina", "groupId": "<group>"},
    "a group's, by a field": {"sort": "field:Read count", "groupId": "<group>"},
    "awaiting a service": {"serviceState": "awaiting", "serviceId": "<service>"},
}


def measure() -> Iterator[Figure]:
    """Measure submissions among few sets, searches among many, and submissions among these."""
    with running_portal() as portal, embedded.running(portal.home) as url:
        admin = portal.admin()
        service = define(lambda path, body: admin.call("POST", path, body))
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            fill(connection, sets=FEW, has_audit=False)
            few = _submit(portal, "few")
            fill(connection, sets=MANY - FEW, first=FEW, has_audit=False)
            connection.execute("CHECKPOINT")
            connection.commit()
            [group] = connection.execute("SELECT site_id FROM groups WHERE name = 'Lab 07'").fetchone() or [""]
        half = MANY // SETS_OF_A_SUBMISSION // 2
        middle = make_cursor((BEGUN_AT + half * BETWEEN).isoformat(), MANY // 2)
        given = {"<service>": service, "<group>": group, "<middle>": middle}
        reader = portal.admin()
        for name, question in QUESTIONS.items():
            yield Figure(f"search among {MANY:,} sets: {name}", _ask(reader, question, given), "ms", below=LIMIT_MS)
        many = _submit(portal, "many")
    yield Figure(f"submission of {SUBMITTED} sets and files among {FEW:,}", 1000 * few, "ms")
    yield Figure(f"submission of {SUBMITTED} sets and files among {MANY:,}", 1000 * many, "ms")
    yield Figure("growth of the cost of a submission", 100 * (many / few - 1), "%", below=MOST_GROWTH)


def _ask(client: Client, question: dict[str, Any], given: dict[str, str]) -> float:
    """Return the median of the milliseconds in which a search is answered."""
    query = urlencode({name: given.get(str(value), value) for name, value in question.items()}, doseq=True)
    times = [measure_seconds(lambda: client.call("GET", f"/search?{query}")) for _ in range(TURNS + 1)]
    return 1000 * statistics.median(times[1:])


def _submit(portal: Portal, label: str) -> float:
    """Return the median of the seconds in which a submission is made."""
    lab = portal.lab()
    times = []
    for turn in range(ROUNDS + 1):
        names = [f"{label}-{turn}-{number:04}" for number in range(SUBMITTED)]
        files = spread(portal.lab, lambda client, name: client.upload(f"{name}_R1.fastq.gz", name.encode()), names)
        sets = spread(portal.lab, _stage, names)
        body = {"metadatasetIds": sets, "fileIds": files, "label": f"{label} {turn}"}
        times.append(measure_seconds(lambda body=body: lab.call("POST", "/submissions", body)))
    return statistics.median(times[1:])


def _stage(client: Client, name: str) -> str:
    record = {
        "Lab-ID": name,
        "Sampling date": "14.03.2026",
        "ZIPCode": name[-3:],
        "Platform": "Illumina MiSeq",
        "Reads": f"{name}_R1.fastq.gz",
        "Organism": "Homo sapiens",
        "Tissue": "blood",
        "Country": "DE",
        "Library": f"PCR-free, insert {name[-3:]}",
        "Read count": f"1{name[-4:]}000",
        "Concentration": f"{name[-2:]}.5",
        "Comment": f"sent on dry ice, tube {name[-2:]}",
    }
    return client.stage(record)
