"""Sample sheets: checked, staged, given back with what is wrong, and the template.

Beside the check of the small sheet stands openpyxl reading the same file, which is how such a portal would be
built without a child process or checks.
"""

import io
import os
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openpyxl

from tests.bench.portal import API, Client, Portal, make_fields, running_portal
from tests.bench.report import Figure, measure_seconds, median_seconds

SMALL, LARGE = (10_000, 20), (100_000, 60)
MIB = 1 << 20
GIB = 1024.0
POLL_SECONDS = 0.05


def measure() -> Iterator[Figure]:
    """Measure all that is done with sheets of 10,000 rows, and the check of one of 100,000."""
    with running_portal(DATAMETA_SHEET_MAX_BYTES=str(1 << 30)) as portal, TemporaryDirectory() as folder:
        lab, admin = portal.lab(), portal.admin()
        for definition in make_fields(LARGE[1]):
            admin.call("POST", "/metadata", definition)
        yield from _measure_small(lab, Path(folder))
        yield from _measure_large(portal, lab, Path(folder))


def _measure_small(lab: Client, folder: Path) -> Iterator[Figure]:
    rows, columns = SMALL
    path = write_sheet(folder / "small.xlsx", rows, columns, bad=0)
    shape = f"{rows:,} × {columns}"
    bare = median_seconds(lambda: _read_alone(path))
    checked = median_seconds(lambda: _send(lab, "check", path))
    yield Figure(f"check of {shape}, beside openpyxl reading it", checked, "s", below=3, bare=bare)
    marred = write_sheet(folder / "marred.xlsx", rows, columns, bad=5_000)
    yield Figure(f"workbook of {shape} with 5,000 bad cells given back", _time(lab, "annotate", marred), "s", below=10)
    yield Figure("template", median_seconds(lambda: lab.send("GET", f"{API}/sheets/template")), "s", below=10)
    staged = measure_seconds(lambda: _send(lab, "stage", path))
    yield Figure(f"staging of {shape}, with the check", staged, "s")
    yield Figure(f"staging of {rows:,} rows alone", max(0.0, staged - checked), "s", below=2)
    yield Figure(f"staging of {shape} again", _time(lab, "stage", path), "s")


def _measure_large(portal: Portal, lab: Client, folder: Path) -> Iterator[Figure]:
    rows, columns = LARGE
    path = write_sheet(folder / "large.xlsx", rows, columns, bad=0)
    shape = f"{rows:,} × {columns}"
    before = _resident(portal.worker)
    with watch_memory(portal.worker) as peaks:
        seconds = measure_seconds(lambda: _send(lab, "check", path))
    yield Figure(f"check of {shape}", seconds, "s", below=60)
    yield Figure(f"memory of the child, {shape}", peaks["child"] / MIB, "MiB", below=GIB)
    yield Figure(f"growth of the worker's memory, {shape}", (peaks["worker"] - before) / MIB, "MiB", below=64)


def write_sheet(path: Path, rows: int, columns: int, *, bad: int) -> Path:
    """Write an xlsx file as the first fields of the benchmark want it; in so many rows the ZIP code is wrong."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Samples")
    names = [definition["name"] for definition in make_fields(columns)]
    sheet.append(names)
    marred = set(random.Random(1).sample(range(rows), bad))
    for row in range(rows):
        zip_code = "72" if row in marred else "720"
        cells: list[Any] = [f"S{row}", "2026-03-14", zip_code, "Illumina", f"S{row}_R1.fastq.gz"]
        cells += [row * place if place % 3 == 0 else f"Value {place} of {row}" for place in range(5, columns)]
        sheet.append(cells)
    book.save(path)
    return path


class watch_memory:  # noqa: N801 - read as a statement
    """Note the largest resident memory of a worker and of its children meanwhile, in bytes."""

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peaks = {"worker": 0, "child": 0}

    def __enter__(self) -> dict[str, int]:
        self._thread.start()
        return self.peaks

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(POLL_SECONDS):
            self.peaks["worker"] = max(self.peaks["worker"], _resident(self._worker))
            for child in _children(self._worker):
                self.peaks["child"] = max(self.peaks["child"], _resident(child))


def _children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def _resident(process: int) -> int:
    """Return the resident memory of a process in bytes; 0 if it has ended."""
    try:
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


def _send(lab: Client, operation: str, path: Path) -> bytes:
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(os.path.getsize(path))}
    with path.open("rb") as file:
        return lab.send("POST", f"{API}/sheets/{operation}?filename={path.name}", file, headers)


def _time(lab: Client, operation: str, path: Path) -> float:
    return median_seconds(lambda: _send(lab, operation, path))


def _read_alone(path: Path) -> None:
    book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()), read_only=True)
    for _ in book.worksheets[0].iter_rows(values_only=True):
        pass
