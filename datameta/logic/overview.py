"""What there is, in numbers: one's own staged things, what one may see of what was submitted, for site admins the site.

The rule this module guards: nothing is counted for somebody who may not see it. How many statements that takes does not
depend on how much there is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, Row, Select, String, cast, desc, func, select
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site, visible_executions, visible_submitted
from datameta.logic.file_rows import EXISTING
from datameta.logic.quotas import measure_usage
from datameta.logic.sweep import JOBS
from datameta.models import (
    File,
    FileState,
    Group,
    MetaDataSet,
    Registration,
    Service,
    ServiceExecution,
    Submission,
    User,
)

Query: TypeAlias = Select[*tuple[Any, ...]]

LAST = 10
LARGEST = 20
MONTHS = 24


@dataclass(frozen=True)
class Month:
    """What was submitted in a month, which is written as 2026-11."""

    month: str
    submissions: int = 0
    metadatasets: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class SiteOverview:
    """What site admins see of the whole site; ``groups`` are those that have submitted most."""

    months: Sequence[Month]
    groups: Sequence[Row[Any]]
    counts: Row[Any]


@dataclass(frozen=True)
class Overview:
    """What somebody sees at a glance; ``usage`` is bytes and quota, one's own and the group's."""

    staged: Row[Any]
    submissions: Row[Any]
    last_submissions: Sequence[Row[Any]]
    last_answers: Sequence[Row[Any]]
    usage: Sequence[tuple[int, int | None]]
    site: SiteOverview | None


def get_overview(db: Session, actor: Actor) -> Overview:
    """Return what the actor sees at a glance."""
    return Overview(
        staged=db.execute(_count_staged(actor)).one(),
        submissions=db.execute(_count_submitted(actor)).one(),
        last_submissions=db.execute(_select_last_submissions(actor)).all(),
        last_answers=db.execute(_select_last_answers(actor)).all(),
        usage=measure_usage(db, actor),
        site=_view_site(db) if may_administer_site(actor) else None,
    )


def list_months(now: datetime) -> list[str]:
    """Return the names of the last months, this one last."""
    newest = now.year * 12 + now.month - 1
    return [f"{number // 12:04}-{number % 12 + 1:02}" for number in range(newest - MONTHS + 1, newest + 1)]


def _count(model: type[Any], *conditions: ColumnElement[bool]) -> Any:
    """Return how many rows of a table there are, whatever the query around is about."""
    return select(func.count()).select_from(model).where(*conditions).correlate(None).scalar_subquery()


def _sum(column: Any) -> Any:
    return func.coalesce(cast(func.sum(column), BigInteger), 0)


def _count_staged(actor: Actor) -> Query:
    return select(
        _count(MetaDataSet, MetaDataSet.user_id == actor.id, MetaDataSet.submission_id.is_(None)).label("metadatasets"),
        func.count().label("files"),
        func.count().filter(File.state != FileState.CONFIRMED).label("files_open"),
        _sum(func.coalesce(File.size, File.announced_size, 0)).label("bytes"),
    ).where(
        File.user_id == actor.id,
        File.submission_id.is_(None),
        File.service_execution_id.is_(None),
        File.state.in_(EXISTING),
    )


def _count_submitted(actor: Actor) -> Query:
    return select(func.count().label("submissions"), *_sum_content()).where(visible_submitted(actor))


def _select_last_submissions(actor: Actor) -> Query:
    return (
        select(
            Submission.uuid,
            Submission.site_id,
            Submission.label,
            Submission.submitted_at,
            *_group_columns(),
            User.uuid.label("user_uuid"),
            User.site_id.label("user_site_id"),
            User.name.label("user_name"),
            Submission.metadataset_count.label("metadatasets"),
            Submission.file_count.label("files"),
            Submission.byte_count.label("bytes"),
        )
        .join(Group, Group.id == Submission.group_id)
        .join(User, User.id == Submission.user_id)
        .where(visible_submitted(actor))
        .order_by(Submission.submitted_at.desc(), Submission.id.desc())
        .limit(LAST)
    )


def _select_last_answers(actor: Actor) -> Query:
    return (
        select(
            MetaDataSet.uuid,
            MetaDataSet.site_id,
            Service.uuid.label("service_uuid"),
            Service.site_id.label("service_site_id"),
            Service.name.label("service_name"),
            ServiceExecution.executed_at,
        )
        .select_from(ServiceExecution)
        .join(Service, Service.id == ServiceExecution.service_id)
        .join(MetaDataSet, MetaDataSet.id == ServiceExecution.metadataset_id)
        .join(Submission, Submission.id == MetaDataSet.submission_id)
        .where(visible_executions(actor), visible_submitted(actor))
        .order_by(ServiceExecution.id.desc())
        .limit(LAST)
    )


def _view_site(db: Session) -> SiteOverview:
    failed = select(func.count()).select_from(JOBS).where(cast(JOBS.c.status, String) == "failed")
    counts = db.execute(
        select(
            func.now().label("now"),
            _count(Registration, Registration.answered_at.is_(None)).label("open_registrations"),
            failed.scalar_subquery().label("failed_jobs"),
            _count(File, File.problem.is_not(None)).label("damaged_files"),
            _count(User).label("users"),
            _count(Group).label("group_count"),
            select(_sum(File.size)).scalar_subquery().label("storage_bytes"),
        )
    ).one()
    names = list_months(counts.now)
    begin = datetime.fromisoformat(f"{names[0]}-01T00:00:00+00:00")
    month = func.to_char(Submission.submitted_at, "YYYY-MM").label("month")
    months = _sum_up(month).where(Submission.submitted_at >= begin).group_by(month)
    found = {row.month: Month(*row) for row in db.execute(months)}
    groups = _sum_up(*_group_columns()).join(Group, Group.id == Submission.group_id).group_by(Group.id)
    largest = db.execute(groups.order_by(desc("bytes"), Group.id).limit(LARGEST)).all()
    return SiteOverview([found.get(name, Month(name)) for name in names], largest, counts)


def _sum_up(*columns: Any) -> Query:
    """Return the query that sums up what was submitted."""
    return select(*columns, func.count().label("submissions"), *_sum_content()).select_from(Submission)


def _sum_content() -> list[Any]:
    return [
        _sum(Submission.metadataset_count).label("metadatasets"),
        _sum(Submission.file_count).label("files"),
        _sum(Submission.byte_count).label("bytes"),
    ]


def _group_columns() -> list[Any]:
    return [Group.uuid.label("group_uuid"), Group.site_id.label("group_site_id"), Group.name.label("group_name")]
