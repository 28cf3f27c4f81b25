"""A technician's way with the command line and LibreOffice alone: template, ten mistakes, corrections, submission."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl

from tests.e2e.conftest import Served, run_datameta
from tests.sheets.libreoffice import Office, office

__all__ = ["office"]

ROWS = [
    ["T1", "2026-03-14", "720", "Illumina", "T1_R1.fq", None],
    ["T2", "2026-03-14", "7 20", "Illumina", "T2_R1.fq", None],
    ["T3", "14.03.2026", "720", "Illumina", "T3_R1.fq", None],
    ["T4", "2026-03-15", "720", "Ilumina", "T4_R1.fq", None],
    ["T5", "2026-03-15", None, "PacBio", "T5_R1.fq", None],
    ["T1", "2026-03-15", "720", "PacBio", "T6_R1.fq", None],
    ["T7", "2026-03-16", "720", "PacBio", "T7_R1.fq", "T7_R1.fq"],
    [date(2026, 9, 2), "2026-03-16", "720", "PacBio", "T8_R1.fq", None],
    ["T9", "2026-03-16", 720.4, "PacBio", "T9_R1.fq", None],
    ["T10", "2026-03-16", "#N/A", "PacBio", "T10_R1.fq", None],
]
FOUND = {
    "A2": "example_row",
    "A3": "not_unique_in_sheet",
    "C4": "regex_mismatch",
    "B5": "date_mismatch",
    "D6": "not_in_vocabulary",
    "C7": "mandatory_missing",
    "A8": "not_unique_in_sheet",
    "E9": "duplicate_file_reference",
    "F9": "duplicate_file_reference",
    "A10": "cell_date_partly_shown",
    "C11": "cell_rounded",
    "C12": "cell_error",
}
CORRECTIONS = {
    "C4": "720", "B5": "2026-03-14", "D6": "Illumina", "C7": "720", "A8": "T6", "F9": None, "A10": "T8", "C11": "720",
    "C12": "720",
}  # fmt: skip


def fill(template: Path, sheet: Path) -> None:
    """Type the rows below the example, as a spreadsheet program stores what is typed."""
    book = openpyxl.load_workbook(template)
    samples = book["Samples"]
    for number, row in enumerate(ROWS, 3):
        for column, value in enumerate(row, 1):
            cell = samples.cell(number, column, value)
            if isinstance(value, float):
                cell.number_format = "0"
            elif value == "#N/A":
                cell.data_type = "e"
            elif isinstance(value, date):
                cell.number_format = "d-mmm"
    book.save(sheet)


def list_cells(finding: dict[str, Any]) -> list[str]:
    """Return the cells of a finding; of a whole row, its first."""
    cells: list[str] = finding["cells"]
    return [f"A{finding['row']}"] if finding["column"] is None else cells


def test_a_technician_corrects_ten_mistakes_and_submits(served_demo: Served, office: Office, tmp_path: Path) -> None:
    environment = {"DATAMETA_URL": served_demo.address, "DATAMETA_TOKEN": served_demo.open_lab().token}

    def datameta(*words: str | Path, code: int = 0) -> Any:
        done = run_datameta(*words, variables=environment)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if "--json" in words else None

    template, sheet = tmp_path / "template.xlsx", tmp_path / "run.xlsx"
    datameta("template", "--to", template)
    fill(template, sheet)
    report = datameta("check", "--json", sheet, code=1)
    errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert {cell: finding["code"] for finding in errors for cell in list_cells(finding)} == FOUND
    assert len({finding["code"] for finding in errors}) == 10

    # What the technician sees on opening the marked workbook, and saves after correcting it.
    seen = office.convert(tmp_path / "run.checked.xlsx", "xlsx")
    book = openpyxl.load_workbook(seen)
    assert book.sheetnames[0] == "Findings"
    samples = book["Samples"]
    for cell in FOUND:
        assert samples[cell].fill.fgColor.rgb == "FFFFC9CE", cell
        assert samples[cell].comment is not None, cell
    assert samples["A4"].comment is None
    for cell, value in CORRECTIONS.items():
        samples[cell].value = value
        samples[cell].number_format = "@"
    samples.delete_rows(2)
    book.save(sheet)

    files = tmp_path / "reads"
    files.mkdir()
    for number in range(1, 11):
        (files / f"T{number}_R1.fq").write_text(f"@read{number}\n")
    assert datameta("check", "--json", sheet)["errors"] == 0
    said = datameta("submit", "--json", sheet, "--files", files, "--label", "Run")
    assert len(said["rows"]) == 10
    shown = served_demo.open_lab().call("GET", f"/submissions/{said['submission']['id']['site']}")
    assert (len(shown["metadatasetIds"]), len(shown["fileIds"]), shown["label"]) == (10, 10, "Run")
