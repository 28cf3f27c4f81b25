"""Users: added, read, changed.

Each property of a user has its own right to change it, and a request that touches one that the actor
may not change changes nothing. Nobody takes the rights of a site admin from oneself, and rights are
judged while both rows are locked: of two site admins who take each other's rights away the second
has none any more, and the site always keeps one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, cast, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, contains_eager, joinedload

from datameta.authz import (
    Actor,
    may_administer_site,
    may_change_user,
    may_list_users,
    may_view_user,
    visible_users,
)
from datameta.credentials import hash_password, make_password
from datameta.errors import ForbiddenError, NotFoundError, Problem, UnauthenticatedError, ValidationError
from datameta.identifiers import find_by_id, insert_with_site_ids, matches_id
from datameta.logic.addresses import is_address
from datameta.logic.appsettings import get_setting
from datameta.logic.audit import changed, record_event
from datameta.logic.groups import find_sent_group
from datameta.logic.links import mail_link
from datameta.logic.sessions import end_sessions
from datameta.models import ApiKey, Group, LoginSession, User
from datameta.paging import make_cursor, parse_cursor
from datameta.settings import Settings
from datameta.vault import Vault

PROPERTIES = {
    "name": "name",
    "groupId": "group_id",
    "groupAdmin": "group_admin",
    "siteAdmin": "site_admin",
    "siteRead": "site_read",
    "enabled": "enabled",
}
"""What can be changed of a user: by which name it is sent, and which property it is."""
ROLES = ("group_admin", "site_admin", "site_read")


@dataclass(frozen=True)
class UserView:
    """A user, with the group loaded, as administrators see one."""

    user: User
    last_seen_at: datetime | None


def get_user(db: Session, actor: Actor, *, user_id: str) -> User:
    """Load a user with the group.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    user = find_by_id(db, User, user_id, joinedload(User.group))
    if not may_view_user(actor, user.id, user.group_id):
        raise ForbiddenError
    return user


def list_users(
    db: Session, actor: Actor, *, limit: int, cursor: str | None, search: str | None, group_id: str | None
) -> tuple[Sequence[UserView], str | None]:
    """Return up to ``limit`` users the actor administers, oldest first, and the next cursor.

    Raises ``ForbiddenError``, ``ValidationError`` for an unknown cursor.
    """
    if not may_list_users(actor):
        raise ForbiddenError
    query = (
        select(User, _last_seen_at())
        .join(User.group)
        .options(contains_eager(User.group))
        .where(visible_users(actor))
        .order_by(User.id)
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(User.id > parse_cursor(cursor, int)[0])
    if search is not None:
        columns = (User.name, User.email, User.site_id)
        query = query.where(or_(*(column.icontains(search, autoescape=True) for column in columns)))
    if group_id is not None:
        query = query.where(matches_id(Group, group_id))
    views = [UserView(user, last_seen_at) for user, last_seen_at in db.execute(query)]
    return views[:limit], make_cursor(views[limit - 1].user.id) if len(views) > limit else None


def create_user(
    db: Session,
    actor: Actor,
    *,
    settings: Settings,
    vault: Vault,
    name: str,
    email: str,
    group_id: str,
    **roles: bool,
) -> User:
    """Add a user, who is sent a link to set a password.

    Raises ``ForbiddenError``, ``NotFoundError`` for an unknown group, ``ValidationError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    group = find_sent_group(db, group_id)
    user = add_user(db, actor, settings=settings, email=email, name=name, group=group, password=None, **roles)
    invite_user(db, user, settings=settings, vault=vault, template="welcome")
    return user


def invite_user(db: Session, user: User, *, settings: Settings, vault: Vault, template: str, **values: str) -> None:
    """Send a new user the mail ``template`` with a link to set a password; ``values`` are filled in as well."""
    lifetime = timedelta(hours=get_setting(db, "welcome_token_hours"))
    mail_link(db, user, settings=settings, vault=vault, template=template, lifetime=lifetime, **values)


def change_user(db: Session, actor: Actor, *, user_id: str, changes: Mapping[str, Any]) -> None:
    """Change the properties given (by the names in which they are sent), all or none.

    Raises ``NotFoundError`` for an unknown user or group, ``ForbiddenError`` with each property the
    actor may not change, ``ValidationError``.
    """
    user, actor = _lock(db, user_id, actor)
    allowed = {field for field, name in PROPERTIES.items() if may_change_user(actor, user, name)}
    if not allowed:
        raise ForbiddenError
    if forbidden := [field for field in changes if field not in allowed]:
        message = "You are not allowed to change this."
        raise ForbiddenError(Problem(message, "forbidden", field=field) for field in forbidden)
    values = {PROPERTIES[field]: value for field, value in changes.items()}
    if not values.get("name", "x").strip():
        raise ValidationError(_name_missing())
    before = _describe(user)
    if "group_id" in values:
        user.group = find_sent_group(db, values.pop("group_id"))
    for name, value in values.items():
        setattr(user, name, value)
    db.flush()
    old, new = changed(before, _describe(user))
    if new:
        record_event(db, "user.changed", actor=actor, entity=user, before=old, after=new)
    if "group" in new or False in (new.get(name) for name in (*ROLES, "enabled")):
        end_sessions(db, user.id)


def add_user(
    db: Session,
    actor: Actor | None = None,
    /,
    *,
    settings: Settings,
    email: str,
    name: str,
    group: Group,
    password: str | None,
    site_admin: bool = False,
    site_read: bool = False,
    group_admin: bool = False,
) -> User:
    """Add a user; without a password, one who cannot sign in before having set it. No password is refused here.

    Raises ``ValidationError`` for an empty name, and an address that is none or taken.
    """
    problems = []
    if not name.strip():
        problems.append(_name_missing())
    if not is_address(email):
        problems.append(Problem(f"{email!r} is no e-mail address.", "invalid_email", field="email"))
    if problems:
        raise ValidationError(problems)
    row = {
        "email": email,
        "name": name,
        "group_id": group.id,
        # A hash all the same, so that a login takes as long as any other.
        "password_hash": hash_password(password or make_password(), settings.bcrypt_cost),
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
    user.group = group
    record_event(db, "user.created", actor=actor, entity=user, after={"email": email, **_describe(user)})
    return user


def get_user_by_email(db: Session, email: str) -> User | None:
    """Return the user with this address in any letter case, or None."""
    return db.scalars(select(User).where(func.lower(User.email) == func.lower(email))).one_or_none()


def _lock(db: Session, user_id: str, actor: Actor) -> tuple[User, Actor]:
    """Lock the user and the actor, and return both as they are now."""
    # In the order of ids, so that two who change each other do not wait for each other for ever. The
    # lock leaves room for those who only refer to a user.
    query = (
        select(User)
        .where(or_(matches_id(User, user_id), User.id == actor.id))
        .options(joinedload(User.group, innerjoin=True))
        .order_by(User.id)
        .with_for_update(of=User, key_share=True)
        .execution_options(populate_existing=True)
    )
    rows = {row.id: row for row in db.scalars(query)}
    me = rows[actor.id]
    user = me if user_id in (str(me.uuid), me.site_id) else next((row for row in rows.values() if row is not me), None)
    if not me.enabled:
        raise UnauthenticatedError
    if user is None:
        raise NotFoundError
    return user, replace(actor, group_id=me.group_id, **{name: getattr(me, name) for name in ROLES})


def _describe(user: User) -> dict[str, Any]:
    """Return what the audit says of a user."""
    names = ("name", *ROLES, "enabled")
    return {"group": user.group.site_id, **{name: getattr(user, name) for name in names}}


def _last_seen_at() -> Any:
    """Return the query for when a user was here last: by a session, or (to the day) by a key."""
    by_session = select(func.max(LoginSession.last_seen_at)).where(LoginSession.user_id == User.id).scalar_subquery()
    by_key = select(func.max(ApiKey.last_used_on)).where(ApiKey.user_id == User.id).scalar_subquery()
    return func.greatest(by_session, cast(by_key, DateTime(timezone=True)))


def _name_missing() -> Problem:
    return Problem("A user needs a name.", "mandatory_missing", field="name")
