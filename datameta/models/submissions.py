"""Submissions: what a group has handed in, whole or not at all."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from datameta.models.base import Base, CreatedAt, HasSiteId


class Submission(HasSiteId, Base):
    """An accepted submission; its group is the submitter's at that moment."""

    __tablename__ = "submissions"
    __table_args__ = (
        Index("ix_submissions_group_id", "group_id", "submitted_at"),
        Index("ix_submissions_submitted_at", "submitted_at"),
    )

    label: Mapped[str | None] = mapped_column(String(100))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    group_id: Mapped[int] = mapped_column(ForeignKey("groups.id"))
    submitted_at: Mapped[CreatedAt]
