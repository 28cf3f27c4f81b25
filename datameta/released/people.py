"""Groups, users with their passwords and second factors, API keys, and open registrations."""

import re
from collections import defaultdict
from datetime import timedelta
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import Row, func, select

from datameta.credentials import OLD_SCHEME, make_dummy_hash
from datameta.logic.addresses import is_address
from datameta.logic.appsettings import get_setting
from datameta.models import ApiKey, Group, OldPassword, Registration, User
from datameta.released.old import to_utc
from datameta.released.target import LONGEST_NAME, Target, name_rows, shorten

NO_FACTOR = "had a second factor, and has none here: set it up anew, or import with --second-factor-key"


def move_groups(target: Target) -> None:
    """Bring the groups over; where another group here has a name, the site id is added to it."""
    rows = target.old.list_rows("groups")
    known = target.find_known(Group, rows)
    new = name_rows(target, Group, [(row, row.name) for row in rows if row.uuid not in known])
    known |= target.add_rows(Group, new)
    target.ids.groups = {row.id: known[row.uuid] for row in rows}
    target.report.count("groups", found=len(rows), new=len(new))


def move_users(target: Target, second_factors: Fernet | None) -> None:
    """Bring the users over with all that lets them in."""
    rows = target.old.list_rows("users")
    known = target.find_known(User, rows)
    taken = set(target.db.scalars(select(func.lower(User.email))))
    new = [_make_user(target, row, taken, second_factors) for row in rows if row.uuid not in known]
    added = target.add_rows(User, new)
    known |= added
    target.ids.users = {row.id: known[row.uuid] for row in rows}
    target.report.count("users", found=len(rows), new=len(new))
    _move_former_passwords(target, {row.id: row for row in rows if row.uuid in added})
    _move_keys(target)


def _make_user(target: Target, row: Row[Any], taken: set[str], second_factors: Fernet | None) -> dict[str, Any]:
    subject = f"user {row.site_id}"
    email, enabled = row.email or "", row.enabled
    is_taken = email.lower() in taken
    if is_taken or not is_address(email):
        email = f"{row.site_id.lower()}@imported.invalid"
        why = "another user here has the address" if is_taken else "this is no address:"
        then = f"the account has the address {email} and is disabled"
        target.report.remark(subject, f"{why} {row.email or '(none)'}; {then}")
        enabled = False
    taken.add(email.lower())
    password_hash = row.pwhash or ""
    if not password_hash.startswith(OLD_SCHEME):
        target.report.remark(subject, "has no password that can be read; a new one has to be set")
        password_hash = make_dummy_hash(target.settings.bcrypt_cost)
    secret = _open_second_factor(target, row, second_factors)
    return {
        "uuid": row.uuid,
        "site_id": row.site_id,
        "email": email,
        "name": shorten(row.fullname or row.site_id, LONGEST_NAME, target.report, subject, "name"),
        "password_hash": password_hash,
        "group_id": target.ids.groups[row.group_id],
        "enabled": enabled,
        "site_admin": row.site_admin,
        "group_admin": row.group_admin,
        "site_read": row.site_read,
        "totp_secret": None if secret is None else target.vault.encrypt(secret),
        "totp_confirmed_at": None if secret is None else target.now,
    }


def _open_second_factor(target: Target, row: Row[Any], key: Fernet | None) -> bytes | None:
    """Return the secret of a user's second factor."""
    if row.tfa_secret is None:
        return None
    try:
        if key is not None:
            return key.decrypt(row.tfa_secret.encode())
        target.report.remark(f"user {row.site_id}", NO_FACTOR)
    except InvalidToken:
        target.report.remark(f"user {row.site_id}", f"{NO_FACTOR}; the key that was given does not open it")
    return None


def _move_former_passwords(target: Target, users: dict[int, Row[Any]]) -> None:
    """Bring the latest former passwords of new users over, as many as this site looks at."""
    most = get_setting(target.db, "password_history")
    former = defaultdict(list)
    for row in target.old.list_rows("usedpasswords"):
        # The present one is among them.
        if row.user_id in users and row.pwhash != users[row.user_id].pwhash and row.pwhash.startswith(OLD_SCHEME):
            former[row.user_id].append(row.pwhash)
    for user_id, hashes in former.items():
        kept = hashes[-most:] if most else []
        target.db.add_all(OldPassword(user_id=target.ids.users[user_id], password_hash=each) for each in kept)
        target.db.flush()


def _move_keys(target: Target) -> None:
    rows = target.old.list_rows("apikeys")
    known = target.find_known(ApiKey, rows).keys() | target.find_removed(rows)
    taken = set(target.db.scalars(select(ApiKey.token_hash)))
    latest = target.now + timedelta(days=target.settings.api_key_max_days)
    new = []
    for row in rows:
        if row.uuid in known:
            continue
        subject = f"API key {row.label or row.uuid}"
        token_hash = bytes.fromhex(row.value) if re.fullmatch("[0-9a-f]{64}", row.value) else b""
        if not token_hash or token_hash in taken:
            target.report.remark(subject, "is left out: it is none that can be used")
            continue
        expires_at = to_utc(row.expires)
        if expires_at is None:
            expires_at = latest
            target.report.remark(subject, f"never ended; here it ends on {latest:%Y-%m-%d}")
        new.append(
            {
                "uuid": row.uuid,
                "user_id": target.ids.users[row.user_id],
                "label": row.label or "imported",
                "token_hash": token_hash,
                "expires_at": expires_at,
            }
        )
    target.add_rows(ApiKey, new)
    target.report.count("API keys", found=len(rows), new=len(new))


def move_registrations(target: Target) -> None:
    """Bring over who has asked for an account and got no answer."""
    rows = target.old.list_rows("regrequests")
    known = target.find_known(Registration, rows).keys() | target.find_removed(rows)
    is_open = Registration.answered_at.is_(None)
    taken = set(target.db.scalars(select(func.lower(Registration.email)).where(is_open)))
    new = []
    for row in rows:
        if row.uuid in known:
            continue
        subject = f"registration of {row.email}"
        if not is_address(row.email) or row.email.lower() in taken:
            target.report.remark(subject, "is left out: the address is none, or has asked before")
            continue
        taken.add(row.email.lower())
        group_name = row.new_group_name or None
        new.append(
            {
                "uuid": row.uuid,
                "name": shorten(row.fullname, LONGEST_NAME, target.report, subject, "name"),
                "email": row.email,
                "group_id": target.ids.groups.get(row.group_id) if group_name is None else None,
                "new_group_name": None
                if group_name is None
                else shorten(group_name, LONGEST_NAME, target.report, subject, "group's name"),
            }
        )
    target.add_rows(Registration, new)
    target.report.count("registrations", found=len(rows), new=len(new))
