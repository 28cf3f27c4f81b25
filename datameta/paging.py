"""Pages of a list: keyset paging, in which a cursor says where the next page begins.

A cursor is opaque to clients: the base64 of the values by which the list is ordered.
"""

import base64
import re
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from datameta.clock import as_utc
from datameta.errors import Problem, ValidationError

NUMBER = re.compile(r"-?[0-9]{1,150}(\.[0-9]{1,150})?")
"""How a cursor writes a decimal number: in digits, and no more than a database takes."""


def make_cursor(*values: Any) -> str:
    """Return the cursor after a row with these values."""
    return base64.urlsafe_b64encode(orjson.dumps(values, default="{:f}".format)).decode("ascii").rstrip("=")


def parse_cursor(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """Return the values of a cursor, each int, str, Decimal or datetime as ``kinds`` says.

    Raises ``ValidationError``.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = orjson.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
        if not isinstance(values, list) or len(values) != len(kinds):
            raise ValueError("not made here")
        return tuple(_read(value, kind) for value, kind in zip(values, kinds, strict=True))
    except (ValueError, TypeError, OverflowError):
        raise ValidationError(
            Problem("Take the cursor from the page before.", "invalid_cursor", field="cursor")
        ) from None


def _read(value: Any, kind: type) -> Any:
    if kind is datetime:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            raise ValueError("without a time zone")
        return as_utc(instant)
    if kind is Decimal and NUMBER.fullmatch(value):
        return Decimal(value)
    if kind is str and isinstance(value, str) and "\0" not in value:
        return value
    if kind is not int or not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError("no row")
    return value
