"""Query parameters whose form the specification cannot say."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from datameta.clock import as_utc
from datameta.errors import Problem, ValidationError


def parse_instants(parameters: Mapping[str, Any], *names: str) -> list[datetime | None]:
    """Return the parameters that are points in time, in UTC; None where one was not sent.

    Raises ``ValidationError`` naming each that is no ISO 8601 date-time.
    """
    problems: list[Problem] = []
    instants = [_parse_instant(parameters.get(name), name, problems) for name in names]
    if problems:
        raise ValidationError(problems)
    return instants


def _parse_instant(text: str | None, name: str, problems: list[Problem]) -> datetime | None:
    if text is None:
        return None
    # A plus sign that was not escaped in the address arrives as a space.
    text = re.sub(r"(T\S+) (\d\d:?\d\d)$", r"\1+\2", text)
    try:
        return as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        message = "Write the time as ISO 8601, such as 2030-01-31T12:00:00+01:00 (in an address, + is %2B)."
        problems.append(Problem(message, "invalid_date", field=name))
        return None
