"""A file of 1 GiB through the portal, whole and in parts: what it adds to the worker's memory, and how fast it goes.

Needs Linux.

Bare limits: one core hashing MD5 and SHA-256 in one pass, and waitress draining the same body.

The home lies in memory where the machine has ``/dev/shm``: many a disk is slower than the hashing,
and would be what is measured.
"""

import hashlib
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.portal import Client, Portal, running_bare, running_portal
from tests.bench.report import ROUNDS, Figure, measure_seconds, median_seconds

SIZE = 1 << 30
CHUNK = bytes(1 << 20)
JOBS = 4
LIMIT_MIB = 64
LEAST_OF_HASHING = 0.7
SHARED_MEMORY = Path("/dev/shm")


def measure() -> Iterator[Figure]:
    """Measure memory and speed of an upload."""
    checksum = hashlib.md5()
    for chunk in _make_zeros():
        checksum.update(chunk)
    growths, seconds, hashing = [], [], []
    with running_portal(SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as portal:
        lab = portal.lab()
        for number in range(ROUNDS):
            announced = lab.call("POST", "/files", {"name": f"{number}.bin", "checksum": checksum.hexdigest()})
            path, headers = urlsplit(announced["urlToUpload"]).path, announced["requestHeaders"]
            # Side by side, since a machine is not equally busy all the time.
            hashing.append(measure_seconds(_hash_all))
            before = reset_peak(portal.worker)
            seconds.append(measure_seconds(_sending(lab, path, headers)))
            growths.append(read_peak(portal.worker) - before)
            lab.call("DELETE", f"/files/{announced['id']['uuid']}")
        in_parts = [_measure_parts(portal) for _ in range(ROUNDS)]
    with running_bare() as address:
        drained = median_seconds(_sending(Client(address), "/0", {}))
    hashed, speed = (_megabytes_per_second(statistics.median(each)) for each in (hashing, seconds))
    yield Figure("growth of the worker's memory by 1 GiB, worst round", max(growths), "MiB", below=LIMIT_MIB)
    yield Figure(f"the same, in parts by {JOBS} at a time", max(in_parts), "MiB", below=LIMIT_MIB)
    yield Figure("1 GiB upload, beside hashing alone", speed, "MB/s", bare=hashed, least_ratio=LEAST_OF_HASHING)
    yield Figure("1 GiB upload, beside waitress draining it", speed, "MB/s", bare=_megabytes_per_second(drained))


def _measure_parts(portal: Portal) -> float:
    """Send 1 GiB in parts, and return by how many MiB the worker has grown."""
    lab = portal.lab()
    file = lab.call("POST", "/files", {"name": "parts.bin", "checksum": "0" * 32})["id"]["uuid"]
    session = f"/files/{file}/upload-session"
    size: int = lab.call("POST", session, {"size": SIZE})["partSize"]
    part = bytes(size)
    parts = [{"number": number + 1, "md5": hashlib.md5(part).hexdigest()} for number in range(SIZE // size)]
    requests = lab.call("POST", f"{session}/part-urls", {"parts": parts})["parts"]

    def send(request: dict[str, Any]) -> None:
        portal.lab().send("PUT", urlsplit(request["url"]).path, part, request["requestHeaders"])

    before = reset_peak(portal.worker)
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(send, requests))
    growth = read_peak(portal.worker) - before
    lab.call("DELETE", f"/files/{file}")
    return growth


def _sending(client: Client, path: str, headers: dict[str, str]) -> Callable[[], bytes]:
    return lambda: client.send("PUT", path, _make_zeros(), {**headers, "Content-Length": str(SIZE)})


def _make_zeros() -> Iterator[bytes]:
    for _ in range(SIZE // len(CHUNK)):
        yield CHUNK


def _hash_all() -> None:
    md5, sha256 = hashlib.md5(), hashlib.sha256()
    for chunk in _make_zeros():
        md5.update(chunk)
        sha256.update(chunk)


def _megabytes_per_second(seconds: float) -> float:
    return SIZE / 1e6 / seconds


def reset_peak(process: int) -> float:
    """Make the present memory the peak, and return it in MiB."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return read_peak(process)


def read_peak(process: int) -> float:
    """Return the most memory the process had, in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
