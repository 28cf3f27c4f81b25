"""The way to PostgreSQL: one engine per process, and the three ways to use it.

* ``request_session``: the request's one transaction, committed by pyramid_tm alone.
* ``sessions``: short transactions of their own, for work that calls the store between them.
* ``autocommit``: single reads that need no transaction, such as "who is this?".
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import zope.sqlalchemy
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import sessionmaker
from zope.sqlalchemy.datamanager import STATUS_CHANGED

MIGRATION_LOCK = 0x44415441  # "DATA" in ASCII: any number that no other advisory lock of the portal uses.
SWEEP_LOCK = 0x44415442
SEAL_LOCK = 0x44415443
CHECK_LOCK = 0x44415444
REPORT_LOCK = 0x44415445


class Database:
    """An engine and its sessions."""

    def __init__(self, url: str, *, pool_size: int = 10, connect_args: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=15,
            pool_pre_ping=True,
            # What was sent does not belong into the log, into which the text of a failure goes.
            hide_parameters=True,
            connect_args={
                "connect_timeout": 5,
                "options": "-c timezone=UTC -c lock_timeout=30s -c jit=off",
                **(connect_args or {}),
            },
        )
        self.autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)
        self.request_session = sessionmaker(self.engine)
        # A session counts as changed from its first statement on: zope.sqlalchemy would otherwise
        # roll back what Core statements wrote. A COMMIT after mere reads costs the same.
        zope.sqlalchemy.register(self.request_session, initial_state=STATUS_CHANGED)

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()

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
