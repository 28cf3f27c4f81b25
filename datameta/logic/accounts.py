"""Accounts: groups, users, and the API keys that stand for them."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from datameta.authz import Actor, may_administer_site, may_view_group, may_view_user
from datameta.clock import as_utc, utc_now
from datameta.credentials import hash_password, hash_token, make_token
from datameta.errors import ForbiddenError, Problem, UnauthenticatedError, ValidationError
from datameta.identifiers import find_by_id, insert_with_site_ids
from datameta.models import ApiKey, Group, ServiceUser, User
from datameta.settings import Settings, SiteIdFormat

MAX_LABEL_LENGTH = 200
MAX_EMAIL_LENGTH = 254


def get_actor(connection: Any, token: str) -> Actor | None:
    """Return whom a live API key stands for, or None; one query.

    A key lives until it expires, and only while its user is enabled.
    """
    services = select(func.array_agg(ServiceUser.service_id)).where(ServiceUser.user_id == User.id).scalar_subquery()
    query = (
        select(
            User.id,
            User.uuid,
            User.site_id,
            User.name,
            User.email,
            User.group_id,
            Group.uuid.label("group_uuid"),
            Group.site_id.label("group_site_id"),
            Group.name.label("group_name"),
            User.group_admin,
            User.site_admin,
            User.site_read,
            services.label("service_ids"),
            ApiKey.id.label("key_id"),
            ApiKey.expires_at.label("key_expires_at"),
        )
        .join(ApiKey, ApiKey.user_id == User.id)
        .join(Group, Group.id == User.group_id)
        .where(ApiKey.token_hash == hash_token(token), ApiKey.expires_at > func.now(), User.enabled)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    values = row._asdict()
    return Actor(**{**values, "service_ids": frozenset(values["service_ids"] or ())})


def create_key(
    db: Session, actor: Actor, *, settings: Settings, label: str, expires: str | None = None
) -> tuple[ApiKey, str]:
    """Make an API key for the actor; return it and its token, which is shown this once.

    A key that is made with a key ends no later than it, and with it.
    Raises ``ValidationError``, ``UnauthenticatedError``.
    """
    latest = utc_now() + timedelta(days=settings.api_key_max_days)
    if actor.key_expires_at is not None:
        latest = min(latest, as_utc(actor.key_expires_at))
    expires_at = latest if expires is None else parse_expiry(expires, latest)
    try:
        return add_key(db, user_id=actor.id, parent_id=actor.key_id, label=label, expires_at=expires_at)
    except IntegrityError:
        # The actor's own key was revoked after the request had been let in.
        raise UnauthenticatedError from None


def add_key(
    db: Session, *, user_id: int, label: str, expires_at: datetime, parent_id: int | None = None
) -> tuple[ApiKey, str]:
    """Store a new key; return it and its token."""
    token = make_token()
    key = ApiKey(user_id=user_id, parent_id=parent_id, label=label, token_hash=hash_token(token), expires_at=expires_at)
    db.add(key)
    db.flush()
    return key, token


def parse_expiry(text: str, latest: datetime) -> datetime:
    """Return the instant an API key is to end; without a time zone it is UTC.

    Raises ``ValidationError`` on ``expires`` if it is no ISO date-time, past, or after ``latest``.
    """
    try:
        expires_at = as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        message = "Write the time as ISO 8601, such as 2030-01-31T12:00:00+01:00."
        raise ValidationError(Problem(message, "invalid_date", field="expires")) from None
    if expires_at <= utc_now():
        raise ValidationError(Problem("This time is past.", "expires_past", field="expires"))
    if expires_at > latest:
        message = f"A key made now ends at {latest.isoformat(timespec='seconds')} at the latest."
        raise ValidationError(Problem(message, "expires_late", field="expires"))
    return expires_at


def list_keys(db: Session, actor: Actor, *, user_id: str) -> Sequence[ApiKey]:
    """Return the user's own keys, newest first.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    user = find_by_id(db, User, user_id)
    if user.id != actor.id:
        raise ForbiddenError
    return db.scalars(select(ApiKey).where(ApiKey.user_id == user.id).order_by(ApiKey.id.desc())).all()


def delete_key(db: Session, actor: Actor, *, key_id: str) -> None:
    """Revoke one's own key, and the keys that were made with it.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    key = find_by_id(db, ApiKey, key_id, lock=True)
    if key.user_id != actor.id:
        raise ForbiddenError
    db.delete(key)


def get_user(db: Session, actor: Actor, *, user_id: str) -> User:
    """Load a user with the group.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    user = find_by_id(db, User, user_id, joinedload(User.group))
    if not may_view_user(actor, user.id, user.group_id):
        raise ForbiddenError
    return user


def get_group(db: Session, actor: Actor, *, group_id: str) -> Group:
    """Load a group.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    group = find_by_id(db, Group, group_id)
    if not may_view_group(actor, group.id):
        raise ForbiddenError
    return group


def rename_group(db: Session, actor: Actor, *, group_id: str, name: str) -> None:
    """Rename a group.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ValidationError`` for a name that is empty or taken.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    group = find_by_id(db, Group, group_id)
    if not name.strip():
        raise ValidationError(Problem("A group needs a name.", "mandatory_missing", field="name"))
    try:
        db.execute(update(Group).where(Group.id == group.id).values(name=name))
    except IntegrityError:
        message = "There is a group with this name already."
        raise ValidationError(Problem(message, "duplicate_name", field="name")) from None


def find_or_add_group(db: Session, *, name: str, site_id_format: SiteIdFormat) -> tuple[Group, bool]:
    """Return the group with this name, and whether it was added now."""
    try:
        with db.begin_nested():
            [group] = insert_with_site_ids(db, Group, site_id_format, [{"name": name}])
        return group, True
    except IntegrityError:
        return db.scalars(select(Group).where(Group.name == name)).one(), False


def add_user(
    db: Session,
    *,
    settings: Settings,
    email: str,
    name: str,
    group: Group,
    password: str,
    site_admin: bool = False,
    site_read: bool = False,
    group_admin: bool = False,
) -> User:
    """Add a user.

    Raises ``ValidationError`` for an address that is none or taken.
    """
    if len(email) > MAX_EMAIL_LENGTH or not re.fullmatch(r"[^@\s\0]+@[^@\s\0]+", email):
        raise ValidationError(Problem(f"{email!r} is no e-mail address.", "invalid_email", field="email"))
    row = {
        "email": email,
        "name": name,
        "group_id": group.id,
        "password_hash": hash_password(password, settings.bcrypt_cost),
        "site_admin": site_admin,
        "site_read": site_read,
        "group_admin": group_admin,
    }
    try:
        with db.begin_nested():
            [user] = insert_with_site_ids(db, User, settings.id_users, [row])
    except IntegrityError:
        message = f"There is a user with the address {email} already."
        raise ValidationError(Problem(message, "duplicate_email", field="email")) from None
    return user


def get_user_by_email(db: Session, email: str) -> User | None:
    """Return the user with this address in any letter case, or None."""
    return db.scalars(select(User).where(func.lower(User.email) == func.lower(email))).one_or_none()
