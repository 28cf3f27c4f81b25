"""The sweeper: finishes or undoes what a crash, a lost client or a silent store has left half done.

It runs at any time, any number of times, one at a time for the whole installation. It undoes nothing
that a client was told of, and never touches the content of a confirmed file. Instants of rows are
compared with the database's clock.

===========================  =======================================================
what is found                what is done
===========================  =======================================================
new for 10 minutes           removed: the client never got an answer
confirming for 2 minutes     confirmed again, to either end
deleting for 2 minutes       bytes and row removed
announced, expired 1 hour    removed: its upload takes no bytes any more
upload or object, no row     removed once it is 48 hours old
download address, expired    removed
===========================  =======================================================
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.orm import Session, sessionmaker

from datameta.clock import as_utc, utc_now
from datameta.errors import DataMetaError
from datameta.identifiers import parse_uuid
from datameta.logic import audit
from datameta.logic.files import describe, finish_confirmation, finish_deletion, store_errors
from datameta.models import DownloadToken, File, FileState
from datameta.storage import Storage

log = logging.getLogger(__name__)

BATCH = 500
ORPHAN_AGE = timedelta(hours=48)

Item = TypeVar("Item")


def sweep(sessions: sessionmaker[Session], storage: Storage) -> Counter[str]:
    """Sweep once; return how many things were done, by kind. The caller holds the sweeper's lock."""
    done: Counter[str] = Counter()
    _mark_abandoned(sessions, done)
    for file in _list_stuck(sessions, FileState.CONFIRMING):
        _finish(sessions, storage, file, done)
    for file in _list_stuck(sessions, FileState.DELETING):
        done["files removed" if finish_deletion(sessions, storage, file) else "files left for later"] += 1
    _remove_download_tokens(sessions, done)
    with store_errors():
        _remove_orphaned_uploads(sessions, storage, done)
        _remove_orphaned_objects(sessions, storage, done)
    log.info("swept: %s", ", ".join(f"{number} {kind}" for kind, number in (+done).items()) or "nothing to do")
    return done


def _mark_abandoned(sessions: sessionmaker[Session], done: Counter[str]) -> None:
    """Turn what nobody waits for into ``deleting``, old enough to be removed in this very sweep."""
    is_lost = and_(File.state == FileState.NEW, File.state_changed_at < func.now() - timedelta(minutes=10))
    is_expired = and_(File.state == FileState.ANNOUNCED, File.upload_expires_at < func.now() - timedelta(hours=1))
    marked = {"state": FileState.DELETING, "state_changed_at": func.now() - timedelta(minutes=3)}
    with sessions.begin() as db:
        lost = db.scalars(update(File).where(is_lost).values(marked).returning(File.id)).all()
        expired = db.scalars(update(File).where(is_expired).values(marked).returning(File)).all()
        changes = [(file, {**describe(file), "state": str(FileState.ANNOUNCED)}, None) for file in expired]
        audit.record_events(db, "file.deleted", actor=None, changes=changes)
        done["uploads expired"] += len(lost) + len(expired)


def _list_stuck(sessions: sessionmaker[Session], state: FileState) -> Iterator[File]:
    """Yield the files that have been in ``state`` for two minutes, each once."""
    last_id = 0
    while True:
        with sessions() as db:
            query = select(File).where(
                File.state == state, File.state_changed_at < func.now() - timedelta(minutes=2), File.id > last_id
            )
            files = db.scalars(query.order_by(File.id).limit(BATCH)).all()
        if not files:
            return
        yield from files
        last_id = files[-1].id


def _finish(sessions: sessionmaker[Session], storage: Storage, file: File, done: Counter[str]) -> None:
    try:
        finish_confirmation(sessions, storage, file)
        done["files confirmed"] += 1
    except DataMetaError as error:
        log.info("file %s could not be confirmed: %s", file.uuid, error)
        done["files not confirmed"] += 1


def _remove_download_tokens(sessions: sessionmaker[Session], done: Counter[str]) -> None:
    """Remove download addresses a day after they expired, so that until then they answer that they did."""
    with sessions.begin() as db:
        removed = db.execute(delete(DownloadToken).where(DownloadToken.expires_at < func.now() - timedelta(days=1)))
        done["download addresses removed"] += removed.rowcount  # type: ignore[attr-defined]


def _remove_orphaned_uploads(sessions: sessionmaker[Session], storage: Storage, done: Counter[str]) -> None:
    old = (upload for upload in storage.list_uploads() if _is_old(upload.started_at))
    for uploads in _batches(old, BATCH):
        files = _files_of(sessions, [upload.key for upload in uploads])
        for upload in uploads:
            file = files.get(upload.key)
            if file is None or file.state == FileState.CONFIRMED or file.upload != upload.upload:
                storage.abort(upload.key, upload.upload)
                log.info("orphaned upload %s removed", upload.key)
                done["orphaned uploads removed"] += 1


def _remove_orphaned_objects(sessions: sessionmaker[Session], storage: Storage, done: Counter[str]) -> None:
    old = (key for key, changed_at in storage.list_objects() if _is_old(changed_at))
    for keys in _batches(old, BATCH):
        files = _files_of(sessions, keys)
        for key in keys:
            file = files.get(key)
            # A confirmation that is under way may have made its object and not said so yet.
            if file is None or (file.state == FileState.CONFIRMED and file.storage_key != key):
                storage.delete(key)
                log.info("orphaned object %s removed", key)
                done["orphaned objects removed"] += 1


def _files_of(sessions: sessionmaker[Session], keys: Sequence[str]) -> dict[str, File]:
    """Return the files whose uploads or objects have these keys (``files/<uuid>``, maybe with a suffix), by key."""
    uuids = {key: parse_uuid(key.removeprefix("files/")[:36]) for key in keys}
    with sessions() as db:
        files = {file.uuid: file for file in db.scalars(select(File).where(File.uuid.in_(uuids.values())))}
    return {key: files[value] for key, value in uuids.items() if value in files}


def _is_old(instant: datetime) -> bool:
    return as_utc(instant) < utc_now() - ORPHAN_AGE


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
