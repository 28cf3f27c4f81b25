"""The S3 store: AWS, Ceph RGW, MinIO and their like.

The rule this module guards: no client ever holds an address by which confirmed content could change.

For an MD5 checksum an upload is a multipart upload of one part, which only the portal can complete,
and it completes it with the *announced* MD5 as the part's ETag: comparing and publishing are one
step of the store. With the upload its address dies. The signed ``Content-MD5`` makes the store
refuse other bytes at once. An upload in parts is the same with more of them.

For a SHA-256 checksum no store says what it holds. Clients PUT to ``staged/<uuid>``; completing
copies that to a key nobody else knows, where the portal verifies it by reading.

Where ETags are not MD5 (``check`` finds out), MD5 goes the way of SHA-256, and parts are completed
with the ETags that the store lists: nothing is proven then, and everything is verified by reading.
"""

import base64
import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from datetime import UTC, timedelta
from io import FileIO
from typing import TYPE_CHECKING, Any

import boto3.session
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError

from datameta.clock import utc_now
from datameta.settings import Settings
from datameta.storage.base import (
    CHUNK_BYTES,
    MARK_BYTES,
    ChecksumMismatchError,
    Finding,
    NoDataError,
    OpenUpload,
    Part,
    PresignedRequest,
    StoredEntry,
    StoredObject,
    UploadGoneError,
    check_part,
    check_parts,
    checksum_algorithm,
    object_name,
)
from datameta.storage.disk import open_spool, write_announced, write_chunks
from datameta.storage.s3_answers import code_of, etag_of, find_proofs, is_missing, md5_of, store_errors
from datameta.storage.s3_probe import Probe

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

CONTENT_TYPE = "application/octet-stream"
STAGED = "put"
MARK = "files/site-id"
"""The key of the mark, where the portal has its rights; no file's key looks like it."""

CONFIG = Config(
    signature_version="s3v4",
    # By default boto3 adds a CRC32 to everything, which older stores refuse.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    # Within fifteen seconds a client hears that the store holds still.
    retries={"mode": "standard", "max_attempts": 2},
    connect_timeout=3,
    read_timeout=6,
    max_pool_connections=32,
)


class S3Storage:
    """A bucket. Credentials come from where AWS programs look for them."""

    def __init__(self, settings: Settings, *, proves_md5: bool = True) -> None:
        self._settings = settings
        self._proves_md5 = proves_md5
        self._bucket = settings.s3_bucket
        self._is_direct = settings.upload_is_direct
        self._spool_folder = settings.home
        session = boto3.session.Session(region_name=settings.s3_region)
        config = CONFIG.merge(Config(s3={"addressing_style": "path" if settings.s3_path_style else "virtual"}))
        endpoint, public = settings.s3_endpoint or None, settings.s3_public_endpoint or None
        self._client = session.client("s3", endpoint_url=endpoint, config=config)
        # Signatures cover the host name, so clients' addresses are signed for the one that they use.
        self._public = session.client("s3", endpoint_url=public, config=config) if public else self._client
        self._credentials = session.get_credentials()
        # A store may copy or flush 5 GiB, or look at 10,000 parts, before its first word.
        self._patient = session.client("s3", endpoint_url=endpoint, config=config.merge(Config(read_timeout=600)))

    @property
    def is_direct(self) -> bool:
        return self._is_direct

    @property
    def proves_md5(self) -> bool:
        return self._proves_md5

    def begin_upload(self, key: str, checksum: str) -> str:
        if checksum_algorithm(checksum) == "md5" and self._proves_md5:
            return self.begin_parts(key)
        object_name(key)
        return STAGED

    @store_errors()
    def begin_parts(self, key: str) -> str:
        object_name(key)
        answer = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=CONTENT_TYPE)
        return answer["UploadId"]

    def presign_upload(
        self, key: str, upload: str, checksum: str, *, seconds: int, size: int | None = None
    ) -> PresignedRequest:
        _check_reference(key, upload)
        md5 = checksum if checksum_algorithm(checksum) == "md5" else None
        if _is_staged(upload, checksum):
            return self._presign_bytes("put_object", {"Key": _staged_key(key)}, md5, size, seconds)
        part = {"Key": key, "UploadId": upload, "PartNumber": 1}
        return self._presign_bytes("upload_part", part, md5, size, seconds)

    def presign_part(
        self, key: str, upload: str, number: int, *, md5: str, size: int, seconds: int
    ) -> PresignedRequest:
        _check_parts_reference(key, upload)
        check_part(number, md5)
        part = {"Key": key, "UploadId": upload, "PartNumber": number}
        return self._presign_bytes("upload_part", part, md5, size, seconds)

    def _presign_bytes(
        self, method: str, target: Mapping[str, Any], md5: str | None, size: int | None, seconds: int
    ) -> PresignedRequest:
        """Sign a request that carries bytes, with their MD5 and length where they are known."""
        signed, headers = dict(target), {}
        if md5 is not None:
            headers["Content-MD5"] = signed["ContentMD5"] = _content_md5(md5)
        if size is not None:
            # Every HTTP client sends the length by itself; browsers let nobody set it.
            signed["ContentLength"] = size
        return self._presign(method, signed, headers, seconds)

    @store_errors()
    def _presign(
        self, method: str, target: Mapping[str, Any], headers: dict[str, str], seconds: int
    ) -> PresignedRequest:
        # The signature counts from the whole second.
        expires_at = utc_now().replace(microsecond=0) + timedelta(seconds=seconds)
        if isinstance(self._credentials, RefreshableCredentials):
            # Refreshed first if they are due, so that the signature never ends before the time looked at.
            self._credentials.get_frozen_credentials()
            # botocore says it nowhere else.
            expires_at = min(expires_at, self._credentials._expiry_time.astimezone(UTC))  # type: ignore[attr-defined]
        url = self._public.generate_presigned_url(method, {"Bucket": self._bucket, **target}, ExpiresIn=seconds)
        return PresignedRequest(url, headers, expires_at)

    @store_errors()
    def write(self, key: str, upload: str, chunks: Iterable[bytes]) -> None:
        _check_reference(key, upload)
        md5 = hashlib.md5(usedforsecurity=False)
        with open_spool(self._spool_folder) as spool:
            write_chunks(chunks, spool, md5)
            if upload == STAGED:
                spool.seek(0)
                self._patient.put_object(
                    Bucket=self._bucket, Key=_staged_key(key), Body=spool, ContentMD5=_content_md5(md5.hexdigest())
                )
            else:
                self._send_part(key, upload, 1, spool, md5.hexdigest())

    @store_errors()
    def write_part(self, key: str, upload: str, number: int, chunks: Iterable[bytes], *, md5: str, size: int) -> None:
        _check_parts_reference(key, upload)
        check_part(number, md5)
        with open_spool(self._spool_folder) as spool:
            write_announced(chunks, spool, md5=md5, size=size)
            self._send_part(key, upload, number, spool, md5)

    def _send_part(self, key: str, upload: str, number: int, spool: FileIO, md5: str) -> None:
        spool.seek(0)
        try:
            self._patient.upload_part(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                Body=spool,
                ContentMD5=_content_md5(md5),
            )
        except ClientError as error:
            if is_missing(error):
                raise UploadGoneError from error
            raise

    def list_parts(self, key: str, upload: str, *, after: int = 0) -> Iterator[Part]:
        _check_parts_reference(key, upload)
        with store_errors():
            for number, size, etag in self._list_parts(key, upload, after):
                yield Part(number, size, etag if self._proves_md5 else None)

    def _list_parts(self, key: str, upload: str, after: int) -> Iterator[tuple[int, int, str]]:
        try:
            # The paginator cannot begin in the middle.
            is_open = True
            while is_open:
                page = self._client.list_parts(Bucket=self._bucket, Key=key, UploadId=upload, PartNumberMarker=after)
                for part in page.get("Parts", []):
                    yield part["PartNumber"], part["Size"], etag_of(part["ETag"])
                is_open, after = page["IsTruncated"], page.get("NextPartNumberMarker", after)
        except ClientError as error:
            if is_missing(error):
                raise UploadGoneError from error
            raise

    @store_errors()
    def complete(self, key: str, upload: str, checksum: str) -> StoredObject:
        _check_reference(key, upload)
        if _is_staged(upload, checksum):
            return self._complete_staged(key)
        return self._complete_parts(self._client, key, upload, [checksum])

    @store_errors()
    def complete_parts(self, key: str, upload: str, md5s: Sequence[str]) -> StoredObject:
        _check_parts_reference(key, upload)
        check_parts(md5s)
        return self._complete_parts(self._patient, key, upload, md5s)

    def _complete_parts(self, client: "S3Client", key: str, upload: str, md5s: Sequence[str]) -> StoredObject:
        try:
            etags = md5s if self._proves_md5 else self._find_etags(key, upload, len(md5s))
            client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload,
                MultipartUpload={
                    "Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
                },
            )
        except UploadGoneError:
            pass
        except ClientError as error:
            if not is_missing(error):
                self._explain_refusal(key, upload, error)
        # Only the object itself tells. The answer may have no ETag (RGW), and a second completion may be
        # answered with success whatever ETag it names (moto).
        head = self._head(key)
        if head is None or (self._proves_md5 and etag_of(head["ETag"]) not in find_proofs(md5s)):
            raise UploadGoneError
        is_proven = self._proves_md5 and len(md5s) == 1
        return StoredObject(key, head["ContentLength"], md5s[0] if is_proven else None, has_rest=False)

    def _find_etags(self, key: str, upload: str, count: int) -> list[str]:
        """Return what the store calls parts 1 to ``count``."""
        etags = {number: etag for number, _, etag in self._list_parts(key, upload, 0)}
        if not etags:
            raise NoDataError
        if not etags.keys() >= set(range(1, count + 1)):
            raise ChecksumMismatchError
        return [etags[number] for number in range(1, count + 1)]

    def _explain_refusal(self, key: str, upload: str, refusal: ClientError) -> None:
        """Raise why an open upload could not be completed; return if it is no longer open.

        RGW answers 500 for an upload that is gone, so that the code alone does not tell.
        """
        try:
            answer = self._client.list_parts(Bucket=self._bucket, Key=key, UploadId=upload, MaxParts=1)
        except ClientError as error:
            if is_missing(error):
                return
            raise
        # A part that is too small was sent with other bytes than those whose size the portal signed.
        if code_of(refusal) not in ("InvalidPart", "EntityTooSmall"):
            raise refusal
        if not answer.get("Parts"):
            raise NoDataError from refusal
        raise ChecksumMismatchError from refusal

    def _complete_staged(self, key: str) -> StoredObject:
        # A key of its own for each attempt: attempts at the same time do not see each other's copies.
        # A copy that a crash leaves without a row is swept.
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
            if is_missing(error):
                raise NoDataError from error
            raise
        return StoredObject(final, self._client.head_object(Bucket=self._bucket, Key=final)["ContentLength"])

    @store_errors()
    def abort(self, key: str, upload: str) -> None:
        _check_reference(key, upload)
        if upload == STAGED:
            self._client.delete_object(Bucket=self._bucket, Key=_staged_key(key))
            return
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
        except ClientError as error:
            if not is_missing(error):
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
                if is_missing(error):
                    raise FileNotFoundError(key) from error
                if code_of(error) != "InvalidRange":
                    raise
                # The range begins at or after the end.
                yield b""
                return
            with closing(answer["Body"]) as body:
                yield b""
                if stop is None or start < stop:
                    yield from body.iter_chunks(CHUNK_BYTES)

    def presign_download(self, key: str, *, disposition: str, seconds: int) -> PresignedRequest:
        object_name(key)
        # The type keeps a browser from showing what a user uploaded as a page of the store.
        target = {"Key": key, "ResponseContentDisposition": disposition, "ResponseContentType": CONTENT_TYPE}
        return self._presign("get_object", target, {}, seconds)

    def list_uploads(self) -> Iterator[OpenUpload]:
        with store_errors():
            # With a prefix MinIO lists nothing.
            for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket):
                for upload in page.get("Uploads", []):
                    if _is_key(upload["Key"]):
                        yield OpenUpload(upload["Key"], upload["UploadId"], upload["Initiated"])
        for entry in self._list("staged/"):
            key = entry.key.replace("staged/", "files/", 1)
            if _is_key(key):
                yield OpenUpload(key, STAGED, entry.changed_at)

    def list_objects(self) -> Iterator[StoredEntry]:
        return (entry for entry in self._list("files/") if _is_key(entry.key))

    def _list(self, prefix: str) -> Iterator[StoredEntry]:
        with store_errors():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield StoredEntry(entry["Key"], entry["Size"], entry["LastModified"])

    @store_errors()
    def read_mark(self) -> str | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=MARK)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        with closing(answer["Body"]) as body:
            return body.read(MARK_BYTES).decode("ascii", "replace")

    @store_errors()
    def write_mark(self, mark: str) -> None:
        body = mark.encode()
        self._client.put_object(Bucket=self._bucket, Key=MARK, Body=body, ContentMD5=_content_md5(md5_of(body)))

    def check(self) -> list[Finding]:
        probe = Probe(self._client, self._bucket, self._settings, self, self._view(True), self._view(False))
        findings = list(probe.run())
        if probe.proves_md5 is not None:
            self._proves_md5 = probe.proves_md5
        return findings

    def _view(self, proves_md5: bool) -> "S3Storage":
        """Return this store with addresses as the portal reaches them."""
        view = copy(self)
        view._public, view._proves_md5 = self._client, proves_md5
        return view

    def _head(self, key: str) -> "HeadObjectOutputTypeDef | None":
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if is_missing(error):
                return None
            raise


def _check_reference(key: str, upload: str) -> None:
    object_name(key)
    # Without its upload, aborting is a plain deletion of the object to some stores.
    if not upload:
        raise ValueError("An upload reference is missing.")


def _check_parts_reference(key: str, upload: str) -> None:
    _check_reference(key, upload)
    if upload == STAGED:
        raise ValueError("This upload takes no parts.")


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


def _content_md5(md5: str) -> str:
    return base64.b64encode(bytes.fromhex(md5)).decode()
