"""The database of a released DataMeta 1.1.1, read in one snapshot that can change nothing.

Its instants have no time zone; they are UTC, as its API says.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, create_engine, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

PAGE = 500
NEEDED = {
    "groups": "id uuid site_id name",
    "users": "id uuid site_id email fullname pwhash group_id enabled site_admin group_admin site_read tfa_secret",
    "usedpasswords": "id user_id pwhash",
    "apikeys": "id uuid user_id value label expires",
    "regrequests": "id uuid fullname email group_id new_group_name",
    "services": "id uuid site_id name",
    "service_user": "user_id service_id",
    "metadata": "id uuid name regexp short_description long_description datetimefmt mandatory example order isfile "
    "submission_unique site_unique service_id",
    "appsettings": "id key int_value str_value float_value date_value time_value",
    "submissions": "id uuid site_id date label group_id",
    "files": "id uuid site_id name storage_uri content_uploaded checksum filesize user_id upload_expires",
    "metadatasets": "id uuid site_id user_id submission_id",
    "metadatumrecords": "id metadatum_id metadataset_id file_id value",
    "serviceexecutions": "id uuid service_id user_id metadataset_id datetime",
}
"""What is read, by table."""


class OldPortalError(Exception):
    """The old portal can't be read or brought over; the message says why and what to do."""


class OldPortal:
    """The rows of the old database."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._check()

    def list_rows(self, table: str, condition: str = "true", **values: Any) -> Sequence[Row[Any]]:
        """Return the rows of a table for which a condition holds, in the order in which they came."""
        columns = ", ".join(f'"{name}"' for name in NEEDED[table].split())
        order = "id" if "id" in NEEDED[table].split() else "user_id, service_id"
        query = text(f"SELECT {columns} FROM {table} WHERE {condition} ORDER BY {order}")  # noqa: S608
        return self._connection.execute(query, values).all()

    def list_pages(self, table: str) -> Iterator[Sequence[Row[Any]]]:
        """Yield the rows of a table in pages."""
        last = -1
        while page := self.list_rows(table, f"id > :last AND id IN ({_PAGE.format(table)})", last=last, page=PAGE):
            yield page
            last = page[-1].id

    def find_submitters(self) -> dict[int, list[int]]:
        """Return whose metadatasets each submission has."""
        query = (
            "SELECT submission_id, array_agg(DISTINCT user_id) AS users FROM metadatasets "
            "WHERE submission_id IS NOT NULL GROUP BY submission_id"
        )
        return {row.submission_id: row.users for row in self._connection.execute(text(query))}

    def find_submitted_files(self) -> set[int]:
        """Return the files that metadatasets refer to."""
        query = "SELECT DISTINCT file_id FROM metadatumrecords WHERE file_id IS NOT NULL"
        return set(self._connection.scalars(text(query)))

    def _check(self) -> None:
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
        found = {(row.table_name, row.column_name) for row in self._connection.execute(text(query))}
        missing = [
            f"{table}.{name}" for table, names in NEEDED.items() for name in names.split() if (table, name) not in found
        ]
        if missing:
            raise OldPortalError(
                f"This is no database of DataMeta 1.1.1: it has no {', '.join(missing[:3])}. An older one has to be "
                "brought up to date by DataMeta 1.1.1 first (alembic upgrade head)."
            )


_PAGE = "SELECT id FROM {} WHERE id > :last ORDER BY id LIMIT :page"


@contextmanager
def open_old_portal(url: str) -> Iterator[OldPortal]:
    """Yield the database at ``url``, as it is now.

    Raises ``OldPortalError``.
    """
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
        with engine.connect() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield OldPortal(connection)
    except (ArgumentError, DBAPIError) as error:
        reason = " ".join(str(getattr(error, "orig", error)).split())
        raise OldPortalError(f"The old database does not answer: {reason}") from None


def to_utc(instant: datetime | None) -> datetime | None:
    """Return an instant of the old database with its time zone."""
    return None if instant is None else instant.replace(tzinfo=UTC)
