# ruff: noqa: E501
"""xlsx and xlsm: what each kind of cell and each number format shows, and every way to write the same workbook."""

import io
import re
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any
from xml.sax.saxutils import escape

import pytest

from datameta.sheets.formats import BUILT_IN
from datameta.sheets.limits import DEFAULT_LIMITS
from datameta.sheets.reader import open_workbook
from datameta.sheets.values import Fault, SheetError, Visibility
from tests.sheets.files import MACRO_TYPE, RELATIONS, Xlsx, cell, one_cell, read, read_cells, read_notices, row, text

FORMULA = "<f>1+1</f>"


def read_one(content: bytes) -> Any:
    return read_cells(content).get("A1")


@pytest.mark.parametrize(
    "value",
    ["007", "NA", "null", "None", "nan", "1e5", "1.0", "-0", "SEPT2", "MARCH1", "TRUE", "2024-01-31", " x ", "a  b",
     "a\nb", "a\tb", "=1+1", "'x", "+1", "@x", "日本", "🧬", "<&>\"'", "#N/A", "x" * 10_000],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["s", "inlineStr", "str"])
def test_text_stays_what_it_is(value: str, kind: str) -> None:
    inner = f'<t xml:space="preserve">{escape(value)}</t>'
    if kind == "s":
        content = Xlsx(row(1, cell("A1", "0", "s")), strings=[inner]).build()
    elif kind == "inlineStr":
        content = Xlsx(row(1, cell("A1", kind="inlineStr", inner=f"<is>{inner}</is>"))).build()
    else:
        content = one_cell(value, kind="str", inner="<f>A2</f>")
    assert read_one(content) == value


TEXTS: list[tuple[str, str | None]] = [
    ("<r><t>a</t></r><r><rPr><b/></rPr><t xml:space='preserve'> b</t></r>", "a b"),
    ("<t>東京</t><rPh sb='0' eb='2'><t>トウキョウ</t></rPh><phoneticPr fontId='1'/>", "東京"),
    ("<t></t>", None),
    ("<t/>", None),
    ("", None),
    ("<t>a_x000D__x000A_b</t>", "a\r\nb"),
    ("<t>_x005F_x0041_</t>", "_x0041_"),
    ("<t>_x0041_</t>", "!cell_ambiguous"),
    ("<t>_xD83E_</t>", "!cell_ambiguous"),
    ("<t>a_x0000_b</t>", "!cell_unseen_character"),
    ("<t>_x0007_</t>", "!cell_unseen_character"),
    ("<t>a&#x202E;b</t>", "!cell_unseen_character"),
    ("<t>a&#x200B;b</t>", "!cell_unseen_character"),
    ("<t>&#xA0;x</t>", "\u00a0x"),
    ("<t><![CDATA[<x>]]></t>", "<x>"),
    ("<t>a<!-- no -->b</t>", "ab"),
    (f"<t>{'x' * 10_001}</t>", "!cell_too_long"),
]


@pytest.mark.parametrize(("inner", "expected"), TEXTS)
def test_inline_strings(inner: str, expected: str | None) -> None:
    content = Xlsx(row(1, cell("A1", kind="inlineStr", inner=f"<is>{inner}</is>"), text("B1", "x"))).build()
    assert read_cells(content) == {"B1": "x"} | ({"A1": expected} if expected else {})


@pytest.mark.parametrize(("inner", "expected"), TEXTS)
def test_shared_strings(inner: str, expected: str | None) -> None:
    content = Xlsx(row(1, cell("A1", "1", "s"), cell("B1", "0", "s")), strings=["<t>first</t>", inner]).build()
    assert read_cells(content) == {"B1": "first"} | ({"A1": expected} if expected else {})


@pytest.mark.parametrize(
    ("raw", "kind", "inner", "expected"),
    [
        ("12", "", "", "12"),
        ("12", "n", "", "12"),
        ("12.0", "", "", "12"),
        ("1.2E1", "", "", "12"),
        ("007", "", "", "7"),
        ("-3", "", "", "-3"),
        ("-0", "", "", "0"),
        ("0", "", "", "0"),
        ("7.4", "", "", "7.4"),
        ("7.4000000000000004", "", "", "7.4"),
        ("0.30000000000000004", "", "", "0.3"),
        ("1.2100000000000002", "", "", "1.21"),
        ("1E-3", "", "", "0.001"),
        ("0.00001", "", "", "0.00001"),
        ("1.0000000000000001E-11", "", "", "1E-11"),
        ("100000", "", "", "100000"),
        ("123456789012345", "", "", "123456789012345"),
        ("999999999999999", "", "", "999999999999999"),
        ("1234567890123456", "", "", "!cell_too_many_digits"),
        ("1234567890123450000", "", "", "!cell_too_many_digits"),
        ("1E+20", "", "", "!cell_too_many_digits"),
        ("0.33333333333333331", "", "", "!cell_too_many_digits"),
        ("3.1415926535897931", "", "", "!cell_too_many_digits"),
        ("1E+999", "", "", "!cell_unreadable"),
        ("NaN", "", "", "!cell_unreadable"),
        ("inf", "", "", "!cell_unreadable"),
        ("x", "", "", "!cell_unreadable"),
        ("1,5", "", "", "!cell_unreadable"),
        ("1_000", "", "", "!cell_unreadable"),
        (" 1", "", "", "!cell_unreadable"),
        ("１", "", "", "!cell_unreadable"),
        ("1E+9999999999", "", "", "!cell_unreadable"),
        ("1", "b", "", "TRUE"),
        ("0", "b", "", "FALSE"),
        ("2", "b", "", "!cell_unreadable"),
        ("#N/A", "e", "", "!cell_error"),
        ("#DIV/0!", "e", FORMULA, "!cell_error"),
        ("#REF!", "e", FORMULA, "!cell_error"),
        ("2", "", FORMULA, "2"),
        ("x", "str", FORMULA, "x"),
        ("", "str", FORMULA, None),
        ("1", "b", FORMULA, "TRUE"),
        (None, "", FORMULA, "!cell_formula_without_value"),
        ("", "", FORMULA, "!cell_formula_without_value"),
        (None, "n", "<f t='shared' si='0'/>", "!cell_formula_without_value"),
        (None, "", "", None),
        ("", "", "", None),
        ("9", "s", "", "!cell_unreadable"),
        ("-1", "s", "", "!cell_unreadable"),
        ("x", "s", "", "!cell_unreadable"),
        ("1", "q", "", "!cell_unreadable"),
        ("2024-01-31", "d", "", date(2024, 1, 31)),
        ("2024-01-31T13:45:07", "d", "", datetime(2024, 1, 31, 13, 45, 7)),
        ("2024-02-30", "d", "", "!cell_unreadable"),
        ("2024-01-31T13:45:07Z", "d", "", "!cell_unreadable"),
    ],
)
def test_kinds_of_cells(raw: str | None, kind: str, inner: str, expected: Any) -> None:
    assert read_one(one_cell(raw, kind=kind, inner=inner)) == expected


NUMBERS: list[tuple[str, str, Any]] = [
    ("General", "7", "7"), ("general", "7.5", "7.5"), ("@", "7", "7"), ("@", "7.5", "7.5"), ('General "mg"', "7", "7 mg"),
    ("000", "7", "007"), ("00000", "1234", "01234"), ("000", "12345", "12345"), ("000", "-7", "-007"), ("000", "7.4", "!cell_rounded"),
    ("0000-0000", "12345678", "1234-5678"), ("00\\-00", "123", "01-23"), ('"S"000', "7", "S007"), ('"A-"0', "5", "A-5"), ("\\S0", "5", "S5"),
    ("0", "7", "7"), ("0", "7.4", "!cell_rounded"), ("0", "7.5", "!cell_rounded"), ("0", "0.4", "!cell_rounded"), ("0", "-7", "-7"),
    ("0.0", "7.4", "7.4"), ("0.0", "7", "7.0"), ("0.00", "7.4", "7.40"), ("0.00", "7.456", "!cell_rounded"), ("0.00", "-7.4", "-7.40"),
    ("0.00", "0.30000000000000004", "0.30"), ("0.00", "0.33333333333333331", "!cell_too_many_digits"),
    ("#", "7", "7"), ("#", "0", ""), ("#.##", "7.5", "7.5"), ("#.##", "7", "7"), ("#.00", "0.5", ".50"), ("0.##", "7.25", "7.25"), ("0.0#", "7", "7.0"),
    ("0.???", "7.5", "7.5"), ("??0", "7", "7"), ("#,##0", "1234567", "1234567"), ("#,##0.00", "1234.5", "1234.50"), ("#,##0", "12.5", "!cell_rounded"),
    ("0,", "12000", "!cell_format_unknown"), ("0.0,,", "12000000", "!cell_format_unknown"),
    ("0%", "0.12", "12%"), ("0%", "0.125", "!cell_rounded"), ("0.0%", "0.125", "12.5%"), ("0.00%", "1", "100.00%"), ("0 %", "0.5", "50 %"),
    ("0.00E+00", "100000", "1.00E+05"), ("0.00E+00", "123456", "!cell_rounded"), ("0.0E-0", "0.0005", "5.0E-4"), ("0E+0", "0", "0E+0"), ("0.00E+00", "-150", "-1.50E+02"),
    ("0.00E+00", "99999", "!cell_rounded"), ("0E+0", "1E+20", "1E+20"), ("##0.0E+0", "12345", "!cell_format_unknown"),
    ("# ?/?", "0.5", "!cell_format_unknown"), ("# ?/?", "3", "3"), ("# ??/??", "0.25", "!cell_format_unknown"),
    ('0.0 "mg"', "7.5", "7.5 mg"), ('0.0" µl"', "7.5", "7.5 µl"), ("0\\ \\°\\C", "37", "37 °C"), ('"$"0.00', "5", "$5.00"), ("[$€-407]0.00", "5", "€5.00"), ("0.00 [$€-1]", "5", "5.00 €"),
    ("[Red]0", "5", "5"), ("[Color 3]0", "5", "5"), ("[$-409]0.0", "5", "5.0"),
    ("0;0", "-5", "!cell_not_shown"), ("0;-0", "-5", "-5"), ("0.00;[Red]-0.00", "-5", "-5.00"), ("0;(0)", "-5", "(5)"), ("0;(0)", "5", "5"), ("0;-0;zero", "0", "!cell_format_unknown"),
    ('0;-0;"zero"', "0", "!cell_not_shown"), ('0;-0;"-"', "0", "-"), ("0;-0;0.0", "0", "0.0"), ("0;;", "-5", "!cell_not_shown"), (";;;", "5", "!cell_not_shown"), (";", "5", "!cell_not_shown"), (";;", "0", "!cell_not_shown"),
    ('"yes"', "1", "!cell_not_shown"), ('"yes";;"no"', "0", "!cell_not_shown"),
    ("[>100]0;0.0", "200", "200"), ("[>100]0;0.0", "20", "20.0"), ("[<0]0;0", "-5", "!cell_format_unknown"), ("[=1]\"one\";0", "1", "!cell_not_shown"),
    ("_(* #,##0.00_);_(* (#,##0.00);_(* \"-\"??_);_(@_)", "1234.5", "1234.50"), ("_(* #,##0.00_);_(* (#,##0.00);_(* \"-\"??_);_(@_)", "0", "-"),
    ("0", "1E+15", "!cell_too_many_digits"), (".00", "12.5", "!cell_format_unknown"), (".00", "0.5", ".50"), ("General0", "5", "!cell_format_unknown"), ("[>5]0;[>1]0.0", "0", "!cell_format_unknown"),
    ("0E+0,", "5", "5E+0"), ("0,E+0", "5", "!cell_format_unknown"), ("0.0.E+0", "5", "!cell_format_unknown"), ("0.00E+00", "1E+40", "1.00E+40"), ("0.00E+00", "1.2345E+40", "!cell_rounded"),
    ("[DBNum1]0", "5", "!cell_format_unknown"), ("[$-2000000]0", "5", "!cell_format_unknown"), ("0q0", "5", "!cell_format_unknown"), ("0.0.0", "5", "!cell_format_unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "raw", "expected"), NUMBERS)
def test_number_formats(code: str, raw: str, expected: Any) -> None:
    assert read_one(one_cell(raw, code)) == expected


DATES: list[tuple[str, str, Any]] = [
    ("yyyy-mm-dd", "45322", date(2024, 1, 31)), ("dd.mm.yyyy", "45322", date(2024, 1, 31)), ("m/d/yyyy", "45322", date(2024, 1, 31)),
    ("d mmm yyyy", "45322", date(2024, 1, 31)), ("dddd, d. mmmm yyyy", "45322", date(2024, 1, 31)), ("d.m.yy", "45322", date(2024, 1, 31)),
    ("[$-407]d. mmmm yyyy", "45322", date(2024, 1, 31)), ("[$-F800]dddd, mmmm dd, yyyy", "45322", date(2024, 1, 31)), ("yyyy-mm-dd;@", "45322", date(2024, 1, 31)),
    ('yyyy"年"m"月"d"日"', "45322", date(2024, 1, 31)), ("YYYY-MM-DD", "45322", date(2024, 1, 31)), ("yyyymmdd", "45322", date(2024, 1, 31)),
    ("yyyy-mm-dd", "45322.5", "!cell_date_partly_shown"), ("yyyy-mm-dd", "1", "!cell_no_date"), ("yyyy-mm-dd", "59", "!cell_no_date"),
    ("yyyy-mm-dd", "60", "!cell_no_date"), ("yyyy-mm-dd", "61", date(1900, 3, 1)), ("yyyy-mm-dd", "0", "!cell_no_date"), ("yyyy-mm-dd", "-1", "!cell_no_date"),
    ("yyyy-mm-dd", "2958465", date(9999, 12, 31)), ("yyyy-mm-dd", "2958466", "!cell_no_date"), ("yyyy-mm-dd", "1E+15", "!cell_no_date"),
    ("yyyy-mm-dd", "-0", "!cell_no_date"), ("d-mmm", "45537", "!cell_date_partly_shown"), ("mmm-yy", "45537", "!cell_date_partly_shown"),
    ("yyyy", "45537", "!cell_date_partly_shown"), ("dddd", "45537", "!cell_date_partly_shown"), ("mmmm", "45537", "!cell_date_partly_shown"),
    ("yyyy-mm", "45537", "!cell_date_partly_shown"), ("ddd mmm yyyy", "45537", "!cell_date_partly_shown"), ("d mmmmm yyyy", "45537", "!cell_date_partly_shown"),
    ("d.m.yy", "9133", "!cell_date_partly_shown"), ("d.m.yy", "47484", "!cell_date_partly_shown"), ("d.m.yyyy", "9133", date(1925, 1, 1)),
    ("yyyy-mm-dd hh:mm:ss", "45322.573", "!cell_date_partly_shown"), ("yyyy-mm-dd hh:mm:ss", "45322.573", "!cell_date_partly_shown"),
    ("yyyy-mm-dd hh:mm:ss", "45322.57299768519", datetime(2024, 1, 31, 13, 45, 7)), ("yyyy-mm-dd hh:mm", "45322.572916666664", datetime(2024, 1, 31, 13, 45)),
    ("yyyy-mm-dd hh:mm", "45322.57299768519", "!cell_date_partly_shown"), ("d/m/yyyy h:mm AM/PM", "45322.572916666664", datetime(2024, 1, 31, 13, 45)),
    ("yyyy-mm-dd hh:mm:ss.000", "45322.573", datetime(2024, 1, 31, 13, 45, 7, 200_000)), ("yyyy-mm-dd hh", "45322.5", datetime(2024, 1, 31, 12)),
    ("yyyy-mm-dd hh:mm:ss", "45322", datetime(2024, 1, 31)), ("yyyy-mm-dd\\Thh:mm:ss", "45322.5", datetime(2024, 1, 31, 12)),
    ("hh:mm", "0.572916666666667", time(13, 45)), ("h:mm AM/PM", "0.572916666666667", time(13, 45)), ("hh:mm:ss", "0.572997685185185", time(13, 45, 7)),
    ("hh:mm", "0.572997685185185", "!cell_date_partly_shown"), ("mm:ss", "0.000694444444444444", "!cell_date_partly_shown"), ("mm:ss", "0.572997685185185", "!cell_date_partly_shown"),
    ("hh:mm", "45322.5", "!cell_date_partly_shown"), ("hh:mm", "0", time()), ("hh:mm", "1", "!cell_date_partly_shown"), ("ss.00", "0.0000868055555555556", "!cell_date_partly_shown"),
    ("[h]:mm", "1.25", "30:00"), ("[h]:mm", "0.25", time(6)), ("[h]:mm:ss", "1.00001157407407", "24:00:01"), ("[h]:mm", "1.00001157407407", "!cell_date_partly_shown"),
    ("[mm]:ss", "1.00001157407407", "1440:01"), ("[s]", "1.00001157407407", "86401"), ("[h]", "1.25", "30"), ("[h]", "1.26", "!cell_date_partly_shown"), ("yyyy-mm-dd [h]", "45322", "!cell_no_date"),
    ("[$-411]ge.m.d", "45322", "!cell_format_unknown"), ("b yyyy-mm-dd", "45322", "!cell_format_unknown"), ("[$-107041E]d/m/yyyy", "45322", "!cell_format_unknown"), ("yyyy 0", "45322", "!cell_format_unknown"),
    ("hh", "0.572916666666667", "!cell_date_partly_shown"), ("yyyy-mm-dd hh", "45322.572916666664", "!cell_date_partly_shown"),
    ("yyyy-mm-dd", "x", "!cell_unreadable"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "raw", "expected"), DATES)
def test_dates(code: str, raw: str, expected: Any) -> None:
    value = read_one(one_cell(raw, code))
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("0", date(1904, 1, 1)), ("1", date(1904, 1, 2)), ("60", date(1904, 3, 1)), ("43860", date(2024, 1, 31)), ("-1", "!cell_no_date"),
     ("2957003", date(9999, 12, 31)), ("2957004", "!cell_no_date")],
)  # fmt: skip
@pytest.mark.parametrize("truth", ["1", "true"])
def test_the_epoch_of_1904(raw: str, expected: Any, truth: str) -> None:
    properties = f'<workbookPr date1904="{truth}"/>'
    # The day 0 is a time only if nothing of a day is to be shown.
    assert read_one(one_cell(raw, "yyyy-mm-dd", properties=properties)) == expected


@pytest.mark.parametrize(
    ("number", "raw", "expected"),
    [
        (14, "45322", date(2024, 1, 31)),
        (15, "45322", date(2024, 1, 31)),
        (16, "45322", "!cell_date_partly_shown"),
        (17, "45322", "!cell_date_partly_shown"),
        (20, "0.5", time(12)),
        (22, "45322.5", datetime(2024, 1, 31, 12)),
        (46, "1.5", "36:00:00"),
        (9, "0.5", "50%"),
        (44, "5", "$5.00"),
        (49, "5", "5"),
        (27, "45322", "!cell_format_unknown"),
        (99, "5", "!cell_format_unknown"),
    ],
)
def test_formats_that_are_named_by_number(number: int, raw: str, expected: Any) -> None:
    styles = f'<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><cellXfs><xf numFmtId="0"/><xf numFmtId="{number}"/></cellXfs></styleSheet>'
    assert read_one(Xlsx(row(1, cell("A1", raw, style=1)), replaced={"xl/styles.xml": styles}).build()) == expected


@pytest.mark.parametrize("code", BUILT_IN.values())
def test_every_format_that_is_built_in_is_understood(code: str) -> None:
    value = read_cells(one_cell("45322", code))["A1"]
    assert value != "!cell_format_unknown" or code == "##0.0E+0"


@pytest.mark.parametrize(
    ("code", "expected"),
    [("@", "x"), ('"a "@', "a x"), ("0;-0;0;", "!cell_not_shown"), (";;;", "!cell_not_shown"), ("0;-0;0;@", "x"), ("0", "x"), ("yyyy-mm-dd", "x"), ("General", "x")],
)  # fmt: skip
def test_formats_of_text(code: str, expected: str) -> None:
    content = Xlsx(row(1, cell("A1", "0", "s", 1)), formats=[code], strings=["<t>x</t>"]).build()
    assert read_one(content) == expected


def test_a_shared_string_is_never_counted_from_the_end() -> None:
    for index in ("-1", "1", "0_0", "+0"):
        assert read_one(Xlsx(row(1, cell("A1", index, "s")), strings=["<t>x</t>"]).build()) == "!cell_unreadable"


def test_a_gene_that_became_a_date_is_told_so() -> None:
    table = open_workbook(io.BytesIO(one_cell("45537", "d-mmm"))).tables[0]
    [(_, [fault])] = table.iterate_rows()
    assert isinstance(fault, Fault)
    assert fault.shown == "2-Sep"
    assert "shows 2-Sep, but holds 2024-09-02: the year can't be seen" in fault.message


PLAIN = row(1, text("A1", "id"), text("B1", "n")) + row(2, text("A2", "S1"), cell("B2", "5"))
TOLD = {"A1": "id", "B1": "n", "A2": "S1", "B2": "5"}
STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"


def prefixed(rows: str) -> str:
    """Return rows with a prefix before all elements."""
    return re.sub(r"<(/?)", r"<\1x:", rows)


def relations(*targets: tuple[str, str, str]) -> str:
    """Return the relations of a workbook."""
    inner = "".join(
        f'<Relationship Id="{id_}" Type="{RELATIONS}/{kind}" Target="{target}"/>' for id_, kind, target in targets
    )
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{inner}</Relationships>'
    )


SAME: dict[str, Xlsx] = {
    "plain": Xlsx(PLAIN),
    "macros": Xlsx(PLAIN, kind=MACRO_TYPE, more=[("xl/vbaProject.bin", b"\xd0\xcf\x11\xe0")]),
    "a template": Xlsx(PLAIN, kind="application/vnd.openxmlformats-officedocument.spreadsheetml.template.main+xml"),
    "strict": Xlsx(PLAIN, main=STRICT),
    "no addresses": Xlsx("<row><c t='inlineStr'><is><t>id</t></is></c><c t='inlineStr'><is><t>n</t></is></c></row><row><c t='inlineStr'><is><t>S1</t></is></c><c><v>5</v></c></row>"),
    "small letters": Xlsx(row(1, text("a1", "id"), text("b1", "n")) + row(2, text("a2", "S1"), cell("b2", "5"))),
    "white space": Xlsx("\n  " + PLAIN.replace("><", ">\n    <").replace("<t xml:space=\"preserve\">\n", "<t>")),
    "comments": Xlsx(PLAIN.replace("<c ", "<!-- x --><c ")),
    "utf-16": Xlsx(PLAIN, replaced={"xl/worksheets/sheet1.xml": f'<?xml version="1.0" encoding="UTF-16"?><worksheet xmlns="{STRICT}"><sheetData>{PLAIN}</sheetData></worksheet>'.encode("utf-16")}),
    "latin-1": Xlsx(PLAIN, head='<?xml version="1.0" encoding="ISO-8859-1"?>'),
    "a mark before the XML": Xlsx(PLAIN, head='\ufeff<?xml version="1.0" encoding="UTF-8"?>'),
    "a prefix": Xlsx(replaced={"xl/worksheets/sheet1.xml": f'<x:worksheet xmlns:x="{STRICT}"><x:sheetData>{prefixed(PLAIN)}</x:sheetData></x:worksheet>'}),
    "absolute targets": Xlsx(PLAIN, replaced={"xl/_rels/workbook.xml.rels": relations(("rId1", "worksheet", "/xl/worksheets/sheet1.xml"))}),
    "targets with dots": Xlsx(PLAIN, replaced={"xl/_rels/workbook.xml.rels": relations(("rId1", "worksheet", "../xl/./worksheets/sheet1.xml"))}),
    "targets with backslashes": Xlsx(PLAIN, replaced={"xl/_rels/workbook.xml.rels": relations(("rId1", "worksheet", "worksheets\\sheet1.xml"))}),
    "targets in capitals": Xlsx(PLAIN, replaced={"xl/_rels/workbook.xml.rels": relations(("rId1", "worksheet", "Worksheets/Sheet1.XML"))}),
    "targets above the top": Xlsx(PLAIN, replaced={"xl/_rels/workbook.xml.rels": relations(("rId1", "worksheet", "../../../../xl/worksheets/sheet1.xml"))}),
    "no styles": Xlsx(PLAIN, replaced={"xl/styles.xml": None, "xl/_rels/workbook.xml.rels": relations(("rId1", "worksheet", "worksheets/sheet1.xml"))}),
    "external links": Xlsx(PLAIN, book='<externalReferences><externalReference r:id="e1"/></externalReferences>', more=[("xl/externalLinks/externalLink1.xml", "<externalLink/>")]),
    "hyperlinks": Xlsx(PLAIN, behind='<hyperlinks><hyperlink ref="A1" r:id="rId9" xmlns:r="x" display="other"/></hyperlinks>'),
    "names with paths": Xlsx(PLAIN, more=[("../../etc/passwd", "x"), ("/abs", "x"), ("C:\\x", "x")]),
    "names with signs": Xlsx(PLAIN, more=[("\u202egpj.exe", "x"), ("a b\u00e4", "x")]),
    "a nested archive": Xlsx(PLAIN, more=[("x.zip", Xlsx(PLAIN).build())]),
    "styled empty cells": Xlsx(PLAIN + row(3, cell("A3", style=0), cell("XFD3", style=0)) + row(1048576, cell("A1048576"))),
    "empty rows": Xlsx(PLAIN + "".join(f'<row r="{number}"/>' for number in range(3, 2000))),
    "tables and more": Xlsx(PLAIN, before='<sheetPr/><dimension ref="A1:XFD1048576"/><sheetViews><sheetView workbookViewId="0"/></sheetViews>', behind="<autoFilter ref='A1:B2'/><conditionalFormatting sqref='A1'><cfRule type='expression'><formula>A1=1</formula></cfRule></conditionalFormatting>"),
    "a chart sheet": Xlsx(PLAIN, replaced={"xl/_rels/workbook.xml.rels": relations(("rId1", "worksheet", "worksheets/sheet1.xml"), ("rId2", "chartsheet", "x.xml"))}, sheets=[("Chart", "visible", "")]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_the_same_in_other_words(name: str) -> None:
    content = SAME[name].build()
    assert read(content) == {"Samples": TOLD}
    assert open_workbook(io.BytesIO(content)).format == ("xlsm" if name == "macros" else "xlsx")


def test_several_sheets() -> None:
    sheets = [
        ("Deep", "hidden", row(3, text("B3", "x"))),
        ("Deeper", "veryHidden", ""),
        ("Größe & <x>", "visible", PLAIN),
    ]
    book = open_workbook(io.BytesIO(Xlsx(PLAIN, sheets=sheets).build()))
    assert [(table.name, table.visibility) for table in book.tables] == [
        ("Samples", Visibility.VISIBLE),
        ("Deep", Visibility.HIDDEN),
        ("Deeper", Visibility.HIDDEN),
        ("Größe & <x>", Visibility.VISIBLE),
    ]
    assert list(book.tables[1].iterate_rows()) == [(3, [None, "x"])]
    assert list(book.tables[2].iterate_rows()) == []
    # Any sheet can be read again, and while another one is read.
    both = zip(book.tables[0].iterate_rows(), book.tables[3].iterate_rows(), strict=True)
    assert all(one == other for one, other in both)


def test_the_version_of_our_template() -> None:
    name = '<definedNames><definedName name="_datameta_template" hidden="1">"abc123"</definedName><definedName name="x">1</definedName></definedNames>'
    assert open_workbook(io.BytesIO(Xlsx(PLAIN, book=name).build())).template_version == "abc123"
    assert open_workbook(io.BytesIO(Xlsx(PLAIN).build())).template_version is None
    book = open_workbook(
        io.BytesIO(Xlsx(PLAIN, sheets=[("_datameta", "hidden", row(1, text("A1", "abc123")))]).build())
    )
    assert book.template_version == "abc123"
    assert [table.name for table in book.tables] == ["Samples"]


ROWS = "".join(row(number, *(text(f"{letter}{number}", letter) for letter in "ABCD")) for number in range(1, 6))


@pytest.mark.parametrize(
    ("workbook", "expected"),
    [
        (Xlsx(ROWS), []),
        (Xlsx(ROWS, behind='<mergeCells><mergeCell ref="B2:B4"/></mergeCells>'), [("error", "merged_cells", "B2:B4")]),
        (Xlsx(ROWS, behind='<mergeCells><mergeCell ref="A2:C2"/><mergeCell ref="Z99:Z100"/></mergeCells>'), [("error", "merged_cells", "A2:C2")]),
        (Xlsx(ROWS, behind='<mergeCells><mergeCell ref="nonsense"/><mergeCell/></mergeCells>'), []),
        (Xlsx(ROWS.replace('<row r="3"', '<row r="3" hidden="1"')), [("warning", "hidden_rows", "3:3")]),
        (Xlsx(ROWS.replace('<row r="3"', '<row r="3" hidden="true"').replace('<row r="4"', '<row r="4" ht="0"')), [("warning", "hidden_rows", "3:4")]),
        (Xlsx(ROWS + '<row r="9" hidden="1"/>'), []),
        (Xlsx(ROWS, before='<cols><col min="2" max="3" width="9" hidden="1"/></cols>'), [("warning", "hidden_columns", "B:B"), ("warning", "hidden_columns", "C:C")]),
        (Xlsx(ROWS, before='<cols><col min="4" max="16384" width="0"/></cols>'), [("warning", "hidden_columns", "D:D")]),
        (Xlsx(ROWS, before='<cols><col min="7" max="16384" hidden="1"/></cols>'), []),
    ],
)  # fmt: skip
def test_notices(workbook: Xlsx, expected: list[tuple[str, str, str]]) -> None:
    assert read_notices(workbook.build()) == expected


def test_notices_are_bounded() -> None:
    count = 3000
    rows = "".join(row(number, text(f"A{number}", "x"), more=' hidden="1"') for number in range(1, 2 * count, 2))
    merged = "".join(f'<mergeCell ref="A{number}:A{number + 1}"/>' for number in range(1, 2 * count, 2))
    notices = read_notices(Xlsx(rows, behind=f"<mergeCells>{merged}</mergeCells>").build())
    assert len(notices) == 2002


BROKEN: dict[str, tuple[Xlsx, str]] = {
    "no sheet": (Xlsx(replaced={"xl/worksheets/sheet1.xml": None}), "broken_file"),
    "no workbook": (Xlsx(replaced={"xl/workbook.xml": None}), "broken_file"),
    "no relations": (Xlsx(replaced={"_rels/.rels": None}), "broken_file"),
    "relations to nothing": (Xlsx(replaced={"_rels/.rels": "<Relationships/>"}), "broken_file"),
    "no relations of the workbook": (Xlsx(replaced={"xl/_rels/workbook.xml.rels": None}), "broken_file"),
    "no list of sheets": (Xlsx(replaced={"xl/workbook.xml": "<workbook/>"}), "broken_file"),
    "no types": (Xlsx(replaced={"[Content_Types].xml": "<Types/>"}), "broken_file"),
    "not well-formed": (Xlsx(PLAIN + "<row>"), "broken_file"),
    "empty": (Xlsx(replaced={"xl/worksheets/sheet1.xml": ""}), "broken_file"),
    "no XML": (Xlsx(replaced={"xl/worksheets/sheet1.xml": b"\0\1\2\3" * 100}), "broken_file"),
    "an entity": (Xlsx(row(1, "<c r='A1' t='inlineStr'><is><t>&x;</t></is></c>")), "broken_file"),
    "not its encoding": (Xlsx(replaced={"xl/worksheets/sheet1.xml": b"<worksheet><c>\xff</c></worksheet>"}), "broken_file"),
    "an unknown encoding": (Xlsx(PLAIN, head='<?xml version="1.0" encoding="x-none"?>'), "broken_file"),
    "rows twice": (Xlsx(PLAIN + PLAIN), "broken_file"),
    "cells twice": (Xlsx(row(1, text("A1", "x"), text("A1", "y"))), "broken_file"),
    "cells backwards": (Xlsx(row(1, text("B1", "x"), text("A1", "y"))), "broken_file"),
    "a cell of another row": (Xlsx(row(1, text("A2", "x"))), "broken_file"),
    "a cell without a place": (Xlsx(row(1, text("?1", "x"))), "broken_file"),
    "a row that is no number": (Xlsx('<row r="x"/>'), "broken_file"),
    "a row beyond the last": (Xlsx(row(1048577, text("A1048577", "x"))), "broken_file"),
    "a far cell": (Xlsx(row(1, text("XFD1", "x"))), "too_many_columns XFD1"),
    "a cell beside the last": (Xlsx(row(1, text("SG1", "x"))), "too_many_columns SG1"),
    "a cell out of the world": (Xlsx(row(1, text("ZZZ1", "x"))), "too_many_columns ZZZ1"),
    "a style that is no number": (Xlsx(row(1, "<c r='A1' s='x'><v>1</v></c>")), "broken_file"),
    "a huge text": (Xlsx(row(1, text("A1", "".join(map(str, range(250_000)))))), "cell_too_large"),
    "a huge shared text": (Xlsx(row(1, cell("A1", "0", "s")), strings=[f"<t>{''.join(map(str, range(250_000)))}</t>"]), "cell_too_large"),
    "a huge attribute": (Xlsx(replaced={"xl/workbook.xml": "<workbook x='" + "".join(map(str, range(300_000))) + "'/>"}), "cell_too_large"),
    "an entity bomb": (Xlsx(PLAIN, head='<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'), "dtd_refused"),
    "an external entity": (Xlsx(PLAIN, head='<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'), "dtd_refused"),
    "an external document type": (Xlsx(PLAIN, head='<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd">'), "dtd_refused"),
    "a document type of the strings": (Xlsx(row(1, cell("A1", "0", "s")), replaced={"xl/sharedStrings.xml": '<!DOCTYPE x [<!ENTITY a "a">]><sst/>'}), "dtd_refused"),
    "a document type of the styles": (Xlsx(PLAIN, replaced={"xl/styles.xml": '<!DOCTYPE x><x/>'}), "dtd_refused"),
    "a Word document": (Xlsx(kind="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"), "unknown_format Word"),
    "a presentation": (Xlsx(kind="application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml"), "unknown_format PowerPoint"),
    "a binary workbook": (Xlsx(kind="application/vnd.ms-excel.sheet.binary.macroEnabled.main"), "unknown_format xlsb"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_and_refused(name: str) -> None:
    workbook, expected = BROKEN[name]
    code, _, place = expected.partition(" ")
    with pytest.raises(SheetError) as caught:
        read(workbook.build())
    assert caught.value.code == code
    assert place in str(caught.value)


def make_long(count: int) -> bytes:
    """Return a workbook with a header and ``count`` rows."""
    return Xlsx("".join(f"<row><c t='str'><v>x{number}</v></c></row>" for number in range(count + 1))).build()


def test_as_many_rows_as_are_read() -> None:
    limits = replace(DEFAULT_LIMITS, rows=10)
    assert len(read_cells(make_long(10), limits=limits)) == 11
    with pytest.raises(SheetError, match="more than 10 rows"):
        read_cells(make_long(11), limits=limits)
    assert len(read_cells(make_long(100_000))) == 100_001
    with pytest.raises(SheetError, match="100,000 rows") as caught:
        read_cells(make_long(100_001))
    assert caught.value.code == "too_many_rows"


def test_more_sheets_than_anybody_has() -> None:
    many = f'<workbook xmlns:r="{RELATIONS}">' + "<sheet name='x' r:id='rId1'/>" * 5000 + "</workbook>"
    with pytest.raises(SheetError) as caught:
        open_workbook(io.BytesIO(Xlsx(replaced={"xl/workbook.xml": many}).build()))
    assert caught.value.code == "too_large"
