"""Whether the portal can do its work: the database answers, with the schema it needs, the store, and a worker.

Whoever asks costs a database query and a look into the store; what was found is told for a moment to all who ask.
"""

import logging
import time
from collections.abc import Mapping
from threading import Lock

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from datameta import migrations
from datameta.database import Database
from datameta.logic.jobs import has_worker
from datameta.storage import Storage, StorageUnavailableError

log = logging.getLogger(__name__)

PARTS = ("database", "migrations", "storage", "worker")
KEPT_SECONDS = 2
Parts = Mapping[str, str | None]
"""Each part with what is wrong with it, as a sentence, or None."""


class Health:
    """The health of one portal, as this process sees it."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._lock = Lock()
        self._found: Parts = {}
        self._found_at = 0.0

    def examine(self) -> Parts:
        """Return what is wrong with which part; many who ask at once cause one look."""
        with self._lock:
            if not self._found or time.monotonic() >= self._found_at + KEPT_SECONDS:
                former, self._found = self._found, examine(self._database, self._storage)
                self._found_at = time.monotonic()
                _log_changes(former, self._found)
            return self._found


def examine(database: Database, storage: Storage) -> Parts:
    """Look at each part once."""
    found: dict[str, str | None] = dict.fromkeys(PARTS, "The database does not answer.")
    try:
        with database.autocommit.connect() as connection:
            schema = _examine_schema(connection)
            found |= {"database": None, "migrations": schema, "worker": schema or _examine_worker(connection)}
    except (DBAPIError, PoolTimeoutError) as error:
        log.debug("the database does not answer: %s", type(error).__name__)
    found["storage"] = _examine_storage(storage)
    return found


def _examine_schema(connection: Connection) -> str | None:
    try:
        current = connection.scalar(text("SELECT version_num FROM alembic_version"))
    except ProgrammingError:
        current = None
    if migrations.serves_on(current):
        return None
    return f"The schema is {current or 'empty'}; this version needs {migrations.head()}. Run 'datameta db upgrade'."


def _examine_worker(connection: Connection) -> str | None:
    if has_worker(connection):
        return None
    return "No worker has given a sign of life for a minute: mails and verifications wait. Run 'datameta worker'."


def _examine_storage(storage: Storage) -> str | None:
    try:
        mark = storage.read_mark()
    except StorageUnavailableError as error:
        return f"The store does not answer: {error}."
    # Every start marks a store that is empty: this one was emptied, or is not mounted.
    return "The store has no mark that says whose it is. Is it mounted?" if mark is None else None


def _log_changes(former: Parts, found: Parts) -> None:
    for part, problem in found.items():
        if problem and problem != former.get(part):
            log.warning("not ready: %s", problem, extra={"facts": {"part": part}})
        elif former.get(part) and not problem:
            log.info("ready again: %s", part)
