"""The commands by which a site is kept, and brought here from a released DataMeta."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from cryptography.fernet import Fernet

from datameta.backup import BackupError, make_backup, restore_backup
from datameta.commands import _open_database, _open_url, installation
from datameta.database import Database
from datameta.logic.file_rows import store_errors
from datameta.logic.fsck import Finding, prove_site
from datameta.logic.ownership import ADVICE
from datameta.released import Import, OldPortalError, import_portal
from datameta.settings import Settings, read_settings
from datameta.storage import Storage, open_storage
from datameta.vault import open_vault


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--objects", "copies_objects", is_flag=True, help="Copy the objects, too; else they stay in the store.")
@installation
def backup(settings: Settings, folder: Path, copies_objects: bool) -> None:
    """Write the database, and a manifest of the objects that belong to it, to a new FOLDER.

    The portal may run meanwhile. The site's key (DATAMETA_SECRET_KEY, or HOME/secret.key) is not in it, nor the
    settings: keep them elsewhere.
    """
    missing: list[str] = []
    with _refusals(), _open_database(settings) as database, store_errors():
        made = make_backup(
            database,
            open_storage(settings),
            open_vault(settings),
            folder,
            copies_objects=copies_objects,
            watch=_watch,
            tell=missing.append,
        )
    for message in missing:
        click.echo(f"FAIL  {message}")
    where = "copied" if made.is_copied else "which stay in the store"
    rows = sum(made.tables.values())
    click.echo(f"{folder}: {rows:,} rows, and {made.objects:,} objects of {made.bytes:,} bytes, {where}.")
    if missing:
        raise click.ClickException("The backup is whole, but the store is not.")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--replace", "replaces", is_flag=True, help="Put the backup in the place of all that is in the database.")
@click.option("--adopt", "adopts", is_flag=True, help="Make the store this database's: no other portal uses it.")
@installation
def restore(settings: Settings, folder: Path, replaces: bool, adopts: bool) -> None:
    """Restore the backup in FOLDER, and prove that the site is whole; exit code 1 if it is not.

    The portal and its worker must not run. Objects that were copied are written to the store where it lacks them.
    """
    storage = open_storage(settings)
    with _refusals(), _open_url(settings) as url, store_errors():
        restored = restore_backup(
            url,
            storage,
            open_vault(settings),
            folder,
            replaces=replaces,
            adopts=adopts,
            orphan_days=settings.orphan_days,
            watch=_watch,
            tell=lambda message: click.echo(f"note  {message}"),
        )
        wrong = _prove(url, settings, storage)
    made = restored.backup
    click.echo(f"Restored the backup of {made.made_at}: {sum(made.tables.values()):,} rows, {made.objects:,} objects.")
    if made.is_copied:
        click.echo(f"{restored.written:,} objects were written to the store, which had the others.")
    if not restored.is_adopted:
        click.echo(f"Nothing is removed from the store, as it may be that of another database. {ADVICE}")
    if wrong:
        raise click.ClickException(f"{wrong:,} things are not as they should be.")
    click.echo("'datameta fsck' finds nothing wrong; with --content it reads every object, too.")


def _prove(url: str, settings: Settings, storage: Storage) -> int:
    """Print what is wrong with the site; return how many things. Whose the store is, is told by who restored."""
    database = Database(url)
    wrong = 0
    try:
        for report in prove_site(database.sessions, storage, orphan_days=settings.orphan_days):
            if isinstance(report, Finding) and report.is_wrong and report.subject != "store":
                click.echo(f"FAIL  {report.subject}: {report.message}. {report.advice}")
                wrong += 1
    finally:
        database.dispose()
    return wrong


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (BackupError, OldPortalError) as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _watch(label: str, size: int) -> Iterator[Callable[[int], Any]]:
    """Show how far something has come, on standard error."""
    with click.progressbar(length=size, label=label, file=sys.stderr) as bar:
        yield bar.update


@click.command("import-datameta")
@click.argument("dsn")
@click.argument("storage_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--dry-run", "is_dry", is_flag=True, help="Change nothing; say what would be imported.")
@click.option(
    "--second-factor-key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file with the old portal's key of second factors (datameta.tfa.encrypt_key).",
)
@installation
def import_datameta(
    settings: Settings, dsn: str, storage_dir: Path, is_dry: bool, second_factor_key: Path | None
) -> None:
    """Import what a DataMeta 1.1.1 has: its database at DSN, and its files in STORAGE_DIR.

    The old portal is only read. What is here already is left as it is, so the import can be repeated.
    """
    url = read_settings({"datameta.database_url": dsn}, {}).database_url
    with _refusals(), _open_database(settings) as database, store_errors():
        order = Import(url, storage_dir, _read_key(second_factor_key), is_dry)
        report = import_portal(order, database, open_storage(settings), settings, open_vault(settings), _watch)
    for line in report.list_lines():
        click.echo(line)
    click.echo("This was a dry run: nothing was changed." if is_dry else "The import is done.")


def _read_key(path: Path | None) -> Fernet | None:
    try:
        return None if path is None else Fernet(path.read_bytes().strip())
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path} holds no key of second factors: {error}") from None
