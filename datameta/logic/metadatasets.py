"""Metadatasets: staged by their owner, fixed by a submission, read by those who may.

Reading never loads entity graphs: one query brings a page of sets with their files and service
answers, and the pages follow each other by key, so that a reader of everything holds neither a
transaction nor memory.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Row, Select, Text, and_, bindparam, cast, delete, exists, func, select, tuple_
from sqlalchemy.orm import Session, aliased, joinedload, sessionmaker

from datameta.authz import (
    Actor,
    may_change_metadataset,
    may_query_awaiting,
    may_view_metadataset,
    visible_submitted,
)
from datameta.database import Prepared
from datameta.errors import (
    DataMetaError,
    ForbiddenError,
    NotFoundError,
    Problem,
    ResourceNotModifiableError,
    ValidationError,
)
from datameta.identifiers import (
    NewRow,
    any_of,
    find_by_id,
    insert_many_with_site_ids,
    matches_ids,
    parse_uuid,
    sent_identifier,
    to_identifier,
)
from datameta.logic import audit
from datameta.logic.blocks import may_await
from datameta.logic.bulk import Outcome, list_outcomes, refuse_all
from datameta.logic.fields import Field
from datameta.logic.records import StoredRecord, check_sent_record
from datameta.logic.rulebook import load_rulebook
from datameta.models import (
    File,
    FileReference,
    MetaDataSet,
    SearchBlock,
    Service,
    ServiceExecution,
    Submission,
    User,
)
from datameta.paging import make_cursor, parse_cursor
from datameta.settings import SiteIdFormat

PAGE_SIZE = 1000


@dataclass(frozen=True)
class NewSet:
    """A set that was just staged, as ``select_metadatasets`` would read it."""

    uuid: str
    site_id: str
    record: StoredRecord
    user_uuid: str
    user_site_id: str
    submission_uuid: None = None
    submission_site_id: None = None
    files: None = None
    executions: None = None


MetaDataSetRow: TypeAlias = Row[Any]
"""A set as ``select_metadatasets`` reads it: ids, ``record``, owner, submission, ``files``, ``executions``."""


@dataclass(frozen=True)
class Query:
    """What to search among the submitted sets; every condition that is given must hold."""

    submitted_after: datetime | None = None
    submitted_before: datetime | None = None
    awaiting_service: str | None = None


def stage_metadataset(
    db: Session, actor: Actor, *, record: dict[str, Any], site_id_format: SiteIdFormat
) -> tuple[NewSet, Sequence[Field]]:
    """Check a record and stage it as a new set of the actor's; return the set, and all fields there are.

    Raises ``ValidationError`` with everything that is wrong with it.
    """
    book = load_rulebook(db)
    stored, problems = check_sent_record(book, record)
    if problems:
        raise ValidationError(problems)
    [staged] = insert_metadatasets(db, actor, [stored], site_id_format=site_id_format)
    # That is all there is of it yet: to read it anew would take as long as to stage it.
    row = NewSet(str(staged.uuid), staged.site_id, stored, str(actor.uuid), actor.site_id)
    return row, book.fields


def stage_metadatasets(
    db: Session,
    actor: Actor,
    *,
    records: Sequence[Mapping[str, Any]],
    only_good: bool,
    site_id_format: SiteIdFormat,
) -> list[Outcome[NewRow]]:
    """Check records as ``stage_metadataset`` does, and stage all or none; with ``only_good`` those that are right.

    Raises ``ValidationError`` (without ``only_good``) with everything that is wrong, and the number of its record.
    """
    book = load_rulebook(db)
    stored: list[StoredRecord] = []
    errors: dict[int, DataMetaError] = {}
    for number, record in enumerate(records):
        checked, problems = check_sent_record(book, record)
        if problems:
            errors[number] = ValidationError(problems)
        else:
            stored.append(checked)
    if errors and not only_good:
        refuse_all(errors, place="records")
    staged = insert_metadatasets(db, actor, stored, site_id_format=site_id_format)
    return list_outcomes(iter(staged), errors, count=len(records))


def insert_metadatasets(
    db: Session, actor: Actor, stored: Iterable[StoredRecord], *, site_id_format: SiteIdFormat
) -> list[NewRow]:
    """Stage records that have been checked as new sets of the actor's; return the sets' ids in order."""
    rows = [{"record": record} for record in stored]
    staged = insert_many_with_site_ids(db, MetaDataSet, site_id_format, rows, common={"user_id": actor.id})
    audit.record_events(db, "metadataset.staged", actor=actor, changes=[(row, None, None) for row in staged])
    return staged


def update_metadataset(db: Session, actor: Actor, *, metadataset_id: str, record: dict[str, Any]) -> MetaDataSetRow:
    """Check a record as ``stage_metadataset`` does, and put it in the place of that of a staged set of the actor's.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError``, ``ValidationError``.
    """
    metadataset = find_by_id(db, MetaDataSet, metadataset_id, lock=True)
    if not may_change_metadataset(actor, metadataset):
        raise ForbiddenError
    if metadataset.submission_id is not None:
        raise _make_refusal([metadataset])
    book = load_rulebook(db)
    stored, problems = check_sent_record(book, record)
    if problems:
        raise ValidationError(problems)
    former = metadataset.record
    changed = [field.name for field in book.fields if stored.get(field.key) != former.get(field.key)]
    if stored != former:
        metadataset.record = stored
        db.flush()
        # Which fields, and not the values, which may be long: what counts is what is submitted in the end.
        audit.record_event(db, "metadataset.changed", actor=actor, entity=metadataset, after={"fields": changed})
    return read_metadataset(db, metadataset.id)


def get_metadataset(db: Session, actor: Actor, *, metadataset_id: str) -> MetaDataSetRow:
    """Load one set the actor may see.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    metadataset = find_by_id(db, MetaDataSet, metadataset_id, joinedload(MetaDataSet.submission))
    if not may_view_metadataset(actor, metadataset):
        raise ForbiddenError
    return read_metadataset(db, metadataset.id)


def delete_metadatasets(db: Session, actor: Actor, *, metadataset_ids: Sequence[str]) -> None:
    """Delete staged sets of the actor's, all or none.

    Raises ``NotFoundError``, ``ForbiddenError`` or ``ResourceNotModifiableError`` naming each set.
    """
    query = select(MetaDataSet).where(matches_ids(MetaDataSet, metadataset_ids)).order_by(MetaDataSet.id)
    found = db.scalars(query.with_for_update()).all()
    refuse_unknown(metadataset_ids, found)
    foreign = [metadataset for metadataset in found if not may_change_metadataset(actor, metadataset)]
    if foreign:
        raise ForbiddenError(
            Problem("This metadataset belongs to somebody else.", "forbidden", entity=to_identifier(metadataset))
            for metadataset in foreign
        )
    submitted = [metadataset for metadataset in found if metadataset.submission_id is not None]
    if submitted:
        raise _make_refusal(submitted)
    if found:
        db.execute(delete(MetaDataSet).where(MetaDataSet.id == any_of([metadataset.id for metadataset in found])))
        changes = [(metadataset, None, None) for metadataset in found]
        audit.record_events(db, "metadataset.deleted", actor=actor, changes=changes)


def refuse_unknown(sent: Sequence[str], found: Sequence[Any]) -> None:
    """Raise ``NotFoundError`` naming each id that was sent and is not among the rows found."""
    known = {str(row.uuid) for row in found} | {row.site_id for row in found}
    unknown = [text for text in dict.fromkeys(sent) if str(parse_uuid(text) or text) not in known]
    if unknown:
        raise NotFoundError(
            Problem("There is nothing with this id.", "not_found", entity=sent_identifier(text)) for text in unknown
        )


def list_page(
    db: Session, actor: Actor, query: Query, *, limit: int, cursor: str | None = None
) -> tuple[Sequence[MetaDataSetRow], str | None]:
    """Return up to ``limit`` submitted sets the actor may see, by time of submission, and the next cursor.

    Raises ``ValidationError`` for an unknown cursor, or a service that is unknown or not the actor's.
    """
    statement = _choose(select_metadatasets(), db, actor, query, cursor).limit(limit + 1)
    rows = db.execute(statement).all()
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], make_cursor(last.submitted_at, last.id)


def list_ids(db: Session, actor: Actor, query: Query, *, cursor: str | None) -> Sequence[int]:
    """Return the row ids of all sets that ``list_page`` would give from ``cursor`` on, in their order."""
    statement = select(MetaDataSet.id).join(Submission, Submission.id == MetaDataSet.submission_id)
    return array("q", db.scalars(_choose(statement, db, actor, query, cursor)))


def list_staged(
    db: Session, actor: Actor, *, limit: int, cursor: str | None
) -> tuple[Sequence[MetaDataSetRow], str | None]:
    """Return up to ``limit`` of the actor's staged sets, newest first, and the next cursor.

    Raises ``ValidationError`` for an unknown cursor.
    """
    is_mine = (MetaDataSet.user_id == actor.id, MetaDataSet.submission_id.is_(None))
    statement = select_metadatasets().where(*is_mine).order_by(MetaDataSet.id.desc()).limit(limit + 1)
    if cursor is not None:
        statement = statement.where(MetaDataSet.id < parse_cursor(cursor, int)[0])
    rows = db.execute(statement).all()
    return rows[:limit], make_cursor(rows[limit - 1].id) if len(rows) > limit else None


def stream_pages(sessions: sessionmaker[Session], ids: Sequence[int]) -> Iterator[Sequence[MetaDataSetRow]]:
    """Yield the sets with these row ids in their order, page after page, each read in a transaction of its own."""
    for start in range(0, len(ids), PAGE_SIZE):
        with sessions() as db:
            some = ids[start : start + PAGE_SIZE]
            rows = db.execute(select_metadatasets().where(MetaDataSet.id == any_of(some)))
            found = {row.id: row for row in rows}
        yield [found[number] for number in some if number in found]


def read_metadataset(db: Session, metadataset_id: int) -> MetaDataSetRow:
    """Load the set with this row id."""
    db.flush()
    rows: list[MetaDataSetRow] = _prepare_reading().all(db.connection(), id=metadataset_id)
    return rows[0]


@cache
def _prepare_reading() -> Prepared:
    return Prepared(select_metadatasets().where(MetaDataSet.id == bindparam("id")))


@cache
def select_metadatasets() -> Select[Any]:
    """Return the query by which sets are read, staged or submitted, without a condition.

    To make it takes a tenth of the time of staging a set.
    """
    executor = aliased(User)
    files = (
        select(func.json_agg(func.json_build_array(FileReference.metadatum_id, File.uuid, File.site_id)))
        .join(File, File.id == FileReference.file_id)
        .where(FileReference.metadataset_id == MetaDataSet.id)
        .scalar_subquery()
    )
    executions = (
        select(
            func.json_agg(
                func.json_build_object(
                    "service", ServiceExecution.service_id,
                    "service_uuid", Service.uuid,
                    "service_site_id", Service.site_id,
                    "uuid", ServiceExecution.uuid,
                    "executed_at", ServiceExecution.executed_at,
                    "user_uuid", executor.uuid,
                    "user_site_id", executor.site_id,
                    "record", ServiceExecution.record,
                )
            )
        )
        .join(Service, Service.id == ServiceExecution.service_id)
        .join(executor, executor.id == ServiceExecution.user_id)
        .where(ServiceExecution.metadataset_id == MetaDataSet.id)
        .scalar_subquery()
    )  # fmt: skip
    return (
        select(
            MetaDataSet.id,
            # Texts, since that is what is made of them.
            cast(MetaDataSet.uuid, Text).label("uuid"),
            MetaDataSet.site_id,
            MetaDataSet.record,
            cast(User.uuid, Text).label("user_uuid"),
            User.site_id.label("user_site_id"),
            cast(Submission.uuid, Text).label("submission_uuid"),
            Submission.site_id.label("submission_site_id"),
            Submission.submitted_at,
            files.label("files"),
            executions.label("executions"),
        )
        .join(User, User.id == MetaDataSet.user_id)
        .outerjoin(Submission, Submission.id == MetaDataSet.submission_id)
    )


def find_queried_service(db: Session, actor: Actor, text: str, *, parameter: str) -> int:
    """Return the row id of a service of which the actor may ask what awaits it.

    Raises ``ValidationError``, also where others than its users, and those with site read, ask.
    """
    try:
        service = find_by_id(db, Service, text)
    except NotFoundError:
        raise ValidationError(
            Problem(
                "There is no service with this id.",
                "not_found",
                field=parameter,
                entity=sent_identifier(text),
            )
        ) from None
    if not may_query_awaiting(actor, service.id):
        raise ValidationError(
            Problem(
                "Only users of the service, and users with site read, may ask what awaits it.",
                "not_a_service_user",
                field=parameter,
                entity=to_identifier(service),
            )
        )
    return service.id


def _make_refusal(submitted: Iterable[MetaDataSet]) -> ResourceNotModifiableError:
    return ResourceNotModifiableError(
        Problem("This metadataset is part of a submission.", "not_modifiable", entity=to_identifier(metadataset))
        for metadataset in submitted
    )


def _choose(statement: Select[Any], db: Session, actor: Actor, query: Query, cursor: str | None) -> Select[Any]:
    """Return a query of submitted sets for those that are meant, from ``cursor`` on, by time of submission."""
    statement = statement.where(_matches_query(db, actor, query), visible_submitted(actor))
    if cursor is not None:
        submitted_at, number = parse_cursor(cursor, datetime, int)
        # The first condition says nothing new, but an index knows it.
        statement = statement.where(
            Submission.submitted_at >= submitted_at,
            tuple_(Submission.submitted_at, MetaDataSet.id) > (submitted_at, number),
        )
    return statement.order_by(Submission.submitted_at, MetaDataSet.id)


def _matches_query(db: Session, actor: Actor, query: Query) -> ColumnElement[bool]:
    # Of the submission itself, so that the database may begin with the first of these.
    conditions: list[ColumnElement[bool]] = [Submission.id.is_not(None)]
    if query.submitted_after is not None:
        conditions.append(Submission.submitted_at > query.submitted_after)
    if query.submitted_before is not None:
        conditions.append(Submission.submitted_at < query.submitted_before)
    if query.awaiting_service is not None:
        service_id = find_queried_service(db, actor, query.awaiting_service, parameter="awaitingService")
        executed = exists().where(
            ServiceExecution.metadataset_id == MetaDataSet.id, ServiceExecution.service_id == service_id
        )
        conditions.append(~executed)
        # Where a service has answered for all, not one set need be looked at.
        conditions.append(Submission.id.in_(select(SearchBlock.submission_id).where(may_await(service_id))))
    return and_(*conditions)
