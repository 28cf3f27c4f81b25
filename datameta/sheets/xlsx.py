"""xlsx and xlsm: what the cells show, in one streaming pass over each sheet's XML.

Macros, links to other files and pictures are never looked at. A library that reads values alone would not do: formats,
hidden and merged cells, formulas without a result and digits as they were written all decide whether a value can be
taken. Expat gives them in the same pass at 3 µs for a cell, and nothing but the row at hand and the workbook's shared
strings is held in memory.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from datameta.sheets.archive import Archive, broken
from datameta.sheets.cells import read_text, shorten
from datameta.sheets.formats import BUILT_IN, NumberFormat
from datameta.sheets.limits import Limits
from datameta.sheets.markup import Attributes, find_root, is_true, local, parse, scan
from datameta.sheets.tables import (
    LAST_ROW,
    MOST_SHEETS,
    TEMPLATE_SHEET,
    Notices,
    read_integer,
    read_iso,
    read_mark,
    to_column,
    too_many_columns,
    too_many_rows,
    unreadable,
)
from datameta.sheets.values import Fault, Notice, SheetError, Table, Value, Visibility, to_letters

CONTENT_TYPES = "[content_types].xml"
TEMPLATE_MARK = "_datameta_template"
"""A defined name with the version of the template that a workbook was made from."""
MOST_FORMATS = 100_000

ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
REFERENCE = re.compile(r"\$?([A-Za-z]{1,3})\$?([1-9][0-9]{0,6})")
AREA = re.compile(r"([A-Z]{1,3})([1-9]\d{0,6}):([A-Z]{1,3})([1-9]\d{0,6})")
PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{0,13}[1-9])?")

OTHERS = {
    "wordprocessingml": "a Word document",
    "presentationml": "a PowerPoint presentation",
    "ms-excel.sheet.binary": "a binary Excel workbook (.xlsb)",
}


@dataclass
class Style:
    """How the cells of one style are shown."""

    format: NumberFormat
    known: dict[str, Value] = field(default_factory=dict)
    """What was shown before; the same numbers come again and again."""

    def show(self, raw: str) -> Value:
        """Return a number as it is shown."""
        try:
            return self.known[raw]
        except KeyError:
            if len(self.known) > 10_000:
                self.known.clear()
            value = self.known[raw] = self.format.show_number(raw)
            return value


class XlsxWorkbook:
    """An xlsx or xlsm workbook."""

    dialect = None

    def __init__(self, archive: Archive, limits: Limits) -> None:
        self.archive, self.limits = archive, limits
        self.is_1904 = False
        self.template_version: str | None = None
        self._strings: list[Value] | None = None
        self._relations: dict[str, tuple[str, str]] = {}
        self.styles: list[Style] = []
        main = self._find_main()
        self._relations = self._read_relations(main)
        tables = self._read_sheets(main)
        self._read_styles()
        self.tables: list[Table] = [table for table in tables if table.name != TEMPLATE_SHEET]
        for table in tables:
            if table.name == TEMPLATE_SHEET and self.template_version is None:
                self.template_version = read_mark(table)

    def _find_main(self) -> str:
        """Return the name of the workbook's member, and find out which format it is of."""
        types: dict[str, str] = {}

        def start(name: str, attributes: Attributes) -> None:
            if local(name) == "Override":
                types[attributes.get("PartName", "").lower()] = attributes.get("ContentType", "")

        self._parse(CONTENT_TYPES, start)
        targets = [target for kind, target in self._read_relations("").values() if kind == "officeDocument"]
        if not targets:
            raise broken("it does not say where its workbook is")
        kind = types.get(f"/{targets[0]}".lower(), "")
        for word, what in OTHERS.items():
            if word in kind:
                raise SheetError(f"The file is {what}; save it as an Excel workbook (.xlsx).", "unknown_format")
        if "main+xml" not in kind:
            raise broken("it does not say what its workbook is")
        self.format = "xlsm" if "macroEnabled" in kind else "xlsx"
        return targets[0]

    def _parse(self, member: str, start: Any, end: Any = None) -> None:
        parse(self.archive.stream(member), member, start=start, end=end)

    def _read_relations(self, member: str) -> dict[str, tuple[str, str]]:
        """Return kind and target of each relation of a member, by its id; external ones are left out."""
        folder, name = posixpath.split(member)
        relations: dict[str, tuple[str, str]] = {}

        def start(name: str, attributes: Attributes) -> None:
            if local(name) == "Relationship" and attributes.get("TargetMode") != "External":
                kind = attributes.get("Type", "").rpartition("/")[2]
                target = unquote(attributes.get("Target", "")).replace("\\", "/")
                path = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
                relations[attributes.get("Id", "")] = kind, path

        self._parse(posixpath.join(folder, "_rels", f"{name}.rels"), start)
        return relations

    def _find_related(self, kind: str) -> str | None:
        return next((target for found, target in self._relations.values() if found == kind), None)

    def _read_sheets(self, main: str) -> list["XlsxTable"]:
        tables: list[XlsxTable] = []
        texts: list[str] = []
        defined = ""

        def start(name: str, attributes: Attributes) -> None:
            nonlocal defined
            texts.clear()
            name = local(name)
            if name == "workbookPr":
                self.is_1904 = is_true(attributes.get("date1904"))
            elif name == "definedName":
                defined = attributes.get("name", "")
            elif name == "sheet":
                relation = next((value for key, value in attributes.items() if local(key) == "id" and ":" in key), "")
                kind, target = self._relations.get(relation, ("", ""))
                if not target:
                    raise broken("it does not say where one of its sheets is")
                # Sheets that are a chart, a dialogue or macros have no cells.
                if kind == "worksheet":
                    is_hidden = attributes.get("state", "visible") != "visible"
                    visibility = Visibility.HIDDEN if is_hidden else Visibility.VISIBLE
                    tables.append(XlsxTable(self, attributes.get("name", ""), visibility, target))

        def end(name: str) -> None:
            # Elsewhere the name tells only where on its sheet the version is.
            if local(name) == "definedName" and defined == TEMPLATE_MARK and (words := "".join(texts)).startswith('"'):
                self.template_version = words.strip('"') or None

        for _ in scan(self.archive.stream(main), main, start=start, end=end, texts=texts):
            if len(tables) > MOST_SHEETS:
                raise SheetError(f"The workbook has more than {MOST_SHEETS} sheets.", "too_large")
        if not tables:
            raise broken("it has no sheet")
        return tables

    def _read_styles(self) -> None:
        member = self._find_related("styles")
        codes: dict[int, str] = dict(BUILT_IN)
        numbers: list[int] = []
        is_cell = False

        def start(name: str, attributes: Attributes) -> None:
            nonlocal is_cell
            name = local(name)
            if name == "numFmt" and "numFmtId" in attributes:
                codes[read_integer(attributes["numFmtId"])] = attributes.get("formatCode", "")
            elif name == "cellXfs":
                is_cell = True
            elif name == "xf" and is_cell:
                numbers.append(read_integer(attributes.get("numFmtId", "0")))
                if len(numbers) > MOST_FORMATS:
                    raise SheetError(f"The workbook has more than {MOST_FORMATS:,} styles.", "too_large")

        def end(name: str) -> None:
            nonlocal is_cell
            if local(name) == "cellXfs":
                is_cell = False

        if member is not None:
            self._parse(member, start, end)
        # A number without a meaning here is one of another country's: what it shows is not known.
        formats = {
            number: Style(NumberFormat(codes.get(number, "[unknown]"), is_1904=self.is_1904))
            for number in {0, *numbers}
        }
        self.styles[:] = [formats[number] for number in numbers] or [formats[0]]

    @property
    def strings(self) -> list[Value]:
        """The texts that cells refer to by number."""
        if self._strings is None:
            self._strings = []
            member = self._find_related("sharedStrings")
            if member is not None and member in self.archive:
                self._read_strings(member, self._strings)
        return self._strings

    def _read_strings(self, member: str, strings: list[Value]) -> None:
        texts: list[str] = []
        parts: list[str] = []
        is_reading = 0
        longest = self.limits.cell_length

        def start(name: str, attributes: Attributes) -> None:
            nonlocal is_reading
            if name == prefix + "t":
                texts.clear()
            else:
                texts.clear()
                if name == prefix + "rPh":
                    is_reading += 1

        def end(name: str) -> None:
            nonlocal is_reading
            if name == prefix + "t":
                # Readings above East Asian words are no part of the text.
                if not is_reading:
                    parts.append("".join(texts))
            elif name == prefix + "si":
                strings.append(read_string("".join(parts), longest))
                parts.clear()
            elif name == prefix + "rPh":
                is_reading -= 1

        prefix = self._find_prefix(member)
        for _ in scan(self.archive.stream(member), member, start=start, end=end, texts=texts):
            pass

    def _find_prefix(self, member: str) -> str:
        """Return the prefix that a member's elements have: mostly none, else with its colon."""
        root, _ = find_root(self.archive.stream(member), member)
        return root[: -len(local(root))]


class XlsxTable:
    """One worksheet."""

    def __init__(self, book: XlsxWorkbook, name: str, visibility: Visibility, member: str) -> None:
        self.name, self.visibility = name, visibility
        self._book, self._member = book, member
        self._notices: list[Notice] = []

    def list_notices(self) -> list[Notice]:
        """Return what is to be said beside the values; complete once the rows have been read."""
        return self._notices

    def iterate_rows(self) -> Iterator[tuple[int, list[Value]]]:
        """Yield number and values of each row that has any."""
        book, limits = self._book, self._book.limits
        strings, styles = book.strings, book.styles
        styles_count, longest = len(styles), limits.cell_length
        plain_styles = {str(number) for number, style in enumerate(styles) if style.format.is_general}
        if "0" in plain_styles:
            plain_styles.add("")
        changing = {str(number) for number, style in enumerate(styles) if style.format.changes_text}
        columns = {to_letters(column): column for column in range(limits.columns)}
        prefix = book._find_prefix(self._member)
        cell_tag, value_tag, text_tag, row_tag = prefix + "c", prefix + "v", prefix + "t", prefix + "row"
        formula_tag, reading_tag = prefix + "f", prefix + "rPh"
        column_tag, merge_tag = prefix + "col", prefix + "mergeCell"
        notices = Notices()
        texts: list[str] = []
        done: list[tuple[int, list[Value]]] = []
        row: list[Value] = []
        row_number = count = readings = last_column = last_row = 0
        row_text = ""
        is_hidden_row = is_formula = False
        cell: Attributes = {}
        raw: str | None = None
        hidden: set[int] = set()

        def start(name: str, attributes: Attributes) -> None:
            nonlocal cell, raw, row, row_number, row_text, is_hidden_row, is_formula, readings
            if name == cell_tag:
                cell = attributes
                raw = None
                is_formula = False
            elif name == value_tag or name == text_tag:  # noqa: SIM109 (a tuple would be made for each element)
                texts.clear()
            elif name == row_tag:
                number = read_integer(attributes["r"]) if "r" in attributes else row_number + 1
                if not row_number < number <= LAST_ROW:
                    raise broken(f"row {number} of the sheet {self.name} comes twice, or in the wrong place")
                texts.clear()
                row_number, row_text, row = number, str(number), []
                is_hidden_row = is_true(attributes.get("hidden")) or attributes.get("ht") == "0"
            elif name == formula_tag:
                is_formula = True
                texts.clear()
            elif name == reading_tag:
                readings += 1
            elif name == column_tag:
                if is_true(attributes.get("hidden")) or attributes.get("width") == "0":
                    first, last = read_integer(attributes.get("min", "")), read_integer(attributes.get("max", ""))
                    hidden.update(range(first - 1, min(last, limits.columns)))
            elif name == merge_tag:
                area = AREA.fullmatch(attributes.get("ref", ""))
                if area and int(area[2]) <= last_row and columns.get(area[1], limits.columns) <= last_column:
                    notices.add_merged(area[0])
            else:
                texts.clear()

        def end(name: str) -> None:
            nonlocal raw, readings, count, last_column, last_row, row
            if name == value_tag:
                raw = "".join(texts)
            elif name == text_tag:
                if not readings:
                    raw = "".join(texts) if raw is None else raw + "".join(texts)
            elif name == cell_tag:
                kind = cell.get("t")
                style = cell.get("s", "")
                value: Value
                if raw is None or raw == "":
                    if not is_formula or kind == "str":
                        return
                    value = Fault(
                        "The cell has a formula whose result is not in the file; open and save it in a spreadsheet "
                        "program, or write the value.",
                        "cell_formula_without_value",
                    )
                elif kind == "s":
                    try:
                        value = strings[int(raw)] if raw.isdecimal() else unreadable(raw)
                    except IndexError:
                        value = unreadable(raw)
                    if value is None:
                        return
                elif kind is None or kind == "n":
                    if style in plain_styles and PLAIN_NUMBER.fullmatch(raw) and len(raw) < 16:
                        value = raw if raw != "-0" else "0"
                    else:
                        number = read_integer(style) if style else 0
                        value = styles[number].show(raw) if number < styles_count else unreadable(raw)
                elif kind == "inlineStr" or kind == "str":
                    value = read_string(raw, longest)
                elif kind == "b":
                    value = {"0": "FALSE", "1": "TRUE"}.get(raw) or unreadable(raw)
                elif kind == "e":
                    value = Fault(f"The cell shows the error {shorten(raw)}.", "cell_error", shorten(raw))
                elif kind == "d":
                    value = read_iso(raw)
                else:
                    value = unreadable(raw)
                if style in changing and isinstance(value, str) and kind in ("s", "str", "inlineStr"):
                    value = styles[int(style)].format.show_text(value)
                reference = cell.get("r")
                width = len(row)
                if reference is None:
                    column = width
                else:
                    column = columns.get(reference[: -len(row_text)], -1)
                    if column < 0 or not reference.endswith(row_text):
                        column = self._find_column(reference, row_number)
                if column == width:
                    row.append(value)
                elif column > width:
                    row.extend([None] * (column - width))
                    row.append(value)
                else:
                    raise broken(f"the cell {reference} of the sheet {self.name} comes twice, or too late")
            elif name == row_tag:
                if row:
                    count += 1
                    if count > limits.rows + 1:
                        raise too_many_rows(limits)
                    last_row = row_number
                    last_column = max(last_column, len(row) - 1)
                    if is_hidden_row:
                        notices.add_hidden_row(row_number)
                    if hidden:
                        notices.add_hidden_columns(column for column in hidden if column < len(row) and row[column])
                    done.append((row_number, row))
                    row = []
            elif name == reading_tag:
                readings -= 1

        for _ in scan(book.archive.stream(self._member), self._member, start=start, end=end, texts=texts):
            yield from done
            done.clear()
        self._notices = notices.list()

    def _find_column(self, reference: str, row: int) -> int:
        """Return the column of a cell whose address is written in a rare way, or wrongly, or which is too far."""
        found = REFERENCE.fullmatch(reference)
        if found is None or int(found[2]) != row:
            raise broken(f"a cell in row {row} of the sheet {self.name} has the address {shorten(reference)}")
        column = to_column(found[1].upper())
        if column >= self._book.limits.columns:
            raise too_many_columns(self._book.limits, self.name, reference)
        return column


def read_string(text: str, longest: int) -> Value:
    """Return a text of the file as it is shown: control characters and what looks like one are written by number."""
    if "_x" in text:
        for found in ESCAPED.finditer(text):
            number = int(found[1], 16)
            # Excel shows the character, LibreOffice the text as it stands, and many programs mean the latter.
            if number >= 0x20 and number != ord("_"):
                message = f"Programs do not agree on what {found[0]} in the cell means; write it in another way."
                return Fault(message, "cell_ambiguous", shorten(text))
        text = ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return read_text(text, longest)
