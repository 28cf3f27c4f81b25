"""A backup as a folder: what is in it, how it gets its name, and how it is read again."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from datameta.storage.base import CHUNK_BYTES, object_name

FORMAT = 1
DESCRIPTION, DUMP, MANIFEST, OBJECTS = "backup.json", "database.dump", "objects.jsonl", "objects"

Watch = Callable[[str, int], AbstractContextManager[Callable[[int], Any]]]
"""Begins to show how far something has come: what, of how many bytes; gives what is called with those done since."""


class BackupError(Exception):
    """A backup cannot be made, read or restored; the message says why and what to do."""


@dataclass(frozen=True)
class Written:
    """A file of a backup, as it was written."""

    size: int
    sha256: str


@dataclass(frozen=True)
class StoredContent:
    """An object that belongs to the database."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Backup:
    """What a backup says of itself.

    ``tables`` has the number of rows by table, ``sealed`` a text that only the site's key opens.
    """

    made_at: str
    datameta: str
    schema: str
    postgresql: int
    dump: Written
    manifest: Written
    objects: int
    bytes: int
    is_copied: bool
    tables: dict[str, int]
    sealed: str
    format: int = FORMAT


@contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``folder`` if the block ends well, and else is removed.

    Raises ``BackupError`` if there is something at ``folder`` already.
    """
    folder = folder.absolute()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BackupError(f"{folder} is there already. A backup takes a folder of its own.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
        try:
            yield draft
            sync_folder(draft)
            draft.replace(folder)
        except BaseException:
            shutil.rmtree(draft)
            raise
        sync_folder(folder.parent)
    except OSError as error:
        raise BackupError(f"The backup cannot be written to {folder}: {error}.") from error


def describe_backup(folder: Path, backup: Backup) -> None:
    """Write what a backup says of itself: the last file of all."""
    with write_file(folder / DESCRIPTION) as file:
        file.write(json.dumps(asdict(backup), indent=2).encode())


def read_backup(folder: Path, watch: Watch) -> Backup:
    """Return what a backup says of itself, after its files were compared with it.

    Raises ``BackupError`` unless it is a whole backup, and undamaged.
    """
    try:
        said = json.loads((folder / DESCRIPTION).read_bytes())
        if said["format"] != FORMAT:
            raise BackupError(f"{folder} was made by another version of DataMeta, {said['datameta']}. Use that one.")
        said |= {name: Written(**said[name]) for name in ("dump", "manifest")}
        backup = Backup(**said)
        datetime.fromisoformat(backup.made_at)
    except FileNotFoundError:
        raise BackupError(f"{folder} is no backup, or one that was never finished: it has no {DESCRIPTION}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{folder / DESCRIPTION} cannot be read: {error}.") from None
    files = {DUMP: backup.dump, MANIFEST: backup.manifest}
    with watch("Checking the backup", sum(each.size for each in files.values())) as advance:
        for name, written in files.items():
            if measure(folder / name, advance) != written:
                raise BackupError(f"{folder / name} is missing or damaged: it is not what was written.")
    return backup


def read_manifest(folder: Path) -> Iterator[StoredContent]:
    """Yield the objects of a backup."""
    with (folder / MANIFEST).open("rb") as lines:
        for line in lines:
            yield StoredContent(**json.loads(line))


def find_copy(folder: Path, key: str) -> Path:
    """Return where a backup has the copy of an object."""
    name = object_name(key)
    return folder / OBJECTS / name[:2] / name


def measure(path: Path, advance: Callable[[int], Any]) -> Written | None:
    """Return size and SHA-256 of a file; None if there is none, or it can't be read."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                advance(len(chunk))
    except OSError:
        return None
    return Written(size, digest.hexdigest())


class Hashed:
    """A file that is written and hashed at the same time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest, self._size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)

    @property
    def written(self) -> Written:
        """What has been written so far."""
        return Written(self._size, self._digest.hexdigest())


@contextmanager
def write_file(path: Path) -> Iterator[Hashed]:
    """Yield a new file, which only its owner reads, and which is on the disk when the block ends."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield Hashed(file)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
