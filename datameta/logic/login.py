"""Signing in by password: a stranger learns nothing from the answer, nor from how long it takes.

Look up, throttle, spend one bcrypt in any case, and give one answer for everything that does not fit.
Attempts and failures are committed before the refusal. Nothing here ever disables an account: after
many failures in a row its password alone no longer lets in, until a mailed link has set a new one.
"""

import logging
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from datameta.authz import Actor, Origin
from datameta.clock import utc_now
from datameta.credentials import hash_password, is_outdated, is_password, make_dummy_hash, make_token
from datameta.errors import ForbiddenError, TooManyRequestsError, UnauthenticatedError
from datameta.logic import throttle
from datameta.logic.appsettings import get_setting
from datameta.logic.audit import record_event
from datameta.logic.identity import lock_actor
from datameta.logic.links import fill_link, mail_link
from datameta.logic.mail import store_mail
from datameta.logic.throttle import Attempt, Sessions
from datameta.logic.totp import require_code
from datameta.logic.users import get_user_by_email
from datameta.models import PasswordToken, User
from datameta.settings import Settings
from datameta.vault import Vault

MAX_FAILURES = 100
"""How many failures in a row pause the password of an account."""

log = logging.getLogger("datameta.login")


def sign_in(
    db: Session,
    sessions: Sessions,
    *,
    settings: Settings,
    vault: Vault,
    origin: Origin,
    email: str,
    password: str,
    otp: str | None,
) -> tuple[Actor, str]:
    """Return whom e-mail address, password and second factor stand for, and how the second factor is.

    Until the transaction of ``db`` ends, the password stays what it is.
    Raises ``UnauthenticatedError``, ``TooManyRequestsError``.
    """
    with sessions() as reading:
        user = get_user_by_email(reading, email)
    subject = email.casefold() if user is None else str(user.uuid)
    password_hash = _check_password(sessions, user, subject, settings=settings, origin=origin, password=password)
    if user is None or password_hash is None:
        raise _refusal()
    if user.totp_confirmed_at is not None:
        require_code(sessions, user, otp, vault=vault, origin=origin)
    found = lock_actor(db, user.id, password_hash, origin)
    if found is None:
        # Disabled, or given another password, since.
        raise _refusal()
    db.execute(delete(PasswordToken).where(PasswordToken.user_id == user.id))
    record_event(db, "login.ok", actor=found[0], entity=user, after={"second_factor": found[1]})
    return found


def require_own_password(sessions: Sessions, actor: Actor, *, settings: Settings, password: str) -> User:
    """Return the actor's account as it is, if this is its password.

    Raises ``ForbiddenError``, ``TooManyRequestsError``.
    """
    with sessions() as reading:
        user = reading.get_one(User, actor.id)
    known = _check_password(
        sessions, user, str(user.uuid), settings=settings, origin=actor.origin, password=password, actor=actor
    )
    if known is None:
        raise ForbiddenError("The password is wrong.", code="wrong_password")
    user.password_hash = known
    return user


def request_reset(
    db: Session, sessions: Sessions, *, settings: Settings, vault: Vault, origin: Origin, email: str
) -> None:
    """Mail a link to set a new password, if the address is a user's; nobody learns whether it is.

    Raises ``TooManyRequestsError`` for too many from one address of the network.
    """
    throttle.take(sessions, "reset_ip", origin.ip)
    user = get_user_by_email(db, email)
    is_free = throttle.is_free(sessions, "reset_account", email.casefold() if user is None else str(user.uuid))
    lifetime = timedelta(minutes=get_setting(db, "password_token_minutes"))
    record_event(db, "password.reset_requested", actor=None, origin=origin, entity=user)
    if user is not None and user.enabled and is_free:
        mail_link(db, user, settings=settings, vault=vault, template="reset", lifetime=lifetime)
        return
    # The same work for nobody, so that the time tells nothing.
    savepoint = db.begin_nested()
    values = fill_link(settings, email, make_token(), utc_now())
    store_mail(db, vault, template="reset", to=email, values=values)
    savepoint.rollback()


def _check_password(
    sessions: Sessions,
    user: User | None,
    subject: str,
    *,
    settings: Settings,
    origin: Origin,
    password: str,
    actor: Actor | None = None,
) -> str | None:
    """Return the hash of the user's password if this is it; count the attempt, and what it has come to."""
    attempts: list[Attempt] = [("login_account", subject), ("login_ip", origin.ip)]
    try:
        throttle.take_all(sessions, attempts)
    except TooManyRequestsError:
        _notice(sessions, user, subject, origin)
        raise
    usable = user if user is not None and user.enabled and user.password_failures < MAX_FAILURES else None
    password_hash = make_dummy_hash(settings.bcrypt_cost) if usable is None else usable.password_hash
    is_right = is_password(password, password_hash)
    if usable is None or not is_right:
        _count_failure(sessions, user, origin, actor)
        return None
    return _forget_failures(sessions, usable, subject, settings=settings, origin=origin, password=password)


def _forget_failures(
    sessions: Sessions, user: User, subject: str, *, settings: Settings, origin: Origin, password: str
) -> str | None:
    """Empty what counts failures, hash the password anew if that is due, and return the hash."""
    current = user.password_hash
    renewed = hash_password(password, settings.bcrypt_cost) if is_outdated(current, settings.bcrypt_cost) else current
    with sessions.begin() as db:
        changed = update(User).where(User.id == user.id, User.password_hash == current)
        changed = changed.values(password_hash=renewed, password_failures=0)
        is_changed = db.execute(changed.returning(User.id)).one_or_none() is not None
        throttle.clear(db, [("login_account", subject)])
        throttle.give_back(db, "login_ip", origin.ip)
        if is_changed:
            return renewed
        stored = db.scalar(select(User.password_hash).where(User.id == user.id))
    # Another login has hashed it anew meanwhile, or the password was changed.
    return stored if stored is not None and is_password(password, stored) else None


def _count_failure(sessions: Sessions, user: User | None, origin: Origin, actor: Actor | None) -> None:
    with sessions.begin() as db:
        if user is not None:
            counted = update(User).where(User.id == user.id).values(password_failures=User.password_failures + 1)
            db.execute(counted)
        record_event(db, "login.failed", actor=actor, origin=origin, entity=user, after={"factor": "password"})
    if not throttle.is_free(sessions, "login_site", "all"):
        log.error("more than %s logins failed within five minutes", throttle.RULES["login_site"].limit)


def _notice(sessions: Sessions, user: User | None, subject: str, origin: Origin) -> None:
    """Write down, now and then, that attempts are being refused unseen."""
    if throttle.is_free(sessions, "login_notice", subject):
        log.warning("logins from %s are being slowed down", origin.ip)
        with sessions.begin() as db:
            record_event(db, "login.throttled", actor=None, origin=origin, entity=user)


def _refusal() -> UnauthenticatedError:
    return UnauthenticatedError("There is no such user, or the password is another.")
