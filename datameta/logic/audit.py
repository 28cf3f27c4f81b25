"""The audit: every change of state is an event, written in the transaction of the change.

Values before and after are small and flat: texts, numbers, booleans, null, lists or maps of texts.
Never a secret. Events are sealed into a chain once they are committed (``seal_events``), every minute
by the worker; reading changes nothing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, or_, select, text, true
from sqlalchemy.orm import Session

from datameta.authz import Actor, Origin, may_administer_site, may_view_user_events
from datameta.batches import insert_rows
from datameta.clock import to_wire
from datameta.errors import ForbiddenError
from datameta.identifiers import find_by_id, parse_uuid
from datameta.metrics import EVENTS
from datameta.models import AuditEvent, AuditPending, AuditSeal, User
from datameta.paging import make_cursor, parse_cursor

SECURITY_EVENTS = ("login.", "logout", "session.", "key.", "password.", "totp.", "recovery_code.", "user.")
SEAL_BATCH = 1000
FIRST_HASH = bytes(32)

Values = Mapping[str, Any]


def record_event(
    db: Session,
    event: str,
    *,
    actor: Actor | None,
    origin: Origin | None = None,
    entity: Any = None,
    before: Values | None = None,
    after: Values | None = None,
) -> None:
    """Write one event; ``entity`` is a row, ``origin`` is the actor's unless there is no actor."""
    record_events(db, event, actor=actor, origin=origin, changes=[(entity, before, after)])


def record_events(
    db: Session,
    event: str,
    *,
    actor: Actor | None,
    origin: Origin | None = None,
    changes: Sequence[tuple[Any, Values | None, Values | None]],
) -> None:
    """Write the same event for several rows in one statement; each change is (row, before, after)."""
    source = origin or (actor.origin if actor is not None else Origin())
    common = {
        "event": event,
        "actor_uuid": None if actor is None else actor.uuid,
        "actor_site_id": None if actor is None else actor.site_id,
        "key_uuid": None if actor is None else actor.key_uuid,
        "request_id": source.request_id,
        "ip": source.ip,
    }
    rows = [{**_name_entity(entity), "before": before, "after": after} for entity, before, after in changes]
    if rows:
        insert_rows(db, AuditEvent, rows, common=common)
        EVENTS.labels(event).inc(len(rows))


def changed(before: Values, after: Values) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return only what differs between two states, as it was and as it is."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


@dataclass(frozen=True)
class Search:
    """What to look for among the events; every condition that is given must hold."""

    after: datetime | None = None
    before: datetime | None = None
    event: str | None = None
    actor_id: str | None = None
    entity_id: str | None = None


def list_events(
    db: Session, actor: Actor, search: Search, *, limit: int, cursor: str | None
) -> tuple[Sequence[Any], str | None]:
    """Return up to ``limit`` events (event, hash of its seal or None), newest first, and the next cursor.

    Raises ``ForbiddenError`` unless the actor is a site admin, ``ValidationError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    return _list_page(db, _matches(search), limit, cursor)


def list_user_events(
    db: Session, actor: Actor, *, user_id: str, limit: int, cursor: str | None
) -> tuple[Sequence[Any], str | None]:
    """Return the security events of one user, as ``list_events``.

    Raises ``NotFoundError``, ``ForbiddenError`` for others than the user and site admins.
    """
    user = find_by_id(db, User, user_id)
    if not may_view_user_events(actor, user.id):
        raise ForbiddenError
    is_security = or_(*(AuditEvent.event.startswith(prefix) for prefix in SECURITY_EVENTS))
    concerns = or_(AuditEvent.actor_uuid == user.uuid, AuditEvent.entity_uuid == user.uuid)
    return _list_page(db, and_(is_security, concerns), limit, cursor)


def _list_page(
    db: Session, condition: ColumnElement[bool], limit: int, cursor: str | None
) -> tuple[Sequence[Any], str | None]:
    query = select(AuditEvent, AuditSeal.hash).outerjoin(AuditSeal, AuditSeal.event_id == AuditEvent.id)
    query = query.where(condition).order_by(AuditEvent.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(AuditEvent.id < parse_cursor(cursor, int)[0])
    rows = db.execute(query).all()
    return rows[:limit], make_cursor(rows[limit - 1][0].id) if len(rows) > limit else None


def _matches(search: Search) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [true()]
    if search.after is not None:
        conditions.append(AuditEvent.at > search.after)
    if search.before is not None:
        conditions.append(AuditEvent.at < search.before)
    if search.event is not None:
        conditions.append(AuditEvent.event == search.event)
    if search.actor_id is not None:
        conditions.append(_has_id(AuditEvent.actor_uuid, AuditEvent.actor_site_id, search.actor_id))
    if search.entity_id is not None:
        conditions.append(_has_id(AuditEvent.entity_uuid, AuditEvent.entity_site_id, search.entity_id))
    return and_(*conditions)


def _has_id(uuid: Any, site_id: Any, text: str) -> ColumnElement[bool]:
    value = parse_uuid(text)
    condition: ColumnElement[bool] = site_id == text if value is None else uuid == value
    return condition


def make_room(db: Session) -> int:
    """Make the partitions that the next ten million events and more will go into; return how many were missing.

    Waits a moment only, and raises ``OperationalError`` then: while it waits for others, all wait for it.
    """
    db.execute(text("SET LOCAL lock_timeout = '2s'"))
    return int(db.scalar(text("SELECT add_audit_partitions()")) or 0)


def seal_events(db: Session) -> int:
    """Chain up to ``SEAL_BATCH`` events that are not sealed yet; return how many.

    Until the transaction ends nobody else adds to the chain, so that it has one end.
    """
    db.execute(text("LOCK TABLE audit_seals IN SHARE ROW EXCLUSIVE MODE"))
    pending = db.scalars(
        select(AuditEvent)
        .join(AuditPending, AuditPending.event_id == AuditEvent.id)
        .order_by(AuditEvent.id)
        .limit(SEAL_BATCH)
    ).all()
    if not pending:
        return 0
    last = db.scalar(select(AuditSeal.hash).order_by(AuditSeal.id.desc()).limit(1)) or FIRST_HASH
    seals = []
    for event in pending:
        last = hash_event(last, event)
        seals.append({"event_id": event.id, "hash": last})
    db.execute(insert(AuditSeal), seals)
    db.execute(delete(AuditPending).where(AuditPending.event_id.in_([event.id for event in pending])))
    return len(pending)


def find_broken_seal(db: Session) -> int | None:
    """Return the id of an event that is not what was sealed, or was never to be, or None if the chain is whole.

    Only the events of the last minute, or all from some point on, can go without a trace: whoever keeps
    a ``hash`` elsewhere can tell the latter too.
    """
    last = FIRST_HASH
    query = select(AuditSeal, AuditEvent).outerjoin(AuditEvent, AuditEvent.id == AuditSeal.event_id)
    with db.execute(query.order_by(AuditSeal.id).execution_options(yield_per=1000)) as rows:
        for seal, event in rows:
            if event is None:
                return int(seal.event_id)
            last = hash_event(last, event)
            if last != seal.hash:
                return int(event.id)
    is_sealed = exists().where(AuditSeal.event_id == AuditEvent.id)
    is_pending = exists().where(AuditPending.event_id == AuditEvent.id)
    return db.scalar(select(func.min(AuditEvent.id)).where(~is_sealed, ~is_pending))


def hash_event(previous: bytes, event: AuditEvent) -> bytes:
    """Return the SHA-256 over the seal before and everything the event says."""
    said = {
        "id": event.id,
        "at": to_wire(event.at),
        "event": event.event,
        "actor": [str(event.actor_uuid), event.actor_site_id],
        "key": str(event.key_uuid),
        "request": event.request_id,
        "ip": event.ip,
        "entity": [event.entity_type, str(event.entity_uuid), event.entity_site_id],
        "before": event.before,
        "after": event.after,
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(previous + text.encode()).digest()


def _name_entity(entity: Any) -> dict[str, Any]:
    if entity is None:
        return {"entity_type": None, "entity_uuid": None, "entity_site_id": None}
    return {
        "entity_type": getattr(entity, "entity_type", None) or type(entity).__name__,
        "entity_uuid": entity.uuid,
        "entity_site_id": getattr(entity, "site_id", None),
    }
