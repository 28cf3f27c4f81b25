"""The base of all tables: naming of constraints, and the kinds of column used everywhere."""

from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, DateTime, Identity, MetaData, String, Uuid, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

metadata_obj = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

PrimaryKey = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
Instant = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = metadata_obj


class HasUuid:
    """A row that has a UUID but no site id."""

    id: Mapped[PrimaryKey]
    uuid: Mapped[UUID] = mapped_column(Uuid, unique=True, default=uuid4, server_default=func.gen_random_uuid())


class HasSiteId(HasUuid):
    """A row that people also know by a short id of this site."""

    site_id: Mapped[str] = mapped_column(String(50), unique=True)
