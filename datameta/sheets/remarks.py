"""What an annotated workbook says, whatever its format: the marks of cells, and the rows of its summary.

The rule this module guards: every finding is in the summary, and what is said at a cell is said there too. Texts that
came from a laboratory are texts in what goes back, never formulas.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from datameta.sheets.findings import Finding
from datameta.sheets.values import Severity, to_letters

HEADING = "DataMeta check:"
"""The first line of what we say in a comment, by which it is found again and taken out."""
OURS = re.compile(rf"(?:\A|\n\n){HEADING}\n")
NAME = "_datameta_findings"
"""The hidden name that refers to the first cell of our summary sheet."""
SHEET = "Findings"
AUTHOR = "DataMeta"

COLOURS = {Severity.ERROR: "FFC9CE", Severity.WARNING: "FFF3B8", Severity.NOTE: "D6E8FA"}
BLUE = "1F4E79"
HEADINGS = ("Severity", "Cell", "Field", "Value", "Message", "Suggestion", "Count", "All cells")
WIDTHS = (11, 14, 22, 26, 60, 26, 9, 36)
TABLE_ROW = 6
"""The row of the table's headings in the summary."""

MOST_COMMENTS = 20_000
"""Cells with comments, the worst first; spreadsheets become slow with more. All are coloured, and in the summary."""
LONGEST_COMMENT = 2_000
LONGEST_LIST = 1_000
LONGEST_VALUE = 2_000
LAST_ROW, LAST_COLUMN = 1_048_576, 16_383

_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass
class Mark:
    """A cell that something is said about; ``text`` is None where there are too many comments already."""

    severity: Severity
    text: str | None = None


Marks = dict[int, dict[int, Mark]]
"""Marks of one sheet by row (from 1) and column (from 0)."""


@dataclass
class Entry:
    """A row of the summary; ``target`` is sheet and cell that it links to, ``texts`` are as ``HEADINGS`` say."""

    severity: Severity
    texts: tuple[str, ...]
    count: int
    target: tuple[str, str] | None


@dataclass
class Remarks:
    """All that is said about a workbook."""

    title: str
    lines: list[str]
    marks: dict[str, Marks] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)


def make_remarks(
    findings: Sequence[Finding],
    *,
    filename: str,
    omitted: int = 0,
    header_rows: Mapping[str, int] | None = None,
) -> Remarks:
    """Return what ``findings`` say, with the marks of whole rows at column A and of whole columns at the header."""
    ordered = sorted(findings, key=lambda finding: list(Severity).index(finding.severity))
    sheets = list(dict.fromkeys(finding.sheet for finding in ordered))
    header_rows = header_rows or {}
    remarks = Remarks(clean_text(f"Findings in {filename}"), _summarise(ordered, omitted))
    comments = 0
    for finding in ordered:
        marks = remarks.marks.setdefault(finding.sheet, {})
        said = _say(finding)
        for row, column in _list_cells(finding, header_rows):
            cells = marks.setdefault(row, {})
            mark = cells.get(column)
            if mark is None:
                mark = cells[column] = Mark(finding.severity)
                comments += 1
                if comments <= MOST_COMMENTS:
                    mark.text = f"{HEADING}\n{said}"
            elif mark.text is not None and said not in mark.text:
                mark.text += f"\n{said}"
        remarks.entries.append(_make_entry(finding, header_rows, has_many_sheets=len(sheets) > 1))
    for marks in remarks.marks.values():
        for cells in marks.values():
            for mark in cells.values():
                if mark.text is not None:
                    mark.text = shorten(mark.text, LONGEST_COMMENT)
    return remarks


def list_severities(findings: Iterable[Finding]) -> dict[Severity, int]:
    """Return how many cells are concerned, by severity."""
    counts = dict.fromkeys(Severity, 0)
    for finding in findings:
        counts[finding.severity] += finding.count
    return counts


def clean_text(text: str) -> str:
    """Return ``text`` with a sign in place of each character that XML can't hold."""
    return _ILLEGAL.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def shorten(text: str, most: int) -> str:
    """Return ``text``, cut if it has more than ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def name_place(finding: Finding) -> str:
    """Return what a finding is about: a cell, a row, a column or the sheet."""
    if finding.cell:
        return finding.cell
    if finding.rows:
        return f"row {finding.rows[0]}"
    return "sheet" if finding.column is None else f"column {to_letters(finding.column)}"


def choose_name(taken: Iterable[str]) -> str:
    """Return a name for the summary sheet that no other sheet has."""
    folded = {name.casefold() for name in taken}
    names = (SHEET if number == 1 else f"{SHEET} ({number})" for number in range(1, len(folded) + 2))
    return next(name for name in names if name.casefold() not in folded)


def _summarise(findings: Sequence[Finding], omitted: int) -> list[str]:
    counts = list_severities(findings)
    told = [f"{count:,} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items() if count]
    if not told and not omitted:
        return ["Nothing is wrong with this file. It can be handed in as it is."]
    lines = [", ".join(told) + "." if told else ""]
    if omitted:
        lines[0] += f" {omitted:,} more are not listed: correct these first, and check again."
    lines.append(
        "Errors (red) must be corrected before a row can be handed in. "
        "Warnings (yellow) should be looked at. Notes (blue) say how something was understood."
    )
    lines.append("Click on a cell's name to go there. Its comment says the same. This sheet is not read.")
    return lines


def _say(finding: Finding) -> str:
    where = "" if finding.column is not None else ("The whole row: " if finding.rows else "")
    said = f"{finding.severity.capitalize()}: {where}{finding.message}"
    if finding.suggestion is not None:
        said += f"\nSuggestion: {finding.suggestion}"
    return clean_text(said)


def _list_cells(finding: Finding, header_rows: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """Yield the cells to mark; none outside of what a sheet can have."""
    if finding.column is None and not finding.rows:
        return
    column = finding.column or 0
    for row in finding.rows or [header_rows.get(finding.sheet, 1)]:
        if 1 <= row <= LAST_ROW and 0 <= column <= LAST_COLUMN:
            yield row, column


def _make_entry(finding: Finding, header_rows: Mapping[str, int], *, has_many_sheets: bool) -> Entry:
    row, column = next(_list_cells(finding, header_rows), (1, 0))
    place = f"{finding.sheet}!{name_place(finding)}" if has_many_sheets else name_place(finding)
    areas = finding.list_areas() if finding.count > 1 else []
    texts = (
        finding.severity.value,
        place,
        finding.field or "",
        shorten(finding.value or "", LONGEST_VALUE),
        finding.message,
        finding.suggestion or "",
        "",
        shorten(", ".join(areas), LONGEST_LIST),
    )
    cell = f"{to_letters(column)}{row}"
    return Entry(finding.severity, tuple(clean_text(text) for text in texts), finding.count, (finding.sheet, cell))
