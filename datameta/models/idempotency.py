"""Answers that are given again when a client repeats a request with the same ``Idempotency-Key``."""

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from datameta.models.base import Base, CreatedAt


class IdempotentAnswer(Base):
    """The answer to a request; ``answer`` is None while the request is being carried out.

    The answer is encrypted: that of an announcement holds a token.
    """

    __tablename__ = "idempotent_answers"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    operation: Mapped[str] = mapped_column(String(100), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt] = mapped_column(index=True)
