"""Files written on this computer.

The rule this module guards: a file has its name only once all of it is on the disk, and what was there under a
name is replaced only if its owner said so.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from datameta.client.network import ClientError


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, in place of what was there."""
    _write(path, text.encode())


def save(path: Path, content: bytes, *, may_replace: bool) -> None:
    """Write a file whole or not at all.

    Raises ``ClientError`` if it can't be written, or is there and may not be replaced.
    """
    with _told(path):
        if may_replace:
            _write(path, content)
        else:
            _write_new(path, content)


def save_beside(path: Path, content: bytes, kind: str, suffix: str) -> Path:
    """Write a file beside another, as ``run7.<kind>.<suffix>`` beside ``run7.xlsx``, and return its path.

    Where that is there already, somebody may have worked in it: the new one is ``run7.<kind>-2.<suffix>``, and so on.
    """
    stem = path.stem.partition(f".{kind}")[0] or path.stem
    for number in count(1):
        beside = path.with_name(f"{stem}.{kind}{'' if number == 1 else f'-{number}'}.{suffix}")
        with _told(beside), suppress(FileExistsError):
            _write_new(beside, content)
            return beside
    raise AssertionError


def check_free(path: Path) -> None:
    """Raise ``ClientError`` if something has this name."""
    with _told(path):
        if os.path.lexists(path):
            raise FileExistsError


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power, where the system can."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    with _part_of(path, content) as part:
        part.replace(path)


def _write_new(path: Path, content: bytes) -> None:
    if os.path.lexists(path):
        raise FileExistsError
    with _part_of(path, content) as part:
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:
            # Sticks and some network folders know no links.
            if os.path.lexists(path):
                raise FileExistsError from None
            part.replace(path)


@contextmanager
def _part_of(path: Path, content: bytes) -> Iterator[Path]:
    """Write the content beside a path and sync it; when the block ends, whatever is left of it goes."""
    part = path.with_name(f".{path.name[:50]}.{uuid.uuid4()}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise ClientError(f"{path} is there already. Choose another name, or say --force to replace it.") from None
    except OSError as error:
        raise ClientError(f"{path} can't be written: {error.strerror}") from error
