"""Work that outlives a request: a job is stored in the transaction that wants it, and done by a worker later.

The queue is Procrastinate's, on the portal's own PostgreSQL. Who wants a job done names it; what it
does is in ``jobs/``.
"""

import logging
from typing import Any

import procrastinate
from sqlalchemy.orm import Session

# What is to be known of a job, its task says; the library would log each step of it, with all arguments.
logging.getLogger("procrastinate").setLevel(logging.WARNING)

queue = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())


def store_job(db: Session, name: str, *, queue_name: str = "default", **arguments: Any) -> None:
    """Store a job in this session's transaction; it exists if and only if that commits."""
    connection = db.connection().connection.driver_connection
    queue.configure_task(name, queue=queue_name, connection=connection).defer(**arguments)
