"""What is described: field definitions, records, and the claims that keep values unique.

A record is one JSONB object keyed by the metadatum's row id, so that renaming a field touches
no record. Values are text; a key that is missing means null.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, String, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from datameta.models.base import Base, CreatedAt, HasSiteId, HasUuid, PrimaryKey
from datameta.models.submissions import Submission

SITE_SCOPE = 0


class MetaDatum(HasUuid, Base):
    """The definition of one field, and its refinement; with a service, only that service fills it."""

    __tablename__ = "metadata"
    __table_args__ = (CheckConstraint("kind IN ('text', 'vocabulary', 'number')", name="kind"),)

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
    kind: Mapped[str] = mapped_column(String(20), default="text", server_default="text")
    unit: Mapped[str | None] = mapped_column(String(50))
    minimum: Mapped[str | None] = mapped_column(String(50))
    maximum: Mapped[str | None] = mapped_column(String(50))
    is_integer: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    missing_terms: Mapped[list[str]] = mapped_column(ARRAY(String(100)), default=list, server_default=text("'{}'"))


class VocabularyTerm(Base):
    """A word that a field may hold, and others that mean the same and are not allowed."""

    __tablename__ = "vocabulary_terms"

    metadatum_id: Mapped[int] = mapped_column(ForeignKey("metadata.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    term: Mapped[str] = mapped_column(String(255))
    synonyms: Mapped[list[str]] = mapped_column(ARRAY(String(255)))


class RulebookVersion(Base):
    """The version of all fields, vocabularies and rules: one row, which triggers change with any of them."""

    __tablename__ = "rulebook_version"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[UUID] = mapped_column(Uuid)


class RecordRule(Base):
    """A rule between fields: where some conditions hold, others must; the message tells who breaks it why."""

    __tablename__ = "record_rules"

    id: Mapped[PrimaryKey]
    position: Mapped[int] = mapped_column(unique=True)
    message: Mapped[str] = mapped_column(String(1000))


class RuleCondition(Base):
    """A condition of a rule: one that must hold (``is_demand``), or one that says where the rule applies."""

    __tablename__ = "rule_conditions"

    rule_id: Mapped[int] = mapped_column(ForeignKey("record_rules.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    is_demand: Mapped[bool]
    metadatum_id: Mapped[int] = mapped_column(ForeignKey("metadata.id"), index=True)
    operator: Mapped[str] = mapped_column(String(20))
    words: Mapped[list[str]] = mapped_column(ARRAY(String(255)))
    other_id: Mapped[int | None] = mapped_column(ForeignKey("metadata.id"), index=True)


class MetaDataSet(HasSiteId, Base):
    """One record, its owner, and the submission it went out with (None while it is staged)."""

    __tablename__ = "metadatasets"
    __table_args__ = (
        Index("ix_metadatasets_staged_by", "user_id", postgresql_where=text("submission_id IS NULL")),
        Index("ix_metadatasets_submission_id", "submission_id", "id"),
        # By these, sets that hold the same are found: a record may be longer than what an index takes.
        Index("ix_metadatasets_same", "user_id", text("md5(record::text)")),
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
    limited to about 2,700 bytes, a value is not. By it, claims lie in sixteen partitions.
    """

    __tablename__ = "unique_claims"
    __table_args__ = (
        CheckConstraint("scope >= 0", name="scope"),
        {"postgresql_partition_by": "HASH (value_hash)"},
    )

    metadatum_id: Mapped[int] = mapped_column(ForeignKey("metadata.id"), primary_key=True)
    scope: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    metadataset_id: Mapped[int] = mapped_column(ForeignKey("metadatasets.id"), index=True)
