"""The example of a large site under load: whichever of its processes is stopped or killed, nobody else notices."""

import hashlib
import os
import random
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from examples.scale.run import HERE, PORTALS, Program, Site, add_admin, find_missing, run_site
from tests.e2e.conftest import DEADLINE_SECONDS, Api

pytestmark = pytest.mark.faults

SETTLED = 60
"""So many requests are awaited before and after whatever happens to a process."""
FIELD = {
    "name": "Sample", "regexDescription": "", "longDescription": "", "example": "", "regExp": "", "dateTimeFmt": "",
    "isMandatory": False, "order": 1, "isFile": False, "isSubmissionUnique": False, "isSiteUnique": True,
    "serviceId": None,
}  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One request as its client sees it; ``status`` is 0 if there was no answer."""

    method: str
    path: str
    began: float
    status: int
    text: str = ""

    @property
    def is_failure(self) -> bool:
        return self.status == 0 or self.status >= 500


@dataclass
class Load:
    """Clients that read, stage, submit and send files, each one request after the other."""

    api: Api
    attempts: list[Attempt] = field(default_factory=list)
    staged: list[str] = field(default_factory=list)
    submitted: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))
    lock: threading.Lock = field(default_factory=threading.Lock)
    clients: list[Future[None]] = field(default_factory=list)

    def take_number(self) -> int:
        with self.lock:
            return next(self.numbers)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request until it is answered: a change has a key, by which the portal knows it again.

        A confirmation has none: the second one is told that the file is confirmed already.
        """
        headers = {"Idempotency-Key": f"load-{self.take_number()}"} if method == "POST" else {}
        while True:
            began = time.monotonic()
            try:
                answer = self.api.request(method, path, body, headers=headers)
                attempt = Attempt(method, path, began, answer.status_code, answer.text[:300])
            except requests.RequestException as error:
                attempt = Attempt(method, path, began, 0, repr(error))
            self.attempts.append(attempt)
            if not attempt.is_failure:
                is_told = method == "PUT" and "confirmed already" in attempt.text
                assert attempt.status in (200, 204) or is_told, attempt
                return answer.json() if answer.content else None

    def read(self) -> None:
        for path in ("/search", "/metadatasets?limit=5", "/submissions", "/overview", "/rpc/whoami", "/audit?limit=5"):
            # A list in which there is nothing yet is refused.
            if self.submitted or path != "/metadatasets?limit=5":
                self.ask("GET", path)

    def stage(self) -> str:
        name = f"S{self.take_number()}"
        found: str = self.ask("POST", "/metadatasets", {"record": {"Sample": name}})["id"]["uuid"]
        return found

    def keep_staged(self) -> None:
        self.staged.append(self.stage())

    def submit(self) -> None:
        body = {"metadatasetIds": [self.stage()], "fileIds": []}
        submission = self.ask("POST", "/submissions", body)
        self.submitted.append(submission["metadatasetIds"][0]["uuid"])
        # What was just submitted is found at once, whichever portal and database are asked.
        found = self.ask("GET", f"/search?submissionId={submission['id']['uuid']}")
        assert found["total"] == 1, found

    def send_file(self) -> None:
        content = os.urandom(100)
        body = {"name": f"{self.take_number()}.fq", "checksum": hashlib.md5(content).hexdigest()}
        announced = self.ask("POST", "/files", body)
        with requests.Session() as session:
            session.trust_env = False
            url, headers = announced["urlToUpload"], announced["requestHeaders"]
            assert session.put(url, content, headers=headers, timeout=DEADLINE_SECONDS).ok
        path = f"/files/{announced['id']['uuid']}"
        self.ask("PUT", path, {"contentUploaded": True})
        self.files.append(announced["id"]["uuid"])

    def repeat(self, action: Callable[[], None]) -> None:
        while not self.stop.is_set():
            action()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keep the clients busy until the block ends; what one of them finds wrong is raised."""
        with ThreadPoolExecutor() as pool:
            actions = [self.read, self.read, self.keep_staged, self.submit, self.send_file]
            self.clients = [pool.submit(self.repeat, action) for action in actions]
            try:
                yield
            finally:
                self.stop.set()
        for client in self.clients:
            client.result()

    def settle(self) -> int:
        """Wait until many more requests have been answered, and return how many there were in all."""
        wanted = len(self.attempts) + SETTLED
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(self.attempts) < wanted:
            assert time.monotonic() < deadline, "the site answers no more"
            for client in self.clients:
                assert not client.done(), client.exception()
            time.sleep(0.02)
        return len(self.attempts)

    @contextmanager
    def observed(self) -> Iterator[list[Attempt]]:
        """Yield the list of the requests around what the block does, which is full when it has ended."""
        seen: list[Attempt] = []
        first = self.settle()
        yield seen
        last = self.settle()
        seen += self.attempts[first - SETTLED : last]


def find_port() -> int:
    """Return a port that is free, and some after it, below those that connections get."""
    while True:
        port = random.randrange(20_000, 30_000)
        try:
            for number in range(PORTALS + 3):
                socket.create_server(("127.0.0.1", port + number)).close()
        except OSError:
            continue
        return port


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    if message := find_missing():
        pytest.skip(message)
    # Not pytest's own, which PostgreSQL's user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    folder.chmod(0o711)
    try:
        with run_site(folder, find_port(), processes=1) as site:
            yield site
    finally:
        shutil.rmtree(folder)


def kill(portal: Program, port: int) -> float:
    """Kill a portal with all its processes, and return when the last of them was dead."""
    portal.kill()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return time.monotonic()


def read_access_log(site: Site) -> list[list[str]]:
    """Return where the requests went that nginx answered with a failure of its own or of a portal."""
    lines = (site.folder / "nginx.access.log").read_text("utf-8").splitlines()
    return [line.rsplit('" ', 1)[1].split() for line in lines if int(line.rsplit('" ', 1)[1].split()[0]) >= 500]


def read_errors(site: Site) -> str:
    return (site.folder / "nginx.error.log").read_text("utf-8")


def test_any_process_may_stop_and_nobody_notices(site: Site) -> None:
    _, key = add_admin(site)
    api = Api(site.address, key)
    api.call("POST", "/metadata", FIELD)
    load = Load(api)
    with load.running():
        # Stopped, or told to take up its settings again, a portal finishes what it is at.
        for portal in site.portals:
            with load.observed() as seen:
                assert portal.stop() == 0
            assert [attempt for attempt in seen if attempt.is_failure] == []
            site.start_portal(portal)
        with load.observed() as seen:
            site.portals[0].send(signal.SIGHUP)
            site.portals[0].await_that(lambda: "reloaded" in site.portals[0].log)
        assert [attempt for attempt in seen if attempt.is_failure] == []
        # Killed, it takes along what it was at, and nothing else; what only reads is asked elsewhere, unless a part
        # of the answer was on its way.
        for number, portal in enumerate(site.portals, 1):
            known = len(read_access_log(site))
            with load.observed() as seen:
                dead = kill(portal, site.port + number)
            failures = [attempt for attempt in seen if attempt.is_failure]
            assert [attempt for attempt in failures if attempt.began > dead] == [], read_errors(site)
            refused = [attempt for attempt in failures if attempt.status]
            assert [attempt for attempt in refused if attempt.method == "GET"] == []
            logged = [(status, place) for status, place, *_ in read_access_log(site)[known:]]
            assert logged == [("502", f"127.0.0.1:{site.port + number}")] * len(refused)
            site.start_portal(portal)
        # Without the replica, the database is read.
        with psycopg.connect(site.postgres.make_url("postgres", site.postgres.replica_port)) as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'datameta'"
            [readers] = connection.execute(query).fetchone() or [0]
        assert readers > 0
        with load.observed() as seen:
            site.postgres.replica.kill()
        assert [attempt for attempt in seen if attempt.is_failure] == []
        site.postgres.replica.start()
        with load.observed() as seen:
            site.workers[0].kill()
        assert [attempt for attempt in seen if attempt.is_failure] == []
    # Everything that somebody was told is done is there, once.
    staged = []
    path = "/staged/metadatasets?limit=100"
    while path:
        answer = api.request("GET", path)
        staged += [row["id"]["uuid"] for row in answer.json()]
        path = answer.links["next"]["url"].split("/api/v1")[1] if "next" in answer.links else ""
    assert Counter(staged) == Counter(load.staged)
    assert api.call("GET", "/search?limit=1")["total"] == len(load.submitted) == len(set(load.submitted))
    for file in load.files[-5:]:
        assert api.call("GET", f"/files/{file}")["contentUploaded"] is True
    # The portals know nginx's clients, and not nginx, for those who ask.
    assert {event["ip"] for event in api.call("GET", "/audit?event=metadataset.staged&limit=100")} == {"127.0.0.1"}
    site.run_command("fsck", "--content", "--config", str(HERE / "portal.ini"))
