"""Content that the portal itself puts into the store, from a file: of a backup, or of another portal.

The rule this module guards: nothing is at the key before all bytes were read and found to be the right ones, and the
store takes each part by its MD5 alone.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from datameta.logic.parts import choose_part_size
from datameta.storage import Storage

CHUNK_BYTES = 1024**2

Advance = Callable[[int], Any]
"""Called with the number of bytes that have been read since the last call."""


@dataclass(frozen=True)
class LocalContent:
    """What is in a file: its size, the digests of the whole, and the MD5 of each part."""

    path: Path
    size: int
    md5: str
    sha256: str
    part_size: int
    part_md5s: tuple[str, ...]


def examine_file(path: Path, advance: Advance) -> LocalContent:
    """Read a file once.

    Raises ``OSError``.
    """
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with FileIO(path) as file:
        size = os.fstat(file.fileno()).st_size
        part_size = choose_part_size(size)
        part_md5s: list[str] = []
        total = 0
        while total < size or not part_md5s:
            part = hashlib.md5(usedforsecurity=False)
            length = 0
            for chunk in _read(file, part_size):
                for digest in (md5, sha256, part):
                    digest.update(chunk)
                length += len(chunk)
                advance(len(chunk))
            if length == 0 and part_md5s:
                # It has become shorter; whoever compares its digests will find out.
                break
            part_md5s.append(part.hexdigest())
            total += length
    return LocalContent(path, total, md5.hexdigest(), sha256.hexdigest(), part_size, tuple(part_md5s))


def put_content(storage: Storage, key: str, content: LocalContent) -> None:
    """Make what was read from a file the content at ``key``, in place of what is there, once the store has all of it.

    Raises ``ChecksumMismatchError`` if the file has changed since, ``StorageUnavailableError``, ``OSError``.
    """
    upload = storage.begin_parts(key)
    try:
        with FileIO(content.path) as file:
            for number, md5 in enumerate(content.part_md5s, 1):
                length = min(content.part_size, content.size - (number - 1) * content.part_size)
                storage.write_part(key, upload, number, _read(file, length), md5=md5, size=length)
        storage.delete(key)
        storage.complete_parts(key, upload, content.part_md5s)
    except BaseException:
        storage.abort(key, upload)
        raise


def _read(file: FileIO, length: int) -> Iterator[bytes]:
    """Yield the next ``length`` bytes, or fewer at the end."""
    while length > 0 and (chunk := file.read(min(CHUNK_BYTES, length))):
        length -= len(chunk)
        yield chunk
