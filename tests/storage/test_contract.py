"""What the portal relies on, tried on every store in every mode.

The rule these tests guard: only the announced bytes become content, and content never changes.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import product

import pytest

from datameta.clock import utc_now
from datameta.storage import (
    ChecksumMismatchError,
    NoDataError,
    Storage,
    StorageError,
    StorageUnavailableError,
    UploadGoneError,
)
from tests.storage.backends import Backend, RefusedError, Upload, digest, new_key, send_request

RIGHT, OTHER = b"right content", b"other content"
BAD_KEYS = [
    "",
    "files/",
    "files/..",
    "files/../../etc/passwd",
    "/etc/passwd",
    "files/6f9619ff-8b86-d011-b42d-00c04fc964ff/x",
    "files/6f9619ff-8b86-d011-b42d-00c04fc964ff\n",
    "files/6f9619ff-8b86-d011-b42d-00c04fc964ff.x",
    "files/6F9619FF-8B86-D011-B42D-00C04FC964FF",
    "staged/6f9619ff-8b86-d011-b42d-00c04fc964ff",
]

KEY_USES: list[Callable[[Storage, str], object]] = [
    lambda storage, key: storage.begin_upload(key, digest("md5", RIGHT)),
    lambda storage, key: storage.begin_upload(key, digest("sha256", RIGHT)),
    lambda storage, key: storage.write(key, "0" * 32, [RIGHT]),
    lambda storage, key: storage.complete(key, "0" * 32, digest("md5", RIGHT)),
    lambda storage, key: storage.abort(key, "0" * 32),
    lambda storage, key: storage.begin_parts(key),
    lambda storage, key: storage.write_part(key, "0" * 32, 1, [RIGHT], md5=digest("md5", RIGHT), size=len(RIGHT)),
    lambda storage, key: list(storage.list_parts(key, "0" * 32)),
    lambda storage, key: storage.complete_parts(key, "0" * 32, [digest("md5", RIGHT)]),
    lambda storage, key: storage.delete(key),
    lambda storage, key: storage.size(key),
    lambda storage, key: storage.read(key),
]
RANGES = [
    (0, None),
    (1, None),
    (0, 1),
    (5, 5),
    (7, 3),
    (2**20 - 1, 2**20 + 1),
    (100, 2**21),
    (0, 2**40),
    (2**40, None),
]


class BrokenError(OSError):
    """A client went away; an OSError, as the one of a real socket is."""


def break_off(data: bytes) -> Iterator[bytes]:
    yield data
    raise BrokenError


def send_leniently(upload: Upload, data: bytes) -> None:
    """Send to an upload that is over: whether the store refuses is its business, harming is not."""
    with suppress(StorageError, RefusedError):
        upload.send(data)


def test_content_is_readable_after_completion_and_not_before(backend: Backend, algorithm: str) -> None:
    upload = backend.begin(digest(algorithm, RIGHT))
    upload.send(RIGHT)
    assert backend.storage.size(upload.key) is None
    stored = backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT))
    assert stored.size == len(RIGHT)
    assert backend.storage.size(stored.key) == len(RIGHT)
    assert backend.read(stored.key) == RIGHT


def test_references_and_modes(backend: Backend, algorithm: str) -> None:
    upload = backend.begin(digest(algorithm, RIGHT))
    assert 0 < len(upload.reference) <= 1024
    assert backend.storage.is_direct == (upload.request is not None)


def test_last_of_several_transfers_wins(backend: Backend, algorithm: str) -> None:
    checksum = digest(algorithm, RIGHT)
    upload = backend.begin(checksum)
    upload.send(RIGHT)
    backend.storage.write(upload.key, upload.reference, [OTHER])
    with pytest.raises(ChecksumMismatchError):
        backend.complete(upload.key, upload.reference, checksum)
    backend.storage.write(upload.key, upload.reference, [OTHER, OTHER])
    upload.send(RIGHT)
    upload.send(RIGHT)
    stored = backend.complete(upload.key, upload.reference, checksum)
    assert backend.read(stored.key) == RIGHT


def test_wrong_bytes_are_not_confirmed_and_the_same_address_takes_the_right_ones(
    backend: Backend, algorithm: str
) -> None:
    checksum = digest(algorithm, RIGHT)
    upload = backend.begin(checksum)
    expected: type[StorageError] = ChecksumMismatchError
    if backend.is_real and backend.storage.is_direct and algorithm == "md5":
        with pytest.raises(RefusedError, match="BadDigest"):
            upload.send(OTHER)
        expected = NoDataError
    else:
        upload.send(OTHER)
    for _ in range(2):
        with pytest.raises(expected):
            backend.complete(upload.key, upload.reference, checksum)
    assert list(backend.storage.list_objects()) == []
    upload.send(RIGHT)
    stored = backend.complete(upload.key, upload.reference, checksum)
    assert backend.read(stored.key) == RIGHT


@pytest.mark.parametrize("data", [RIGHT, b""])
def test_nothing_sent(backend: Backend, algorithm: str, data: bytes) -> None:
    upload = backend.begin(digest(algorithm, data))
    with pytest.raises(NoDataError):
        backend.complete(upload.key, upload.reference, digest(algorithm, data))


def test_broken_transfer_leaves_the_former_content(backend: Backend, algorithm: str) -> None:
    upload = backend.begin(digest(algorithm, RIGHT))
    with pytest.raises(BrokenError):
        backend.storage.write(upload.key, upload.reference, break_off(RIGHT))
    with pytest.raises(NoDataError):
        backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT))
    upload.send(RIGHT)
    with pytest.raises(BrokenError):
        backend.storage.write(upload.key, upload.reference, break_off(OTHER))
    stored = backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT))
    assert backend.read(stored.key) == RIGHT


def test_zero_bytes(backend: Backend, algorithm: str) -> None:
    upload = backend.begin(digest(algorithm, b""))
    upload.send(b"")
    stored = backend.complete(upload.key, upload.reference, digest(algorithm, b""))
    assert (stored.size, backend.storage.size(stored.key), backend.read(stored.key)) == (0, 0, b"")


def test_completing_twice(backend: Backend, algorithm: str) -> None:
    checksum = digest(algorithm, RIGHT)
    upload = backend.begin(checksum)
    upload.send(RIGHT)
    first = backend.complete(upload.key, upload.reference, checksum)
    second = backend.complete(upload.key, upload.reference, checksum)
    assert first.size == second.size == len(RIGHT)
    assert backend.read(first.key) == backend.read(second.key) == RIGHT
    if upload.reference != "put":
        assert first == second


def test_completing_again_with_another_checksum(backend: Backend, algorithm: str) -> None:
    upload = backend.begin(digest(algorithm, RIGHT))
    upload.send(RIGHT)
    stored = backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT))
    # What was staged is there until the upload is aborted.
    with pytest.raises((UploadGoneError, ChecksumMismatchError)):
        backend.complete(upload.key, upload.reference, digest(algorithm, OTHER))
    assert backend.read(stored.key) == RIGHT


def test_completing_after_abort(backend: Backend, algorithm: str) -> None:
    upload = backend.begin(digest(algorithm, RIGHT))
    upload.send(RIGHT)
    for _ in range(2):
        backend.storage.abort(upload.key, upload.reference)
    assert list(backend.storage.list_uploads()) == []
    # A staged upload has nothing in the store that could be gone.
    gone = NoDataError if upload.reference == "put" else UploadGoneError
    with pytest.raises(gone):
        backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT))
    send_leniently(upload, RIGHT)
    assert backend.storage.size(upload.key) is None
    assert list(backend.storage.list_objects()) == []


@pytest.mark.parametrize("is_aborted", [False, True])
def test_sending_after_completion_changes_nothing(backend: Backend, algorithm: str, is_aborted: bool) -> None:
    upload = backend.begin(digest(algorithm, RIGHT))
    upload.send(RIGHT)
    stored = backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT))
    if is_aborted:
        backend.storage.abort(upload.key, upload.reference)
    for data in (OTHER, RIGHT, b""):
        send_leniently(upload, data)
        with suppress(StorageError):
            backend.storage.write(upload.key, upload.reference, [data])
    assert backend.read(stored.key) == RIGHT
    assert [entry.key for entry in backend.storage.list_objects()] == [stored.key]


@pytest.mark.parametrize(
    "backend", ["local", "moto-gateway", "moto-presigned", "rgw-gateway", "rgw-presigned"], indirect=True
)
def test_writing_to_an_upload_that_is_over(backend: Backend) -> None:
    upload = backend.begin(digest("md5", RIGHT))
    upload.send(RIGHT)
    backend.complete(upload.key, upload.reference, digest("md5", RIGHT))
    # moto answers 500 where S3 answers 404.
    expected = StorageUnavailableError if backend.store == "moto" else UploadGoneError
    with pytest.raises(expected):
        backend.storage.write(upload.key, upload.reference, [OTHER])


def test_valid_address_replayed_after_completion_changes_nothing(direct: Backend, algorithm: str) -> None:
    upload = direct.begin(digest(algorithm, RIGHT))
    # An address for other bytes, given out while another checksum was announced.
    other = direct.storage.presign_upload(upload.key, upload.reference, digest(algorithm, OTHER), seconds=300)
    upload.send(RIGHT)
    stored = direct.complete(upload.key, upload.reference, digest(algorithm, RIGHT))
    for request, data in ((upload.request, RIGHT), (upload.request, OTHER), (other, OTHER)):
        assert request is not None
        if upload.reference != "put":
            with pytest.raises(RefusedError) as refused:
                send_request("PUT", request, data)
            assert refused.value.status in ((404, 400) if direct.is_real else (500,))
        else:
            send_request("PUT", request, data)
        assert direct.read(stored.key) == RIGHT
    direct.storage.abort(upload.key, upload.reference)
    assert direct.read(stored.key) == RIGHT


def test_announcing_another_checksum_needs_no_new_upload(backend: Backend, algorithm: str) -> None:
    upload = backend.begin(digest(algorithm, OTHER))
    upload.send(OTHER)
    checksum = digest(algorithm, RIGHT)
    with pytest.raises(ChecksumMismatchError):
        backend.complete(upload.key, upload.reference, checksum)
    request = backend.presign(upload.key, upload.reference, checksum)
    Upload(backend.storage, upload.key, upload.reference, request).send(RIGHT)
    stored = backend.complete(upload.key, upload.reference, checksum)
    assert backend.read(stored.key) == RIGHT


def test_ranges(backend: Backend) -> None:
    data = bytes(range(251)) * 5000
    upload = backend.begin(digest("md5", data))
    upload.send(data)
    key = backend.complete(upload.key, upload.reference, digest("md5", data)).key
    for start, stop in RANGES:
        chunks = list(backend.storage.read(key, start, stop))
        assert b"".join(chunks) == data[start:stop], (start, stop)
        assert all(0 < len(chunk) <= 2**20 for chunk in chunks), (start, stop)


def test_reading_can_end_early(backend: Backend) -> None:
    upload = backend.begin(digest("md5", RIGHT))
    upload.send(RIGHT)
    key = backend.complete(upload.key, upload.reference, digest("md5", RIGHT)).key
    for steps in range(2):
        chunks = backend.storage.read(key)
        for _ in range(steps):
            next(chunks)
        chunks.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("start", "stop"), [(0, None), (3, 2)])
def test_reading_nothing_fails_at_the_call(backend: Backend, start: int, stop: int | None) -> None:
    with pytest.raises(FileNotFoundError):
        backend.storage.read(new_key(), start, stop)


def test_deleting(backend: Backend, algorithm: str) -> None:
    upload = backend.begin(digest(algorithm, RIGHT))
    upload.send(RIGHT)
    key = backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT)).key
    backend.storage.abort(upload.key, upload.reference)
    for _ in range(2):
        backend.storage.delete(key)
    assert backend.storage.size(key) is None
    assert list(backend.storage.list_objects()) == []
    with pytest.raises(FileNotFoundError):
        backend.storage.read(key)
    # No completion brings it back; which error it is differs.
    with pytest.raises(StorageError):
        backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT))
    assert list(backend.storage.list_objects()) == []


def test_aborting_leaves_the_object(backend: Backend, algorithm: str) -> None:
    upload = backend.begin(digest(algorithm, RIGHT))
    upload.send(RIGHT)
    key = backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT)).key
    backend.storage.abort(upload.key, upload.reference)
    assert backend.read(key) == RIGHT


def test_lists(backend: Backend, algorithm: str) -> None:
    assert list(backend.storage.list_uploads()) == []
    assert list(backend.storage.list_objects()) == []
    uploads = [backend.begin(digest(algorithm, RIGHT)) for _ in range(3)]
    for upload in uploads:
        upload.send(RIGHT)
    listed = list(backend.storage.list_uploads())
    assert {(each.key, each.upload) for each in listed} == {(each.key, each.reference) for each in uploads}
    # moto says that every multipart upload was begun in 2010.
    if backend.store != "moto" or uploads[0].reference == "put":
        assert all(abs(utc_now() - each.started_at) < timedelta(minutes=5) for each in listed)
    stored = backend.complete(uploads[0].key, uploads[0].reference, digest(algorithm, RIGHT))
    for upload in uploads:
        backend.storage.abort(upload.key, upload.reference)
    assert list(backend.storage.list_uploads()) == []
    [entry] = backend.storage.list_objects()
    assert (entry.key, entry.size) == (stored.key, len(RIGHT))
    assert abs(utc_now() - entry.changed_at) < timedelta(minutes=5)


def test_concurrent_transfers_do_not_mix(backend: Backend, algorithm: str) -> None:
    contents = [bytes([number]) * 200_000 for number in range(8)]
    upload = backend.begin(digest(algorithm, contents[0]))
    barrier = threading.Barrier(len(contents))

    def write(data: bytes) -> None:
        barrier.wait()
        backend.storage.write(upload.key, upload.reference, [data[:70_000], data[70_000:]])

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))
    winners = []
    for data in contents:
        with suppress(ChecksumMismatchError, UploadGoneError):
            key = backend.complete(upload.key, upload.reference, digest(algorithm, data)).key
            winners.append((backend.read(key), data))
    assert len(winners) == 1
    assert winners[0][0] == winners[0][1]


def test_concurrent_completions_agree(backend: Backend, algorithm: str) -> None:
    checksum = digest(algorithm, RIGHT)
    upload = backend.begin(checksum)
    upload.send(RIGHT)
    barrier = threading.Barrier(8)

    def complete(_: int) -> str:
        barrier.wait()
        return backend.complete(upload.key, upload.reference, checksum).key

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(complete, range(8)))
    assert [backend.read(key) for key in keys] == [RIGHT] * 8


def test_transfers_during_completion_never_change_it(backend: Backend, algorithm: str) -> None:
    for _ in range(5):
        upload = backend.begin(digest(algorithm, RIGHT))
        upload.send(RIGHT)
        barrier = threading.Barrier(2)

        def send(upload: Upload = upload, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            with suppress(StorageError):
                upload.storage.write(upload.key, upload.reference, [OTHER])

        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            barrier.wait()
            try:
                stored = backend.complete(upload.key, upload.reference, digest(algorithm, RIGHT))
            except ChecksumMismatchError:
                stored = None
            sending.result()
        if stored is None:
            assert backend.storage.size(upload.key) is None
        else:
            assert backend.read(stored.key) == RIGHT


def test_keys_the_portal_did_not_make(backend: Backend) -> None:
    for key, use in product(BAD_KEYS, KEY_USES):
        with pytest.raises(ValueError, match="files/<uuid>"):
            use(backend.storage, key)


def test_signed_download(direct: Backend) -> None:
    upload = direct.begin(digest("md5", RIGHT))
    upload.send(RIGHT)
    key = direct.complete(upload.key, upload.reference, digest("md5", RIGHT)).key
    disposition = "attachment; filename=\"a b.fq\"; filename*=UTF-8''%E6%97%A5.fq"
    request = direct.storage.presign_download(key, disposition=disposition, seconds=60)
    answer = send_request("GET", request)
    assert answer.data == RIGHT
    assert answer.headers["Content-Disposition"] == disposition
    assert answer.headers["Content-Type"] == "application/octet-stream"
    request.headers["Range"] = "bytes=6-12"
    answer = send_request("GET", request)
    assert (answer.status, answer.data) == (206, RIGHT[6:13])


def test_the_mark_is_kept_and_is_no_content(backend: Backend) -> None:
    assert backend.storage.read_mark() is None
    for mark in ("a 1", "b 2"):
        backend.storage.write_mark(mark)
        assert backend.storage.read_mark() == mark
    backend.storage.write_mark("x" * 1000)
    assert backend.storage.read_mark() == "x" * 200
    assert list(backend.storage.list_uploads()) == []
    assert list(backend.storage.list_objects()) == []


def test_check_tells_what_the_store_enforces(backend: Backend) -> None:
    findings = {finding.name: finding.ok for finding in backend.storage.check()}
    failed = {name for name, ok in findings.items() if ok is False}
    if backend.store == "moto":
        assert failed == {"a part without Content-MD5 is refused"}
    else:
        assert failed == set()
    assert sum(ok is True for ok in findings.values()) >= 3
    assert list(backend.storage.list_uploads()) == []
    assert list(backend.storage.list_objects()) == []
