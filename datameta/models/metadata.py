"""What is described: field definitions, records, and the claims that keep values unique.

A record is one JSONB object keyed by the metadatum's row id, so that renaming a field touches
no record. Values are text; a key that is missing means null.
"""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from datameta.models.base import Base, CreatedAt, HasSiteId, HasUuid
from datameta.models.submissions import Submission

SITE_SCOPE = 0


class MetaDatum(HasUuid, Base):
    """The definition of one field; with a service, only that service fills it."""

    __tablename__ = "metadata"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    regex_description: Mapped[str | None] = mapped_column(String(10_000))
    long_description: Mapped[str | None] = mapped_column(String(10_000))
    example: Mapped[str | None] = mapped_column(String(10_000))
    reg_exp: Mapped[str | None] = mapped_column(String(1000))
    date_time_fmt: Mapped[str | None] = mapped_column(String(100))
    is_mandatory: Mapped[bool]
    order: Mapped[int]
    is_file: Mapped[bool]
    is_submission_unique: Mapped[bool]
    is_site_unique: Mapped[bool]
    service_id: Mapped[int | None] = mapped_column(ForeignKey("services.id"), index=True)


class MetaDataSet(HasSiteId, Base):
    """One record, its owner, and the submission it went out with (None while it is staged)."""

    __tablename__ = "metadatasets"
    __table_args__ = (
        Index("ix_metadatasets_staged_by", "user_id", postgresql_where=text("submission_id IS NULL")),
        Index("ix_metadatasets_submission_id", "submission_id", "id"),
    )

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    submission_id: Mapped[int | None] = mapped_column(ForeignKey("submissions.id"))
    record: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]

    submission: Mapped[Submission | None] = relationship(lazy="raise")


class UniqueClaim(Base):
    """The right of one metadataset to hold a value; the primary key lets nobody else hold it.

    ``scope`` is 0 for a value that is unique in the whole site, else the id of the submission within
    which it is unique. ``value_hash`` is the SHA-256 of the normalised value: an index entry is
    limited to about 2,700 bytes, a value is not.
    """

    __tablename__ = "unique_claims"
    __table_args__ = (CheckConstraint("scope >= 0", name="scope"),)

    metadatum_id: Mapped[int] = mapped_column(ForeignKey("metadata.id"), primary_key=True)
    scope: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    metadataset_id: Mapped[int] = mapped_column(ForeignKey("metadatasets.id"), index=True)
