"""Cursors: what a page gave is taken back, and anything else is refused."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datameta.errors import ValidationError
from datameta.paging import make_cursor, parse_cursor

INSTANTS = st.datetimes(timezones=st.just(UTC))
ROWS = st.integers(0, 2**63 - 1)


def encode(value: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@given(INSTANTS, ROWS)
def test_a_cursor_is_read_back(instant: datetime, row: int) -> None:
    assert parse_cursor(make_cursor(instant, row), datetime, int) == (instant, row)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), ROWS)
def test_a_cursor_with_a_text_is_read_back(text: str, row: int) -> None:
    assert parse_cursor(make_cursor(text, row), str, int) == (text, row)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**140), max_value=10**140, places=100))
def test_a_cursor_with_a_number_is_read_back(number: Decimal) -> None:
    assert parse_cursor(make_cursor(number), Decimal) == (number,)


@pytest.mark.parametrize("value", [1, None, True, ["a"], "a\0"])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        parse_cursor(encode([value]), str)


@pytest.mark.parametrize("value", [1, None, "", "x", "NaN", "1e5", "+1", "1.", ".5", "٣", "1" * 151, "1\n"])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        parse_cursor(encode([value]), Decimal)


def test_an_instant_is_read_in_any_zone() -> None:
    instant = datetime(2030, 1, 31, 12, tzinfo=timezone(timedelta(hours=1)))
    [read] = parse_cursor(make_cursor(instant), datetime)
    assert read == instant
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "a",
        "é",
        "bm90IGpzb24",
        make_cursor(1)[:-1],
        *map(
            encode,
            [
                {},
                7,
                "7",
                None,
                [],
                [1, 2],
                [True],
                [None],
                ["1"],
                [1.0],
                [-1],
                [2**63],
                [[1]],
                [{}],
            ],
        ),
    ],
)
def test_what_no_page_gave_is_refused(cursor: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse_cursor(cursor, int)
    [problem] = refused.value.problems
    assert (problem.code, problem.field) == ("invalid_cursor", "cursor")


@pytest.mark.parametrize(
    "value",
    [
        1,
        None,
        "",
        "today",
        "2030-01-31",
        "2030-01-31T12:00:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_what_is_no_instant_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        parse_cursor(encode([value]), datetime)


def test_a_cursor_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(ValidationError):
        parse_cursor(base64.urlsafe_b64encode(b"[" * 5000).decode(), int)


@given(st.text())
def test_no_text_does_harm(text: str) -> None:
    try:
        [row] = parse_cursor(text, int)
    except ValidationError:
        return
    assert 0 <= row < 2**63
