"""What a sheet says, and what is found in it: at its cell, with nothing guessed or dropped without a word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any

import orjson
import pytest

from datameta.logic.fields import Field, Kind, Rulebook, Term, Vocabulary
from datameta.sheets.check import BATCH, HEADER_ROWS, from_letters, parse_area, run
from datameta.sheets.findings import MOST_FINDINGS, Finding
from datameta.sheets.remarks import HEADINGS
from datameta.sheets.values import Fault, Notice, Severity, SheetError, Value, Visibility, to_letters

FIELDS = (
    Field(1, "Lab-ID", is_mandatory=True, is_site_unique=True, example="S1"),
    Field(2, "Sampling date", date_time_fmt="%d.%m.%Y"),
    Field(3, "Platform", kind=Kind.VOCABULARY, vocabulary=Vocabulary((Term("Illumina", ("ILMN",)),))),
    Field(4, "FileR1", is_file=True),
    Field(5, "FileR2", is_file=True),
    Field(6, "Gene"),
    Field(7, "Accession", service_id=1),
)
HEADER = ["Lab-ID", "Sampling date", "Platform", "FileR1", "FileR2", "Gene"]


@dataclass
class Sheet:
    """One sheet of a file, as a reader gives it."""

    rows: Sequence[Sequence[Value]]
    name: str = "Samples"
    visibility: Visibility = Visibility.VISIBLE
    notices: list[Notice] = field(default_factory=list)

    def iterate_rows(self) -> Iterator[tuple[int, list[Value]]]:
        for number, row in enumerate(self.rows, 1):
            if any(value is not None for value in row):
                yield number, list(row)

    def list_notices(self) -> list[Notice]:
        return self.notices


@dataclass
class Book:
    """A file, as a reader gives it."""

    tables: list[Sheet]
    format: str = "xlsx"
    template_version: str | None = None


@dataclass
class Found:
    """What a check has said, put together."""

    tables: list[dict[str, Any]]
    rows: dict[int, dict[str, str]]
    ends: list[dict[str, Any]]
    findings: list[Finding]
    done: dict[str, Any]

    @property
    def told(self) -> list[tuple[str, str | None]]:
        return [(finding.code, finding.cell) for finding in self.findings]

    def find(self, code: str) -> Finding:
        [finding] = [finding for finding in self.findings if finding.code == code]
        return finding


def check(
    *tables: Sheet,
    fields: Sequence[Field] = FIELDS,
    example: dict[str, str] | None = None,
    template: str | None = None,
    **order: Any,
) -> Found:
    """Check a file of these sheets, and pass all that is said through JSON as between processes."""
    found = Found([], {}, [], [], {})
    full = {"rulebook": Rulebook(tuple(fields)).to_json(), "example": example or {}, **order}
    book = Book(list(tables), template_version=template)
    for said in map(orjson.loads, map(orjson.dumps, run(book, orjson.loads(orjson.dumps(full))))):
        if "table" in said:
            found.tables.append(said["table"])
        elif "rows" in said:
            assert len(said["rows"]) <= BATCH
            found.rows |= dict(said["rows"])
        elif "end" in said:
            found.ends.append(said["end"])
        elif "findings" in said:
            found.findings += map(Finding.from_json, said["findings"])
        else:
            found.done = said["done"]
    return found


def test_a_clean_sheet_is_its_records() -> None:
    row = ["S1", date(2026, 3, 14), "Illumina", "a.fq", "b.fq", None]
    found = check(Sheet([HEADER, row]))
    assert found.rows == {2: {"1": "S1", "2": "2026-03-14T00:00:00", "3": "Illumina", "4": "a.fq", "5": "b.fq"}}
    assert (found.findings, found.ends) == ([], [{"rows": 1, "bad": [], "isAllBad": False}])
    assert found.tables[0]["headerRow"] == 1
    assert found.done == {
        "format": "xlsx", "template": None, "counts": {"error": 0, "warning": 0, "note": 0}, "omitted": 0
    }  # fmt: skip


def test_the_header_is_found_by_its_names() -> None:
    title = ["Samples of Lab-ID", None, "2026"]
    found = check(Sheet([title, [], [None, " lab id ", "PLATFORM", "Note"], [None, "S1", "Illumina", "?"]]))
    assert found.tables[0]["headerRow"] == 3
    assert found.told == [("unknown_column", "D3"), ("header_spelling", "B3"), ("header_spelling", "C3")]
    assert found.find("unknown_column").severity is Severity.WARNING
    assert found.rows == {4: {"1": "S1", "3": "Illumina"}}


def test_a_file_without_a_header_is_refused() -> None:
    below = [[None]] * HEADER_ROWS
    for rows in ([], [["S1", "Illumina"]], [["Lab-ID"]], [*below, HEADER, ["S1"]]):
        with pytest.raises(SheetError) as refusal:
            check(Sheet([[value if value else "x" for value in row] or ["x"] for row in rows]))
        assert refusal.value.code == "no_header"
        assert "Lab-ID" in str(refusal.value)
    # A site with one field needs no more than that.
    assert check(Sheet([["Lab-ID"], ["S1"]]), fields=FIELDS[:1]).rows == {2: {"1": "S1"}}


def test_every_sheet_with_a_header_is_read_and_hidden_ones_are_not() -> None:
    sheets = [
        Sheet([HEADER, ["S1"]], "One"),
        Sheet([["Legend"], ["x"]], "Legend"),
        Sheet([HEADER, ["S2"]], "Old", Visibility.HIDDEN),
        Sheet([[], HEADER, [], ["S3"]], "Two"),
    ]
    found = check(*sheets)
    assert [(table["name"], table["state"]) for table in found.tables] == [
        ("One", "read"), ("Legend", "ignored"), ("Old", "hidden"), ("Two", "read")
    ]  # fmt: skip
    assert {record["1"] for record in found.rows.values()} == {"S1", "S3"}
    assert check(*sheets, sheet="two").rows == {4: {"1": "S3"}}
    for name, code in (("Three", "no_such_sheet"), ("Legend", "no_header"), ("Old", "no_header")):
        with pytest.raises(SheetError) as refusal:
            check(*sheets, sheet=name)
        assert refusal.value.code == code


def test_what_the_portal_has_written_itself_is_not_read() -> None:
    fields = (Field(1, "Field"), Field(2, "Value"))
    samples = Sheet([["Field", "Value"], ["a", "b"]])
    summary = Sheet([["Findings in a.xlsx"], [*HEADINGS], ["error", "A2", "Field", "a"]], "Findings")
    explanations = Sheet([["Field", "Value"], ["Value", "what it is"]], "Fields")
    found = check(summary, samples, explanations, fields=fields, template="1")
    assert [(table["name"], table["state"]) for table in found.tables] == [("Findings", "ignored"), ("Samples", "read")]
    assert check(samples, explanations, fields=fields).tables[1]["state"] == "read"


def test_columns_that_can_not_be_meant() -> None:
    unread = Fault("It is #N/A.", "cell_error", "#N/A")
    header = ["Lab-ID", "lab-id", "Accession", "Platfrom", None, unread, "Gene", "7"]
    rows = [["S1", "S2", None, None, "stray", None, "x"], [None, None, None, None, "foot"]]
    found = check(Sheet([header, *rows]))
    assert found.told == [
        ("duplicate_column", "A1"),
        ("duplicate_column", "B1"),
        ("cell_error", "F1"),
        ("service_column", "C1"),
        ("unknown_column", "D1"),
        ("unknown_column", "H1"),
        ("column_without_header", "E2"),
        ("row_ignored", None),
    ]
    assert found.findings[4].suggestion == "Platform"
    assert found.ends[0]["isAllBad"] is True


def test_a_mandatory_field_without_a_column_is_told_once() -> None:
    found = check(Sheet([["Platform", "Gene"], ["Illumina", "x"], ["Illumina", "y"]]))
    assert [(finding.code, finding.field, finding.rows) for finding in found.findings] == [
        ("column_missing", "Lab-ID", [1])
    ]
    assert found.ends[0]["isAllBad"] is True


def test_two_fields_of_nearly_one_name_are_never_mixed_up() -> None:
    twins = (*FIELDS, Field(8, "lab id"))
    found = check(Sheet([["LAB-ID", "Platform", "Gene", "Lab-ID"], ["x", None, None, "S1"]]), fields=twins)
    assert found.rows == {2: {"1": "S1"}}
    assert ("unknown_column", "A1") in found.told


def test_dates_are_written_as_the_field_writes_them() -> None:
    rows = [
        ["S1", datetime(2026, 3, 14)],
        ["S2", datetime(2026, 3, 14, 8, 30)],
        ["S3", time(8, 30)],
        ["S4", "2026-03-14"],
        ["S5", None, None, None, None, date(2026, 9, 2)],
    ]
    found = check(Sheet([HEADER, *rows]))
    assert found.rows[2]["2"] == "2026-03-14T00:00:00"
    assert found.told == [
        ("date_mismatch", "B3"), ("date_mismatch", "B4"), ("date_mismatch", "B5"), ("date_in_text_field", "F6")
    ]  # fmt: skip
    assert found.findings[2].suggestion == "14.03.2026"
    assert found.findings[3].value == "2026-09-02"
    clock = (Field(1, "A"), Field(2, "At", date_time_fmt="%H:%M"))
    assert check(Sheet([["A", "At"], ["x", time(8, 30)]]), fields=clock).findings == []


def test_cells_that_can_not_be_taken() -> None:
    rows: list[list[Value]] = [
        [Fault("It shows 7 and holds 7.4.", "shown_differs", "7")],
        ["S2 ", None, "ILMN"],
        ["S3", "  ", "Ilumina"],
        ["S4", None, "Ilumina"],
    ]
    found = check(Sheet([HEADER, *rows]))
    assert found.told == [
        ("shown_differs", "A2"),
        ("not_in_vocabulary", "C3"),
        ("not_in_vocabulary", "C4"),
        ("outer_space", "A3"),
        ("blank", "B4"),
    ]
    assert found.findings[2].rows == [4, 5]
    assert [finding.suggestion for finding in found.findings] == [None, "Illumina", "Illumina", "S2", None]
    assert found.ends == [{"rows": 4, "bad": [2, 3, 4, 5], "isAllBad": False}]


def test_what_occurs_twice_is_told_at_every_place() -> None:
    rows = [
        ["S1", None, None, "a.fq", "b.fq"],
        ["S2", None, None, "b.fq", "c.fq"],
        ["S1", None, None, None, None],
        ["S4"],
        ["S4"],
    ]
    found = check(Sheet([HEADER, *rows]))
    told = {(finding.code, area) for finding in found.findings for area in finding.list_areas()}
    assert told == {
        ("not_unique_in_sheet", "A2"), ("not_unique_in_sheet", "A4"), ("not_unique_in_sheet", "A5:A6"),
        ("duplicate_file_reference", "E2"), ("duplicate_file_reference", "D3"), ("duplicate_row", "6:6"),
    }  # fmt: skip
    assert found.ends[0]["bad"] == [2, 3, 4, 5, 6]


def test_missing_terms_are_no_values() -> None:
    fields = [Field(1, "ID", is_site_unique=True, missing_terms=("not collected",)), Field(2, "F", is_file=True)]
    assert check(Sheet([["ID", "F"], ["not collected"], ["not collected", "a.fq"]]), fields=fields).findings == []


def test_the_example_is_refused() -> None:
    found = check(Sheet([HEADER, ["S1", None, "Illumina"], ["S1x"]]), example={"Lab-ID": "S1", "Platform": "Illumina"})
    assert found.told == [("example_row", None)]
    assert found.find("example_row").list_areas() == ["2:2"]


def test_notices_count_where_something_is_read() -> None:
    merged = Severity.ERROR
    notices = [
        Notice(merged, "merged_cells", "Merged.", "A3:A4"),
        Notice(merged, "merged_cells", "Merged.", "G3:H4"),
        Notice(Severity.WARNING, "hidden_row", "Hidden.", "5:5"),
        Notice(merged, "merged_cells", "Merged.", "B9:C9"),
    ]
    rows = [["Title"], HEADER, ["S1"], ["S2"], ["S3"]]
    found = check(Sheet([*rows], notices=[*notices, Notice(merged, "merged_cells", "Merged.", "A1:F1")]))
    assert [(finding.code, finding.list_areas(), finding.field) for finding in found.findings] == [
        ("merged_cells", ["A3:A4"], "Lab-ID"), ("merged_cells", ["B9"], None), ("hidden_row", ["A5"], None)
    ]  # fmt: skip
    assert found.ends == [{"rows": 3, "bad": [3, 4, 9], "isAllBad": False}]
    across = Notice(merged, "merged_cells", "Merged.", "A2:B2")
    assert check(Sheet([*rows], notices=[across])).ends[0]["isAllBad"] is True


def test_a_sheet_of_nothing_but_errors_is_told_of_in_bounds() -> None:
    rows = [[f"S{number}", f"{number}?", f"P{number}"] for number in range(MOST_FINDINGS)]
    found = check(Sheet([HEADER, *rows]))
    assert len(found.findings) == MOST_FINDINGS
    assert found.done["counts"]["error"] == 2 * MOST_FINDINGS
    assert found.done["omitted"] == MOST_FINDINGS


def test_no_number_of_warnings_hides_an_error() -> None:
    rows = [[f" S{number}"] for number in range(MOST_FINDINGS + 1)]
    found = check(Sheet([HEADER, *rows, ["S", "x"]]))
    assert [finding.severity for finding in found.findings].count(Severity.ERROR) == 1
    assert (len(found.findings), found.done["omitted"]) == (MOST_FINDINGS + 1, 1)


def test_areas_are_read_as_they_are_written() -> None:
    assert parse_area("B2:C9") == (1, 2, 2, 9)
    assert parse_area("AA7") == (26, 7, 26, 7)
    assert parse_area("4:7") == (0, 4, 16383, 7)
    assert parse_area("B:C") == (1, 1, 2, 1048576)
    assert [from_letters(to_letters(number)) for number in range(20000)] == list(range(20000))
