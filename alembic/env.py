"""Alembic's entry: runs migrations on the connection that ``datameta.migrations`` hands over."""

from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection

from datameta.migrations import COMPARISON
from datameta.models import Base


def run_migrations(connection: Connection) -> None:
    """Run what was asked for in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        **COMPARISON,
    )
    with context.begin_transaction():
        context.run_migrations()


if "connection" in context.config.attributes:
    run_migrations(context.config.attributes["connection"])
else:
    with create_engine(context.config.get_main_option("sqlalchemy.url") or "").connect() as engine_connection:
        run_migrations(engine_connection)
        engine_connection.commit()
