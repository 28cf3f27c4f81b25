"""A sample sheet goes back to who sent it, with what is wrong marked at its place.

The rule this module guards: it is the very file that was sent. What is added is told apart from what was there, so
that a file that comes back marked, is corrected and sent again is not marked twice; see ``marked_xlsx`` and
``marked_ods`` for what that means in each format.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from datameta.sheets import marked_ods, marked_xlsx
from datameta.sheets.findings import Finding
from datameta.sheets.remarks import clean_text, make_remarks
from datameta.sheets.values import SheetError, to_letters

CSV_HEADINGS = (
    *("severity", "cell", "row", "column", "field", "value", "message", "suggestion", "count", "all cells"),
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def annotate(
    file: BinaryIO,
    output: BinaryIO,
    *,
    filename: str,
    findings: Sequence[Finding],
    omitted: int = 0,
    header_rows: Mapping[str, int] | None = None,
) -> str:
    """Write what is wrong with a sheet into it, and return the format written.

    ``file`` and ``output`` can be read and written at any place. ``omitted`` is how many cells have findings beyond
    those given; ``header_rows`` are by sheet, where findings about whole columns are marked. The answer is ``xlsx``,
    ``xlsm`` or ``ods``, or of text files ``csv``: the findings alone. Raises ``SheetError`` for a file that is not
    what its name says.
    """
    format = filename.rpartition(".")[2].lower()  # noqa: A001
    if format in ("csv", "tsv", "txt"):
        write_findings(findings, output)
        return "csv"
    remarks = make_remarks(findings, filename=filename, omitted=omitted, header_rows=header_rows)
    file.seek(0)
    writers = {"xlsx": marked_xlsx, "xlsm": marked_xlsx, "ods": marked_ods}
    if format not in writers:
        raise SheetError("Only xlsx, xlsm, ods, csv and tsv come back marked.", "unknown_format")
    try:
        writers[format].annotate_workbook(file, output, remarks)
    except (ValueError, LookupError):
        # Numbers and names that every spreadsheet program writes are not there.
        raise SheetError(
            "The file is not what spreadsheet programs write; it can't be marked.", "broken_file"
        ) from None
    return format


def write_findings(findings: Sequence[Finding], output: BinaryIO) -> None:
    """Write findings as csv (UTF-8 with its mark, RFC 4180); what could be a formula gets a leading apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(CSV_HEADINGS)
    for finding in findings:
        areas = " ".join(finding.list_areas())
        row = [
            finding.severity.value,
            finding.cell or "",
            str(finding.rows[0]) if finding.rows else "",
            "" if finding.column is None else to_letters(finding.column),
            finding.field or "",
            finding.value or "",
            finding.message,
            finding.suggestion or "",
            str(finding.count),
            areas,
        ]
        writer.writerow(clean_text(quote_formula(cell)) for cell in row)
    output.write(text.getvalue().encode("utf-8-sig"))


def quote_formula(text: str) -> str:
    """Return ``text`` so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
