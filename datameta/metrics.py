"""What is counted while the portal runs, in the words of Prometheus.

Every metric has a label: so none has a value yet when ``share`` is called, which gives the values another place.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    start_http_server,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "metrics-"
OWN = CollectorRegistry()

# When each was begun is of no use, and twice as much to fetch.
disable_created_metrics()  # type: ignore[no-untyped-call]

REQUESTS = Counter("datameta_requests", "Requests by operation and status.", ["operation", "status"], registry=OWN)
REQUEST_SECONDS = Histogram(
    "datameta_request_seconds",
    "Seconds until the answer of an operation began.",
    ["operation"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=OWN,
)
EVENTS = Counter(
    "datameta_events",
    "What the audit was told, by its name: logins, uploads, confirmations, submissions, damage.",
    ["event"],
    registry=OWN,
)
CONFIRMED_BYTES = Counter(
    "datameta_confirmed_bytes", "Bytes of confirmed files, sent in one piece or in parts.", ["way"], registry=OWN
)
TRANSFERRED_BYTES = Counter(
    "datameta_transferred_bytes", "Bytes that went through the portal itself, in or out.", ["direction"], registry=OWN
)
VERIFIED_BYTES = Counter(
    "datameta_verified_bytes", "Bytes read to verify or to check content again.", ["purpose"], registry=OWN
)
SWEPT = Counter("datameta_swept", "What the sweeper did, by kind.", ["kind"], registry=OWN)
SLOW_QUERIES = Counter("datameta_slow_queries", "Slow statements by operation or job.", ["operation"], registry=OWN)
JOB_SECONDS = Histogram(
    "datameta_job_seconds",
    "Seconds that jobs took, by task and result.",
    ["task", "result"],
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600),
    registry=OWN,
)
JOB_FINISHED = Gauge(
    "datameta_job_finished_timestamp_seconds",
    "When a job of this task was last done, without a failure.",
    ["task"],
    multiprocess_mode="mostrecent",
    registry=OWN,
)


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """Let this process and those that it forks meanwhile count together, in files below ``folder``.

    What processes that were killed have left there is removed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in folder.glob(f"{PREFIX}*"):
        with suppress(OSError), _locked(left):
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder) as place, _locked(Path(place)):
        os.environ[FOLDER_VARIABLE] = place
        former, values.ValueClass = values.ValueClass, values.MultiProcessValue()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            values.ValueClass = former
            del os.environ[FOLDER_VARIABLE]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, as long as this process or one that it forks lives; raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def timed(task: str) -> Iterator[None]:
    """Count a job, and how long it takes."""
    began, result = time.monotonic(), "failed"
    try:
        yield
        result = "done"
        JOB_FINISHED.labels(task).set_to_current_time()
    finally:
        JOB_SECONDS.labels(task, result).observe(time.monotonic() - began)


def get_registry() -> CollectorRegistry:
    """Return the registry of all that has been counted, by all processes that share it."""
    if FOLDER_VARIABLE not in os.environ:
        return OWN
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def render() -> bytes:
    """Return what has been counted, as Prometheus reads it."""
    return generate_latest(get_registry())


def serve(host: str, port: int) -> None:
    """Serve what has been counted at an address of its own, by a thread that ends with the process."""
    start_http_server(port, host, get_registry())
