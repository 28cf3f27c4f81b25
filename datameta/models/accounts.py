"""Who there is: groups, users, and everything that lets a user in.

Secrets are kept as hashes, but for the second factor's, which is encrypted because it has to be read.
"""

from datetime import date, datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, LargeBinary, String, text, true
from sqlalchemy.orm import Mapped, mapped_column, relationship

from datameta.models.base import Base, CreatedAt, HasSiteId, HasUuid, Instant, PrimaryKey


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
    password_failures: Mapped[int] = mapped_column(default=0, server_default="0")
    totp_secret: Mapped[bytes | None] = mapped_column(LargeBinary(500))
    totp_confirmed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    totp_step: Mapped[int | None] = mapped_column(BigInteger)

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
    last_used_on: Mapped[date | None]
    last_used_ip: Mapped[str | None] = mapped_column(String(100))


class LoginSession(HasUuid, Base):
    """A browser that has signed in; the cookie's token is kept as its SHA-256."""

    __tablename__ = "login_sessions"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    created_at: Mapped[CreatedAt]
    last_seen_at: Mapped[CreatedAt]
    expires_at: Mapped[Instant]
    ip: Mapped[str | None] = mapped_column(String(100))
    user_agent: Mapped[str | None] = mapped_column(String(1000))


class OldPassword(Base):
    """A password that was used before and may not come again soon."""

    __tablename__ = "old_passwords"

    id: Mapped[PrimaryKey]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    replaced_at: Mapped[CreatedAt]


class PasswordToken(Base):
    """The one live token by which a user may set a password without knowing the old one."""

    __tablename__ = "password_tokens"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    expires_at: Mapped[Instant]
    created_at: Mapped[CreatedAt]


class RecoveryCode(Base):
    """A code that stands in for the second factor once."""

    __tablename__ = "recovery_codes"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)


class Registration(HasUuid, Base):
    """A stranger's wish to become a user; open until ``answered_at``."""

    __tablename__ = "registrations"
    __table_args__ = (
        Index(
            "uq_registrations_open_email",
            text("lower(email)"),
            unique=True,
            postgresql_where=text("answered_at IS NULL"),
        ),
    )

    name: Mapped[str] = mapped_column(String(255))
    email: Mapped[str] = mapped_column(String(254))
    group_id: Mapped[int | None] = mapped_column(ForeignKey("groups.id"), index=True)
    new_group_name: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[CreatedAt]
    answered_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    accepted: Mapped[bool | None]


class Throttle(Base):
    """How full a bucket of attempts is: the instant at which it would be empty again (GCRA).

    The table is unlogged: it may be lost in a crash of the database, and need not be written twice.
    """

    __tablename__ = "throttles"
    __table_args__ = {"prefixes": ["UNLOGGED"]}

    bucket: Mapped[str] = mapped_column(String(400), primary_key=True)
    empty_at: Mapped[Instant]
