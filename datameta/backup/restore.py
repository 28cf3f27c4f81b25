"""How a backup is restored: into an empty database, or in the place of all that is in one; and how that is proven.

A database that was restored removes nothing from a store before it has adopted it (``logic/ownership.py``): the store
may belong to a portal that runs. An empty store it adopts at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from datameta import migrations
from datameta.backup.folder import (
    DUMP,
    Backup,
    BackupError,
    StoredContent,
    Watch,
    find_copy,
    read_backup,
    read_manifest,
)
from datameta.backup.make import SEALED, count_rows, read_major
from datameta.backup.programs import find_programs
from datameta.clock import utc_now
from datameta.database import Database
from datameta.logic import audit
from datameta.logic.content import examine_file, put_content
from datameta.logic.ownership import adopt_store, disown_store, is_unused
from datameta.models import File, FileState
from datameta.storage import Storage, StorageError
from datameta.vault import Vault

PAGE = 500
KEY_LOST = (
    "The site's key is another than when the backup was made. Put the former one back (DATAMETA_SECRET_KEY, or "
    "HOME/secret.key): without it second factors and mails that wait cannot be read."
)


IS_EMPTY = """
SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace)
   AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'public'::regnamespace)
"""
COUNT_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass(frozen=True)
class Restored:
    """What was restored, how many objects were written, and whether the store is the database's."""

    backup: Backup
    written: int
    is_adopted: bool


def restore_backup(
    url: str,
    storage: Storage,
    vault: Vault,
    folder: Path,
    *,
    replaces: bool,
    adopts: bool,
    orphan_days: int,
    watch: Watch,
    tell: Callable[[str], Any],
) -> Restored:
    """Restore a backup into the database at ``url`` and, if it has them, the objects that the store lacks.

    ``tell`` is called with each thing that is not as it should be. Raises ``BackupError``; as long as the
    database is not restored, nothing has changed.
    """
    backup = read_backup(folder, watch)
    if not migrations.is_known(backup.schema):
        message = f"The backup is of DataMeta {backup.datameta}, which is newer than this one. Upgrade DataMeta."
        raise BackupError(message)
    if vault.decrypt(backup.sealed.encode("ascii")) != SEALED:
        tell(KEY_LOST)
    if utc_now() - datetime.fromisoformat(backup.made_at) > timedelta(days=orphan_days):
        tell(f"The backup is older than {orphan_days} days: content that was deleted since may be gone from the store.")
    is_fresh = is_unused(storage)
    with _open(url) as database:
        _restore_database(database, backup, folder, replaces=replaces, watch=watch)
        migrations.upgrade(url)
        disown_store(database.sessions)
        written = _restore_objects(storage, backup, folder, watch, tell) if backup.is_copied else 0
        _revive_confirmations(database.sessions, storage)
        with database.sessions.begin() as db:
            audit.record_event(db, "site.restored", actor=None, after={"backup": backup.made_at})
        if is_fresh or adopts:
            adopt_store(database.sessions, storage)
    return Restored(backup, written, is_fresh or adopts)


@contextmanager
def _open(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.dispose()


def _restore_database(database: Database, backup: Backup, folder: Path, *, replaces: bool, watch: Watch) -> None:
    with database.engine.connect() as connection:
        programs = find_programs(database.url, read_major(connection))
        is_empty = connection.scalars(text(IS_EMPTY)).one()
        others = connection.scalars(text(COUNT_OTHERS)).one()
    if not is_empty and not replaces:
        raise BackupError("The database is not empty. With --replace, the backup takes the place of all that is in it.")
    # Its own connections are closed, so that psql does not wait for them.
    database.dispose()
    if others:
        raise BackupError(f"The database is in use by {others} others. Stop the portal and its worker first.")
    with watch("Restoring the database", backup.dump.size) as advance:
        programs.restore(folder / DUMP, is_replacing=not is_empty, advance=advance)
    if backup.schema == migrations.head():
        with database.engine.connect() as connection:
            found = count_rows(connection)
        if found != backup.tables:
            wrong = sorted(name for name in backup.tables if found.get(name) != backup.tables[name])
            raise BackupError(f"The database was restored, but not all rows of {', '.join(wrong)}.")


def _restore_objects(storage: Storage, backup: Backup, folder: Path, watch: Watch, tell: Callable[[str], Any]) -> int:
    """Write the copies that the store lacks; return how many."""
    written = 0
    with watch("Restoring objects", backup.bytes) as advance:
        for entry in read_manifest(folder):
            if storage.size(entry.key) == entry.size:
                advance(entry.size)
                continue
            reason = _restore_object(storage, folder, entry, advance)
            written += reason is None
            if reason is not None:
                tell(f"The content at {entry.key} was not restored: {reason}.")
    return written


def _restore_object(storage: Storage, folder: Path, entry: StoredContent, advance: Callable[[int], Any]) -> str | None:
    """Write one copy into the store; return why not."""
    try:
        content = examine_file(find_copy(folder, entry.key), advance)
        if (content.size, content.sha256) != (entry.size, entry.sha256):
            return "the backup's copy is damaged"
        put_content(storage, entry.key, content)
    except (OSError, StorageError) as error:
        return str(error) or type(error).__name__
    return None


def _revive_confirmations(sessions: sessionmaker[Session], storage: Storage) -> None:
    """Let the sweeper confirm once more what was confirmed after the backup: its content is in the store."""
    last = 0
    while True:
        with sessions() as db:
            query = select(File).where(File.state == FileState.ANNOUNCED, File.id > last)
            files = db.scalars(query.order_by(File.id).limit(PAGE)).all()
        if not files:
            return
        last = files[-1].id
        found = [file.id for file in files if storage.size(file.upload_key) is not None]
        values = {"state": FileState.CONFIRMING, "state_changed_at": func.now()}
        with sessions.begin() as db:
            db.execute(update(File).where(File.id.in_(found)).values(values))
