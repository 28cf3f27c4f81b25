"""Numbers and dates that a file writes twice, as held and as shown: the shown one is taken if it tells the held one.

OpenDocument keeps for each cell what its program showed last, in the language of whoever used it. No language and no
format has to be known to verify it: 1.234,50 shows 1234.5 in one way only, and what shows neither year nor day
can't tell a date.
"""

import re
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from decimal import Decimal

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
    tokens = Tokens(shown)
    is_long = tokens.take(f"{value.year:04}")
    if not is_long and not (value.year in SHORT_YEARS and tokens.take(f"{value.year % 100:02}")):
        return fault_of_hidden(shown, raw, "the year")
    if not tokens.take_number(value.day):
        return fault_of_hidden(shown, raw, "the day")
    if not tokens.has_words and not tokens.take_number(value.month):
        return fault_of_hidden(shown, raw, "the month")
    if tokens.has_words:
        tokens.take_number(value.month)
    if hidden := tokens.find_hidden(value.time()):
        return fault_of_hidden(shown, raw, hidden)
    return value if value.time() != time() or tokens.numbers else value.date()


def read_shown_time(raw: str, shown: str) -> Value:
    """Return the time that a file writes as ``raw`` and that a person sees as ``shown``; a day and more stays text."""
    found = DURATION.fullmatch(raw)
    if found is None:
        return Fault(f"The cell holds {shorten(raw)}, which is no time of the day.", "cell_no_date", shorten(shown))
    hours, minutes, seconds = (int(part or 0) for part in found.groups()[:3])
    total = round(((hours * 60 + minutes) * 60 + seconds) * 1000 + float(f"0.{found[4] or 0}") * 1000)
    tokens = Tokens(shown)
    value = (datetime.min + timedelta(milliseconds=total % DAY)).time()
    if hidden := tokens.find_hidden(value, total // 3_600_000 if total >= DAY else None):
        return fault_of_hidden(shown, format_duration(total), hidden)
    return value if total < DAY else shown.strip()


class Tokens:
    """The numbers and words of a date as it is shown."""

    def __init__(self, shown: str) -> None:
        self.numbers = re.findall(r"\d+", shown)
        self.has_words = re.search(r"[^\W\d_]{2}", shown) is not None
        self.has_half = re.search(r"[^\W\d_]", shown) is not None

    def take(self, text: str) -> bool:
        """Take a number that is written so; say whether there is one."""
        if text in self.numbers:
            self.numbers.remove(text)
            return True
        return False

    def take_number(self, number: int) -> bool:
        """Take a number with or without a zero before it."""
        return self.take(str(number)) or self.take(f"{number:02}")

    def find_hidden(self, value: time, hours: int | None = None) -> str | None:
        """Return what of a time is not shown, or None; ``hours`` if they are more than those of a day."""
        remaining = Tokens("")
        remaining.numbers = list(self.numbers)
        if value == time() and hours is None:
            return None
        hour = value.hour if hours is None else hours
        if not remaining.take_number(hour) and not (self.has_half and remaining.take_number((hour - 1) % 12 + 1)):
            return "the hour"
        if value.minute and not remaining.take_number(value.minute):
            return "the minutes"
        if value.second and not remaining.take_number(value.second):
            return "the seconds"
        part = f"{value.microsecond // 1000:03}".rstrip("0")
        return "parts of a second" if part and not any(n.startswith(part) for n in remaining.numbers) else None
