"""Files: what was announced, how far its bytes have come, and which field of which set names it.

The state says what may happen next; the modules of ``logic/`` on files and the sweeper are its only writers::

    new ─► announced ─► confirming ─► verifying ─► confirmed ─► (submitted: with a submission or a service's answer)
                           └───────────── │ ──────────►┘
                                          └──► failed ─►┘
    any of them ─► deleting ─► (no row)

What the store proves is confirmed at once; else the content is read first, and the file is ``verifying``.
``failed`` is a session's content that has other checksums than the announced one.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from datameta.models.accounts import User
from datameta.models.base import Base, CreatedAt, HasSiteId, Instant
from datameta.models.services import ServiceExecution
from datameta.models.submissions import Submission


class FileState(StrEnum):
    """How far a file has come."""

    NEW = "new"
    ANNOUNCED = "announced"
    CONFIRMING = "confirming"
    VERIFYING = "verifying"
    FAILED = "failed"
    CONFIRMED = "confirmed"
    DELETING = "deleting"


class File(HasSiteId, Base):
    """A logical file; where its bytes are is the storage's business."""

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint(
            "state IN ('new', 'announced', 'confirming', 'verifying', 'failed', 'confirmed', 'deleting')", name="state"
        ),
        CheckConstraint(
            "state NOT IN ('verifying', 'failed', 'confirmed') OR (storage_key IS NOT NULL AND size IS NOT NULL)",
            name="confirmed",
        ),
        CheckConstraint("part_size IS NULL OR announced_size IS NOT NULL", name="session"),
        CheckConstraint("submission_id IS NULL OR state = 'confirmed'", name="submitted"),
        CheckConstraint("service_execution_id IS NULL OR state = 'confirmed'", name="executed"),
        Index("ix_files_staged_by", "user_id", postgresql_where=text("submission_id IS NULL")),
        Index("ix_files_unfinished", "state_changed_at", postgresql_where=text("state <> 'confirmed'")),
        # What a user occupies is summed from the index alone.
        Index("ix_files_occupied", "user_id", postgresql_include=["size", "announced_size"]),
        Index("ix_files_problem", "id", postgresql_where=text("problem IS NOT NULL")),
        Index(
            "ix_files_checked",
            text("checked_at NULLS FIRST"),
            postgresql_where=text("state = 'confirmed' AND problem IS NULL"),
        ),
    )

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(String(255))
    checksum: Mapped[str] = mapped_column(String(64))
    former: Mapped[dict[str, str] | None] = mapped_column(JSONB(none_as_null=True))
    """The name and checksum it returns to if the confirmation under way, which changed them, fails."""
    state: Mapped[FileState] = mapped_column(String(20))
    state_changed_at: Mapped[CreatedAt]
    created_at: Mapped[CreatedAt]
    upload: Mapped[str | None] = mapped_column(String(1024))
    upload_suffix: Mapped[str] = mapped_column(String(40), server_default="")
    upload_token_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    upload_expires_at: Mapped[Instant]
    announced_size: Mapped[int | None] = mapped_column(BigInteger)
    part_size: Mapped[int | None] = mapped_column(BigInteger)
    storage_key: Mapped[str | None] = mapped_column(String(200))
    size: Mapped[int | None] = mapped_column(BigInteger)
    md5: Mapped[str | None] = mapped_column(String(32))
    sha256: Mapped[str | None] = mapped_column(String(64))
    verified_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease: Mapped[UUID | None] = mapped_column(Uuid)
    lease_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    confirmed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    checked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    problem: Mapped[str | None] = mapped_column(String(40))
    submission_id: Mapped[int | None] = mapped_column(ForeignKey("submissions.id"), index=True)
    service_execution_id: Mapped[int | None] = mapped_column(ForeignKey("service_executions.id"), index=True)

    user: Mapped[User] = relationship(lazy="raise")
    submission: Mapped[Submission | None] = relationship(lazy="raise")
    service_execution: Mapped[ServiceExecution | None] = relationship(lazy="raise")

    @property
    def upload_key(self) -> str:
        """The storage key of the present upload; each has one of its own, so that none completes another's."""
        return self.make_key(self.upload_suffix)

    def make_key(self, suffix: str) -> str:
        """Return the storage key of the file's upload with this suffix."""
        return f"files/{self.uuid}{suffix}"


class UploadPart(Base):
    """A part of a session's upload as its client announced it last; the store knows whether it has arrived."""

    __tablename__ = "upload_parts"

    file_id: Mapped[int] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    md5: Mapped[str] = mapped_column(String(32))
    token_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))


class FileReference(Base):
    """The one field of the one metadataset that names a submitted file."""

    __tablename__ = "file_references"

    metadataset_id: Mapped[int] = mapped_column(ForeignKey("metadatasets.id"), primary_key=True)
    metadatum_id: Mapped[int] = mapped_column(ForeignKey("metadata.id"), primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("files.id"), unique=True)


class DownloadToken(Base):
    """A download address of the portal itself, where clients do not fetch from the store."""

    __tablename__ = "download_tokens"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[Instant] = mapped_column(index=True)
