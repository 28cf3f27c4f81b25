"""Instants are aware and in UTC; a refusal always says what is wrong."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from datameta.clock import as_utc, to_wire, utc_now
from datameta.errors import ConflictError, DataMetaError, NotFoundError, Problem, ValidationError


def test_every_instant_is_in_utc() -> None:
    assert utc_now().tzinfo is UTC
    assert as_utc(datetime(2024, 1, 1)) == datetime(2024, 1, 1, tzinfo=UTC)
    east = datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert as_utc(east).isoformat() == "2024-01-01T00:00:00+00:00"
    assert to_wire(east) == "2024-01-01T00:00:00+00:00"


def test_a_refusal_is_made_of_problems_a_problem_or_a_sentence() -> None:
    first, second = Problem("One.", "one"), Problem("Two.", "two", field="f", entity={"uuid": "u"})
    assert ValidationError([first, second]).problems == [first, second]
    assert str(ValidationError(iter([first, second]))) == "One.; Two."
    assert ConflictError(second).problems == [second]
    assert NotFoundError().problems == [Problem("There is nothing with this id.", "not_found")]
    assert NotFoundError("No.", code="no").problems == [Problem("No.", "no")]


def test_a_refusal_without_a_problem_is_a_fault_of_ours() -> None:
    with pytest.raises(AssertionError, match="without a problem"):
        DataMetaError([])
