"""Tables that are written while their rows are read, as csv or xlsx, in the same memory whatever their size.

The rule this module guards: a cell is the text that it was, in every program, and never a formula. In xlsx each is
of the type text; in csv, which has no types, an apostrophe stands before what a program could take for a formula.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, cast
from xml.sax.saxutils import escape  # nosec B406
from zipfile import ZIP_DEFLATED, ZipFile

from datameta.logic.fields import parse_number
from datameta.sheets.annotate import quote_formula
from datameta.sheets.remarks import clean_text
from datameta.sheets.values import to_letters

Rows = Iterable[Sequence[str]]

MOST_ROWS = 1_048_576
"""What a sheet of a workbook can have; then there is another."""
MOST_BYTES = 1 << 30
"""A larger part of a workbook takes an extension of its archive that not every program reads."""
BATCH = 1 << 16

_DECLARATION = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
# Styles 1 and 2: headings and values, both of the format text, so that they stay what they are when they are edited.
_STYLES = (
    f'<styleSheet xmlns="{_MAIN}"><fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
    '</fills><borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="3"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    '<xf numFmtId="49" fontId="1" fillId="0" borderId="0" xfId="0" applyNumberFormat="1" applyFont="1"/>'
    '<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)


def write_csv(headings: Sequence[str], rows: Rows) -> Iterator[bytes]:
    """Yield a table as csv (UTF-8 with its mark, RFC 4180)."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    text.write("\ufeff")
    for row in chain([headings], rows):
        writer.writerow(_guard(clean_text(cell)) for cell in row)
        if text.tell() >= BATCH:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def write_xlsx(headings: Sequence[str], rows: Rows, *, title: str) -> Iterator[bytes]:
    """Yield a table as a workbook of one sheet, or of as many as the table needs; each has the headings."""
    sink = _Sink()
    remaining = iter(rows)
    titles: list[str] = []
    with ZipFile(cast(IO[bytes], sink), "w", ZIP_DEFLATED) as archive:
        first: Sequence[str] | None = next(remaining, None)
        while first is not None or not titles:
            titles.append(title if not titles else f"{title} ({len(titles) + 1})")
            with archive.open(f"xl/worksheets/sheet{len(titles)}.xml", "w") as sheet:
                sheet.write(_begin_sheet(headings))
                body = chain([first] if first is not None else [], remaining)
                for _ in _write_rows(sheet, body):
                    yield sink.take()
                sheet.write(b"</sheetData></worksheet>")
            first = next(remaining, None)
        for name, content in _list_parts(titles):
            archive.writestr(name, _DECLARATION + content)
    yield sink.take()


class _Sink:
    """Where the archive is written to, in which nobody can go back, and what takes away what is there."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, chunk: bytes) -> int:
        self._chunks.append(chunk)
        return len(chunk)

    def flush(self) -> None:
        """Do nothing: what is written waits to be taken."""

    def take(self) -> bytes:
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken


def _guard(text: str) -> str:
    """Return the text so that no program takes it for a formula; a number is none, whatever its sign."""
    return text if parse_number(text) is not None else quote_formula(text)


def _begin_sheet(headings: Sequence[str]) -> bytes:
    head = (
        f'{_DECLARATION}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
        '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
        '<sheetFormatPr defaultRowHeight="15"/>'
        f'<cols><col min="1" max="{len(headings)}" width="20" customWidth="1"/></cols><sheetData>'
    )
    return (head + _make_row(1, headings, 1)).encode()


def _write_rows(sheet: IO[bytes], rows: Rows) -> Iterator[None]:
    """Write rows from the second on until there are no more, or the sheet is full; stop at each batch."""
    waiting: list[str] = []
    size = written = 0
    for number, row in enumerate(rows, 2):
        waiting.append(_make_row(number, row, 2))
        size += len(waiting[-1])
        is_full = number == MOST_ROWS or written + size >= MOST_BYTES
        if size >= BATCH or is_full:
            sheet.write("".join(waiting).encode())
            waiting.clear()
            written, size = written + size, 0
            yield
        if is_full:
            return
    sheet.write("".join(waiting).encode())


def _make_row(number: int, row: Sequence[str], style: int) -> str:
    cells = "".join(
        f'<c r="{to_letters(index)}{number}" s="{style}" t="inlineStr"><is><t xml:space="preserve">'
        f"{_escape(text)}</t></is></c>"
        for index, text in enumerate(row)
        if text
    )
    return f'<row r="{number}">{cells}</row>'


def _escape(text: str) -> str:
    # What would be read as an escaped character is escaped itself.
    return escape(re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", clean_text(text)))


def _list_parts(titles: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and content of each part of a workbook but the sheets."""
    numbers = range(1, len(titles) + 1)
    sheets = "".join(
        f'<sheet name="{title}" sheetId="{number}" r:id="rId{number}"/>'
        for number, title in zip(numbers, titles, strict=True)
    )
    yield "xl/workbook.xml", f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>'
    yield "xl/styles.xml", _STYLES
    related = [(f"rId{number}", "worksheet", f"worksheets/sheet{number}.xml") for number in numbers]
    yield "xl/_rels/workbook.xml.rels", _make_relations([*related, ("rId0", "styles", "styles.xml")])
    yield "_rels/.rels", _make_relations([("rId1", "officeDocument", "xl/workbook.xml")])
    kinds = [("/xl/workbook.xml", f"{_TYPE}.sheet.main+xml"), ("/xl/styles.xml", f"{_TYPE}.styles+xml")]
    kinds += [(f"/xl/worksheets/sheet{number}.xml", f"{_TYPE}.worksheet+xml") for number in numbers]
    overrides = "".join(f'<Override PartName="{name}" ContentType="{kind}"/>' for name, kind in kinds)
    yield (
        "[Content_Types].xml",
        f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>',
    )


def _make_relations(related: Iterable[tuple[str, str, str]]) -> str:
    listed = "".join(
        f'<Relationship Id="{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>' for number, kind, target in related
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{listed}</Relationships>'
