"""Secrets that have to be read again: encrypted with the site's key, never with one in the database.

Several keys may be given, the newest first: it encrypts, and all of them decrypt.
"""

import base64
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from datameta.credentials import make_token
from datameta.settings import Settings, SettingsError


class Vault:
    """Encrypts and decrypts with the site's keys."""

    def __init__(self, keys: list[str]) -> None:
        self._fernet = MultiFernet([Fernet(_derive(key)) for key in keys])

    def encrypt(self, secret: bytes) -> bytes:
        """Return the secret so that only the site's key opens it."""
        return self._fernet.encrypt(secret)

    def decrypt(self, sealed: bytes) -> bytes | None:
        """Return the secret, or None if none of the site's keys opens it."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            return None


def open_vault(settings: Settings) -> Vault:
    """Return the vault of this site; without a configured key, with the one in ``HOME/secret.key``."""
    if settings.secret_key:
        return Vault([key.strip() for key in settings.secret_key.split(",")])
    return Vault([_read_or_make(settings.home / "secret.key")])


def _derive(key: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())


def _read_or_make(path: Path) -> str:
    """Return the key in a file that only its owner reads; several processes may come at once.

    Raises ``SettingsError`` for a file that holds none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.{make_token()[:8]}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(make_token())
            file.flush()
            os.fsync(file.fileno())
        # The first one wins, and nobody ever sees half a key.
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    key = path.read_text("ascii").strip()
    if not key:
        raise SettingsError(f"{path} is empty; put the site's key back from a backup, or remove the file")
    return key
