"""The S3 store: AWS, Ceph RGW, MinIO and their like.

The rule this module guards: no client ever holds an address by which confirmed content could change.

For an MD5 checksum an upload is a multipart upload of one part, which only the portal can complete,
and it completes it with the *announced* MD5 as the part's ETag: comparing and publishing are one
step of the store. With the upload its address dies. The signed ``Content-MD5`` makes the store
refuse other bytes at once.

For a SHA-256 checksum no store says what it holds. Clients PUT to ``staged/<uuid>``; completing
copies that to a key nobody else knows, and verifies the copy by reading it.

What the store does not prove is never confirmed: where ETags are not MD5, completing fails.
"""

import base64
import hashlib
import logging
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import boto3.session
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from datameta.clock import utc_now
from datameta.settings import Settings
from datameta.storage.base import (
    CHUNK_BYTES,
    ChecksumMismatchError,
    Finding,
    NoDataError,
    OpenUpload,
    PresignedRequest,
    StorageError,
    StorageUnavailableError,
    StoredObject,
    UploadGoneError,
    checksum_algorithm,
    object_name,
)
from datameta.storage.disk import open_spool, write_chunks

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/octet-stream"
STAGED = "put"
CLOCK_TOLERANCE = timedelta(minutes=1)
CLOCK_LIMIT = timedelta(minutes=5)
READ_SECONDS = 20
PROBE_SECONDS = 300
PROBE, OTHER = b"probe", b"other"

CONFIG = Config(
    signature_version="s3v4",
    # By default boto3 adds a CRC32 to everything, which older stores refuse.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    retries={"mode": "standard", "max_attempts": 3},
    connect_timeout=3,
    read_timeout=READ_SECONDS,
    max_pool_connections=32,
)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever the store or the way to it refuses, and nobody expected, into ``StorageUnavailableError``.

    The messages of botocore name addresses and keys, so only codes are logged.
    """
    try:
        yield
    except ClientError as error:
        logger.error("The store refused %s: %s (HTTP %d)", error.operation_name, _code(error), _status(error))
        raise StorageUnavailableError(f"{error.operation_name}: {_code(error)}") from error
    except ParamValidationError:
        raise
    except BotoCoreError as error:
        logger.error("The store does not answer: %s", type(error).__name__)
        raise StorageUnavailableError(type(error).__name__) from error


class S3Storage:
    """A bucket. Credentials come from where AWS programs look for them."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.s3_bucket
        self._is_direct = settings.upload_is_direct
        self._spool_folder = settings.home
        session = boto3.session.Session(region_name=settings.s3_region)
        config = CONFIG.merge(Config(s3={"addressing_style": "path" if settings.s3_path_style else "virtual"}))
        endpoint, public = settings.s3_endpoint or None, settings.s3_public_endpoint or None
        self._client = session.client("s3", endpoint_url=endpoint, config=config)
        # Signatures cover the host name, so clients' addresses are signed for the one that they use.
        self._public = session.client("s3", endpoint_url=public, config=config) if public else self._client
        # A store may copy 5 GiB before its first word.
        self._patient = session.client("s3", endpoint_url=endpoint, config=config.merge(Config(read_timeout=600)))

    @property
    def is_direct(self) -> bool:
        return self._is_direct

    @store_errors()
    def begin_upload(self, key: str, checksum: str) -> str:
        object_name(key)
        if checksum_algorithm(checksum) != "md5":
            return STAGED
        answer = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=CONTENT_TYPE)
        return answer["UploadId"]

    @store_errors()
    def presign_upload(self, key: str, upload: str, checksum: str, *, seconds: int) -> PresignedRequest:
        return self._presign_upload(self._public, key, upload, checksum, seconds)

    def _presign_upload(
        self, client: "S3Client", key: str, upload: str, checksum: str, seconds: int
    ) -> PresignedRequest:
        _check_reference(key, upload)
        if _is_staged(upload, checksum):
            target = {"Bucket": self._bucket, "Key": _staged_key(key)}
            return PresignedRequest(client.generate_presigned_url("put_object", target, ExpiresIn=seconds))
        content_md5 = base64.b64encode(bytes.fromhex(checksum)).decode()
        part = {"Bucket": self._bucket, "Key": key, "UploadId": upload, "PartNumber": 1, "ContentMD5": content_md5}
        url = client.generate_presigned_url("upload_part", part, ExpiresIn=seconds)
        return PresignedRequest(url, {"Content-MD5": content_md5})

    @store_errors()
    def write(self, key: str, upload: str, chunks: Iterable[bytes]) -> None:
        _check_reference(key, upload)
        md5 = hashlib.md5(usedforsecurity=False)
        with open_spool(self._spool_folder) as spool:
            write_chunks(chunks, spool, md5)
            spool.seek(0)
            content_md5 = base64.b64encode(md5.digest()).decode()
            if upload == STAGED:
                target = _staged_key(key)
                self._client.put_object(Bucket=self._bucket, Key=target, Body=spool, ContentMD5=content_md5)
                return
            try:
                self._client.upload_part(
                    Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=1, Body=spool, ContentMD5=content_md5
                )
            except ClientError as error:
                if _is_missing(error):
                    raise UploadGoneError from error
                raise

    @store_errors()
    def complete(self, key: str, upload: str, checksum: str) -> StoredObject:
        _check_reference(key, upload)
        if _is_staged(upload, checksum):
            return self._complete_staged(key, checksum)
        return self._complete_part(key, upload, checksum)

    def _complete_part(self, key: str, upload: str, checksum: str) -> StoredObject:
        try:
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": checksum}]},
            )
        except ClientError as error:
            if not _is_missing(error):
                self._explain_refusal(key, upload, error)
        # Only the object itself tells. The answer may have no ETag (RGW), and a second completion may be
        # answered with success whatever ETag it names (moto).
        head = self._head(key)
        if head is None or _etag(head["ETag"]) not in _proofs(checksum):
            raise UploadGoneError
        return StoredObject(key, head["ContentLength"])

    def _explain_refusal(self, key: str, upload: str, refusal: ClientError) -> None:
        """Raise why an open upload could not be completed; return if it is no longer open.

        RGW answers 500 for an upload that is gone, so that the code alone does not tell.
        """
        try:
            answer = self._client.list_parts(Bucket=self._bucket, Key=key, UploadId=upload, MaxParts=1)
        except ClientError as error:
            if _is_missing(error):
                return
            raise
        if _code(refusal) != "InvalidPart":
            raise refusal
        if not answer.get("Parts"):
            raise NoDataError from refusal
        raise ChecksumMismatchError from refusal

    def _complete_staged(self, key: str, checksum: str) -> StoredObject:
        # A key of its own for each attempt: attempts at the same time do not see each other's copies.
        final = f"{key}.{uuid.uuid4().hex}"
        try:
            self._patient.copy_object(
                Bucket=self._bucket,
                Key=final,
                CopySource={"Bucket": self._bucket, "Key": _staged_key(key)},
                MetadataDirective="REPLACE",
                ContentType=CONTENT_TYPE,
            )
        except ClientError as error:
            if _is_missing(error):
                raise NoDataError from error
            raise
        try:
            digest, size = hashlib.new(checksum_algorithm(checksum), usedforsecurity=False), 0
            for chunk in self.read(final):
                digest.update(chunk)
                size += len(chunk)
            if digest.hexdigest() != checksum:
                raise ChecksumMismatchError
        except BaseException:
            # What cannot be deleted now has no row, and is swept.
            with suppress(StorageUnavailableError):
                self.delete(final)
            raise
        return StoredObject(final, size)

    @store_errors()
    def abort(self, key: str, upload: str) -> None:
        _check_reference(key, upload)
        if upload == STAGED:
            self._client.delete_object(Bucket=self._bucket, Key=_staged_key(key))
            return
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        except ClientError as error:
            if not _is_missing(error):
                raise

    @store_errors()
    def delete(self, key: str) -> None:
        object_name(key)
        self._client.delete_object(Bucket=self._bucket, Key=key)

    @store_errors()
    def size(self, key: str) -> int | None:
        object_name(key)
        head = self._head(key)
        return None if head is None else head["ContentLength"]

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        object_name(key)
        # The first step sends the request: an error comes at the call, and close() works before the first chunk.
        chunks = self._read(key, start, stop)
        next(chunks)
        return chunks

    def _read(self, key: str, start: int, stop: int | None) -> Iterator[bytes]:
        # A range cannot be empty, so the shortest one asked for is one byte.
        last = "" if stop is None else str(max(start, stop - 1))
        with store_errors():
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{last}")
            except ClientError as error:
                if _is_missing(error):
                    raise FileNotFoundError(key) from error
                if _code(error) != "InvalidRange":
                    raise
                # The range begins at or after the end.
                yield b""
                return
            with closing(answer["Body"]) as body:
                yield b""
                if stop is None or start < stop:
                    yield from body.iter_chunks(CHUNK_BYTES)

    @store_errors()
    def presign_download(self, key: str, *, disposition: str, seconds: int) -> PresignedRequest:
        return self._presign_download(self._public, key, disposition, seconds)

    def _presign_download(self, client: "S3Client", key: str, disposition: str, seconds: int) -> PresignedRequest:
        object_name(key)
        # The type keeps a browser from showing what a user uploaded as a page of the store.
        target = {
            "Bucket": self._bucket,
            "Key": key,
            "ResponseContentDisposition": disposition,
            "ResponseContentType": CONTENT_TYPE,
        }
        return PresignedRequest(client.generate_presigned_url("get_object", target, ExpiresIn=seconds))

    def list_uploads(self) -> Iterator[OpenUpload]:
        with store_errors():
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix="files/"
            ):
                for upload in page.get("Uploads", []):
                    if _is_key(upload["Key"]):
                        yield OpenUpload(upload["Key"], upload["UploadId"], upload["Initiated"])
        for staged, changed_at in self._list("staged/"):
            key = staged.replace("staged/", "files/", 1)
            if _is_key(key):
                yield OpenUpload(key, STAGED, changed_at)

    def list_objects(self) -> Iterator[tuple[str, datetime]]:
        return (entry for entry in self._list("files/") if _is_key(entry[0]))

    def _list(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        with store_errors():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield entry["Key"], entry["LastModified"]

    def check(self) -> list[Finding]:
        return list(self._probe())

    def _probe(self) -> Iterator[Finding]:
        key = f"files/{uuid.uuid4()}"
        try:
            with store_errors():
                self._client.head_bucket(Bucket=self._bucket)
            yield Finding("bucket", True, self._bucket)
            upload = self.begin_upload(key, _md5(PROBE))
            try:
                yield from self._probe_upload(key, upload)
                yield from self._probe_download(key)
            finally:
                self.abort(key, upload)
                self.delete(key)
        except (StorageError, FileNotFoundError, urllib3.exceptions.HTTPError) as error:
            # The messages of urllib3 show the signed address.
            detail = str(error) if isinstance(error, StorageUnavailableError) else type(error).__name__
            yield Finding("the check ran to its end", False, detail)

    def _probe_upload(self, key: str, upload: str) -> Iterator[Finding]:
        announced = self._presign_upload(self._client, key, upload, _md5(PROBE), PROBE_SECONDS)
        other = self._presign_upload(self._client, key, upload, _md5(OTHER), PROBE_SECONDS)
        answer = _request("PUT", announced, OTHER)
        yield Finding("a part with other bytes is refused", _is_refusal(answer), f"HTTP {answer.status}")
        answer = _request("PUT", PresignedRequest(announced.url), PROBE)
        yield Finding("a part without Content-MD5 is refused", _is_refusal(answer), f"HTTP {answer.status}")
        answer = _request("PUT", announced, PROBE)
        yield Finding("a part with the announced bytes is taken", answer.status == 200, f"HTTP {answer.status}")
        yield Finding("the ETag of a part is its MD5", _etag(answer.headers.get("ETag", "")) == _md5(PROBE))
        yield _check_clock(answer)
        try:
            self.complete(key, upload, _md5(OTHER))
        except ChecksumMismatchError:
            yield Finding("completion with another MD5 is refused", True)
        else:
            yield Finding("completion with another MD5 is refused", False)
        yield Finding("completion", self.complete(key, upload, _md5(PROBE)).size == len(PROBE))
        answer = _request("PUT", other, OTHER)
        yield Finding("a part after completion is refused", _is_refusal(answer), f"HTTP {answer.status}")
        yield Finding("the content stays what it was", b"".join(self.read(key)) == PROBE)

    def _probe_download(self, key: str) -> Iterator[Finding]:
        disposition = 'attachment; filename="probe"'
        answer = _request("GET", self._presign_download(self._client, key, disposition, PROBE_SECONDS))
        is_right = answer.data == PROBE and answer.headers.get("Content-Disposition") == disposition
        yield Finding("a signed download names its file", is_right, f"HTTP {answer.status}")
        if self._is_direct:
            try:
                answer = _request("GET", self.presign_download(key, disposition=disposition, seconds=PROBE_SECONDS))
            except urllib3.exceptions.HTTPError as error:
                # Clients may well reach an address that the portal itself does not.
                yield Finding("public address", None, f"not reached from here: {type(error).__name__}")
            else:
                yield Finding("public address", answer.data == PROBE, f"HTTP {answer.status}")
        with store_errors():
            versioning = self._client.get_bucket_versioning(Bucket=self._bucket)
        yield Finding("versioning", None, versioning.get("Status", "off"))

    def _head(self, key: str) -> "HeadObjectOutputTypeDef | None":
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if _is_missing(error):
                return None
            raise


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _is_missing(error: ClientError) -> bool:
    return _status(error) == 404 and _code(error) != "NoSuchBucket"


def _check_reference(key: str, upload: str) -> None:
    object_name(key)
    # Without its upload, aborting is a plain deletion of the object to some stores.
    if not upload:
        raise ValueError("An upload reference is missing.")


def _is_staged(upload: str, checksum: str) -> bool:
    if upload != STAGED and checksum_algorithm(checksum) != "md5":
        raise ValueError("This upload was begun for an MD5 checksum; begin another.")
    return upload == STAGED


def _is_key(key: str) -> bool:
    try:
        return bool(object_name(key))
    except ValueError:
        return False


def _staged_key(key: str) -> str:
    return f"staged/{object_name(key)}"


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _etag(text: str) -> str:
    return text.strip('"').lower()


def _proofs(checksum: str) -> tuple[str, str]:
    """Return the ETags by which a store says that an object has this MD5: of one part, or of the whole."""
    return f"{_md5(bytes.fromhex(checksum))}-1", checksum


def _request(method: str, request: PresignedRequest, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(retries=False, timeout=READ_SECONDS) as pool:
        return pool.request(method, request.url, body=body, headers=request.headers)


def _is_refusal(answer: urllib3.BaseHTTPResponse) -> bool:
    return answer.status >= 400


def _check_clock(answer: urllib3.BaseHTTPResponse) -> Finding:
    difference = abs(utc_now() - parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC))
    detail = f"{difference.total_seconds():.0f} s apart"
    if difference > CLOCK_LIMIT:
        return Finding("clock", False, detail)
    return Finding("clock", True if difference <= CLOCK_TOLERANCE else None, detail)
