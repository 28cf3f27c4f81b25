"""The second factor of an account: begun with the password, active once a code has shown that the device has it.

Its secret is kept encrypted. A key may not change it, and only a site admin may remove it.
"""

import pyotp
from sqlalchemy import delete, func, insert, update
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.credentials import hash_recovery_code, make_recovery_codes
from datameta.errors import ConflictError, ForbiddenError, Problem, ValidationError
from datameta.identifiers import find_by_id
from datameta.logic import throttle
from datameta.logic.appsettings import get_setting
from datameta.logic.audit import record_event
from datameta.logic.login import require_own_password
from datameta.logic.mail import store_mail
from datameta.logic.throttle import Sessions
from datameta.logic.totp import find_step, list_attempts
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
    codes = make_recovery_codes()
    db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    rows = [{"user_id": user.id, "code_hash": hash_recovery_code(each)} for each in codes]
    db.execute(insert(RecoveryCode), rows)
    record_event(db, "totp.enrolled", actor=actor, entity=user)
    return codes


def remove_totp(db: Session, actor: Actor, *, user_id: str, vault: Vault) -> None:
    """Remove a user's second factor, and tell the user.

    Raises ``ForbiddenError``, ``NotFoundError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    user = find_by_id(db, User, user_id, lock=True)
    if user.totp_secret is None:
        return
    was_active = user.totp_confirmed_at is not None
    user.totp_secret = user.totp_confirmed_at = user.totp_step = None
    db.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    record_event(db, "totp.removed", actor=actor, entity=user, before={"active": was_active})
    if was_active:
        store_mail(db, vault, template="totp_removed", to=user.email, values={"name": user.name})


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
