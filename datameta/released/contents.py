"""The files of a released DataMeta 1.1.1: one folder, in which each is named by UUID and MD5.

The rule this module guards: what goes into the store has the MD5 that the old portal confirmed. All else stays where it
is, and is told.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from datameta.logic.content import LocalContent, examine_file, put_content
from datameta.released.report import Report
from datameta.storage import Storage

SCHEME = "file://"


@dataclass(frozen=True)
class Content:
    """Content that is in the store now, or would be."""

    key: str
    size: int
    md5: str
    sha256: str


def copy_contents(
    rows: Iterable[Row[Any]], folder: Path, storage: Storage | None, advance: Callable[[int], Any], report: Report
) -> dict[UUID, Content]:
    """Copy the content of files to the store (None: only look at it); return what is right, by the file's UUID.

    Raises ``StorageUnavailableError``.
    """
    copied = {}
    for row in rows:
        found = _examine(row, folder, advance)
        if isinstance(found, str):
            message = f"{found}. The file is here, without its content; put it right and import again."
            report.remark(f"file {row.site_id} ({row.name})", message)
            continue
        content = Content(f"files/{row.uuid}", found.size, found.md5, found.sha256)
        if storage is not None:
            put_content(storage, content.key, found)
        copied[row.uuid] = content
    return copied


def measure_files(rows: Iterable[Row[Any]]) -> int:
    """Return how many bytes the files have, as the old portal says."""
    return sum(row.filesize or 0 for row in rows)


def _examine(row: Row[Any], folder: Path, advance: Callable[[int], Any]) -> LocalContent | str:
    """Read the content of a file; return what is wrong with it if it can't go over."""
    uri = row.storage_uri or ""
    name = uri.removeprefix(SCHEME)
    if not uri.startswith(SCHEME) or name in ("", ".", "..") or "/" in name:
        return f"its content is at {uri or 'no place'}, which is not in the folder"
    try:
        found = examine_file(folder / name, advance)
    except FileNotFoundError:
        return f"there is no {name} in the folder"
    except OSError as error:
        return f"{name} can't be read: {error.strerror}"
    if found.md5 != row.checksum.lower():
        return f"{name} is damaged: its MD5 is {found.md5}, and was {row.checksum}"
    return found
