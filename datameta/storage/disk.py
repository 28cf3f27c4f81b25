"""Writing a stream to a disk that may be full or broken.

The rule this module guards: a failing disk is the portal's trouble (``StorageUnavailableError``),
a failing sender is the sender's; an error raised by the stream itself passes through unchanged.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile

from datameta.storage.base import ChecksumMismatchError, StorageUnavailableError

logger = logging.getLogger(__name__)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an error of the disk into ``StorageUnavailableError``; a missing file stays what it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        logger.error("The disk refuses: %s", error.strerror)
        raise StorageUnavailableError(error.strerror) from error


def open_spool(folder: Path) -> FileIO:
    """Open an unbuffered file without a name, on the disk of ``folder``.

    The system's temporary folder is often kept in memory, and so no place for a large upload.
    """
    with disk_errors():
        folder.mkdir(parents=True, exist_ok=True)
        return TemporaryFile(dir=folder, buffering=0)


def write_chunks(chunks: Iterable[bytes], file: FileIO, *digests: "hashlib._Hash") -> None:
    """Write ``chunks`` to an unbuffered file, while another thread feeds them to every digest."""

    def feed(chunk: bytes) -> None:
        for digest in digests:
            digest.update(chunk)

    with ThreadPoolExecutor(1) as helper:
        fed = helper.submit(feed, b"")
        for chunk in chunks:
            # Never more than one chunk behind, so that the memory stays what it is.
            fed.result()
            fed = helper.submit(feed, chunk)
            rest = memoryview(chunk)
            while rest:
                with disk_errors():
                    rest = rest[file.write(rest) :]


def write_announced(chunks: Iterable[bytes], file: FileIO, *, md5: str, size: int) -> None:
    """Write ``chunks`` to an unbuffered file; raise ``ChecksumMismatchError`` unless they are what was announced."""
    digest = hashlib.md5(usedforsecurity=False)
    write_chunks(_limit_bytes(chunks, size), file, digest)
    if (digest.hexdigest(), file.tell()) != (md5, size):
        raise ChecksumMismatchError


def _limit_bytes(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        size -= len(chunk)
        if size < 0:
            raise ChecksumMismatchError
        yield chunk
