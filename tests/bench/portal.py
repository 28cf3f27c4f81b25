"""A portal as an installation runs it: its own process, home and database, reached over HTTP."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import make_conninfo

COMMAND = str(Path(sys.executable).with_name("datameta"))
SERVE = ["serve", "--port", "0", "--workers", "1", "--no-worker"]
API = "/api/v1"
CLIENTS = 16
ADMIN, LAB = "admin@bench.example", "lab@bench.example"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Client:
    """One connection to the portal with one user's key."""

    def __init__(self, address: str, token: str = "") -> None:
        self.connection = HTTPConnection(urlsplit(address).netloc, timeout=600)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
        """Send a request and return the answer's body; a refusal ends the benchmark."""
        self.connection.request(method, path, body, {**self.headers, **(headers or {})})
        response = self.connection.getresponse()
        content = response.read()
        if response.status >= 400:
            raise SystemExit(f"{method} {path} was answered {response.status}: {content[:1000].decode()}")
        return content

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call an operation of the API with JSON and return what it answers."""
        sent = None if body is None else json.dumps(body).encode()
        content = self.send(method, API + path, sent, {"Content-Type": "application/json"} if sent else {})
        return json.loads(content) if content else None

    def upload(self, name: str, content: bytes) -> str:
        """Announce, send and confirm a file; return its id."""
        announced = self.call("POST", "/files", {"name": name, "checksum": hashlib.md5(content).hexdigest()})
        self.send("PUT", urlsplit(announced["urlToUpload"]).path, content, announced["requestHeaders"])
        file_id: str = announced["id"]["uuid"]
        self.call("PUT", f"/files/{file_id}", {"contentUploaded": True})
        return file_id

    def stage(self, record: dict[str, str]) -> str:
        """Stage a record; return its id."""
        staged: str = self.call("POST", "/metadatasets", {"record": record})["id"]["uuid"]
        return staged


@dataclass(frozen=True)
class Portal:
    """A running portal: its address, the process ids of its supervisor and its first worker, and two users' keys."""

    home: Path
    address: str
    supervisor: int
    worker: int
    admin_token: str
    lab_token: str

    def admin(self) -> Client:
        """Return a new connection of the site admin."""
        return Client(self.address, self.admin_token)

    def lab(self) -> Client:
        """Return a new connection of a laboratory's user."""
        return Client(self.address, self.lab_token)


def spread(
    connect: Callable[[], Client], work: Callable[[Client, Item], Result], items: Sequence[Item]
) -> list[Result]:
    """Do the work on all items with sixteen clients at once; return the results in any order."""

    def work_through(share: Sequence[Item]) -> list[Result]:
        client = connect()
        return [work(client, item) for item in share]

    with ThreadPoolExecutor(CLIENTS) as pool:
        shares = pool.map(work_through, [items[start::CLIENTS] for start in range(CLIENTS)])
        return [result for share in shares for result in share]


@contextmanager
def running_portal(parent: Path | None = None, serve: Sequence[str] = SERVE, **settings: str) -> Iterator[Portal]:
    """Run a portal with its home in ``parent``, by default one worker; ``settings`` are environment variables."""
    with tempfile.TemporaryDirectory(prefix="datameta-bench-", dir=parent) as folder:
        home = Path(folder)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DATAMETA_")}
        environment = {**inherited, **settings, "DATAMETA_HOME": folder}
        with (
            (home / "portal.log").open("wb") as log,
            _running([COMMAND, *serve], environment, log) as (process, line),
        ):
            match = re.search(r"http://\S+", line)
            if match is None:
                raise SystemExit(f"The portal did not start:\n{(home / 'portal.log').read_text()}")
            worker, *_ = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            admin = _add_user(environment, ADMIN, "--site-admin", "--site-read")
            yield Portal(home, match[0], process.pid, int(worker), admin, _add_user(environment, LAB))


@contextmanager
def running_bare() -> Iterator[str]:
    """Run waitress alone: it drains what it is sent and answers ``/N`` with N bytes."""
    with _running([sys.executable, "-m", "tests.bench.bare"], dict(os.environ), None) as (_, line):
        yield line.strip()


@contextmanager
def running_bare_pyramid(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """Run Pyramid with as little as can be, in the database of this connection."""
    info = connection.info
    environment = {**os.environ, "BARE_DATABASE": make_conninfo(info.dsn, password=info.password)}
    with _running([sys.executable, "-m", "tests.bench.bare_pyramid"], environment, None) as (_, line):
        yield line.strip()


def make_fields(number: int) -> list[dict[str, Any]]:
    """Return so many definitions: like the demo site's, and optional text for the rest."""
    known = [
        ("Lab-ID", {"isSiteUnique": True, "isMandatory": True}),
        ("Sampling date", {"dateTimeFmt": "%Y-%m-%d", "isMandatory": True}),
        ("ZIPCode", {"regExp": "[0-9]{3}", "isMandatory": True}),
        ("Sequencing platform", {"regExp": "Illumina|Oxford Nanopore|PacBio|Other", "isMandatory": True}),
        ("FileR1", {"isFile": True}),
    ]
    texts: Iterable[tuple[str, dict[str, Any]]] = ((f"Text {place}", {}) for place in range(len(known), number))
    return [_make_field(name, order, **rules) for order, (name, rules) in enumerate([*known, *texts])]


def make_record(lab_id: str, file: str = "", texts: int = 7) -> dict[str, str]:
    """Return a record of the first twelve fields."""
    record = {"Lab-ID": lab_id, "Sampling date": "2026-03-14", "ZIPCode": "720", "Sequencing platform": "Illumina"}
    record |= {f"Text {place}": f"Value {place} of {lab_id}" for place in range(5, 5 + texts)}
    return record | ({"FileR1": file} if file else {})


def _make_field(name: str, order: int, **rules: Any) -> dict[str, Any]:
    plain = {"regexDescription": "", "longDescription": f"What {name} is.", "example": "", "regExp": ""}
    flags = {"isMandatory": False, "isFile": False, "isSubmissionUnique": False, "isSiteUnique": False}
    return {"name": name, "order": order, "dateTimeFmt": "", "serviceId": None, **plain, **flags, **rules}


def _add_user(environment: dict[str, str], email: str, *roles: str) -> str:
    """Add a user and return the token of a key."""
    adding = [COMMAND, "user", "add", email, "--name", email, "--group", "Bench", *roles]
    subprocess.run(adding, env=environment, input=b"a long enough password\n", capture_output=True, check=True)
    making = [COMMAND, "key", "add", email, "--label", "bench"]
    return subprocess.run(making, env=environment, capture_output=True, check=True, text=True).stdout.strip()


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Any) -> Iterator[tuple[Any, str]]:
    """Run a program that prints a line once it is ready; yield its process and that line."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
