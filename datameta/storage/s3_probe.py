"""What ``datameta storage check`` tries on an S3 store, in about 20 requests.

The rule this module guards: nothing is believed of a store that was not seen. What keeps confirmed
content from changing must hold; what only saves reading (MD5), serves browsers (CORS) or tidies up
(lifecycle, versions) is noted, and the portal does without it.
"""

import uuid
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from botocore.exceptions import ClientError

from datameta.clock import utc_now
from datameta.settings import Settings
from datameta.storage.base import (
    ChecksumMismatchError,
    Finding,
    PresignedRequest,
    Storage,
    StorageError,
    StorageUnavailableError,
    UploadGoneError,
)
from datameta.storage.s3_answers import code_of, etag_of, md5_of, store_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLOCK_TOLERANCE = timedelta(minutes=1)
CLOCK_LIMIT = timedelta(minutes=5)
WAIT_SECONDS = 20
URL_SECONDS = 300
# Of one length, so that they differ by their MD5 only.
PROBE, OTHER = b"probe", b"other"
DISPOSITION = 'attachment; filename="probe"'
# A browser adds the type of the file that its user chose.
BROWSER_HEADERS = ("content-md5", "content-type")


@dataclass
class Probe:
    """One run of the check on one store, seen in three ways.

    ``proving`` and ``reading`` hold addresses as the portal itself reaches them, and take the store for one
    that proves MD5s, and for one that does not; ``public`` holds the clients' addresses.
    ``proves_md5`` is what the run found out; None if it did not come so far.
    """

    client: "S3Client"
    bucket: str
    settings: Settings
    public: Storage
    proving: Storage
    reading: Storage
    proves_md5: bool | None = None

    def run(self) -> Iterator[Finding]:
        """Yield what the store enforces; leave nothing behind."""
        key = f"files/{uuid.uuid4()}"
        try:
            with store_errors():
                self.client.head_bucket(Bucket=self.bucket)
            yield Finding("bucket", True, self.bucket)
            upload = self.proving.begin_parts(key)
            try:
                is_md5 = yield from self._probe_part(key, upload)
                yield from self._probe_completion(key, upload, is_md5)
                yield from self._probe_download(key)
                if self.public.is_direct:
                    yield from self._probe_public_address(key, upload)
            finally:
                self.proving.abort(key, upload)
                self.proving.delete(key)
            yield from self._probe_staging(key)
            for entries in (self.proving.list_uploads(), self.proving.list_objects()):
                next(entries, None)
            yield Finding("objects and uploads can be listed", True)
            yield self._note_lifecycle()
            yield self._note_versioning()
        except (StorageError, FileNotFoundError, urllib3.exceptions.HTTPError) as error:
            # The messages of urllib3 show the signed address.
            detail = str(error) if isinstance(error, StorageUnavailableError) else type(error).__name__
            yield Finding("the check ran to its end", False, detail)

    def _probe_part(self, key: str, upload: str) -> Generator[Finding, None, bool]:
        """Return whether the ETag of a part is its MD5."""
        announced = self._presign(key, upload, PROBE)
        answer = _request("PUT", announced, OTHER)
        yield _note("a part with other bytes is refused", _is_refusal(answer), f"HTTP {answer.status}")
        answer = _request("PUT", self._presign(key, upload, PROBE, len(PROBE) + 1), PROBE)
        yield _note("a part of another length is refused", _is_refusal(answer), f"HTTP {answer.status}")
        answer = _request("PUT", replace(announced, headers={}), PROBE)
        yield Finding("a part without Content-MD5 is refused", _is_refusal(answer), f"HTTP {answer.status}")
        answer = _request("PUT", announced, PROBE)
        yield Finding("a part with the announced bytes is taken", answer.status == 200, f"HTTP {answer.status}")
        is_md5 = etag_of(answer.headers.get("ETag", "")) == md5_of(PROBE)
        yield _note("the ETag of a part is its MD5", is_md5)
        yield check_clock(answer)
        return is_md5

    def _probe_completion(self, key: str, upload: str, is_md5: bool) -> Iterator[Finding]:
        late = self._presign(key, upload, OTHER)
        is_compared = False
        with suppress(UploadGoneError):
            try:
                self.proving.complete_parts(key, upload, [md5_of(OTHER)])
            except ChecksumMismatchError:
                is_compared = True
        yield _note("completion with another MD5 is refused", is_compared)
        is_composite = False
        if is_md5 and is_compared:
            with suppress(UploadGoneError):
                self.proving.complete_parts(key, upload, [md5_of(PROBE)])
                is_composite = True
        self.proves_md5 = is_composite
        stored = self.reading.complete_parts(key, upload, [md5_of(PROBE)])
        yield Finding("completion", stored.size == len(PROBE))
        detail = "" if self.proves_md5 else "every file is verified by reading it"
        yield _note("the store proves MD5s", self.proves_md5, detail)
        answer = _request("PUT", late, OTHER)
        yield _note("a part after completion is refused", _is_refusal(answer), f"HTTP {answer.status}")
        yield Finding("the content stays what it was", b"".join(self.proving.read(key)) == PROBE)

    def _probe_download(self, key: str) -> Iterator[Finding]:
        address = self.proving.presign_download(key, disposition=DISPOSITION, seconds=URL_SECONDS)
        answer = _request("GET", address)
        is_right = answer.data == PROBE and answer.headers.get("Content-Disposition") == DISPOSITION
        yield Finding("a signed download names its file", is_right, f"HTTP {answer.status}")

    def _probe_public_address(self, key: str, upload: str) -> Iterator[Finding]:
        address = self.public.presign_download(key, disposition=DISPOSITION, seconds=URL_SECONDS)
        part = self.public.presign_part(key, upload, 1, md5=md5_of(PROBE), size=len(PROBE), seconds=URL_SECONDS)
        try:
            answer = _request("GET", address)
            yield Finding("public address", answer.data == PROBE, f"HTTP {answer.status}")
            yield self._note_browsers(part)
        except urllib3.exceptions.HTTPError as error:
            # Clients may well reach an address that the portal itself does not.
            yield Finding("public address", None, f"not reached from here: {type(error).__name__}")

    def _note_browsers(self, part: PresignedRequest) -> Finding:
        site = urlsplit(self.settings.base_url)
        origin = f"{site.scheme}://{site.netloc}"
        question = {
            "Origin": origin,
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": ",".join(BROWSER_HEADERS),
        }
        answer = _request("OPTIONS", replace(part, headers=question))
        allowed = {
            name: {word.strip().lower() for word in answer.headers.get(f"Access-Control-Allow-{name}", "").split(",")}
            for name in ("Origin", "Methods", "Headers")
        }
        is_allowed = (
            not _is_refusal(answer)
            and not allowed["Origin"].isdisjoint({"*", origin.lower()})
            and "put" in allowed["Methods"]
            and ("*" in allowed["Headers"] or allowed["Headers"].issuperset(BROWSER_HEADERS))
        )
        wanted = f"for uploads by browser, allow PUT and GET from {origin} with {', '.join(BROWSER_HEADERS)} by CORS"
        return _note(f"browsers at {origin} may send", is_allowed, "" if is_allowed else wanted)

    def _probe_staging(self, key: str) -> Iterator[Finding]:
        upload = self.reading.begin_upload(key, md5_of(PROBE))
        address = self.reading.presign_upload(key, upload, md5_of(PROBE), seconds=URL_SECONDS, size=len(PROBE))
        try:
            answer = _request("PUT", address, PROBE)
            stored = self.reading.complete(key, upload, md5_of(PROBE))
            try:
                is_same = b"".join(self.reading.read(stored.key)) == PROBE
            finally:
                self.reading.delete(stored.key)
        finally:
            self.reading.abort(key, upload)
        yield Finding("staged bytes are copied", is_same, f"HTTP {answer.status}")

    def _note_lifecycle(self) -> Finding:
        name, days = "incomplete uploads expire", self.settings.upload_session_days
        try:
            rules = self.client.get_bucket_lifecycle_configuration(Bucket=self.bucket)["Rules"]
        except ClientError as error:
            if code_of(error) != "NoSuchLifecycleConfiguration":
                return Finding(name, None, f"not known: {code_of(error)}")
            rules = []
        ends = [
            rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
            for rule in rules
            if rule["Status"] == "Enabled" and "AbortIncompleteMultipartUpload" in rule
        ]
        if not ends:
            return Finding(name, None, f"by no lifecycle rule; one after {days + 1} days would tidy up")
        if min(ends) < days:
            return Finding(name, None, f"after {min(ends)} days, sooner than upload sessions, which live {days}")
        return Finding(name, True, f"after {min(ends)} days")

    def _note_versioning(self) -> Finding:
        try:
            answer = self.client.get_bucket_versioning(Bucket=self.bucket)
        except ClientError as error:
            return Finding("versioning", None, f"not known: {code_of(error)}")
        return Finding("versioning", None, answer.get("Status", "off"))

    def _presign(self, key: str, upload: str, data: bytes, size: int | None = None) -> PresignedRequest:
        size = len(data) if size is None else size
        return self.proving.presign_part(key, upload, 1, md5=md5_of(data), size=size, seconds=URL_SECONDS)


def _request(method: str, request: PresignedRequest, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(retries=False, timeout=WAIT_SECONDS) as pool:
        return pool.request(method, request.url, body=body, headers=request.headers)


def _is_refusal(answer: urllib3.BaseHTTPResponse) -> bool:
    return answer.status >= 400


def _note(name: str, is_so: bool, detail: str = "") -> Finding:
    """Return a finding that the portal can do without."""
    return Finding(name, True if is_so else None, detail)


def check_clock(answer: urllib3.BaseHTTPResponse) -> Finding:
    """Compare the store's clock, which judges signatures, with ours."""
    difference = abs(utc_now() - parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC))
    detail = f"{difference.total_seconds():.0f} s apart"
    if difference > CLOCK_LIMIT:
        return Finding("clock", False, detail)
    return Finding("clock", True if difference <= CLOCK_TOLERANCE else None, detail)
