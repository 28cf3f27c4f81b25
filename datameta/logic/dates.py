"""Dates are read in the format of their field alone.

Another form is only ever suggested, and only if it has one meaning.
"""

import re
from calendar import month_name
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache

PLAUSIBLE_YEARS = range(1900, 2101)
"""In eight digits in a row anything could be the year."""
MONTHS = {
    name[:length].casefold(): number for number, name in enumerate(month_name) if number for length in (3, len(name))
}
PROBE = datetime(2024, 2, 29)
_YEAR_FIRST = re.compile(r"([0-9]{4})([-./])([0-9]{1,2})\2([0-9]{1,2})")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-./ ])([0-9]{1,2})\2([0-9]{4})")
_DIGITS = re.compile(r"[0-9]{8}")
_NAMED = re.compile(r"([0-9]{1,2})(?:[-./ ]|\. )([A-Za-z]+)[-./ ]([0-9]{4})")
_NAME_FIRST = re.compile(r"([A-Za-z]+) ([0-9]{1,2}),? ([0-9]{4})")
_TIME = re.compile(r"(.+?)[T ]\s*([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")


@lru_cache(maxsize=8192)
def parse_date(text: str, date_format: str) -> datetime | None:
    """Return the instant that ``text`` writes in ``date_format``, or None.

    Only what the format can write again unchanged in meaning is a date: nothing is lost on the way
    to ISO 8601 and back.
    """
    try:
        value = datetime.strptime(text, date_format)
        return value if datetime.strptime(value.strftime(date_format), date_format) == value else None
    except (ValueError, OverflowError):
        return None


def parse_stored_date(text: str) -> datetime | None:
    """Return the instant of a value that was stored as a date, or None for other text."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return None
    return value if value.isoformat() == text else None


def suggest_date(text: str, date_format: str) -> str | None:
    """Return ``date_format`` of what ``text`` writes in another form, or None unless there is one reading.

    Neither is day and month guessed, nor a century, nor a time that was not given.
    """
    has_time = PROBE.strftime(date_format) != PROBE.replace(hour=13, minute=14, second=15, microsecond=16).strftime(
        date_format
    )
    found = set(_read_date_times(text) if ":" in text else () if has_time else _read_days(text))
    if len(found) != 1:
        return None
    [value] = found
    shown = value.strftime(date_format)
    return shown if parse_date(shown, date_format) == value else None


def _read_date_times(text: str) -> Iterator[datetime]:
    with suppress(ValueError):
        yield datetime.fromisoformat(text)
    match = _TIME.fullmatch(text)
    if match and int(match[2]) < 24:
        time = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=int(match[4] or 0))
        yield from (day + time for day in _read_days(match[1]))


def _read_days(text: str) -> Iterator[datetime]:
    for year, month, day in _list_readings(text):
        with suppress(ValueError):
            yield datetime(year, month, day)


def _list_readings(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield year, month and day of each reading, those that contradict each other and no days included."""
    if match := _YEAR_FIRST.fullmatch(text):
        yield int(match[1]), int(match[3]), int(match[4])
    elif match := _YEAR_LAST.fullmatch(text):
        yield int(match[4]), int(match[3]), int(match[1])
        yield int(match[4]), int(match[1]), int(match[3])
    elif _DIGITS.fullmatch(text):
        for year, first, second in ((text[:4], text[4:6], text[6:]), (text[4:], text[:2], text[2:4])):
            if int(year) in PLAUSIBLE_YEARS:
                yield int(year), int(first), int(second)
                if year == text[4:]:
                    yield int(year), int(second), int(first)
    elif match := _NAMED.fullmatch(text):
        yield int(match[3]), MONTHS.get(match[2].casefold(), 0), int(match[1])
    elif match := _NAME_FIRST.fullmatch(text):
        yield int(match[3]), MONTHS.get(match[1].casefold(), 0), int(match[2])
