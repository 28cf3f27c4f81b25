"""The sweeper: finishes or undoes what a crash, a lost client or a silent store has left half done.

It runs at any time, any number of times, one at a time for the whole installation. It undoes nothing
that a client was told of, and never touches the content of a confirmed file. Instants of rows are
compared with the database's clock.

===========================  =======================================================
what is found                what is done
===========================  =======================================================
new for 10 minutes           removed: the client never got an answer
confirming for 2 minutes     confirmed again, to either end
deleting for 2 minutes       row removed, and what was never confirmed
announced, expired 1 hour    removed: its upload, single or in parts, takes no more
verifying, 2 minutes alone   verified again: nobody reads it, and no job waits to
failed for 7 days            removed
download address, expired    removed
===========================  =======================================================

Once a day the store is compared with the rows:

===========================  =======================================================
upload, no row               removed once it is 48 hours old
object, no row               removed after 35 days (setting ``orphan_days``),
                             counted from the deletion of its file
confirmed, object missing    ALARM: written down and mailed, never repaired
confirmed, of another size   ALARM, too
missing, and there again     the alarm ends, and the content is read soon
===========================  =======================================================

Where the store is not this database's (``logic/ownership.py``), nothing is removed, by neither.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    String,
    and_,
    cast,
    column,
    delete,
    exists,
    func,
    select,
    table,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, sessionmaker

from datameta.clock import utc_now
from datameta.crash import crash_point
from datameta.errors import DataMetaError
from datameta.logic import audit, verification
from datameta.logic.confirmation import finish_confirmation
from datameta.logic.file_rows import describe, store_errors
from datameta.logic.files import finish_deletion
from datameta.logic.inventory import Inventory, find_damaged, list_found_again, list_orphans, take_inventory
from datameta.logic.mail import store_mail
from datameta.logic.ownership import ADVICE, advance_mark, find_obstacle, get_owned_since
from datameta.metrics import SWEPT
from datameta.models import AppSetting, AuditEvent, DownloadToken, File, FileState, User
from datameta.queue import store_job
from datameta.storage import Storage, StorageUnavailableError
from datameta.vault import Vault

log = logging.getLogger(__name__)

BATCH = 500
ORPHAN_AGE = timedelta(hours=48)
LISTED = 20
"""How many files a mail names."""
TOLD = "damage_told"
"""The row that keeps the number of the last event of damage that was mailed; no setting of the catalogue."""
JOBS = table("procrastinate_jobs", column("task_name"), column("status"), column("args", JSONB))


def sweep(sessions: sessionmaker[Session], storage: Storage) -> Counter[str]:
    """Sweep once; return how many things were done, by kind. The caller holds the sweeper's lock."""
    done: Counter[str] = Counter()
    may_remove = _may_remove(sessions, storage)
    if may_remove:
        _mark_abandoned(sessions, done)
        crash_point("sweep.after_mark")
    for file in _list_due(sessions, FileState.CONFIRMING):
        _finish(sessions, storage, file, done)
    for file in _list_due(sessions, FileState.DELETING) if may_remove else ():
        done["files removed" if finish_deletion(sessions, storage, file) else "files left for later"] += 1
    for file in _list_due(sessions, FileState.VERIFYING):
        with sessions.begin() as db:
            store_job(db, verification.TASK, queue_name=verification.QUEUE, file_id=file.id)
        done["verifications begun again"] += 1
    _remove_download_tokens(sessions, done)
    _log("swept", done)
    return done


def check_store(sessions: sessionmaker[Session], storage: Storage, *, orphan_days: int) -> Counter[str]:
    """Compare the store with the rows once; return how many things were done, by kind.

    May run beside the sweeper, and beside itself. Raises ``UnavailableError``.
    """
    done: Counter[str] = Counter()
    with store_errors(), take_inventory(sessions, storage) as inventory:
        for damaged in find_damaged(inventory, storage, [FileState.CONFIRMED]):
            _report(sessions, {row.id: problem for row, problem in damaged}, done)
        for found in list_found_again(inventory):
            _end_alarm(sessions, found, done)
        if _may_remove(sessions, storage):
            advance_mark(sessions, storage)
            _remove_orphans(inventory, storage, orphan_days, done)
    _log("store checked", done)
    return done


def find_removal(orphan: Row[Any], *, owned_since: datetime, orphan_days: int) -> datetime:
    """Return from when on an orphan may be removed.

    An upload never was content. An object is kept for ``orphan_days``, as a backup of the database may need it: after
    its file was deleted, and as long once the store was adopted, when the database that was restored may not know it.
    """
    changed_at: datetime = orphan.changed_at
    if orphan.upload is not None:
        return changed_at + ORPHAN_AGE
    return max(changed_at, orphan.deleted_at or changed_at, owned_since) + timedelta(days=orphan_days)


def tell_of_damage(db: Session, vault: Vault) -> None:
    """Mail to the site admins which files have been found damaged since they were told last, if any still are."""
    verification.order_reports(db)
    last = db.scalar(select(func.max(AuditEvent.id)).where(AuditEvent.event == "file.damaged"))
    told = db.scalars(select(AppSetting).where(AppSetting.key == TOLD)).one_or_none()
    if last is None or (told is not None and int(told.value) >= last):
        return
    is_new = and_(AuditEvent.event == "file.damaged", AuditEvent.id > (0 if told is None else int(told.value)))
    if told is None:
        told = AppSetting(key=TOLD)
        db.add(told)
    told.value = str(last)
    events = select(AuditEvent.entity_uuid).where(is_new)
    damaged = select(File.site_id).where(File.problem.is_not(None), File.uuid.in_(events))
    count = db.scalars(select(func.count()).select_from(damaged.subquery())).one()
    if not count:
        return
    ids = db.scalars(damaged.order_by(File.id).limit(LISTED)).all()
    files = ", ".join(ids) + (", …" if count > LISTED else "")
    for admin in db.scalars(select(User).where(User.site_admin, User.enabled).order_by(User.id)).all():
        values = {"name": admin.name, "count": f"{count:,}", "files": files}
        store_mail(db, vault, template="files_damaged", to=admin.email, values=values)


def is_due(state: FileState, *, since: timedelta = timedelta()) -> ColumnElement[bool]:
    """Return the condition that a file in this state has waited for the sweeper (for longer than ``since``)."""

    def has_been(age: timedelta) -> ColumnElement[bool]:
        return File.state_changed_at < func.now() - age - since

    has_job = exists().where(
        JOBS.c.task_name == verification.TASK,
        cast(JOBS.c.status, String) == "todo",
        cast(JOBS.c.args["file_id"].astext, BigInteger) == File.id,
    )
    touched_at = func.coalesce(File.lease_until, File.state_changed_at)
    conditions = {
        FileState.NEW: has_been(timedelta(minutes=10)),
        FileState.ANNOUNCED: File.upload_expires_at < func.now() - timedelta(hours=1) - since,
        FileState.CONFIRMING: has_been(timedelta(minutes=2)),
        FileState.DELETING: has_been(timedelta(minutes=2)),
        FileState.VERIFYING: and_(touched_at < func.now() - timedelta(minutes=2) - since, ~has_job),
        FileState.FAILED: has_been(timedelta(days=7)),
    }
    return and_(File.state == state, conditions[state])


def _may_remove(sessions: sessionmaker[Session], storage: Storage) -> bool:
    try:
        obstacle = find_obstacle(sessions, storage)
    except StorageUnavailableError as error:
        log.warning("nothing is removed: whose the store is can't be read: %s", error)
        return False
    if obstacle is not None:
        log.error("ALARM: nothing is removed from the store. %s %s", obstacle, ADVICE)
    return obstacle is None


def _remove_orphans(inventory: Inventory, storage: Storage, orphan_days: int, done: Counter[str]) -> None:
    now, owned_since = utc_now(), get_owned_since(inventory.db)
    for orphan in list_orphans(inventory, before=now - ORPHAN_AGE):
        kind = "object" if orphan.upload is None else "upload"
        if find_removal(orphan, owned_since=owned_since, orphan_days=orphan_days) > now:
            continue
        if orphan.upload is None:
            storage.delete(orphan.key)
        else:
            storage.abort(orphan.key, orphan.upload)
        log.info("orphaned %s %s removed", kind, orphan.key)
        done[f"orphaned {kind}s removed"] += 1


def _mark_abandoned(sessions: sessionmaker[Session], done: Counter[str]) -> None:
    """Turn what nobody waits for into ``deleting``, old enough to be removed in this very sweep."""
    marked = {"state": FileState.DELETING, "state_changed_at": func.now() - timedelta(minutes=3)}
    for state in (FileState.NEW, FileState.ANNOUNCED, FileState.FAILED):
        with sessions.begin() as db:
            files = db.scalars(update(File).where(is_due(state)).values(marked).returning(File)).all()
            if state != FileState.NEW:
                changes = [(file, {**describe(file), "state": str(state)}, None) for file in files]
                audit.record_events(db, "file.deleted", actor=None, changes=changes)
            done["failed files expired" if state == FileState.FAILED else "uploads expired"] += len(files)


def _list_due(sessions: sessionmaker[Session], state: FileState) -> Iterator[File]:
    """Yield the files in ``state`` that are due, each once."""
    last_id = 0
    while True:
        with sessions() as db:
            query = select(File).where(is_due(state), File.id > last_id)
            files = db.scalars(query.order_by(File.id).limit(BATCH)).all()
        if not files:
            return
        yield from files
        last_id = files[-1].id


def _finish(sessions: sessionmaker[Session], storage: Storage, file: File, done: Counter[str]) -> None:
    try:
        with store_errors():
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


def _report(sessions: sessionmaker[Session], problems: dict[int, str], done: Counter[str]) -> None:
    """Raise the alarm for confirmed files, by id."""
    with sessions.begin() as db:
        for file in _lock_confirmed(db, list(problems)):
            done["files found damaged"] += file.problem != problems[file.id]
            verification.report_damage(db, file, problems[file.id])


def _end_alarm(sessions: sessionmaker[Session], ids: list[int], done: Counter[str]) -> None:
    """Take back that content is missing; as nobody has read it since, it is the first to be read now."""
    with sessions.begin() as db:
        files = _lock_confirmed(db, ids)
        for file in files:
            file.problem = file.checked_at = None
            log.warning("the content of file %s is there again", file.uuid)
        changes = [(file, {"problem": "content_missing"}, {"problem": None}) for file in files]
        audit.record_events(db, "file.found_again", actor=None, changes=changes)
        done["files found again"] += len(files)


def _lock_confirmed(db: Session, ids: Sequence[int]) -> Sequence[File]:
    query = select(File).where(File.id.in_(ids), File.state == FileState.CONFIRMED)
    return db.scalars(query.order_by(File.id).with_for_update()).all()


def _log(what: str, done: Counter[str]) -> None:
    for kind, number in (+done).items():
        SWEPT.labels(kind).inc(number)
    log.info("%s: %s", what, ", ".join(f"{number} {kind}" for kind, number in (+done).items()) or "nothing to do")
