"""The way to PostgreSQL: one engine per process, and the three ways to use it.

* ``request_session``: the request's one transaction, committed by pyramid_tm alone.
* ``sessions``: short transactions of their own, for work that calls the store between them.
* ``autocommit``: single reads that need no transaction, such as "who is this?".
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import orjson
import psycopg
import zope.sqlalchemy
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, Dialect, Engine, Insert, PoolProxiedConnection, Select, create_engine, event, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.orm import sessionmaker
from zope.sqlalchemy.datamanager import STATUS_CHANGED

from datameta import logs
from datameta.metrics import SLOW_QUERIES

log = logging.getLogger(__name__)

STATEMENT_LENGTH = 1000

MIGRATION_LOCK = 0x44415441  # "DATA" in ASCII: any number that no other advisory lock of the portal uses.
SWEEP_LOCK = 0x44415442
SEAL_LOCK = 0x44415443
CHECK_LOCK = 0x44415444
REPORT_LOCK = 0x44415445

TRUSTED_SECONDS = 0.1
"""So long after its last use a connection is taken to be alive: no database restarts as quickly."""


class Database:
    """An engine and its sessions."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        slow_query_ms: int = 0,
        connect_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=15,
            # What was sent does not belong into the log, into which the text of a failure goes.
            hide_parameters=True,
            # Python's own takes several times as long, of which long lists consist.
            json_deserializer=orjson.loads,
            connect_args={
                "connect_timeout": 5,
                **({"cursor_factory": _make_timed_cursor(slow_query_ms)} if slow_query_ms else {}),
                "options": "-c timezone=UTC -c lock_timeout=30s -c jit=off",
                **(connect_args or {}),
            },
        )
        event.listen(self.engine, "checkin", _note_use)
        event.listen(self.engine, "checkout", self._try_connection)
        self.autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)
        self.request_session = sessionmaker(self.engine)
        # A session counts as changed from its first statement on: zope.sqlalchemy would otherwise
        # roll back what Core statements wrote. A COMMIT after mere reads costs the same.
        zope.sqlalchemy.register(self.request_session, initial_state=STATUS_CHANGED)

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _try_connection(self, connection: Any, record: Any, proxy: Any) -> None:
        """Replace a connection that has died; the pool's own way of finding out costs a round trip at each use."""
        if time.monotonic() - record.info.get("used_at", time.monotonic()) < TRUSTED_SECONDS:
            return
        try:
            self.engine.dialect.do_ping(connection)
        except Exception:
            raise DisconnectionError from None

    def read(self, statement: "Prepared", **values: Any) -> list[Any]:
        """Return all rows of a statement that only reads, in no transaction, and with little around it."""
        try:
            pooled = self.engine.raw_connection()
        except psycopg.Error as error:
            raise _wrap(error, self.engine.dialect) from error
        try:
            connection: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
            connection.autocommit = True
            try:
                return statement.run(pooled, self.engine.dialect, values)
            finally:
                if not connection.closed:
                    connection.autocommit = False
        finally:
            pooled.close()

    @contextmanager
    def locked(self, key: int) -> Iterator[bool]:
        """Hold an advisory lock of the whole database; yield False if another process has it."""
        with self.autocommit.connect() as connection:
            acquired = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}))
            try:
                yield acquired
            finally:
                if acquired:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def _make_timed_cursor(least_ms: int) -> type[psycopg.Cursor[Any]]:
    """Return a cursor that logs each statement that takes so long, under the operation or job that sent it.

    What the statement was given is not logged.
    """

    class TimedCursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, *args: Any, **kw: Any) -> Any:
            began = time.monotonic()
            super().execute(query, *args, **kw)
            _note_duration(query, began)
            return self

        def executemany(self, query: Any, *args: Any, **kw: Any) -> None:
            began = time.monotonic()
            super().executemany(query, *args, **kw)
            _note_duration(query, began)

    def _note_duration(query: Any, began: float) -> None:
        ms = (time.monotonic() - began) * 1000
        if ms >= least_ms:
            facts = {"query_ms": round(ms), "statement": " ".join(str(query).split())[:STATEMENT_LENGTH]}
            log.warning("slow query", extra={"facts": facts})
            SLOW_QUERIES.labels(logs.get_operation()).inc()

    return TimedCursor


class Prepared:
    """A statement that is written out once, for what nearly each request does, and given to the driver as it is.

    To find a statement again in SQLAlchemy's cache, and to wrap its rows, takes longer than PostgreSQL takes for a
    small one. Its parameters are all ``bindparam``; rows have the names of its columns, and values as the driver
    gives them. Failures are those of SQLAlchemy.
    """

    def __init__(self, statement: Select[Any] | Insert) -> None:
        self._statement = statement
        self._has_rows = bool(list(statement.exported_columns))

    @cached_property
    def _written(self) -> tuple[str, dict[str, Any]]:
        compiled = self._statement.compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]
        return str(compiled), dict(compiled.params)

    def all(self, connection: Connection, **values: Any) -> list[Any]:
        """Return all rows; none of a statement that returns nothing."""
        return self.run(connection.connection, connection.dialect, values)

    def first(self, connection: Connection, **values: Any) -> Any:
        """Return the first row, or None."""
        return next(iter(self.all(connection, **values)), None)

    def run(self, pooled: PoolProxiedConnection, dialect: Dialect, values: Mapping[str, Any]) -> list[Any]:
        """Return all rows as a connection of the pool gives them."""
        sql, constants = self._written
        cursor: Any = pooled.cursor(row_factory=namedtuple_row)
        try:
            with cursor:
                cursor.execute(sql, {**constants, **values})
                return cursor.fetchall() if self._has_rows else []
        except psycopg.Error as error:
            is_lost = pooled.driver_connection.closed  # type: ignore[union-attr]
            if is_lost:
                pooled.invalidate(error)
            raise _wrap(error, dialect, sql, is_lost=is_lost) from error


def _wrap(error: psycopg.Error, dialect: Dialect, sql: str = "", *, is_lost: bool = False) -> Exception:
    """Return a failure as SQLAlchemy would raise it."""
    return DBAPIError.instance(
        sql or None,
        None,
        error,
        psycopg.Error,
        hide_parameters=True,
        connection_invalidated=is_lost,
        dialect=dialect,
    )


def _note_use(connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()
