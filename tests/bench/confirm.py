"""The confirmation of a presigned upload: how often the portal asks the store, for a small and a large file.

The store is moto, which counts and times its requests. The bare limit is the time the store itself took.
"""

import hashlib
import statistics
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.bench.portal import Client, running_portal
from tests.bench.report import ROUNDS, Figure, measure_seconds

CALLS_BELOW = 4
BUCKET = "bench"
SIZES = {"1 KiB": 1 << 10, "100 MiB": 100 << 20}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}


class QuietHandler(WSGIRequestHandler):
    """Keeps a connection open, and does not print each request."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *arguments: Any) -> None:
        """Print nothing."""


class CountedStore:
    """A store that notes the seconds each request took."""

    def __init__(self) -> None:
        self.application = DomainDispatcherApplication(create_backend_app)
        self.seconds: list[float] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        begun = time.perf_counter()
        answer: Iterable[bytes] = self.application(environ, start_response)
        self.seconds.append(time.perf_counter() - begun)
        return answer


def measure() -> Iterator[Figure]:
    """Measure confirmations."""
    store = CountedStore()
    with _running_store(store) as endpoint:
        client = boto3.client(
            "s3", "us-east-1", endpoint_url=endpoint, aws_access_key_id="x", aws_secret_access_key="x"
        )
        client.create_bucket(Bucket=BUCKET)
        # What moto does not enforce is not what is measured here.
        names = {"STORAGE": "s3", "S3_ENDPOINT": endpoint, "S3_BUCKET": BUCKET, "STORAGE_CHECK": "off"}
        settings = {f"DATAMETA_{name}": value for name, value in names.items()}
        with running_portal(**settings, **CREDENTIALS) as portal:
            lab = portal.lab()
            for name, size in SIZES.items():
                rounds = [_confirm(lab, store, name, size) for _ in range(ROUNDS)]
                calls, seconds, inside = zip(*rounds, strict=True)
                yield Figure(f"storage calls of a confirmation, {name}", max(calls), "calls", below=CALLS_BELOW)
                bare = 1000 * statistics.median(inside)
                yield Figure(f"confirmation, {name}", 1000 * statistics.median(seconds), "ms", bare=bare)


def _confirm(lab: Client, store: CountedStore, name: str, size: int) -> tuple[int, float, float]:
    """Return the calls of one confirmation, the seconds it took, and those the store took."""
    file_id = _upload(lab, name, bytes(size))
    store.seconds.clear()
    seconds = measure_seconds(lambda: lab.call("PUT", f"/files/{file_id}", {"contentUploaded": True}))
    return len(store.seconds), seconds, sum(store.seconds)


def _upload(lab: Client, name: str, content: bytes) -> str:
    """Announce a file and send its bytes to the store; return the file's id."""
    announced = lab.call("POST", "/files", {"name": name, "checksum": hashlib.md5(content).hexdigest()})
    url = urlsplit(announced["urlToUpload"])
    Client(announced["urlToUpload"]).send("PUT", f"{url.path}?{url.query}", content, announced["requestHeaders"])
    file_id: str = announced["id"]["uuid"]
    return file_id


@contextmanager
def _running_store(store: CountedStore) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=QuietHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
