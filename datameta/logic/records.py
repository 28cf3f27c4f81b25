"""A record: text values by field, checked against the site's definitions, and stored by field id.

Values are text or null. What was sent is kept as it was sent, with two exceptions that the API
promises: numbers and booleans become text, and dates are stored as ISO 8601 and shown in the
field's own format. Everything that is wrong with a record is reported at once.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeAlias

import re2

from datameta.errors import Problem
from datameta.models import MetaDatum

MAX_VALUE_LENGTH = 10_000
MAX_PATTERN_MEMORY = 1 << 20

StoredRecord: TypeAlias = dict[str, str]
"""A record as the database has it: text by the metadatum's row id (as JSON makes keys text)."""


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


def show_value(metadatum: MetaDatum, stored: str | None) -> str | None:
    """Return a stored value as people see it: dates in the field's format."""
    if stored is None or not metadatum.date_time_fmt:
        return stored
    value = parse_stored_date(stored)
    return stored if value is None else value.strftime(metadatum.date_time_fmt)


def is_plain_text(text: str) -> bool:
    """Say whether the database can hold ``text``: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def check_sent_record(
    definitions: Iterable[MetaDatum], sent: Mapping[str, Any], *, service_id: int | None = None
) -> tuple[StoredRecord, list[Problem]]:
    """Check a record as a client sent it, keyed by field name.

    The fields that may occur are those of ``service_id``, or those of no service. Returns the
    record to store (without its nulls) and every problem; a record with problems is not stored.
    """
    by_name = {metadatum.name: metadatum for metadatum in definitions}
    texts: dict[str, str | None] = {}
    problems: list[Problem] = []
    unknown: list[Problem] = []
    for name, value in sent.items():
        metadatum = by_name.get(name)
        if metadatum is None:
            shown = name if is_plain_text(name) else name.encode("ascii", "backslashreplace").decode()
            unknown.append(Problem("There is no such field.", "unknown_field", field=shown[:255]))
        elif metadatum.service_id != service_id:
            message = "Only the service that this field belongs to may set it."
            if service_id is not None:
                message = "This field does not belong to the service."
            unknown.append(Problem(message, "service_field", field=name))
        else:
            text, problem = _text_of(value)
            if problem is None:
                texts[name] = text
            else:
                problems.append(Problem(problem[0], problem[1], field=name))
    faulty = {problem.field for problem in problems}
    record: StoredRecord = {}
    for name, metadatum in by_name.items():
        if metadatum.service_id == service_id and name not in faulty:
            text = texts.get(name)
            problems.extend(check_value(metadatum, text))
            if text is not None:
                record[str(metadatum.id)] = store_value(metadatum, text)
    return record, problems + unknown


def check_stored_record(
    definitions: Sequence[MetaDatum], record: StoredRecord, *, entity: dict[str, str] | None = None
) -> tuple[StoredRecord, list[Problem]]:
    """Check a stored record against today's definitions of the fields that belong to no service.

    Returns the record as today's definitions store it, which differs from ``record`` only where a
    field has been given a date format since.
    """
    problems: list[Problem] = []
    current = dict(record)
    for metadatum in definitions:
        if metadatum.service_id is None:
            text = show_value(metadatum, record.get(str(metadatum.id)))
            problems.extend(check_value(metadatum, text, entity=entity))
            if text is not None:
                current[str(metadatum.id)] = restore_value(metadatum, record[str(metadatum.id)])
    return current, problems


def check_value(metadatum: MetaDatum, text: str | None, *, entity: dict[str, str] | None = None) -> list[Problem]:
    """Return what is wrong with one value: mandatory, then regular expression, then date format."""
    name = metadatum.name
    if text is None or text == "":
        if metadatum.is_mandatory:
            return [Problem("This field is mandatory.", "mandatory_missing", field=name, entity=entity)]
        if text is None:
            return []
    problems = []
    if metadatum.reg_exp and not compile_pattern(metadatum.reg_exp).fullmatch(text):
        message = metadatum.regex_description or f"The value does not match the expression {metadatum.reg_exp}."
        problems.append(Problem(message, "regex_mismatch", field=name, entity=entity))
    if metadatum.date_time_fmt and parse_date(text, metadatum.date_time_fmt) is None:
        message = f"The value is not a date of the form {metadatum.date_time_fmt}"
        message += f", for example {metadatum.example}." if metadatum.example else "."
        problems.append(Problem(message, "date_mismatch", field=name, entity=entity))
    return problems


def store_value(metadatum: MetaDatum, text: str) -> str:
    """Return the text to store: dates as ISO 8601, the rest as it is."""
    value = parse_date(text, metadatum.date_time_fmt) if metadatum.date_time_fmt else None
    return text if value is None else value.isoformat()


def restore_value(metadatum: MetaDatum, stored: str) -> str:
    """Return a stored value as today's definition stores it: text is a date where a format came later."""
    return stored if parse_stored_date(stored) is not None else store_value(metadatum, stored)


def normalise_value(text: str) -> str:
    """Return the form in which values are compared: NFC, without outer white space."""
    return unicodedata.normalize("NFC", text).strip()


def hash_value(text: str) -> bytes:
    """Return the SHA-256 by which a value is claimed."""
    return hashlib.sha256(normalise_value(text).encode()).digest()


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
