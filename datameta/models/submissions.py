"""Submissions: what a group has handed in, whole or not at all."""

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from datameta.models.base import Base, CreatedAt, HasSiteId


class Submission(HasSiteId, Base):
    """An accepted submission; its group is the submitter's at that moment.

    What it holds never changes, so that it is counted once: sets, files and the bytes of these.
    """

    __tablename__ = "submissions"
    __table_args__ = (
        Index("ix_submissions_group_id", "group_id", "submitted_at"),
        Index("ix_submissions_submitted_at", "submitted_at"),
    )

    label: Mapped[str | None] = mapped_column(String(100))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    group_id: Mapped[int] = mapped_column(ForeignKey("groups.id"))
    submitted_at: Mapped[CreatedAt]
    metadataset_count: Mapped[int] = mapped_column(server_default="0")
    file_count: Mapped[int] = mapped_column(server_default="0")
    byte_count: Mapped[int] = mapped_column(BigInteger, server_default="0")
