"""Passwords: long rather than odd, none that many people have, none that came before.

There are no rules of composition. What anybody can guess about an account (the site, the group, the
address) does not count towards the length.
"""

import gzip
import re
import unicodedata
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from datameta.authz import Actor, Origin
from datameta.credentials import hash_password, hash_token, is_password
from datameta.errors import ForbiddenError, GoneError, NotFoundError, Problem, ValidationError
from datameta.identifiers import parse_uuid
from datameta.logic import throttle
from datameta.logic.appsettings import get_settings
from datameta.logic.audit import record_event
from datameta.logic.keys import delete_user_keys
from datameta.logic.login import require_own_password
from datameta.logic.sessions import end_sessions
from datameta.logic.throttle import Sessions
from datameta.models import Group, OldPassword, PasswordToken, User
from datameta.settings import Settings

MAX_LENGTH = 256
KEPT_PASSWORDS = 10
"""How many old passwords are kept: as many as the setting may ask for."""
MIN_CONTEXT_WORD = 4
_COMMON = files("datameta").joinpath("data", "common_passwords.txt.gz")


def change_password(
    db: Session, sessions: Sessions, actor: Actor, *, settings: Settings, user_id: str, old: str, new: str
) -> None:
    """Change one's own password, and end all other sessions.

    Raises ``ForbiddenError`` for others, keys and a wrong old password, ``ValidationError``, ``TooManyRequestsError``.
    """
    if actor.key_id is not None:
        raise ForbiddenError("An API key may not do this; sign in.", code="key_not_allowed")
    if actor.site_id != user_id and actor.uuid != parse_uuid(user_id):
        raise ForbiddenError
    user = require_own_password(sessions, actor, settings=settings, password=old)
    _require_good(db, user, new)
    if not _set_password(db, user, new, settings):
        raise ForbiddenError("The password is wrong.", code="wrong_password")
    db.execute(delete(PasswordToken).where(PasswordToken.user_id == user.id))
    ended = end_sessions(db, user.id, except_id=actor.session_id)
    record_event(db, "password.changed", actor=actor, entity=user, after={"sessions_ended": ended})


def reset_password(db: Session, *, settings: Settings, origin: Origin, token: str, new: str) -> None:
    """Set the password of the user to whom the token was mailed; end all sessions and revoke all keys.

    Raises ``NotFoundError``, ``GoneError``, ``ValidationError``.
    """
    is_over = (PasswordToken.expires_at <= func.now()).label("is_over")
    query = select(User, is_over).join(PasswordToken, PasswordToken.user_id == User.id)
    found = db.execute(query.where(PasswordToken.token_hash == hash_token(token), User.enabled)).one_or_none()
    if found is None:
        raise _unknown_link()
    user: User = found[0]
    if found[1]:
        raise GoneError("This link has expired; ask for another.")
    _require_good(db, user, new)
    is_set = _set_password(db, user, new, settings)
    # Of two requests with the same token one finds it used.
    used = delete(PasswordToken).where(PasswordToken.token_hash == hash_token(token)).returning(PasswordToken.user_id)
    if not is_set or db.execute(used).one_or_none() is None:
        raise _unknown_link()
    throttle.clear(db, [("login_account", str(user.uuid))])
    delete_user_keys(db, user, origin=origin)
    ended = end_sessions(db, user.id)
    record_event(db, "password.reset", actor=None, origin=origin, entity=user, after={"sessions_ended": ended})


def check_password(
    password: str, *, min_length: int, email: str, group_name: str, site_name: str, field: str = "newPassword"
) -> list[Problem]:
    """Return what is wrong with a new password, apart from its history."""
    problems = []
    normal = unicodedata.normalize("NFC", password)
    if "\0" in normal or len(normal) > MAX_LENGTH:
        problems.append(
            Problem(f"A password has at most {MAX_LENGTH} characters, and no NUL.", "password_invalid", field)
        )
    if len(normal) < min_length:
        problems.append(Problem(f"A password has at least {min_length} characters.", "password_too_short", field))
    elif _is_common(normal):
        problems.append(Problem("Too many people have this password, or a part of it.", "password_common", field))
    elif words := _find_context(normal, email, group_name, site_name):
        rest = re.sub("|".join(map(re.escape, words)), "", normal.casefold())
        if len(rest) < min_length:
            named = ", ".join(words)
            message = f"Anybody can guess: {named}. Without that it has fewer than {min_length} characters."
            problems.append(Problem(message, "password_guessable", field))
    return problems


def _require_good(db: Session, user: User, password: str) -> None:
    """Raise ``ValidationError`` with everything that is wrong with a user's new password."""
    settings = get_settings(
        db, "password_min_length", "password_min_length_second_factor", "password_history", "site_name"
    )
    rule = "password_min_length" if user.totp_confirmed_at is None else "password_min_length_second_factor"
    problems = check_password(
        password,
        min_length=settings[rule],
        email=user.email,
        group_name=db.scalars(select(Group.name).where(Group.id == user.group_id)).one(),
        site_name=settings["site_name"],
    )
    if not problems and _was_used(db, user, password, settings["password_history"]):
        problems.append(Problem("You have used this password before.", "password_used", "newPassword"))
    if problems:
        raise ValidationError(problems)


def _was_used(db: Session, user: User, password: str, history: int) -> bool:
    """Say whether this is the user's password, or one of so many before."""
    before = select(OldPassword.password_hash).where(OldPassword.user_id == user.id)
    hashes = db.scalars(before.order_by(OldPassword.id.desc()).limit(history)).all()
    return any(is_password(password, password_hash) for password_hash in (user.password_hash, *hashes))


def _set_password(db: Session, user: User, password: str, settings: Settings) -> bool:
    """Set the password, unless it was set since ``user`` was read; keep the old one's hash for a while."""
    old = user.password_hash
    row = {"password_hash": hash_password(password, settings.bcrypt_cost), "password_failures": 0}  # nosec B105
    changed = update(User).where(User.id == user.id, User.password_hash == old).values(row).returning(User.id)
    if db.execute(changed).one_or_none() is None:
        return False
    db.execute(insert(OldPassword).values(user_id=user.id, password_hash=old))
    own = OldPassword.user_id == user.id
    kept = select(OldPassword.id).where(own).order_by(OldPassword.id.desc()).limit(KEPT_PASSWORDS)
    db.execute(delete(OldPassword).where(own, OldPassword.id.not_in(kept)))
    return True


def _is_common(password: str) -> bool:
    """Say whether the password is in the list, or repeats itself, or counts on from character to character."""
    folded = password.casefold()
    is_repeated = folded in (folded + folded)[1:-1]
    steps = {ord(second) - ord(first) for first, second in pairwise(folded)}
    return is_repeated or len(steps) == 1 or folded in _load_common()


@lru_cache(maxsize=1)
def _load_common() -> frozenset[str]:
    return frozenset(gzip.decompress(_COMMON.read_bytes()).decode("utf-8").splitlines())


def _find_context(password: str, email: str, group_name: str, site_name: str) -> list[str]:
    """Return the words of the account that occur in the password, the longest first."""
    texts = (email.partition("@")[0], group_name, site_name)
    words = {word for text in texts for word in re.split(r"[\W_]+", text.casefold()) if len(word) >= MIN_CONTEXT_WORD}
    return sorted((word for word in words if word in password.casefold()), key=lambda word: (-len(word), word))


def _unknown_link() -> NotFoundError:
    return NotFoundError("This link is not known, or was used.")
