"""Numbers and dates that a file writes twice, as held and as shown: the shown one is taken if it tells the held one.

OpenDocument keeps for each cell what its program showed last, in the language of whoever used it. No language and no
format has to be known to verify it: 1.234,50 shows 1234.5 in one way only, and what shows neither year nor day
can't tell a date.
"""

import re
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import TypeAlias

from datameta.sheets.cells import shorten
from datameta.sheets.formats import (
    DAY,
    SHORT_YEARS,
    check_length,
    fault_of_digits,
    fault_of_hidden,
    format_duration,
    general,
    plain,
    read_number,
)
from datameta.sheets.values import Fault, Value

SEPARATORS = " '’\u00a0\u2009\u202f"
NUMBER = re.compile(rf"(?:[.,]?\d[\d.,{SEPARATORS}]*\d|[.,]?\d)(?:E[+-]?\d+)?", re.IGNORECASE)
GROUPED = re.compile(r"\d{1,3}(?:(?P<separator>[^\d])\d{3})(?:(?P=separator)\d{3})*")
INDIAN = re.compile(r"\d{1,2}(?:,\d{2})*,\d{3}")
CODE = re.compile(r"[^\d.,%(−–-]*\d[^.,%]*")
"""Whole numbers with signs between their digits, as 0000-0000 shows them."""
MINUS = re.compile(r"[-−–(]")
Part: TypeAlias = tuple[str, list[str | None]]
"""A part of a date and the ways to write it."""

DURATION = re.compile(r"PT(?:(\d{1,6})H)?(?:(\d{1,9})M)?(?:(\d{1,9})(?:[.,](\d{1,9}))?S)?")


def read_shown_number(raw: str, shown: str) -> Value:
    """Return the number that a file writes as ``raw`` and that a person sees as ``shown``."""
    number = read_number(raw)
    if isinstance(number, Fault):
        return number
    held, is_exact = number
    shown = shown.strip()
    if not shown:
        return Fault(f"The cell holds {plain(held)}, but its format shows nothing.", "cell_not_shown", plain(held))
    if not is_exact:
        return fault_of_digits(raw, held)
    if shown in ("TRUE", "FALSE") and held == (shown == "TRUE"):
        return shown
    if "E" not in shown.upper() and (too_long := check_length(held)):
        return too_long
    is_negative = bool(held < 0)
    seen = abs(held) * 100 if "%" in shown else abs(held)
    for found in NUMBER.finditer(shown):
        for text in list_readings(found[0]):
            if Decimal(text) == seen and is_negative == bool(MINUS.search(shown[: found.start()])):
                return f"{shown[: found.start()]}{text}{shown[found.end() :]}".strip()
    if CODE.fullmatch(shown) and not is_negative and re.sub(r"\D", "", shown).lstrip("0") == plain(held):
        return shown
    if held == 0 and shown in ("-", "–", "—"):
        return shown
    message = f"The cell shows {shorten(shown)}, but holds {general(held)}; round the value, or show all of its digits."
    return Fault(message, "cell_rounded", shorten(shown))


def list_readings(text: str) -> Iterator[str]:
    """Yield what a number can mean that is written with any point and separator, with a decimal point."""
    mantissa, letter, power = text.upper().partition("E")
    for point in ".", ",":
        whole, _, decimals = mantissa.partition(point)
        is_grouped = GROUPED.fullmatch(whole) or (point == "." and INDIAN.fullmatch(whole))
        if (not decimals or decimals.isdigit()) and (is_grouped or not whole or whole.isdigit()):
            whole = re.sub(r"\D", "", whole)
            yield f"{whole}.{decimals}{letter}{power}" if decimals else f"{whole}{letter}{power}"


def read_shown_date(raw: str, shown: str) -> Value:
    """Return the date that a file writes as ``raw`` and that a person sees as ``shown``."""
    try:
        value = datetime.fromisoformat(raw)
    except ValueError:
        return Fault(f"The cell holds {shorten(raw)}, which is no date.", "cell_no_date", shorten(shown))
    if value.tzinfo is not None:
        return Fault("The cell holds a date with a time zone.", "cell_no_date", shorten(shown))
    words = [word for word in re.findall(r"[^\W\d_]{2,}", shown) if word.upper() not in ("AM", "PM")]
    short_year = [f"{value.year % 100:02}"] if value.year in SHORT_YEARS else []
    parts: list[Part] = [
        ("the year", [f"{value.year:04}", *short_year]),
        ("the day", write_number(value.day)),
        ("the month", [*write_number(value.month), *([None] if words else [])]),
        *list_time_parts(value.time(), value.hour, shown),
    ]
    missing, rest = take(re.findall(r"\d+", shown), parts)
    if missing is not None:
        return fault_of_hidden(shown, raw, missing)
    # At midnight, what is left over is the time.
    return value if value.time() != time() or rest else value.date()


def read_shown_time(raw: str, shown: str) -> Value:
    """Return the time that a file writes as ``raw`` and that a person sees as ``shown``; a day and more stays text."""
    found = DURATION.fullmatch(raw)
    if found is None:
        return Fault(f"The cell holds {shorten(raw)}, which is no time of the day.", "cell_no_date", shorten(shown))
    hours, minutes, seconds = (int(part or 0) for part in found.groups()[:3])
    total = round(((hours * 60 + minutes) * 60 + seconds) * 1000 + float(f"0.{found[4] or 0}") * 1000)
    value = (datetime.min + timedelta(milliseconds=total % DAY)).time()
    missing, _ = take(re.findall(r"\d+", shown), list_time_parts(value, total // 3_600_000, shown))
    if missing is not None:
        return fault_of_hidden(shown, format_duration(total), missing)
    return value if total < DAY else shown.strip()


def list_time_parts(value: time, hours: int, shown: str) -> list[Part]:
    """Return what has to be seen of a time, and how it can be written."""
    if value == time() and not hours:
        return []
    halves = write_number((hours - 1) % 12 + 1) if re.search(r"[^\W\d_]", shown) and hours < 24 else []
    parts: list[Part] = [("the hour", [*write_number(hours), *halves])]
    if value.minute:
        parts.append(("the minutes", write_number(value.minute)))
    if value.second:
        parts.append(("the seconds", write_number(value.second)))
    if value.microsecond:
        digits = f"{value.microsecond // 1000:03}"
        ways: list[str | None] = [digits, digits.rstrip("0"), digits.removesuffix("0")]
        parts.append(("parts of a second", ways))
    return parts


def write_number(number: int) -> list[str | None]:
    """Return how a number of a date can be written."""
    return [str(number), f"{number:02}"] if number < 10 else [str(number)]


def take(numbers: list[str], parts: list[Part]) -> tuple[str | None, list[str]]:
    """Find each part among the numbers that are shown, no number for two of them.

    Returns the name of the part that is missing, or None, and the numbers that are left over. None among the ways to
    write a part stands for a word.
    """
    if not parts:
        return None, numbers
    (name, ways), *others = parts
    missing: str | None = name
    for way in ways:
        if way is None or way in numbers:
            rest = list(numbers)
            if way is not None:
                rest.remove(way)
            missing, left = take(rest, others)
            if missing is None:
                return None, left
    return missing, numbers
