"""What a sheet says, as records, and what is wrong with it: all that can be known without the database.

The rule this module guards: no value is guessed, and none is dropped without a word. A cell is taken as it is
shown, or there is a finding at its address; so is a column that is no field, and a row without any.

It runs in the child process, and yields what it finds as it goes:

* ``{"table": {"name", "state", "headerRow", "columns"}}`` before a sheet's rows,
* ``{"rows": [[number, record], …]}``, the records by field key, also those of rows that can't be staged,
* ``{"end": {"rows", "bad"}}`` with the numbers of those,
* ``{"findings": […]}``, and last ``{"done": {"format", "template", "counts", "omitted"}}``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from difflib import get_close_matches
from itertools import chain, islice
from typing import Any, Protocol, TypeAlias

from datameta.logic import records
from datameta.logic.fields import Field, Rulebook, fold
from datameta.sheets.findings import Finding, Findings
from datameta.sheets.remarks import HEADINGS
from datameta.sheets.values import Fault, Notice, Severity, SheetError, Table, Value, Visibility

HEADER_ROWS = 50
"""The header is looked for in so many rows."""
TEMPLATE_FIELDS, TEMPLATE_LISTS = "Fields", "Lists"
BATCH = 500
FINDINGS_BATCH = 500

Row: TypeAlias = tuple[int, list[Value]]


class Workbook(Protocol):
    """A sheet's file, opened."""

    format: str
    tables: Sequence[Table]
    template_version: str | None


@dataclass
class Column:
    """A column that has a header; ``field`` is None if it is no field's."""

    index: int
    header: str
    field: Field | None


def run(workbook: Workbook, order: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Check the sheets of a file that have a header, or the one that ``order["sheet"]`` names.

    ``order["rulebook"]`` is what ``Rulebook.to_json`` returned, ``order["example"]`` the values of the template's
    example row by field name. Raises ``SheetError`` if no sheet has a header.
    """
    book = Rulebook.from_json(order["rulebook"])
    findings = Findings()
    found = 0
    for table in _choose_tables(workbook, order.get("sheet")):
        check = _TableCheck(table, book, order["example"], findings)
        yield from check.run()
        found += check.header_row is not None
    if not found:
        raise _no_header(book, order.get("sheet"))
    listed = iter(findings)
    while batch := [finding.to_json() for finding in islice(listed, FINDINGS_BATCH)]:
        yield {"findings": batch}
    counts = {str(severity): count for severity, count in findings.counts.items()}
    done = {"format": workbook.format, "template": workbook.template_version}
    yield {"done": {**done, "counts": counts, "omitted": findings.omitted}}


def _choose_tables(workbook: Workbook, name: str | None) -> Sequence[Table]:
    if name is None:
        # The template's own explanations have the names of the fields, too.
        own = (TEMPLATE_FIELDS, TEMPLATE_LISTS) if workbook.template_version else ()
        return [table for table in workbook.tables if table.name not in own]
    chosen = [table for table in workbook.tables if table.name == name]
    chosen = chosen or [table for table in workbook.tables if fold(table.name) == fold(name)]
    if len(chosen) != 1:
        names = ", ".join(f"'{table.name}'" for table in workbook.tables[:20])
        raise SheetError(f"The file has no sheet named '{name}'. It has: {names}.", "no_such_sheet")
    return chosen


def _no_header(book: Rulebook, name: str | None) -> SheetError:
    names = ", ".join(field.name for field in book.fields_of(None)[:20])
    place = f"The sheet '{name}'" if name else "No sheet of the file"
    negation = " has no" if name else " has a"
    message = f"{place}{negation} row with the names of the site's fields in its first {HEADER_ROWS} rows: {names}."
    return SheetError(message, "no_header")


class _TableCheck:
    """The check of one sheet."""

    def __init__(self, table: Table, book: Rulebook, example: Mapping[str, str], findings: Findings) -> None:
        self.header_row: int | None = None
        self._table = table
        self._book = book
        self._example = example
        self._findings = findings
        self._fields = book.fields_of(None)
        self._names = {field.name: field for field in self._fields}
        self._names_of_services = {field.name for field in book.fields if field.service_id is not None}
        self._folded: dict[str, Field | None] = {}
        for field in self._fields:
            key = fold(field.name)
            # Of two fields whose names differ in case or spaces only, neither is meant.
            self._folded[key] = None if key in self._folded else field
        self._columns: list[Column] = []
        self._by_name: dict[str, Column] = {}
        self._absent: set[str] = set()
        self._bad: set[int] = set()
        self._is_all_bad = False
        self._unique = {field.name for field in self._fields if field.is_submission_unique or field.is_site_unique}
        self._first: dict[tuple[Any, ...], tuple[int, Column | None]] = {}
        self._stray: dict[int, list[int]] = {}

    def run(self) -> Iterator[dict[str, Any]]:
        """Yield what the module's docstring says, without the findings."""
        if self._table.visibility is not Visibility.VISIBLE:
            yield self._describe("hidden")
            return
        rows = iter(self._table.iterate_rows())
        first = list(islice(rows, HEADER_ROWS))
        header = None if is_summary(first) else self._find_header(first)
        if header is None:
            yield self._describe("ignored")
            return
        self.header_row = header[0]
        self._read_header(*header)
        yield self._describe("read")
        count = 0
        batch: list[list[Any]] = []
        for number, values in chain((row for row in first if row[0] > header[0]), rows):
            record = self._check_row(number, values)
            if record is None:
                continue
            count += 1
            batch.append([number, record])
            if len(batch) == BATCH:
                yield {"rows": batch}
                batch = []
        if batch:
            yield {"rows": batch}
        self._tell_of_stray_columns()
        for notice in self._table.list_notices():
            self._tell_notice(notice)
        yield {"end": {"rows": count, "bad": sorted(self._bad), "isAllBad": self._is_all_bad}}

    def _describe(self, state: str) -> dict[str, Any]:
        columns = [
            {"index": column.index, "header": column.header, "field": column.field.name if column.field else None}
            for column in self._columns
        ]
        table = {"name": self._table.name, "state": state, "headerRow": self.header_row, "columns": columns}
        return {"table": table}

    # The header.

    def _find_header(self, rows: Sequence[Row]) -> Row | None:
        """Return the row that names the most fields, the first of equals."""
        best: tuple[int, Row | None] = (0, None)
        for row in rows:
            named = {field.name for value in row[1] if isinstance(value, str) and (field := self._match(value))}
            if len(named) > best[0]:
                best = len(named), row
        needed = min(2, len(self._fields))
        return best[1] if best[0] >= max(1, needed) else None

    def _match(self, header: str) -> Field | None:
        return self._names.get(header) or self._folded.get(fold(header))

    def _read_header(self, number: int, values: Sequence[Value]) -> None:
        for index, value in enumerate(values):
            if value is None or (isinstance(value, str) and not value.strip()):
                continue
            if isinstance(value, Fault):
                self._add(Severity.ERROR, value.code, value.message, number, index, value=value.shown)
                continue
            header = value if isinstance(value, str) else str(value)
            field = self._match(header)
            column = Column(index, header, field)
            self._columns.append(column)
            if field is None:
                self._tell_unknown_header(number, column)
            elif field.name in self._by_name:
                message = "Two columns have this field. Remove or rename one of them."
                for twin in (self._by_name[field.name], column):
                    self._add(Severity.ERROR, "duplicate_column", message, number, twin.index, twin.header, field.name)
                column.field = None
                self._is_all_bad = True
            else:
                self._by_name[field.name] = column
                if header != field.name:
                    message = f"Read as the field {field.name}."
                    self._add(Severity.NOTE, "header_spelling", message, number, index, header, field.name, field.name)
        for field in self._fields:
            if field.name in self._by_name:
                continue
            self._absent.add(field.name)
            if field.is_mandatory:
                message = f"There is no column for the mandatory field {field.name}."
                self._add(Severity.ERROR, "column_missing", message, number, None, field=field.name)
                self._is_all_bad = True

    def _tell_unknown_header(self, number: int, column: Column) -> None:
        if column.header in self._names_of_services:
            code, message, suggestion = "service_column", "A service fills this field; the column is not read.", None
        else:
            code, message = "unknown_column", "The site has no such field; the column is not read."
            free = {fold(field.name): field.name for field in self._fields if field.name not in self._by_name}
            close = get_close_matches(fold(column.header), free, n=1, cutoff=0.75)
            suggestion = free[close[0]] if close else None
        self._add(Severity.WARNING, code, message, number, column.index, column.header, suggestion=suggestion)

    # The rows.

    def _check_row(self, number: int, values: Sequence[Value]) -> dict[str, str] | None:
        """Return the record of a row, or None if there is nothing in it."""
        texts: dict[str, str] = {}
        faulty: set[str] = set()
        headed = set()
        for column in self._columns:
            headed.add(column.index)
            field = column.field
            value = values[column.index] if field is not None and column.index < len(values) else None
            if field is None or value is None:
                continue
            if isinstance(value, str):
                if value.strip():
                    texts[field.name] = value
                    continue
                self._add(
                    Severity.NOTE, "blank", "Only spaces; read as empty.", number, column.index, value, field.name
                )
                continue
            taken = take_date(field, value) if not isinstance(value, Fault) else value
            if isinstance(taken, str):
                texts[field.name] = taken
            else:
                faulty.add(field.name)
                self._add_error(number, column, taken.code, taken.message, taken.shown)
        if not texts and not faulty:
            self._note_stray(number, values, set())
            if any(value is not None for value in values):
                message = "The row has nothing in the columns of the fields; it is not read."
                self._add(Severity.WARNING, "row_ignored", message, number, None)
            return None
        self._note_stray(number, values, headed)
        if self._example and texts == self._example:
            message = "This is the template's example. Delete the row."
            self._add(Severity.ERROR, "example_row", message, number, None)
            self._bad.add(number)
        record = self._check_texts(number, texts, faulty)
        self._check_unique(number, texts, record)
        return record

    def _check_texts(self, number: int, texts: Mapping[str, str], faulty: set[str]) -> dict[str, str]:
        record, problems = records.check_sent_record(self._book, texts)
        told = set(faulty)
        for problem in problems:
            name = problem.field or ""
            if name in faulty or (name in self._absent and problem.code == "mandatory_missing"):
                continue
            told.add(name)
            column = self._by_name.get(name)
            index = None if column is None else column.index
            value = texts.get(name)
            self._add(Severity.ERROR, problem.code, problem.message, number, index, value, name, problem.suggestion)
            self._bad.add(number)
        for name, text in texts.items():
            if name not in told and text != text.strip():
                message = "There are spaces before or after the value."
                column = self._by_name[name]
                suggestion = text.strip()
                self._add(Severity.WARNING, "outer_space", message, number, column.index, text, name, suggestion)
        return record

    def _check_unique(self, number: int, texts: Mapping[str, str], record: Mapping[str, str]) -> None:
        same = self._first.setdefault(("", records.hash_value(repr(sorted(record.items())))), (number, None))[0]
        if same != number:
            message = f"The row says the same as row {same}. Both would be handed in."
            self._add(Severity.WARNING, "duplicate_row", message, number, None)
        for name, text in texts.items():
            field = self._names[name]
            if field.is_missing_term(text):
                continue
            if name in self._unique:
                message = "This value occurs more than once in the sheet; the field must be unique."
                self._check_first(number, (name,), name, text, "not_unique_in_sheet", message)
            if field.is_file:
                message = "This file is named more than once."
                self._check_first(number, (), name, text, "duplicate_file_reference", message)

    def _check_first(self, number: int, scope: tuple[str, ...], name: str, text: str, code: str, message: str) -> None:
        """Tell of a value that was there before, at its first place too."""
        column = self._by_name[name]
        key = (code, *scope, records.hash_value(text))
        first_row, first_column = self._first.setdefault(key, (number, column))
        if (first_row, first_column) == (number, column):
            return
        if (known := ("told", *key)) not in self._first:
            self._first[known] = (first_row, first_column)
            assert first_column is not None, "of a value"
            self._add_error(first_row, first_column, code, message, text)
        self._add_error(number, column, code, message, text)

    def _note_stray(self, number: int, values: Sequence[Value], headed: set[int]) -> None:
        """Remember cells below no header; in a row that is read only."""
        if not headed:
            return
        for index, value in enumerate(values):
            if value is not None and index not in headed:
                self._stray.setdefault(index, []).append(number)

    def _tell_of_stray_columns(self) -> None:
        for index, rows in self._stray.items():
            message = "The column has no header; it is not read."
            self._findings.add(
                Finding(Severity.WARNING, "column_without_header", message, self._table.name, index, rows=rows)
            )

    def _tell_notice(self, notice: Notice) -> None:
        """Tell of what concerns cells that are read."""
        assert self.header_row is not None, "a sheet that is read"
        left, top, right, bottom = parse_area(notice.area)
        columns = [column for column in self._columns if column.field and left <= column.index <= right]
        rows = range(max(top, self.header_row), bottom + 1)
        if not columns or not rows:
            return
        is_single = left == right
        self._findings.add(
            Finding(
                notice.severity,
                notice.code,
                notice.message,
                self._table.name,
                columns[0].index,
                columns[0].field.name if is_single and columns[0].field else None,
                rows=list(rows),
            )
        )
        if notice.severity is Severity.ERROR:
            self._bad.update(rows)
            self._is_all_bad = self._is_all_bad or self.header_row in rows

    def _add_error(self, number: int, column: Column, code: str, message: str, value: str | None) -> None:
        assert column.field is not None, "a column that is read"
        self._add(Severity.ERROR, code, message, number, column.index, value, column.field.name)
        self._bad.add(number)

    def _add(
        self,
        severity: Severity,
        code: str,
        message: str,
        number: int,
        column: int | None,
        value: str | None = None,
        field: str | None = None,
        suggestion: str | None = None,
    ) -> None:
        finding = Finding(severity, code, message, self._table.name, column, field, value, suggestion, [number])
        self._findings.add(finding)


def is_summary(rows: Iterable[Row]) -> bool:
    """Say whether these rows are those of a summary that the portal has put in front of a workbook."""
    return any(values[: len(HEADINGS)] == list(HEADINGS) for _, values in rows)


def take_date(field: Field, value: datetime | date | time) -> str | Fault:
    """Return a real date or time as the field writes it, or why it can't be written so."""
    shown = value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if not field.date_time_fmt:
        message = (
            f"The cell holds a date or time ({shown}), and the field takes text. "
            "Spreadsheets turn some texts into dates: format the cell as text and type the value again."
        )
        return Fault(message, "date_in_text_field", shown)
    if isinstance(value, time):
        # The day from which strptime counts where a format has no date.
        instant = datetime.combine(date(1900, 1, 1), value)
    else:
        instant = value if isinstance(value, datetime) else datetime.combine(value, time())
    try:
        text = instant.strftime(field.date_time_fmt)
        is_same = datetime.strptime(text, field.date_time_fmt) == instant
    except ValueError:
        is_same = False
    if not is_same:
        message = f"The cell holds {shown}, of which the field's form {field.date_time_fmt} can't hold everything."
        return Fault(message, "date_mismatch", shown)
    return text


def parse_area(area: str) -> tuple[int, int, int, int]:
    """Return an area such as ``B2:C9``, ``B2``, ``4:7`` or ``B:B`` as left, top, right, bottom (columns from 0)."""
    first, _, last = area.partition(":")
    corners = [re.fullmatch(r"([A-Z]*)(\d*)", corner) for corner in (first, last or first)]
    assert all(corners), area
    letters = [corner[1] for corner in corners if corner]
    numbers = [corner[2] for corner in corners if corner]
    left, right = (from_letters(letters[0]) if letters[0] else 0), (from_letters(letters[1]) if letters[1] else 16383)
    return left, int(numbers[0] or 1), right, int(numbers[1] or 1048576)


def from_letters(letters: str) -> int:
    """Return the column (from 0) that spreadsheets name so."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1
