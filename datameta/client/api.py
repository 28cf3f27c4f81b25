"""The portal's operations that hand in and fetch files, each a function; see the explorer at ``/api``."""

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx

from datameta.client.network import ClientError, Network, RefusedError
from datameta.client.parts import PartRequest
from datameta.client.progress import Bar
from datameta.client.source import Source

PAGE = 1000
# What the portal does with a sheet, and what it is said to do.
DOING = {"check": "checking", "stage": "staging", "annotate": "marking cells"}
URL_MINUTES = 60


class Portal:
    """A portal, and the API key of its user."""

    def __init__(self, url: str, key: str, network: Network) -> None:
        self._address = find_api(url)
        self._headers = {"Authorization": f"Bearer {check_key(key)}", "Accept": "application/json"}
        self.network = network

    def list_staged(self) -> list[dict[str, Any]]:
        """Return the user's files that are not submitted yet."""
        return list(self.iterate("/staged/files"))

    def list_submitted(self, submission: str) -> list[dict[str, Any]]:
        """Return the files of a submission."""
        return list(self.iterate(f"/submissions/{quote(submission, safe='')}/files"))

    def announce_file(self, name: str, checksum: str, size: int) -> dict[str, Any]:
        """Announce a file; return how to send its bytes."""
        # A repeated request gets the answer of the first one, and there is one file.
        headers = {"Idempotency-Key": str(uuid.uuid4()), "DataMeta-File-Size": str(size)}
        return self.call("POST", "/files", {"name": name, "checksum": checksum}, headers)

    def renew_upload(self, file_id: str) -> dict[str, Any]:
        """Return anew how to send an announced file's bytes."""
        return self.call("POST", f"/files/{file_id}/upload-url")

    def confirm_file(self, file_id: str) -> dict[str, Any]:
        """Confirm that all bytes of a file were sent."""
        return self.call("PUT", f"/files/{file_id}", {"contentUploaded": True})

    def get_file(self, file_id: str) -> dict[str, Any]:
        """Return what the portal knows of a file."""
        return self.call("GET", f"/files/{file_id}")

    def delete_file(self, file_id: str) -> None:
        """Delete a file that is not submitted."""
        self.call("DELETE", f"/files/{file_id}")

    def get_download_url(self, file_id: str) -> str:
        """Return an address of a file's bytes."""
        url: str = self.call("GET", f"/rpc/get-file-url/{file_id}?expires={URL_MINUTES}")["fileUrl"]
        return url

    def get_session(self, file_id: str) -> dict[str, Any] | None:
        """Return a file's upload session, or None if it has none."""
        try:
            return self.call("GET", f"/files/{file_id}/upload-session")
        except RefusedError as error:
            if error.status == 404 and "no_session" in error.codes:
                return None
            raise

    def get_template(self, file_format: str) -> bytes:
        """Return a template for sample sheets, made from today's definitions."""
        return self._send("GET", f"/sheets/template?format={file_format}", None, {}).content

    def send_sheet(self, action: str, source: Source, sheet: str | None, bar: Bar) -> httpx.Response:
        """Have a sheet checked, staged or annotated; ``sheet`` names the one of several in the file."""
        words = {"filename": source.name} | ({} if sheet is None else {"sheet": sheet})
        url = f"{self._address}/sheets/{action}?{urlencode(words, errors='replace')}"
        # A repeated request gets the answer of the first one.
        headers = {"Content-Type": "application/octet-stream", "Idempotency-Key": str(uuid.uuid4())}

        def read() -> Iterator[bytes]:
            bar.start("sending", 0)
            for chunk in source.read(0, source.size):
                yield chunk
                bar.advance(len(chunk))
            bar.start(DOING[action], source.size)

        return self.network.insist(
            lambda: self.network.send("POST", url, headers=self._headers | headers, chunks=read(), size=source.size)
        )

    def prevalidate(self, submission: dict[str, Any]) -> None:
        """Check what is to be submitted."""
        self.call("POST", "/presubvalidation", submission)

    def submit(self, submission: dict[str, Any]) -> dict[str, Any]:
        """Submit."""
        return self.call("POST", "/submissions", submission, {"Idempotency-Key": str(uuid.uuid4())})

    def get_submission(self, submission: str) -> dict[str, Any]:
        """Return what the portal knows of a submission."""
        return self.call("GET", f"/submissions/{quote(submission, safe='')}")

    def delete_sets(self, set_ids: Sequence[str]) -> None:
        """Delete staged sets, all or none."""
        self.call("POST", "/rpc/delete-metadatasets", {"metadatasetIds": list(set_ids)})

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Do an operation and return what the portal answers."""
        answer = self._send(method, path, body, headers or {})
        return read_json(answer) if answer.content else {}

    def iterate(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page by page."""
        cursor: str | None = None
        while True:
            query = {"limit": str(PAGE)} | ({} if cursor is None else {"cursor": cursor})
            answer = self._send("GET", f"{path}?{urlencode(query)}", None, {})
            yield from read_json(answer)
            following = parse_qs(urlsplit(answer.links.get("next", {}).get("url", "")).query).get("cursor")
            if following is None:
                return
            # Only the cursor is taken: the key goes to no other address than the user's.
            [cursor] = following

    def _send(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> httpx.Response:
        url = self._address + path
        return self.network.insist(
            lambda: self.network.call(method, url, headers=self._headers | dict(headers), body=body)
        )


class UploadSession:
    """The upload of one file in parts, as the portal keeps it."""

    def __init__(self, portal: Portal, file_id: str) -> None:
        self._portal = portal
        self._path = f"/files/{file_id}/upload-session"

    def open(self, size: int) -> int:
        """Open the session, or take up the one that is open; return the size of a part."""
        part_size: int = self._portal.call("POST", self._path, {"size": size})["partSize"]
        return part_size

    def list_parts(self) -> dict[int, str]:
        """Return the MD5 of each part that has arrived."""
        return {part["number"]: part["md5"].lower() for part in self._portal.iterate(f"{self._path}/parts")}

    def request_parts(self, md5s: Mapping[int, str]) -> dict[int, PartRequest]:
        """Announce up to 100 parts and return how to send each."""
        parts = [{"number": number, "md5": md5} for number, md5 in md5s.items()]
        answer = self._portal.call("POST", f"{self._path}/part-urls", {"parts": parts})
        return {part["number"]: PartRequest(part["url"], part["requestHeaders"]) for part in answer["parts"]}

    def complete(self, checksum: str, md5s: Mapping[int, str]) -> None:
        """Put the parts together."""
        self._portal.call("POST", f"{self._path}/complete", {"checksum": checksum})


def find_api(url: str) -> str:
    """Return the address of the API of a portal, whose address is given with or without ``/api/v1``."""
    split = urlsplit(url.strip())
    if split.scheme not in ("http", "https") or not split.hostname or split.query or split.fragment:
        raise ClientError(f"{url} is no address of a portal, such as https://portal.example.org")
    return re.sub(r"(/api(/v1)?)?/*$", "", url.strip()) + "/api/v1"


def check_key(key: str) -> str:
    """Return an API key without what was copied along with it."""
    if not re.fullmatch(r"[!-~]+", key.strip()):
        raise ClientError("This is no API key.")
    return key.strip()


def read_json(answer: httpx.Response) -> Any:
    """Return what an answer says.

    Raises ``ClientError`` if it is none of a portal.
    """
    try:
        return answer.json()
    except ValueError:
        raise ClientError(f"{answer.url.host} is no DataMeta portal: it does not answer in JSON.") from None
