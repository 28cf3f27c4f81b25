"""The template: what is typed stays, what can be chosen is chosen, and the example is what is read back."""

import csv
import io
from datetime import datetime
from itertools import product
from pathlib import Path

import pytest
from openpyxl import load_workbook

from datameta.logic.fields import Condition, Field, Kind, Operator, Rule, Rulebook, Term, Vocabulary
from datameta.sheets import template
from datameta.sheets.template import example_row, list_words, template_version, to_number_format, write_template
from tests.sheets.books import BOOK, FIELDS, RULES
from tests.sheets.libreoffice import Office, office

__all__ = ["office"]


def make(book: Rulebook = BOOK, kind: str = "xlsx") -> io.BytesIO:
    output = io.BytesIO()
    version = template_version(book)
    write_template(book, site_name="Example Site", version=version, output=output, format=kind)
    output.seek(0)
    return output


def test_every_staged_field_has_its_column() -> None:
    workbook = load_workbook(make())
    assert workbook.sheetnames == ["Samples", "Fields", "Lists", "_datameta"]
    sheet = workbook["Samples"]
    names = [field.name for field in BOOK.fields_of(None)]
    assert [cell.value for cell in sheet[1]] == names
    assert "QC result" not in names
    assert sheet.freeze_panes == "A2"
    mandatory, optional = sheet["A1"], sheet["D1"]
    assert mandatory.fill.fgColor.rgb != optional.fill.fgColor.rgb
    assert sheet["A2"].comment.text.startswith("Example: delete this row")
    comment = sheet["F1"].comment.text
    for words in ("The age of the host.", "Example: 34", "A whole number from 0 to 120 years.", "May stay empty."):
        assert words in comment
    assert "missing or not applicable" in comment


def test_columns_keep_what_is_typed() -> None:
    sheet = load_workbook(make())["Samples"]
    formats = {letters: sheet.column_dimensions[letters].number_format for letters in "ABCDEFGHIJ"}
    assert formats == {
        **dict.fromkeys("ABDEIJ", "@"),
        "C": "yyyy-mm-dd",
        "F": "General",
        "G": "General",
        "H": "dd\\.mm\\.yyyy hh:mm",
    }


def test_the_hidden_mark_carries_the_version() -> None:
    workbook = load_workbook(make())
    assert workbook["_datameta"].sheet_state == "veryHidden"
    assert workbook["_datameta"]["A1"].value == template_version(BOOK)
    name = workbook.defined_names["_datameta_template"]
    assert (name.attr_text, name.hidden) == ("'_datameta'!$A$1", True)


def test_the_version_changes_with_what_is_shown() -> None:
    version = template_version(BOOK)
    changed = [
        Rulebook(FIELDS[1:], RULES),
        Rulebook(FIELDS, RULES[1:]),
        Rulebook((*FIELDS[:-2], Field(10, "FASTQ R1", example="other")), RULES),
    ]
    assert version not in {template_version(book) for book in changed}
    # What only services fill is not shown, nor are synonyms.
    assert template_version(Rulebook(FIELDS[:-1], RULES)) == version
    again = Rulebook.from_json(BOOK.to_json())
    assert template_version(again) == version


def test_choices_come_from_lists() -> None:
    workbook = load_workbook(make())
    validations = {str(each.sqref): each for each in workbook["Samples"].data_validations.dataValidation}
    assert set(validations) == {f"{letters}2:{letters}10001" for letters in "DEFG"}
    lists = workbook["Lists"]
    assert lists.sheet_state == "hidden"

    def get_words(area: str) -> list[str]:
        return [cell.value for (cell,) in lists[area.removeprefix("Lists!").replace("$", "")]]

    assert get_words(validations["D2:D10001"].formula1) == ["female", "male", "unknown"]
    platforms = ["Illumina", "Oxford Nanopore", "PacBio", "Ion Torrent", "missing", "not applicable"]
    assert get_words(validations["E2:E10001"].formula1) == platforms
    bounds = validations["G2:G10001"]
    assert (bounds.type, bounds.operator, bounds.formula1, bounds.formula2) == ("decimal", "between", "0", "1000")
    custom = validations["F2:F10001"]
    assert custom.type == "custom"
    assert custom.formula1.startswith("IF(ISNUMBER(F2),AND(F2>=0,F2<=120,F2=INT(F2)),COUNTIF(Lists!$")


@pytest.mark.parametrize(
    ("low", "high", "is_integer", "expected"),
    [
        (None, None, False, ("custom", None, "IF(ISNUMBER(A2),TRUE,FALSE)", None)),
        (None, None, True, ("custom", None, "IF(ISNUMBER(A2),AND(A2=INT(A2)),FALSE)", None)),
        ("1.5", None, False, ("decimal", "greaterThanOrEqual", "1.5", None)),
        (None, "9", True, ("whole", "lessThanOrEqual", "9", None)),
    ],
)
def test_bounds_of_numbers(low: str | None, high: str | None, is_integer: bool, expected: tuple[object, ...]) -> None:
    field = Field(1, "N", kind=Kind.NUMBER, minimum=low, maximum=high, is_integer=is_integer)
    sheet = load_workbook(make(Rulebook((field,))))["Samples"]
    (found,) = sheet.data_validations.dataValidation
    assert (found.type, found.operator, found.formula1, found.formula2) == expected
    assert ("whole number" in found.error) == is_integer


def test_thousands_of_words_are_offered() -> None:
    words = tuple(Term(f"word {number}") for number in range(5000))
    field = Field(1, "Word", kind=Kind.VOCABULARY, vocabulary=Vocabulary(words), reg_exp="^w", is_mandatory=True)
    workbook = load_workbook(make(Rulebook((field,))))
    (validation,) = workbook["Samples"].data_validations.dataValidation
    assert validation.formula1 == "Lists!$A$2:$A$5001"
    assert workbook["Lists"]["A5001"].value == "word 4999"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("^(A|B|C)$", ["A", "B", "C"]),
        ("^(?:A|B)$", ["A", "B"]),
        ("(A|B)", ["A", "B"]),
        ("A|B", ["A", "B"]),
        (r"^(a\.b|c d)$", ["a.b", "c d"]),
        ("^(A|A|B)$", ["A", "B"]),
        ("^A|B$", None),
        ("^A$", None),
        ("^(A)$", None),
        ("A", None),
        ("^(A|)$", None),
        ("^(A|B)*$", None),
        ("^(A|B.)$", None),
        ("^(A|[BC])$", None),
        (r"^(A|\d)$", None),
        ("^(A|B)(C|D)$", None),
        ("^(A| B)$", None),
        ("(?i)A|B", None),
        ("", None),
    ],
)
def test_lists_of_words_are_recognised(pattern: str, words: list[str] | None) -> None:
    assert list_words(pattern) == words


@pytest.mark.parametrize(
    ("date_format", "expected"),
    [
        ("%Y-%m-%d", "yyyy-mm-dd"),
        ("%d.%m.%Y", r"dd\.mm\.yyyy"),
        ("%m/%d/%y", r"mm\/dd\/yy"),
        ("%d %b %Y", "[$-409]dd mmm yyyy"),
        ("%d %B %Y", "[$-409]dd mmmm yyyy"),
        ("%Y-%m-%dT%H:%M:%S", r"yyyy-mm-dd\Thh:mm:ss"),
        ("%Y-%m-%d %I:%M %p", "[$-409]yyyy-mm-dd hh:mm AM/PM"),
        ("%Y%m%d", "yyyymmdd"),
        ("%Y", None),
        ("%Y-%m", None),
        ("%H:%M", None),
        ("%Y-%m-%d %M", None),
        ("%Y-%m-%d %I:%M", None),
        ("%Y-%m-%d %I %H %p", None),
        ("%Y-%m-%d %d", None),
        ("%Y-%m-%d %j", None),
        ("%Y-%m-%d %f", None),
        ("%Y-%m-%d %%", None),
        ("%Y-%m-%d%", None),
    ],
)
def test_date_formats_are_those_that_spreadsheets_have(date_format: str, expected: str | None) -> None:
    assert to_number_format(date_format) == expected


def test_the_example_is_what_is_read_back() -> None:
    sheet = load_workbook(make())["Samples"]
    values = [cell.value for cell in sheet[2]]
    assert values == [
        *("LAB-007", "007", datetime(2024, 3, 1), "female", "Illumina", 34, 12.5),
        *(datetime(2024, 4, 1, 14, 30), "SEPT2", "LAB-007_R1.fastq.gz"),
    ]
    assert example_row(BOOK) == [field.example for field in BOOK.fields_of(None)]
    assert {cell.font.italic for cell in sheet[2]} == {True}


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        (Field(1, "A", example=""), None, None),
        (Field(1, "A", example="=1+1"), "=1+1", "=1+1"),
        (Field(1, "A", example="a\x00\x0b\ud800b"), "ab", "ab"),
        (Field(1, "A", example="5.0", kind=Kind.NUMBER), "5.0", "5.0"),
        (Field(1, "A", example="1e5", kind=Kind.NUMBER), "1e5", "1e5"),
        (Field(1, "A", example="-0", kind=Kind.NUMBER), "-0", "-0"),
        (Field(1, "A", example="-7", kind=Kind.NUMBER), -7, "-7"),
        (Field(1, "A", example="0.25", kind=Kind.NUMBER), 0.25, "0.25"),
        (Field(1, "A", example="0.123456789012", kind=Kind.NUMBER), "0.123456789012", "0.123456789012"),
        (Field(1, "A", example="missing", kind=Kind.NUMBER), "missing", "missing"),
        (Field(1, "A", example="99999999999", kind=Kind.NUMBER), "99999999999", "99999999999"),
        (Field(1, "A", example="2024-3-1", date_time_fmt="%Y-%m-%d"), "2024-3-1", "2024-3-1"),
        (Field(1, "A", example="then", date_time_fmt="%Y-%m-%d"), "then", "then"),
        (Field(1, "A", example="2024", date_time_fmt="%Y"), "2024", "2024"),
    ],
)
def test_examples_that_are_not_what_they_look_like(field: Field, value: object, read: str | None) -> None:
    cell = load_workbook(make(Rulebook((field,))))["Samples"]["A2"]
    assert cell.value == value
    assert cell.data_type != "f"
    assert example_row(Rulebook((field,))) == [read]


def test_the_fields_are_documented() -> None:
    rows = [[cell.value for cell in row] for row in load_workbook(make())["Fields"]]
    texts = [text for row in rows for text in row if text]
    assert any("Example Site" in text for text in texts)
    by_name = {row[0]: row for row in rows}
    assert by_name["Barcode"][:7] == [
        *("Barcode", "yes", "in the whole site", "The number on the tube.", "Three digits.", "007", None),
    ]
    assert by_name["Sample ID"][2] == "in the submission"
    assert by_name["Platform"][6] == "4"
    assert by_name["Concentration"][7] == "ng/µl"
    assert "A file that is handed in." in by_name["FASTQ R1"][3]
    assert "If Host sex is female or male: Host age is filled in." in texts
    assert "The age is needed where the sex is known." in texts
    assert "Always: Read date is at least Collected." in texts


def test_rules_in_words() -> None:
    for operator, expected in product(Operator, [None]):
        other = None if operator in (Operator.IS_FILLED, Operator.IS_EMPTY) else 2
        condition = Condition(1, operator, ("x",), other)
        said = template.describe_rule(BOOK, Rule("", (condition,)))
        assert said.startswith("Always: Sample ID is") is (expected is None)
    assert template.describe_words(str(number) for number in range(20)).endswith("or one of 10 others")
    assert template.describe_number(Field(1, "A", minimum="1")) == "A number with a decimal point, at least 1."
    assert template.describe_number(Field(1, "A", maximum="1")) == "A number with a decimal point, at most 1."
    assert template.describe_number(Field(1, "A")) == "A number with a decimal point."
    assert "expression ^x+$" in template.describe_values(Field(1, "A", reg_exp="^x+$"))


def test_the_csv_has_header_and_example() -> None:
    content = make(kind="csv").read()
    assert content.startswith(b"\xef\xbb\xbf")
    header, example = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    assert header == [field.name for field in BOOK.fields_of(None)]
    assert example == example_row(BOOK)


@pytest.mark.parametrize("fields", [(), (Field(1, "=A_x0041_\x01", "r" * 5000, "l" * 9000, "e" * 5000),)])
def test_extremes_are_written(fields: tuple[Field, ...]) -> None:
    workbook = load_workbook(make(Rulebook(fields)))
    if fields:
        assert workbook["Samples"]["A1"].value == "=A_x005F_x0041_"
        assert len(workbook["Samples"]["A1"].comment.text) == 2000


def test_libreoffice_shows_the_template(office: Office, tmp_path: Path) -> None:
    file = tmp_path / "template.xlsx"
    file.write_bytes(make().read())
    with office.convert(file, "csv", sheet=1).open(encoding="utf-8", newline="") as text:
        rows = list(csv.reader(text))
    # What a person sees is what the checker takes for the example.
    assert rows == [[field.name for field in BOOK.fields_of(None)], example_row(BOOK)]
    sheet = load_workbook(office.convert(file, "xlsx"))["Samples"]
    # LibreOffice writes the part of a range that has cells, and a thousand rows more.
    validations = {str(each.sqref).partition(":")[0]: each for each in sheet.data_validations.dataValidation}
    assert set(validations) == {"D2", "E2", "F2", "G2"}
    assert validations["E2"].formula1 == "Lists!$B$2:$B$7"
    assert "Example: delete this row" in sheet["A2"].comment.text
    assert sheet["B2"].number_format == "@"
    assert sheet["B2"].value == "007"
