"""A record: text values by field, checked against the site's definitions, and stored by field id.

Values are text or null. What was sent is kept as it was sent, with two exceptions that the API
promises: numbers and booleans become text, and dates are stored as ISO 8601 and shown in the
field's own format. Everything that is wrong with a record is reported at once, and nothing is put
right: what a value may have meant is a suggestion.

Whoever reads sample sheets checks by this very code, in a process without a database.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

import re2

from datameta.errors import Problem
from datameta.logic.conditions import check_rules
from datameta.logic.dates import parse_date as parse_date
from datameta.logic.dates import parse_stored_date as parse_stored_date
from datameta.logic.fields import Field, Kind, Rulebook, parse_number
from datameta.logic.fields import normalise_value as normalise_value
from datameta.logic.suggestions import suggest_values

MAX_VALUE_LENGTH = 10_000
MAX_PATTERN_MEMORY = 1 << 20

StoredRecord: TypeAlias = dict[str, str]
"""A record as the database has it: text by the metadatum's row id (as JSON makes keys text)."""

SHORT = 40
"""Texts of so many characters are kept with what was said of them; no date is longer."""
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")
MOST_NAMED = 10
"""Allowed words that a message names; of longer lists it tells none."""


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Any:
    """Compile an administrator's regular expression for matching in linear time.

    Raises ``ValueError`` with the engine's reason.
    """
    options = re2.Options()
    options.max_mem = MAX_PATTERN_MEMORY
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it does not compile"
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None


def show_value(field: Field, stored: str | None) -> str | None:
    """Return a stored value as people see it: dates in the field's format."""
    if stored is None or not field.date_time_fmt:
        return stored
    return _show_date(stored, field.date_time_fmt) if len(stored) <= SHORT else stored


@lru_cache(maxsize=8192)
def _show_date(stored: str, date_format: str) -> str:
    """Return a date in a format; what is none, as it is. Those of many records are few."""
    value = parse_stored_date(stored)
    return stored if value is None else value.strftime(date_format)


def is_plain_text(text: str) -> bool:
    """Say whether the database can hold ``text``: no NUL, no half of a surrogate pair."""
    return "\0" not in text and (text.isascii() or not _HALF_SURROGATE.search(text))


def check_sent_record(
    book: Rulebook, sent: Mapping[str, Any], *, service_id: int | None = None
) -> tuple[StoredRecord, list[Problem]]:
    """Check a record as a client sent it, keyed by field name.

    The fields that may occur are those of ``service_id``, or those of no service; rules are for these
    alone. Returns the record to store (without its nulls) and every problem; a record with problems is
    not stored.
    """
    texts: dict[int, str | None] = {}
    problems: list[Problem] = []
    unknown: list[Problem] = []
    faulty: set[int] = set()
    by_name = book.by_name
    for name, value in sent.items():
        field = by_name.get(name)
        if field is None:
            shown = name if is_plain_text(name) else name.encode("ascii", "backslashreplace").decode()
            unknown.append(Problem("There is no such field.", "unknown_field", field=shown[:255]))
        elif field.service_id != service_id:
            message = "Only the service that this field belongs to may set it."
            if service_id is not None:
                message = "This field does not belong to the service."
            unknown.append(Problem(message, "service_field", field=name))
        elif type(value) is str and len(value) <= MAX_VALUE_LENGTH and value.isascii() and "\0" not in value:
            # As nearly all are.
            texts[field.id] = value
        else:
            text, problem = _text_of(value)
            if problem is None:
                texts[field.id] = text
            else:
                faulty.add(field.id)
                problems.append(Problem(problem[0], problem[1], field=name))
    record: StoredRecord = {}
    for field in book.fields_of(service_id):
        text = texts.get(field.id)
        if text and field.is_plain:
            record[field.key] = text
        elif field.id not in faulty and (text is not None or field.is_mandatory):
            found = check_value(field, text)
            if found:
                faulty.add(field.id)
                problems.extend(found)
            if text is not None:
                record[field.key] = store_value(field, text)
    problems.extend(unknown)
    if service_id is None and book.rules:
        problems.extend(check_rules(book, texts, faulty=faulty))
    return record, problems


def check_stored_record(
    book: Rulebook, record: StoredRecord, *, entity: dict[str, str] | None = None
) -> tuple[StoredRecord, list[Problem]]:
    """Check a stored record against today's definitions of the fields that belong to no service.

    Returns the record as today's definitions store it, which differs from ``record`` only where a
    field has been given a date format since.
    """
    problems: list[Problem] = []
    current = dict(record)
    texts: dict[int, str | None] = {}
    faulty: set[int] = set()
    for field in book.fields_of(None):
        stored = record.get(field.key)
        text = texts[field.id] = show_value(field, stored)
        found = check_value(field, text, entity=entity)
        if found:
            faulty.add(field.id)
            problems.extend(found)
        if stored is not None and field.date_time_fmt:
            current[field.key] = restore_value(field, stored)
    if book.rules:
        problems.extend(check_rules(book, texts, faulty=faulty, entity=entity))
    return current, problems


def check_value(field: Field, text: str | None, *, entity: dict[str, str] | None = None) -> list[Problem]:
    """Return what is wrong with one value, each problem with what would do instead, if that is known.

    The order is: mandatory, regular expression, date format, then what the refinement asks for.
    """
    problems = find_faults(field, text)
    if not problems:
        return problems
    if text:
        suggestion = next((value for value in suggest_values(field, text) if _would_do(field, text, value)), None)
        return [replace(problem, suggestion=suggestion, entity=entity) for problem in problems]
    return [replace(problem, entity=entity) for problem in problems]


def find_faults(field: Field, text: str | None) -> list[Problem]:
    """Return what is wrong with one value, as ``check_value`` without a suggestion."""
    if text and field.is_plain:
        return []
    name = field.name
    if text is None or text == "":
        if field.is_mandatory:
            message = "This field is mandatory."
            if field.missing_terms:
                message = f"This field is mandatory. If there is no value, write why: {_join(field.missing_terms)}."
            return [Problem(message, "mandatory_missing", field=name)]
        if text is None:
            return []
    if field.is_missing_term(text):
        return []
    problems = []
    if field.reg_exp and not _matches(field.reg_exp, text):
        message = field.regex_description or f"The value does not match the expression {field.reg_exp}."
        problems.append(Problem(message, "regex_mismatch", field=name))
    if field.date_time_fmt and parse_date(text, field.date_time_fmt) is None:
        message = f"The value is not a date of the form {field.date_time_fmt}."
        if field.example:
            message = f"The value is not a date of the form {field.date_time_fmt}, for example {field.example}."
        problems.append(Problem(message, "date_mismatch", field=name))
    if field.kind == Kind.NUMBER:
        problems.extend(_find_number_faults(field, text))
    elif field.kind == Kind.VOCABULARY and text not in field.vocabulary.words:
        problems.append(_refuse_word(field, text))
    return problems


def is_claimable(field: Field, value: str | None) -> bool:
    """Say whether a value takes part in uniqueness: null, blank values and missing terms never collide."""
    return value is not None and normalise_value(value) != "" and not field.is_missing_term(value)


def get_file_name(field: Field, record: StoredRecord) -> str | None:
    """Return the name of the file to which a stored record refers; None or empty: it refers to none."""
    value = record.get(field.key)
    return None if value is None or field.is_missing_term(value) else value


def store_value(field: Field, text: str) -> str:
    """Return the text to store: dates as ISO 8601, the rest as it is."""
    value = parse_date(text, field.date_time_fmt) if field.date_time_fmt else None
    return text if value is None else value.isoformat()


def restore_value(field: Field, stored: str) -> str:
    """Return a stored value as today's definition stores it: text is a date where a format came later."""
    return stored if parse_stored_date(stored) is not None else store_value(field, stored)


def hash_value(text: str) -> bytes:
    """Return the SHA-256 by which a value is claimed."""
    return hashlib.sha256(normalise_value(text).encode()).digest()


def _matches(pattern: str, text: str) -> bool:
    return _match_short(pattern, text) if len(text) <= SHORT else compile_pattern(pattern).fullmatch(text) is not None


@lru_cache(maxsize=8192)
def _match_short(pattern: str, text: str) -> bool:
    """Say whether a short text matches; those of many records are few."""
    return compile_pattern(pattern).fullmatch(text) is not None


def _would_do(field: Field, text: str, value: str) -> bool:
    return value not in (text, "") and not find_faults(field, value)


def _find_number_faults(field: Field, text: str) -> list[Problem]:
    number = parse_number(text)
    unit = f" {field.unit}" if field.unit else ""
    if number is None:
        message = "This is not a number. Write it with a point, like 0.5."
        if field.unit:
            message = f"This is not a number. Write it with a point, like 0.5, and without its unit, {field.unit}."
        return [Problem(message, "not_a_number", field=field.name)]
    if field.is_integer and not text.removeprefix("-").removeprefix("+").isdigit():
        return [Problem("This is not a whole number. Write it in digits alone.", "not_an_integer", field=field.name)]
    least, greatest = field.bounds
    if (least is None or least <= number) and (greatest is None or number <= greatest):
        return []
    lowest, highest = f"{field.minimum}{unit}", f"{field.maximum}{unit}"
    message = f"The number must be from {field.minimum} to {highest}."
    if greatest is None:
        message = f"The number must be at least {lowest}."
    elif least is None:
        message = f"The number must be at most {highest}."
    return [Problem(message, "out_of_bounds", field=field.name)]


def _refuse_word(field: Field, text: str) -> Problem:
    word = field.vocabulary.suggest(text)
    message = "This is none of the allowed words."
    if word is not None:
        message = f"This is none of the allowed words. Did you mean “{word}”?"
    elif len(field.vocabulary.terms) <= MOST_NAMED:
        message = (
            f"This is none of the allowed words, which are: {_join(term.term for term in field.vocabulary.terms)}."
        )
    return Problem(message, "not_in_vocabulary", field=field.name)


def _join(words: Iterable[str]) -> str:
    return ", ".join(f"“{word}”" for word in words)


def _text_of(value: Any) -> tuple[str | None, tuple[str, str] | None]:
    """Return a sent value as text, or the message and code of what is wrong with it."""
    if value is None:
        return None, None
    if isinstance(value, bool):
        return ("true" if value else "false"), None
    if isinstance(value, int | float):
        value = repr(value)
    if not isinstance(value, str):
        return None, ("A value is text, a number, true, false or null; not a list or an object.", "wrong_type")
    if len(value) > MAX_VALUE_LENGTH:
        return None, (f"A value has at most {MAX_VALUE_LENGTH:,} characters; this one has {len(value):,}.", "too_long")
    if not is_plain_text(value):
        return None, ("The value has a character that is not text (NUL or half of a surrogate pair).", "invalid_text")
    return value, None
