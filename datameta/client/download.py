"""All files of a submission, fetched into a folder and verified.

The rule this module guards: a file has its name only once its bytes are on the disk and are those which the
portal has; no name leads out of the folder, and nothing that was there is overwritten.
"""

import hashlib
import json
import os
import threading
import unicodedata
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from datameta.client.api import Portal
from datameta.client.network import ClientError, PassingError, RefusedError, UnfinishedError
from datameta.client.outcome import FETCHED, PRESENT, REFUSED, UNFINISHED, Outcome
from datameta.client.parts import ATTEMPTS, Pool
from datameta.client.progress import Bar, Display
from datameta.client.saving import sync_folder, write_text
from datameta.client.source import CHUNK_BYTES

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
PART = ".part"
# The site id is put before a name where names are equal; 255 bytes are what file systems take.
NAME_BYTES = 200
FORBIDDEN = '<>:"/\\|?*'


@dataclass(frozen=True)
class Entry:
    """A file of the submission, and the name it gets in the folder."""

    name: str
    file: dict[str, Any]

    @property
    def size(self) -> int:
        """How many bytes it has."""
        size: int = self.file["filesize"]
        return size


class Digests:
    """The digests of content that passes by."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self.size = 0

    def update(self, chunk: bytes) -> None:
        """Take up a chunk."""
        self._md5.update(chunk)
        self._sha256.update(chunk)
        self.size += len(chunk)

    @property
    def sha256(self) -> str:
        """The SHA-256 so far."""
        return self._sha256.hexdigest()

    def match(self, entry: Entry) -> bool:
        """Say whether this was the content of a file: announced, and as the portal has read it since."""
        expected = {entry.file["checksum"].lower(), entry.file["sha256"] or self.sha256}
        return self.size == entry.size and expected <= {self._md5.hexdigest(), self.sha256}


class Downloader:
    """One run of ``datameta download``."""

    def __init__(self, portal: Portal, display: Display, *, jobs: int) -> None:
        self._portal = portal
        self._network = portal.network
        self._display = display
        self._pool = Pool(jobs)
        self._sums: dict[str, str] = {}
        self._lock = threading.Lock()
        self._ended: SimpleQueue[Outcome | Exception] = SimpleQueue()

    def download(self, submission: str, folder: Path) -> Iterator[Outcome]:
        """Fetch the files of a submission into a folder; yield each as it ends."""
        entries = name_files(self._portal.list_submitted(submission))
        self._display.announce(len(entries), sum(entry.size for entry in entries))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            manifest = {"submission": submission, "files": [{"path": each.name, **each.file} for each in entries]}
            check_folder(folder, manifest)
            write_text(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
            with self._pool:
                for order, entry in enumerate(entries):
                    self._pool.submit(order, partial(self._download, entry, folder))
                for _ in entries:
                    ended = self._ended.get()
                    if isinstance(ended, Exception):
                        raise ended
                    yield ended
            lines = [f"{self._sums[each.name]}  {each.name}\n" for each in entries if each.name in self._sums]
            write_text(folder / SUMS, "".join(lines))
        except OSError as error:
            raise ClientError(f"{folder} can't be written: {error.strerror}") from error

    def _download(self, entry: Entry, folder: Path) -> None:
        """Fetch a file and tell how it ended."""
        bar = self._display.add(entry.name, entry.size)
        ended: Outcome | Exception
        path = folder / entry.name
        end = partial(Outcome, path, entry.name, entry.size, file=entry.file)
        try:
            ended = end(PRESENT if self._is_present(entry, path, bar) else self._fetch(entry, path, bar))
        except UnfinishedError as error:
            ended = end(UNFINISHED, error=str(error))
        except ClientError as error:
            ended = end(REFUSED, error=str(error))
        except OSError as error:
            ended = end(REFUSED, error=f"The file can't be written: {error.strerror}")
        except Exception as error:
            ended = error
        bar.finish()
        self._ended.put(ended)

    def _is_present(self, entry: Entry, path: Path, bar: Bar) -> bool:
        """Say whether the file is there and right.

        Raises ``ClientError`` if something else is there.
        """
        if not os.path.lexists(path):
            return False
        bar.start("comparing", 0)
        digests = Digests()
        if path.is_file() and path.stat().st_size == entry.size:
            self._take_up(path, digests, bar)
        if not digests.match(entry):
            raise ClientError("Something else of this name is there already. Move it away, or fetch to another folder.")
        self._note_sum(entry, digests)
        return True

    def _fetch(self, entry: Entry, path: Path, bar: Bar) -> str:
        part = path.with_name(f"{uuid.UUID(entry.file['id']['uuid'])}{PART}")
        was_begun = part.exists()
        digests = self._receive(entry, part, bar)
        if not digests.match(entry):
            part.unlink()
            # What a former run has left may have been spoilt; what comes in one go may not.
            if was_begun:
                digests = self._receive(entry, part, bar)
            if not digests.match(entry):
                part.unlink(missing_ok=True)
                raise ClientError("The bytes that came are not those which the portal has. They were thrown away.")
        part.replace(path)
        sync_folder(path.parent)
        self._note_sum(entry, digests)
        return FETCHED

    def _receive(self, entry: Entry, part: Path, bar: Bar) -> Digests:
        """Fetch what is missing of a file to its partial file, and return the digests of all of it."""
        digests = Digests()
        if part.exists():
            bar.start("comparing", 0)
            self._take_up(part, digests, bar)
        bar.start("fetching", digests.size, moves=True)
        refusals = 0
        with part.open("ab") as file:
            while digests.size < entry.size:
                before = digests.size
                try:
                    self._network.insist(partial(self._receive_some, entry, file, digests, bar))
                except RefusedError:
                    # An address that was right may have expired.
                    refusals = 1 if digests.size > before else refusals + 1
                    if refusals == ATTEMPTS:
                        raise
            file.flush()
            os.fsync(file.fileno())
        return digests

    def _receive_some(self, entry: Entry, file: Any, digests: Digests, bar: Bar) -> None:
        for chunk in self._network.get(self._portal.get_download_url(entry.file["id"]["uuid"]), start=digests.size):
            if digests.size + len(chunk) > entry.size:
                raise ClientError("More bytes came than the file has.")
            file.write(chunk)
            digests.update(chunk)
            bar.advance(len(chunk))
        if digests.size < entry.size:
            raise PassingError("the transfer ended too early")

    def _take_up(self, path: Path, digests: Digests, bar: Bar) -> None:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                self._network.check_stop()
                digests.update(chunk)
                bar.advance(len(chunk))

    def _note_sum(self, entry: Entry, digests: Digests) -> None:
        with self._lock:
            self._sums[entry.name] = digests.sha256


def name_files(files: Sequence[dict[str, Any]]) -> list[Entry]:
    """Give each file a name that is safe in any folder, and no other file's; the portal's names are only data."""
    plain = [make_name(file["name"]) for file in files]
    # Some file systems take names for equal that are not.
    lowered = [unicodedata.normalize("NFC", name).casefold() for name in plain]
    uses = Counter(lowered)
    taken = {MANIFEST.casefold(), SUMS.casefold()}
    entries = []
    for name, low, file in zip(plain, lowered, files, strict=True):
        is_shared = uses[low] > 1 or low in taken or low.endswith(PART)
        site = make_name(file["id"]["site"])
        entries.append(Entry(f"{site}_{name}" if is_shared else name, file))
    if len({entry.name.casefold() for entry in entries}) < len(entries):
        raise ClientError("The names of these files can't be told apart.")
    return entries


def make_name(name: str) -> str:
    """Return a name as a file name of any system: no folder, nothing hidden, nothing special, not too long."""
    name = "".join("_" if character in FORBIDDEN or not character.isprintable() else character for character in name)
    while len(name.encode()) > NAME_BYTES:
        # The end of a name tells what the file is.
        name = name[1:]
    name = name.rstrip(" .")
    return f"_{name.lstrip('.')}" if name.startswith(".") or not name else name


def check_folder(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise ``ClientError`` if the folder has a manifest or sums that are not of this submission."""
    there = [name for name in (MANIFEST, SUMS) if os.path.lexists(folder / name)]
    if there and not is_same_submission(folder / MANIFEST, manifest):
        raise ClientError(
            f"{folder} has a {' and a '.join(there)} already, not of this submission. Nothing was fetched or changed: "
            "choose another folder."
        )


def is_same_submission(path: Path, manifest: dict[str, Any]) -> bool:
    """Say whether the manifest at a path is of the same submission, which may have been named by its other id."""
    try:
        former = json.loads(path.read_bytes())
        # A file is in one submission only.
        ids, known = ({file["id"]["uuid"] for file in each["files"]} for each in (manifest, former))
        return former["submission"] == manifest["submission"] or bool(ids & known)
    except (OSError, ValueError, TypeError, KeyError):
        return False
