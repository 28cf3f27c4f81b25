"""Every store the portal can use, as a client and the portal see it.

moto is fast and checks neither signatures nor ``Content-MD5``; the Ceph gateway is the real thing.
``opaque`` is a store whose ETags are no MD5: moto is made one, of the Ceph gateway it is only said.
"""

import hashlib
import os
import uuid
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import urllib3
from moto.s3.models import FakeKey

from datameta.settings import Settings
from datameta.storage import ChecksumMismatchError, PresignedRequest, Storage, StoredObject, open_storage
from datameta.storage.s3 import S3Storage


class RefusedError(Exception):
    """The store refused a client's request; the message is the status and the answer."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        super().__init__(answer.status, answer.data)
        self.status = answer.status


def send_request(method: str, request: PresignedRequest, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
    """Do what a client does with an address it was given; raise ``RefusedError`` for a status of 400 or more."""
    with urllib3.PoolManager(retries=False, timeout=30) as pool:
        answer = pool.request(method, request.url, body=body, headers=request.headers)
    if answer.status >= 400:
        raise RefusedError(answer)
    return answer


def digest(algorithm: str, data: bytes) -> str:
    """Return the lower-case hex digest of ``data``."""
    return hashlib.new(algorithm, data).hexdigest()


def new_key() -> str:
    """Return a key nobody has used."""
    return f"files/{uuid.uuid4()}"


@dataclass(frozen=True)
class Upload:
    """An open upload, and the request by which a client sends its bytes (None through the gateway)."""

    storage: Storage
    key: str
    reference: str
    request: PresignedRequest | None

    def send(self, data: bytes) -> None:
        """Send ``data`` the way clients of this store do."""
        if self.request is None:
            self.storage.write(self.key, self.reference, [data[:3], data[3:]])
        else:
            send_request("PUT", self.request, data)


@dataclass(frozen=True)
class Session:
    """An open upload in parts."""

    storage: Storage
    key: str
    reference: str

    def presign(self, number: int, data: bytes) -> PresignedRequest:
        """Return the request to send ``data`` by as this part."""
        return self.storage.presign_part(
            self.key, self.reference, number, md5=digest("md5", data), size=len(data), seconds=300
        )

    def write(self, number: int, data: bytes) -> None:
        """Send a part through the gateway."""
        chunks = [data[:3], data[3:]]
        self.storage.write_part(self.key, self.reference, number, chunks, md5=digest("md5", data), size=len(data))

    def send(self, number: int, data: bytes) -> None:
        """Send a part the way clients of this store do."""
        if self.storage.is_direct:
            send_request("PUT", self.presign(number, data), data)
        else:
            self.write(number, data)

    def complete(self, *parts: bytes) -> StoredObject:
        """Complete with these parts."""
        return self.storage.complete_parts(self.key, self.reference, [digest("md5", part) for part in parts])

    def list_parts(self, after: int = 0) -> list[tuple[int, int, str | None]]:
        """Return what has arrived."""
        parts = self.storage.list_parts(self.key, self.reference, after=after)
        return [(part.number, part.size, part.md5) for part in parts]


@dataclass(frozen=True)
class Backend:
    """A store to test, with what it is known to enforce."""

    storage: Storage
    store: str

    @property
    def is_real(self) -> bool:
        """Say whether the store checks signatures and ``Content-MD5``; moto does not."""
        return self.store == "rgw"

    def begin(self, checksum: str) -> Upload:
        """Announce a file with this checksum."""
        key = new_key()
        reference = self.storage.begin_upload(key, checksum)
        return Upload(self.storage, key, reference, self.presign(key, reference, checksum))

    def presign(self, key: str, reference: str, checksum: str) -> PresignedRequest | None:
        """Return the request to send bytes by, or None through the gateway."""
        if not self.storage.is_direct:
            return None
        return self.storage.presign_upload(key, reference, checksum, seconds=300)

    def complete(self, key: str, reference: str, checksum: str) -> StoredObject:
        """Complete an upload; verify by reading what the store does not prove, as the portal does."""
        stored = self.storage.complete(key, reference, checksum)
        if checksum not in (stored.md5, stored.sha256):
            algorithm = {32: "md5", 64: "sha256"}[len(checksum)]
            if digest(algorithm, self.read(stored.key)) != checksum:
                self.storage.delete(stored.key)
                raise ChecksumMismatchError
        return stored

    def begin_session(self) -> Session:
        """Announce a file that comes in parts."""
        key = new_key()
        return Session(self.storage, key, self.storage.begin_parts(key))

    def part(self, number: int) -> bytes:
        """Return content for a part that need not be the last."""
        return bytes([number]) * (5 * 1024**2 if self.is_real else 1000)

    def read(self, key: str) -> bytes:
        """Return the object's content."""
        return b"".join(self.storage.read(key))


def set_credentials(monkeypatch: pytest.MonkeyPatch, access_key: str, secret_key: str) -> None:
    """Put credentials where AWS programs look for them first."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)


def s3_settings(folder: Path, endpoint: str, mode: str = "presigned", **others: object) -> Settings:
    """Return settings for a bucket of its own at ``endpoint``."""
    values: dict[str, object] = {"s3_bucket": f"bucket-{uuid.uuid4()}", **others}
    return Settings(home=folder, storage="s3", upload_mode=mode, s3_endpoint=endpoint, **values)  # type: ignore[arg-type]


def make_s3(settings: Settings) -> S3Storage:
    """Create the bucket that the settings name, and open it."""
    storage = open_storage(settings)
    assert isinstance(storage, S3Storage)
    storage._client.create_bucket(Bucket=settings.s3_bucket)
    return storage


@cache
def _open_once(endpoint: str, mode: str) -> S3Storage:
    storage = open_storage(s3_settings(Path(os.devnull), endpoint, mode))
    assert isinstance(storage, S3Storage)
    return storage


def make_backend(name: str, folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Return an empty store: ``local``, or ``moto`` or ``rgw`` with ``-gateway``, ``-presigned`` or ``-opaque``."""
    store, _, mode = name.partition("-")
    if store == "local":
        return Backend(open_storage(Settings(home=folder)), store)
    if store == "moto":
        endpoint = request.getfixturevalue("moto")
    else:
        gateway = request.getfixturevalue("rgw")
        endpoint = gateway.endpoint
        set_credentials(monkeypatch, gateway.access_key, gateway.secret_key)
    # Making clients takes half a second, so tests share those of a store, each with a bucket of its own.
    storage = copy(_open_once(endpoint, "presigned" if mode == "opaque" else mode))
    storage._bucket = f"bucket-{uuid.uuid4()}"
    storage._spool_folder = folder
    storage._proves_md5 = mode != "opaque"
    if name == "moto-opaque":
        real = FakeKey.etag.fget
        monkeypatch.setattr(FakeKey, "etag", property(lambda key: real(key)[::-1]))
    storage._client.create_bucket(Bucket=storage._bucket)
    return Backend(storage, store)
