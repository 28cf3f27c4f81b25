"""The schema's versions: brought up to date by one process at a time, and never served if unknown."""

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


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Say whether Alembic is to compare a table: the job queue's own are not in the models."""
    return not (kind == "table" and str(name).startswith("procrastinate_"))


COMPARISON: dict[str, Any] = {"compare_type": True, "compare_server_default": True, "include_name": is_ours}


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
    known = {script.revision for script in ScriptDirectory.from_config(make_config(url)).walk_revisions()}
    if found in known:
        raise SchemaError(f"The database has schema {found}; this version needs {head()}. Run 'datameta db upgrade'.")
    raise SchemaError(f"The database has schema {found}, which is newer than this DataMeta. Upgrade DataMeta.")


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
