"""What the portal needs of a store, and nothing more.

The rule this package guards: bytes become content only by ``complete`` or ``complete_parts``, and
no URL that was ever handed out can change them after. Digests in the answer are proven; what the
store does not prove, the portal verifies by reading before it calls it confirmed.
An upload is *open* from ``begin_upload`` or ``begin_parts`` until it is completed or aborted; what was
sent to it may be replaced as often as the client likes, and is invisible at the key until then.

Every method may be called again after a crash with the same arguments: ``complete``,
``complete_parts``, ``abort`` and ``delete`` are idempotent.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

CHUNK_BYTES = 1024**2
MARK_BYTES = 200
PART_LIMIT = 10_000

_MD5 = re.compile(r"[0-9a-f]{32}")
_KEY = re.compile(r"files/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:\.[0-9a-f]{32}){0,2})")


class StorageError(Exception):
    """Base of what a store refuses."""


class NoDataError(StorageError):
    """Nothing has been sent to the upload yet."""


class ChecksumMismatchError(StorageError):
    """What was sent is not what was announced; the upload stays open."""


class UploadGoneError(StorageError):
    """The upload is no longer open: completed, aborted, or expired in the store."""


class StorageUnavailableError(StorageError):
    """The store does not answer, or answers that it cannot now; try again later."""


@dataclass(frozen=True)
class StoredObject:
    """Content that is fixed for good: where it is, its size in bytes, and the digests that the store has proven.

    ``has_rest`` says whether the store has something left of the upload, which ``abort`` removes.
    """

    key: str
    size: int
    md5: str | None = None
    sha256: str | None = None
    has_rest: bool = field(default=True, kw_only=True)


@dataclass(frozen=True)
class PresignedRequest:
    """An address that takes one kind of request without further credentials.

    It ends at ``expires_at``: before the time that was asked for where the signing credentials end earlier.
    """

    url: str
    headers: dict[str, str]
    expires_at: datetime


@dataclass(frozen=True)
class Part:
    """A part that has arrived; ``md5`` is None where the store does not say it."""

    number: int
    size: int
    md5: str | None


@dataclass(frozen=True)
class StoredEntry:
    """An object that the store knows of, as the sweeper sees it."""

    key: str
    size: int
    changed_at: datetime


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


def check_part(number: int, md5: str) -> None:
    """Raise ``ValueError`` for a part that no upload has."""
    if not 1 <= number <= PART_LIMIT or not _MD5.fullmatch(md5):
        raise ValueError(f"A part has a number from 1 to {PART_LIMIT} and a lower-case hex MD5.")


def check_parts(md5s: Sequence[str]) -> None:
    """Raise ``ValueError`` for parts of which no content is made."""
    if not md5s:
        raise ValueError("Content has at least one part.")
    for number, md5 in enumerate(md5s, 1):
        check_part(number, md5)


class Storage(Protocol):
    """A store of immutable objects, filled through uploads that only the server completes.

    Keys are portal-made (``files/<uuid>``); the object's own key is the one ``complete`` returns, which may
    carry a suffix (``files/<uuid>.<random>``). ``upload`` is the backend's own reference, a string of
    at most 1,024 characters. ``checksum`` is a lower-case hex digest, MD5 or SHA-256; ``md5`` is one, too.
    A key or reference of another shape is a ``ValueError``.

    An upload takes the content in one piece (``begin_upload``, ``write``, ``complete``) or in parts
    (``begin_parts``, ``write_part``, ``complete_parts``); ``abort`` closes either kind. A key may have several open
    uploads; complete only one of them, and abort the others: on S3 the last would take the place of the first.
    """

    @property
    def is_direct(self) -> bool:
        """Say whether clients send and fetch bytes at the store itself (presigned mode)."""

    @property
    def proves_md5(self) -> bool:
        """Say whether the store itself compares content with an MD5; else it is to be verified by reading.

        Known for certain after ``check``.
        """

    def begin_upload(self, key: str, checksum: str) -> str:
        """Open an upload for ``key`` and return its reference.

        The reference serves every checksum of the same algorithm: who announces another checksum keeps the
        upload and takes a new presigned URL. For the other algorithm, abort the upload and begin a new one.
        """

    def presign_upload(
        self, key: str, upload: str, checksum: str, *, seconds: int, size: int | None = None
    ) -> PresignedRequest:
        """Return the PUT by which a client sends the raw bytes; only where ``is_direct``.

        With ``size``, the length is signed, too.
        """

    def write(self, key: str, upload: str, chunks: Iterable[bytes]) -> None:
        """Replace what was sent to the upload by ``chunks``, in constant memory.

        If ``chunks`` raises, the former content stays. Raises ``UploadGoneError``.
        """

    def complete(self, key: str, upload: str, checksum: str) -> StoredObject:
        """Make what was sent the content for good, after checking it against ``checksum`` where the store can.

        An answer without that digest has not been checked: verify it by reading, and delete it if it is wrong.
        Raises ``NoDataError``, ``ChecksumMismatchError`` (the upload stays open, the same URL
        takes a new attempt), ``UploadGoneError`` (and no content with this checksum at the key).
        """

    def begin_parts(self, key: str) -> str:
        """Open an upload in parts for ``key`` and return its reference."""

    def presign_part(
        self, key: str, upload: str, number: int, *, md5: str, size: int, seconds: int
    ) -> PresignedRequest:
        """Return the PUT by which a client sends this part; only where ``is_direct``.

        MD5 and size are signed. S3 takes parts from 5 MiB to 5 GiB; only the last may be smaller.
        """

    def write_part(self, key: str, upload: str, number: int, chunks: Iterable[bytes], *, md5: str, size: int) -> None:
        """Replace a part by ``chunks``, in constant memory.

        Raises ``ChecksumMismatchError`` for other bytes or another size, and ``UploadGoneError``.
        The former part stays then, and if ``chunks`` raises.
        """

    def list_parts(self, key: str, upload: str, *, after: int = 0) -> Iterator[Part]:
        """Yield the parts that have arrived and whose number is above ``after``, ascending.

        Raises ``UploadGoneError`` at the first step.
        """

    def complete_parts(self, key: str, upload: str, md5s: Sequence[str]) -> StoredObject:
        """Make parts 1, 2, … with these MD5s the content for good.

        Raises ``NoDataError`` (no part has arrived), ``ChecksumMismatchError`` (one is missing or another; the
        upload stays open), ``UploadGoneError`` (and the key has other content, or none).
        """

    def abort(self, key: str, upload: str) -> None:
        """Close the upload and drop what was sent to it; no error if it is gone."""

    def delete(self, key: str) -> None:
        """Delete the object; no error if it is gone."""

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, or None if there is none."""

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes from ``start`` up to ``stop`` (exclusive), in chunks of at most 1 MiB.

        Raises ``FileNotFoundError`` at the call, before the first chunk. Whatever comes between later is
        ``StorageUnavailableError``; a range that ends without it is whole.
        """

    def presign_download(self, key: str, *, disposition: str, seconds: int) -> PresignedRequest:
        """Return a GET for the object that answers with this Content-Disposition; only where ``is_direct``."""

    def list_uploads(self) -> Iterator[OpenUpload]:
        """Yield every open upload below ``files/``."""

    def list_objects(self) -> Iterator[StoredEntry]:
        """Yield every object below ``files/``."""

    def read_mark(self) -> str | None:
        """Return what ``write_mark`` was given last, or None."""

    def write_mark(self, mark: str) -> None:
        """Keep a short text beside the content, which says whose the store is; no list shows it."""

    def check(self) -> list[Finding]:
        """Try every protection the portal relies on against the real store, and clean up."""
