"""Uploads in parts, tried on every store in every mode.

The rule these tests guard: content is exactly the announced parts in order, whatever was sent when.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from datameta.storage import (
    ChecksumMismatchError,
    NoDataError,
    Storage,
    StorageError,
    StorageUnavailableError,
    UploadGoneError,
)
from tests.storage.backends import Backend, RefusedError, Session, digest, make_backend, new_key, send_request

RIGHT, OTHER = b"right content", b"other content"
MD5 = digest("md5", RIGHT)

STORES = ["local", "moto-gateway", "moto-presigned", "moto-opaque", "rgw-gateway", "rgw-presigned", "rgw-opaque"]
PART_USES: list[Callable[[Storage, int, str], object]] = [
    lambda storage, number, md5: storage.write_part(new_key(), "parts-" + "0" * 32, number, [], md5=md5, size=0),
    lambda storage, number, md5: storage.presign_part(
        new_key(), "parts-" + "0" * 32, number, md5=md5, size=0, seconds=60
    ),
]


@pytest.fixture(params=STORES)
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Return each store in each mode, and the Ceph gateway taken for one whose ETags are no MD5, too."""
    return make_backend(request.param, tmp_path, request, monkeypatch)


def fill(backend: Backend) -> tuple[Session, list[bytes]]:
    """Send three parts, the last one first."""
    parts = [backend.part(1), backend.part(2), b"the end"]
    session = backend.begin_session()
    for number in (3, 1, 2):
        session.send(number, parts[number - 1])
    return session, parts


def md5_known(backend: Backend, data: bytes) -> str | None:
    return digest("md5", data) if backend.storage.proves_md5 else None


def test_parts_in_any_order_become_content(backend: Backend) -> None:
    session, parts = fill(backend)
    assert backend.storage.size(session.key) is None
    assert list(backend.storage.list_objects()) == []
    assert session.list_parts() == [(n, len(part), md5_known(backend, part)) for n, part in enumerate(parts, 1)]
    stored = session.complete(*parts)
    content = b"".join(parts)
    assert (stored.key, stored.size, stored.md5, stored.sha256) == (session.key, len(content), None, None)
    assert backend.storage.size(stored.key) == len(content)
    assert [(entry.key, entry.size) for entry in backend.storage.list_objects()] == [(stored.key, len(content))]
    assert list(backend.storage.list_uploads()) == []
    edge = len(parts[0])
    ranges = [(0, None), (0, 3), (edge - 2, edge + 2), (edge, 2 * edge), (2 * edge - 1, None), (5, 5), (7, 3)]
    for start, stop in [*ranges, (2 * edge + 3, 2**40), (2**40, None), (edge - 1, 2 * edge + 2)]:
        chunks = list(backend.storage.read(stored.key, start, stop))
        assert b"".join(chunks) == content[start:stop], (start, stop)
        assert all(0 < len(chunk) <= 2**20 for chunk in chunks), (start, stop)


@pytest.mark.parametrize("data", [RIGHT, b""])
def test_one_part_is_content_with_a_proven_md5(backend: Backend, data: bytes) -> None:
    session = backend.begin_session()
    session.send(1, data)
    stored = session.complete(data)
    assert (stored.size, stored.md5) == (len(data), md5_known(backend, data))
    assert backend.read(stored.key) == data


def test_part_may_be_sent_again_with_other_bytes(backend: Backend) -> None:
    session = backend.begin_session()
    for data in (OTHER, RIGHT, RIGHT):
        session.send(1, data)
    assert session.list_parts() == [(1, len(RIGHT), md5_known(backend, RIGHT))]
    if backend.storage.proves_md5:
        with pytest.raises(ChecksumMismatchError):
            session.complete(OTHER)
    session.complete(RIGHT)
    assert backend.read(session.key) == RIGHT


def test_nothing_and_too_little_was_sent(backend: Backend) -> None:
    session = backend.begin_session()
    assert session.list_parts() == []
    with pytest.raises(NoDataError):
        session.complete(RIGHT)
    session.send(1, backend.part(1))
    with pytest.raises(ChecksumMismatchError):
        session.complete(backend.part(1), RIGHT)
    session.send(2, RIGHT)
    session.complete(backend.part(1), RIGHT)
    assert backend.read(session.key) == backend.part(1) + RIGHT


@pytest.mark.parametrize(
    ("sent", "size"), [(OTHER, 13), (RIGHT, 12), (RIGHT, 14), (RIGHT + b"\0", 13), (RIGHT[:-1], 13), (b"", 13)]
)
def test_other_bytes_or_another_size_leave_the_former_part(backend: Backend, sent: bytes, size: int) -> None:
    session = backend.begin_session()
    for former in ([], [(1, len(RIGHT), md5_known(backend, RIGHT))]):
        with pytest.raises(ChecksumMismatchError):
            backend.storage.write_part(session.key, session.reference, 1, [sent], md5=MD5, size=size)
        assert session.list_parts() == former
        session.write(1, RIGHT)


def test_store_refuses_other_bytes_and_another_size(direct: Backend) -> None:
    session = direct.begin_session()
    request = session.presign(1, RIGHT)
    assert list(request.headers) == ["Content-MD5"]
    if direct.is_real:
        for data in (OTHER, RIGHT[:-1], RIGHT + b"\0", b""):
            with pytest.raises(RefusedError) as refused:
                send_request("PUT", request, data)
            assert refused.value.status in (400, 403)
        with pytest.raises(NoDataError):
            session.complete(RIGHT)
    send_request("PUT", request, RIGHT)
    session.complete(RIGHT)


def test_broken_transfer_leaves_the_former_part(backend: Backend) -> None:
    def break_off() -> Iterator[bytes]:
        yield OTHER[:5]
        raise ConnectionResetError

    session = backend.begin_session()
    session.send(1, RIGHT)
    with pytest.raises(ConnectionResetError):
        backend.storage.write_part(
            session.key, session.reference, 1, break_off(), md5=digest("md5", OTHER), size=len(OTHER)
        )
    session.complete(RIGHT)
    assert backend.read(session.key) == RIGHT


def test_completing_again(backend: Backend) -> None:
    session, parts = fill(backend)
    assert session.complete(*parts) == session.complete(*parts)
    if backend.storage.proves_md5:
        for others in (parts[:2], [parts[1], parts[0], parts[2]], [RIGHT], [*parts, RIGHT]):
            with pytest.raises(UploadGoneError):
                session.complete(*others)
    assert backend.read(session.key) == b"".join(parts)


def test_concurrent_completions_agree(backend: Backend) -> None:
    session, parts = fill(backend)
    barrier = threading.Barrier(4)

    def complete(_: int) -> int:
        barrier.wait()
        return session.complete(*parts).size

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(complete, range(4))) == {sum(map(len, parts))}
    assert backend.read(session.key) == b"".join(parts)


def test_many_parts_at_the_same_time(backend: Backend) -> None:
    session = backend.begin_session()
    parts = [backend.part(number) for number in range(1, 7)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(session.send, range(1, 7), parts))
    session.complete(*parts)
    assert digest("md5", backend.read(session.key)) == digest("md5", b"".join(parts))


def test_part_after_completion_changes_nothing(backend: Backend) -> None:
    session, parts = fill(backend)
    requests = [session.presign(1, OTHER), session.presign(2, parts[1])] if backend.storage.is_direct else []
    session.complete(*parts)
    for request, data in zip(requests, (OTHER, parts[1]), strict=False):
        with pytest.raises(RefusedError):
            send_request("PUT", request, data)
    # moto answers 500 where S3 answers 404.
    with pytest.raises(StorageUnavailableError if backend.store == "moto" else UploadGoneError):
        session.write(1, OTHER)
    assert backend.read(session.key) == b"".join(parts)
    assert list(backend.storage.list_uploads()) == []


def test_part_in_flight_while_completing_changes_nothing(backend: Backend) -> None:
    session = backend.begin_session()
    session.send(1, RIGHT)

    def complete_midway() -> Iterator[bytes]:
        yield OTHER[:5]
        session.complete(RIGHT)
        yield OTHER[5:]

    with pytest.raises(StorageUnavailableError if backend.store == "moto" else UploadGoneError):
        backend.storage.write_part(
            session.key, session.reference, 1, complete_midway(), md5=digest("md5", OTHER), size=len(OTHER)
        )
    assert backend.read(session.key) == RIGHT


def test_parts_sent_while_completing_never_change_it(backend: Backend) -> None:
    for _ in range(5):
        session = backend.begin_session()
        session.send(1, RIGHT)
        barrier = threading.Barrier(2)

        def send(session: Session = session, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            with suppress(StorageError):
                session.write(1, OTHER)

        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(send)
            barrier.wait()
            with suppress(ChecksumMismatchError):
                session.complete(RIGHT)
            sending.result()
        stored = backend.storage.size(session.key)
        # What is not proven may be either, and is read before it is believed; it never changes after.
        whole = (RIGHT,) if backend.storage.proves_md5 else (RIGHT, OTHER)
        assert stored is None or backend.read(session.key) in whole


def test_abort(backend: Backend) -> None:
    session, parts = fill(backend)
    [listed] = backend.storage.list_uploads()
    assert (listed.key, listed.upload) == (session.key, session.reference)
    for _ in range(2):
        backend.storage.abort(session.key, session.reference)
    assert list(backend.storage.list_uploads()) == []
    with pytest.raises(UploadGoneError):
        session.list_parts()
    with pytest.raises(UploadGoneError):
        session.complete(*parts)
    assert list(backend.storage.list_objects()) == []


def test_aborting_leaves_the_object(backend: Backend) -> None:
    session, parts = fill(backend)
    session.complete(*parts)
    backend.storage.abort(session.key, session.reference)
    assert backend.read(session.key) == b"".join(parts)
    for _ in range(2):
        backend.storage.delete(session.key)
    assert backend.storage.size(session.key) is None
    assert list(backend.storage.list_objects()) == []
    with pytest.raises((UploadGoneError, StorageUnavailableError)):
        session.complete(*parts)


def test_listing_after_a_number(backend: Backend) -> None:
    session = fill(backend)[0]
    listed = session.list_parts()
    for after in range(5):
        assert session.list_parts(after) == listed[after:]


def test_two_uploads_of_one_file_never_take_each_others_content_for_their_own(backend: Backend) -> None:
    session, parts = fill(backend)
    single = backend.storage.begin_upload(session.key, MD5)
    backend.storage.write(session.key, single, [RIGHT])
    session.complete(*parts)
    if single != "put":
        # S3 would put the one in place of the other, so the portal completes one of them only.
        backend.storage.abort(session.key, single)
        with pytest.raises(UploadGoneError):
            backend.storage.complete(session.key, single, MD5)
    assert backend.read(session.key) == b"".join(parts)


def test_upload_of_the_other_kind_is_refused(backend: Backend) -> None:
    key = new_key()
    single = backend.storage.begin_upload(key, digest("sha256", RIGHT))
    session = Session(backend.storage, key, single)
    uses: list[Callable[[], object]] = [
        lambda: session.write(1, RIGHT),
        lambda: session.list_parts(),
        lambda: session.complete(RIGHT),
    ]
    if backend.storage.is_direct:
        uses.append(lambda: session.presign(1, RIGHT))
    if backend.store == "local":
        parts = backend.storage.begin_parts(key)
        uses.append(lambda: backend.storage.write(key, parts, [RIGHT]))
        uses.append(lambda: backend.storage.complete(key, parts, MD5))
    for use in uses:
        with pytest.raises(ValueError, match=r"takes no parts|32 hex digits"):
            use()
    backend.storage.abort(key, single)


@pytest.mark.parametrize(("number", "md5"), [(0, MD5), (-1, MD5), (10_001, MD5), (1, ""), (1, "../" + MD5[3:])])
def test_parts_that_no_upload_has(backend: Backend, number: int, md5: str) -> None:
    for use in PART_USES[: 1 + backend.storage.is_direct]:
        with pytest.raises(ValueError, match="A part has a number from 1 to 10000"):
            use(backend.storage, number, md5)


def test_completing_without_parts(backend: Backend) -> None:
    session = backend.begin_session()
    session.send(1, RIGHT)
    with pytest.raises(ValueError, match="at least one part"):
        session.complete()
    session.complete(RIGHT)
