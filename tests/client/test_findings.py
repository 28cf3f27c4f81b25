"""What is wrong is told with its cell, in a line or in a table, and nothing of it steers the terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from datameta.client import findings
from datameta.client.findings import describe_place, make_error, make_line, print_findings, summarise


def make(**changes: Any) -> dict[str, Any]:
    finding = make_error(
        "regexp_mismatch",
        "Three digits.",
        [{"sheet": "Samples", "field": "ZIPCode", "column": "B", "row": 17, "cell": "B17"}],
    )
    return finding | changes


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "error: Samples!B17: ZIPCode: Three digits."),
        ({"value": "7a0", "suggestion": "720"}, 'error: Samples!B17: ZIPCode: "7a0": Three digits. Try: "720".'),
        ({"value": "7\x1b[2J"}, 'error: Samples!B17: ZIPCode: "7�[2J": Three digits.'),
        (
            {"count": 3, "cells": ["B17", "B19:B20"]},
            "error: Samples!B17: ZIPCode: Three digits. (3 cells: B17, B19:B20)",
        ),
        (
            {"count": 100, "cells": [f"B{row}" for row in range(17, 217, 2)]},
            "error: Samples!B17: ZIPCode: Three digits. "
            "(100 cells: B17, B19, B21, B23, B25, B27, B29, B31, B33, B35, B37, B39, …)",
        ),
        ({"cell": None, "field": None}, "error: Samples!row 17: Three digits."),
        ({"severity": "note", "sheet": ""}, "note: B17: ZIPCode: Three digits."),
    ],
)
def test_a_line_has_the_cell_and_the_way_out(changes: dict[str, Any], line: str) -> None:
    assert make_line(make(**changes)) == line


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, "Samples!B17"),
        ({"cell": None}, "Samples!row 17"),
        ({"cell": None, "row": None}, "Samples!column B"),
        ({"cell": None, "row": None, "column": None}, "Samples"),
        ({"cell": None, "row": None, "column": None, "sheet": None}, "the sheet"),
    ],
)
def test_a_place_is_a_cell_or_what_comes_next(changes: dict[str, Any], place: str) -> None:
    assert describe_place(make(**changes), with_sheet=True) == place


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ((12, 9, 4, 1, 0), "12 rows, 9 good; 4 errors, 1 warning"),
        ((1, 1, 0, 0, 2), "1 row, 1 good; 2 notes"),
        ((10_000, 10_000, 0, 0, 0), "10,000 rows, 10,000 good; nothing to complain of"),
    ],
)
def test_a_summary_counts_what_there_is(counts: tuple[int, ...], line: str) -> None:
    keys = ("rows", "goodRows", "errors", "warnings", "notes")
    assert summarise(dict(zip(keys, counts, strict=True))) == line


def test_lines_come_by_severity_and_are_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    long = make(message="word " * 100)
    print_findings([make(severity="note"), make(severity="warning"), long], omitted=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "warning", "note", "There are more"]


def test_on_a_terminal_there_are_tables_that_do_not_flood_it(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(findings, "Console", lambda: console)
    many = [make(cell=f"B{row}", value="[bold]7\x1b", suggestion="720") for row in range(1, 53)]
    print_findings([*many, make(severity="note", count=3, sheet="More", field=None)])
    text = output.getvalue()
    assert "Errors" in text
    assert "Samples!B50" in text
    assert "Samples!B51" not in text
    assert "… and 2 other errors" in text
    assert "[bold]7�" in text
    assert "what was understood" in text
