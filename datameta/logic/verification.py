"""Content that is read to be proven: before a file is confirmed, and again every thirty days after.

One pass over the content gives its MD5 and its SHA-256, in constant memory. Who reads holds a lease on the
row and renews it with each range; a reader that has died loses it, and another begins anew. What confirmed
content should be and is not is an alarm: it is written down and told, and nothing is changed.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from queue import Queue
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session, sessionmaker

from datameta.authz import Actor
from datameta.crash import crash_point
from datameta.database import REPORT_LOCK
from datameta.logic import audit
from datameta.logic.file_rows import confirm, return_to_announced, set_state, try_store
from datameta.metrics import VERIFIED_BYTES
from datameta.models import File, FileState
from datameta.storage import Storage, StorageUnavailableError

log = logging.getLogger(__name__)

TASK = "verify_file"
QUEUE = "verification"
RANGE_BYTES = 64 * 1024**2
READ_AHEAD = 16
"""How many chunks of at most 1 MiB are read while others are hashed."""
LEASE = timedelta(minutes=2)
FIRST_LEASE = timedelta(seconds=30)
"""Until the first range has been read: what is small is read by then, and waits no longer if its reader has died."""
BEAT_SECONDS = 20
READ_ATTEMPTS = 5
FIRST_WAIT = 0.5
CYCLE = timedelta(days=30)
RESTORED_AFTER = timedelta(days=1)
MISSING = "content_missing"
UNREADABLE = "content_unreadable"

Beat = Callable[[int], None]
"""Called with the number of bytes read so far."""


@dataclass(frozen=True)
class Digests:
    """What content was found to be: its digests in lower-case hex, and its size in bytes."""

    md5: str
    sha256: str
    size: int


class LeaseLostError(Exception):
    """Another has taken the file over, or it was deleted: there is nothing more to do."""


def verify_file(
    sessions: sessionmaker[Session],
    storage: Storage,
    *,
    file_id: int,
    actor: Actor | None = None,
    gives_up: bool = False,
) -> None:
    """Read the content of a file in state ``verifying`` and confirm or refuse it; no more if another does so already.

    Content of a session that is not what was announced stays, and the file is ``failed``; else the file is
    ``announced`` again, as before its confirmation. Raises ``StorageUnavailableError``; who ``gives_up``
    refuses content that can't be read, instead, while the store answers for it.
    """
    lease = uuid4()
    file = _take_lease(sessions, file_id, lease)
    if file is None:
        return
    assert file.storage_key is not None
    try:
        found = _examine(
            storage, file.storage_key, _make_beat(sessions, file_id, lease), "confirmation", gives_up=gives_up
        )
    except LeaseLostError:
        log.info("the verification of file %s is no longer ours", file.uuid)
        return
    except BaseException:
        _give_lease_back(sessions, file_id, lease)
        raise
    crash_point("verify.before_commit")
    with sessions.begin() as db:
        current = db.scalars(select(File).where(_holds(file_id, lease)).with_for_update()).one_or_none()
        if current is None:
            return
        _judge(db, current, found, actor)
        state = current.state
    log.info("file %s verified: %s", file.uuid, state)
    if state == FileState.CONFIRMED:
        try_store(storage.abort, file.upload_key, file.upload or "")
    elif state == FileState.ANNOUNCED:
        try_store(storage.delete, file.storage_key)


def is_held(sessions: sessionmaker[Session], *, file_id: int) -> bool:
    """Say whether somebody holds the lease of a file that is being verified."""
    query = select(File.id).where(File.id == file_id, File.state == FileState.VERIFYING, File.lease_until > func.now())
    with sessions() as db:
        return db.scalar(query) is not None


def check_content(sessions: sessionmaker[Session], storage: Storage, file: File) -> bool:
    """Read the content of a confirmed file again; say whether it is what was confirmed.

    The first time it becomes the baseline; content that was restored ends the alarm. Raises
    ``StorageUnavailableError`` if the store does not answer; content that alone can't be read is an alarm.
    """
    assert file.storage_key is not None
    found = _examine(storage, file.storage_key, lambda done: None, "check", gives_up=True)
    with sessions.begin() as db:
        query = select(File).where(File.id == file.id, File.state == FileState.CONFIRMED)
        current = db.scalars(query.with_for_update()).one_or_none()
        if current is None:
            return True
        current.checked_at = func.now()
        known = {current.checksum, current.md5 or "", current.sha256 or ""} - {""}
        if isinstance(found, str):
            report_damage(db, current, found)
            return False
        if found.size != current.size or not known <= {found.md5, found.sha256}:
            report_damage(db, current, "content_changed")
            return False
        current.md5, current.sha256 = found.md5, found.sha256
        if current.problem is not None:
            former, current.problem = current.problem, None
            db.flush()
            before, after = {"problem": former}, {"problem": None}
            audit.record_event(db, "file.found_again", actor=None, entity=current, before=before, after=after)
        return True


def check_due_contents(sessions: sessionmaker[Session], storage: Storage, *, seconds: float) -> int:
    """Read again what has not been read for thirty days, longest first, for about so long; return how many.

    What was found changed or unreadable is read again each day: somebody may have restored it.
    """
    deadline = time.monotonic() + seconds
    is_old = or_(File.checked_at.is_(None), File.checked_at < func.now() - CYCLE)
    is_restored = File.checked_at < func.now() - RESTORED_AFTER
    checked = 0
    is_damaged = File.problem.in_(("content_changed", UNREADABLE))
    for is_due in (and_(is_damaged, is_restored), and_(File.problem.is_(None), is_old)):
        query = select(File).where(File.state == FileState.CONFIRMED, is_due).order_by(File.checked_at.nulls_first())
        while time.monotonic() < deadline:
            with sessions() as db:
                file = db.scalars(query.limit(1)).one_or_none()
            if file is None:
                break
            check_content(sessions, storage, file)
            checked += 1
    return checked


def report_damage(db: Session, file: File, problem: str) -> None:
    """Write down, once, that a confirmed file is no longer what it was.

    That is ``content_missing``, ``content_changed`` or ``content_unreadable``.
    """
    log.error("ALARM: file %s (%s): %s", file.uuid, file.storage_key, problem)
    if file.problem != problem:
        file.problem = problem
        db.flush()
        order_reports(db)
        audit.record_event(
            db, "file.damaged", actor=None, entity=file, after={"problem": problem, "storage_key": file.storage_key}
        )


def order_reports(db: Session) -> None:
    """Let others report damage only after this transaction, so that a report with a lower number never comes later."""
    db.execute(select(func.pg_advisory_xact_lock(REPORT_LOCK)))


def _examine(storage: Storage, key: str, beat: Beat, purpose: str, *, gives_up: bool) -> Digests | str:
    """Return what an object is found to be, or what is wrong with it.

    Raises ``StorageUnavailableError`` if the store does not answer; and for an object that can't be read, too,
    unless the reader ``gives_up``.
    """
    try:
        found = hash_content(storage, key, beat)
    except FileNotFoundError:
        return MISSING
    except StorageUnavailableError as error:
        if not gives_up:
            raise
        # This raises, too, if it is not for the content alone.
        if storage.size(key) is None:
            return MISSING
        log.error("the content at %s can't be read: %s", key, error)
        return UNREADABLE
    VERIFIED_BYTES.labels(purpose).inc(found.size)
    return found


def hash_content(storage: Storage, key: str, beat: Beat) -> Digests:
    """Read an object in ranges of 64 MiB, while hashing it; ``beat`` is called with each range and every 20 s.

    Raises ``FileNotFoundError``, ``StorageUnavailableError`` after several attempts, and what ``beat`` raises.
    """
    md5, sha256, done, marked, beaten_at = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0, 0, time.monotonic()
    with _read_ahead(read_ranges(storage, key)) as chunks:
        for chunk in chunks:
            md5.update(chunk)
            sha256.update(chunk)
            done += len(chunk)
            if done - marked >= RANGE_BYTES or time.monotonic() > beaten_at + BEAT_SECONDS:
                beat(done)
                marked, beaten_at = done, time.monotonic()
                crash_point("verify.at_range")
    return Digests(md5.hexdigest(), sha256.hexdigest(), done)


def read_ranges(storage: Storage, key: str) -> Iterator[bytes]:
    """Yield an object's bytes; a range that breaks off is read on from there."""
    start, attempt = 0, 0
    while True:
        stop, before = start + RANGE_BYTES, start
        try:
            with closing(storage.read(key, start, stop)) as chunks:  # type: ignore[type-var]
                for chunk in chunks:
                    start += len(chunk)
                    yield chunk
        except StorageUnavailableError:
            attempt = 1 if start > before else attempt + 1
            if attempt >= READ_ATTEMPTS:
                raise
            time.sleep(FIRST_WAIT * 2**attempt)
        else:
            attempt = 0
            if start < stop:
                return


@contextmanager
def _read_ahead(chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """Yield the chunks as another thread reads them, a few ahead; leaving the block stops it."""
    queue: Queue[Any] = Queue(READ_AHEAD)
    is_left = Event()

    def read() -> None:
        try:
            for chunk in chunks:
                queue.put(chunk)
                if is_left.is_set():
                    return
            queue.put(None)
        except BaseException as error:
            queue.put(error)

    def take() -> Iterator[bytes]:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    reader = Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    try:
        yield take()
    finally:
        is_left.set()
        # The reader may be waiting for room.
        while reader.is_alive():
            while not queue.empty():
                queue.get_nowait()
            reader.join(0.05)


def _take_lease(sessions: sessionmaker[Session], file_id: int, lease: UUID) -> File | None:
    is_free = or_(File.lease_until.is_(None), File.lease_until < func.now())
    statement = update(File).where(File.id == file_id, File.state == FileState.VERIFYING, is_free)
    values = {"lease": lease, "lease_until": func.now() + FIRST_LEASE, "verified_bytes": 0}
    with sessions.begin() as db:
        return db.scalars(statement.values(values).returning(File)).one_or_none()


def _make_beat(sessions: sessionmaker[Session], file_id: int, lease: UUID) -> Beat:
    def beat(done: int) -> None:
        statement = update(File).where(_holds(file_id, lease)).returning(File.id)
        with sessions.begin() as db:
            if db.scalar(statement.values(lease_until=func.now() + LEASE, verified_bytes=done)) is None:
                raise LeaseLostError

    return beat


def _give_lease_back(sessions: sessionmaker[Session], file_id: int, lease: UUID) -> None:
    with sessions.begin() as db:
        db.execute(update(File).where(_holds(file_id, lease)).values(lease=None, lease_until=None))


def _holds(file_id: int, lease: UUID) -> Any:
    return and_(File.id == file_id, File.state == FileState.VERIFYING, File.lease == lease)


def _judge(db: Session, file: File, found: Digests | str, actor: Actor | None) -> None:
    """Confirm or refuse a locked file by what its content was found to be."""
    file.lease = file.lease_until = None
    if isinstance(found, Digests):
        file.md5, file.sha256, file.verified_bytes = found.md5, found.sha256, found.size
        if found.size == file.size and file.checksum in (found.md5, found.sha256):
            file.checked_at = func.now()
            confirm(db, file, actor)
            return
    reason = found if isinstance(found, str) else "checksum_mismatch"
    after = {"checksum": file.checksum, "reason": reason}
    if isinstance(found, Digests):
        after |= {"md5": found.md5, "sha256": found.sha256, "size": str(found.size)}
    audit.record_event(db, "file.refused", actor=actor, entity=file, after=after)
    if file.part_size is not None:
        set_state(file, FileState.FAILED)
        file.problem, file.former = reason, None
        return
    return_to_announced(file)
    file.storage_key = file.size = file.md5 = file.sha256 = None
