"""Every store the portal can use, as a client and the portal see it.

moto is fast and checks neither signatures nor ``Content-MD5``; the Ceph gateway is the real thing.
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

from datameta.settings import Settings
from datameta.storage import PresignedRequest, Storage, open_storage
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
    """Return an empty store: ``local``, or ``moto`` or ``rgw`` with ``-gateway`` or ``-presigned``."""
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
    storage = copy(_open_once(endpoint, mode))
    storage._bucket = f"bucket-{uuid.uuid4()}"
    storage._spool_folder = folder
    storage._client.create_bucket(Bucket=storage._bucket)
    return Backend(storage, store)
