"""Files: what was announced, how far its bytes have come, and which field of which set names it.

The state says what may happen next; ``logic/files.py`` and ``logic/sweep.py`` are its only writers::

    new ─► announced ─► confirming ─► confirmed ─► (submitted: submission_id or service_execution_id is set)
                └──────────┴────────────┴──► deleting ─► (no row)
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, LargeBinary, String, text
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
    CONFIRMED = "confirmed"
    DELETING = "deleting"


class File(HasSiteId, Base):
    """A logical file; where its bytes are is the storage's business."""

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint("state IN ('new', 'announced', 'confirming', 'confirmed', 'deleting')", name="state"),
        CheckConstraint("state <> 'confirmed' OR (storage_key IS NOT NULL AND size IS NOT NULL)", name="confirmed"),
        CheckConstraint("submission_id IS NULL OR state = 'confirmed'", name="submitted"),
        CheckConstraint("service_execution_id IS NULL OR state = 'confirmed'", name="executed"),
        Index("ix_files_staged_by", "user_id", postgresql_where=text("submission_id IS NULL")),
        Index("ix_files_unfinished", "state_changed_at", postgresql_where=text("state <> 'confirmed'")),
    )

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(String(255))
    checksum: Mapped[str] = mapped_column(String(64))
    state: Mapped[FileState] = mapped_column(String(20))
    state_changed_at: Mapped[CreatedAt]
    created_at: Mapped[CreatedAt]
    upload: Mapped[str | None] = mapped_column(String(1024))
    upload_token_hash: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    upload_expires_at: Mapped[Instant]
    storage_key: Mapped[str | None] = mapped_column(String(200))
    size: Mapped[int | None] = mapped_column(BigInteger)
    confirmed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    submission_id: Mapped[int | None] = mapped_column(ForeignKey("submissions.id"), index=True)
    service_execution_id: Mapped[int | None] = mapped_column(ForeignKey("service_executions.id"), index=True)

    user: Mapped[User] = relationship(lazy="raise")
    submission: Mapped[Submission | None] = relationship(lazy="raise")
    service_execution: Mapped[ServiceExecution | None] = relationship(lazy="raise")

    @property
    def upload_key(self) -> str:
        """The storage key under which the upload of this file was opened."""
        return f"files/{self.uuid}"


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
