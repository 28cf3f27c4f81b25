"""Upload sessions: one file sent in parts of a size the portal chose, in any order, from anywhere, over days.

What has arrived is the store's to say, and what should arrive the portal's: a client needs to remember
nothing. Each part is bound to the MD5 it was announced with, and only the portal can put the parts together.
"""

import hmac
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from datameta.authz import Actor, may_change_file
from datameta.clock import to_wire, utc_now
from datameta.crash import crash_point
from datameta.credentials import hash_token, make_token
from datameta.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    Problem,
    ResourceNotModifiableError,
    ValidationError,
)
from datameta.identifiers import any_of, find_by_id, to_identifier
from datameta.logic import audit
from datameta.logic.file_rows import (
    EXISTING,
    busy,
    limit_bytes,
    lock_changeable,
    make_suffix,
    set_state,
    store_errors,
    try_store,
)
from datameta.logic.files import update_file
from datameta.logic.parts import choose_part_size, count_parts, part_length
from datameta.logic.quotas import check_quotas
from datameta.models import File, FileState, UploadPart
from datameta.paging import make_cursor, parse_cursor
from datameta.settings import Settings
from datameta.storage import ChecksumMismatchError, Part, PresignedRequest, Storage, UploadGoneError

log = logging.getLogger(__name__)

LONGEST_URL = timedelta(days=7)
"""Longer no store signs an address for."""


@dataclass(frozen=True)
class PartUpload:
    """Where a part goes."""

    number: int
    request: PresignedRequest


def open_session(
    sessions: sessionmaker[Session], actor: Actor, *, storage: Storage, settings: Settings, file_id: str, size: int
) -> File:
    """Let an announced file of ``size`` bytes be sent in parts, instead of in one piece; or return it if it is.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError``, ``ConflictError`` if there is a
    session of another size or the upload is over, ``GoneError`` when its time is, ``TooLargeError`` where there is
    no room, ``UnavailableError``.
    """
    with sessions.begin() as db:
        file = lock_changeable(db, actor, file_id)
        _check_openable(db, file, size)
        if file.part_size is not None:
            return file
        check_quotas(db, actor, size=size - (file.announced_size or 0))
    suffix = make_suffix()
    begun = file.make_key(suffix)
    with store_errors():
        upload = storage.begin_parts(begun)
    crash_point("session.after_begin")
    with sessions.begin() as db:
        current = lock_changeable(db, actor, str(file.uuid))
        _check_openable(db, current, size)
        needless = (begun, upload)
        # Another request may have been faster; then its upload counts.
        if current.part_size is None:
            needless = (current.upload_key, current.upload or "")
            check_quotas(db, actor, size=size - (current.announced_size or 0))
            current.upload, current.upload_suffix, current.upload_token_hash = upload, suffix, None
            current.announced_size, current.part_size = size, choose_part_size(size)
            current.upload_expires_at = utc_now() + timedelta(days=settings.upload_session_days)
            after = {"size": size, "part_size": current.part_size, "until": to_wire(current.upload_expires_at)}
            audit.record_event(db, "file.session_opened", actor=actor, entity=current, after=after)
    crash_point("session.after_commit")
    try_store(storage.abort, *needless)
    return current


def get_session(db: Session, actor: Actor, *, file_id: str) -> File:
    """Load a file that is, or was, sent in parts, for its owner.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    file = find_by_id(db, File, file_id)
    if file.state not in EXISTING:
        raise NotFoundError
    if not may_change_file(actor, file):
        raise ForbiddenError
    if file.part_size is None:
        raise _no_session(file)
    return file


def abort_session(
    sessions: sessionmaker[Session], actor: Actor, *, storage: Storage, settings: Settings, file_id: str
) -> None:
    """Drop what was sent in parts; the file is announced, and can be sent in one piece or in another session.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError`` once it is confirmed,
    ``ConflictError`` while it is being verified, ``UnavailableError``.
    """
    with sessions.begin() as db:
        file = lock_changeable(db, actor, file_id)
        _check_abortable(file)
    suffix = make_suffix()
    with store_errors():
        upload = storage.begin_upload(file.make_key(suffix), file.checksum)
    with sessions.begin() as db:
        current = lock_changeable(db, actor, str(file.uuid))
        _check_abortable(current)
        former, content = (current.upload_key, current.upload or ""), current.storage_key
        current.upload, current.upload_suffix = upload, suffix
        current.part_size = current.announced_size = current.storage_key = current.size = None
        current.md5 = current.sha256 = current.problem = None
        current.verified_bytes = 0
        current.upload_expires_at = utc_now() + timedelta(hours=settings.upload_hours)
        set_state(current, FileState.ANNOUNCED)
        db.execute(delete(UploadPart).where(UploadPart.file_id == current.id))
        audit.record_event(db, "file.session_aborted", actor=actor, entity=current)
    crash_point("session.after_abort")
    try_store(storage.abort, *former)
    if content is not None:
        try_store(storage.delete, content)


def complete_session(
    sessions: sessionmaker[Session], actor: Actor, *, storage: Storage, file_id: str, checksum: str | None
) -> File:
    """Put the parts together and confirm the file, or let it be verified; again, once that is done, change nothing.

    ``checksum`` is that of the whole, if it was not known at the announcement. Raises as ``update_file``.
    """
    with sessions() as db:
        file = get_session(db, actor, file_id=file_id)
    if _is_confirmed_as(file, checksum):
        return file
    try:
        update_file(sessions, actor, storage=storage, file_id=file_id, checksum=checksum, content_uploaded=True)
        refusal = None
    except ResourceNotModifiableError as error:
        refusal = error
    with sessions() as db:
        file = get_session(db, actor, file_id=file_id)
    # Another completion may have been faster.
    if refusal is not None and not _is_confirmed_as(file, checksum):
        raise refusal
    return file


def list_parts(
    sessions: sessionmaker[Session], actor: Actor, *, storage: Storage, file_id: str, limit: int, cursor: str | None
) -> tuple[Sequence[Part], str | None]:
    """Return parts that have arrived as they were announced last, by number, and the next cursor; ≤ ``limit``.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ConflictError`` once the session is over, ``ValidationError``
    for an unknown cursor, ``UnavailableError``.
    """
    after = 0 if cursor is None else parse_cursor(cursor, int)[0]
    with sessions() as db:
        file = get_session(db, actor, file_id=file_id)
    if file.state != FileState.ANNOUNCED:
        raise _over(file)
    # A store may not take every number that a cursor can hold.
    after = min(after, count_parts(file))
    try:
        with store_errors():
            stored = list(islice(storage.list_parts(file.upload_key, file.upload or "", after=after), limit + 1))
    except UploadGoneError:
        raise _over(file) from None
    page = stored[:limit]
    with sessions() as db:
        query = select(UploadPart.number, UploadPart.md5).where(UploadPart.file_id == file.id)
        known = query.where(UploadPart.number == any_of([part.number for part in page])) if page else query.limit(0)
        announced = {row.number: row.md5 for row in db.execute(known)}
    arrived = [
        Part(part.number, part.size, announced[part.number])
        for part in page
        if part.number in announced and part.md5 in (None, announced[part.number])
    ]
    return arrived, make_cursor(page[-1].number) if len(stored) > limit else None


def announce_parts(
    sessions: sessionmaker[Session],
    actor: Actor,
    *,
    storage: Storage,
    settings: Settings,
    file_id: str,
    parts: Sequence[tuple[int, str]],
) -> tuple[list[PartUpload], datetime]:
    """Note the MD5 of parts, each (number, hex digest), and return where they go, and until when.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError``, ``ConflictError`` once the session
    is over, ``GoneError`` when its time is, ``ValidationError`` for numbers that are none or come twice,
    ``UnavailableError``.
    """
    token = make_token()
    token_hash = None if storage.is_direct else hash_token(token)
    with sessions.begin() as db:
        file = lock_changeable(db, actor, file_id)
        if file.part_size is None:
            raise _no_session(file)
        if file.state != FileState.ANNOUNCED:
            raise _over(file)
        now = db.scalars(select(func.now())).one()
        if file.upload_expires_at <= now:
            raise GoneError("The time to upload this file is over; announce it again.")
        rows = _check_numbers(file, parts)
        statement = insert(UploadPart).on_conflict_do_update(
            index_elements=["file_id", "number"],
            set_={"md5": insert(UploadPart).excluded.md5, "token_hash": insert(UploadPart).excluded.token_hash},
        )
        if rows:
            values = [{"file_id": file.id, "number": number, "md5": md5} for number, md5 in rows.items()]
            db.execute(statement, [{**row, "token_hash": token_hash} for row in values])
    expires_at = min(file.upload_expires_at, now + LONGEST_URL)
    seconds = max(1, int((expires_at - now).total_seconds()))
    uploads = []
    for number, md5 in rows.items():
        if storage.is_direct:
            with store_errors():
                request = storage.presign_part(
                    file.upload_key,
                    file.upload or "",
                    number,
                    md5=md5,
                    size=part_length(file, number),
                    seconds=seconds,
                )
        else:
            url = f"{settings.base_url}/api/v1/upload/{file.uuid}/{number}"
            request = PresignedRequest(url, {"Access-Token": token}, expires_at)
        uploads.append(PartUpload(number, request))
    return uploads, min([expires_at, *(upload.request.expires_at for upload in uploads)])


def receive_part(
    sessions: sessionmaker[Session],
    *,
    storage: Storage,
    file_id: str,
    number: int,
    token: str,
    chunks: Iterable[bytes],
) -> None:
    """Take the bytes of a part through the portal.

    Raises ``NotFoundError`` for an unknown part and a wrong or expired token, ``ConflictError`` once the session is
    over, ``TooLargeError``, ``ValidationError`` for other bytes than announced; what was sent before then stays.
    """
    with sessions() as db:
        file, md5 = _find_receivable(db, file_id, number, token)
    size = part_length(file, number)
    try:
        with store_errors():
            storage.write_part(
                file.upload_key, file.upload or "", number, limit_bytes(chunks, size), md5=md5, size=size
            )
    except ChecksumMismatchError:
        message = f"These are not the {size:,} bytes that were announced for this part; send it again."
        raise ValidationError(Problem(message, "part_mismatch")) from None
    except UploadGoneError:
        raise _over(file) from None
    crash_point("part.after_write")


def _is_confirmed_as(file: File, checksum: str | None) -> bool:
    return file.state == FileState.CONFIRMED and (checksum or file.checksum).lower() == file.checksum


def _check_openable(db: Session, file: File, size: int) -> None:
    if file.state == FileState.ANNOUNCED and file.upload_expires_at <= db.scalars(select(func.now())).one():
        raise GoneError("The time to upload this file is over; announce it again.")
    if file.part_size is not None and file.announced_size != size:
        message = (
            f"This file is being sent in parts, as one of {file.announced_size:,} bytes. Delete that session first."
        )
        raise ConflictError(message, code="session_exists")
    if file.part_size is None and file.announced_size not in (None, size):
        message = f"The file was announced with {file.announced_size:,} bytes."
        raise ConflictError(message, code="size_mismatch")
    if file.part_size is None and file.state != FileState.ANNOUNCED:
        raise busy(file)


def _check_abortable(file: File) -> None:
    if file.part_size is None:
        raise _no_session(file)
    if file.state not in (FileState.ANNOUNCED, FileState.FAILED):
        raise busy(file)


def _check_numbers(file: File, parts: Sequence[tuple[int, str]]) -> dict[int, str]:
    """Return MD5s by number.

    Raises ``ValidationError``.
    """
    count = count_parts(file)
    rows = {number: md5.lower() for number, md5 in parts}
    problems = [
        Problem(f"The file has {count} parts, and no part {number}.", "unknown_part", "parts")
        for number in rows
        if number > count
    ]
    if len(rows) < len(parts):
        problems.append(Problem("A part stands here twice.", "duplicate_part", "parts"))
    if problems:
        raise ValidationError(problems)
    return rows


def _find_receivable(db: Session, file_id: str, number: int, token: str) -> tuple[File, str]:
    # The ids of uploads are not checked against the specification, and PostgreSQL takes no NUL.
    if "\0" in file_id:
        raise NotFoundError
    file = find_by_id(db, File, file_id)
    part = db.get(UploadPart, (file.id, number))
    known = b"" if part is None else part.token_hash or b""
    if file.state not in EXISTING or part is None or not hmac.compare_digest(known, hash_token(token)):
        raise NotFoundError("There is no part with this number and Access-Token.")
    if file.state != FileState.ANNOUNCED:
        raise _over(file)
    if file.upload_expires_at <= db.scalars(select(func.now())).one():
        raise NotFoundError("The time to upload this file is over; announce it again.", code="upload_expired")
    return file, part.md5


def _no_session(file: File) -> NotFoundError:
    return NotFoundError(
        Problem("This file is not sent in parts; open a session first.", "no_session", entity=to_identifier(file))
    )


def _over(file: File) -> ConflictError:
    if file.state in (FileState.CONFIRMING, FileState.VERIFYING):
        return busy(file)
    message = "This session takes no parts any more: what was sent is complete, or the store has dropped it."
    return ConflictError(Problem(message, "session_over", entity=to_identifier(file)))
