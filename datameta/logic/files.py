"""Files: announced, sent, confirmed, read, deleted.

The rule: a file is confirmed only after the store has fixed the announced bytes, and the row says so
only after that. Every call to the store stands between two short transactions; the first says what
is about to happen, so that ``logic/sweep.py`` can finish or undo it after a crash. Bytes without a
row are harmless and swept; a confirmed row without its bytes never comes about.
"""

import hmac
import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, joinedload, sessionmaker

from datameta.authz import Actor, may_change_file, may_view_file
from datameta.clock import to_wire, utc_now
from datameta.credentials import hash_token, make_token
from datameta.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    Problem,
    ResourceNotModifiableError,
    TooLargeError,
    UnavailableError,
    ValidationError,
)
from datameta.identifiers import any_of, find_by_id, insert_with_site_ids, matches_ids, to_identifier
from datameta.logic import audit
from datameta.logic.metadatasets import refuse_unknown
from datameta.models import DownloadToken, File, FileState
from datameta.paging import make_cursor, parse_cursor
from datameta.settings import Settings
from datameta.storage import (
    ChecksumMismatchError,
    NoDataError,
    Storage,
    StorageUnavailableError,
    UploadGoneError,
)

log = logging.getLogger(__name__)

MAX_NAME_LENGTH = 255
MAX_NAME_BYTES = 1000
EXISTING = (FileState.ANNOUNCED, FileState.CONFIRMING, FileState.CONFIRMED)
OPEN = (FileState.ANNOUNCED, FileState.CONFIRMING)
_BIDI_OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")


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
    name: str,
    checksum: str,
) -> Upload:
    """Announce a file and open its upload; it exists from the commit of ``db`` on, and is swept without.

    Raises ``ValidationError`` for a name or checksum that is none, ``UnavailableError``.
    """
    problems = [*check_name(name), *check_checksum(checksum)]
    if problems:
        raise ValidationError(problems)
    token, token_hash, expires_at = _make_upload_token(settings)
    row = {
        "user_id": actor.id,
        "name": name,
        "checksum": checksum.lower(),
        "state": FileState.NEW,
        "upload_token_hash": token_hash,
        "upload_expires_at": expires_at,
    }
    with sessions.begin() as before:
        [file] = insert_with_site_ids(before, File, settings.id_files, [row])
    try:
        with store_errors():
            file.upload = storage.begin_upload(file.upload_key, file.checksum)
        upload = _make_upload(file, token, storage, settings)
    except UnavailableError:
        if file.upload is not None:
            _try_store(storage.abort, file.upload_key, file.upload)
        with sessions.begin() as after:
            after.execute(delete(File).where(File.id == file.id))
        raise
    log.info("upload of file %s opened for user %s", file.uuid, actor.uuid)
    db.execute(
        update(File)
        .where(File.id == file.id)
        .values(upload=file.upload, state=FileState.ANNOUNCED, state_changed_at=func.now())
    )
    audit.record_event(db, "file.announced", actor=actor, entity=file, after=describe(file))
    return upload


def renew_upload(
    sessions: sessionmaker[Session], actor: Actor, *, storage: Storage, settings: Settings, file_id: str
) -> Upload:
    """Give the owner a fresh address for an upload that is still open; former tokens of the portal end.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError`` once it is confirmed,
    ``GoneError`` when its time is over.
    """
    token, token_hash, expires_at = _make_upload_token(settings)
    with sessions.begin() as db:
        file = _lock_changeable(db, actor, file_id)
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
    file is confirmed, ``TooLargeError``; whatever ``chunks`` raises leaves the former content.
    """
    with sessions() as db:
        file = _find_receivable(db, file_id, token)
    try:
        with store_errors():
            storage.write(file.upload_key, file.upload or "", _limit_bytes(chunks, settings.upload_max_bytes))
    except UploadGoneError:
        with sessions() as db:
            file = _find_receivable(db, file_id, token)
        if file.state == FileState.CONFIRMING:
            raise _confirmation_runs() from None
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
) -> File:
    """Change what was announced, and with ``content_uploaded`` confirm the file; all of it or nothing.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError`` once it is confirmed,
    ``ValidationError`` (also: nothing was sent), ``ConflictError`` (what was sent differs), ``UnavailableError``.
    """
    problems = [
        *(check_name(name) if name is not None else ()),
        *(check_checksum(checksum) if checksum is not None else ()),
    ]
    with sessions.begin() as db:
        file = _lock_changeable(db, actor, file_id)
        if problems:
            raise ValidationError(problems)
        before = _Announced(file.name, file.checksum)
        after = _Announced(name or file.name, checksum.lower() if checksum else file.checksum)
        if after != before and file.state == FileState.CONFIRMING:
            raise _confirmation_runs()
        is_other_kind = len(after.checksum) != len(before.checksum)
        if is_other_kind and content_uploaded:
            message = "A checksum of the other kind begins the upload anew. Change it first, then send the bytes."
            raise ValidationError(Problem(message, "no_data", "checksum", to_identifier(file)))
        if not is_other_kind:
            file.name, file.checksum = after.name, after.checksum
        if content_uploaded:
            _set_state(file, FileState.CONFIRMING)
        elif after != before and not is_other_kind:
            audit.record_event(db, "file.changed", actor=actor, entity=file, before=asdict(before), after=asdict(after))
    if is_other_kind:
        return _reopen_upload(sessions, actor, storage, file, after)
    if content_uploaded:
        return finish_confirmation(sessions, storage, file, actor=actor, before=before)
    return file


def finish_confirmation(
    sessions: sessionmaker[Session],
    storage: Storage,
    file: File,
    *,
    actor: Actor | None = None,
    before: "_Announced | None" = None,
) -> File:
    """Bring a file in state ``confirming`` to its end: ``confirmed``, or back to ``announced``.

    May run any number of times, at once or after a crash. ``actor`` is who wants it (None: the
    sweeper), ``before`` what the file returns to if the confirmation fails. Raises as ``update_file``.
    """
    try:
        with store_errors():
            stored = storage.complete(file.upload_key, file.upload or "", file.checksum)
    except NoDataError:
        _return_to_announced(sessions, file, actor, before, "no_data")
        message = "No data was uploaded yet for this file."
        raise ValidationError(Problem(message, "no_data", "contentUploaded", to_identifier(file))) from None
    except ChecksumMismatchError:
        _return_to_announced(sessions, file, actor, before, "checksum_mismatch")
        message = "The checksum of the uploaded data is not the announced one. Upload the file again, or correct it."
        raise ConflictError(Problem(message, "checksum_mismatch", "checksum", to_identifier(file))) from None
    except UploadGoneError:
        _return_to_announced(sessions, file, actor, before, "upload_expired")
        message = "The store has ended this upload. Delete the file and announce it again."
        raise ConflictError(Problem(message, "upload_expired", entity=to_identifier(file))) from None
    with sessions.begin() as db:
        current = db.scalars(select(File).where(File.id == file.id).with_for_update()).one_or_none()
        if current is not None and current.state in OPEN:
            current.name, current.checksum = file.name, file.checksum
            current.storage_key = stored.key
            current.size = stored.size
            current.confirmed_at = func.now()
            _set_state(current, FileState.CONFIRMED)
            db.flush()
            db.refresh(current)
            audit.record_event(
                db,
                "file.confirmed",
                actor=actor,
                entity=current,
                before=None if before is None else asdict(before),
                after={**describe(current), "size": stored.size, "storage_key": stored.key},
            )
            log.info("file %s confirmed, %d bytes at %s", current.uuid, stored.size, stored.key)
    if current is None or current.state == FileState.DELETING:
        # It was deleted meanwhile; whatever a crash leaves here the sweeper removes.
        _try_store(storage.delete, stored.key)
        raise NotFoundError
    if current.storage_key != stored.key:
        _try_store(storage.delete, stored.key)
    _try_store(storage.abort, file.upload_key, file.upload or "")
    return current


def delete_files(sessions: sessionmaker[Session], actor: Actor, *, storage: Storage, file_ids: Sequence[str]) -> None:
    """Delete files of the actor's that are not submitted, all or none; their bytes go after the commit.

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
    for file in found:
        finish_deletion(sessions, storage, file)


def finish_deletion(sessions: sessionmaker[Session], storage: Storage, file: File) -> bool:
    """Remove the bytes and then the row of a file in state ``deleting``; say whether that succeeded."""
    try:
        if file.upload is not None:
            storage.abort(file.upload_key, file.upload)
        for key in {file.upload_key, file.storage_key or file.upload_key}:
            storage.delete(key)
    except StorageUnavailableError:
        log.warning("the bytes of deleted file %s remain until the next sweep", file.uuid)
        return False
    with sessions.begin() as db:
        db.execute(delete(File).where(File.id == file.id, File.state == FileState.DELETING))
    log.info("file %s deleted", file.uuid)
    return True


def make_download(
    db: Session, actor: Actor, *, storage: Storage, settings: Settings, file_id: str, minutes: int
) -> Download:
    """Return a temporary address for the bytes of a confirmed file.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ValidationError`` before the confirmation.
    """
    file = get_file(db, actor, file_id=file_id)
    if file.storage_key is None:
        raise ValidationError(Problem("The file is not confirmed yet.", "not_confirmed", entity=to_identifier(file)))
    expires_at = utc_now() + timedelta(minutes=minutes)
    audit.record_event(db, "file.url_issued", actor=actor, entity=file, after={"until": to_wire(expires_at)})
    if storage.is_direct:
        with store_errors():
            presigned = storage.presign_download(
                file.storage_key, disposition=make_disposition(file.name), seconds=minutes * 60
            )
        return Download(file, presigned.url, expires_at)
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


def describe(file: File) -> dict[str, str]:
    """Return what the audit says of a file."""
    return {"name": file.name, "checksum": file.checksum}


def is_bound(file: File) -> bool:
    """Say whether the file is part of a submission or of a service's answer."""
    return file.submission_id is not None or file.service_execution_id is not None


def check_name(name: str) -> list[Problem]:
    """Return what is wrong with a file name; it is data, and never part of a path here."""

    def refuse(message: str) -> list[Problem]:
        return [Problem(message, "invalid_name", field="name")]

    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        return refuse(f"A file name has 1 to {MAX_NAME_LENGTH} characters.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name) or _BIDI_OVERRIDES.search(name):
        return refuse("A file name has no control characters.")
    if len(name.encode()) > MAX_NAME_BYTES:
        return refuse(f"A file name has at most {MAX_NAME_BYTES:,} bytes in UTF-8.")
    if "/" in name or "\\" in name or name in (".", ".."):
        return refuse("A file name is no path: leave out folders.")
    if name != name.strip():
        return refuse("A file name does not begin or end with a space.")
    return []


def check_checksum(checksum: str) -> list[Problem]:
    """Return what is wrong with a checksum."""
    if re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{64}", checksum):
        return []
    message = "The checksum is the MD5 (32 hexadecimal digits) or the SHA-256 (64) of the file's content."
    return [Problem(message, "invalid_checksum", field="checksum")]


def make_disposition(name: str) -> str:
    """Return the Content-Disposition that saves a file under ``name`` (RFC 6266, RFC 8187)."""
    plain = re.sub(r"[^ !#-$&-\[\]-~]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn a store that does not answer into ``UnavailableError``."""
    try:
        yield
    except StorageUnavailableError as error:
        log.warning("the store does not answer: %s", error)
        raise UnavailableError from None


@dataclass(frozen=True)
class _Announced:
    """What the owner may still change of a file."""

    name: str
    checksum: str


def _lock_changeable(db: Session, actor: Actor, file_id: str) -> File:
    file = find_by_id(db, File, file_id, lock=True)
    if file.state not in EXISTING:
        raise NotFoundError
    if not may_change_file(actor, file):
        raise ForbiddenError
    if file.state == FileState.CONFIRMED:
        raise _not_modifiable(file)
    return file


def _not_modifiable(file: File) -> ResourceNotModifiableError:
    message = "The file is part of a submission." if is_bound(file) else "The file is confirmed already."
    return ResourceNotModifiableError(Problem(message, "not_modifiable", entity=to_identifier(file)))


def _confirmation_runs() -> ConflictError:
    return ConflictError("The file is being confirmed at this moment; try again.", code="confirmation_running")


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


def _make_upload_token(settings: Settings) -> tuple[str, bytes, datetime]:
    token = make_token()
    return token, hash_token(token), utc_now() + timedelta(hours=settings.upload_hours)


def _make_upload(file: File, token: str, storage: Storage, settings: Settings) -> Upload:
    if storage.is_direct:
        with store_errors():
            presigned = storage.presign_upload(
                file.upload_key, file.upload or "", file.checksum, seconds=settings.upload_hours * 3600
            )
        return Upload(file, presigned.url, presigned.headers, file.upload_expires_at)
    url = f"{settings.base_url}/api/v1/upload/{file.uuid}"
    return Upload(file, url, {"Access-Token": token}, file.upload_expires_at)


def _set_state(file: File, state: FileState) -> None:
    file.state = state
    file.state_changed_at = func.now()


def _reopen_upload(
    sessions: sessionmaker[Session], actor: Actor, storage: Storage, file: File, after: _Announced
) -> File:
    """Change to a checksum of the other kind, which the store treats differently: with another upload."""
    with store_errors():
        upload = storage.begin_upload(file.upload_key, after.checksum)
    with sessions.begin() as db:
        current = _lock_changeable(db, actor, str(file.uuid))
        if current.state == FileState.CONFIRMING:
            # The upload just begun is not that of the row, and so it is swept.
            raise _confirmation_runs()
        former, current.upload = current.upload, upload
        before = describe(current)
        current.name, current.checksum = after.name, after.checksum
        audit.record_event(db, "file.changed", actor=actor, entity=current, before=before, after=asdict(after))
    if former is not None and former != upload:
        _try_store(storage.abort, file.upload_key, former)
    return current


def _return_to_announced(
    sessions: sessionmaker[Session], file: File, actor: Actor | None, before: _Announced | None, reason: str
) -> None:
    """Undo the first step of a confirmation.

    Raises ``NotFoundError`` or ``ResourceNotModifiableError`` if the file was deleted or confirmed meanwhile.
    """
    with sessions.begin() as db:
        current = db.scalars(select(File).where(File.id == file.id).with_for_update()).one_or_none()
        if current is None or current.state == FileState.DELETING:
            raise NotFoundError
        if current.state == FileState.CONFIRMED:
            raise _not_modifiable(current)
        # Another attempt may have undone this one already, and a third begun with other values.
        if (current.name, current.checksum) == (file.name, file.checksum):
            _set_state(current, FileState.ANNOUNCED)
            after = {"checksum": file.checksum, "reason": reason}
            audit.record_event(db, "file.refused", actor=actor, entity=current, after=after)
            if before is not None:
                current.name, current.checksum = before.name, before.checksum


def _try_store(action: Callable[..., None], *arguments: str) -> None:
    """Do what would be nice to have done now; the sweeper does it later otherwise."""
    try:
        action(*arguments)
    except StorageUnavailableError:
        log.warning("the store did not answer while cleaning up %s; the sweeper will", arguments[0])


def _limit_bytes(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise TooLargeError(f"A file sent this way has at most {limit:,} bytes.")
        yield chunk
