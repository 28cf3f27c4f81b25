"""What the tables of all formats have in common: notices beside the values, and the ends of their patience."""

from collections.abc import Iterable
from datetime import datetime

from datameta.sheets.archive import broken
from datameta.sheets.cells import shorten
from datameta.sheets.limits import Limits
from datameta.sheets.values import Fault, Notice, Severity, SheetError, Table, Value, to_letters

TEMPLATE_SHEET = "_datameta"
"""A hidden sheet of our templates, whose first cell has the template's version."""
LAST_ROW = 1_048_576
MOST_SHEETS = 200
MOST_NOTICES = 1000
"""Of one kind and sheet; what is beyond is counted in the last one."""


class Notices:
    """What a sheet has beside its values, gathered while it is read."""

    def __init__(self) -> None:
        self._merged: list[str] = []
        self._merged_count = 0
        self._rows: list[list[int]] = []
        self._columns: set[int] = set()

    def add_merged(self, area: str) -> None:
        """Note cells that are one."""
        self._merged_count += 1
        if len(self._merged) < MOST_NOTICES:
            self._merged.append(area)

    def add_hidden_row(self, row: int) -> None:
        """Note a row that is not seen and has values; rows come ascending."""
        if self._rows and self._rows[-1][1] == row - 1:
            self._rows[-1][1] = row
        else:
            self._rows.append([row, row])

    def add_hidden_columns(self, columns: Iterable[int]) -> None:
        """Note columns that are not seen and have values."""
        self._columns.update(columns)

    def list(self) -> list[Notice]:
        """Return all notices."""
        notices = []
        for area in self._merged:
            message = f"The cells {area} are merged into one; each row needs its own value in each column."
            notices.append(Notice(Severity.ERROR, "merged_cells", message, area))
        if self._merged_count > len(self._merged):
            message = f"{self._merged_count - len(self._merged):,} more areas of merged cells are not listed."
            notices.append(Notice(Severity.ERROR, "merged_cells", message, self._merged[-1]))
        for number, (first, last) in enumerate(self._rows):
            if number == MOST_NOTICES:
                message = f"{len(self._rows) - number:,} more runs of hidden rows hold values."
                notices.append(Notice(Severity.WARNING, "hidden_rows", message, f"{first}:{last}"))
                break
            if first == last:
                message = f"The row {first} is hidden and holds values; they are read like all others."
            else:
                message = f"The rows {first} to {last} are hidden and hold values; they are read like all others."
            notices.append(Notice(Severity.WARNING, "hidden_rows", message, f"{first}:{last}"))
        for column in sorted(self._columns):
            letters = to_letters(column)
            message = f"The column {letters} is hidden and holds values; they are read like all others."
            notices.append(Notice(Severity.WARNING, "hidden_columns", message, f"{letters}:{letters}"))
        return notices


def too_many_rows(limits: Limits) -> SheetError:
    """Return the error of a table that is too long."""
    message = f"The sheet has more than {limits.rows:,} rows beside its header; send it in several files."
    return SheetError(message, "too_many_rows")


def too_many_columns(limits: Limits, name: str, reference: str) -> SheetError:
    """Return the error of a table that is too wide."""
    where = f"{name}!{reference}" if name else reference
    message = f"The cell {where} holds something; only the first {limits.columns} columns are read."
    return SheetError(message, "too_many_columns")


def unreadable(raw: str) -> Fault:
    """Return the fault of a cell that contradicts itself."""
    return Fault("The cell can't be read: the file is wrong there.", "cell_unreadable", shorten(raw))


def read_iso(raw: str) -> Value:
    """Return the date that a cell writes as such."""
    try:
        value = datetime.fromisoformat(raw)
    except ValueError:
        return unreadable(raw)
    return unreadable(raw) if value.tzinfo else value if "T" in raw else value.date()


def read_integer(text: str) -> int:
    """Return a count or number of the file. Raises ``SheetError``."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise broken(f"it has “{shorten(text)}” in the place of a number")
    return int(text)


def read_mark(table: Table) -> str | None:
    """Return the version of our template that the first cell of our own hidden sheet has."""
    _, values = next(iter(table.iterate_rows()), (0, [None]))
    return values[0] if isinstance(values[0], str) else None


def to_column(letters: str) -> int:
    """Return the column (from 0) that spreadsheets name so."""
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - 64
    return column - 1
