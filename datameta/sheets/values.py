"""What a sheet consists of once it has been read: rows of values that are what a person sees, never a guess."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from typing import Protocol, TypeAlias


class SheetError(Exception):
    """The file can't be read as a sheet; ``code`` is a stable word, the message a sentence for who sent it."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Fault:
    """A cell that can't be taken as it is: why, and what a person sees there."""

    message: str
    code: str
    shown: str | None = None


Value: TypeAlias = str | datetime | date | time | Fault | None
"""Text as it is shown, a real date or time of the spreadsheet, a cell that can't be read, or nothing (never ``""``)."""


class Visibility(StrEnum):
    """Whether a person sees a sheet."""

    VISIBLE = "visible"
    HIDDEN = "hidden"


class Table(Protocol):
    """One sheet of a file."""

    name: str
    """As its tab says; of csv and tsv the empty text."""
    visibility: Visibility

    def iterate_rows(self) -> Iterator[tuple[int, list[Value]]]:
        """Yield number (from 1) and values of each row that has any, from column A on."""
        ...

    def list_notices(self) -> list["Notice"]:
        """Return what is to be said beside the values; complete once the rows have been read."""
        ...


@dataclass(frozen=True)
class Notice:
    """Something about a sheet's cells that is no value: hidden rows, merged cells. ``area`` as in ``B2:C9``."""

    severity: "Severity"
    code: str
    message: str
    area: str


class Severity(StrEnum):
    """How much a finding matters: an error keeps a row from being staged, a warning from being submitted as
    it is, a note says what was understood."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


def to_letters(column: int) -> str:
    """Return a column (from 0) as spreadsheets name it: A, B, … Z, AA."""
    letters = ""
    number = column + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
