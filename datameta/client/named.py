"""The files that a sheet names, found below a folder.

The rule this module guards: a name means one file. Where there is none, or several, it is an error at the cell
that has the name.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datameta.client.findings import Finding, make_error
from datameta.client.network import ClientError
from datameta.client.source import Source, open_source

COMPRESSED = ".gz"


def find_named(cells: Sequence[Mapping[str, Any]], folder: Path) -> tuple[list[Source], list[Finding]]:
    """Return the files that cells name, in the order of the cells, and what is wrong with them.

    Each of the cells has ``name``, ``sheet``, ``field``, ``column``, ``row`` and ``cell``. Raises ``ClientError`` if
    the folder can't be read.
    """
    cells_of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for cell in cells:
        cells_of[normalise(cell["name"])].append(cell)
    wanted = {fold(name) for name in cells_of}
    found: dict[str, dict[tuple[int, int], Path]] = defaultdict(dict)
    alike: dict[str, str] = {}
    unread: list[Path] = []
    for entry in walk(folder, unread):
        name = normalise(entry.name)
        if (folded := fold(name)) not in wanted or not os.path.isfile(entry.path):
            continue
        alike.setdefault(folded, name)
        if name in cells_of:
            status = os.stat(entry.path)
            # What several links lead to is one file.
            found[name].setdefault((status.st_dev, status.st_ino), Path(entry.path))
    sources, findings = [], []
    for name, named in cells_of.items():
        paths = list(found[name].values())
        if len(paths) > 1:
            places = " and ".join(str(path) for path in paths)
            message = f"There are several files of this name: {places}. Rename or move away what is not meant."
            findings.append(make_error("file_twice", message, named, value=name))
        elif paths:
            try:
                sources.append(open_source(paths[0]))
            except ClientError as error:
                findings.append(make_error("file_unreadable", f"{paths[0]}: {error}", named, value=name))
        else:
            message = f"There is no file of this name below {folder}."
            if unread:
                message += f" {unread[0]} can't be read; it may be there."
            findings.append(make_error("file_missing", message, named, value=name, suggestion=alike.get(fold(name))))
    return sources, findings


def walk(folder: Path, unread: list[Path]) -> Iterator["os.DirEntry[str]"]:
    """Yield what is below a folder but folders and what is hidden; links are followed, each folder is read once."""
    seen = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                shown = sorted(
                    (entry for entry in entries if not entry.name.startswith(".")), key=lambda each: each.name
                )
        except OSError as error:
            if here == folder:
                raise ClientError(f"{folder} can't be read: {error.strerror}") from error
            unread.append(here)
            continue
        for entry in shown:
            # Unlike the entry's own method, this one survives a link to itself.
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                waiting.append(Path(entry.path))
            else:
                yield entry


def normalise(name: str) -> str:
    """Return the form in which names are compared: some systems write letters with accents in two characters."""
    return unicodedata.normalize("NFC", name)


def fold(name: str) -> str:
    """Return what names that are easily taken for each other have in common."""
    return name.casefold().strip().removesuffix(COMPRESSED)
