"""A streaming replica of the database, for reading.

The rule this module guards: what is read from the replica is never older than the question. Before each use the
database is asked how far its log has been written to disk, which is past everything that anybody has been told is
done; the replica is used once it has replayed that much. If it takes longer than the site lets it, if the replica is
down, has become a database of its own or was never one of this database, the database itself is read.
So there is nothing to remember of who has written what, and no process has to know of another.

It needs ``synchronous_commit`` to be on in the database, as it is by default.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from datameta.database import Database

log = logging.getLogger(__name__)

REST_SECONDS = 5
"""A replica that has failed or is late is not asked again for so long: nobody else is to wait for it."""
POLL_SECONDS = 0.002
FAILURES = (DBAPIError, PoolTimeoutError, psycopg.Error)
"""Also the driver's own: giving a dead connection back may raise them."""
IDENTITY = "system_identifier::text || '/' || current_database()"
ASK_DATABASE = text(f"SELECT pg_current_wal_flush_lsn()::text, {IDENTITY} FROM pg_control_system()")  # noqa: S608
ASK_REPLICA = text(
    f"SELECT pg_is_in_recovery() AND {IDENTITY} = :identity, pg_last_wal_replay_lsn() >= CAST(:position AS pg_lsn) "  # noqa: S608
    "FROM pg_control_system()"
)
TRY = text("SELECT 1")
CONNECT_ARGS = {
    "connect_timeout": 2,
    # A replica whose machine has gone is noticed within seconds, also in the middle of a query.
    "tcp_user_timeout": 5000,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
}


class Replica:
    """A database and its replica. ``copy`` has the sessions of whichever of the two can be read now."""

    def __init__(self, url: str, database: Database, *, pool_size: int, wait_ms: int, slow_query_ms: int = 0) -> None:
        self.database, self.wait_seconds = database, wait_ms / 1000
        self.copy = Database(url, pool_size=pool_size, slow_query_ms=slow_query_ms, connect_args=CONNECT_ARGS)
        self.copy.sessions = _make_sessions(self)
        self.rests_until = 0.0

    @property
    def is_resting(self) -> bool:
        """Say whether the replica has failed, or was late, just now."""
        return time.monotonic() < self.rests_until

    def rest(self, reason: Any) -> None:
        """Leave the replica alone for a while."""
        self.rests_until = time.monotonic() + REST_SECONDS
        log.warning("the replica is not read for %d seconds: %s", REST_SECONDS, reason)

    def has_caught_up(self) -> bool:
        """Say whether the replica has everything that was committed before this call, waiting a little for it."""
        if self.is_resting:
            return False
        with self.database.autocommit.connect() as connection:
            position, identity = connection.execute(ASK_DATABASE).one()
        deadline = time.monotonic() + self.wait_seconds
        try:
            with self.copy.autocommit.connect() as connection:
                while True:
                    asked = {"position": position, "identity": identity}
                    is_ours, is_there = connection.execute(ASK_REPLICA, asked).one()
                    if not is_ours:
                        self.rest("it is no replica of this database")
                        return False
                    if is_there:
                        return True
                    if time.monotonic() >= deadline:
                        self.rest(f"it is more than {self.wait_seconds:g} seconds behind")
                        return False
                    time.sleep(POLL_SECONDS)
        except FAILURES as error:
            self.rest(describe(error))
            return False

    @contextmanager
    def reading(self) -> Iterator[Session | None]:
        """Yield a session of the replica if it has caught up, else None."""
        if self.has_caught_up():
            with self.copy.sessions() as db:
                yield db
        else:
            yield None


def describe(error: Exception) -> str:
    """Return what went wrong, without the statement."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())}"


def _make_sessions(replica: Replica) -> sessionmaker[Session]:
    """Return what opens sessions of the replica, and of its database while the replica can't be reached."""

    class Reading(Session):
        def close(self) -> None:
            # What was read is read; that the replica has gone meanwhile is no failure.
            try:
                super().close()
            except FAILURES as error:
                replica.rest(describe(error))

    class Sessions(sessionmaker[Session]):
        def __call__(self, **more: Any) -> Session:
            if not replica.is_resting:
                session = super().__call__(**more)
                try:
                    # The pool does not try a connection that was used a moment ago.
                    session.execute(TRY)
                except FAILURES as error:
                    session.close()
                    replica.rest(describe(error))
                else:
                    return session
            return replica.database.sessions(**more)

    return Sessions(replica.copy.engine, class_=Reading, expire_on_commit=False)
