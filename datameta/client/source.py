"""A file on this computer.

The rule this module guards: all bytes are read from one state of the file; one that changes is refused.
"""

import hashlib
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datameta.client.network import ClientError

CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Source:
    """A file as it was found."""

    path: Path
    size: int
    changed_at: int

    @property
    def name(self) -> str:
        """The name that the portal is told; some systems write letters with accents in two characters."""
        return unicodedata.normalize("NFC", self.path.name)

    def check_name(self) -> None:
        """Raise ``ClientError`` if the portal can't be told the name."""
        try:
            self.name.encode()
        except UnicodeEncodeError:
            raise ClientError("The name of this file is not UTF-8. Rename the file, then upload it.") from None

    def check_unchanged(self) -> None:
        """Raise ``ClientError`` if the file is not what it was."""
        if open_source(self.path) != self:
            raise ClientError("The file changes while it is sent. Upload it again once it is complete.")

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` until before ``stop``, all of them.

        Raises ``ClientError`` if the file changed meanwhile.
        """
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            while start < stop:
                chunk = file.read(min(CHUNK_BYTES, stop - start))
                if not chunk:
                    break
                start += len(chunk)
                yield chunk
        self.check_unchanged()

    def hash(self, algorithm: str, start: int, stop: int, advance: Callable[[int], None] = lambda size: None) -> str:
        """Return the digest of these bytes; ``advance`` is told how many were read."""
        digest = hashlib.new(algorithm, usedforsecurity=False)
        for chunk in self.read(start, stop):
            digest.update(chunk)
            advance(len(chunk))
        return digest.hexdigest()


def open_source(path: Path) -> Source:
    """Return the file at a path.

    Raises ``ClientError`` for what can't be read, or is no regular file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ClientError(f"The file can't be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ClientError("This is no regular file.")
    return Source(path, found.st_size, found.st_mtime_ns)
