"""The codes of a second factor: from the user's own device, or a recovery code; each is good for one use."""

import logging
from datetime import timedelta

import pyotp
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from datameta.authz import Origin
from datameta.clock import utc_now
from datameta.credentials import hash_recovery_code, is_same_secret
from datameta.errors import UnauthenticatedError
from datameta.logic import throttle
from datameta.logic.audit import record_event
from datameta.logic.throttle import Attempt, Sessions
from datameta.models import RecoveryCode, User
from datameta.vault import Vault

STEP = timedelta(seconds=30)
WINDOW = (-1, 0, 1)
"""How many steps a device's clock may differ."""

log = logging.getLogger("datameta.totp")


def require_code(sessions: Sessions, user: User, code: str | None, *, vault: Vault, origin: Origin) -> None:
    """Use up a code of the user's second factor, or a recovery code.

    Raises ``UnauthenticatedError``, ``TooManyRequestsError``.
    """
    if not code:
        raise UnauthenticatedError("The code of your second factor is needed, too.", code="otp_required")
    throttle.take_all(sessions, list_attempts(user))
    with sessions.begin() as db:
        is_right = _use_step(db, user, code, vault) or _use_recovery_code(db, user, code, origin)
        if is_right:
            throttle.clear(db, list_attempts(user))
        else:
            record_event(db, "login.failed", actor=None, origin=origin, entity=user, after={"factor": "otp"})
    if not is_right:
        raise UnauthenticatedError("The code is wrong, or was used before.", code="otp_invalid")


def _use_step(db: Session, user: User, code: str, vault: Vault) -> bool:
    step = find_step(user, vault, code)
    if step is None:
        return False
    # One statement decides: of two requests with the same code one finds it used.
    used = update(User).where(
        User.id == user.id, User.totp_secret == user.totp_secret, or_(User.totp_step.is_(None), User.totp_step < step)
    )
    return db.execute(used.values(totp_step=step).returning(User.id)).one_or_none() is not None


def _use_recovery_code(db: Session, user: User, code: str, origin: Origin) -> bool:
    fits = (RecoveryCode.user_id == user.id, RecoveryCode.code_hash == hash_recovery_code(code))
    if db.execute(delete(RecoveryCode).where(*fits).returning(RecoveryCode.user_id)).one_or_none() is None:
        return False
    left = db.scalar(select(func.count()).where(RecoveryCode.user_id == user.id))
    record_event(db, "recovery_code.used", actor=None, origin=origin, entity=user, after={"left": left})
    return True


def find_step(user: User, vault: Vault, code: str) -> int | None:
    """Return the step of time that a code of the user's device belongs to, or None."""
    secret = _open_secret(user, vault)
    if secret is None:
        return None
    sent = "".join(code.split())
    totp = pyotp.TOTP(secret)
    now = int(utc_now().timestamp() // STEP.total_seconds())
    return next((now + shift for shift in WINDOW if is_same_secret(sent, totp.generate_otp(now + shift))), None)


def _open_secret(user: User, vault: Vault) -> str | None:
    secret = None if user.totp_secret is None else vault.decrypt(user.totp_secret)
    if secret is None:
        log.error("the second factor of %s cannot be read: it was encrypted with another key", user.site_id)
        return None
    return secret.decode("ascii")


def list_attempts(user: User) -> list[Attempt]:
    """Return what counts as attempts to guess a code."""
    return [(rule, str(user.uuid)) for rule in ("otp_minutes", "otp_hour", "otp_day")]
