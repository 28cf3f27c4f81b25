"""Secrets: how they are made, and how they are kept.

Tokens are long and random, so a plain SHA-256 keeps them; it is looked up by a unique index.
Passwords are short and chosen by people, so bcrypt keeps them. bcrypt reads at most 72 bytes and
stops at a NUL, therefore it is fed the base64 of a SHA-256; the scheme tag says so. A hash without
the tag is of the time before: it is still known, and made anew at the next login.
"""

import base64
import hashlib
import hmac
import secrets
import string
import unicodedata
from threading import BoundedSemaphore

import bcrypt

TOKEN_LENGTH = 64
HASH_SCHEME = "$bs256"
OLD_SCHEME = "$2b$"
RECOVERY_CODES = 10
BCRYPT_AT_ONCE = 2
"""How many passwords a process works on at once: each keeps a core busy for a quarter of a second."""
_ALPHABET = string.ascii_letters + string.digits
_bcrypt_slots = BoundedSemaphore(BCRYPT_AT_ONCE)


def make_token() -> str:
    """Return 64 random characters ``[A-Za-z0-9]``: 381 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))


def hash_token(token: str) -> bytes:
    """Return the SHA-256 of a token, 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def make_csrf_token(session_token: str) -> str:
    """Return what a page of this session sends with each change; it does not tell the session's token."""
    digest = hmac.digest(session_token.encode(), b"csrf", "sha256")
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def is_same_secret(sent: str, kept: str) -> bool:
    """Compare in a time that tells nothing."""
    return hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), kept.encode("utf-8", "surrogatepass"))


def make_recovery_codes() -> list[str]:
    """Return ten codes of 80 random bits, such as ``ABCD-EFGH-2345-WXYZ``."""
    codes = [base64.b32encode(secrets.token_bytes(10)).decode("ascii") for _ in range(RECOVERY_CODES)]
    return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in codes]


def hash_recovery_code(code: str) -> bytes:
    """Return the SHA-256 of a recovery code, however its letters and dashes were typed."""
    return hash_token("".join(character for character in code.upper() if character.isalnum()))


def make_password() -> str:
    """Return a random password of 20 letters and digits: 119 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(20))


def hash_password(password: str, cost: int) -> str:
    """Return the tagged bcrypt hash of a password of any length and script."""
    with _bcrypt_slots:
        return HASH_SCHEME + bcrypt.hashpw(_digest(password), bcrypt.gensalt(cost)).decode("ascii")


def is_password(password: str, password_hash: str) -> bool:
    """Say whether ``password`` is the one that was hashed; False for an unknown scheme."""
    if password_hash.startswith(HASH_SCHEME + "$"):
        secret, kept = _digest(password), password_hash.removeprefix(HASH_SCHEME)
    elif password_hash.startswith(OLD_SCHEME):
        secret, kept = password.encode("utf-8", "surrogatepass")[:72], password_hash
    else:
        return False
    try:
        with _bcrypt_slots:
            return bcrypt.checkpw(secret, kept.encode("ascii"))
    except ValueError:
        # The hash is not whole.
        return False


def is_outdated(password_hash: str, cost: int) -> bool:
    """Say whether a hash is to be made anew, for its scheme or its cost."""
    return not password_hash.startswith(f"{HASH_SCHEME}$2b${cost:02}$")


def make_dummy_hash(cost: int) -> str:
    """Return a hash that no password has, to spend the same time on a user who does not exist."""
    return f"{HASH_SCHEME}$2b${cost:02}$" + "." * 53


def _digest(password: str) -> bytes:
    normal = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return base64.b64encode(hashlib.sha256(normal).digest())
