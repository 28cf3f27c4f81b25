# ruff: noqa: E501
"""5,000 generated sheets: what is written is read, what was read is written and read again, unchanged or refused."""

import io
import os
import random
import shutil
import string
import subprocess
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias
from xml.sax.saxutils import escape

import openpyxl
import pytest

from datameta.sheets.cells import UNSEEN
from datameta.sheets.process import run_child
from datameta.sheets.reader import open_workbook
from datameta.sheets.values import Value, to_letters
from tests.sheets.files import Xlsx, cell, ods, ods_cell, ods_row, ods_table, row, text, to_serial, write_csv

Grid: TypeAlias = list[list[Any]]
"""Rows of texts, dates and times, or of nothing; None at the end of a row as well as its end."""

COUNT = int(os.environ.get("DATAMETA_SHEETS", 5000))
BATCHES = 20
WORDS = [
    "007",
    "NA",
    "null",
    "None",
    "nan",
    "1e5",
    "1E-5",
    "1.0",
    "-0",
    "TRUE",
    "SEPT2",
    "MARCH1",
    "2-Sep",
    "1/2",
    "=1+1",
    "+1",
    "-1",
    "@x",
    "'=1",
    "#N/A",
    "12345678901234567890",
    "日本",
    "🧬",
    "é",
    "ß",
    "a,b",
    "a;b",
    "a|b",
    '"q"',
    'a"b',
    '5"',
    "<b>",
    "&amp;",
    "_x_",
    "x_x",
    "1,5",
    "1.234,5",
    "2024-01-31",
    "13:45",
    "\\n",
    "%s",
]
ALPHABETS = (
    string.ascii_letters,
    string.digits,
    string.punctuation,
    " \t\n",
    "äöüßéñ日本語🧬👩‍🔬\u00a0\u3000",
    "\0\x07\u202e\u200b\ufeff",
)


def make_text(random_: random.Random) -> str:
    """Return a text that some program somewhere would change."""
    kind = random_.randrange(10)
    if kind < 5:
        return random_.choice(WORDS)
    if kind < 7:
        return f"S{random_.randrange(10**6)}"
    if kind < 8:
        return f"{random_.choice((' ', '', '  '))}{random_.choice(WORDS)}{random_.choice((' ', '', chr(9)))}"
    alphabets = ALPHABETS if random_.random() < 0.1 else ALPHABETS[:-1]
    return "".join(random_.choice(random_.choice(alphabets)) for _ in range(random_.randrange(1, 30)))


def make_value(random_: random.Random, is_typed: bool) -> Any:
    """Return text, mostly; typed ones only where the format has types."""
    kind = random_.randrange(12 if is_typed else 7)
    if kind < 6:
        return make_text(random_)
    if kind == 6:
        return None
    if kind == 7:
        return random_.randrange(-(10**14), 10 ** random_.randrange(1, 15))
    if kind == 8:
        return random_.randrange(-(10**9), 10**9) / 10 ** random_.randrange(1, 9)
    if kind == 9:
        return date(1901, 1, 1) + timedelta(days=random_.randrange(70_000))
    if kind == 10:
        return datetime(1950, 1, 1) + timedelta(seconds=random_.randrange(4 * 10**9))
    return random_.choice((True, False, time(random_.randrange(24), random_.randrange(60), random_.randrange(60))))


def make_grid(random_: random.Random, is_typed: bool) -> Grid:
    """Return a header and some rows."""
    width = random_.randrange(2, 7)
    header = [f"field {column}" for column in range(width)]
    return [header, *([make_value(random_, is_typed) for _ in range(width)] for _ in range(random_.randrange(1, 8)))]


def show(value: Any) -> Any:
    """Return what a person sees of a value; of texts that nobody sees whole, None."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        text_ = f"{Decimal(repr(value)):f}"
        return text_.rstrip("0").rstrip(".") if "." in text_ else text_
    if isinstance(value, int):
        return str(value)
    return value or None


def write_plain(grid: Grid, random_: random.Random) -> bytes:
    """Write csv in any dialect."""
    delimiter = random_.choice(",;\t|")
    line_end = random_.choice(("\n", "\r\n", "\r"))
    texts = [[show(value) or "" for value in values] for values in grid]
    is_quoted = random_.random() < 0.3
    has_line_ends = any("\n" in value or "\r" in value for values in texts for value in values)
    written = write_csv(
        texts, delimiter, line_end, quoting=1 if is_quoted or (has_line_ends and line_end == "\r") else 0
    )
    if not is_quoted:
        written = f"sep={delimiter}{line_end}{written}"
    return written.encode(random_.choice(("utf-8", "utf-8-sig", "utf-16")))


def write_openpyxl(grid: Grid, random_: random.Random) -> bytes:
    """Write xlsx as openpyxl does it."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for number, values in enumerate(grid, 1):
        for column, value in enumerate(values, 1):
            if isinstance(value, str):
                value = openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub("", value)
            written = sheet.cell(number, column)
            written.value = value
            if isinstance(value, str) and value:
                written.data_type = "s"
            elif isinstance(value, datetime):
                written.number_format = "yyyy-mm-dd hh:mm:ss"
            elif isinstance(value, time):
                written.number_format = "hh:mm:ss"
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def write_xlsx(grid: Grid, random_: random.Random) -> bytes:
    """Write xlsx by hand: shared or inline, with formats."""
    formats = ["yyyy-mm-dd", "d.m.yyyy hh:mm:ss", "[$-409]h:mm:ss AM/PM", "0", "0.0#########"]
    strings: dict[str, int] = {}
    rows = []
    for number, values in enumerate(grid, 1):
        cells = []
        for column, value in enumerate(values):
            address = f"{to_letters(column)}{number}"
            if isinstance(value, str):
                value = value.replace("\0", "_x0000_").replace("\x07", "_x0007_")
                if random_.random() < 0.5:
                    cells.append(text(address, value))
                else:
                    cells.append(cell(address, str(strings.setdefault(value, len(strings))), "s"))
            elif isinstance(value, bool):
                cells.append(cell(address, str(int(value)), "b"))
            elif isinstance(value, datetime):
                cells.append(cell(address, repr(to_serial(value)), style=2))
            elif isinstance(value, date):
                cells.append(cell(address, str(int(to_serial(value))), style=1))
            elif isinstance(value, time):
                cells.append(cell(address, repr(to_serial(value)), style=3))
            elif value is not None:
                cells.append(
                    cell(address, repr(value), style=random_.choice((0, 4) if isinstance(value, int) else (0,)))
                )
        rows.append(row(number, *cells))
    shared = [f'<t xml:space="preserve">{escape(value)}</t>' for value in strings]
    return Xlsx("".join(rows), formats=formats, strings=shared).build()


def write_ods(grid: Grid, random_: random.Random) -> bytes:
    """Write ods, in a country that writes numbers and dates in its own way."""
    is_german = random_.random() < 0.5

    def write(value: Any) -> str:
        if value is None or value == "":
            return ods_cell()
        if isinstance(value, str):
            value = UNSEEN.sub("\u200b", value)
            lines = escape(value).replace("\t", "<text:tab/>").replace(" ", "<text:s/>").split("\n")
            return ods_cell("".join(f"<text:p>{line}</text:p>" for line in lines), "string")
        shown = show(value)
        if isinstance(value, bool):
            return ods_cell(ods_shown("WAHR"), "boolean", boolean_value=str(value).lower())
        if isinstance(value, int | float):
            if is_german:
                whole, _, part = f"{abs(Decimal(repr(value))):,f}".partition(".")
                part = part.rstrip("0")
                shown = ("-" if value < 0 else "") + whole.replace(",", ".") + ("," + part if part else "")
            return ods_cell(ods_shown(shown), "float", value=repr(value))
        if isinstance(value, datetime):
            form = "%d.%m.%Y %H:%M:%S" if is_german else "%m/%d/%Y %I:%M:%S %p"
            return ods_cell(ods_shown(value.strftime(form)), "date", date_value=value.isoformat())
        if isinstance(value, date):
            form = "%d.%m.%Y" if is_german else "%m/%d/%Y"
            return ods_cell(ods_shown(value.strftime(form)), "date", date_value=value.isoformat())
        return ods_cell(ods_shown(value.isoformat()), "time", time_value=value.strftime("PT%HH%MM%SS"))

    return ods(ods_table("".join(ods_row(*map(write, values)) for values in grid)))


def ods_shown(shown: str) -> str:
    return f"<text:p>{shown}</text:p>"


def read_grid(content: bytes) -> Grid:
    """Return all rows, also those in which there is nothing."""
    grid: Grid = []
    for number, values in open_workbook(io.BytesIO(content)).tables[0].iterate_rows():
        grid.extend([] for _ in range(number - 1 - len(grid)))
        grid.append(list(values))
    return grid


WRITERS: dict[str, tuple[Callable[[Grid, random.Random], bytes], bool, float]] = {
    "csv": (write_plain, False, 0.4),
    "openpyxl": (write_openpyxl, True, 0.1),
    "xlsx": (write_xlsx, True, 0.25),
    "ods": (write_ods, True, 0.25),
}


def get(grid: Sequence[Sequence[Any]], number: int, column: int) -> Any:
    """Return what is in a cell, None beyond the end."""
    return grid[number][column] if number < len(grid) and column < len(grid[number]) else None


def compare(grid: Grid, told: Grid, seen: dict[str, int]) -> Grid:
    """Check that each value was read as it was written, or refused with a reason; return those that were read."""
    result: Grid = []
    for number, values in enumerate(grid):
        result.append([])
        for column, value in enumerate(values):
            got = get(told, number, column)
            expected = show(value)
            if isinstance(value, str) and got.__class__.__name__ == "Fault":
                assert UNSEEN.search(expected) or "_x" in expected, (expected, got)
                seen["refused"] += 1
                got = None
            else:
                assert (got, type(got)) == (expected, type(expected)), (number, column, value)
                seen["read"] += got is not None
            result[-1].append(got)
        assert len(get_row(told, number)) <= len(values)
    assert len(told) <= len(grid)
    return result


def get_row(grid: Grid, number: int) -> list[Value]:
    return grid[number] if number < len(grid) else []


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("name", WRITERS)
def test_nothing_changes_in_silence(name: str, batch: int) -> None:
    write, is_typed, share = WRITERS[name]
    seen = {"read": 0, "refused": 0}
    for number in range(int(COUNT * share / BATCHES)):
        random_ = random.Random(f"{name} {batch} {number}")
        grid = make_grid(random_, is_typed)
        if name == "openpyxl":
            # It refuses to write these itself.
            grid = [
                [openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.sub("", v) if isinstance(v, str) else v for v in values]
                for values in grid
            ]
        once = compare(grid, read_grid(write(grid, random_)), seen)
        assert compare(once, read_grid(write(once, random_)), seen) == once
    assert seen["read"] > 10 * seen["refused"]


def test_the_process_reads_the_same() -> None:
    for number in range(5):
        for name, (write, is_typed, _) in WRITERS.items():
            random_ = random.Random(f"{name} process {number}")
            content = write(
                [
                    [UNSEEN.sub("", value) if isinstance(value, str) else value for value in values]
                    for values in make_grid(random_, is_typed)
                ],
                random_,
            )
            rows = [
                item["row"] for item in run_child({"do": "read", "filename": ""}, io.BytesIO(content)) if "row" in item
            ]
            assert rows == [number for number, _ in open_workbook(io.BytesIO(content)).tables[0].iterate_rows()]


@pytest.fixture(scope="module")
def soffice() -> str:
    """LibreOffice; where nothing may be left out, its absence is a failure."""
    program = shutil.which("soffice")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("LibreOffice is not installed.")
    assert program is not None
    return program


SHOWN = [
    ("007", None), (7, "000"), (7, "00000"), ("NA", None), ("null", None), ("1e5", None), ("SEPT2", None), ("TRUE", None), (True, None), (False, None),
    (12, None), (7.4, None), (-3, None), (0, None), (123456789012, None), (1e-7, None), (0.1 + 0.2, None), (7.4, "0"), (7.4, "0.00"), (1234567.5, "#,##0.00"),
    (0.12, "0%"), (0.125, "0.0%"), (0.125, "0%"), (-5, "0.00;(0.00)"), (5, '0.0" mg"'), (100000, "0.00E+00"), (123456, "0.00E+00"),
    (date(2024, 1, 31), "yyyy-mm-dd"), (date(2024, 1, 31), "dd.mm.yyyy"), (date(2024, 1, 31), "d mmmm yyyy"), (date(2024, 9, 2), "d-mmm"), (date(2024, 9, 2), "mmm-yy"),
    (date(1925, 1, 31), "yyyy-mm-dd"), (datetime(2024, 1, 31, 13, 45, 7), "yyyy-mm-dd hh:mm:ss"), (datetime(2024, 1, 31, 13, 45, 7), "yyyy-mm-dd"), (datetime(2024, 1, 31, 13, 45), "d/m/yyyy h:mm AM/PM"),
    (time(13, 45), "hh:mm"), (time(13, 45, 7), "hh:mm"), (timedelta(hours=30), "[h]:mm:ss"), ("#N/A", None), (" outer ", None), ("a  b", None), ("two\nlines", None), ("a\tb", None), ("日本 🧬", None), ("<&>", None), ("x" * 9000, None),
]  # fmt: skip


def test_libreoffice_writes_what_we_read(soffice: str, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Samples"
    for number, (value, code) in enumerate(SHOWN, 1):
        sheet.cell(number, 1, number)
        written = sheet.cell(number, 2)
        written.value = value
        if code is not None:
            written.number_format = code
    sheet["D2"] = "merged"
    sheet.merge_cells("D2:D4")
    sheet.row_dimensions[3].hidden = True
    sheet.column_dimensions["E"].hidden = True
    sheet["E5"] = "in a hidden column"
    other = book.create_sheet("Deep")
    other.sheet_state = "hidden"
    other["C3"] = "x"
    source = tmp_path / "sheet.xlsx"
    book.save(source)
    first = describe(source)
    assert len(first["Samples"][1]) > 80
    for extension in ("ods", "xlsx"):
        target = tmp_path / extension
        profile = f"-env:UserInstallation=file://{tmp_path}/profile"
        command = [soffice, "--headless", profile, "--convert-to", extension, "--outdir", str(target), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        assert describe(target / f"sheet.{extension}") == first


def describe(path: Path) -> dict[str, Any]:
    """Return all that is read of a file; of faults their kind, and what is shown."""
    with path.open("rb") as file:
        tables = open_workbook(file, path.name).tables
        told = {}
        for table in tables:
            cells = {
                f"{to_letters(column)}{number}": (value.code, value.shown) if hasattr(value, "code") else value
                for number, values in table.iterate_rows()
                for column, value in enumerate(values)
                if value is not None
            }
            told[table.name] = str(table.visibility), cells, table.list_notices()
        return told
