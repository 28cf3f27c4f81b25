"""The pictures of docs/sheets.md: real files, as LibreOffice shows them. Run as ``python -m tests.sheets.pictures``."""

import io
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from lxml import etree
from openpyxl import Workbook, load_workbook

from datameta.sheets.annotate import annotate
from datameta.sheets.check import run
from datameta.sheets.findings import Finding
from datameta.sheets.reader import open_workbook
from datameta.sheets.template import example_row, template_version, write_template
from tests.sheets.books import BOOK
from tests.sheets.libreoffice import Office

DOCS = Path(__file__).parents[2] / "docs" / "pictures"

ROWS = (
    ("LAB-001", "101", "2024-03-01", "female", "Illumina", 34, 12.5, "01.04.2024 14:30", "TP53", "LAB-001_R1.fastq.gz"),
    ("LAB-002", "1O2", "2024-03-01", "male", "Illumina", 51, 8.1, "01.04.2024 14:30", "BRCA1", "LAB-002_R1.fastq.gz"),
    ("LAB-003", "103", "01/03/2024", "female", "Ilumina", 29, 9.9, "01.04.2024 14:30", "SEPT2", "LAB-003_R1.fastq.gz"),
    ("LAB-004", "104", "2024-03-02", "F", "PacBio", 340, 11.0, "01.04.2024 14:30", "MARCH1", "LAB-004_R1.fastq.gz"),
    ("LAB-005", "", "2024-03-02", "male", "PacBio", 44, 10.4, "02.04.2024 09:15", "TP53", "LAB-005_R1.fastq.gz"),
    ("LAB-005", "106", "2024-03-02", "male", "PacBio", "", 13.7, "02.04.2024 09:15", "TP53", "LAB-006_R1.fastq.gz"),
    ("LAB-007", "107", "2024-03-03", "female", "ONT", 62, "12,5", "02.04.2024 09:15", "EGFR ", "LAB-007_R1.fastq"),
    ("LAB-008", "108", "2024-03-03", "female", "Illumina", 38, 9.2, "02.04.2024 09:15", "KRAS", "LAB-008_R1.fastq.gz"),
)  # fmt: skip
"""What a laboratory has filled in, with ten mistakes."""


def list_findings() -> list[Finding]:
    """Return what the portal finds in ``ROWS``, but for what only its database knows."""
    filled = io.BytesIO()
    write_filled(filled)
    filled.seek(0)
    example = {field.name: text for field, text in zip(BOOK.fields_of(None), example_row(BOOK), strict=True) if text}
    findings: list[Finding] = []
    for said in run(open_workbook(filled, "samples.xlsx"), {"rulebook": BOOK.to_json(), "example": example}):
        findings += map(Finding.from_json, said.get("findings", ()))
    return findings


def write_filled(output: io.BytesIO) -> None:
    """Write the template as a laboratory fills it in: typed text, beside real dates and numbers."""
    empty = io.BytesIO()
    version = template_version(BOOK)
    write_template(BOOK, site_name="Example Site", version=version, output=empty, format="xlsx")
    workbook: Workbook = load_workbook(empty)
    sheet = workbook["Samples"]
    sheet["A2"].comment = None
    for number, values in enumerate(ROWS, 2):
        for column, value in enumerate(values, 1):
            cell = sheet.cell(number, column, value or None)
            cell._style = sheet.column_dimensions[cell.column_letter]._style
    workbook.save(output)


def write_annotated(output: io.BytesIO) -> None:
    """Write the filled template as it comes back."""
    filled = io.BytesIO()
    write_filled(filled)
    annotate(filled, output, filename="samples.xlsx", findings=list_findings(), header_rows={"Samples": 1})


def show_comment(content: bytes, row: int, column: int) -> bytes:
    """Return a workbook with one comment open below its cell, as if the mouse rested there."""
    shown = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(shown, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            part = source.read(name)
            if name.endswith(".vml"):
                root = etree.fromstring(part)
                for data in root.iter("{*}ClientData"):
                    if (data.findtext("{*}Row"), data.findtext("{*}Column")) == (str(row), str(column)):
                        open_shape(data, row, column)
                part = etree.tostring(root)
            target.writestr(name, part)
    return shown.getvalue()


def open_shape(data: Any, row: int, column: int) -> None:
    """Make the shape of a comment visible; rows and columns count from 0."""
    shape = data.getparent()
    shape.set("style", shape.get("style").replace("visibility:hidden", "visibility:visible"))
    space = etree.QName(data).namespace
    for anchor in data.findall("{*}Anchor"):
        data.remove(anchor)
    anchor = etree.Element(f"{{{space}}}Anchor")
    lines = 6 if row == 0 else 4
    anchor.text = f"{column + 1}, 15, {row + 2}, 4, {column + 4}, 30, {row + 2 + lines}, 4"
    data.insert(2, anchor)
    data.append(etree.Element(f"{{{space}}}Visible"))


def crop(pdf: Path, page: int, title: str, area: tuple[int, int, int, int]) -> None:
    """Write a part of a page (left, top, width, height) as a picture."""
    left, top, width, height = map(str, area)
    command = ["pdftoppm", "-png", "-singlefile", "-r", "110", "-f", str(page), "-l", str(page)]
    command += ["-x", left, "-y", top, "-W", width, "-H", height]
    subprocess.run([*command, str(pdf), str(DOCS / title)], check=True)


def main() -> None:
    """Write the pictures: the template, the sheet that came back marked, and its summary."""
    DOCS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        office = Office(folder / "office")
        template, annotated = io.BytesIO(), io.BytesIO()
        version = template_version(BOOK)
        write_template(BOOK, site_name="Example Site", version=version, output=template, format="xlsx")
        write_annotated(annotated)
        file = folder / "sheet.xlsx"
        file.write_bytes(show_comment(template.getvalue(), 0, 5))
        crop(office.convert(file, "pdf"), 1, "template", (60, 90, 1090, 180))
        file.write_bytes(show_comment(annotated.getvalue(), 7, 4))
        pdf = office.convert(file, "pdf")
        crop(pdf, 1, "findings", (40, 55, 1130, 250))
        crop(pdf, 2, "annotated", (60, 90, 1090, 250))


if __name__ == "__main__":
    main()
