"""What is wrong with a sheet, for people: a table on a terminal, else a line for each finding.

A finding is what the portal's report has, a ``SheetFinding``; those of this computer have the same keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from datameta.client.progress import make_printable

Finding: TypeAlias = dict[str, Any]

SEVERITIES = ("error", "warning", "note")
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
# A screen is no place for more; the annotated sheet and the lines for scripts have all.
TABLE_ROWS = 50
CELLS_WIDTH = 60


def make_error(
    code: str,
    message: str,
    cells: Sequence[Mapping[str, Any]],
    *,
    field: str | None = None,
    value: str | None = None,
    suggestion: str | None = None,
) -> Finding:
    """Return an error in cells of one column; each has ``sheet``, ``field``, ``column``, ``row`` and ``cell``."""
    first = {key: cells[0].get(key) if cells else None for key in ("sheet", "field", "column", "row", "cell")}
    first["field"] = first["field"] or field
    return {
        "severity": "error",
        "code": code,
        "message": message,
        **first,
        "value": value,
        "suggestion": suggestion,
        "count": max(1, len(cells)),
        "cells": join_cells(cells),
    }


def join_cells(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return cells of one column, or whole rows, in the order of rows, runs as ``B17:B19``."""
    runs: list[list[int]] = []
    column = ""
    for cell in cells:
        column = cell.get("column") or ""
        if runs and cell["row"] == runs[-1][1] + 1:
            runs[-1][1] = cell["row"]
        else:
            runs.append([cell["row"], cell["row"]])
    return [
        f"{column}{first}" if first == last and column else f"{column}{first}:{column}{last}" for first, last in runs
    ]


def summarise(report: Mapping[str, Any]) -> str:
    """Return a line that says how a check went."""
    found = [count_words(report[f"{severity}s"], severity) for severity in SEVERITIES if report[f"{severity}s"]]
    rows = f"{count_words(report['rows'], 'row')}, {report['goodRows']:,} good"
    return f"{rows}; {', '.join(found) or 'nothing to complain of'}"


def count_words(number: int, word: str) -> str:
    """Return ``1 row``, ``2 rows``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def print_findings(findings: Sequence[Finding], *, omitted: int = 0) -> None:
    """Write findings to standard output."""
    console = Console()
    several = len({finding["sheet"] for finding in findings}) > 1
    for severity in SEVERITIES:
        chosen = [finding for finding in findings if finding["severity"] == severity]
        if not chosen:
            continue
        if console.is_terminal:
            console.print(make_table(severity, chosen[:TABLE_ROWS], with_sheet=several))
            if len(chosen) > TABLE_ROWS:
                console.print(Text(f"… and {count_words(len(chosen) - TABLE_ROWS, f'other {severity}')}"))
        else:
            for finding in chosen:
                console.print(Text(make_line(finding)), soft_wrap=True)
    if omitted:
        console.print(Text(f"There are more: {count_words(omitted, 'cell')} with findings that are not listed."))


def make_table(severity: str, findings: Sequence[Finding], *, with_sheet: bool) -> Table:
    """Return findings of one severity as a table."""
    table = Table(title=f"{severity.capitalize()}s", title_style=STYLES[severity], title_justify="left", expand=False)
    table.add_column("cell", no_wrap=True)
    for header in ("field", "value", "what is wrong" if severity != "note" else "what was understood", "try"):
        table.add_column(header, overflow="fold")
    table.add_column("cells", justify="right")
    for finding in findings:
        texts = [
            describe_place(finding, with_sheet=with_sheet),
            finding["field"] or "",
            finding["value"] or "",
            finding["message"],
            finding["suggestion"] or "",
            f"{finding['count']:,}" if finding["count"] > 1 else "",
        ]
        table.add_row(*(Text(make_printable(text)) for text in texts))
    return table


def make_line(finding: Finding) -> str:
    """Return a finding as one line."""
    field = f"{finding['field']}: " if finding["field"] else ""
    value = "" if finding["value"] is None else f'"{finding["value"]}": '
    advice = f' Try: "{finding["suggestion"]}".' if finding["suggestion"] else ""
    cells = (
        f" ({count_words(finding['count'], 'cell')}: {join_briefly(finding['cells'])})" if finding["count"] > 1 else ""
    )
    place = describe_place(finding, with_sheet=True)
    return make_printable(f"{finding['severity']}: {place}: {field}{value}{finding['message']}{advice}{cells}")


def describe_place(finding: Finding, *, with_sheet: bool) -> str:
    """Return where a finding is: ``Samples!B17``, ``row 17``, ``column B``, or the sheet."""
    sheet = finding["sheet"] or ""
    if finding["cell"]:
        place = finding["cell"]
    elif finding["row"]:
        place = f"row {finding['row']}"
    elif finding["column"]:
        place = f"column {finding['column']}"
    else:
        return sheet or "the sheet"
    return f"{sheet}!{place}" if sheet and with_sheet else place


def join_briefly(cells: Sequence[str]) -> str:
    """Return a list of cells that is not too long."""
    text = ", ".join(cells)
    return text if len(text) <= CELLS_WIDTH else f"{text[:CELLS_WIDTH].rpartition(', ')[0]}, …"
