"""A presigned upload: how often the portal asks the store, and what it adds to what the store takes.

The store is moto, which counts and times its requests. The bare limit of a confirmation is the time the store itself
took; that of an announcement with its confirmation the same calls of the store, made by boto3 alone.
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
FILES = 100
LEAST_OF_CALLS = 0.7
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
            seconds, bare_seconds = zip(*(_send_all(lab, client, number) for number in range(ROUNDS)), strict=True)
            rate, bare_rate = (FILES / statistics.median(each) for each in (seconds, bare_seconds))
            name = "announcements with confirmation, beside the store's calls"
            yield Figure(name, rate, "1/s", bare=bare_rate, least_ratio=LEAST_OF_CALLS)


def _send_all(lab: Client, store: Any, number: int) -> tuple[float, float]:
    """Announce and confirm files; return the seconds without the sending, and those of the store alone."""
    seconds = bare = 0.0
    for place in range(FILES):
        name = f"{number}-{place}"
        content = name.encode()
        begun = time.perf_counter()
        announced = _announce(lab, name, content)
        seconds += time.perf_counter() - begun
        file_id = _send(announced, content)
        seconds += _measure_confirmation(lab, file_id)
        bare += _call_store(store, name, content)
    return seconds, bare


def _call_store(store: Any, key: str, content: bytes) -> float:
    """Return the seconds of the calls to the store that an upload needs, without the sending."""
    target, md5 = {"Bucket": BUCKET, "Key": key}, hashlib.md5(content)
    begun = time.perf_counter()
    upload = {**target, "UploadId": store.create_multipart_upload(**target)["UploadId"]}
    seconds = time.perf_counter() - begun
    store.upload_part(**upload, PartNumber=1, Body=content)
    parts = {"Parts": [{"PartNumber": 1, "ETag": md5.hexdigest()}]}
    begun = time.perf_counter()
    store.complete_multipart_upload(**upload, MultipartUpload=parts)
    store.head_object(**target)
    return seconds + time.perf_counter() - begun


def _confirm(lab: Client, store: CountedStore, name: str, size: int) -> tuple[int, float, float]:
    """Return the calls of one confirmation, the seconds it took, and those the store took."""
    content = bytes(size)
    file_id = _send(_announce(lab, name, content), content)
    store.seconds.clear()
    seconds = _measure_confirmation(lab, file_id)
    return len(store.seconds), seconds, sum(store.seconds)


def _measure_confirmation(lab: Client, file_id: str) -> float:
    return measure_seconds(lambda: lab.call("PUT", f"/files/{file_id}", {"contentUploaded": True}))


def _announce(lab: Client, name: str, content: bytes) -> Any:
    return lab.call("POST", "/files", {"name": name, "checksum": hashlib.md5(content).hexdigest()})


def _send(announced: Any, content: bytes) -> str:
    """Send a file's bytes to the store; return its id."""
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
