"""Whom a credential stands for: one query for a key, one for a session, as the database has them now.

A key lives until it expires; a session until it expires or has not been used for long; both only while
their user is enabled. That they were used is noted, but not at each use.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import Select, Update, bindparam, func, select, update
from sqlalchemy.orm import Session

from datameta.authz import Actor, Origin
from datameta.credentials import hash_token
from datameta.database import Database, Prepared
from datameta.identifiers import any_of
from datameta.logic.appsettings import read_value
from datameta.models import ApiKey, AppSetting, Group, LoginSession, ServiceUser, User

NONE, ACTIVE, SETUP_REQUIRED = "none", "active", "setup_required"
SEEN_EVERY = timedelta(minutes=1)
_ACTOR_FIELDS = frozenset(Actor.__dataclass_fields__)


def get_key_actor(database: Database, token: str, origin: Origin) -> Actor | None:
    """Return whom a live API key stands for, or None."""
    for row in database.read(_KEY, token_hash=hash_token(token)):
        if not row.is_noted:
            used = update(ApiKey).values(last_used_on=func.current_date(), last_used_ip=origin.ip)
            _note(database, used.where(ApiKey.id == row.key_id))
        return _make_actor(row, origin)
    return None


def get_session_actor(database: Database, token: str, origin: Origin) -> tuple[Actor, str] | None:
    """Return whom a live session stands for and how their second factor is, or None."""
    for row in database.read(_SESSION, token_hash=hash_token(token)):
        if row.idle > timedelta(hours=_read(row, "session_idle_hours")):
            return None
        if row.idle >= SEEN_EVERY:
            seen = update(LoginSession).values(last_seen_at=func.now())
            _note(database, seen.where(LoginSession.id == row.session_id))
        return _make_actor(row, origin), _second_factor_of(row)
    return None


def _note(database: Database, change: Update) -> None:
    with database.autocommit.connect() as connection:
        connection.execute(change)


def lock_actor(db: Session, user_id: int, password_hash: str, origin: Origin) -> tuple[Actor, str] | None:
    """Return an enabled user who still has this password, and how the second factor is, or None.

    Until the transaction ends nobody changes the password: what is let in now, a change will find and end.
    """
    query = (
        _select_actor(*_second_factor_columns())
        .where(User.id == user_id, User.password_hash == password_hash, User.enabled)
        .with_for_update(key_share=True, of=User)
    )
    row = db.execute(query).one_or_none()
    return None if row is None else (_make_actor(row, origin), _second_factor_of(row))


def _select_actor(*more: Any) -> Select[*tuple[Any, ...]]:
    services = select(func.array_agg(ServiceUser.service_id)).where(ServiceUser.user_id == User.id).scalar_subquery()
    return (
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
            *more,
        )
        .select_from(User)
        .join(Group, Group.id == User.group_id)
    )


def _second_factor_columns() -> list[Any]:
    keys = ("second_factor_required", "session_idle_hours")
    stored = select(func.jsonb_object_agg(AppSetting.key, AppSetting.value)).where(AppSetting.key == any_of(keys))
    return [User.totp_confirmed_at.is_not(None).label("has_second_factor"), stored.scalar_subquery().label("settings")]


def _second_factor_of(row: Any) -> str:
    if row.has_second_factor:
        return ACTIVE
    return SETUP_REQUIRED if _read(row, "second_factor_required") else NONE


def _read(row: Any, key: str) -> Any:
    return read_value(key, (row.settings or {}).get(key))


def _make_actor(row: Any, origin: Origin) -> Actor:
    values = {name: value for name, value in row._asdict().items() if name in _ACTOR_FIELDS}
    return Actor(**{**values, "service_ids": frozenset(row.service_ids or ()), "origin": origin})


_KEY = Prepared(
    _select_actor(
        ApiKey.id.label("key_id"),
        ApiKey.uuid.label("key_uuid"),
        ApiKey.expires_at.label("key_expires_at"),
        ApiKey.last_used_on.is_not_distinct_from(func.current_date()).label("is_noted"),
    )
    .join(ApiKey, ApiKey.user_id == User.id)
    .where(ApiKey.token_hash == bindparam("token_hash"), ApiKey.expires_at > func.now(), User.enabled)
)
_SESSION = Prepared(
    _select_actor(
        LoginSession.id.label("session_id"),
        LoginSession.uuid.label("session_uuid"),
        (func.now() - LoginSession.last_seen_at).label("idle"),
        *_second_factor_columns(),
    )
    .join(LoginSession, LoginSession.user_id == User.id)
    .where(LoginSession.token_hash == bindparam("token_hash"), LoginSession.expires_at > func.now(), User.enabled)
)
