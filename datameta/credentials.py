"""Secrets: how they are made, and how they are kept.

Tokens are long and random, so a plain SHA-256 keeps them; it is looked up by a unique index.
Passwords are short and chosen by people, so bcrypt keeps them. bcrypt reads at most 72 bytes and
stops at a NUL, therefore it is fed the base64 of a SHA-256; the scheme tag says so.
"""

import base64
import hashlib
import secrets
import string
import unicodedata

import bcrypt

TOKEN_LENGTH = 64
HASH_SCHEME = "$bs256"
_ALPHABET = string.ascii_letters + string.digits


def make_token() -> str:
    """Return 64 random characters ``[A-Za-z0-9]``: 381 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(TOKEN_LENGTH))


def hash_token(token: str) -> bytes:
    """Return the SHA-256 of a token, 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def make_password() -> str:
    """Return a random password of 20 letters and digits: 119 bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(20))


def hash_password(password: str, cost: int) -> str:
    """Return the tagged bcrypt hash of a password of any length and script."""
    return HASH_SCHEME + bcrypt.hashpw(_digest(password), bcrypt.gensalt(cost)).decode("ascii")


def is_password(password: str, password_hash: str) -> bool:
    """Say whether ``password`` is the one that was hashed; False for an unknown scheme."""
    if not password_hash.startswith(HASH_SCHEME + "$"):
        return False
    return bcrypt.checkpw(_digest(password), password_hash.removeprefix(HASH_SCHEME).encode("ascii"))


def _digest(password: str) -> bytes:
    normal = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return base64.b64encode(hashlib.sha256(normal).digest())
