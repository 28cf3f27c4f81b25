"""A sheet comes back marked: all that was sent is still there, and what we added can be taken out again."""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from openpyxl import Workbook, load_workbook
from openpyxl.chart import BarChart, Reference
from openpyxl.comments import Comment
from openpyxl.formatting.rule import CellIsRule
from openpyxl.styles import Font, PatternFill
from openpyxl.workbook.defined_name import DefinedName
from openpyxl.worksheet.datavalidation import DataValidation

from datameta.sheets.annotate import annotate
from datameta.sheets.findings import Finding
from datameta.sheets.values import Severity, SheetError
from tests.sheets.libreoffice import Office, office
from tests.sheets.pictures import list_findings, write_filled

__all__ = ["office"]

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
RED, YELLOW, BLUE = "FFFFC9CE", "FFFFF3B8", "FFD6E8FA"
NAMES = ("Samples", "It's Ünïcode & <x>", "A name of thirty-one characters")


def mark(content: bytes, findings: Sequence[Finding], filename: str = "lab.xlsx", **more: Any) -> bytes:
    output = io.BytesIO()
    written = annotate(io.BytesIO(content), output, filename=filename, findings=findings, **more)
    assert written == {"tsv": "csv"}.get(filename[-3:], filename.rpartition(".")[2])
    return output.getvalue()


def find(row: int, column: int, severity: Severity = ERROR, *, sheet: str = "Samples", **more: Any) -> Finding:
    return Finding(severity, "code", "It is wrong.", sheet, column, "Field", **{"rows": [row], **more})


def save(workbook: Workbook) -> bytes:
    output = io.BytesIO()
    workbook.save(output)
    return output.getvalue()


def make_lab_book() -> bytes:
    """A workbook with all that a laboratory may have in one."""
    workbook = Workbook()
    for number, name in enumerate(NAMES):
        sheet = workbook.active if number == 0 else workbook.create_sheet()
        sheet.title = name
        for row in range(1, 8):
            for column in range(1, 6):
                sheet.cell(row, column, f"{row}/{column}")
    sheet = workbook["Samples"]
    sheet["B3"] = "=SUM(1,2)"
    sheet["C3"] = 0.25
    sheet["C3"].number_format = "0.00%"
    sheet["C4"].fill = PatternFill("solid", fgColor="FF00FF00")
    sheet["C4"].font = Font(bold=True, color="FFFF0000")
    sheet["C5"].comment = Comment("Ask Eva", "Lab")
    sheet["E5"].comment = Comment("Not ours", "Lab")
    sheet["D6"] = None
    sheet.column_dimensions["G"].number_format = "@"
    sheet.column_dimensions["B"].width = 33
    sheet.column_dimensions["E"].hidden = True
    sheet.row_dimensions[7].hidden = True
    sheet.freeze_panes = "B2"
    sheet.auto_filter.ref = "A1:E7"
    sheet.print_title_rows = "1:1"
    sheet.merge_cells("A10:B11")
    validation = DataValidation("list", formula1='"a,b"')
    validation.add("D2:D9")
    sheet.add_data_validation(validation)
    sheet.conditional_formatting.add("A1:A9", CellIsRule(operator="equal", formula=["1"], font=Font(bold=True)))
    chart = BarChart()
    chart.add_data(Reference(sheet, min_col=3, min_row=1, max_row=5))
    sheet.add_chart(chart, "J2")
    sheet["A2"].hyperlink = "https://example.org/"
    workbook[NAMES[1]].sheet_state = "hidden"
    workbook[NAMES[2]].print_area = "A1:B2"
    workbook.defined_names["lab_name"] = DefinedName("lab_name", attr_text="Samples!$B$2")
    workbook.active = 2
    workbook[NAMES[2]].sheet_view.tabSelected = True
    workbook["Samples"].sheet_view.tabSelected = False
    return save(workbook)


def read_parts(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def repack(content: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """Return a package with some of its parts changed."""
    parts = read_parts(content)
    change(parts)
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return output.getvalue()


def strip_styles(part: bytes) -> bytes:
    """Return a worksheet without what we may change: styles of cells, the drawing of comments, what is selected."""
    part = re.sub(rb'(<c [^>]*?) s="\d+"', rb"\1", part)
    part = re.sub(rb'<c r="[A-Z]+\d+"\s*/>', b"", part)
    part = re.sub(rb"<legacyDrawing [^>]*/>", b"", part)
    return part.replace(b' tabSelected="1"', b"")


def test_bad_cells_are_coloured_and_explained() -> None:
    findings = [
        find(3, 1, value="=1", suggestion="Illumina"),
        find(4, 2, WARNING),
        find(4, 3, NOTE),
        find(4, 3, ERROR, value="another"),
        find(2, 0, rows=[2, 3, 4]),
    ]
    sheet = load_workbook(io.BytesIO(mark(make_lab_book(), findings)))["Samples"]
    colours = {place: sheet[place].fill.fgColor.rgb for place in ("B3", "C4", "D4", "A2", "A3", "A4")}
    assert colours == {"B3": RED, "C4": YELLOW, "D4": RED, "A2": RED, "A3": RED, "A4": RED}
    assert sheet["B3"].comment.text == "DataMeta check:\nError: It is wrong.\nSuggestion: Illumina"
    assert sheet["D4"].comment.text == "DataMeta check:\nError: It is wrong.\nNote: It is wrong."
    assert sheet["C4"].font.b
    assert sheet["B5"].fill.fill_type is None


def test_all_else_stays_as_it_was() -> None:
    before = make_lab_book()
    after = mark(before, [find(3, 1), find(3, 2), find(4, 2), find(5, 2), find(6, 3), find(9, 6), find(90, 30)])
    old, new = read_parts(before), read_parts(after)
    assert set(old) <= set(new)
    ours = {"xl/styles.xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "[Content_Types].xml"}
    changed = {name for name, content in old.items() if new[name] != content} - ours
    assert all(re.search(r"_rels/|worksheets/sheet\d|comments/|comment|legacyDrawing", name) for name in changed)
    for name in ("xl/worksheets/sheet2.xml", "xl/worksheets/sheet3.xml"):
        assert strip_styles(new[name]) == strip_styles(old[name])
    first = strip_styles(new["xl/worksheets/sheet1.xml"])
    first = first.replace(b'<row r="9"></row>', b"").replace(b'<row r="90"></row>', b"")
    assert re.sub(rb' spans="[^"]*"', b"", first) == re.sub(
        rb' spans="[^"]*"', b"", strip_styles(old["xl/worksheets/sheet1.xml"])
    )
    workbook, was = load_workbook(io.BytesIO(after)), load_workbook(io.BytesIO(before))
    assert workbook.sheetnames == ["Findings", *NAMES]
    sheet = workbook["Samples"]
    assert sheet["B3"].value == "=SUM(1,2)"
    assert sheet["C3"].number_format == "0.00%"
    assert sheet["G9"].number_format == "@"
    assert sheet["C5"].comment.text == "Ask Eva\n\nDataMeta check:\nError: It is wrong."
    assert sheet["C5"].comment.author == "Lab"
    assert sheet["E5"].comment.text == "Not ours"
    assert sheet.freeze_panes == "B2"
    assert sheet.print_title_rows == was["Samples"].print_title_rows
    assert workbook[NAMES[2]].print_area == was[NAMES[2]].print_area
    assert workbook[NAMES[1]].sheet_state == "hidden"
    assert workbook.defined_names["lab_name"].attr_text == "Samples!$B$2"
    selected = [each.title for each in workbook if each.sheet_view.tabSelected]
    assert selected == ["Findings"]
    assert len(sheet._charts) == 1


def test_the_summary_lists_everything() -> None:
    findings = [
        find(3, 1, value="=HYPERLINK(1)", suggestion="+1"),
        find(4, 2, WARNING, rows=[4, 5, 6, 9]),
        Finding(NOTE, "c", "A column.", "Samples", 2),
        Finding(ERROR, "c", "A row.", "Samples", rows=[7]),
        Finding(ERROR, "c", "A sheet.", "Samples"),
        find(1, 1, sheet=NAMES[1]),
        find(1, 1, sheet="Gone"),
    ]
    content = mark(make_lab_book(), findings, header_rows={"Samples": 1}, omitted=3)
    workbook = load_workbook(io.BytesIO(content))
    sheet = workbook["Findings"]
    assert sheet["A1"].value == "Findings in lab.xlsx"
    assert sheet["A2"].value.startswith("5 errors, 4 warnings, 1 note. 3 more are not listed")
    rows = [[cell.value for cell in row] for row in sheet.iter_rows(min_row=6)]
    assert rows[0] == ["Severity", "Cell", "Field", "Value", "Message", "Suggestion", "Count", "All cells"]
    assert rows[1] == ["error", "Samples!B3", "Field", "=HYPERLINK(1)", "It is wrong.", "+1", 1, None]
    assert sheet["D7"].data_type == "s"
    by_cell = {row[1]: row for row in rows[1:]}
    assert by_cell["Samples!C4"][6:] == [4, "C4:C6, C9"]
    cells = [row[1] for row in sheet.iter_rows(min_row=7)]
    located = {cell.value: cell.hyperlink and cell.hyperlink.location for cell in cells}
    assert located["Samples!row 7"] == "'Samples'!A7"
    assert located["Samples!column C"] == "'Samples'!C1"
    assert located["Samples!sheet"] == "'Samples'!A1"
    assert located[f"{NAMES[1]}!B1"] == "'It''s Ünïcode & <x>'!B1"
    assert located["Gone!B1"] is None
    assert sheet.auto_filter.ref == "A6:H13"
    assert sheet.freeze_panes == "A7"
    assert workbook["Samples"]["C1"].fill.fgColor.rgb == BLUE
    assert workbook["Samples"]["A7"].comment.text == "DataMeta check:\nError: The whole row: A row."
    name = workbook.defined_names["_datameta_findings"]
    assert (name.attr_text, name.hidden) == ("'Findings'!$A$1", True)


def test_nothing_wrong_is_said_so() -> None:
    for content, filename in ((make_lab_book(), "lab.xlsx"), (make_ods(), "lab.ods")):
        after = mark(content, [], filename)
        text = "".join(part.decode("utf-8", "replace") for part in read_parts(after).values())
        assert "Nothing is wrong with this file." in text
        assert "DataMeta check:" not in text


def test_twice_is_once() -> None:
    findings = [find(3, 1), find(4, 2), find(5, 2, WARNING), find(9, 6), find(1, 3, sheet=NAMES[2])]
    once = mark(make_lab_book(), findings)
    twice = mark(once, findings)
    assert read_parts(twice) == read_parts(once)


def test_what_we_marked_is_taken_out_again() -> None:
    before = make_lab_book()
    marked = mark(before, [find(3, 1), find(4, 2), find(5, 2), find(6, 3), find(9, 6)])
    after = mark(marked, [find(2, 4)])
    workbook, was = load_workbook(io.BytesIO(after)), load_workbook(io.BytesIO(before))
    sheet, old = workbook["Samples"], was["Samples"]
    for row in range(1, 12):
        for column in range(1, 9):
            cell, former = sheet.cell(row, column), old.cell(row, column)
            if cell.coordinate == "E2":
                assert cell.fill.fgColor.rgb == RED
                continue
            assert repr(cell.fill) == repr(former.fill), cell.coordinate
            assert repr(cell.font) == repr(former.font)
            assert cell.value == former.value
            assert (cell.comment and cell.comment.text) == (former.comment and former.comment.text)
    shapes = read_parts(after)
    (drawing,) = [part for name, part in shapes.items() if name.endswith(".vml")]
    assert len(re.findall(rb'ObjectType="Note"', drawing)) == 3


def test_a_name_that_is_taken_is_not_taken() -> None:
    workbook = Workbook()
    workbook.active.title = "findings"
    workbook.create_sheet("Findings (2)")
    content = mark(save(workbook), [find(1, 0, sheet="findings")])
    again = load_workbook(io.BytesIO(mark(content, [])))
    assert again.sheetnames == ["Findings (3)", "findings", "Findings (2)"]


def test_macros_stay() -> None:
    macros = bytes(range(256)) * 20

    def add(parts: dict[str, bytes]) -> None:
        parts["xl/vbaProject.bin"] = macros
        types = parts["[Content_Types].xml"].replace(b"spreadsheetml.sheet.main+xml", b"sheet.macroEnabled.main+xml")
        parts["[Content_Types].xml"] = types.replace(
            b"</Types>", b'<Default Extension="bin" ContentType="application/vnd.ms-office.vbaProject"/></Types>'
        )

    content = mark(repack(make_lab_book(), add), [find(2, 2)], "lab.xlsm")
    parts = read_parts(content)
    assert parts["xl/vbaProject.bin"] == macros
    assert b"macroEnabled" in parts["[Content_Types].xml"]


@pytest.mark.parametrize("value", ["a\x00b\x1f", "\ud800", "\ufffe", "<b>&\"'", "_x0041_", "x\r\ny\tz", " a  b "])
def test_strange_values_are_shown(value: str) -> None:
    expected = re.sub("[\x00\x1f\ud800\ufffe]", "\ufffd", value).replace("\r\n", "\n")
    finding = find(2, 2, value=value, suggestion=value)
    sheet = load_workbook(io.BytesIO(mark(make_lab_book(), [finding])))["Findings"]
    assert sheet["D7"].value in (expected, expected.replace("_x", "_x005F_x"))
    ods = read_ods(mark(make_ods(), [finding], "lab.ods"))
    assert ods["Findings"][6][3] == expected
    row = read_csv(mark(b"", [finding], "lab.csv"))[1]
    assert row[5].replace("\r\n", "\n") == expected


def test_text_files_get_a_list_of_findings() -> None:
    findings = [
        find(17, 1, value="=cmd()", suggestion="+1"),
        find(3, 0, WARNING, rows=[3, 4, 9], value="-x"),
        Finding(NOTE, "c", "@home", "", rows=[5]),
        Finding(NOTE, "c", "\tTab", ""),
    ]
    for filename in ("lab.csv", "lab.tsv"):
        content = mark(b"anything", findings, filename)
        assert content.startswith(b"\xef\xbb\xbf")
        assert read_csv(content) == [
            ["severity", "cell", "row", "column", "field", "value", "message", "suggestion", "count", "all cells"],
            ["error", "B17", "17", "B", "Field", "'=cmd()", "It is wrong.", "'+1", "1", "B17"],
            ["warning", "A3", "3", "A", "Field", "'-x", "It is wrong.", "", "3", "A3:A4 A9"],
            ["note", "", "5", "", "", "", "'@home", "", "1", "5:5"],
            ["note", "", "", "", "", "", "'\tTab", "", "1", ""],
        ]


def read_csv(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_cells_outside_of_any_sheet_are_in_the_summary_only() -> None:
    findings = [find(0, 0), find(1_048_577, 0), find(1, 16_384), find(1_048_576, 16_383)]
    workbook = load_workbook(io.BytesIO(mark(make_lab_book(), findings)))
    assert workbook["Samples"]["XFD1048576"].fill.fgColor.rgb == RED
    assert workbook["Findings"].max_row == 10


def test_files_of_other_makers() -> None:
    """Prefixes, no styles, rows without numbers, cells without addresses, single tags, UTF-16, and no drawing."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    sheet = (
        f'<?xml version="1.0" encoding="UTF-16"?><x:worksheet xmlns:x="{main}"><x:sheetData><x:row><x:c><x:v>1</x:v>'
        "</x:c><x:c t='n'/></x:row><x:row r='4'/></x:sheetData><x:extLst/></x:worksheet>"
    )

    def change(parts: dict[str, bytes]) -> None:
        for name in ("xl/styles.xml", "docProps/app.xml"):
            del parts[name]
        relations = parts["xl/_rels/workbook.xml.rels"]
        parts["xl/_rels/workbook.xml.rels"] = re.sub(rb"<Relationship [^>]*styles[^>]*/>", b"", relations)
        parts["_rels/.rels"] = re.sub(rb"<Relationship [^>]*extended[^>]*/>", b"", parts["_rels/.rels"])
        types = re.sub(rb"<Override [^>]*(styles|app)\.xml[^>]*/>", b"", parts["[Content_Types].xml"])
        parts["[Content_Types].xml"] = types
        parts["xl/worksheets/sheet1.xml"] = sheet.encode("utf-16")

    workbook = Workbook()
    workbook.active.title = "Samples"
    content = repack(save(workbook), change)
    places = [(1, 1), (1, 3), (2, 0), (4, 2), (9, 0)]
    marked = mark(content, [find(row, column) for row, column in places])
    found = load_workbook(io.BytesIO(marked))["Samples"]
    assert found["A1"].value == 1
    coloured = {(cell.row, cell.column - 1) for row in found for cell in row if cell.fill.fgColor.rgb == RED}
    assert coloured == set(places)
    assert read_parts(marked)["xl/worksheets/sheet1.xml"].index(b"legacyDrawing") > 0
    again = read_parts(mark(marked, [find(row, column) for row, column in places]))
    assert again["xl/worksheets/sheet1.xml"].decode() == read_parts(marked)["xl/worksheets/sheet1.xml"].decode()
    assert again == read_parts(marked)


def test_an_empty_sheet_can_be_marked() -> None:
    workbook = Workbook()
    workbook.active.title = "Samples"
    found = load_workbook(io.BytesIO(mark(save(workbook), [find(2, 1), find(5, 0)])))["Samples"]
    assert {found["B2"].fill.fgColor.rgb, found["A5"].fill.fgColor.rgb} == {RED}


@pytest.mark.parametrize(
    ("filename", "content", "code"),
    [
        ("lab.xlsx", b"no zip", "broken_file"),
        ("lab.ods", b"no zip", "broken_file"),
        ("lab.xls", b"", "unknown_format"),
        ("lab", b"", "unknown_format"),
    ],
)
def test_what_is_no_workbook_is_refused(filename: str, content: bytes, code: str) -> None:
    with pytest.raises(SheetError) as caught:
        mark(content, [], filename)
    assert caught.value.code == code


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "xl/styles.xml", "content.xml"])
@pytest.mark.parametrize(
    ("text", "code"),
    [(b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "dtd_refused"), (b"<a><b></a>", "broken_file"),
     (b"", "broken_file")],
)  # fmt: skip
def test_broken_parts_are_refused(part: str, text: bytes, code: str) -> None:
    content, filename = (make_ods(), "lab.ods") if part == "content.xml" else (make_lab_book(), "lab.xlsx")
    broken = repack(content, lambda parts: parts.update({part: text}))
    with pytest.raises(SheetError) as caught:
        mark(broken, [find(2, 2)], filename)
    assert caught.value.code == code


# ods

CONTENT = (
    '<?xml version="1.0" encoding="UTF-8"?><office:document-content office:version="1.3" '
    + " ".join(
        f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for prefix, name in [
            *(("office", "office"), ("table", "table"), ("text", "text"), ("style", "style")),
            *(("fo", "xsl-fo-compatible"), ("number", "datastyle")),
        ]
    )
    + ">{styles}<office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body></office:document-content>"
)
STYLES = (
    '<office:automatic-styles><style:style style:name="ce1" style:family="table-cell" '
    'style:parent-style-name="Default"><style:table-cell-properties fo:background-color="#00ff00"/>'
    '<style:text-properties fo:font-weight="bold"/></style:style><style:style style:name="ce2" '
    'style:family="table-cell"/></office:automatic-styles>'
)
COMMENT = "<office:annotation><text:p>Ask <text:span>Eva</text:span></text:p></office:annotation>"
TABLES = (
    '<table:table table:name="Samples"><table:table-column table:number-columns-repeated="2" '
    'table:default-cell-style-name="ce2"/><table:table-column/>'
    '<table:table-row><table:table-cell office:value-type="string"><text:p>A</text:p></table:table-cell>'
    '<table:table-cell table:style-name="ce1" table:number-columns-repeated="3" office:value-type="string">'
    f"{COMMENT}<text:p>=&lt;b</text:p></table:table-cell></table:table-row>"
    '<table:table-row table:number-rows-repeated="5"><table:table-cell office:value-type="float" office:value="7">'
    "<text:p>7</text:p></table:table-cell><table:table-cell/><table:covered-table-cell/></table:table-row>"
    '<table:table-row/></table:table><table:table table:name="It\'s"><table:table-row><table:table-cell/>'
    "</table:table-row></table:table>"
)


def make_ods(styles: str = STYLES, tables: str = TABLES) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", CONTENT.format(styles=styles, tables=tables))
        archive.writestr("other/picture.png", b"\x89PNG")
        archive.writestr("META-INF/manifest.xml", MANIFEST)
    return output.getvalue()


MANIFEST = (
    '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0" manifest:version="1.3">'
    '<manifest:file-entry manifest:full-path="/" '
    'manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/>'
    '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>'
)
SPACES = {
    "table": "urn:oasis:names:tc:opendocument:xmlns:table:1.0",
    "text": "urn:oasis:names:tc:opendocument:xmlns:text:1.0",
    "office": "urn:oasis:names:tc:opendocument:xmlns:office:1.0",
}


def name(prefix: str, local: str) -> str:
    return f"{{{SPACES[prefix]}}}{local}"


def read_paragraph(element: ElementTree.Element) -> str:
    text = element.text or ""
    for child in element:
        if child.tag == name("text", "s"):
            text += " " * int(child.get(name("text", "c"), "1"))
        text += "\t" if child.tag == name("text", "tab") else read_paragraph(child)
        text += child.tail or ""
    return text


def read_cells(content: bytes) -> dict[str, list[list[tuple[str, str, str]]]]:
    """Return text, style and comment of each cell by sheet, everything repeated written out."""
    root = ElementTree.fromstring(read_parts(content)["content.xml"])
    found = {}
    for table in root.iter(name("table", "table")):
        rows = []
        for row in table.iter(name("table", "table-row")):
            cells = []
            for cell in row:
                text = "\n".join(read_paragraph(each) for each in cell.findall("text:p", SPACES))
                said = "\n".join(read_paragraph(each) for each in cell.findall("office:annotation/text:p", SPACES))
                entry = text, cell.get(name("table", "style-name"), ""), said
                cells += [entry] * int(cell.get(name("table", "number-columns-repeated"), "1"))
            rows += [cells] * int(row.get(name("table", "number-rows-repeated"), "1"))
        found[table.get(name("table", "name"), "")] = rows
    return found


def read_ods(content: bytes) -> dict[str, list[list[str]]]:
    return {sheet: [[cell[0] for cell in row] for row in rows] for sheet, rows in read_cells(content).items()}


ODS_FINDINGS = [
    find(1, 2, suggestion="x"),
    find(3, 0, WARNING),
    find(3, 2),
    find(4, 1, NOTE),
    find(7, 1),
    find(7, 4),
    find(12, 1),
    find(1, 0, sheet="It's"),
]


def test_ods_comes_back_marked() -> None:
    before = make_ods()
    after = mark(before, ODS_FINDINGS, "lab.ods")
    old, new = read_cells(before), read_cells(after)
    assert list(new) == ["Findings", "Samples", "It's"]
    rows = new["Samples"]
    assert rows[0][1] == old["Samples"][0][1]
    comment = "DataMeta check:\nError: It is wrong."
    assert rows[0][2] == ("=<b", "DataMeta.error.ce1", f"Ask Eva\n\n{comment}\nSuggestion: x")
    assert rows[0][3] == ("=<b", "ce1", "Ask Eva")
    assert rows[1] == old["Samples"][1]
    assert rows[2][0] == ("7", "DataMeta.warning.ce2", "DataMeta check:\nWarning: It is wrong.")
    assert rows[2][2] == ("", "DataMeta.error.Default", comment)
    assert rows[3][1] == ("", "DataMeta.note.ce2", "DataMeta check:\nNote: It is wrong.")
    assert rows[4:6] == old["Samples"][4:6]
    assert rows[6] == [("", "", ""), ("", "DataMeta.error.ce2", comment), *[("", "", "")] * 2,
                       ("", "DataMeta.error.Default", comment)]  # fmt: skip
    assert rows[7:11] == [[("", "", "")]] * 4
    assert rows[11][1][2] == comment
    assert new["It's"][0][0][2] == comment
    content = read_parts(after)["content.xml"].decode()
    assert "xlink:href=\"#'It''s'.A1\"" in content
    style = re.search('<style:style[^>]*style:name="DataMeta.error.ce1".*?</style:style>', content)
    assert style is not None
    assert 'background-color="#ffc9ce"' in style[0]
    assert 'font-weight="bold"' in style[0]
    with zipfile.ZipFile(io.BytesIO(after)) as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        assert archive.read("other/picture.png") == b"\x89PNG"


def test_ods_twice_is_once() -> None:
    once = mark(make_ods(), ODS_FINDINGS, "lab.ods")
    assert read_parts(mark(once, ODS_FINDINGS, "lab.ods")) == read_parts(once)


def test_ods_what_we_marked_is_taken_out_again() -> None:
    before = make_ods()
    after = mark(mark(before, ODS_FINDINGS, "lab.ods"), [], "lab.ods")
    old, new = read_cells(before), read_cells(after)
    assert new["Samples"][0] == old["Samples"][0]
    for sheet in ("Samples", "It's"):
        for row, former in zip(new[sheet], old[sheet], strict=False):
            # Cells that stood for themselves have none of ours; the style of a column is written out.
            assert [cell[0] for cell in row][: len(former)] == [cell[0] for cell in former]
            assert not any("DataMeta" in text for cell in row for text in cell)


@pytest.mark.parametrize("styles", ["", "<office:automatic-styles/>"])
def test_ods_without_styles_and_with_other_tables(styles: str) -> None:
    tables = (
        '<table:tracked-changes><table:cell-content-change table:id="1"><table:previous><table:change-track-table-cell>'
        "<text:p>x</text:p></table:change-track-table-cell></table:previous></table:cell-content-change>"
        '</table:tracked-changes><table:table table:name="Samples"><table:table-row-group><table:table-row>'
        '<table:table-cell><table:table table:is-sub-table="true"><table:table-row><table:table-cell/>'
        "</table:table-row></table:table></table:table-cell></table:table-row></table:table-row-group></table:table>"
        "<table:named-expressions/><table:database-ranges/><table:dde-links><table:dde-link><table:table>"
        "<table:table-row><table:table-cell/></table:table-row></table:table></table:dde-link></table:dde-links>"
    )
    content = mark(make_ods(styles, tables), [find(1, 0)], "lab.ods")
    text = read_parts(content)["content.xml"].decode()
    assert text.count("<office:annotation ") == 1
    assert text.count("<table:named-expressions>") <= 1
    assert read_parts(mark(content, [find(1, 0)], "lab.ods")) == read_parts(content)


def test_ods_opens_at_the_summary() -> None:
    space = "urn:oasis:names:tc:opendocument:xmlns:config:1.0"
    settings = (
        f'<config:settings xmlns:config="{space}"><config:config-item-map-named config:name="Forms"/>'
        '<config:config-item config:name="ActiveTable" config:type="string">Samples</config:config-item>'
        '<config:config-item-map-named config:name="Tables"><config:config-item-map-entry config:name="Samples"/>'
        "</config:config-item-map-named></config:settings>"
    )
    content = repack(make_ods(), lambda parts: parts.update({"settings.xml": settings.encode()}))
    once = mark(content, ODS_FINDINGS, "lab.ods")
    root = ElementTree.fromstring(read_parts(once)["settings.xml"])
    assert [item.text for item in root if item.get(f"{{{space}}}name") == "ActiveTable"] == ["Findings"]
    entries = [each.get(f"{{{space}}}name") for each in root.iter(f"{{{space}}}config-item-map-entry")]
    assert entries == ["Samples", "Findings"]
    assert read_parts(mark(once, ODS_FINDINGS, "lab.ods")) == read_parts(once)


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("xl/worksheets/sheet1.xml", b'<row r="3"', b'<row r="three"'),
        ("xl/worksheets/sheet1.xml", b'<c r="C2"', b'<c s="x" r="C2"'),
        ("xl/workbook.xml", b'sheetId="1"', b'sheetId="one"'),
        ("content.xml", b'number-rows-repeated="5"', b'number-rows-repeated="five"'),
    ],
)
def test_numbers_that_are_none_are_refused(part: str, old: bytes, new: bytes) -> None:
    content, filename = (make_ods(), "lab.ods") if part == "content.xml" else (make_lab_book(), "lab.xlsx")
    assert old in read_parts(content)[part]
    broken = repack(content, lambda parts: parts.update({part: parts[part].replace(old, new)}))
    with pytest.raises(SheetError) as caught:
        mark(broken, [find(2, 2)], filename)
    assert caught.value.code == "broken_file"


# LibreOffice


def test_libreoffice_shows_the_annotated_workbook(office: Office, tmp_path: Path) -> None:
    filled = io.BytesIO()
    write_filled(filled)
    file = tmp_path / "samples.xlsx"
    file.write_bytes(mark(filled.getvalue(), list_findings(), "samples.xlsx"))
    with office.convert(file, "csv", sheet=1).open(encoding="utf-8", newline="") as text:
        rows = list(csv.reader(text))
    assert rows[0][0] == "Findings in samples.xlsx"
    assert rows[6][:7] == ["error", "B3", "Barcode", "1O2", "Three digits.", "", "1"]
    assert len(rows) == 6 + len(list_findings())
    for kind in ("xlsx", "ods"):
        converted = office.convert(file, kind)
        if kind == "ods":
            # The ods is marked anew, and read by LibreOffice again.
            marked = tmp_path / "again.ods"
            marked.write_bytes(mark(converted.read_bytes(), list_findings(), "again.ods"))
            converted = office.convert(marked, "xlsx")
        workbook = load_workbook(converted)
        assert workbook.sheetnames == ["Findings", "Samples", "Fields", "Lists", "_datameta"]
        sheet = workbook["Samples"]
        message = "This is none of the allowed words. Did you mean “Illumina”?"
        said = f"DataMeta check:\nError: {message}\nSuggestion: Illumina"
        assert sheet["E4"].comment.text == said
        assert sheet["E4"].fill.fgColor.rgb == RED
        assert sheet["I8"].fill.fgColor.rgb == YELLOW
        assert sheet["E5"].fill.fill_type is None
        assert len(sheet.data_validations.dataValidation) == 4
        if kind == "xlsx":
            assert workbook["Findings"].auto_filter.ref == f"A6:H{6 + len(list_findings())}"
        assert workbook["Findings"]["B7"].hyperlink.location is not None
        assert "_datameta_findings" in workbook.defined_names


def test_what_libreoffice_saved_is_cleaned_too(office: Office, tmp_path: Path) -> None:
    filled = io.BytesIO()
    write_filled(filled)
    for kind in ("xlsx", "ods"):
        file = tmp_path / "samples.xlsx"
        file.write_bytes(mark(filled.getvalue(), list_findings(), "samples.xlsx"))
        saved = office.convert(file, kind)
        cleaned = tmp_path / f"cleaned.{kind}"
        cleaned.write_bytes(mark(saved.read_bytes(), [], cleaned.name))
        workbook = load_workbook(office.convert(cleaned, "xlsx"))
        assert workbook.sheetnames == ["Findings", "Samples", "Fields", "Lists", "_datameta"]
        sheet = workbook["Samples"]
        marked = [cell.coordinate for row in sheet.iter_rows(min_row=2) for cell in row if cell.fill.fill_type]
        assert marked == []
        assert not [cell.coordinate for row in sheet.iter_rows(min_row=2) for cell in row if cell.comment]
        assert sheet["A1"].comment.text.startswith("The name of the sample")
