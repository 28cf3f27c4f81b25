"""The whole import: contents first, then all rows in one transaction, or none.

An import that dies between the two leaves contents without rows, which the next one puts there again, and which are
swept if none comes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from sqlalchemy import select

from datameta.database import Database
from datameta.identifiers import any_of
from datameta.logic import audit
from datameta.logic.ownership import claim_store
from datameta.models import File
from datameta.released.catalogue import move_fields, move_services, move_settings
from datameta.released.contents import Content, copy_contents, measure_files
from datameta.released.data import DataMover, move_files, move_submissions
from datameta.released.old import OldPortal, open_old_portal
from datameta.released.people import move_groups, move_registrations, move_users
from datameta.released.report import Report
from datameta.released.target import Target, read_now
from datameta.settings import Settings
from datameta.storage import Storage
from datameta.vault import Vault

Watch = Callable[[str, int], AbstractContextManager[Callable[[int], Any]]]


@dataclass(frozen=True)
class Import:
    """Where from and where to; a dry one changes nothing."""

    url: str
    folder: Path
    second_factors: Fernet | None
    is_dry: bool


def import_portal(
    order: Import, database: Database, storage: Storage, settings: Settings, vault: Vault, watch: Watch
) -> Report:
    """Import what is not here yet, and say what was, and what is other here.

    Raises ``OldPortalError``, ``StorageUnavailableError``; then nothing was imported.
    """
    report = Report()
    with open_old_portal(order.url) as old:
        if not order.is_dry:
            claim_store(database.sessions, storage)
        contents = _copy_contents(order, old, database, storage, report, watch)
        with database.sessions() as db:
            target = Target(db, old, report, settings, vault, read_now(db))
            move_groups(target)
            move_users(target, order.second_factors)
            move_registrations(target)
            move_services(target)
            move_fields(target)
            move_settings(target)
            move_submissions(target)
            move_files(target, contents)
            DataMover(target).move()
            if +report.new and not order.is_dry:
                counts = {kind: number for kind, number in report.new.items() if number}
                audit.record_event(db, "site.imported", actor=None, after=counts)
            if order.is_dry:
                db.rollback()
            else:
                db.commit()
    return report


def _copy_contents(
    order: Import, old: OldPortal, database: Database, storage: Storage, report: Report, watch: Watch
) -> dict[Any, Content]:
    """Copy the contents of the files that are not here yet, or without their content."""
    rows = [row for row in old.list_rows("files") if row.content_uploaded]
    with database.sessions() as db:
        is_whole = File.problem.is_(None)
        query = select(File.uuid).where(File.uuid == any_of([row.uuid for row in rows]), is_whole) if rows else None
        here = set() if query is None else set(db.scalars(query))
    needed = [row for row in rows if row.uuid not in here]
    with watch("Reading files" if order.is_dry else "Copying files", measure_files(needed)) as advance:
        return copy_contents(needed, order.folder, None if order.is_dry else storage, advance, report)
