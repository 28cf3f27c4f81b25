"""Services: the external workers that read submitted data and answer with metadata."""

from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from datameta.models.base import Base, CreatedAt, HasSiteId, HasUuid


class Service(HasSiteId, Base):
    """A worker by name."""

    __tablename__ = "services"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    created_at: Mapped[CreatedAt]


class ServiceUser(Base):
    """A user who may act as a service."""

    __tablename__ = "service_users"

    service_id: Mapped[int] = mapped_column(ForeignKey("services.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)


class ServiceExecution(HasUuid, Base):
    """What a service answered for one metadataset: once, and for good."""

    __tablename__ = "service_executions"
    __table_args__ = (UniqueConstraint("metadataset_id", "service_id"),)

    service_id: Mapped[int] = mapped_column(ForeignKey("services.id"), index=True)
    metadataset_id: Mapped[int] = mapped_column(ForeignKey("metadatasets.id"))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    record: Mapped[dict[str, Any]] = mapped_column(JSONB)
    executed_at: Mapped[CreatedAt]
