"""The audit: every change of state is an event, written in the transaction of the change.

Values before and after are small and flat: texts, numbers, booleans, null, lists or maps of texts.
Never a secret. Events are sealed into a chain once they are committed (``seal_events``).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from datameta.authz import Actor, Origin
from datameta.models import AuditEvent, AuditPending, AuditSeal

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
    rows = [{**common, **_name_entity(entity), "before": before, "after": after} for entity, before, after in changes]
    if rows:
        db.execute(insert(AuditEvent), rows)


def changed(before: Values, after: Values) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return only what differs between two states, as it was and as it is."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


def seal_events(db: Session) -> int:
    """Chain up to ``SEAL_BATCH`` events that are not sealed yet; return how many.

    The caller holds the sealing lock, so that the chain has one end.
    """
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
    """Return the id of the first event that is not what was sealed, or None if the chain is whole."""
    last = FIRST_HASH
    query = select(AuditSeal, AuditEvent).outerjoin(AuditEvent, AuditEvent.id == AuditSeal.event_id)
    for seal, event in _stream(db, query.order_by(AuditSeal.id)):
        if event is None:
            return int(seal.event_id)
        last = hash_event(last, event)
        if last != seal.hash:
            return int(event.id)
    return None


def hash_event(previous: bytes, event: AuditEvent) -> bytes:
    """Return the SHA-256 over the seal before and everything the event says."""
    said = {
        "id": event.id,
        "at": event.at.isoformat(),
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
        "entity_type": type(entity).__name__,
        "entity_uuid": entity.uuid,
        "entity_site_id": getattr(entity, "site_id", None),
    }


def _stream(db: Session, query: Any) -> Iterator[Any]:
    yield from db.execute(query.execution_options(yield_per=1000))
