"""What has happened: written once, never changed; the database itself refuses it (triggers in the migration).

Events are chained: each seal holds the SHA-256 over the seal before and its event. Seals are made
after the events have been committed, so that writers do not wait for each other; the order of the
chain is that of the seals.

Events lie in partitions of ten million ids each, which are made ahead (``logic.audit.make_room``).
"""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from datameta.models.base import Base, CreatedAt, PrimaryKey


class AuditEvent(Base):
    """One change of state, or one attempt that was refused; ids are copied, so that they outlive their rows."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_actor", "actor_uuid", "id"),
        Index("ix_audit_events_entity", "entity_uuid", "id", postgresql_where=text("entity_uuid IS NOT NULL")),
        Index("ix_audit_events_at", "at"),
        Index("ix_audit_events_event", "event", "id"),
        Index("ix_audit_events_actor_site", "actor_site_id", "id"),
        Index(
            "ix_audit_events_entity_site", "entity_site_id", "id", postgresql_where=text("entity_site_id IS NOT NULL")
        ),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[PrimaryKey]
    at: Mapped[CreatedAt]
    event: Mapped[str] = mapped_column(String(100))
    actor_uuid: Mapped[UUID | None] = mapped_column(Uuid)
    actor_site_id: Mapped[str | None] = mapped_column(String(50))
    key_uuid: Mapped[UUID | None] = mapped_column(Uuid)
    request_id: Mapped[str | None] = mapped_column(String(100))
    ip: Mapped[str | None] = mapped_column(String(100))
    entity_type: Mapped[str | None] = mapped_column(String(50))
    entity_uuid: Mapped[UUID | None] = mapped_column(Uuid)
    entity_site_id: Mapped[str | None] = mapped_column(String(50))
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)


class AuditSeal(Base):
    """One link of the chain."""

    __tablename__ = "audit_seals"

    id: Mapped[PrimaryKey]
    event_id: Mapped[int] = mapped_column(ForeignKey("audit_events.id"), unique=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class AuditPending(Base):
    """An event that is not sealed yet; a trigger notes it when the event is written."""

    __tablename__ = "audit_pending"

    event_id: Mapped[int] = mapped_column(ForeignKey("audit_events.id"), primary_key=True)
