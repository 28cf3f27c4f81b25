"""The local store: a folder, for an installation without S3.

The rule this module guards: an upload becomes content by one rename of its whole folder.

    uploads/<uuid>.<reference>/<md5>-<sha256>          what was sent last, digests taken while it was written
    uploads/<uuid>.parts-<reference>/<number>.<md5>    the parts that have arrived
    files/<two digits>/<uuid>/                         content: the one file, or the parts in order
    site-id                                            whose the store is

So the upload is gone exactly when the object is there, whatever crashes, and the digests that prove
the object to be the announced content travel in its names. A folder that is not empty cannot be
renamed over: content is never replaced. Everybody who changes an upload holds a lock on its folder.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from datameta.storage.base import (
    CHUNK_BYTES,
    MARK_BYTES,
    ChecksumMismatchError,
    Finding,
    NoDataError,
    OpenUpload,
    Part,
    PresignedRequest,
    StorageError,
    StorageUnavailableError,
    StoredEntry,
    StoredObject,
    UploadGoneError,
    check_part,
    check_parts,
    object_name,
)
from datameta.storage.disk import disk_errors, write_announced, write_chunks

_REFERENCE = re.compile(r"[0-9a-f]{32}")
_PARTS_REFERENCE = re.compile(r"parts-[0-9a-f]{32}")
_REFERENCES = re.compile(r"(parts-)?[0-9a-f]{32}")
_SENT = re.compile(r"[0-9a-f]{32}-[0-9a-f]{64}")
_PART = re.compile(r"[0-9]{5}\.[0-9a-f]{32}")
_CONTENT = re.compile(f"{_SENT.pattern}|{_PART.pattern}")


class LocalStorage:
    """A store below one folder; clients reach it through the portal only."""

    is_direct = False
    proves_md5 = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads = folder / "uploads"
        self._files = folder / "files"
        self._mark = folder / "site-id"

    def begin_upload(self, key: str, checksum: str) -> str:
        return self._begin(key, uuid.uuid4().hex)

    def begin_parts(self, key: str) -> str:
        return self._begin(key, f"parts-{uuid.uuid4().hex}")

    @disk_errors()
    def _begin(self, key: str, reference: str) -> str:
        self._make_folders()
        self._upload_folder(key, reference, _REFERENCES).mkdir(mode=0o700)
        _sync(self._uploads)
        return reference

    def presign_upload(
        self, key: str, upload: str, checksum: str, *, seconds: int, size: int | None = None
    ) -> PresignedRequest:
        raise NotImplementedError("Local storage has no address of its own; ask is_direct first.")

    def presign_part(
        self, key: str, upload: str, number: int, *, md5: str, size: int, seconds: int
    ) -> PresignedRequest:
        raise NotImplementedError("Local storage has no address of its own; ask is_direct first.")

    def write(self, key: str, upload: str, chunks: Iterable[bytes]) -> None:
        def fill(file: FileIO) -> str:
            md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
            write_chunks(chunks, file, md5, sha256)
            return f"{md5.hexdigest()}-{sha256.hexdigest()}"

        _receive(self._upload_folder(key, upload, _REFERENCE), fill, _SENT)

    def write_part(self, key: str, upload: str, number: int, chunks: Iterable[bytes], *, md5: str, size: int) -> None:
        name = _part_name(number, md5)

        def fill(file: FileIO) -> str:
            write_announced(chunks, file, md5=md5, size=size)
            return name

        former = re.compile(rf"{number:05d}\.[0-9a-f]{{32}}")
        _receive(self._upload_folder(key, upload, _PARTS_REFERENCE), fill, former)

    def list_parts(self, key: str, upload: str, *, after: int = 0) -> Iterator[Part]:
        folder = self._upload_folder(key, upload, _PARTS_REFERENCE)
        parts = {}
        with disk_errors(), _locked(folder):
            # A crash in ``write_part`` may have left two with one number; the younger one is what was sent last.
            stats = [(name, (folder / name).stat()) for name in _list_names(folder, _PART)]
            for name, stat in sorted(stats, key=lambda each: each[1].st_mtime_ns):
                number, md5 = name.split(".")
                parts[int(number)] = Part(int(number), stat.st_size, md5)
        yield from (parts[number] for number in sorted(parts) if number > after)

    @disk_errors()
    def complete(self, key: str, upload: str, checksum: str) -> StoredObject:
        folder = self._upload_folder(key, upload, _REFERENCE)
        # Without the upload, the object itself tells whether it was completed before.
        with suppress(UploadGoneError), _locked(folder) as descriptor:
            sent = _list_names(folder, _SENT)
            if not sent:
                raise NoDataError
            # A crash in ``write`` may have left two; each of them was sent whole.
            content = next((name for name in sent if checksum in name.split("-")), None)
            if content is None:
                raise ChecksumMismatchError
            self._publish(key, folder, descriptor, {content})
        names = self._list_content(key)
        digests = "".join(names).split("-")
        if checksum not in digests:
            raise UploadGoneError
        return StoredObject(key, self._settle(key, names), *digests)

    @disk_errors()
    def complete_parts(self, key: str, upload: str, md5s: Sequence[str]) -> StoredObject:
        folder = self._upload_folder(key, upload, _PARTS_REFERENCE)
        check_parts(md5s)
        announced = [_part_name(number, md5) for number, md5 in enumerate(md5s, 1)]
        with suppress(UploadGoneError), _locked(folder) as descriptor:
            arrived = set(_list_names(folder, _PART))
            if not arrived:
                raise NoDataError
            if not arrived.issuperset(announced):
                raise ChecksumMismatchError
            self._publish(key, folder, descriptor, set(announced))
        if self._list_content(key) != announced:
            raise UploadGoneError
        return StoredObject(key, self._settle(key, announced), md5s[0] if len(md5s) == 1 else None)

    def _publish(self, key: str, folder: Path, descriptor: int, names: set[str]) -> None:
        """Make these files of a locked upload the content, and the upload gone; content that is there stays."""
        for name in os.listdir(folder):
            if name not in names:
                (folder / name).unlink(missing_ok=True)
        os.fsync(descriptor)
        target = self._object_folder(key)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise

    def _settle(self, key: str, names: Sequence[str]) -> int:
        """See to it that published content outlives a loss of power, and return its size."""
        self._sync_parents(key)
        try:
            return self._measure(key, names)
        except FileNotFoundError:
            # It was deleted at once, and may well have been.
            raise UploadGoneError from None

    def _sync_parents(self, key: str) -> None:
        for folder in (self._object_folder(key).parent, self._files):
            _sync(folder)

    @disk_errors()
    def abort(self, key: str, upload: str) -> None:
        folder = self._upload_folder(key, upload, _REFERENCES)
        with suppress(UploadGoneError), _locked(folder):
            _remove(folder)

    @disk_errors()
    def delete(self, key: str) -> None:
        _remove(self._object_folder(key))

    @disk_errors()
    def size(self, key: str) -> int | None:
        # Whoever deletes it meanwhile is right.
        with suppress(FileNotFoundError):
            names = self._list_content(key)
            return self._measure(key, names) if names else None
        return None

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        # The first step opens the file: an error comes at the call, and close() works before the first chunk.
        chunks = self._read(key, start, stop)
        next(chunks)
        return chunks

    def _read(self, key: str, start: int, stop: int | None) -> Iterator[bytes]:
        with disk_errors():
            (path, first, last), *rest = self._find_ranges(key, start, stop)
            with open(path, "rb") as file:
                yield b""
                yield from _read_range(file, first, last)
            try:
                for path, first, last in rest:
                    with open(path, "rb") as file:
                        yield from _read_range(file, first, last)
            except FileNotFoundError as error:
                raise StorageUnavailableError("The content was deleted while it was read.") from error

    def _find_ranges(self, key: str, start: int, stop: int | None) -> list[tuple[str, int, int]]:
        """Return the files in which a range of the content lies, with the range in each; at least one."""
        folder, names = self._object_folder(key), self._list_content(key)
        if not names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        ranges, end = [], 0
        # Ten thousand parts are looked at for each range, where a Path each would cost more than the bytes.
        for path in (f"{folder}/{name}" for name in names):
            if stop is not None and stop <= end:
                break
            offset, end = end, end + os.stat(path).st_size
            if start < end:
                ranges.append((path, max(0, start - offset), (end if stop is None else min(end, stop)) - offset))
        return ranges or [(f"{folder}/{names[0]}", 0, 0)]

    def presign_download(self, key: str, *, disposition: str, seconds: int) -> PresignedRequest:
        raise NotImplementedError("Local storage has no address of its own; ask is_direct first.")

    def list_uploads(self) -> Iterator[OpenUpload]:
        """Yield every open upload; the time of its folder's last change stands for its start."""
        with disk_errors():
            for folder, stat in _list_folders(self._uploads):
                name, _, reference = folder.name.rpartition(".")
                if _REFERENCES.fullmatch(reference) and _is_object(name):
                    yield OpenUpload(f"files/{name}", reference, datetime.fromtimestamp(stat.st_mtime, UTC))

    def list_objects(self) -> Iterator[StoredEntry]:
        """Yield every object, with the time of its completion, and what a crash in ``delete`` left of one."""
        with disk_errors():
            for shard, _ in _list_folders(self._files):
                for folder, stat in _list_folders(shard):
                    if _is_object(folder.name):
                        key = f"files/{folder.name}"
                        changed_at = datetime.fromtimestamp(stat.st_ctime, UTC)
                        yield StoredEntry(key, self.size(key) or 0, changed_at)

    @disk_errors()
    def read_mark(self) -> str | None:
        with suppress(FileNotFoundError):
            return self._mark.read_text("ascii", "replace")[:MARK_BYTES]
        return None

    @disk_errors()
    def write_mark(self, mark: str) -> None:
        self._make_folders()
        draft = self._folder / f"site-id-{uuid.uuid4().hex}"
        with FileIO(draft, "xb", opener=_open_private) as file:
            file.write(mark.encode())
            os.fsync(file.fileno())
        draft.replace(self._mark)
        _sync(self._folder)

    def check(self) -> list[Finding]:
        return list(self._probe())

    def _probe(self) -> Iterator[Finding]:
        try:
            self._make_folders()
            yield Finding("folder", True, str(self._folder))
            is_one = self._uploads.stat().st_dev == self._files.stat().st_dev
            yield Finding("uploads and files on one file system", is_one)
            yield Finding("free space", None, f"{shutil.disk_usage(self._folder).free / 1024**3:.1f} GiB")
            yield from self._probe_content(f"files/{uuid.uuid4()}")
        except (OSError, StorageError) as error:
            yield Finding("the check ran to its end", False, str(error) or type(error).__name__)

    def _probe_content(self, key: str) -> Iterator[Finding]:
        parts = [b"a probe ", b"of two parts"]
        md5s = [hashlib.md5(part, usedforsecurity=False).hexdigest() for part in parts]
        session, single = self.begin_parts(key), self.begin_upload(key, md5s[0])
        try:
            for number, (part, md5) in enumerate(zip(parts, md5s, strict=True), 1):
                self.write_part(key, session, number, [part], md5=md5, size=len(part))
            self.complete_parts(key, session, md5s)
            is_same = b"".join(self.read(key)) == b"".join(parts)
            yield Finding("parts are written, synced and put together", is_same)
            self.write(key, single, parts[:1])
            with suppress(UploadGoneError):
                self.complete(key, single, md5s[0])
            yield Finding("content is never replaced", b"".join(self.read(key)) == b"".join(parts))
            self.delete(key)
            self.complete(key, single, md5s[0])
            yield Finding("a file in one piece is completed and read", b"".join(self.read(key)) == parts[0])
        finally:
            for upload in (single, session):
                self.abort(key, upload)
            self.delete(key)
        yield Finding("content is deleted", self.size(key) is None)

    def _make_folders(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self._folder, self._uploads, self._files):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _upload_folder(self, key: str, upload: str, shape: re.Pattern[str]) -> Path:
        name = object_name(key)
        if not shape.fullmatch(upload):
            raise ValueError("An upload reference has 32 hex digits, after parts- where it takes parts.")
        return self._uploads / f"{name}.{upload}"

    def _object_folder(self, key: str) -> Path:
        name = object_name(key)
        return self._files / name[:2] / name

    def _list_content(self, key: str) -> list[str]:
        """Return the names of an object's files, in order; none if there is no object."""
        with suppress(FileNotFoundError):
            return _list_names(self._object_folder(key), _CONTENT)
        return []

    def _measure(self, key: str, names: Iterable[str]) -> int:
        folder = self._object_folder(key)
        return sum(os.stat(f"{folder}/{name}").st_size for name in names)


def _receive(folder: Path, fill: Callable[[FileIO], str], former: re.Pattern[str]) -> None:
    """Let ``fill`` write a file and name it; put it into an upload, in place of what has a ``former`` name."""
    part = folder / f"part-{uuid.uuid4().hex}"
    with disk_errors(), _locked(folder):
        file = FileIO(part, "xb", opener=_open_private)
    try:
        with file:
            name = fill(file)
            with disk_errors():
                os.fsync(file.fileno())
        with disk_errors(), _locked(folder) as descriptor:
            try:
                part.rename(folder / name)
            except FileNotFoundError:
                # It was completed while the bytes came in, and could not be published.
                raise UploadGoneError from None
            for other in _list_names(folder, former):
                if other != name:
                    (folder / other).unlink()
            os.fsync(descriptor)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


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


def _part_name(number: int, md5: str) -> str:
    check_part(number, md5)
    return f"{number:05d}.{md5}"


def _read_range(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    file.seek(start)
    while start < stop and (chunk := file.read(min(CHUNK_BYTES, stop - start))):
        start += len(chunk)
        yield chunk


def _list_names(folder: Path, shape: re.Pattern[str]) -> list[str]:
    return sorted(name for name in os.listdir(folder) if shape.fullmatch(name))


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
