"""The second factor of an account: begun with the password, active once a code has shown that the device has it.

Its secret is kept encrypted. A key may not change it. It is removed by its user, who shows password and code once
more, or by a site admin.
"""

import pyotp
from sqlalchemy import delete, func, insert, update
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.credentials import hash_recovery_code, make_recovery_codes
from datameta.errors import ConflictError, ForbiddenError, Problem, UnauthenticatedError, ValidationError
from datameta.identifiers import find_by_id
from datameta.logic import throttle
from datameta.logic.appsettings import get_setting
from datameta.logic.audit import record_event
from datameta.logic.login import require_own_password
from datameta.logic.mail import store_mail
from datameta.logic.throttle import Sessions
from datameta.logic.totp import find_step, list_attempts, require_code
from datameta.models import RecoveryCode, User
from datameta.settings import Settings
from datameta.vault import Vault


def begin_totp(
    db: Session, sessions: Sessions, actor: Actor, *, user_id: str, settings: Settings, vault: Vault, password: str
) -> tuple[str, str]:
    """Give the user a new secret, which is not active yet; return it and its ``otpauth:`` address.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ConflictError`` if one is active, ``TooManyRequestsError``.
    """
    user = _find_own_account(db, actor, user_id)
    require_own_password(sessions, actor, settings=settings, password=password)
    secret = pyotp.random_base32()
    sealed = vault.encrypt(secret.encode("ascii"))
    begun = update(User).where(User.id == user.id, User.totp_confirmed_at.is_(None))
    if db.execute(begun.values(totp_secret=sealed, totp_step=None).returning(User.id)).one_or_none() is None:
        raise _already_active()
    issuer = get_setting(db, "site_name")
    return secret, pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name=issuer)


def confirm_totp(db: Session, sessions: Sessions, actor: Actor, *, user_id: str, vault: Vault, code: str) -> list[str]:
    """Make the second factor active by a code from it; return the recovery codes, which are shown this once.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ConflictError``, ``ValidationError``, ``TooManyRequestsError``.
    """
    user = _find_own_account(db, actor, user_id)
    if user.totp_confirmed_at is not None:
        raise _already_active()
    if user.totp_secret is None:
        raise ConflictError("Begin to set up a second factor first.", code="totp_not_begun")
    throttle.take_all(sessions, list_attempts(user))
    step = find_step(user, vault, code)
    if step is None:
        raise ValidationError(Problem("The code is wrong.", "otp_invalid", field="code"))
    confirmed = update(User).where(
        User.id == user.id, User.totp_secret == user.totp_secret, User.totp_confirmed_at.is_(None)
    )
    confirmed = confirmed.values(totp_confirmed_at=func.now(), totp_step=step)
    if db.execute(confirmed.returning(User.id)).one_or_none() is None:
        raise ConflictError("The second factor was changed meanwhile.", code="totp_not_begun")
    throttle.clear(db, list_attempts(user))
    record_event(db, "totp.enrolled", actor=actor, entity=user)
    return _replace_recovery_codes(db, user)


def renew_recovery_codes(
    db: Session,
    sessions: Sessions,
    actor: Actor,
    *,
    user_id: str,
    settings: Settings,
    vault: Vault,
    password: str,
    code: str,
) -> list[str]:
    """Replace the user's recovery codes; return the new ones, which are shown this once.

    Raises as ``remove_own_totp``.
    """
    user = _find_proven(
        db, sessions, actor, user_id=user_id, settings=settings, vault=vault, password=password, code=code
    )
    record_event(db, "recovery_code.renewed", actor=actor, entity=user)
    return _replace_recovery_codes(db, user)


def remove_own_totp(
    db: Session,
    sessions: Sessions,
    actor: Actor,
    *,
    user_id: str,
    settings: Settings,
    vault: Vault,
    password: str,
    code: str,
) -> None:
    """Remove the second factor of the user who asks, and tell by mail.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ConflictError`` if none is active, ``ValidationError`` for a wrong
    code, ``TooManyRequestsError``.
    """
    user = _find_proven(
        db, sessions, actor, user_id=user_id, settings=settings, vault=vault, password=password, code=code
    )
    _remove(db, actor, user, vault)


def remove_totp(db: Session, actor: Actor, *, user_id: str, vault: Vault) -> None:
    """Remove a user's second factor, and tell the user.

    Raises ``ForbiddenError``, ``NotFoundError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    user = find_by_id(db, User, user_id, lock=True)
    if user.totp_secret is None:
        return
    _remove(db, actor, user, vault)


def _remove(db: Session, actor: Actor, user: User, vault: Vault) -> None:
    was_active = user.totp_confirmed_at is not None
    user.totp_secret = user.totp_confirmed_at = user.totp_step = None
    db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    record_event(db, "totp.removed", actor=actor, entity=user, before={"active": was_active})
    if was_active:
        store_mail(db, vault, template="totp_removed", to=user.email, values={"name": user.name})


def _replace_recovery_codes(db: Session, user: User) -> list[str]:
    codes = make_recovery_codes()
    db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    rows = [{"user_id": user.id, "code_hash": hash_recovery_code(each)} for each in codes]
    db.execute(insert(RecoveryCode), rows)
    return codes


def _find_proven(
    db: Session,
    sessions: Sessions,
    actor: Actor,
    *,
    user_id: str,
    settings: Settings,
    vault: Vault,
    password: str,
    code: str,
) -> User:
    """Load the actor's account, whose second factor is active, if password and code are shown once more."""
    user = _find_own_account(db, actor, user_id)
    if user.totp_confirmed_at is None:
        raise ConflictError("No second factor is active.", code="totp_inactive")
    require_own_password(sessions, actor, settings=settings, password=password)
    try:
        require_code(sessions, user, code, vault=vault, origin=actor.origin)
    except UnauthenticatedError:
        # The session stands; it is what was sent that does not fit.
        raise ValidationError(Problem("The code is wrong, or was used before.", "otp_invalid", field="code")) from None
    return user


def _find_own_account(db: Session, actor: Actor, user_id: str) -> User:
    """Load the account whose second factor the actor wants to change: the own one, and not by a key.

    Raises ``ForbiddenError``, ``NotFoundError``.
    """
    if actor.key_id is not None:
        raise ForbiddenError("An API key may not do this; sign in.", code="key_not_allowed")
    user = find_by_id(db, User, user_id)
    if user.id != actor.id:
        raise ForbiddenError
    return user


def _already_active() -> ConflictError:
    return ConflictError("A second factor is active already.", code="totp_active")
