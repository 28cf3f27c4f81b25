# ruff: noqa: E501
"""csv and tsv: every encoding, separator, quote and end of line that is met, and what stays text."""

import codecs
import io
from dataclasses import replace
from typing import Any

import pytest

from datameta.sheets.limits import DEFAULT_LIMITS
from datameta.sheets.reader import open_workbook
from datameta.sheets.values import SheetError
from tests.sheets.files import read, read_cells, write_csv

PLAIN = "id,Größe\nS1,日本\nS2,🧬\n"
TOLD = {"A1": "id", "B1": "Größe", "A2": "S1", "B2": "日本", "A3": "S2", "B3": "🧬"}


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings(encoding: str, mark: bytes, line_end: str) -> None:
    content = mark + PLAIN.replace("\n", line_end).encode(encoding)
    assert read_cells(content) == TOLD
    dialect = open_workbook(io.BytesIO(content)).dialect
    assert dialect is not None
    assert (dialect.encoding, dialect.delimiter) == (encoding, ",")


@pytest.mark.parametrize("border", [1 << 10, 1 << 12, 1 << 13, 1 << 16, 1 << 20])
@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", b""), ("utf-16-le", codecs.BOM_UTF16_LE)])
def test_a_character_across_the_border_of_a_buffer(border: int, shift: int, encoding: str, mark: bytes) -> None:
    lines = "a,b\n"
    width = len("x".encode(encoding))
    while len(mark) + (len(lines) + 90) * width < border:
        lines += "x" * 80 + ",y\n"
    filler = (border - len(mark) - len(lines) * width - shift) // width
    content = mark + (lines + "x" * filler + "🧬,end\n").encode(encoding)
    told = read_cells(content)
    last = lines.count("\n") + 1
    assert (told[f"A{last}"], told[f"B{last}"]) == ("x" * filler + "🧬", "end")


@pytest.mark.parametrize(
    ("content", "byte", "offset", "line"),
    [
        ("id\nGröße\n".encode("latin-1"), 0xF6, 5, 2),
        ("id\r\nGröße\r\n".encode("latin-1"), 0xF6, 6, 2),
        ("id\rGröße\r".encode("latin-1"), 0xF6, 5, 2),
        ("a\r\nb\r\n–".encode("cp1252"), 0x96, 6, 3),
        ("µl\n".encode("latin-1"), 0xB5, 0, 1),
        ("a,b\n1,日本\n".encode("shift-jis"), 0x93, 6, 2),
        ("a,b\nпривет\n".encode("koi8-r"), 0xD0, 4, 2),
        ("a,b\nпривет\n".encode("cp1251"), 0xEF, 4, 2),
        ("id\nGröße".encode("mac-roman"), 0x9A, 5, 2),
        (b"a,b\n\xc0\x80\n", 0xC0, 4, 2),
        (b"a,b\n\xed\xa0\x80\n", 0xED, 4, 2),
        (b"a,b\n\xf5\x80\x80\x80\n", 0xF5, 4, 2),
        (b"a,b\n1,\xe6\x97", 0xE6, 6, 2),
        (b"a,b\n" + b"x,y\n" * 300_000 + b"\xff", 0xFF, 1_200_004, 300_002),
        (codecs.BOM_UTF8 + b"a\n\xe4", 0xE4, 5, 2),
        (b"x" * ((1 << 20) - 1) + b"\r\na\n\xe4", 0xE4, (1 << 20) + 3, 3),
        (codecs.BOM_UTF16_LE + "a\nb".encode("utf-16-le") + b"\x00", 0x00, 8, 2),
        (codecs.BOM_UTF16_LE + "a\n".encode("utf-16-le") + b"\x00\xdc" + b"b\0", 0x00, 6, 2),
        (codecs.BOM_UTF16_BE + "a\r\nb".encode("utf-16-be") + b"\xd8\x00", 0xD8, 10, 2),
        ("a,b\n".encode("utf-16-le"), 0x00, 1, 1),
        ("a,b\n".encode("utf-16-be"), 0x00, 0, 1),
        (codecs.BOM_UTF32_LE + "a\n".encode("utf-32-le"), 0xFF, 0, 1),
        (codecs.BOM_UTF32_BE + "a\n".encode("utf-32-be"), 0x00, 0, 1),
    ],
)
def test_other_encodings_are_refused_at_their_byte(content: bytes, byte: int, offset: int, line: int) -> None:
    with pytest.raises(SheetError) as caught:
        read(content)
    assert caught.value.code == "sheet_encoding"
    assert f"0x{byte:02X} at offset {offset} (line {line})" in str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoting", [0, 1])
def test_separators_quotes_and_line_ends(delimiter: str, line_end: str, quoting: int) -> None:
    rows = [["id", "note", "n"], ["S1", f'a{delimiter}b "c"', "1.5"], ["S2", f"two{line_end}lines", ""], ["", "x", "y"]]
    content = write_csv(rows, delimiter, line_end, quoting=quoting).encode()
    assert [values for _, values in open_workbook(io.BytesIO(content)).tables[0].iterate_rows()] == [
        ["id", "note", "n"],
        ["S1", f'a{delimiter}b "c"', "1.5"],
        ["S2", f"two{line_end}lines"],
        [None, "x", "y"],
    ]
    assert open_workbook(io.BytesIO(content)).format == ("tsv" if delimiter == "\t" else "csv")


DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one column": ("id\nS1\n", {"A1": "id", "A2": "S1"}),
    "one cell": ("id", {"A1": "id"}),
    "header only": ("id;n\n", {"A1": "id", "B1": "n"}),
    "decimal commas": ("id;n\nS1;1,5\nS2;2,5\n", {"A1": "id", "B1": "n", "A2": "S1", "B2": "1,5", "A3": "S2", "B3": "2,5"}),
    "commas in all cells": ("id;a,b\nS1;1,5\n", "sheet_delimiter"),
    "commas in all cells, more semicolons": ("id;a,b;c\nS1;1,5;x\n", {"A1": "id", "B1": "a,b", "C1": "c", "A2": "S1", "B2": "1,5", "C2": "x"}),
    "sep=;": ("sep=;\nid;a,b\nS1;1,5\n", {"A1": "id", "B1": "a,b", "A2": "S1", "B2": "1,5"}),
    "sep=,": ("sep=,\r\nid,n\r\n", {"A1": "id", "B1": "n"}),
    "SEP=|": ("SEP=|\nid|n\n", {"A1": "id", "B1": "n"}),
    "sep=tab": ("sep=\t\nid\tn\n", {"A1": "id", "B1": "n"}),
    "quoted sep": ('"sep=;"\nid;n\n', {"A1": "id", "B1": "n"}),
    "sep=:": ("sep=:\nid:n\n", "sheet_delimiter"),
    "marked sep": ("\ufeffsep=;\nid;n\n", {"A1": "id", "B1": "n"}),
    "a title above": ("Our samples\n\nid,n\nS1,1\n", {"A1": "Our samples", "A3": "id", "B3": "n", "A4": "S1", "B4": "1"}),
    "blank lines": ("\n\nid,n\n\n,\nS1,1\n\n", {"A3": "id", "B3": "n", "A6": "S1", "B6": "1"}),
    "trailing cells": ("id,n,,,\nS1,1,,,\n", {"A1": "id", "B1": "n", "A2": "S1", "B2": "1"}),
    "ragged rows": ("id,n\nS1\nS2,1,x\n", {"A1": "id", "B1": "n", "A2": "S1", "A3": "S2", "B3": "1", "C3": "x"}),
    "no last line end": ("id,n\nS1,1", {"A1": "id", "B1": "n", "A2": "S1", "B2": "1"}),
    "outer spaces": ("id,n\n S1 ,1 \n", {"A1": "id", "B1": "n", "A2": " S1 ", "B2": "1 "}),
    "a quote within": ('id,n\n5" pipe,1\n', {"A1": "id", "B1": "n", "A2": '5" pipe', "B2": "1"}),
    "quotes of quotes": ('id,n\n"""S1""",1\n', {"A1": "id", "B1": "n", "A2": '"S1"', "B2": "1"}),
    "an empty quoted cell": ('id,n\n"",1\n', {"A1": "id", "B1": "n", "B2": "1"}),
    "quoted line ends": ('id,n\n"a\r\nb",1\n', {"A1": "id", "B1": "n", "A2": "a\r\nb", "B2": "1"}),
    "mixed line ends": ("id,n\r\nS1,1\nS2,2\rS3,3", {"A1": "id", "B1": "n", "A2": "S1", "B2": "1", "A3": "S2", "B3": "2", "A4": "S3", "B4": "3"}),
    "not closed": ('id,n\nS1,"x\nS2,y\n', "sheet_quoting line 2"),
    "not closed, late": ('id,n\n"a\nb",1\nS1,"x\n', "sheet_quoting line 4"),
    "text behind": ('id,n\nS1,1\n"S2"x,2\n', "sheet_quoting line 3"),
    "a space behind": ('id,n\n"S2" ,2\n', "sheet_quoting line 2"),
    "a lone quote": ('"', "sheet_quoting line 1"),
    "a quote without end": ('id,n\n"' + "x" * 200_000, "sheet_quoting line 2"),
    "tabs and commas": ("id\tn\nS1\t1,5\n", {"A1": "id", "B1": "n", "A2": "S1", "B2": "1,5"}),
    "other line ends are text": ("id,n\nS\u20281,a\u0085b\n", {"A1": "id", "B1": "n", "A2": "S\u20281", "B2": "!cell_unseen_character"}),
    "only separators": (",,,\n,,\n", {}),
    "only line ends and a letter": ("\n\n\nx", {"A4": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects(name: str) -> None:
    content, expected = DIALECTS[name]
    if isinstance(expected, dict):
        assert read_cells(content.encode()) == expected
        return
    code, _, place = expected.partition(" ")
    with pytest.raises(SheetError) as caught:
        read(content.encode())
    assert caught.value.code == code
    assert place in str(caught.value)


VALUES = [
    "NA",
    "NaN",
    "nan",
    "null",
    "NULL",
    "None",
    "none",
    "TRUE",
    "true",
    "FALSE",
    "007",
    "0",
    "00",
    "-0",
    "+1",
    "-1",
    "1e5",
    "1E5",
    "1e-5",
    "1.0",
    "1.50",
    "1,5",
    ".5",
    "5.",
    "0x1F",
    "inf",
    "Infinity",
    "1_000",
    "2024-01-31",
    "31.01.2024",
    "1/2/2024",
    "01/02/03",
    "13:45",
    "45292",
    "45292.5",
    "SEPT2",
    "MARCH1",
    "DEC1",
    "OCT4",
    "2-Sep",
    "1-Mar",
    "12345678901234567890",
    "#N/A",
    "#REF!",
    "=1+1",
    "=cmd|'/c'!A1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "'=1+1",
    "'x",
    "%00",
    "<b>",
    "&amp;",
    "_x0041_",
    "\\N",
    "\\t",
    "N/A",
    "n/a",
    "?",
    "-",
    "—",
    "½",
    "１２",
    "٣",
    "Ⅳ",
]


@pytest.mark.parametrize(
    "value", [*VALUES, " ", " x", "x ", "a  b", "a\tb", "\t=1+1", "\r=1", "\u00a0", "日本語", "e\u0301", "👩‍🔬"]
)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_values_stay_what_they_are(value: str, delimiter: str) -> None:
    content = write_csv([["id", "value", "n"], ["S1", value, "x"]], delimiter).encode()
    assert read_cells(content)["B2"] == value


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("a\0b", "cell_unseen_character"),
        ("\x07", "cell_unseen_character"),
        ("a\x1bb", "cell_unseen_character"),
        ("\x7f", "cell_unseen_character"),
        ("abc\u202egpj", "cell_unseen_character"),
        ("a\u200bb", "cell_unseen_character"),
        ("\ufeffx", "cell_unseen_character"),
        ("so\u00adft", "cell_unseen_character"),
        ("x" * 10_001, "cell_too_long"),
        ("x" * 100_000, "cell_too_long"),
    ],
)
def test_values_that_are_not_taken(value: str, code: str) -> None:
    cells = read_cells(write_csv([["id", "n"], ["S1", value], ["S2", "x"]]).encode())
    assert cells == {"A1": "id", "B1": "n", "A2": "S1", "B2": f"!{code}", "A3": "S2", "B3": "x"}


def test_the_longest_value() -> None:
    assert read_cells(write_csv([["id", "n"], ["S1", "ä" * 10_000]]).encode())["B2"] == "ä" * 10_000


def test_as_many_rows_and_columns_as_are_read() -> None:
    limits = replace(DEFAULT_LIMITS, rows=10, columns=5)
    rows = [[f"c{column}" for column in range(5)]] + [["x"] * 5] * 10
    assert len(read_cells(write_csv(rows).encode(), limits=limits)) == 55
    with pytest.raises(SheetError, match="more than 10 rows") as caught:
        read_cells(write_csv([*rows, ["x"]]).encode(), limits=limits)
    assert caught.value.code == "too_many_rows"
    with pytest.raises(SheetError, match="F2 holds something; only the first 5 columns") as caught:
        read_cells(write_csv([rows[0], ["", "", "", "", "", "x"]]).encode(), limits=limits)
    assert caught.value.code == "too_many_columns"
    assert len(read_cells(write_csv([[*row, "", "", ""] for row in rows]).encode(), limits=limits)) == 55


def test_the_default_limits() -> None:
    header = ",".join(f"c{number}" for number in range(500))
    assert len(read_cells(f"{header}\n".encode())) == 500
    with pytest.raises(SheetError, match="SG1"):
        read_cells(f"{header},x\n".encode())
    assert len(read_cells(b"id,n\n" + b"S,\n" * 100_000)) == 100_002
    with pytest.raises(SheetError, match="100,000 rows"):
        read_cells(b"id,n\n" + b"S,\n" * 100_001)


def test_a_line_without_end() -> None:
    with pytest.raises(SheetError) as caught:
        read_cells(b"," * 5_000_001)
    assert caught.value.code == "cell_too_large"
    with pytest.raises(SheetError) as caught:
        read_cells(b"x," * 2_000_000)
    assert caught.value.code == "too_many_columns"
