"""What the portal needs of a store, and nothing more.

The rule this package guards: bytes become content only by ``complete``, which checks them
against the announced checksum, and no URL that was ever handed out can change them after.
An upload is *open* from ``begin_upload`` until ``complete`` or ``abort``; what was sent to
it may be replaced as often as the client likes, and is invisible at the key until then.

Every method may be called again after a crash with the same arguments: ``complete``,
``abort`` and ``delete`` are idempotent.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

CHUNK_BYTES = 1024**2

_KEY = re.compile(r"files/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:\.[0-9a-f]{32})?)")


class StorageError(Exception):
    """Base of what a store refuses."""


class NoDataError(StorageError):
    """Nothing has been sent to the upload yet."""


class ChecksumMismatchError(StorageError):
    """What was sent does not have the announced checksum; the upload stays open."""


class UploadGoneError(StorageError):
    """The upload is no longer open: completed, aborted, or expired in the store."""


class StorageUnavailableError(StorageError):
    """The store does not answer, or answers that it cannot now; try again later."""


@dataclass(frozen=True)
class StoredObject:
    """Content that is fixed for good: where it is, and its size in bytes."""

    key: str
    size: int


@dataclass(frozen=True)
class PresignedRequest:
    """An address that takes one kind of request without further credentials."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenUpload:
    """An upload that the store knows of, as the sweeper sees it."""

    key: str
    upload: str
    started_at: datetime


@dataclass(frozen=True)
class Finding:
    """One line of ``datameta storage check``; ``ok`` is None where a thing is only noted."""

    name: str
    ok: bool | None
    detail: str = ""


def checksum_algorithm(checksum: str) -> str:
    """Return the hashlib name for a lower-case hex digest: 32 digits MD5, 64 digits SHA-256."""
    return {32: "md5", 64: "sha256"}[len(checksum)]


def object_name(key: str) -> str:
    """Return what follows ``files/`` in a key; raise ``ValueError`` for a key the portal did not make."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError("A key looks like files/<uuid>.")
    return match[1]


class Storage(Protocol):
    """A store of immutable objects, filled through uploads that only the server completes.

    Keys are portal-made (``files/<uuid>``); the object's own key is the one ``complete`` returns, which may
    carry a suffix (``files/<uuid>.<random>``). ``upload`` is the backend's own reference, a string of
    at most 1,024 characters. ``checksum`` is a lower-case hex digest, MD5 or SHA-256.
    A key or reference of another shape is a ``ValueError``.
    """

    @property
    def is_direct(self) -> bool:
        """Say whether clients send and fetch bytes at the store itself (presigned mode)."""

    def begin_upload(self, key: str, checksum: str) -> str:
        """Open an upload for ``key`` and return its reference.

        The reference serves every checksum of the same algorithm: who announces another checksum keeps the
        upload and takes a new presigned URL. For the other algorithm, abort the upload and begin a new one.
        """

    def presign_upload(self, key: str, upload: str, checksum: str, *, seconds: int) -> PresignedRequest:
        """Return the PUT by which a client sends the raw bytes; only where ``is_direct``."""

    def write(self, key: str, upload: str, chunks: Iterable[bytes]) -> None:
        """Replace what was sent to the upload by ``chunks``, in constant memory.

        If ``chunks`` raises, the former content stays. Raises ``UploadGoneError``.
        """

    def complete(self, key: str, upload: str, checksum: str) -> StoredObject:
        """Check what was sent against ``checksum`` and make it the content for good.

        Raises ``NoDataError``, ``ChecksumMismatchError`` (the upload stays open, the same URL
        takes a new attempt), ``UploadGoneError`` (and no content with this checksum at the key).
        """

    def abort(self, key: str, upload: str) -> None:
        """Close the upload and drop what was sent to it; no error if it is gone."""

    def delete(self, key: str) -> None:
        """Delete the object; no error if it is gone."""

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, or None if there is none."""

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes from ``start`` up to ``stop`` (exclusive), in chunks of at most 1 MiB.

        Raises ``FileNotFoundError`` at the call, before the first chunk.
        """

    def presign_download(self, key: str, *, disposition: str, seconds: int) -> PresignedRequest:
        """Return a GET for the object that answers with this Content-Disposition; only where ``is_direct``."""

    def list_uploads(self) -> Iterator[OpenUpload]:
        """Yield every open upload below ``files/``."""

    def list_objects(self) -> Iterator[tuple[str, datetime]]:
        """Yield the key and time of change of every object below ``files/``."""

    def check(self) -> list[Finding]:
        """Try every protection the portal relies on against the real store, and clean up."""
