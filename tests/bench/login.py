"""How long a refused login takes for a known and for an unknown address: the difference must tell nothing."""

import json
import statistics
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import psycopg

from datameta import embedded
from tests.bench.portal import API, LAB, running_portal
from tests.bench.report import Figure, measure_seconds

TRIES = 200
STRANGER = "who@bench.example"
LIMIT_MS = 5


def measure() -> Iterator[Figure]:
    """Measure logins with a wrong password, in turns."""
    with running_portal() as portal, embedded.running(portal.home) as url:
        address = urlsplit(portal.address).netloc
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:

            def attempt(email: str) -> float:
                # The portal would soon slow down so many attempts.
                connection.execute("DELETE FROM throttles")
                return measure_seconds(lambda: _refuse(client, email))

            client = HTTPConnection(address, timeout=60)
            for email in (LAB, STRANGER):
                attempt(email)
            pairs = [(attempt(LAB), attempt(STRANGER)) for _ in range(TRIES)]
    known, unknown = (statistics.median(seconds) * 1000 for seconds in zip(*pairs, strict=True))
    yield Figure(f"POST /sessions refused, known address, median of {TRIES}", known, "ms")
    yield Figure(f"POST /sessions refused, unknown address, median of {TRIES}", unknown, "ms")
    yield Figure("POST /sessions refused, known - unknown address", abs(known - unknown), "ms", below=LIMIT_MS)


def _refuse(client: HTTPConnection, email: str) -> None:
    body = json.dumps({"email": email, "password": "not the password"})
    client.request("POST", f"{API}/sessions", body, {"Content-Type": "application/json"})
    response = client.getresponse()
    response.read()
    if response.status != 401:
        raise SystemExit(f"A wrong password was answered {response.status}.")
