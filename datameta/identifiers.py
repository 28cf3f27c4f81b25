"""Ids: every thing has a UUID, most also a short site id; either may stand wherever an id is asked for.

Site ids are random, so that nobody can guess the next one, and unique by constraint: a collision
is met by the insert itself and drawn again.
"""

import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ARRAY, ColumnElement, String, any_, false, literal, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.types import UserDefinedType

from datameta.batches import insert_rows
from datameta.errors import NotFoundError, UnavailableError
from datameta.models.base import HasSiteId, HasUuid
from datameta.settings import SiteIdFormat

MAX_DRAWS = 20

UuidRow = TypeVar("UuidRow", bound=HasUuid)
SiteIdRow = TypeVar("SiteIdRow", bound=HasSiteId)


class _WrittenArray(UserDefinedType[str]):
    """An array that is written out already: numbers and UUIDs need no quoting, for which the driver looks at each."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def get_col_spec(self, **_: Any) -> str:
        """Return the name of the type."""
        return f"{self.kind}[]"


_WRITTEN = {int: "BIGINT", uuid.UUID: "UUID"}


class NewRow(NamedTuple):
    """A row that was inserted among many: its kind, as the audit calls it, and its ids."""

    entity_type: str
    id: int
    uuid: uuid.UUID
    site_id: str


def parse_uuid(text: str) -> uuid.UUID | None:
    """Return the UUID that ``text`` writes in the usual form of 36 characters, or None."""
    if len(text) != 36:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def matches_id(model: type[HasUuid], text: str) -> ColumnElement[bool]:
    """Return the condition that a row of ``model`` has this UUID or site id."""
    value = parse_uuid(text)
    if value is not None:
        return model.uuid == value
    return model.site_id == text if issubclass(model, HasSiteId) else false()


def matches_ids(model: type[HasSiteId], texts: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that a row of ``model`` has one of these UUIDs or site ids."""
    uuids: list[uuid.UUID] = []
    site_ids: list[str] = []
    for text in texts:
        value = parse_uuid(text)
        if value is None:
            site_ids.append(text)
        else:
            uuids.append(value)
    return or_(
        model.uuid == any_of(uuids) if uuids else false(), model.site_id == any_of(site_ids) if site_ids else false()
    )


def any_of(values: Sequence[Any]) -> Any:
    """Return ``ANY(array)``: one bound parameter, however many values; at least one."""
    kind = _WRITTEN.get(type(values[0]))
    if kind is None:
        return any_(literal(list(values), ARRAY(String())))
    return any_(literal(f"{{{','.join(map(str, values))}}}", _WrittenArray(kind)))


def to_identifier(row: Any) -> dict[str, str]:
    """Return the Identifier of a row that has ``uuid`` and, where its kind has one, ``site_id``."""
    identifier = {"uuid": str(row.uuid)}
    site_id = getattr(row, "site_id", None)
    if site_id is not None:
        identifier["site"] = site_id
    return identifier


def sent_identifier(text: str) -> dict[str, str]:
    """Return the Identifier by which a problem names an id that led nowhere: as it was sent."""
    return {"uuid": text, "site": text}


def find_by_id(db: Session, model: type[UuidRow], text: str, *options: Any, lock: bool = False) -> UuidRow:
    """Load the row with this UUID or site id, with ``FOR UPDATE`` if ``lock``.

    Raises ``NotFoundError``.
    """
    query = select(model).where(matches_id(model, text)).options(*options)
    if lock:
        query = query.with_for_update(of=model).execution_options(populate_existing=True)
    row = db.scalars(query).one_or_none()
    if row is None:
        raise NotFoundError
    return row


def draw_site_id(site_format: SiteIdFormat) -> str:
    """Return a random site id."""
    return f"{site_format.prefix}{secrets.randbelow(10**site_format.digits):0{site_format.digits}d}"


def insert_with_site_ids(
    db: Session, model: type[SiteIdRow], site_format: SiteIdFormat, rows: Sequence[Mapping[str, Any]]
) -> list[SiteIdRow]:
    """Insert ``rows`` with fresh site ids, in one statement unless ids collide; return them in order.

    Raises ``UnavailableError`` when the ids of this kind are nearly used up, and lets other broken
    constraints through as ``IntegrityError``.
    """

    def insert_entities(pending: Sequence[Mapping[str, Any]]) -> Iterable[SiteIdRow]:
        statement = insert(model).on_conflict_do_nothing(index_elements=["site_id"]).returning(model)
        return db.scalars(statement, pending)

    return _insert(rows, site_format, insert_entities)


def insert_many_with_site_ids(
    db: Session,
    model: Any,
    site_format: SiteIdFormat,
    rows: Sequence[Mapping[str, Any]],
    *,
    common: Mapping[str, Any],
) -> list[NewRow]:
    """Insert ``rows``, each with the ``common`` values beside its own, as ``insert_with_site_ids``; return their ids.

    No entities are made, which for thousands of rows would take longer than the rest.
    """

    def insert_plain(pending: Sequence[Mapping[str, Any]]) -> Iterable[NewRow]:
        names = ("id", "uuid", "site_id")
        for row in insert_rows(db, model, pending, common=common, unless_taken="site_id", returning=names):
            yield NewRow(model.__name__, row.id, row.uuid, row.site_id)

    return _insert(rows, site_format, insert_plain) if rows else []


def _insert(
    rows: Sequence[Mapping[str, Any]],
    site_format: SiteIdFormat,
    insert_pending: Callable[[Sequence[Mapping[str, Any]]], Iterable[Any]],
) -> list[Any]:
    """Insert rows with fresh site ids, again and again those whose ids are taken; return what came of them in order."""
    pending = [{"uuid": uuid.uuid4(), **row} for row in rows]
    order = [row["uuid"] for row in pending]
    inserted: dict[uuid.UUID, Any] = {}
    for _ in range(MAX_DRAWS):
        for row in pending:
            row["site_id"] = draw_site_id(site_format)
        for made in insert_pending(pending):
            inserted[made.uuid] = made
        if len(inserted) == len(rows):
            return [inserted[key] for key in order]
        pending = [row for row in pending if row["uuid"] not in inserted]
    raise UnavailableError(
        f"No free {site_format.prefix} id was found; the site's administrator has to allow more digits.",
        code="ids_used_up",
    )
