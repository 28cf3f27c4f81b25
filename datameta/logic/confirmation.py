"""From what was sent to what is confirmed: a row says ``confirmed`` only once the content is fixed and proven.

The store fixes the content first (``finish_confirmation``). What it proves thereby is confirmed at once; the
rest is read (``logic/verification.py``), a little of it here and now, more by a job.

Each of these functions may run any number of times, at once or after a crash.
"""

import logging
import time
from collections.abc import Sequence
from threading import BoundedSemaphore

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from datameta.authz import Actor
from datameta.crash import crash_point
from datameta.errors import ConflictError, NotFoundError, Problem, ValidationError
from datameta.identifiers import to_identifier
from datameta.logic import audit, verification
from datameta.logic.file_rows import (
    busy,
    checksum_mismatch,
    confirm,
    is_same_upload,
    not_modifiable,
    return_to_announced,
    set_state,
    store_errors,
    try_store,
    upload_replaced,
)
from datameta.logic.parts import count_parts, format_numbers
from datameta.models import File, FileState, UploadPart
from datameta.queue import store_job
from datameta.storage import (
    ChecksumMismatchError,
    NoDataError,
    Storage,
    StoredObject,
    UploadGoneError,
)

log = logging.getLogger(__name__)

INLINE_BYTES = 64 * 1024**2
"""Content up to this size is verified by who confirms it, and not by a job."""
POLL_SECONDS = 0.2
WAITING = BoundedSemaphore(4)
"""Who waits long holds one of the threads that answer everybody else; only so many may, the others wait briefly."""
BRIEF_SECONDS = 2


def finish_confirmation(
    sessions: sessionmaker[Session],
    storage: Storage,
    file: File,
    *,
    actor: Actor | None = None,
) -> File:
    """Bring a file in state ``confirming`` on: to ``confirmed`` or ``verifying``, or back to ``announced``.

    ``actor`` is who wants it (None: the sweeper), ``file`` the row as they left it.
    Raises ``ValidationError`` if nothing was sent, ``ConflictError`` if parts are missing or what was sent
    differs, ``NotFoundError`` or ``ResourceNotModifiableError`` if another was faster, ``UnavailableError``.
    """
    try:
        with store_errors():
            stored = _complete(sessions, storage, file)
    except NoDataError:
        _return_to_announced(sessions, file, actor, "no_data")
        message = "No data was uploaded yet for this file."
        raise ValidationError(Problem(message, "no_data", "contentUploaded", to_identifier(file))) from None
    except _PartsMissingError as error:
        _return_to_announced(sessions, file, actor, "parts_missing")
        message = f"These parts have not arrived: {format_numbers(error.numbers)}. Send them, then complete again."
        raise ConflictError(Problem(message, "parts_missing", entity=to_identifier(file))) from None
    except ChecksumMismatchError:
        _return_to_announced(sessions, file, actor, "checksum_mismatch")
        raise checksum_mismatch(file) from None
    except UploadGoneError:
        _return_to_announced(sessions, file, actor, "upload_expired")
        message = "The store has ended this upload. Delete the file and announce it again."
        raise ConflictError(Problem(message, "upload_expired", entity=to_identifier(file))) from None
    crash_point("confirm.after_complete")
    current = _note_content(sessions, file, stored, actor)
    if current is None or current.state == FileState.DELETING:
        # It was deleted meanwhile; whatever a crash leaves here the sweeper removes.
        try_store(storage.delete, stored.key)
        raise NotFoundError
    if current.storage_key != stored.key:
        try_store(storage.delete, stored.key)
    if not is_same_upload(current, file):
        raise upload_replaced(file)
    if file.former is not None and (current.name, current.checksum) != (file.name, file.checksum):
        # Another attempt, that wanted no change, was faster.
        raise not_modifiable(current) if current.state == FileState.CONFIRMED else busy(current)
    if current.state == FileState.CONFIRMED:
        if stored.has_rest:
            try_store(storage.abort, file.upload_key, file.upload or "")
    elif current.state == FileState.VERIFYING:
        verify_at_once(sessions, storage, current, actor=actor)
    return current


def begin_verification(db: Session, file: File) -> None:
    """Make a locked file, whose content the store has, ``verifying``; a job reads what is too large for us."""
    file.problem, file.verified_bytes = None, 0
    set_state(file, FileState.VERIFYING)
    if (file.size or 0) > INLINE_BYTES:
        store_job(db, verification.TASK, queue_name=verification.QUEUE, file_id=file.id)


def verify_at_once(
    sessions: sessionmaker[Session],
    storage: Storage,
    file: File,
    *,
    actor: Actor | None,
) -> None:
    """Verify content that is small enough for it, unless another does; raises ``UnavailableError``."""
    if (file.size or 0) <= INLINE_BYTES:
        with store_errors():
            verification.verify_file(sessions, storage, file_id=file.id, actor=actor)


def await_verification(sessions: sessionmaker[Session], file: File, *, seconds: float) -> File:
    """Wait for the end of a verification that others do, and return the confirmed file.

    Raises ``ConflictError`` if it goes on after so long or the content was found wrong, ``NotFoundError`` if
    the file was deleted.
    """
    may_wait = WAITING.acquire(blocking=False)
    try:
        return _poll(sessions, file, seconds=seconds if may_wait else min(seconds, BRIEF_SECONDS))
    finally:
        if may_wait:
            WAITING.release()


def _poll(sessions: sessionmaker[Session], file: File, *, seconds: float) -> File:
    deadline = time.monotonic() + seconds
    while True:
        with sessions() as db:
            current = db.get(File, file.id)
        if current is None or current.state == FileState.DELETING:
            raise NotFoundError
        if current.state == FileState.CONFIRMED:
            return current
        if current.state != FileState.VERIFYING:
            raise checksum_mismatch(current)
        if time.monotonic() >= deadline:
            raise busy(current)
        time.sleep(POLL_SECONDS)


class _PartsMissingError(Exception):
    """Parts of a session have not arrived."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__(numbers)
        self.numbers = numbers


def _complete(sessions: sessionmaker[Session], storage: Storage, file: File) -> StoredObject:
    if file.part_size is None:
        return storage.complete(file.upload_key, file.upload or "", file.checksum)
    with sessions() as db:
        query = select(UploadPart.number, UploadPart.md5).where(UploadPart.file_id == file.id)
        announced = {row.number: row.md5 for row in db.execute(query.order_by(UploadPart.number))}
    expected = range(1, count_parts(file) + 1)
    try:
        if len(announced) == len(expected):
            return storage.complete_parts(file.upload_key, file.upload or "", list(announced.values()))
    except ChecksumMismatchError:
        pass
    arrived = {
        part.number
        for part in storage.list_parts(file.upload_key, file.upload or "")
        if part.md5 in (None, announced.get(part.number))
    }
    if not arrived:
        raise NoDataError
    missing = [number for number in expected if number not in arrived]
    raise _PartsMissingError(missing) if missing else ChecksumMismatchError


def _note_content(
    sessions: sessionmaker[Session], file: File, stored: StoredObject, actor: Actor | None
) -> File | None:
    """Write what the store has fixed; return the row as it is then."""
    with sessions.begin() as db:
        current = db.scalars(select(File).where(File.id == file.id).with_for_update()).one_or_none()
        if current is None or current.state not in (FileState.ANNOUNCED, FileState.CONFIRMING):
            return current
        if not is_same_upload(current, file):
            return current
        # Another attempt may have failed meanwhile and undone what this one wants.
        current.name, current.checksum, current.former = file.name, file.checksum, file.former
        current.storage_key, current.size = stored.key, stored.size
        current.md5, current.sha256 = stored.md5, stored.sha256
        current.verified_bytes, current.problem = 0, None
        if file.checksum in (stored.md5, stored.sha256):
            confirm(db, current, actor)
            # Without a SHA-256 there is no baseline yet; the next cycle reads the content for it.
            current.checked_at = func.now() if stored.sha256 else None
        else:
            begin_verification(db, current)
        db.flush()
        db.refresh(current)
        crash_point("confirm.before_commit")
    log.info("file %s %s, %d bytes at %s", current.uuid, current.state, stored.size, stored.key)
    return current


def _return_to_announced(sessions: sessionmaker[Session], file: File, actor: Actor | None, reason: str) -> None:
    """Undo the first step of a confirmation.

    Raises ``NotFoundError`` or ``ResourceNotModifiableError`` if the file was deleted or confirmed meanwhile,
    ``ConflictError`` if it is being verified.
    """
    with sessions.begin() as db:
        current = db.scalars(select(File).where(File.id == file.id).with_for_update()).one_or_none()
        if current is None or current.state == FileState.DELETING:
            raise NotFoundError
        if current.state == FileState.CONFIRMED:
            raise not_modifiable(current)
        if current.state in (FileState.VERIFYING, FileState.FAILED):
            raise busy(current)
        if not is_same_upload(current, file):
            raise upload_replaced(file)
        # Another attempt may have undone this one already, and a third begun with other values.
        if (current.name, current.checksum) == (file.name, file.checksum):
            return_to_announced(current)
            after = {"checksum": file.checksum, "reason": reason}
            audit.record_event(db, "file.refused", actor=actor, entity=current, after=after)
