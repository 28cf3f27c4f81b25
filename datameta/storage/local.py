"""The local store: a folder, for an installation without S3.

The rule this module guards: an upload becomes content by one rename of its whole folder.

    uploads/<uuid>.<reference>/<md5>-<sha256>    what was sent last, digests taken while it was written
    files/<two digits>/<uuid>/<md5>-<sha256>     content

So the upload is gone exactly when the object is there, whatever crashes, and the digests that prove
the object to be the announced content travel in its name. A folder that is not empty cannot be
renamed over: content is never replaced. Everybody who changes an upload holds a lock on its folder.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from datameta.storage.base import (
    CHUNK_BYTES,
    ChecksumMismatchError,
    Finding,
    NoDataError,
    OpenUpload,
    PresignedRequest,
    StorageError,
    StoredObject,
    UploadGoneError,
    object_name,
)
from datameta.storage.disk import disk_errors, write_chunks

_REFERENCE = re.compile(r"[0-9a-f]{32}")
_SENT = re.compile(r"([0-9a-f]{32})-([0-9a-f]{64})")


class LocalStorage:
    """A store below one folder; clients reach it through the portal only."""

    is_direct = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads = folder / "uploads"
        self._files = folder / "files"

    @disk_errors()
    def begin_upload(self, key: str, checksum: str) -> str:
        self._make_folders()
        reference = uuid.uuid4().hex
        self._upload_folder(key, reference).mkdir(mode=0o700)
        _sync(self._uploads)
        return reference

    def presign_upload(self, key: str, upload: str, checksum: str, *, seconds: int) -> PresignedRequest:
        raise NotImplementedError("Local storage has no address of its own; ask is_direct first.")

    def write(self, key: str, upload: str, chunks: Iterable[bytes]) -> None:
        folder = self._upload_folder(key, upload)
        part = folder / f"part-{uuid.uuid4().hex}"
        with disk_errors(), _locked(folder):
            file = FileIO(part, "xb", opener=_open_private)
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        try:
            with file:
                write_chunks(chunks, file, md5, sha256)
                with disk_errors():
                    os.fsync(file.fileno())
            with disk_errors(), _locked(folder) as descriptor:
                sent = part.rename(folder / f"{md5.hexdigest()}-{sha256.hexdigest()}")
                for other in _list_sent(folder):
                    if other != sent:
                        other.unlink()
                os.fsync(descriptor)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @disk_errors()
    def complete(self, key: str, upload: str, checksum: str) -> StoredObject:
        folder, target = self._upload_folder(key, upload), self._object_folder(key)
        # Without the upload, the object itself tells whether it was completed before.
        with suppress(UploadGoneError), _locked(folder) as descriptor:
            sent = _list_sent(folder)
            if not sent:
                raise NoDataError
            # A crash in ``write`` may have left two; each of them was sent whole.
            content = next((path for path in sent if checksum in path.name.split("-")), None)
            if content is None:
                raise ChecksumMismatchError
            for path in folder.iterdir():
                if path != content:
                    path.unlink(missing_ok=True)
            os.fsync(descriptor)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                folder.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        stored = self._find_content(key)
        if stored is None or checksum not in stored[0].name.split("-"):
            raise UploadGoneError
        for parent in (target.parent, self._files):
            _sync(parent)
        return StoredObject(key, stored[1])

    @disk_errors()
    def abort(self, key: str, upload: str) -> None:
        folder = self._upload_folder(key, upload)
        with suppress(UploadGoneError), _locked(folder):
            _remove(folder)

    @disk_errors()
    def delete(self, key: str) -> None:
        _remove(self._object_folder(key))

    @disk_errors()
    def size(self, key: str) -> int | None:
        content = self._find_content(key)
        return None if content is None else content[1]

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        # The first step opens the file: an error comes at the call, and close() works before the first chunk.
        chunks = self._read(key, start, stop)
        next(chunks)
        return chunks

    def _read(self, key: str, start: int, stop: int | None) -> Iterator[bytes]:
        with disk_errors():
            content = self._find_content(key)
            if content is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
            with content[0].open("rb") as file:
                yield b""
                file.seek(start)
                while stop is None or start < stop:
                    chunk = file.read(CHUNK_BYTES if stop is None else min(CHUNK_BYTES, stop - start))
                    if not chunk:
                        return
                    start += len(chunk)
                    yield chunk

    def presign_download(self, key: str, *, disposition: str, seconds: int) -> PresignedRequest:
        raise NotImplementedError("Local storage has no address of its own; ask is_direct first.")

    def list_uploads(self) -> Iterator[OpenUpload]:
        """Yield every open upload; the time of its folder's last change stands for its start."""
        with disk_errors():
            for folder, stat in _list_folders(self._uploads):
                name, _, reference = folder.name.rpartition(".")
                if _REFERENCE.fullmatch(reference) and _is_object(name):
                    yield OpenUpload(f"files/{name}", reference, datetime.fromtimestamp(stat.st_mtime, UTC))

    def list_objects(self) -> Iterator[tuple[str, datetime]]:
        """Yield every object, with the time of its completion, and what a crash in ``delete`` left of one."""
        with disk_errors():
            for shard, _ in _list_folders(self._files):
                for folder, stat in _list_folders(shard):
                    if _is_object(folder.name):
                        yield f"files/{folder.name}", datetime.fromtimestamp(stat.st_ctime, UTC)

    def check(self) -> list[Finding]:
        findings = []
        try:
            self._make_folders()
            findings.append(Finding("folder", True, str(self._folder)))
            is_one = self._uploads.stat().st_dev == self._files.stat().st_dev
            findings.append(Finding("uploads and files on one file system", is_one))
            findings.append(Finding("free space", None, f"{shutil.disk_usage(self._folder).free / 1024**3:.1f} GiB"))
            findings.append(Finding("write, complete, read, delete", self._try_round_trip()))
        except (OSError, StorageError) as error:
            findings.append(Finding("folder", False, str(error)))
        return findings

    def _try_round_trip(self) -> bool:
        key, data = f"files/{uuid.uuid4()}", b"probe"
        checksum = hashlib.sha256(data).hexdigest()
        upload = self.begin_upload(key, checksum)
        try:
            self.write(key, upload, [data])
            self.complete(key, upload, checksum)
            return b"".join(self.read(key)) == data
        finally:
            self.abort(key, upload)
            self.delete(key)

    def _make_folders(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self._folder, self._uploads, self._files):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _upload_folder(self, key: str, upload: str) -> Path:
        if not _REFERENCE.fullmatch(upload):
            raise ValueError("An upload reference has 32 hex digits.")
        return self._uploads / f"{object_name(key)}.{upload}"

    def _object_folder(self, key: str) -> Path:
        name = object_name(key)
        return self._files / name[:2] / name

    def _find_content(self, key: str) -> tuple[Path, int] | None:
        with suppress(FileNotFoundError):
            for path in _list_sent(self._object_folder(key)):
                return path, path.stat().st_size
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold an upload's folder and yield its descriptor; raise ``UploadGoneError`` if it is not there."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise UploadGoneError from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Who held the lock before may have completed or aborted the upload.
        if not folder.exists():
            raise UploadGoneError
        yield descriptor
    finally:
        os.close(descriptor)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _is_object(name: str) -> bool:
    try:
        return object_name(f"files/{name}") == name
    except ValueError:
        return False


def _list_sent(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _SENT.fullmatch(path.name)]


def _list_folders(parent: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with suppress(FileNotFoundError), os.scandir(parent) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
