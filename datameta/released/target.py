"""This portal's side of an import: what is here already, and how new rows are added with the ids they had."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, func, insert, select
from sqlalchemy.orm import Session

from datameta.identifiers import any_of
from datameta.models import AuditEvent, Group, Service
from datameta.models.base import HasSiteId, HasUuid
from datameta.released.old import OldPortal, OldPortalError
from datameta.released.report import Report
from datameta.settings import Settings
from datameta.vault import Vault

LONGEST_NAME = 255
REMOVALS = ("key.revoked", "registration.answered", "registration.lapsed", "metadataset.deleted", "file.deleted")


@dataclass
class Ids:
    """The ids that rows have here, by those that they have there."""

    groups: dict[int, int] = field(default_factory=dict)
    users: dict[int, int] = field(default_factory=dict)
    services: dict[int, int] = field(default_factory=dict)
    fields: dict[int, int] = field(default_factory=dict)
    submissions: dict[int, int] = field(default_factory=dict)
    new_submissions: list[int] = field(default_factory=list)
    files: dict[int, int] = field(default_factory=dict)


@dataclass
class Target:
    """All that the parts of an import work with; ``now`` is the database's."""

    db: Session
    old: OldPortal
    report: Report
    settings: Settings
    vault: Vault
    now: datetime
    ids: Ids = field(default_factory=Ids)

    def find_known(self, model: type[HasUuid], rows: Iterable[Row[Any]]) -> dict[UUID, int]:
        """Return which of the rows are here already: their ids here, by UUID."""
        uuids = [row.uuid for row in rows]
        if not uuids:
            return {}
        return {each.uuid: each.id for each in self.db.execute(select(model.uuid, model.id).where(
            model.uuid == any_of(uuids)))}  # fmt: skip

    def find_removed(self, rows: Iterable[Row[Any]]) -> set[UUID]:
        """Return which of the rows have been here, and were removed: these do not come again."""
        uuids = [row.uuid for row in rows]
        if not uuids:
            return set()
        is_removal = and_(AuditEvent.event.in_(REMOVALS), AuditEvent.entity_uuid == any_of(uuids))
        return {uuid for uuid in self.db.scalars(select(AuditEvent.entity_uuid).where(is_removal)) if uuid is not None}

    def add_rows(self, model: type[HasUuid], rows: Sequence[Mapping[str, Any]]) -> dict[UUID, int]:
        """Insert rows, each with its UUID; return their ids by UUID.

        Raises ``OldPortalError`` if another thing here has the site id of one.
        """
        if not rows:
            return {}
        if issubclass(model, HasSiteId):
            self._refuse_taken(model, [row["site_id"] for row in rows])
        added = self.db.execute(insert(model).returning(model.uuid, model.id), list(rows))
        return {row.uuid: row.id for row in added}

    def _refuse_taken(self, model: type[HasSiteId], site_ids: Sequence[str]) -> None:
        taken = self.db.scalars(select(model.site_id).where(model.site_id == any_of(site_ids))).all()
        if taken:
            raise OldPortalError(
                f"{', '.join(sorted(taken)[:5])}: other things of this portal have these ids. Import into a "
                "new portal, or one that has these things from the same old one."
            )


def shorten(text: str, longest: int, report: Report, subject: str, what: str) -> str:
    """Return a text that fits, and say so if something was cut off."""
    if len(text) <= longest:
        return text
    report.remark(subject, f"its {what} has {len(text):,} characters; here it has the first {longest:,}")
    return text[:longest]


def free_name(name: str, taken: Mapping[str, Any] | set[str], suffix: str, longest: int = 255) -> str:
    """Return the name, or the name with a suffix where that is taken."""
    return name if name not in taken else f"{name[: longest - len(suffix) - 3]} ({suffix})"


def read_now(db: Session) -> datetime:
    """Return the database's clock."""
    return db.scalars(select(func.now())).one()


def name_rows(
    target: Target, model: type[Service] | type[Group], names: Iterable[tuple[Any, str]]
) -> list[dict[str, Any]]:
    """Return the rows to add for services or groups, each there with its name; a taken name gets the site id, too."""
    what = model.__name__.lower()
    taken = set(target.db.scalars(select(model.name)))
    new = []
    for row, wanted in names:
        subject = f"{what} {row.site_id}"
        name = shorten(wanted, LONGEST_NAME, target.report, subject, "name")
        if name in taken:
            name = free_name(name, taken, row.site_id)
            target.report.remark(subject, f"another {what} here is called {row.name}; it is called {name}")
        taken.add(name)
        new.append({"uuid": row.uuid, "site_id": row.site_id, "name": name})
    return new
