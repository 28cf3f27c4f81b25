"""Fifty users who work for hours: are there failures, do reads stay quick, does memory stay?

``python -m tests.soak --hours 8`` runs a portal with two workers and its worker for jobs, and fifty clients, each with
a connection of its own, who read most of the time, and announce, send, confirm, stage and submit in between. It prints
a table by operation, and the memory of the portal's processes; the exit code is 1 where a limit is missed.

Memory is judged from the first hour on, after which all that is kept has been kept: the mean of the last tenth of the
time beside that of the tenth that follows the first hour. A run of less than two hours takes its first third for the
first hour, and is not judged. Needs Linux.
"""

import argparse
import hashlib
import json
import random
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.portal import API, Portal, make_fields, make_record, running_portal

USERS = 50
PAUSE_SECONDS = 0.5
"""The mean of how long a user waits between two requests."""
SAMPLE_SECONDS = 5
P95_MS = 300
GROWTH = 0.05
SERVE = ["serve", "--port", "0", "--workers", "2"]
READS = {
    "getServerInfo": "/server",
    "getUserInformation": "/rpc/whoami",
    "getMetaData": "/metadata",
    "listStagedMetaDataSets": "/staged/metadatasets?limit=20",
    "getMetaDataSets": "/metadatasets?limit=20",
    "listSubmissions": "/submissions?limit=20",
    "getOverview": "/overview",
}
WRITES_IN = 10
"""One in so many times a user submits a set with a file, which is five requests."""


@dataclass
class Record:
    """What happened: seconds of each answer by operation, what failed, and the memory by the time."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the beginning, and MiB."""

    def growth(self, seconds: float) -> float:
        """Return by which part the memory has grown, of a run that long."""
        settled, tenth = settle_seconds(seconds), seconds / 10
        early = [size for at, size in self.memory if settled <= at < settled + tenth]
        late = [size for at, size in self.memory if at >= seconds - tenth]
        return statistics.mean(late) / statistics.mean(early) - 1


def settle_seconds(seconds: float) -> float:
    """Return the time after which the memory of a run that long is judged."""
    return min(3600, seconds / 3)


class User:
    """One client, with a connection of their own."""

    def __init__(self, portal: Portal, record: Record, number: int) -> None:
        self._address = urlsplit(portal.address).netloc
        self._token = portal.admin_token if number == 0 else portal.lab_token
        self._connection: HTTPConnection | None = None
        self._record, self._number, self._made = record, number, 0
        self._random = random.Random(number)

    def work(self, until: float) -> None:
        """Send requests until then."""
        while time.monotonic() < until:
            if self._random.randrange(WRITES_IN) == 0:
                self.submit()
            else:
                name = self._random.choice(list(READS))
                self.ask(name, "GET", API + READS[name])
            time.sleep(self._random.expovariate(1 / PAUSE_SECONDS))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def submit(self) -> None:
        """Send a file, and submit it with a set."""
        self._made += 1
        name = f"{self._number}-{self._made}"
        content = name.encode() * 100
        announced = self.call("createFile", "/files", {"name": name, "checksum": hashlib.md5(content).hexdigest()})
        if announced is None:
            return
        target = urlsplit(announced["urlToUpload"]).path
        self.ask("uploadFile", "PUT", target, content, announced["requestHeaders"])
        file = announced["id"]["uuid"]
        self.call("updateFile", f"/files/{file}", {"contentUploaded": True}, "PUT")
        staged = self.call("createMetaDataSet", "/metadatasets", {"record": make_record(name, name)})
        if staged is not None:
            both = {"metadatasetIds": [staged["id"]["uuid"]], "fileIds": [file]}
            self.call("createSubmission", "/submissions", both)

    def call(self, name: str, path: str, body: Any, method: str = "POST") -> Any:
        """Send JSON, and return what is answered; None if it failed."""
        return self.ask(name, method, API + path, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def ask(self, name: str, method: str, path: str, body: bytes = b"", headers: Any = None) -> Any:
        """Send a request and note what comes of it; return its JSON, None if it failed or there is none."""
        self._connection = self._connection or HTTPConnection(self._address, timeout=60)
        begun = time.perf_counter()
        try:
            sent = {"Authorization": f"Bearer {self._token}", **(headers or {})}
            self._connection.request(method, path, body or None, sent)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            self._record.failures.append(f"{name}: {type(error).__name__}")
            return None
        self._record.seconds[name].append(time.perf_counter() - begun)
        if answer.status >= 400:
            self._record.failures.append(f"{name}: {answer.status} {content[:200].decode(errors='replace')}")
            return None
        return json.loads(content) if content else None


def run(seconds: float, users: int = USERS, tell: Callable[[str], None] = lambda line: None) -> Record:
    """Let users work for so long; ``tell`` hears each minute how it goes."""
    record = Record()
    with running_portal(serve=SERVE) as portal:
        admin = portal.admin()
        for definition in make_fields(12):
            admin.call("POST", "/metadata", definition)
        admin.connection.close()
        begun = time.monotonic()
        ended = threading.Event()
        watching = threading.Thread(target=_watch, args=(portal, record, ended, tell))
        watching.start()
        try:
            with ThreadPoolExecutor(users) as pool, ExitStack() as stack:
                all_users = [User(portal, record, number) for number in range(users)]
                for user in all_users:
                    stack.callback(user.close)
                # Where nothing was submitted, a list is a refusal.
                all_users[0].submit()
                list(pool.map(lambda user: user.work(begun + seconds), all_users))
        finally:
            ended.set()
            watching.join()
    return record


def _watch(portal: Portal, record: Record, ended: threading.Event, tell: Callable[[str], None]) -> None:
    begun = told = time.monotonic()
    while not ended.wait(SAMPLE_SECONDS):
        record.memory.append((time.monotonic() - begun, sum(_list_sizes(portal.supervisor))))
        if time.monotonic() - told >= 60:
            told = time.monotonic()
            count = sum(map(len, record.seconds.values()))
            tell(f"{told - begun:.0f} s: {count:,} requests, {len(record.failures)} failures, "
                 f"{record.memory[-1][1]:.0f} MiB")  # fmt: skip


def _list_sizes(process: int) -> Iterator[float]:
    """Yield the resident memory in MiB of a process, and of those of its children that are the portal's own."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        if b"postgres" in command.split(b"\0")[0]:
            return
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                yield int(line.split()[1]) / 1024
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _list_sizes(int(child))
    except (FileNotFoundError, ProcessLookupError):
        # It has ended meanwhile.
        return


def main() -> int:
    """Run, print what came of it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=float, default=8)
    parser.add_argument("--users", type=int, default=USERS)
    options = parser.parse_args()
    seconds = options.hours * 3600
    record = run(seconds, options.users, lambda line: print(line, file=sys.stderr, flush=True))
    is_slow = False
    print("| operation | requests | median, ms | p95, ms |\n| --- | --- | --- | --- |")
    for name, each in sorted(record.seconds.items()):
        p95 = 1000 * statistics.quantiles(each, n=20)[-1]
        is_missed = name in READS and p95 > P95_MS
        is_slow = is_slow or is_missed
        shown = f"{p95:.0f}{' MISSED' if is_missed else ''}"
        print(f"| {name} | {len(each):,} | {1000 * statistics.median(each):.0f} | {shown} |")
    growth, count = record.growth(seconds), sum(map(len, record.seconds.values()))
    minutes, settled = seconds / 60, settle_seconds(seconds) / 60
    print(f"\n{count:,} requests by {options.users} users in {minutes:.0f} min, {len(record.failures)} failures.")
    print(f"Memory: {record.memory[-1][1]:.0f} MiB at the end, {growth:+.1%} after the first {settled:.0f} min.")
    for failure in record.failures[:20]:
        print(failure)
    return int(bool(record.failures) or is_slow or (seconds >= 2 * 3600 and growth >= GROWTH))


if __name__ == "__main__":
    sys.exit(main())
