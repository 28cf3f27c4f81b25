"""Files: announced, sent, confirmed, read, deleted.

The rule: a file is confirmed only after the store has fixed the announced bytes, and the row says so
only after that. Every call to the store stands between two short transactions; the first says what
is about to happen, so that ``logic/sweep.py`` can finish or undo it after a crash. Bytes without a
row are harmless and swept; a confirmed row without its bytes never comes about.
"""

import hmac
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, joinedload, sessionmaker

from datameta.authz import Actor, may_change_file, may_view_file
from datameta.batches import make_rows
from datameta.clock import to_wire, utc_now
from datameta.crash import crash_point
from datameta.credentials import hash_token, make_token
from datameta.errors import (
    ConflictError,
    DataMetaError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    Problem,
    ResourceNotModifiableError,
    UnavailableError,
    ValidationError,
)
from datameta.identifiers import any_of, find_by_id, insert_many_with_site_ids, matches_ids, to_identifier
from datameta.logic import audit
from datameta.logic.bulk import Outcome, list_outcomes, refuse_all
from datameta.logic.confirmation import (
    await_verification,
    begin_verification,
    finish_confirmation,
    verify_at_once,
)
from datameta.logic.file_names import check_checksum, check_name, make_disposition
from datameta.logic.file_rows import (
    EXISTING,
    Announced,
    busy,
    checksum_mismatch,
    describe,
    is_bound,
    is_same_upload,
    limit_bytes,
    lock_changeable,
    make_suffix,
    set_state,
    store_errors,
    try_store,
    upload_replaced,
)
from datameta.logic.metadatasets import refuse_unknown
from datameta.logic.quotas import find_full_quotas
from datameta.logic.verification import UNREADABLE
from datameta.models import DownloadToken, File, FileState
from datameta.paging import make_cursor, parse_cursor
from datameta.settings import Settings
from datameta.storage import Storage, StorageUnavailableError, UploadGoneError

log = logging.getLogger(__name__)


OPENERS = 16
"""So many uploads of one call are opened at the same time."""


@dataclass(frozen=True)
class Announcement:
    """What is said of a file before it is sent; ``size`` is in bytes, if it is known yet."""

    name: str
    checksum: str
    size: int | None = None


@dataclass(frozen=True)
class Upload:
    """How a client sends the bytes of a file: where to, with which headers, until when."""

    file: File
    url: str
    headers: dict[str, str]
    expires_at: datetime


@dataclass(frozen=True)
class Download:
    """A temporary address of a file's bytes."""

    file: File
    url: str
    expires_at: datetime


def announce_file(
    db: Session,
    actor: Actor,
    *,
    sessions: sessionmaker[Session],
    storage: Storage,
    settings: Settings,
    file: Announcement,
) -> Upload:
    """Announce a file and open its upload; it exists from the commit of ``db`` on, and is swept without.

    Raises ``ValidationError`` for a name or checksum that is none, ``TooLargeError`` where there is no room for it,
    ``UnavailableError``.
    """
    [outcome] = announce_files(
        db, actor, sessions=sessions, storage=storage, settings=settings, files=[file], only_good=True
    )
    if outcome.error is not None:
        raise outcome.error
    assert outcome.made is not None, "neither made nor refused"
    return outcome.made


def announce_files(
    db: Session,
    actor: Actor,
    *,
    sessions: sessionmaker[Session],
    storage: Storage,
    settings: Settings,
    files: Sequence[Announcement],
    only_good: bool,
) -> list[Outcome[Upload]]:
    """Announce files as ``announce_file`` does, all or none; with ``only_good`` those that are right and have room.

    Raises ``ValidationError`` or ``TooLargeError`` (without ``only_good``) with everything that is wrong, each with the
    number of its file; ``UnavailableError``, and then none is announced.
    """
    errors: dict[int, DataMetaError] = {}
    for number, file in enumerate(files):
        if problems := [*check_name(file.name), *check_checksum(file.checksum)]:
            errors[number] = ValidationError(problems)
    if errors and not only_good:
        refuse_all(errors, place="files")
    expires_at = utc_now() + timedelta(hours=settings.upload_hours)
    with sessions.begin() as before:
        right = [number for number in range(len(files)) if number not in errors]
        full = find_full_quotas(before, actor, sizes=[files[number].size for number in right])
        errors |= {number: error for number, error in zip(right, full, strict=True) if error is not None}
        if errors and not only_good:
            refuse_all(errors, place="files")
        good = [file for number, file in enumerate(files) if number not in errors]
        rows = _insert_announced(before, actor, good, settings=settings, expires_at=expires_at)
    announced = [row for row, _ in rows]
    crash_point("announce.after_row")
    try:
        with store_errors():
            _open_uploads(storage, announced)
        crash_point("announce.after_create")
        uploads = iter([_make_upload(row, token, storage, settings) for row, token in rows])
    except UnavailableError:
        _take_back(sessions, storage, announced)
        raise
    for row in announced:
        log.info("upload of file %s opened for user %s", row.uuid, actor.uuid)
    _set_announced(db, storage, announced)
    changes = [(row, None, describe(row)) for row in announced]
    audit.record_events(db, "file.announced", actor=actor, changes=changes)
    return list_outcomes(uploads, errors, count=len(files))


def renew_upload(
    sessions: sessionmaker[Session], actor: Actor, *, storage: Storage, settings: Settings, file_id: str
) -> Upload:
    """Give the owner a fresh address for an upload that is still open; former tokens of the portal end.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError`` once it is confirmed,
    ``ConflictError`` while it is sent in parts, ``GoneError`` when its time is over.
    """
    token, token_hash, expires_at = _make_upload_token(settings)
    with sessions.begin() as db:
        file = lock_changeable(db, actor, file_id)
        if file.part_size is not None:
            message = "This file is sent in parts. Delete its upload session first to send it in one piece."
            raise ConflictError(message, code="session_open")
        if file.upload_expires_at <= db.scalars(select(func.now())).one():
            raise GoneError("The time to upload this file is over; announce it again.")
        before, after = ({"until": to_wire(instant)} for instant in (file.upload_expires_at, expires_at))
        file.upload_token_hash = token_hash
        file.upload_expires_at = expires_at
        audit.record_event(db, "file.changed", actor=actor, entity=file, before=before, after=after)
    return _make_upload(file, token, storage, settings)


def receive_upload(
    sessions: sessionmaker[Session],
    *,
    storage: Storage,
    settings: Settings,
    file_id: str,
    token: str,
    chunks: Iterable[bytes],
) -> None:
    """Take the bytes of a file through the portal; they replace what was sent before.

    Raises ``NotFoundError`` for an unknown id and a wrong or expired token, ``ConflictError`` once the
    file is confirmed or for fewer bytes than were announced, ``TooLargeError`` for more; whatever ``chunks``
    raises leaves the former content.
    """
    with sessions() as db:
        file = _find_receivable(db, file_id, token)
    try:
        with store_errors():
            storage.write(file.upload_key, file.upload or "", _check_length(file, chunks, settings))
    except UploadGoneError:
        with sessions() as db:
            file = _find_receivable(db, file_id, token)
        if file.state != FileState.ANNOUNCED:
            raise busy(file) from None
        raise NotFoundError("This upload is no longer open; announce the file again.", code="upload_expired") from None
    log.info("file %s received", file.uuid)


def get_file(db: Session, actor: Actor, *, file_id: str) -> File:
    """Load one file the actor may see.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    relations = (joinedload(File.user), joinedload(File.submission), joinedload(File.service_execution))
    file = find_by_id(db, File, file_id, *relations)
    if file.state not in EXISTING:
        raise NotFoundError
    if not may_view_file(actor, file):
        raise ForbiddenError
    return file


def list_staged(db: Session, actor: Actor, *, limit: int, cursor: str | None) -> tuple[Sequence[File], str | None]:
    """Return up to ``limit`` of the actor's files that are not submitted, newest first, and the next cursor.

    Raises ``ValidationError`` for an unknown cursor.
    """
    query = select(File).where(
        File.user_id == actor.id,
        File.submission_id.is_(None),
        File.service_execution_id.is_(None),
        File.state.in_(EXISTING),
    )
    if cursor is not None:
        query = query.where(File.id < parse_cursor(cursor, int)[0])
    rows = db.scalars(query.order_by(File.id.desc()).limit(limit + 1)).all()
    return rows[:limit], make_cursor(rows[limit - 1].id) if len(rows) > limit else None


def update_file(
    sessions: sessionmaker[Session],
    actor: Actor,
    *,
    storage: Storage,
    file_id: str,
    name: str | None = None,
    checksum: str | None = None,
    content_uploaded: bool = False,
    wait_seconds: float | None = None,
) -> File:
    """Change what was announced, and with ``content_uploaded`` confirm the file; all of it or nothing.

    Where the content has to be verified first, wait for that so long; with None the file may still be
    ``verifying``. What the verification of a session is judged by stays changed.
    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError`` once it is confirmed,
    ``ValidationError`` (also: nothing was sent), ``ConflictError`` (what was sent differs, parts are missing, or
    the verification goes on), ``UnavailableError``.
    """
    problems = [
        *(check_name(name) if name is not None else ()),
        *(check_checksum(checksum) if checksum is not None else ()),
    ]
    with sessions.begin() as db:
        file = lock_changeable(db, actor, file_id)
        if problems:
            raise ValidationError(problems)
        before = Announced(file.name, file.checksum)
        after = Announced(name or file.name, checksum.lower() if checksum else file.checksum)
        if after != before and file.state in (FileState.CONFIRMING, FileState.VERIFYING):
            raise busy(file)
        is_other_kind = file.part_size is None and len(after.checksum) != len(before.checksum)
        if is_other_kind and content_uploaded:
            message = "A checksum of the other kind begins the upload anew. Change it first, then send the bytes."
            raise ValidationError(Problem(message, "no_data", "checksum", to_identifier(file)))
        if not is_other_kind:
            file.name, file.checksum = after.name, after.checksum
        if content_uploaded:
            _begin_confirmation(db, file)
            if after != before and file.state == FileState.CONFIRMING:
                file.former = asdict(before)
        elif after != before and not is_other_kind:
            audit.record_event(db, "file.changed", actor=actor, entity=file, before=asdict(before), after=asdict(after))
    if is_other_kind:
        return _reopen_upload(sessions, actor, storage, file, after)
    if content_uploaded and file.state == FileState.CONFIRMING:
        crash_point("confirm.after_intent")
        file = finish_confirmation(sessions, storage, file, actor=actor)
    elif content_uploaded and file.state == FileState.VERIFYING:
        # Who was at it may have died.
        verify_at_once(sessions, storage, file, actor=actor)
    if content_uploaded and file.state == FileState.VERIFYING and wait_seconds is not None:
        return await_verification(sessions, file, seconds=wait_seconds)
    return file


def delete_files(sessions: sessionmaker[Session], actor: Actor, *, storage: Storage, file_ids: Sequence[str]) -> None:
    """Delete files of the actor's that are not submitted, all or none.

    What was sent goes after the commit, confirmed content when no backup that may be restored needs it any more.

    Raises ``NotFoundError``, ``ForbiddenError`` or ``ResourceNotModifiableError`` naming each file.
    """
    with sessions.begin() as db:
        query = select(File).where(matches_ids(File, file_ids), File.state.in_(EXISTING)).order_by(File.id)
        found = db.scalars(query.with_for_update()).all()
        refuse_unknown(file_ids, found)
        foreign = [file for file in found if not may_change_file(actor, file)]
        if foreign:
            raise ForbiddenError(
                Problem("This file belongs to somebody else.", "forbidden", entity=to_identifier(file))
                for file in foreign
            )
        bound = [file for file in found if is_bound(file)]
        if bound:
            raise ResourceNotModifiableError(
                Problem("This file is part of a submission.", "not_modifiable", entity=to_identifier(file))
                for file in bound
            )
        if found:
            db.execute(
                update(File)
                .where(File.id == any_of([file.id for file in found]))
                .values(state=FileState.DELETING, state_changed_at=func.now())
                .execution_options(synchronize_session=False)
            )
            changes = [(file, {**describe(file), "state": str(file.state)}, None) for file in found]
            audit.record_events(db, "file.deleted", actor=actor, changes=changes)
    crash_point("delete.after_intent")
    finish_deletions(sessions, storage, found)


def finish_deletion(sessions: sessionmaker[Session], storage: Storage, file: File) -> bool:
    """Remove what was sent and then the row of a file in state ``deleting``; say whether that succeeded."""
    return finish_deletions(sessions, storage, [file]) == 1


def finish_deletions(sessions: sessionmaker[Session], storage: Storage, files: Sequence[File]) -> int:
    """Remove what was sent and then the rows of files in state ``deleting``; return for how many that succeeded."""
    emptied = [file for file in files if _delete_bytes(storage, file)]
    if emptied:
        crash_point("delete.after_bytes")
        is_emptied = File.id == any_of([file.id for file in emptied])
        with sessions.begin() as db:
            db.execute(
                delete(File)
                .where(is_emptied, File.state == FileState.DELETING)
                .execution_options(synchronize_session=False)
            )
    for file in emptied:
        log.info("file %s deleted", file.uuid)
    return len(emptied)


def make_download(
    db: Session, actor: Actor, *, storage: Storage, settings: Settings, file_id: str, minutes: int
) -> Download:
    """Return a temporary address for the bytes of a confirmed file.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ValidationError`` before the confirmation.
    """
    file = get_file(db, actor, file_id=file_id)
    if file.state != FileState.CONFIRMED or file.storage_key is None:
        raise ValidationError(Problem("The file is not confirmed yet.", "not_confirmed", entity=to_identifier(file)))
    expires_at = utc_now() + timedelta(minutes=minutes)
    audit.record_event(db, "file.url_issued", actor=actor, entity=file, after={"until": to_wire(expires_at)})
    if storage.is_direct:
        with store_errors():
            presigned = storage.presign_download(
                file.storage_key, disposition=make_disposition(file.name), seconds=minutes * 60
            )
        return Download(file, presigned.url, presigned.expires_at)
    token = make_token()
    db.add(DownloadToken(token_hash=hash_token(token), file_id=file.id, expires_at=expires_at))
    return Download(file, f"{settings.base_url}/api/v1/download/{token}", expires_at)


def read_content(storage: Storage, file: File, start: int, stop: int) -> Iterator[bytes]:
    """Return the bytes of a confirmed file from ``start`` up to ``stop`` (exclusive), in chunks.

    Raises ``NotFoundError`` if they were deleted a moment ago, ``UnavailableError``.
    """
    assert file.storage_key is not None
    try:
        with store_errors():
            return storage.read(file.storage_key, start, stop)
    except FileNotFoundError:
        log.error("the store has no content of file %s", file.uuid)
        raise NotFoundError("The content of this file is not in the store.") from None


def find_download(db: Session, *, token: str) -> File:
    """Return the confirmed file that a download address of the portal stands for.

    Raises ``NotFoundError``, ``GoneError`` after it expired.
    """
    query = select(File, DownloadToken.expires_at > func.now()).join(DownloadToken, DownloadToken.file_id == File.id)
    row = db.execute(query.where(DownloadToken.token_hash == hash_token(token))).one_or_none()
    if row is None:
        raise NotFoundError
    file, is_live = row
    if not is_live:
        raise GoneError("This download address has expired; ask for a new one.")
    if file.state != FileState.CONFIRMED:
        raise NotFoundError
    return file


def _begin_confirmation(db: Session, file: File) -> None:
    """Say in a locked row that it is being confirmed, unless its content is read already.

    What has failed may have changed since, in the store, and is read again. Raises ``ConflictError`` for content
    that was read and is not what is announced now.
    """
    if file.state == FileState.VERIFYING:
        return
    if file.state != FileState.FAILED:
        set_state(file, FileState.CONFIRMING)
    elif file.checksum in (file.md5, file.sha256) or file.problem == UNREADABLE:
        begin_verification(db, file)
    else:
        raise checksum_mismatch(file)


def _find_receivable(db: Session, file_id: str, token: str) -> File:
    # The ids of uploads are not checked against the specification, and PostgreSQL takes no NUL.
    if "\0" in file_id:
        raise NotFoundError
    file = find_by_id(db, File, file_id)
    if file.state not in EXISTING or not hmac.compare_digest(file.upload_token_hash or b"", hash_token(token)):
        raise NotFoundError("There is no upload with this id and Access-Token.")
    if file.state == FileState.CONFIRMED:
        raise ConflictError("The file is confirmed already; its content can't change.", code="already_confirmed")
    if file.upload_expires_at <= db.scalars(select(func.now())).one():
        raise NotFoundError("The time to upload this file is over; announce it again.", code="upload_expired")
    return file


def _check_length(file: File, chunks: Iterable[bytes], settings: Settings) -> Iterator[bytes]:
    """Yield the chunks of a single upload.

    Raises ``TooLargeError`` before too many bytes have passed, ``ConflictError`` if they end too soon.
    """
    size, total = file.announced_size, 0
    most = settings.upload_max_bytes if size is None else min(size, settings.upload_max_bytes)
    for chunk in limit_bytes(chunks, most):
        total += len(chunk)
        yield chunk
    if size not in (None, total):
        raise ConflictError(f"The file was announced with {size:,} bytes.", code="size_mismatch")


def _delete_bytes(storage: Storage, file: File) -> bool:
    """Remove what was sent to a file, and what was never confirmed; say whether that succeeded.

    Content that was confirmed once may be in a backup of the database: it stays, and is removed like all that no
    row needs (``logic/sweep.py``), counted from its deletion.
    """
    try:
        if file.upload is not None:
            storage.abort(file.upload_key, file.upload)
        if file.storage_key is not None and file.confirmed_at is None:
            storage.delete(file.storage_key)
    except StorageUnavailableError:
        log.warning("the bytes of deleted file %s remain until the next sweep", file.uuid)
        return False
    return True


def _insert_announced(
    db: Session, actor: Actor, files: Sequence[Announcement], *, settings: Settings, expires_at: datetime
) -> list[tuple[File, str]]:
    """Insert files as ``new``; return each as the row is, though no session knows it, with the token of its upload."""
    common = {"user_id": actor.id, "state": FileState.NEW, "upload_expires_at": expires_at}
    tokens = [make_token() for _ in files]
    rows = [
        {
            "name": file.name,
            "checksum": file.checksum.lower(),
            "upload_token_hash": hash_token(token),
            "announced_size": file.size,
        }
        for file, token in zip(files, tokens, strict=True)
    ]
    inserted = insert_many_with_site_ids(db, File, settings.id_files, rows, common=common)
    return [
        (File(id=made.id, uuid=made.uuid, site_id=made.site_id, upload_suffix="", **common, **row), token)
        for made, row, token in zip(inserted, rows, tokens, strict=True)
    ]


def _open_uploads(storage: Storage, files: Sequence[File]) -> None:
    """Open the uploads of files at the store, some at a time, and note them in the files."""

    def open_upload(file: File) -> None:
        file.upload = storage.begin_upload(file.upload_key, file.checksum)

    if len(files) == 1:
        open_upload(files[0])
        return
    with ThreadPoolExecutor(OPENERS) as pool:
        for _ in pool.map(open_upload, files):
            pass


def _set_announced(db: Session, storage: Storage, files: Sequence[File]) -> None:
    """Make files with an open upload ``announced``.

    Raises ``UnavailableError`` if the store took so long that one of the rows was swept.
    """
    if not files:
        return
    opened = make_rows(File, [{"id": file.id, "upload": file.upload} for file in files])
    statement = (
        update(File)
        .where(File.id == opened.c.id, File.state == FileState.NEW)
        .values(upload=opened.c.upload, state=FileState.ANNOUNCED, state_changed_at=func.now())
        .returning(File.id)
        .execution_options(synchronize_session=False)
    )
    announced = set(db.scalars(statement))
    swept = [file for file in files if file.id not in announced]
    for file in swept:
        try_store(storage.abort, file.upload_key, file.upload or "")
    if swept:
        raise UnavailableError


def _take_back(sessions: sessionmaker[Session], storage: Storage, files: Sequence[File]) -> None:
    """Remove files that were never announced; the sweeper does so where the store does not close their uploads now."""
    opened = [file for file in files if file.upload is not None]
    with sessions.begin() as db:
        unopened = [file.id for file in files if file.upload is None]
        if unopened:
            db.execute(delete(File).where(File.id == any_of(unopened)))
        if opened:
            rows = make_rows(File, [{"id": file.id, "upload": file.upload} for file in opened])
            db.execute(
                update(File)
                .where(File.id == rows.c.id)
                .values(upload=rows.c.upload, state=FileState.DELETING, state_changed_at=func.now())
                .execution_options(synchronize_session=False)
            )
    for file in opened:
        if not finish_deletion(sessions, storage, file):
            break


def _make_upload_token(settings: Settings) -> tuple[str, bytes, datetime]:
    token = make_token()
    return token, hash_token(token), utc_now() + timedelta(hours=settings.upload_hours)


def _make_upload(file: File, token: str, storage: Storage, settings: Settings) -> Upload:
    if storage.is_direct:
        with store_errors():
            presigned = storage.presign_upload(
                file.upload_key,
                file.upload or "",
                file.checksum,
                seconds=settings.upload_hours * 3600,
                size=file.announced_size,
            )
        return Upload(file, presigned.url, presigned.headers, min(file.upload_expires_at, presigned.expires_at))
    url = f"{settings.base_url}/api/v1/upload/{file.uuid}"
    return Upload(file, url, {"Access-Token": token}, file.upload_expires_at)


def _reopen_upload(
    sessions: sessionmaker[Session], actor: Actor, storage: Storage, file: File, after: Announced
) -> File:
    """Change to a checksum of the other kind, which the store treats differently: with another upload."""
    suffix = make_suffix()
    begun = file.make_key(suffix)
    with store_errors():
        upload = storage.begin_upload(begun, after.checksum)
    with sessions.begin() as db:
        current = lock_changeable(db, actor, str(file.uuid))
        if current.state != FileState.ANNOUNCED:
            # The upload just begun is not that of the row, and so it is swept.
            raise busy(current)
        needless = (begun, upload)
        # Another request may have made the same change, and bytes may have come since.
        if is_same_upload(current, file):
            needless = (current.upload_key, current.upload or "")
            current.upload, current.upload_suffix = upload, suffix
        elif current.part_size is not None or len(current.checksum) != len(after.checksum):
            raise upload_replaced(current)
        before = describe(current)
        current.name, current.checksum = after.name, after.checksum
        audit.record_event(db, "file.changed", actor=actor, entity=current, before=before, after=asdict(after))
    try_store(storage.abort, *needless)
    return current
