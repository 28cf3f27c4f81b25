# ruff: noqa: E501
"""ods: what is shown is verified against what is held, and counts of equal rows and cells do not explode."""

import io
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any

import pytest

from datameta.sheets.limits import DEFAULT_LIMITS
from datameta.sheets.reader import open_workbook
from datameta.sheets.values import SheetError, Visibility
from tests.sheets.files import (
    ODS_SPACES,
    ods,
    ods_cell,
    ods_row,
    ods_table,
    ods_text,
    one_ods_cell,
    pack,
    read,
    read_cells,
    read_notices,
)

MANY = 1_048_576


def p(*lines: str) -> str:
    return "".join(f"<text:p>{line}</text:p>" for line in lines)


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (p("007"), "007"), (p("NA"), "NA"), (p("1e5"), "1e5"), (p("SEPT2"), "SEPT2"), (p("TRUE"), "TRUE"), (p("=1+1"), "=1+1"), (p("日本 🧬"), "日本 🧬"),
        (p("two", "lines"), "two\nlines"), (p("a<text:s/>b"), "a b"), (p("a <text:s text:c='2'/>b"), "a   b"), (p("<text:s/>x "), " x "),
        (p("a<text:tab/>b"), "a\tb"), (p("a<text:line-break/>b"), "a\nb"), (p("a<text:span>b<text:span>c</text:span></text:span>d"), "abcd"),
        (p("<text:a xlink:href='http://x' xmlns:xlink='x'>link</text:a>"), "link"), (p("\n   a\n   b"), "a b"), (p("&amp;&lt;x&gt;"), "&<x>"),
        ("<office:annotation><text:p>a comment</text:p></office:annotation>" + p("x"), "x"), (p("x") + "<draw:frame><draw:text-box><text:p>no</text:p></draw:text-box></draw:frame>", "x"),
        (p("<text:ruby><text:ruby-base>東京</text:ruby-base><text:ruby-text>とうきょう</text:ruby-text></text:ruby>"), "東京"), ("", None), (p(""), None),
        (p("a&#x202E;b"), "!cell_unseen_character"), (p("a&#x200B;b"), "!cell_unseen_character"), (p("x" * 10_001), "!cell_too_long"), (p("<text:s text:c='999999999'/>"), "!cell_too_long"),
        (p("x" * 10_000), "x" * 10_000),
    ],
)  # fmt: skip
def test_text(inner: str, expected: str | None) -> None:
    assert read_cells(one_ods_cell(inner, "string")).get("A1") == expected


@pytest.mark.parametrize(
    ("raw", "shown", "expected"),
    [
        ("7", "7", "7"), ("7", "007", "007"), ("7", "7.0", "7.0"), ("7.4", "7.4", "7.4"), ("7.4", "7,4", "7.4"), ("7.4", "7.40", "7.40"), ("7.4", "7", "!cell_rounded"), ("7.5", "8", "!cell_rounded"),
        ("1234.5", "1,234.5", "1234.5"), ("1234.5", "1.234,5", "1234.5"), ("1234.5", "1 234,5", "1234.5"), ("1234.5", "1\u202f234,50", "1234.50"), ("1234.5", "1'234.5", "1234.5"),
        ("1234", "1,234", "1234"), ("1.234", "1,234", "1.234"), ("1234", "1.234", "1234"), ("1.234", "1.234", "1.234"), ("1234567", "12,34,567", "1234567"), ("1234", "12,34", "!cell_rounded"),
        ("-5", "-5", "-5"), ("-5", "−5", "−5"), ("-5", "(5.00)", "(5.00)"), ("-5", "5", "!cell_rounded"), ("5", "-5", "!cell_rounded"), ("5", "5.0 mg", "5.0 mg"), ("5", "€ 5,00", "€ 5.00"), ("12", "12 m2", "12 m2"),
        ("12345678", "1234-5678", "1234-5678"), ("100000", "1.00E+05", "1.00E+05"), ("123456", "1.23E+05", "!cell_rounded"), ("100000", "1,00E+05", "1.00E+05"), ("0.5", "1/2", "!cell_rounded"),
        ("0", "-", "-"), ("0", "0", "0"), ("1", "TRUE", "TRUE"), ("0", "FALSE", "FALSE"), ("1", "WAHR", "!cell_rounded"), ("5", "", "!cell_not_shown"), ("0.333333333333333", "0.333333333333333", "0.333333333333333"),
        ("0.33333333333333331", "0.333333333333333", "!cell_too_many_digits"), ("0.30000000000000004", "0.3", "0.3"), ("1234567890123456", "1234567890123456", "!cell_too_many_digits"), ("x", "5", "!cell_unreadable"), ("", "5", "!cell_unreadable"),
        ("1e999", "5", "!cell_unreadable"), ("7", "8", "!cell_rounded"), ("7", "seven", "!cell_rounded"), ("1234567890123456000", "1234567890123456000", "!cell_too_many_digits"), ("1E+20", "1.00E+20", "1.00E+20"), ("123456789012345000", "123456789012345000", "!cell_too_many_digits"), ("0.5", ".5", ".5"), ("0.5", ",5", ".5"),
    ],
)  # fmt: skip
def test_numbers(raw: str, shown: str, expected: str) -> None:
    inner = p(shown) if shown else ""
    assert read_cells(one_ods_cell(inner, "float", value=raw)) == {"A1": expected}


@pytest.mark.parametrize(
    ("raw", "shown", "expected"),
    [("0.12", "12%", "12%"), ("0.125", "12,5 %", "12.5 %"), ("0.125", "13%", "!cell_rounded"), ("1", "100.00%", "100.00%"), ("12", "12%", "!cell_rounded")],
)  # fmt: skip
def test_percentages(raw: str, shown: str, expected: str) -> None:
    assert read_cells(one_ods_cell(p(shown), "percentage", value=raw)) == {"A1": expected}


@pytest.mark.parametrize(
    ("raw", "shown", "expected"),
    [
        ("2024-01-31", "2024-01-31", date(2024, 1, 31)), ("2024-01-31", "31.01.2024", date(2024, 1, 31)), ("2024-01-31", "1/31/24", date(2024, 1, 31)), ("2024-01-31", "31. Januar 2024", date(2024, 1, 31)),
        ("2024-01-31", "Mittwoch, 31. Januar 2024", date(2024, 1, 31)), ("2024-09-02", "2-Sep", "!cell_date_partly_shown"), ("2024-09-02", "Sep-24", "!cell_date_partly_shown"), ("2024-09-24", "Sep-24", "!cell_date_partly_shown"),
        ("2024-09-02", "2024", "!cell_date_partly_shown"), ("2024-09-02", "", "!cell_date_partly_shown"), ("1925-01-31", "31.01.25", "!cell_date_partly_shown"), ("1925-01-31", "31.01.1925", date(1925, 1, 31)),
        ("2024-01-31T13:45:07", "2024-01-31 13:45:07", datetime(2024, 1, 31, 13, 45, 7)), ("2024-01-31T13:45:00", "31.01.24 13:45", datetime(2024, 1, 31, 13, 45)), ("2024-01-31T13:45:00", "01/31/24 01:45 PM", datetime(2024, 1, 31, 13, 45)),
        ("2024-01-31T13:45:07", "31.01.24 13:45", "!cell_date_partly_shown"), ("2024-01-31T13:45:07", "31.01.2024", "!cell_date_partly_shown"), ("2024-01-31T00:00:00", "2024-01-31 00:00", datetime(2024, 1, 31)),
        ("2024-01-31T13:45:07.250000000", "2024-01-31 13:45:07.25", datetime(2024, 1, 31, 13, 45, 7, 250_000)), ("2024-01-31T13:45:07.250000000", "2024-01-31 13:45:07", "!cell_date_partly_shown"), ("1899-12-31", "1899-12-31", date(1899, 12, 31)),
        ("2024-02-30", "30.02.2024", "!cell_no_date"), ("x", "x", "!cell_no_date"), ("", "1", "!cell_no_date"), ("-0044-03-15", "15.03.-44", "!cell_no_date"), ("2024-01-31T13:45:07Z", "2024-01-31 13:45:07", "!cell_no_date"),
    ],
)  # fmt: skip
def test_dates(raw: str, shown: str, expected: Any) -> None:
    value = read_cells(one_ods_cell(p(shown), "date", date_value=raw))["A1"]
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("raw", "shown", "expected"),
    [
        ("PT13H45M00S", "13:45", time(13, 45)), ("PT13H45M07S", "13:45:07", time(13, 45, 7)), ("PT13H45M07S", "13:45", "!cell_date_partly_shown"), ("PT13H45M00S", "01:45 PM", time(13, 45)), ("PT00H00M00S", "00:00", time()),
        ("PT30H00M00S", "30:00:00", "30:00:00"), ("PT30H00M00S", "06:00", "!cell_date_partly_shown"), ("PT5M", "00:05", time(0, 5)), ("PT00H00M07.5S", "00:00:07.5", time(0, 0, 7, 500_000)), ("-PT1H", "-01:00", "!cell_no_date"), ("x", "x", "!cell_no_date"),
    ],
)  # fmt: skip
def test_times(raw: str, shown: str, expected: Any) -> None:
    value = read_cells(one_ods_cell(p(shown), "time", time_value=raw))["A1"]
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (one_ods_cell(p("WAHR"), "boolean", boolean_value="true"), "TRUE"),
        (one_ods_cell(p("FALSE"), "boolean", boolean_value="false"), "FALSE"),
        (
            one_ods_cell(p("#N/A"), "string", string_value="", calcext_value_type="error", table_formula="of:=#N/A"),
            "!cell_error",
        ),
        (one_ods_cell(p("Err:509"), "string", table_formula="of:=1+"), "!cell_error"),
        (one_ods_cell(p("#N/A"), "string"), "#N/A"),
        (one_ods_cell(p("2"), "float", value="2", table_formula="of:=1+1"), "2"),
        (one_ods_cell(p("x"), "string", table_formula="of:=A2"), "x"),
        (one_ods_cell("", table_formula="of:=1+1"), "!cell_formula_without_value"),
        (one_ods_cell("", "string", string_value="x"), "x"),
        (one_ods_cell(p("x")), "x"),
        (one_ods_cell(p("5.00 €"), "currency", value="5", currency="EUR"), "5.00 €"),
        (one_ods_cell(p("x"), "void"), "!cell_unreadable"),
    ],
)
def test_kinds_of_cells(content: bytes, expected: str) -> None:
    assert read_cells(content) == {"A1": expected}


PLAIN = ods_row(ods_text("id"), ods_text("n")) + ods_row(ods_text("S1"), ods_cell(p("5"), "float", value="5"))
TOLD = {"A1": "id", "B1": "n", "A2": "S1", "B2": "5"}
HIDDEN = (
    '<style:style style:name="ta2" style:family="table"><style:table-properties table:display="false"/></style:style>'
)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (PLAIN, TOLD),
        (PLAIN + ods_row(ods_cell(table_number_columns_repeated="16384"), more=f' table:number-rows-repeated="{MANY - 2}"'), TOLD),
        (f"<table:table-header-rows>{PLAIN}</table:table-header-rows>", TOLD),
        (f"<table:table-row-group><table:table-rows>{PLAIN}</table:table-rows></table:table-row-group>", TOLD),
        (ods_row(ods_cell(p("x"), "string", table_number_columns_repeated="3")), {"A1": "x", "B1": "x", "C1": "x"}),
        (ods_row(ods_text("x"), more=' table:number-rows-repeated="3"'), {"A1": "x", "A2": "x", "A3": "x"}),
        (ods_row(more=' table:number-rows-repeated="1000"') + ods_row(ods_cell(table_number_columns_repeated="2"), ods_text("x")), {"C1001": "x"}),
        (ods_row(ods_cell(table_number_columns_repeated="16383"), ods_cell()), {}),
        (ods_row(ods_text("x"), "<table:covered-table-cell/>", ods_text("y")), {"A1": "x", "C1": "y"}),
        (ods_row(ods_cell("<table:table table:name='sub'><table:table-row><table:table-cell office:value-type='string'><text:p>no</text:p></table:table-cell></table:table-row></table:table>", "string"), ods_text("y")), {"B1": "y"}),
    ],
)  # fmt: skip
def test_counts_and_groups(rows: str, expected: dict[str, str]) -> None:
    assert read_cells(ods(ods_table(rows))) == expected


def test_several_sheets() -> None:
    content = ods(
        ods_table(PLAIN)
        + ods_table(ods_row(ods_text("x")), "Deep", "ta2")
        + "<table:dde-links><table:table/></table:dde-links>",
        HIDDEN,
    )
    book = open_workbook(io.BytesIO(content))
    assert (book.format, book.template_version) == ("ods", None)
    assert [(table.name, table.visibility) for table in book.tables] == [
        ("Samples", Visibility.VISIBLE),
        ("Deep", Visibility.HIDDEN),
    ]
    assert read(content) == {"Samples": TOLD, "Deep": {"A1": "x"}}
    content = ods(ods_table(PLAIN) + ods_table(ods_row(ods_text("abc123")), "_datameta", "ta2"), HIDDEN)
    assert open_workbook(io.BytesIO(content)).template_version == "abc123"
    assert list(read(content)) == ["Samples"]


@pytest.mark.parametrize("prefix", ["t", ""])
def test_other_prefixes(prefix: str) -> None:
    colon = f"{prefix}:" if prefix else ""
    spaces = ODS_SPACES.replace("xmlns:table=", f"xmlns:{prefix}=" if prefix else "xmlns=").replace(
        "xmlns:text=", "xmlns:x="
    )
    body = f"<office:body><office:spreadsheet>{ods_table(PLAIN)}</office:spreadsheet></office:body>"
    body = body.replace("text:", "x:").replace("table:name", "!").replace("table:", colon).replace("!", f"{colon}name")
    content = f"<office:document-content {spaces}>{body}</office:document-content>"
    # Without a prefix an attribute belongs to no namespace; programs write one.
    if prefix:
        assert read(ods("", content=content)) == {"Samples": TOLD}
    else:
        assert list(read(ods("", content=content)).values()) == [TOLD]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (ods_table(PLAIN), []),
        (ods_table(ods_row(ods_cell(p("x"), "string", table_number_rows_spanned="3", table_number_columns_spanned="1")) + PLAIN), [("error", "merged_cells", "A1:A3")]),
        (ods_table(ods_row(ods_cell(p("x"), "string", table_number_columns_spanned="2"))), [("error", "merged_cells", "A1:B1")]),
        (ods_table(ods_row(ods_cell(p("x"), "string", table_number_columns_spanned="1"))), []),
        (ods_table(PLAIN + ods_row(ods_cell(table_number_columns_spanned="2"))), []),
        (ods_table(ods_row(ods_text("x"), more=' table:visibility="collapse"')), [("warning", "hidden_rows", "1:1")]),
        (ods_table(PLAIN + ods_row(ods_text("x"), more=' table:visibility="filter" table:number-rows-repeated="2"')), [("warning", "hidden_rows", "3:4")]),
        (ods_table(ods_row(more=' table:visibility="collapse"') + PLAIN), []),
        (ods_table(PLAIN, columns='<table:table-column/><table:table-column table:visibility="collapse" table:number-columns-repeated="16383"/>'), [("warning", "hidden_columns", "B:B")]),
    ],
)  # fmt: skip
def test_notices(table: str, expected: list[tuple[str, str, str]]) -> None:
    assert read_notices(ods(table)) == expected


ENCRYPTED = '<manifest><file-entry full-path="content.xml"><encryption-data/></file-entry></manifest>'
REFUSED: dict[str, tuple[bytes, str]] = {
    "a text document": (pack([("mimetype", "application/vnd.oasis.opendocument.text"), ("content.xml", "<x/>")]), "unknown_format"),
    "no sheet": (ods(""), "broken_file"),
    "no content": (pack([("mimetype", "application/vnd.oasis.opendocument.spreadsheet")]), "broken_file"),
    "not well-formed": (ods("<table:table>"), "broken_file"),
    "encrypted": (ods(ods_table(PLAIN), more=[("META-INF/manifest.xml", ENCRYPTED)]), "encrypted"),
    "an entity": (ods("", content='<!DOCTYPE x [<!ENTITY a "a">]><x/>'), "dtd_refused"),
    "a document type of the manifest": (ods(ods_table(PLAIN), more=[("META-INF/manifest.xml", "<!DOCTYPE x><x/>")]), "dtd_refused"),
    "too many sheets": (ods(ods_table(PLAIN) * 201), "too_large"),
    "a row a million times": (ods(ods_table(ods_row(ods_text("x"), more=f' table:number-rows-repeated="{MANY}"'))), "too_many_rows"),
    "a row too often": (ods(ods_table(ods_row(ods_text("x"), more=' table:number-rows-repeated="999999999"'))), "too_many_rows"),
    "a row too far": (ods(ods_table(ods_row(more=f' table:number-rows-repeated="{MANY}"') + PLAIN)), "too_many_rows"),
    "a count that is none": (ods(ods_table(ods_row(ods_text("x"), more=' table:number-rows-repeated="x"'))), "broken_file"),
    "a count without end": (ods(ods_table(ods_row(ods_text("x"), more=f' table:number-rows-repeated="{"9" * 99}"'))), "broken_file"),
    "a cell a million times": (ods(ods_table(ods_row(ods_cell(p("x"), "string", table_number_columns_repeated="16384")))), "too_many_columns"),
    "a far cell": (ods(ods_table(ods_row(ods_cell(table_number_columns_repeated="500"), ods_text("x")))), "too_many_columns"),
    "paragraphs without end": (ods(ods_table(ods_row(ods_cell(p(*map(str, range(30_000))), "string")))), "cell_too_large"),
    "spaces without end": (ods(ods_table(ods_row(ods_cell(p("<text:s text:c='9999'/>" * 200), "string")))), "cell_too_large"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_broken_and_refused(name: str) -> None:
    content, code = REFUSED[name]
    with pytest.raises(SheetError) as caught:
        read(content)
    assert caught.value.code == code


def test_as_many_rows_and_columns_as_are_read() -> None:
    limits = replace(DEFAULT_LIMITS, rows=10, columns=5)
    wide = ods_row(
        ods_cell(p("x"), "string", table_number_columns_repeated="5"), ods_cell(table_number_columns_repeated="9999")
    )
    assert len(read_cells(ods(ods_table(wide * 11)), limits=limits)) == 55
    with pytest.raises(SheetError, match="more than 10 rows"):
        read_cells(ods(ods_table(wide * 12)), limits=limits)
    assert (
        len(read_cells(ods(ods_table(ods_row(ods_text("x"), more=' table:number-rows-repeated="100001"'))))) == 100_001
    )
