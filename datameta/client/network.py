"""Requests that outlive a bad network.

The rule this module guards: what may pass by itself is tried again (a broken connection, 429, 5xx), until
no byte has moved for as long as the user's patience lasts; what was refused is final, in the refuser's words.
"""

import json
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from datameta import __version__

READ_SECONDS = 120
TIMEOUT = httpx.Timeout(60, read=READ_SECONDS, connect=15, pool=None)
# The portal may read a file of 64 MiB, or put thousands of parts together, before it answers.
CALL_TIMEOUT = httpx.Timeout(60, read=300, connect=15, pool=None)
SLOWEST = 1 << 20
"""Bytes a second that a gateway is expected to pass on at least."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
PASSING = (408, 429, 500, 502, 503, 504, 507)

Result = TypeVar("Result")


class ClientError(Exception):
    """What was asked for can't be done; the message says why."""


class RefusedError(ClientError):
    """The portal or the store said no; ``problems`` are those of the portal, as it lists them."""

    def __init__(self, message: str, status: int, problems: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.problems = problems
        self.codes = frozenset(str(problem["error_code"]) for problem in problems)


class UnfinishedError(ClientError):
    """The connection did not come back in time; the same command takes up the work again."""


class StoppedError(UnfinishedError):
    """The user does not want to go on."""


class PassingError(Exception):
    """A failure that may pass by itself."""

    def __init__(self, message: str, pause: float = 0) -> None:
        super().__init__(message)
        self.pause = pause


class Network:
    """One pool of connections, and the patience of its user.

    ``report`` is told at each failure what is being waited for.
    """

    def __init__(self, *, connections: int, patience: float, report: Callable[[str], None]) -> None:
        self._http = httpx.Client(
            headers={"User-Agent": f"datameta/{__version__}"},
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )
        self._stop = threading.Event()
        self._patience = patience
        self._report = report
        self._moved_at = time.monotonic()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def stop(self) -> None:
        """Make whatever is under way end with ``StoppedError``."""
        self._stop.set()

    def check_stop(self) -> None:
        """Raise ``StoppedError`` if the user has given up."""
        if self._stop.is_set():
            raise StoppedError("interrupted")

    def sleep(self, seconds: float) -> None:
        """Wait, unless the user gives up."""
        self._stop.wait(seconds)
        self.check_stop()

    def note_progress(self) -> None:
        """Note that bytes have moved: patience begins anew."""
        self._moved_at = time.monotonic()

    def is_patient(self, since: float) -> bool:
        """Say whether it makes sense to go on with what has not moved ``since``, by the monotonic clock."""
        return time.monotonic() - since < self._patience

    def insist(self, work: Callable[[], Result]) -> Result:
        """Do the work, and again as long as it fails for a reason that may pass.

        Raises ``UnfinishedError``, and what the work raises.
        """
        began_at = time.monotonic()
        pause = FIRST_PAUSE_SECONDS
        while True:
            self.check_stop()
            tried_at = time.monotonic()
            try:
                return work()
            except PassingError as error:
                if not self.is_patient(max(began_at, self._moved_at)):
                    raise UnfinishedError(f"gave up: {error}") from error
                if self._moved_at > tried_at:
                    pause = FIRST_PAUSE_SECONDS
                self._report(f"{error}; trying again")
                self.sleep(max(pause * random.uniform(0.5, 1), min(error.pause, self._patience)))  # noqa: S311 # nosec B311
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def call(self, method: str, url: str, *, headers: Mapping[str, str], body: Any = None) -> httpx.Response:
        """Send a JSON request, once, and return its answer.

        Raises ``PassingError``, ``RefusedError``.
        """
        with translate_errors():
            answer = self._http.request(method, url, headers=dict(headers), json=body, timeout=CALL_TIMEOUT)
        raise_for_status(answer)
        return answer

    def put(self, url: str, *, headers: Mapping[str, str], chunks: Iterator[bytes], size: int) -> None:
        """Send ``size`` bytes, once.

        Raises ``PassingError``, ``RefusedError``, and what the chunks raise.
        """
        # A gateway passes the whole on to the store before it answers.
        timeout = httpx.Timeout(60, read=READ_SECONDS + size / SLOWEST, connect=15, pool=None)
        self.send("PUT", url, headers=headers, chunks=chunks, size=size, timeout=timeout)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        chunks: Iterator[bytes],
        size: int,
        timeout: httpx.Timeout = CALL_TIMEOUT,
    ) -> httpx.Response:
        """Send ``size`` bytes, once, and return the answer.

        Raises ``PassingError``, ``RefusedError``, and what the chunks raise.
        """
        headers = {**headers, "Content-Length": str(size)}
        with translate_errors():
            answer = self._http.request(method, url, headers=headers, content=self._watch(chunks), timeout=timeout)
        raise_for_status(answer)
        self.note_progress()
        return answer

    def get(self, url: str, *, start: int) -> Iterator[bytes]:
        """Yield the bytes of a file from ``start`` on.

        Raises ``PassingError``, ``RefusedError``.
        """
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with translate_errors(), self._http.stream("GET", url, headers=headers) as answer:
            if answer.status_code not in (200, 206):
                answer.read()
            raise_for_status(answer)
            # A store that knows no ranges sends the whole.
            skipped = start if answer.status_code == 200 else 0
            for chunk in answer.iter_raw(1 << 18):
                self.check_stop()
                self.note_progress()
                if skipped < len(chunk):
                    yield chunk[skipped:]
                skipped = max(0, skipped - len(chunk))

    def _watch(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.check_stop()
            yield chunk


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the library's exceptions into ours."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ClientError(f"This is no address of a portal: {error}") from error
    except httpx.LocalProtocolError as error:
        raise ClientError(f"This can't be sent: {error}") from error
    except httpx.TransportError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise ClientError(f"The server is not who it says it is: {cause.verify_message}") from error
            cause = cause.__cause__ or cause.__context__
        raise PassingError(f"no connection ({str(error) or type(error).__name__})") from error


def raise_for_status(answer: httpx.Response) -> None:
    """Raise ``PassingError`` or ``RefusedError`` unless the answer is a success."""
    if answer.is_success:
        return
    if answer.has_redirect_location:
        raise ClientError(f"{answer.url.host} sends on to {answer.headers['Location']}; use the portal's own address.")
    message, problems = _read_problems(answer)
    if answer.status_code in PASSING:
        pause = answer.headers.get("Retry-After", "")
        raise PassingError(message, float(pause) if pause.isdecimal() else 0)
    raise RefusedError(message, answer.status_code, problems)


def _read_problems(answer: httpx.Response) -> tuple[str, list[dict[str, Any]]]:
    """Return what a refusal says, of the portal (JSON) or of a store (XML), and the portal's problems."""
    try:
        problems = [{"error_code": problem["error_code"], **problem} for problem in json.loads(answer.content)]
        return " ".join(dict.fromkeys(str(problem["message"]) for problem in problems)), problems
    except (ValueError, TypeError, KeyError):
        code = re.search(rb"<Code>([\w.]{1,100})</Code>", answer.content)
        said = f": {code[1].decode()}" if code else ""
        return f"{answer.url.host} answered {answer.status_code}{said}", []
