"""What a value that was refused may have meant; whoever asks tries whether it would do, and a person decides."""

import re
import unicodedata
from collections.abc import Iterator

from datameta.logic.dates import suggest_date
from datameta.logic.fields import Field, Kind, fold, parse_number

MOST_DIGITS = 30
_COMMA = re.compile(r"([+-]?)([0-9]+),([0-9]+)")
_GROUPED = re.compile(
    r"([+-]?[0-9]{1,3}(?P<group>[ ',.])[0-9]{3}(?:(?P=group)[0-9]{3})*)(?:(?!(?P=group))[.,]([0-9]+))?"
)


def suggest_values(field: Field, text: str) -> Iterator[str]:
    """Yield values of the field that ``text`` may have meant, the likeliest first; not all of them would do."""
    trimmed = text.strip()
    yield trimmed
    yield from (term for term in field.missing_terms if fold(term) == fold(text))
    if field.kind == Kind.VOCABULARY:
        word = field.vocabulary.suggest(text)
        yield from () if word is None else (word,)
    if field.kind == Kind.NUMBER:
        yield from _suggest_numbers(trimmed, field)
    if field.date_time_fmt:
        date = suggest_date(trimmed, field.date_time_fmt)
        yield from () if date is None else (date,)


def _suggest_numbers(text: str, field: Field) -> Iterator[str]:
    """Yield the number without its unit, and with a point where a comma can't have meant anything else."""
    unit = unicodedata.normalize("NFKC", field.unit)
    written = unicodedata.normalize("NFKC", text).replace("\u2212", "-").removesuffix(unit).strip()
    yield written
    if match := _COMMA.fullmatch(written):
        sign, whole, fraction = match.groups()
        # 1,000 may be a thousand, or one.
        if len(fraction) != 3 or len(whole) > 3 or whole.startswith("0"):
            written = f"{sign}{whole}.{fraction}"
    elif match := _GROUPED.fullmatch(written):
        whole, group, fraction = match.groups()
        # So may 1.000, though it is a number as it stands.
        if group in ".," and not fraction and whole.count(group) == 1:
            return
        written = whole.replace(group, "") + (f".{fraction}" if fraction else "")
    yield written
    number = parse_number(written)
    if field.is_integer and number is not None and number.adjusted() < MOST_DIGITS and number == int(number):
        yield str(int(number))
