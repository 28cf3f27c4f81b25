"""Sheets of the demo site, as a laboratory writes them."""

import csv
from collections.abc import Sequence
from pathlib import Path

FIELDS = ("Lab-ID", "Sampling date", "ZIPCode", "Sequencing platform", "FileR1", "FileR2")


def make_row(sample: str, files: Sequence[str] = (), **changes: str) -> dict[str, str]:
    """Return a row that is right, of a sample with one file, or with those given."""
    names = dict(zip(("FileR1", "FileR2"), files or (f"{sample}_R1.fq",), strict=False))
    row = {"Lab-ID": sample, "Sampling date": "2026-03-14", "ZIPCode": "720", "Sequencing platform": "Illumina"}
    return row | names | changes


def write_csv(path: Path, *rows: dict[str, str]) -> Path:
    """Write a sheet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    return path
