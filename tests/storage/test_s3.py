"""The S3 store: what the store itself must enforce, and what happens when it does not answer.

Tests with ``real`` run against a Ceph gateway: moto checks neither signatures nor ``Content-MD5``.
"""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from botocore.awsrequest import AWSResponse, HTTPHeaders
from botocore.credentials import DeferredRefreshableCredentials
from botocore.exceptions import ParamValidationError

from datameta.clock import utc_now
from datameta.storage import (
    ChecksumMismatchError,
    Finding,
    NoDataError,
    PresignedRequest,
    Storage,
    StorageUnavailableError,
    UploadGoneError,
    open_storage,
)
from datameta.storage.s3 import S3Storage
from datameta.storage.s3_probe import check_clock
from tests.storage.backends import (
    Backend,
    RefusedError,
    Upload,
    digest,
    make_s3,
    new_key,
    s3_settings,
    send_request,
    set_credentials,
)

RIGHT, OTHER = b"right content", b"other content"
MD5, SHA256 = digest("md5", RIGHT), digest("sha256", RIGHT)
UPLOAD = "2~abcdefghijklmnop"
MD5_OF_PROBE = digest("md5", b"probe")

USES: dict[str, Callable[[Storage, str], object]] = {
    "CreateMultipartUpload": lambda storage, key: storage.begin_upload(key, MD5),
    "UploadPart": lambda storage, key: storage.write(key, UPLOAD, [RIGHT]),
    "PutObject": lambda storage, key: storage.write(key, "put", [RIGHT]),
    "CompleteMultipartUpload": lambda storage, key: storage.complete(key, UPLOAD, MD5),
    "ListParts": lambda storage, key: list(storage.list_parts(key, UPLOAD)),
    "CopyObject": lambda storage, key: storage.complete(key, "put", SHA256),
    "AbortMultipartUpload": lambda storage, key: storage.abort(key, UPLOAD),
    "DeleteObject": lambda storage, key: storage.delete(key),
    "HeadObject": lambda storage, key: storage.size(key),
    "GetObject": lambda storage, key: storage.read(key),
    "ListMultipartUploads": lambda storage, key: list(storage.list_uploads()),
    "ListObjectsV2": lambda storage, key: list(storage.list_objects()),
}


def s3(backend: Backend) -> S3Storage:
    assert isinstance(backend.storage, S3Storage)
    return backend.storage


def request_of(upload: Upload) -> PresignedRequest:
    assert upload.request is not None
    return upload.request


def find(storage: S3Storage) -> dict[str, Finding]:
    return {finding.name: finding for finding in storage.check()}


@contextmanager
def refused(storage: S3Storage, *operations: str, status: int = 403, code: str = "AccessDenied") -> Iterator[None]:
    """Answer these operations in place of the store."""

    class Body:
        def stream(self, **_: object) -> Iterator[bytes]:
            yield f"<Error><Code>{code}</Code><Message>of the store</Message></Error>".encode()

    def answer(request: Any, **_: object) -> Any:
        return AWSResponse(request.url, status, HTTPHeaders(), Body())

    clients = (storage._client, storage._patient)
    for client, operation in product(clients, operations):
        client.meta.events.register(f"before-send.s3.{operation}", answer, unique_id=operation)
    try:
        yield
    finally:
        for client, operation in product(clients, operations):
            client.meta.events.unregister(f"before-send.s3.{operation}", unique_id=operation)


@contextmanager
def counted_calls(storage: S3Storage) -> Iterator[list[str]]:
    calls: list[str] = []

    def count(model: Any, **_: object) -> None:
        calls.append(model.name)

    storage._client.meta.events.register("before-call.s3", count, unique_id="count")
    try:
        yield calls
    finally:
        storage._client.meta.events.unregister("before-call.s3", unique_id="count")


@contextmanager
def pages_of_two(storage: S3Storage) -> Iterator[None]:
    def shorten(params: dict[str, Any], model: Any, **_: object) -> None:
        params[limits[model.name]] = 2

    limits = {"ListMultipartUploads": "MaxUploads", "ListObjectsV2": "MaxKeys", "ListParts": "MaxParts"}
    events = [f"before-parameter-build.s3.{name}" for name in limits]
    for event in events:
        storage._client.meta.events.register(event, shorten, unique_id=event)
    try:
        yield
    finally:
        for event in events:
            storage._client.meta.events.unregister(event, unique_id=event)


def test_store_refuses_other_bytes(real: Backend) -> None:
    upload = real.begin(MD5)
    for data in (OTHER, b"", RIGHT + b"\0"):
        with pytest.raises(RefusedError, match="BadDigest"):
            upload.send(data)
    with pytest.raises(NoDataError):
        real.storage.complete(upload.key, upload.reference, MD5)


def test_store_refuses_an_address_used_otherwise(real: Backend) -> None:
    upload = real.begin(MD5)
    request = request_of(upload)
    other = real.presign(upload.key, upload.reference, digest("md5", OTHER))
    assert other is not None
    for attempt in (
        replace(request, headers={}),
        replace(request, headers=other.headers),
        replace(request, url=request.url.replace("partNumber=1", "partNumber=2")),
        replace(request, url=request.url.replace(upload.key, new_key())),
    ):
        with pytest.raises(RefusedError) as error:
            send_request("PUT", attempt, RIGHT)
        assert error.value.status == 403
    with pytest.raises(RefusedError) as error:
        send_request("GET", request)
    assert error.value.status == 403


def test_address_ends(real: Backend) -> None:
    key = new_key()
    reference = real.storage.begin_upload(key, MD5)
    request = real.storage.presign_upload(key, reference, MD5, seconds=1)
    deadline = time.monotonic() + 30

    def send_until_refused() -> None:
        while time.monotonic() < deadline:
            send_request("PUT", request, RIGHT)
            time.sleep(0.1)

    with pytest.raises(RefusedError) as error:
        send_until_refused()
    assert error.value.status == 403


def test_transfer_cut_by_the_client_leaves_the_former_content(real: Backend) -> None:
    for has_former, checksum in product((False, True), (MD5, SHA256)):
        upload = real.begin(checksum)
        if has_former:
            upload.send(RIGHT)
        url = urlsplit(request_of(upload).url)
        with socket.create_connection((url.hostname, url.port)) as connection:
            headers = "".join(f"{name}: {value}\r\n" for name, value in request_of(upload).headers.items())
            head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 13\r\n{headers}\r\n"
            connection.sendall(head.encode() + OTHER[:7])
        if has_former:
            stored = real.storage.complete(upload.key, upload.reference, checksum)
            assert real.read(stored.key) == RIGHT
        else:
            with pytest.raises(NoDataError):
                real.storage.complete(upload.key, upload.reference, checksum)


def test_completion_takes_at_most_three_calls(direct: Backend) -> None:
    storage = s3(direct)
    upload = direct.begin(MD5)
    with counted_calls(storage) as calls, pytest.raises(NoDataError):
        storage.complete(upload.key, upload.reference, MD5)
    assert calls == ["CompleteMultipartUpload", "ListParts"]
    upload.send(RIGHT)
    with counted_calls(storage) as calls:
        storage.complete(upload.key, upload.reference, MD5)
    assert calls == ["CompleteMultipartUpload", "HeadObject"]
    upload = direct.begin(MD5)
    storage.abort(upload.key, upload.reference)
    with counted_calls(storage) as calls, pytest.raises(UploadGoneError):
        storage.complete(upload.key, upload.reference, MD5)
    assert len(calls) <= 3


def test_upload_that_the_store_no_longer_knows_is_proved_by_its_object(direct: Backend) -> None:
    storage = s3(direct)
    upload = direct.begin(MD5)
    upload.send(RIGHT)
    stored = storage.complete(upload.key, upload.reference, MD5)
    with refused(storage, "CompleteMultipartUpload", status=404, code="NoSuchUpload"):
        assert storage.complete(upload.key, upload.reference, MD5) == stored
        with pytest.raises(UploadGoneError):
            storage.complete(upload.key, upload.reference, digest("md5", OTHER))


def test_object_overwritten_behind_our_back_is_not_confirmed(direct: Backend) -> None:
    storage = s3(direct)
    upload = direct.begin(MD5)
    upload.send(RIGHT)
    storage.complete(upload.key, upload.reference, MD5)
    storage._client.put_object(Bucket=storage._bucket, Key=upload.key, Body=OTHER)
    with pytest.raises(UploadGoneError):
        storage.complete(upload.key, upload.reference, MD5)


def test_refused_completion_of_an_open_upload_is_trouble_of_the_store(imitated: Backend) -> None:
    upload = imitated.begin(MD5)
    upload.send(RIGHT)
    with refused(s3(imitated), "CompleteMultipartUpload"), pytest.raises(StorageUnavailableError):
        imitated.storage.complete(upload.key, upload.reference, MD5)
    with refused(s3(imitated), "CompleteMultipartUpload", "ListParts"), pytest.raises(StorageUnavailableError):
        imitated.storage.complete(upload.key, upload.reference, MD5)
    assert imitated.storage.complete(upload.key, upload.reference, MD5).size == len(RIGHT)


def test_staged_bytes_are_copied_and_not_read(direct: Backend) -> None:
    storage = s3(direct)
    upload = direct.begin(SHA256)
    upload.send(RIGHT)
    with counted_calls(storage) as calls:
        stored = storage.complete(upload.key, upload.reference, SHA256)
    assert calls == ["HeadObject"]
    assert (stored.size, stored.md5, stored.sha256) == (len(RIGHT), None, None)


def test_completed_staged_upload_forgets_the_type_its_sender_chose(direct: Backend) -> None:
    upload = direct.begin(SHA256)
    send_request("PUT", replace(request_of(upload), headers={"Content-Type": "text/html"}), RIGHT)
    key = direct.storage.complete(upload.key, upload.reference, SHA256).key
    storage = s3(direct)
    head = storage._client.head_object(Bucket=storage._bucket, Key=key)
    assert head["ContentType"] == "application/octet-stream"


def test_late_staged_bytes_are_listed_for_the_sweeper(direct: Backend) -> None:
    upload = direct.begin(SHA256)
    upload.send(RIGHT)
    stored = direct.storage.complete(upload.key, upload.reference, SHA256)
    direct.storage.abort(upload.key, upload.reference)
    assert list(direct.storage.list_uploads()) == []
    upload.send(OTHER)
    [orphan] = direct.storage.list_uploads()
    direct.storage.abort(orphan.key, orphan.upload)
    assert list(direct.storage.list_uploads()) == []
    assert direct.read(stored.key) == RIGHT


def test_multipart_upload_does_not_serve_a_sha256(imitated: Backend) -> None:
    upload = imitated.begin(MD5)
    with pytest.raises(ValueError, match="begin another"):
        imitated.storage.presign_upload(upload.key, upload.reference, SHA256, seconds=60)
    with pytest.raises(ValueError, match="begin another"):
        imitated.storage.complete(upload.key, upload.reference, SHA256)


def test_staged_upload_serves_an_md5(direct: Backend) -> None:
    upload = direct.begin(SHA256)
    upload.send(RIGHT)
    stored = direct.storage.complete(upload.key, upload.reference, MD5)
    assert direct.read(stored.key) == RIGHT


def test_lists_have_pages_and_leave_foreign_objects_alone(direct: Backend) -> None:
    storage = s3(direct)
    uploads = [direct.begin(checksum) for checksum in (MD5, MD5, MD5, SHA256, SHA256, SHA256)]
    for upload in uploads:
        upload.send(RIGHT)
    stored = [storage.complete(each.key, each.reference, MD5 if n < 3 else SHA256) for n, each in enumerate(uploads)]
    started = [direct.begin(MD5) for _ in range(3)]
    for key in ("files/notes.txt", "staged/notes.txt", "notes.txt"):
        storage._client.put_object(Bucket=storage._bucket, Key=key, Body=OTHER)
    storage._client.create_multipart_upload(Bucket=storage._bucket, Key="files/notes.txt")

    with pages_of_two(storage), counted_calls(storage) as calls:
        assert {entry.key for entry in storage.list_objects()} == {each.key for each in stored}
        listed = {(each.key, each.upload) for each in storage.list_uploads()}
    assert listed == {(each.key, each.reference) for each in started + uploads[3:]}
    # Seven objects below files/ and four below staged/.
    assert calls.count("ListObjectsV2") == 6
    # moto gives them in one page.
    assert calls.count("ListMultipartUploads") >= (2 if direct.is_real else 1)


def test_parts_have_pages(direct: Backend) -> None:
    session = direct.begin_session()
    for number in (5, 1, 4, 2, 3):
        session.write(number, RIGHT)
    with pages_of_two(s3(direct)), counted_calls(s3(direct)) as calls:
        assert [number for number, _, _ in session.list_parts()] == [1, 2, 3, 4, 5]
        assert [number for number, _, _ in session.list_parts(2)] == [3, 4, 5]
    assert calls == ["ListParts"] * 5
    direct.storage.abort(session.key, session.reference)


def test_parts_are_listed_after_a_gap(real: Backend) -> None:
    session = real.begin_session()
    for number in (3, 10_000, 70):
        session.write(number, RIGHT)
    for after, numbers in ((0, [3, 70, 10_000]), (3, [70, 10_000]), (69, [70, 10_000]), (70, [10_000]), (10_000, [])):
        assert [number for number, _, _ in session.list_parts(after)] == numbers
    real.storage.abort(session.key, session.reference)


def test_parts_that_the_store_finds_too_small_are_not_what_was_announced(real: Backend) -> None:
    session = real.begin_session()
    for number in (1, 2):
        session.send(number, RIGHT)
    with pytest.raises(ChecksumMismatchError):
        session.complete(RIGHT, RIGHT)


def test_address_of_a_part_serves_nothing_else(real: Backend) -> None:
    session = real.begin_session()
    request = session.presign(2, RIGHT)
    for attempt in (
        replace(request, headers={}),
        replace(request, headers=session.presign(2, OTHER).headers),
        replace(request, url=request.url.replace("partNumber=2", "partNumber=1")),
        replace(request, url=request.url.replace(session.reference, real.begin_session().reference)),
    ):
        with pytest.raises(RefusedError) as error:
            send_request("PUT", attempt, RIGHT)
        assert error.value.status == 403
    assert session.list_parts() == []


def test_part_that_arrives_slowly_while_completing_changes_nothing(real: Backend) -> None:
    session = real.begin_session()
    session.send(1, RIGHT)
    request = session.presign(1, OTHER)
    url = urlsplit(request.url)
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        headers = f"Host: {url.netloc}\r\nContent-Length: 13\r\nContent-MD5: {request.headers['Content-MD5']}\r\n"
        connection.sendall(f"PUT {url.path}?{url.query} HTTP/1.1\r\n{headers}\r\n".encode() + OTHER[:5])
        session.complete(RIGHT)
        connection.sendall(OTHER[5:])
        assert b" 404 " in connection.recv(100)
    assert real.read(session.key) == RIGHT
    assert list(real.storage.list_uploads()) == []


def test_completion_of_an_opaque_store_names_what_it_lists(opaque: Backend) -> None:
    storage = s3(opaque)
    session = opaque.begin_session()
    with counted_calls(storage) as calls, pytest.raises(NoDataError):
        session.complete(RIGHT)
    session.send(1, RIGHT)
    with counted_calls(storage) as calls:
        stored = session.complete(RIGHT)
    assert calls == ["ListParts", "HeadObject"]
    assert (stored.size, stored.md5) == (len(RIGHT), None)


@pytest.mark.parametrize("life", [timedelta(minutes=20), timedelta(days=1)])
def test_addresses_end_with_the_credentials_that_signed_them(tmp_path: Path, life: timedelta) -> None:
    storage = open_storage(s3_settings(tmp_path, "http://127.0.0.1:9"))
    assert isinstance(storage, S3Storage)
    ends_at = utc_now() + life

    def fetch() -> dict[str, str]:
        return {"access_key": "key", "secret_key": "secret", "token": "token", "expiry_time": ends_at.isoformat()}

    storage._credentials = DeferredRefreshableCredentials(fetch, "assume-role")
    asked = utc_now() + timedelta(hours=1)
    requests = [
        storage.presign_upload(new_key(), UPLOAD, MD5, seconds=3600),
        storage.presign_part(new_key(), UPLOAD, 1, md5=MD5, size=13, seconds=3600),
        storage.presign_download(new_key(), disposition="attachment", seconds=3600),
    ]
    for request in requests:
        expected = min(asked, ends_at)
        assert expected - timedelta(seconds=1) <= request.expires_at <= expected + timedelta(minutes=1)


def test_lasting_credentials_end_no_address(imitated: Backend) -> None:
    request = s3(imitated).presign_download(new_key(), disposition="attachment", seconds=3600)
    assert timedelta(minutes=59) < request.expires_at - utc_now() <= timedelta(hours=1)


class BrokenBody:
    """An answer that breaks off after its first bytes."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.pieces = [RIGHT[:5]]

    def read(self, _: int | None = None) -> bytes:
        if self.pieces:
            return self.pieces.pop()
        if self.error:
            raise self.error
        return b""

    def close(self) -> None: ...


@pytest.mark.parametrize(
    "error",
    [
        None,
        urllib3.exceptions.ProtocolError("reset"),
        urllib3.exceptions.SSLError("broken"),
        urllib3.exceptions.ReadTimeoutError(urllib3.HTTPConnectionPool("store"), "/", "slow"),
    ],
)
def test_answer_that_breaks_off_is_no_content(imitated: Backend, error: Exception | None) -> None:
    storage = s3(imitated)

    def answer(request: Any, **_: object) -> Any:
        return AWSResponse(request.url, 206, HTTPHeaders.from_dict({"Content-Length": "13"}), BrokenBody(error))

    storage._client.meta.events.register("before-send.s3.GetObject", answer, unique_id="broken")
    try:
        chunks = storage.read(new_key())
        with pytest.raises(StorageUnavailableError):
            b"".join(chunks)
    finally:
        storage._client.meta.events.unregister("before-send.s3.GetObject", unique_id="broken")


def test_clients_get_the_public_address(tmp_path: Path) -> None:
    settings = s3_settings(
        tmp_path, "http://127.0.0.1:9", s3_public_endpoint="https://s3.example.org", s3_path_style=False
    )
    storage = open_storage(settings)
    requests = [
        storage.presign_upload(new_key(), UPLOAD, MD5, seconds=60),
        storage.presign_upload(new_key(), "put", SHA256, seconds=60),
        storage.presign_upload(new_key(), UPLOAD, MD5, seconds=60, size=13),
        storage.presign_upload(new_key(), "put", MD5, seconds=60, size=13),
        storage.presign_part(new_key(), UPLOAD, 7, md5=MD5, size=13, seconds=60),
        storage.presign_download(new_key(), disposition="attachment", seconds=60),
    ]
    for request in requests:
        assert request.url.startswith(f"https://{settings.s3_bucket}.s3.example.org/")
    assert "X-Amz-SignedHeaders=content-md5%3Bhost&" in requests[0].url
    assert "X-Amz-SignedHeaders=host&" in requests[1].url
    # The length is signed where it is known, and sent by every client without being told.
    for request in requests[2:5]:
        assert "X-Amz-SignedHeaders=content-length%3Bcontent-md5%3Bhost&" in request.url
    for request in (requests[0], *requests[2:5]):
        assert request.headers == {"Content-MD5": "W4xYyRe8czut4oqRVvg3iQ=="}
    assert requests[1].headers == requests[5].headers == {}


@pytest.mark.parametrize("operation", USES)
def test_every_refusal_means_unavailable_and_is_logged_without_addresses(
    imitated: Backend, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    operations = {operation, "ListParts"}
    with refused(s3(imitated), *operations), pytest.raises(StorageUnavailableError):
        USES[operation](imitated.storage, new_key())
    assert "AccessDenied" in caplog.text
    assert "http" not in caplog.messages[-1]


def test_store_that_does_not_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as closed:
        # Bound and not listening: nobody else can answer here.
        closed.bind(("127.0.0.1", 0))
        storage = open_storage(s3_settings(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}"))
        assert isinstance(storage, S3Storage)
        for use in USES.values():
            with pytest.raises(StorageUnavailableError):
                use(storage, new_key())
        assert storage.check() == [Finding("the check ran to its end", False, "EndpointConnectionError")]
    assert {record.levelno for record in caplog.records if record.name == "datameta.storage.s3_answers"} == {
        logging.ERROR
    }
    assert "files/" not in caplog.text


def test_store_with_an_internal_error(imitated: Backend) -> None:
    with refused(s3(imitated), "HeadObject", status=503, code="SlowDown"), pytest.raises(StorageUnavailableError):
        imitated.storage.size(new_key())


def test_missing_bucket(tmp_path: Path, moto: str) -> None:
    storage = open_storage(s3_settings(tmp_path, moto))
    for operation in ("CreateMultipartUpload", "PutObject", "CompleteMultipartUpload", "CopyObject", "GetObject"):
        with pytest.raises(StorageUnavailableError, match="NoSuchBucket"):
            USES[operation](storage, new_key())
    assert [finding.ok for finding in storage.check()] == [False]


def test_wrong_credentials(real: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = s3(real)._client.meta.endpoint_url
    set_credentials(monkeypatch, "rgwkey", "wrong")
    with pytest.raises(StorageUnavailableError, match="SignatureDoesNotMatch"):
        open_storage(s3_settings(tmp_path, endpoint)).begin_upload(new_key(), MD5)


def test_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    storage = open_storage(s3_settings(tmp_path, "http://127.0.0.1:9"))
    with pytest.raises(StorageUnavailableError, match="NoCredentialsError"):
        storage.presign_download(new_key(), disposition="attachment", seconds=60)


def test_nonsense_from_the_portal_is_its_own_error(imitated: Backend) -> None:
    with pytest.raises(ParamValidationError):
        imitated.storage.abort(new_key(), 7)  # type: ignore[arg-type]


def test_missing_reference_touches_nothing(direct: Backend) -> None:
    upload = direct.begin(MD5)
    upload.send(RIGHT)
    direct.storage.complete(upload.key, upload.reference, MD5)
    uses: list[Callable[[], object]] = [
        lambda: direct.storage.abort(upload.key, ""),
        lambda: direct.storage.write(upload.key, "", [OTHER]),
        lambda: direct.storage.complete(upload.key, "", MD5),
        lambda: direct.storage.presign_upload(upload.key, "", MD5, seconds=60),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="reference is missing"):
            use()
    assert direct.read(upload.key) == RIGHT


def test_spool_is_on_the_disk_of_the_portal(imitated: Backend, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    storage = open_storage(s3_settings(tmp_path / "home", "http://127.0.0.1:9"))
    with pytest.raises(StorageUnavailableError):
        storage.write(new_key(), UPLOAD, [RIGHT])


def test_check_notes_a_public_address_it_does_not_reach(
    tmp_path: Path, rgw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_credentials(monkeypatch, rgw.access_key, rgw.secret_key)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        public = f"http://127.0.0.1:{closed.getsockname()[1]}"
        storage = make_s3(s3_settings(tmp_path, rgw.endpoint, s3_public_endpoint=public))
        findings = {finding.name: finding for finding in storage.check()}
    assert findings["public address"] == Finding("public address", None, "not reached from here: NewConnectionError")
    assert all(finding.ok is not False for finding in findings.values())


def test_check_learns_that_a_store_proves_no_md5(opaque: Backend) -> None:
    storage = s3(opaque)
    storage._proves_md5 = True
    findings = find(storage)
    assert not storage.proves_md5
    for name in ("the ETag of a part is its MD5", "the store proves MD5s"):
        assert findings[name].ok is None
    assert findings["the store proves MD5s"].detail == "every file is verified by reading it"
    # The rest goes on in that way.
    assert findings["the content stays what it was"].ok
    assert storage.begin_upload(new_key(), MD5) == "put"


def test_check_learns_that_a_store_proves_md5s(imitated: Backend) -> None:
    storage = s3(imitated)
    storage._proves_md5 = False
    find(storage)
    assert storage.proves_md5
    storage._proves_md5 = False
    with refused(storage, "HeadBucket"):
        find(storage)
    assert not storage.proves_md5


def test_check_notices_a_store_that_completes_whatever_it_has(imitated: Backend) -> None:
    storage = s3(imitated)

    def name_what_is_there(params: dict[str, Any], **_: object) -> None:
        params["MultipartUpload"] = {"Parts": [{"PartNumber": 1, "ETag": MD5_OF_PROBE}]}

    storage._client.meta.events.register("before-parameter-build.s3.CompleteMultipartUpload", name_what_is_there)
    storage._patient.meta.events.register("before-parameter-build.s3.CompleteMultipartUpload", name_what_is_there)
    try:
        findings = find(storage)
    finally:
        for client in (storage._client, storage._patient):
            client.meta.events.unregister("before-parameter-build.s3.CompleteMultipartUpload", name_what_is_there)
    assert findings["completion with another MD5 is refused"].ok is None
    assert findings["the content stays what it was"].ok
    assert not storage.proves_md5


def test_check_tells_what_browsers_and_uploads_meet(real: Backend) -> None:
    storage = s3(real)
    bucket = {"Bucket": storage._bucket}
    findings = find(storage)
    browsers = "browsers at http://127.0.0.1:8080 may send"
    assert findings[browsers].ok is None
    assert "allow PUT and GET from http://127.0.0.1:8080 with content-md5, content-type" in findings[browsers].detail
    assert findings["incomplete uploads expire"].detail == "by no lifecycle rule; one after 8 days would tidy up"
    assert findings["versioning"].detail == "off"
    for origin, headers, ok in (
        ("http://127.0.0.1:8080", ["content-md5", "content-type"], True),
        ("*", ["*"], True),
        ("http://127.0.0.1:8080", ["content-md5"], None),
        ("https://other.example.org", ["*"], None),
    ):
        rule = {"AllowedOrigins": [origin], "AllowedMethods": ["PUT", "GET"], "AllowedHeaders": headers}
        storage._client.put_bucket_cors(**bucket, CORSConfiguration={"CORSRules": [rule]})
        assert find(storage)[browsers].ok is ok, rule
    for days, ok, detail in (
        (8, True, "after 8 days"),
        (6, None, "after 6 days, sooner than upload sessions, which live 7"),
    ):
        expiry = {
            "ID": "tidy",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
        }
        storage._client.put_bucket_lifecycle_configuration(**bucket, LifecycleConfiguration={"Rules": [expiry]})
        assert find(storage)["incomplete uploads expire"] == Finding("incomplete uploads expire", ok, detail)
    storage._client.put_bucket_versioning(**bucket, VersioningConfiguration={"Status": "Enabled"})
    assert find(storage)["versioning"].detail == "Enabled"


def test_check_needs_no_right_to_look_at_the_bucket_itself(imitated: Backend) -> None:
    storage = s3(imitated)
    with refused(storage, "GetBucketLifecycleConfiguration", "GetBucketVersioning"):
        findings = find(storage)
    for name in ("incomplete uploads expire", "versioning"):
        assert findings[name] == Finding(name, None, "not known: AccessDenied")


def test_store_that_cannot_copy_fails_the_check(imitated: Backend) -> None:
    storage = s3(imitated)
    with refused(storage, "CopyObject"):
        assert storage.check()[-1] == Finding("the check ran to its end", False, "CopyObject: AccessDenied")
    assert list(storage.list_uploads()) == list(storage.list_objects()) == []


def test_check_survives_a_failure_midway(imitated: Backend) -> None:
    storage = s3(imitated)
    with refused(storage, "HeadObject"):
        findings = storage.check()
    assert findings[-1] == Finding("the check ran to its end", False, "HeadObject: AccessDenied")
    assert list(storage.list_objects()) == []


@pytest.mark.parametrize(
    ("difference", "ok"),
    [(timedelta(0), True), (timedelta(minutes=2), None), (timedelta(minutes=-2), None), (timedelta(hours=1), False)],
)
def test_clocks_are_compared(difference: timedelta, ok: bool | None) -> None:
    answer = urllib3.HTTPResponse(headers={"Date": format_datetime(utc_now() + difference, usegmt=True)})
    assert check_clock(answer).ok is ok
