"""The inventory: what the store holds, written into temporary tables next to the rows that say what it should.

So what either side lacks is one anti-join of the database, however much there is, and nothing is held in memory.
The rule this module guards: what changes while the store is listed never counts. Content must have been in its row
before the listing began, what has no row must have had none then either, and each suspect is looked at once more.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Identity,
    Index,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Uuid,
    and_,
    cast,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.orm import Session, sessionmaker

from datameta.models import AuditEvent, File, FileState
from datameta.storage import Storage

PAGE = 500
COPIED = 10_000
CONFIRMATION = timedelta(minutes=10)
"""How long a confirmation may take to close its upload, once it has said that it succeeded."""

Query: TypeAlias = Select[*tuple[Any, ...]]

_TABLES = MetaData()

ENTRIES = Table(
    "inventory",
    _TABLES,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("key", String),
    Column("file_uuid", Uuid),
    Column("upload", String),
    Column("size", BigInteger),
    Column("changed_at", DateTime(timezone=True)),
    Index("ix_inventory_key", "key"),
    prefixes=["TEMPORARY"],
)
"""What the store holds: open uploads (``upload`` is set) and objects (``size`` is)."""

FORMER_ROWS = Table("inventory_rows", _TABLES, Column("uuid", Uuid, primary_key=True), prefixes=["TEMPORARY"])
"""The files that had a row when the listing began."""


@dataclass(frozen=True)
class Inventory:
    """The connection that has the tables, and when the listing began by the database's clock."""

    db: Session
    begun_at: datetime


@contextmanager
def take_inventory(sessions: sessionmaker[Session], storage: Storage) -> Iterator[Inventory]:
    """List the store and yield what it holds.

    Raises ``StorageUnavailableError``.
    """
    with sessions() as db:
        # Outside of transactions, of which one would last as long as the listing.
        connection = db.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        # The connection is closed after use, and its temporary tables go with it.
        connection.detach()
        _TABLES.create_all(connection, checkfirst=False)
        begun_at = db.scalars(select(func.now())).one()
        db.execute(insert(FORMER_ROWS).from_select(["uuid"], select(File.uuid)))
        copy_rows(db, ENTRIES, _list_entries(storage))
        db.execute(text("ANALYZE inventory, inventory_rows"))
        yield Inventory(db, begun_at)


def copy_rows(db: Session, table: Table, rows: Iterable[Sequence[Any]]) -> None:
    """Append rows to a temporary table, in constant memory; ids come by themselves."""
    columns = ", ".join(column.name for column in table.columns if column.identity is None)
    cursor = db.connection().connection.cursor()
    iterator = iter(rows)
    # The rows of a batch are fetched before it is copied: they may come over the same connection.
    while batch := list(islice(iterator, COPIED)):
        with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            for row in batch:
                copy.write_row(row)
    cursor.close()


def list_orphans(inventory: Inventory, *, before: datetime) -> Iterator[Row[Any]]:
    """Yield the uploads and objects that no row needs and that have not changed since ``before``.

    While a file is on its way to be confirmed, all that has its name may be needed. ``deleted_at`` is when its file
    was deleted, if the database knows.
    """
    is_upload = ENTRIES.c.upload.is_not(None)
    is_settled = and_(File.state == FileState.CONFIRMED, File.state_changed_at < inventory.begun_at - CONFIRMATION)
    is_open = File.state.in_((FileState.NEW, FileState.ANNOUNCED, FileState.DELETING))
    upload_key = literal("files/") + cast(File.uuid, String) + File.upload_suffix
    is_other = or_(File.upload.is_distinct_from(ENTRIES.c.upload), upload_key != ENTRIES.c.key)
    is_orphan = or_(
        and_(File.id.is_(None), ~exists().where(FORMER_ROWS.c.uuid == ENTRIES.c.file_uuid)),
        and_(is_settled, or_(is_upload, File.storage_key != ENTRIES.c.key)),
        and_(is_upload, is_open, is_other),
    )
    is_deletion = and_(AuditEvent.entity_uuid == ENTRIES.c.file_uuid, AuditEvent.event == "file.deleted")
    deleted_at = select(func.max(AuditEvent.at)).where(is_deletion).scalar_subquery().label("deleted_at")
    query: Query = select(ENTRIES, deleted_at).outerjoin(File, File.uuid == ENTRIES.c.file_uuid)
    for page in read_pages(inventory.db, query.where(is_orphan, ENTRIES.c.changed_at < before), ENTRIES.c.id):
        yield from page


def find_damaged(
    inventory: Inventory, storage: Storage, states: Sequence[FileState]
) -> Iterator[list[tuple[Row[Any], str]]]:
    """Yield, page by page, the files in these states whose content is not in the store as the row says.

    Each comes with its problem: ``content_missing`` or ``content_changed`` (its size). Raises
    ``StorageUnavailableError``.
    """
    query: Query = select(File.id, File.uuid, File.site_id, File.state, File.storage_key, File.size)
    is_suspect = and_(File.state.in_(states), File.state_changed_at < inventory.begun_at, ~is_there())
    for page in read_pages(inventory.db, query.where(is_suspect), File.id):
        suspects = {}
        for row in page:
            size = storage.size(row.storage_key)
            if size != row.size:
                suspects[row] = "content_missing" if size is None else "content_changed"
        # Who deletes content has said so in its row before.
        current = inventory.db.execute(query.where(File.id.in_([row.id for row in suspects])).order_by(File.id))
        yield [(row, suspects[row]) for row in current if row in suspects]


def is_there() -> ColumnElement[bool]:
    """Return the condition that the inventory has an object at the file's key, of the file's size."""
    return exists().where(ENTRIES.c.upload.is_(None), ENTRIES.c.key == File.storage_key, ENTRIES.c.size == File.size)


def list_found_again(inventory: Inventory) -> Iterator[list[int]]:
    """Yield, page by page, the ids of the confirmed files whose content was missing and is there again."""
    is_found = and_(File.state == FileState.CONFIRMED, File.problem == "content_missing", is_there())
    for page in read_pages(inventory.db, select(File.id).where(is_found), File.id):
        yield [row.id for row in page]


def _list_entries(storage: Storage) -> Iterator[tuple[Any, ...]]:
    for upload in storage.list_uploads():
        yield upload.key, _uuid_of(upload.key), upload.upload, None, upload.started_at
    for entry in storage.list_objects():
        yield entry.key, _uuid_of(entry.key), None, entry.size, entry.changed_at


def _uuid_of(key: str) -> str:
    """Return the UUID of the file whose upload or object has this key: ``files/<uuid>``, maybe with a suffix."""
    return key.removeprefix("files/")[:36]


def read_pages(db: Session, query: Query, column: Any) -> Iterator[Sequence[Row[Any]]]:
    """Yield the rows of ``query`` in pages by ``column``, which it has to select as ``id``."""
    last = 0
    while page := db.execute(query.where(column > last).order_by(column).limit(PAGE)).all():
        yield page
        last = page[-1].id
