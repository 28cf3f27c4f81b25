"""Files handed in: announced, sent, confirmed; in one piece if they are small, in parts otherwise.

The rule this module guards: a file counts as handed in once the portal says that it is confirmed and has the
checksum that was taken here. All state is the portal's: a run finds what former ones have begun by the
file's name and a checksum, wherever they ran.
"""

import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from datameta.client.api import Portal, UploadSession
from datameta.client.network import ClientError, RefusedError, UnfinishedError
from datameta.client.outcome import CONFIRMED, PRESENT, REFUSED, UNFINISHED, Outcome
from datameta.client.parts import ATTEMPTS, PartRequest, PartSender, Pool, Reach, put_counted
from datameta.client.progress import Bar, Display
from datameta.client.source import Source, open_source

SMALL_BYTES = 16 << 20
# Files that are read and sent at the same time; each has a thread that takes its checksum.
LARGE_AT_ONCE = 2
GONE = 410
OF_ANOTHER = frozenset({"size_mismatch", "session_exists"})
UNDER_WAY = frozenset({"confirmation_running", "verification_in_progress"})
FIRST_POLL_SECONDS = 0.2
LONGEST_POLL_SECONDS = 5.0


class Uploader:
    """One run of ``datameta upload``."""

    def __init__(self, portal: Portal, display: Display, *, jobs: int) -> None:
        self._portal = portal
        self._network = portal.network
        self._display = display
        self._pool = Pool(jobs)
        self._large = threading.Semaphore(LARGE_AT_ONCE)
        self._staged: dict[str, list[dict[str, Any]]] = {}
        self._ended: SimpleQueue[Outcome | Exception] = SimpleQueue()

    def upload(self, sources: Sequence[Source]) -> Iterator[Outcome]:
        """Hand in the files, whose names differ; yield each as it ends."""
        self._display.announce(len(sources), sum(source.size for source in sources))
        for file in self._portal.list_staged():
            self._staged.setdefault(unicodedata.normalize("NFC", file["name"]), []).append(file)
        with self._pool:
            threading.Thread(target=self._begin_all, args=[sources], daemon=True).start()
            for _ in sources:
                ended = self._ended.get()
                if isinstance(ended, Exception):
                    raise ended
                yield ended

    def _begin_all(self, sources: Sequence[Source]) -> None:
        for order, source in enumerate(sources):
            if source.size <= SMALL_BYTES:
                self._pool.submit(order, partial(self._upload, source, None))
            else:
                self._large.acquire()
                threading.Thread(target=self._upload, args=[source, order], daemon=True).start()

    def _upload(self, source: Source, order: int | None) -> None:
        """Hand in a file and tell how it ended; a large one has its place among the others."""
        bar = self._display.add(source.name, source.size)
        try:
            if order is None:
                state, file = self._upload_small(source, bar)
            else:
                state, file = self._upload_large(source, bar, order)
            outcome: Outcome | Exception = Outcome(source.path, source.name, source.size, state, file)
        except UnfinishedError as error:
            outcome = Outcome(source.path, source.name, source.size, UNFINISHED, error=str(error))
        except ClientError as error:
            outcome = Outcome(source.path, source.name, source.size, REFUSED, error=str(error))
        except OSError as error:
            message = f"The file can't be read: {error.strerror}"
            outcome = Outcome(source.path, source.name, source.size, REFUSED, error=message)
        except Exception as error:
            outcome = error
        bar.finish()
        self._ended.put(outcome)

    def _upload_small(self, source: Source, bar: Bar) -> tuple[str, dict[str, Any]]:
        source.check_name()
        bar.start("sending", 0, moves=True)
        checksum = source.hash("md5", 0, source.size)
        announced = None
        for file in self._staged.get(source.name, []):
            if file["checksum"] == checksum and file["contentUploaded"]:
                return PRESENT, file
            if file["checksum"] == checksum:
                try:
                    # Its bytes may all be there, of a run that was cut off just before its end.
                    return CONFIRMED, self._confirm(file["id"]["uuid"], checksum, source.size)
                except RefusedError:
                    announced = self._renew(file["id"]["uuid"])
        if announced is None:
            announced = self._portal.announce_file(source.name, checksum, source.size)
        file_id: str = announced["id"]["uuid"]
        attempt = 1
        while True:
            try:
                self._put(source, announced, bar)
                source.check_unchanged()
                return CONFIRMED, self._confirm(file_id, checksum, source.size)
            except RefusedError:
                # The address may have expired, or the bytes may have been spoilt on their way.
                source.check_unchanged()
                if attempt == ATTEMPTS:
                    raise
            attempt += 1
            bar.start("sending", 0, moves=True)
            announced = self._portal.renew_upload(file_id)

    def _renew(self, file_id: str) -> dict[str, Any] | None:
        """Return how to send a file that was announced earlier, or None if it can't be sent any more."""
        try:
            return self._portal.renew_upload(file_id)
        except RefusedError:
            return None

    def _put(self, source: Source, announced: dict[str, Any], bar: Bar) -> None:
        request = PartRequest(announced["urlToUpload"], announced.get("requestHeaders", {}))
        reach = Reach()
        self._network.insist(
            lambda: put_counted(self._network, request, source.read(0, source.size), source.size, bar, reach)
        )

    def _confirm(self, file_id: str, checksum: str, size: int) -> dict[str, Any]:
        began_at, pause = time.monotonic(), FIRST_POLL_SECONDS
        while True:
            try:
                file = self._portal.confirm_file(file_id)
                break
            except RefusedError as error:
                # The answer to a former request may have been lost.
                file = self._portal.get_file(file_id)
                if file["contentUploaded"]:
                    break
                if not error.codes & UNDER_WAY:
                    raise
                if not self._network.is_patient(began_at):
                    raise UnfinishedError(
                        "The portal has all bytes, but does not go on with confirming them."
                    ) from None
            self._network.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
        return check_confirmed(file, checksum, size)

    def _upload_large(self, source: Source, bar: Bar, order: int) -> tuple[str, dict[str, Any]]:
        try:
            source.check_name()
            first = source.hash("md5", 0, SMALL_BYTES)
            for file_id in self._find_begun(source, first):
                checksum = self._send(source, file_id, bar, order)
                if checksum is not None:
                    break
            else:
                known = self._find_known(source, first, bar)
                if known is not None and known["contentUploaded"]:
                    return PRESENT, known
                if known is not None:
                    file_id, checksum = known["id"]["uuid"], known["checksum"]
                    return CONFIRMED, self._await_verification(file_id, checksum, source.size, bar)
                # The true checksum is told at the end. This one can be taken at once, and always is the same: by it
                # the upload is found again.
                file_id = self._portal.announce_file(source.name, first, source.size)["id"]["uuid"]
                checksum = self._send(source, file_id, bar, order)
                if checksum is None:
                    raise ClientError("The portal has ended this upload. Run the same command again.")
        finally:
            self._large.release()
        return CONFIRMED, self._await_verification(file_id, checksum, source.size, bar)

    def _send(self, source: Source, file_id: str, bar: Bar, order: int) -> str | None:
        """Send an announced file in parts, and return its checksum; None if it takes no parts of this file any more."""
        attempt = 1
        while True:
            try:
                session = UploadSession(self._portal, file_id)
                return PartSender(source, session, self._network, self._pool, bar, order).send()
            except RefusedError as error:
                if error.status == GONE or error.codes & OF_ANOTHER:
                    return None
                if not error.codes & {"session_over", "not_modifiable", *UNDER_WAY}:
                    raise
                # Somebody else sends the same file, and was faster; or the store has dropped what was sent.
                found = self._portal.get_session(file_id)
                if found is not None and found["state"] != "open":
                    bar.start("comparing", 0)
                    return source.hash("md5", 0, source.size, bar.advance)
                if "session_over" in error.codes:
                    return None
                if attempt == ATTEMPTS:
                    raise
            attempt += 1

    def _find_begun(self, source: Source, first: str) -> Iterator[str]:
        """Yield the ids of files whose sending a former run has begun."""
        for file in self._staged.get(source.name, []):
            if file["checksum"] == first and not file["contentUploaded"]:
                file_id: str = file["id"]["uuid"]
                session = self._portal.get_session(file_id)
                if session is None or (session["size"] == source.size and session["state"] == "open"):
                    yield file_id

    def _find_known(self, source: Source, first: str, bar: Bar) -> dict[str, Any] | None:
        """Return the file of this content whose bytes are all at the portal, confirmed or about to be."""
        candidates = []
        for file in self._staged.get(source.name, []):
            if file["checksum"] == first:
                continue
            if file["contentUploaded"]:
                if file["filesize"] == source.size:
                    candidates.append((file, "verified"))
                continue
            session = self._portal.get_session(file["id"]["uuid"])
            if session is not None and session["size"] == source.size and session["state"] != "open":
                candidates.append((file, session["state"]))
        digests: dict[str, str] = {}
        for file, state in candidates:
            algorithm = "md5" if len(file["checksum"]) == 32 else "sha256"
            if algorithm not in digests:
                bar.start("comparing", 0)
                digests[algorithm] = source.hash(algorithm, 0, source.size, bar.advance)
            if digests[algorithm] == file["checksum"]:
                if state != "failed":
                    return file
                # The portal has read something else than was sent; only anew can it become right.
                self._portal.delete_file(file["id"]["uuid"])
        return None

    def _await_verification(self, file_id: str, checksum: str, size: int, bar: Bar) -> dict[str, Any]:
        """Wait until the portal has read and verified a file that was sent in parts."""
        verified = -1
        moved_at = time.monotonic()
        pause = FIRST_POLL_SECONDS
        while True:
            session = self._portal.get_session(file_id)
            if session is None or session["state"] == "verified":
                return check_confirmed(self._portal.get_file(file_id), checksum, size)
            if session["state"] == "failed":
                raise ClientError(
                    f"The portal has read other bytes than {checksum}, the checksum taken here. Has the file changed?"
                    " Run the same command again to send it anew."
                )
            if session["verifiedBytes"] != verified:
                verified = session["verifiedBytes"]
                moved_at = time.monotonic()
                bar.start("verifying", verified)
            elif not self._network.is_patient(moved_at):
                raise UnfinishedError("The portal has all bytes, but does not go on with verifying them.")
            self._network.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)


def check_confirmed(file: dict[str, Any], checksum: str, size: int) -> dict[str, Any]:
    """Return the file, if it is confirmed and what was sent.

    Raises ``ClientError``.
    """
    if not file["contentUploaded"] or file["checksum"] != checksum or file["filesize"] != size:
        raise ClientError(f"The portal has other content under {file['id']['site']} than was sent.")
    return file


def open_sources(paths: Sequence[Path]) -> list[Source]:
    """Return the files, each of a name of its own.

    Raises ``ClientError``.
    """
    sources: dict[str, Source] = {}
    for path in paths:
        try:
            source = open_source(path)
        except ClientError as error:
            raise ClientError(f"{path}: {error}") from error
        known = sources.setdefault(source.name, source)
        if known is not source:
            raise ClientError(f"{known.path} and {path} have one name. A submission needs names that differ.")
    return list(sources.values())
