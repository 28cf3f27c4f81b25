"""API keys: each stands for its user, ends, and is shown once.

A key that was made with a key ends no later than it, and with it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from datameta.authz import Actor, Origin
from datameta.clock import as_utc, to_wire, utc_now
from datameta.credentials import hash_token, make_token
from datameta.errors import ForbiddenError, Problem, UnauthenticatedError, ValidationError
from datameta.identifiers import find_by_id
from datameta.logic.appsettings import get_setting
from datameta.logic.audit import record_event, record_events
from datameta.models import ApiKey, User
from datameta.settings import Settings

MAX_LABEL_LENGTH = 200


def create_key(
    db: Session, actor: Actor, *, settings: Settings, label: str, expires: str | None = None
) -> tuple[ApiKey, str]:
    """Make an API key for the actor; return it and its token, which is shown this once.

    Raises ``ValidationError``, ``UnauthenticatedError``.
    """
    latest = utc_now() + timedelta(days=settings.api_key_max_days)
    if actor.key_expires_at is not None:
        latest = min(latest, as_utc(actor.key_expires_at))
    expires_at = latest if expires is None else parse_expiry(expires, latest)
    # Of several requests at once each counts the keys of those before.
    db.execute(select(User.id).where(User.id == actor.id).with_for_update(key_share=True))
    live = db.scalar(select(func.count()).where(ApiKey.user_id == actor.id, ApiKey.expires_at > func.now())) or 0
    most = get_setting(db, "api_key_max_live")
    if live >= most:
        raise ValidationError(Problem(f"You have {live} keys; revoke one first.", "too_many_keys"))
    try:
        key, token = add_key(db, user_id=actor.id, parent_id=actor.key_id, label=label, expires_at=expires_at)
    except IntegrityError:
        # The actor's own key was revoked after the request had been let in.
        raise UnauthenticatedError from None
    record_event(db, "key.created", actor=actor, entity=key, after=_describe(key))
    return key, token


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
    family = select(ApiKey.id).where(ApiKey.id == key.id).cte(recursive=True)
    family = family.union_all(select(ApiKey.id).join(family, ApiKey.parent_id == family.c.id))
    keys = db.scalars(select(ApiKey).where(ApiKey.id.in_(select(family.c.id))).order_by(ApiKey.id)).all()
    record_events(db, "key.revoked", actor=actor, changes=[(each, _describe(each), None) for each in keys])
    db.execute(delete(ApiKey).where(ApiKey.id == key.id))


def delete_user_keys(db: Session, user: User, *, origin: Origin) -> None:
    """Revoke all keys of a user who has lost control of them."""
    keys = db.scalars(select(ApiKey).where(ApiKey.user_id == user.id).order_by(ApiKey.id)).all()
    changes = [(key, _describe(key), None) for key in keys]
    record_events(db, "key.revoked", actor=None, origin=origin, changes=changes)
    db.execute(delete(ApiKey).where(ApiKey.user_id == user.id))


def _describe(key: ApiKey) -> dict[str, str]:
    return {"label": key.label, "expires": to_wire(key.expires_at)}
