"""Suggestions: what would do instead of a value that was refused, where it can have meant one thing only."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datameta.logic import records
from datameta.logic.dates import suggest_date
from datameta.logic.fields import Field, Kind, Term, Vocabulary
from datameta.logic.suggestions import suggest_values


def suggest(text: str, **rules: Any) -> str | None:
    """Return what would do instead of a value that is refused."""
    problems = records.check_value(Field(1, "A", **rules), text)
    [suggestion] = {problem.suggestion for problem in problems}
    return suggestion


@pytest.mark.parametrize(
    ("text", "date_format", "suggestion"),
    [
        # What was meant is certain.
        (" 2024-03-15", "%Y-%m-%d", "2024-03-15"),
        ("2024/03/15", "%Y-%m-%d", "2024-03-15"),
        ("15.03.2024", "%Y-%m-%d", "2024-03-15"),
        ("15.3.2024", "%Y-%m-%d", "2024-03-15"),
        ("03/15/2024", "%d.%m.%Y", "15.03.2024"),
        ("4.4.2024", "%Y-%m-%d", "2024-04-04"),
        ("20240315", "%Y-%m-%d", "2024-03-15"),
        ("20121112", "%Y-%m-%d", "2012-11-12"),
        ("15 March 2024", "%Y-%m-%d", "2024-03-15"),
        ("Mar 5, 2024", "%Y-%m-%d", "2024-03-05"),
        ("5-Mar-2024", "%Y-%m-%d", "2024-03-05"),
        ("2024-03-15 00:00:00", "%Y-%m-%d", "2024-03-15"),
        ("2024-03-15T00:00", "%d.%m.%Y", "15.03.2024"),
        ("15.03.2024 13:45", "%Y-%m-%d %H:%M", "2024-03-15 13:45"),
        ("2024-03-15T13:45:10", "%Y-%m-%d %H:%M:%S", "2024-03-15 13:45:10"),
        ("2024-03-15T13:45:00+01:00", "%Y-%m-%d %H:%M %z", "2024-03-15 13:45 +0100"),
        # Day and month could be either.
        ("03.04.2024", "%Y-%m-%d", None),
        ("03/04/2024", "%d.%m.%Y", None),
        ("01022003", "%Y-%m-%d", None),
        ("3.4.2024 10:00", "%Y-%m-%d %H:%M", None),
        # The century was not told, or the time, or its zone; or it would be lost.
        ("15.03.24", "%Y-%m-%d", None),
        ("2024-03-15", "%Y-%m-%d %H:%M", None),
        ("2024-03-15 13:45", "%Y-%m-%d %H:%M %z", None),
        ("2024-03-15T13:45:00+01:00", "%Y-%m-%d %H:%M", None),
        ("2024-03-15 13:45", "%Y-%m-%d", None),
        ("2024-03-15 25:00", "%Y-%m-%d", None),
        ("2024-03-15", "%Y", None),
        # It is no date.
        ("30.02.2024", "%Y-%m-%d", None),
        ("99999999", "%Y-%m-%d", None),
        ("10:00", "%Y-%m-%d", None),
        ("spring", "%Y-%m-%d", None),
    ],
)
def test_a_date_in_another_form_is_suggested_if_it_has_one_meaning(
    text: str, date_format: str, suggestion: str | None
) -> None:
    assert suggest(text, date_time_fmt=date_format) == suggestion


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("5 ", "5"),
        ("5 ng", "5"),
        ("5ng", "5"),
        ("0,5", "0.5"),
        ("0,5 ng", "0.5"),
        ("12,25", "12.25"),
        ("0,500", "0.500"),
        ("1234,567", "1234.567"),
        ("−5", "-5"),
        ("1 000", "1000"),
        ("1\u00a0000,5", "1000.5"),
        ("1'000.5", "1000.5"),
        ("1,234,567", "1234567"),
        ("1.234.567", "1234567"),
        ("1,234.5", "1234.5"),
        ("1.234,5", "1234.5"),
        # A thousand, or one? And what is not of this unit is no number of the field.
        ("1,000", None),
        ("5 µg", None),
        ("5 NG", None),
        ("1 00", None),
        ("<5", None),
        ("five", None),
    ],
)
def test_a_number_is_suggested_without_its_unit_and_with_a_point(text: str, suggestion: str | None) -> None:
    assert suggest(text, kind=Kind.NUMBER, unit="ng") == suggestion


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("5.0", "5"),
        ("5e2", "500"),
        ("5,0", "5"),
        ("5.5", None),
        ("1.000", None),
        ("1,000", None),
        ("1e100000", None),
        ("-7.00", "-7"),
    ],
)
def test_a_whole_number_is_suggested_in_digits(text: str, suggestion: str | None) -> None:
    assert suggest(text, kind=Kind.NUMBER, is_integer=True) == suggestion


def test_units_that_look_the_same_are_the_same() -> None:
    assert suggest("5 \u00b5l", kind=Kind.NUMBER, unit="\u03bcl") == "5"


def test_only_what_would_do_is_suggested() -> None:
    assert suggest("200 ng", kind=Kind.NUMBER, unit="ng", maximum="100") is None
    assert suggest("15.03.2024", date_time_fmt="%Y-%m-%d", reg_exp="2025.*") is None
    assert suggest(" 12", reg_exp="[0-9]{3}") is None
    assert suggest(" 123\n", reg_exp="[0-9]{3}") == "123"
    assert suggest("  ", reg_exp="[0-9]*|x") is None


def test_terms_for_missing_values_are_suggested_as_they_are_written() -> None:
    rules: dict[str, Any] = {"missing_terms": ("not collected", "missing: lab stock"), "date_time_fmt": "%Y-%m-%d"}
    assert suggest("Not Collected", **rules) == "not collected"
    assert suggest("missing - LAB stock", **rules) == "missing: lab stock"
    assert suggest("not provided", **rules) is None


def test_words_are_suggested() -> None:
    words = Vocabulary((Term("Homo sapiens", ("human",)),))
    assert suggest("Human", kind=Kind.VOCABULARY, vocabulary=words) == "Homo sapiens"
    assert suggest("Rattus", kind=Kind.VOCABULARY, vocabulary=words) is None


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.from_regex(r"[0-9.,:/ -]{1,20}", fullmatch=True)
FIELDS = st.sampled_from(
    [
        Field(1, "A", date_time_fmt="%d.%m.%Y %H:%M"),
        Field(1, "A", date_time_fmt="%Y-%m-%d", missing_terms=("missing",)),
        Field(1, "A", kind=Kind.NUMBER, unit="ng", minimum="0", maximum="10", is_integer=True),
        Field(1, "A", kind=Kind.VOCABULARY, vocabulary=Vocabulary((Term("a", ("b",)), Term("A")))),
    ]
)


@given(TEXTS, FIELDS)
def test_whatever_is_suggested_passes(text: str, field: Field) -> None:
    problems = records.check_value(field, text)
    for suggestion in {problem.suggestion for problem in problems} - {None}:
        assert records.check_value(field, suggestion) == []


@given(TEXTS)
def test_no_text_breaks_the_search_for_suggestions(text: str) -> None:
    list(suggest_values(Field(1, "A", kind=Kind.NUMBER, is_integer=True), text))
    suggest_date(text, "%Y-%m-%d")
