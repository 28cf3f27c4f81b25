"""Time, in one place: every instant in the portal is an aware UTC datetime.

Decisions about rows compare with the database's own clock (``func.now()``), so that
processes on machines with different clocks agree; this module is for the rest.
"""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current instant, aware, in UTC."""
    return datetime.now(UTC)


def as_utc(instant: datetime) -> datetime:
    """Return ``instant`` in UTC; a naive one is taken as UTC."""
    if instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    return instant.astimezone(UTC)


def to_wire(instant: datetime) -> str:
    """Return ``instant`` as the API writes it: ISO 8601 with ``+00:00``."""
    return as_utc(instant).isoformat()
