"""Whose the store is: one database's, which alone removes what nobody needs.

The rule this module guards: nothing is removed from a store whose mark is not the one that this database wrote
last. An empty store is marked at the first start. A store with content and without a mark is nobody's, and one
with the mark of another database is that one's, until an operator says otherwise by ``datameta storage adopt``.

The mark has a number that grows with each check of the store, in the database first. So a database that was
restored from a backup is behind its store, and two copies of one database soon find each other out.
"""

import json
import logging
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from datameta.clock import to_wire, utc_now
from datameta.models import AppSetting
from datameta.storage import Storage

log = logging.getLogger(__name__)

KEY = "store_mark"
"""The row that keeps the mark; no setting of the catalogue, and so never shown nor changed over the API."""
ADVICE = (
    "See that the settings name the right database and store, and that no other portal uses the store; "
    "then run 'datameta storage adopt'."
)


@dataclass(frozen=True)
class Ownership:
    """What a database knows of its store: the mark, and since when (ISO 8601) the store is its own."""

    site: str
    number: int
    since: str

    @property
    def mark(self) -> str:
        """What stands in the store."""
        return f"{self.site} {self.number}"


def claim_store(sessions: sessionmaker[Session], storage: Storage) -> None:
    """Mark a store that holds nothing, and has no mark, as this database's; any other stays as it is.

    Raises ``StorageUnavailableError``.
    """
    if is_unused(storage):
        with sessions.begin() as db:
            own = _lock(db)
        storage.write_mark(own.mark)


def adopt_store(sessions: sessionmaker[Session], storage: Storage) -> None:
    """Make the store this database's, and no other's, not even that of a copy of this one.

    Raises ``StorageUnavailableError``.
    """
    own = _begin()
    with sessions.begin() as db:
        _set(db, own)
    storage.write_mark(own.mark)
    log.warning("the store was adopted by this database, as %s", own.site)


def disown_store(sessions: sessionmaker[Session]) -> None:
    """Let this database, which was restored, remove nothing from any store that holds content before it adopts it."""
    with sessions.begin() as db:
        _set(db, _begin())


def is_unused(storage: Storage) -> bool:
    """Say whether the store holds nothing, and is nobody's.

    Raises ``StorageUnavailableError``.
    """
    return storage.read_mark() is None and _is_empty(storage)


def find_obstacle(sessions: sessionmaker[Session], storage: Storage) -> str | None:
    """Return why nothing may be removed from the store, as a sentence, or None.

    Raises ``StorageUnavailableError``.
    """
    # The database's number grows first: read in this order, it is never behind without a reason.
    mark = storage.read_mark()
    if mark is None:
        return None if _is_empty(storage) else "The store holds content, and no mark says of which database."
    with sessions() as db:
        own = _read(db)
    site, _, number = mark.partition(" ")
    if own is None or own.site != site:
        return "The store is that of another database."
    if not number.isdecimal() or int(number) > own.number:
        return "The store has been used with a later state, or with another copy, of this database."
    return None


def advance_mark(sessions: sessionmaker[Session], storage: Storage) -> None:
    """Count one more check of a store to which there is no obstacle.

    Raises ``StorageUnavailableError``.
    """
    with sessions.begin() as db:
        former = _lock(db)
        own = replace(former, number=former.number + 1)
        db.execute(update(AppSetting).where(AppSetting.key == KEY).values(value=_to_text(own)))
    storage.write_mark(own.mark)


def get_owned_since(db: Session) -> datetime:
    """Return since when the store is this database's."""
    return datetime.fromisoformat((_read(db) or _begin()).since)


def _begin() -> Ownership:
    return Ownership(str(uuid4()), 0, to_wire(utc_now()))


def _lock(db: Session) -> Ownership:
    """Return what the database knows, which begins here if it knows nothing, for this transaction alone."""
    begun = insert(AppSetting).values(key=KEY, value=_to_text(_begin()))
    db.execute(begun.on_conflict_do_nothing(index_elements=["key"]))
    value = db.scalars(select(AppSetting.value).where(AppSetting.key == KEY).with_for_update()).one()
    return Ownership(**json.loads(value))


def _set(db: Session, own: Ownership) -> None:
    statement = insert(AppSetting).values(key=KEY, value=_to_text(own))
    db.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": statement.excluded.value}))


def _read(db: Session) -> Ownership | None:
    value = db.scalars(select(AppSetting.value).where(AppSetting.key == KEY)).one_or_none()
    return None if value is None else Ownership(**json.loads(value))


def _to_text(own: Ownership) -> str:
    return json.dumps(asdict(own))


def _is_empty(storage: Storage) -> bool:
    return next(storage.list_uploads(), None) is None and next(storage.list_objects(), None) is None
