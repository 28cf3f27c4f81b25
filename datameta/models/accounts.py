"""Who there is: groups, users, and the API keys that users make."""

from sqlalchemy import ForeignKey, Index, LargeBinary, String, text, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from datameta.models.base import Base, CreatedAt, HasSiteId, HasUuid, Instant


class Group(HasSiteId, Base):
    """An organisation that owns submissions."""

    __tablename__ = "groups"

    name: Mapped[str] = mapped_column(String(255), unique=True)
    created_at: Mapped[CreatedAt]


class User(HasSiteId, Base):
    """A person or a bot; belongs to exactly one group."""

    __tablename__ = "users"
    __table_args__ = (Index("uq_users_email_lower", text("lower(email)"), unique=True),)

    email: Mapped[str] = mapped_column(String(254))
    name: Mapped[str] = mapped_column(String(255))
    password_hash: Mapped[str] = mapped_column(String(200))
    enabled: Mapped[bool] = mapped_column(default=True, server_default=true())
    group_id: Mapped[int] = mapped_column(ForeignKey("groups.id"), index=True)
    group_admin: Mapped[bool] = mapped_column(default=False)
    site_admin: Mapped[bool] = mapped_column(default=False)
    site_read: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[CreatedAt]

    group: Mapped[Group] = relationship(lazy="raise")


class ApiKey(HasUuid, Base):
    """A token that stands for its user; only its SHA-256 is kept."""

    __tablename__ = "api_keys"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    label: Mapped[str] = mapped_column(String(200))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    expires_at: Mapped[Instant]
    created_at: Mapped[CreatedAt]
