"""The schema's versions: brought up to date by one process at a time, and never served if unknown."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from datameta.database import MIGRATION_LOCK
from datameta.models import Base

FOREIGN = re.compile(r"procrastinate_|(audit_events|unique_claims)_(\d+|default)(\.|$)")
"""Tables that are not in the models: the job queue's own, and partitions."""


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Say whether Alembic is to compare a table."""
    return not (kind == "table" and FOREIGN.match(str(name)))


def is_whole(item: Any, name: str | None, kind: str, is_reflected: bool, other: Any) -> bool:
    """Say whether Alembic is to compare something in a table: PostgreSQL has each key to a partitioned table once more
    for each of its partitions.
    """
    return not (kind == "foreign_key_constraint" and FOREIGN.match(item.elements[0].target_fullname))


COMPARISON: dict[str, Any] = {
    "compare_type": True,
    "compare_server_default": True,
    "include_name": is_ours,
    "include_object": is_whole,
}


class SchemaError(Exception):
    """The database's schema is not the one this version of the portal knows; the message says what to do."""


def make_config(url: str) -> Config:
    """Return Alembic's configuration for the scripts that came with this package."""
    config = Config()
    config.set_main_option("script_location", str(files("datameta").joinpath("alembic")))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def head() -> str:
    """Return the revision this version of the portal needs."""
    revision = ScriptDirectory.from_config(make_config("")).get_current_head()
    assert revision is not None
    return revision


def is_known(revision: str) -> bool:
    """Say whether this version of the portal knows a revision of the schema."""
    scripts = ScriptDirectory.from_config(make_config("")).walk_revisions()
    return revision in {script.revision for script in scripts}


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema up to date, waiting for another process that is at it."""
    _run(url, command.upgrade, revision)


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to a former revision."""
    _run(url, command.downgrade, revision)


def current(url: str) -> str | None:
    """Return the database's revision, or None for an empty database."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def require_current(url: str) -> None:
    """Raise ``SchemaError`` unless the database has exactly the schema this version needs."""
    found = current(url)
    if found is None:
        raise SchemaError("The database is empty. Run 'datameta db upgrade' first.")
    if found == head():
        return
    if found in list_known():
        raise SchemaError(f"The database has schema {found}; this version needs {head()}. Run 'datameta db upgrade'.")
    raise SchemaError(f"The database has schema {found}, which is newer than this DataMeta. Upgrade DataMeta.")


@cache
def list_known() -> frozenset[str]:
    """Return every revision that this version of the portal knows."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(make_config("")).walk_revisions())


def serves_on(found: str | None) -> bool:
    """Say whether a portal that runs already may go on with this revision: its own, or one made after it was started.

    A migration leaves alone what the version before needs (CONTRIBUTING.md), so that an upgrade stops nobody.
    """
    return found is not None and (found == head() or found not in list_known())


def find_drift(url: str) -> list[Any]:
    """Return how the database's tables differ from the models, as Alembic's operations."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=COMPARISON)
        return list(compare_metadata(context, Base.metadata))


def _run(url: str, action: Any, revision: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        try:
            config = make_config(url)
            config.attributes["connection"] = connection
            action(config, revision)
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
