"""How a backup is made: dump and list of objects from one snapshot, then the objects.

The portal may run meanwhile. What is deleted after the snapshot is in the store as long as the backup may be restored
(``orphan_days``), so that its manifest stays true.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import Session

from datameta import __version__, migrations
from datameta.backup.folder import (
    DUMP,
    MANIFEST,
    Backup,
    Hashed,
    Watch,
    Written,
    describe_backup,
    find_copy,
    sync_folder,
    write_file,
    write_folder,
)
from datameta.backup.programs import NOT_KEPT, find_programs
from datameta.clock import to_wire, utc_now
from datameta.database import Database
from datameta.logic.verification import read_ranges
from datameta.models import Base, File, FileState
from datameta.storage import Storage
from datameta.vault import Vault

SEALED = b"datameta"
FETCHED = 1000

Tell = Callable[[str], Any]
"""Called with a sentence on an object that is not what it should be."""


def make_backup(
    database: Database, storage: Storage, vault: Vault, folder: Path, *, copies_objects: bool, watch: Watch, tell: Tell
) -> Backup:
    """Write a backup to a new folder; with ``copies_objects`` the objects, too.

    An object that is missing or damaged is told, and is not in the manifest. Raises ``BackupError``,
    ``StorageUnavailableError``.
    """
    made_at = to_wire(utc_now())
    with write_folder(folder) as draft, TemporaryFile() as rows:
        with database.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            major = read_major(connection)
            programs = find_programs(database.url, major)
            snapshot = connection.scalars(text("SELECT pg_export_snapshot()")).one()
            size = connection.scalars(text("SELECT pg_database_size(current_database())")).one()
            tables = count_rows(connection)
            total = _list_objects(connection, rows)
            with write_file(draft / DUMP) as file, watch("Writing the database", size) as advance:
                programs.dump(snapshot, file, advance)
                # Compressed, it was less than what it is in the database.
                advance(max(0, size - file.written.size))
                dump = file.written
        with watch("Copying objects" if copies_objects else "Reading objects", total) as advance:
            copier = _Copier(storage, draft if copies_objects else None, advance, tell)
            with write_file(draft / MANIFEST) as file:
                copier.copy(_read_rows(rows), file)
                manifest = file.written
        backup = Backup(
            made_at=made_at,
            datameta=__version__,
            schema=migrations.head(),
            postgresql=major,
            dump=dump,
            manifest=manifest,
            objects=copier.done["objects"],
            bytes=copier.done["bytes"],
            is_copied=copies_objects,
            tables=tables,
            sealed=vault.encrypt(SEALED).decode("ascii"),
        )
        describe_backup(draft, backup)
    return backup


def read_major(connection: Connection) -> int:
    """Return the major version of the server."""
    return int(connection.scalars(text("SHOW server_version_num")).one()) // 10000


def count_rows(connection: Connection | Session) -> dict[str, int]:
    """Return the number of rows of each table that a backup keeps."""
    tables = [table for table in Base.metadata.sorted_tables if table.name not in NOT_KEPT]
    counts = [select(func.count()).select_from(table).scalar_subquery().label(table.name) for table in tables]
    return dict(connection.execute(select(*counts)).one()._mapping)


def _list_objects(connection: Connection, rows: IO[bytes]) -> int:
    """Write a row for each object that the snapshot needs to a temporary file; return how many bytes they have."""
    states = (FileState.CONFIRMED, FileState.VERIFYING, FileState.FAILED)
    query = select(File.storage_key, File.size, File.sha256, File.state).where(File.state.in_(states)).order_by(File.id)
    total = 0
    with connection.execute(query.execution_options(yield_per=FETCHED)) as result:
        for key, size, sha256, state in result:
            rows.write(json.dumps([key, size, sha256, state == FileState.CONFIRMED]).encode() + b"\n")
            total += size or 0
    return total


def _read_rows(rows: IO[bytes]) -> Iterator[tuple[str, int, str | None, bool]]:
    rows.seek(0)
    for line in rows:
        key, size, sha256, is_confirmed = json.loads(line)
        yield key, size, sha256, is_confirmed


class _Copier:
    """Goes through the objects: reads what has no SHA-256 yet, or all if they are copied."""

    def __init__(self, storage: Storage, folder: Path | None, advance: Callable[[int], Any], tell: Tell) -> None:
        self._storage, self._folder, self._advance, self._tell = storage, folder, advance, tell
        self.done: Counter[str] = Counter()

    def copy(self, rows: Iterator[tuple[str, int, str | None, bool]], manifest: Hashed) -> None:
        """Write the manifest, and copy what is to be copied."""
        for key, size, sha256, is_confirmed in rows:
            if self._folder is None and sha256 is not None:
                found: Written | None = Written(size, sha256)
                self._advance(size)
            else:
                found = self._read(key)
            if found is None or found.size != size or sha256 not in (None, found.sha256):
                if is_confirmed:
                    what = "is not in the store" if found is None else "is another than was confirmed"
                    self._tell(f"The content at {key} {what}. 'datameta fsck' says which file it is.")
                continue
            line = {"key": key, "size": size, "sha256": found.sha256}
            manifest.write(json.dumps(line).encode() + b"\n")
            self.done.update(objects=1, bytes=size)

    def _read(self, key: str) -> Written | None:
        """Read an object, into the backup if it is copied; None if there is none."""
        digest, size = hashlib.sha256(), 0
        try:
            chunks = read_ranges(self._storage, key)
            if self._folder is None:
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    self._advance(len(chunk))
                return Written(size, digest.hexdigest())
            return self._write(key, chunks)
        except FileNotFoundError:
            return None

    def _write(self, key: str, chunks: Iterator[bytes]) -> Written:
        assert self._folder is not None
        path = find_copy(self._folder, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        first = next(chunks, b"")
        with write_file(path) as file:
            file.write(first)
            self._advance(len(first))
            for chunk in chunks:
                file.write(chunk)
                self._advance(len(chunk))
            written = file.written
        sync_folder(path.parent)
        return written
