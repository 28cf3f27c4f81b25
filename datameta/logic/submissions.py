"""Submissions: staged sets and confirmed files go out together, whole or not at all.

One function checks, for the trial and for the act alike, and reports everything at once. What no
check can promise, that a value is unique under concurrency, the claims decide inside the
submitting transaction.
"""

import dataclasses
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Row, Select, Text, Update, cast, event, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session, sessionmaker

from datameta.authz import Actor, may_view_group_submissions, visible_submitted
from datameta.batches import insert_rows, make_rows
from datameta.crash import crash_point
from datameta.errors import ForbiddenError, NotFoundError, Problem, ValidationError
from datameta.identifiers import (
    any_of,
    find_by_id,
    insert_with_site_ids,
    matches_ids,
    parse_uuid,
    sent_identifier,
    to_identifier,
)
from datameta.logic import audit, blocks, claims, records
from datameta.logic.claims import Claim
from datameta.logic.fields import Field, Rulebook
from datameta.logic.file_rows import EXISTING, is_bound
from datameta.logic.records import StoredRecord
from datameta.logic.rulebook import load_rulebook
from datameta.models import (
    SITE_SCOPE,
    File,
    FileReference,
    FileState,
    Group,
    MetaDataSet,
    Submission,
    User,
)
from datameta.paging import make_cursor, parse_cursor
from datameta.settings import SiteIdFormat

PAGE_MEMBERS = 10_000
"""So many sets and files, or one submission, are read at a time."""
COLUMNS: dict[type[Any], tuple[Any, ...]] = {
    MetaDataSet: (
        MetaDataSet.id,
        MetaDataSet.uuid,
        MetaDataSet.site_id,
        MetaDataSet.submission_id,
        MetaDataSet.record,
    ),
    File: (File.id, File.uuid, File.site_id, File.submission_id, File.service_execution_id, File.name, File.state),
}
"""What is read of that which is submitted."""


@dataclass
class Bundle:
    """Everything a submission consists of, as the check found it, and what it was checked by.

    Sets and files are rows of ``COLUMNS``: entities of thousands of them would take longer than the check.
    """

    book: Rulebook
    metadatasets: list[Row[Any]] = dataclasses.field(default_factory=list)
    files: list[Row[Any]] = dataclasses.field(default_factory=list)
    values: dict[int, StoredRecord] = dataclasses.field(default_factory=dict)
    references: list[dict[str, int]] = dataclasses.field(default_factory=list)
    claims: list[Claim] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class Submitted:
    """A submission, an entity or row, with its content: each a row with ``uuid`` and ``site_id``.

    Where the content was read for this alone, it is the list of their Identifiers as JSON, as the database writes it.
    """

    submission: Any
    metadatasets: Sequence[Any] | str
    files: Sequence[Any] | str


def prevalidate_submission(
    db: Session, actor: Actor, *, metadataset_ids: Sequence[str], file_ids: Sequence[str]
) -> None:
    """Check a submission without making it.

    Raises ``ValidationError`` with every problem.
    """
    bundle = check_submission(db, actor, metadataset_ids=metadataset_ids, file_ids=file_ids)
    if bundle.problems:
        raise ValidationError(bundle.problems)


def create_submission(
    db: Session,
    actor: Actor,
    *,
    metadataset_ids: Sequence[str],
    file_ids: Sequence[str],
    label: str | None,
    site_id_format: SiteIdFormat,
) -> Submitted:
    """Submit staged sets and confirmed files.

    Raises ``ValidationError`` with every problem.
    """
    bundle = check_submission(db, actor, metadataset_ids=metadataset_ids, file_ids=file_ids, lock=True)
    if bundle.problems:
        raise ValidationError(bundle.problems)
    row = {"label": label or None, "user_id": actor.id, "group_id": actor.group_id}
    [submission] = insert_with_site_ids(db, Submission, site_id_format, [row])
    refused = claims.insert_claims(db, bundle.claims)
    if refused:
        raise ValidationError(_site_problems(refused, bundle))
    insert_references(db, bundle.references)
    rewritten = [
        {"id": metadataset.id, "record": bundle.values[metadataset.id]}
        for metadataset in bundle.metadatasets
        if bundle.values[metadataset.id] != metadataset.record
    ]
    if rewritten:
        sent = make_rows(MetaDataSet, rewritten)
        _update(db, update(MetaDataSet).where(MetaDataSet.id == sent.c.id).values(record=sent.c.record))
    for model, rows in ((MetaDataSet, bundle.metadatasets), (File, bundle.files)):
        if rows:
            is_one = model.id == any_of([row.id for row in rows])
            _update(db, update(model).where(is_one).values(submission_id=submission.id))
    count_content(db, submission)
    blocks.add_blocks(db, submission, bundle.metadatasets, bundle.values)
    submitted = Submitted(submission, bundle.metadatasets, bundle.files)
    counts = {"metadatasets": len(bundle.metadatasets), "files": len(bundle.files)}
    audit.record_event(
        db, "submission.created", actor=actor, entity=submission, after={"label": submission.label, **counts}
    )
    crash_point("submit.before_commit")
    event.listen(db, "after_commit", lambda _: crash_point("submit.after_commit"), once=True)
    return submitted


def check_submission(
    db: Session,
    actor: Actor,
    *,
    metadataset_ids: Sequence[str],
    file_ids: Sequence[str],
    lock: bool = False,
) -> Bundle:
    """Find what the ids stand for and everything that speaks against submitting it.

    With ``lock`` the definitions, sets and files stay as they were checked until the transaction ends.
    """
    bundle = Bundle(load_rulebook(db, lock="share" if lock else None))
    if not metadataset_ids and not file_ids:
        bundle.problems.append(Problem("A submission holds at least one metadataset or file.", "empty_submission"))
    bundle.metadatasets = _collect(db, actor, MetaDataSet, metadataset_ids, "metadatasetIds", bundle.problems, lock)
    bundle.files = _collect(db, actor, File, file_ids, "fileIds", bundle.problems, lock)
    for metadataset in bundle.metadatasets:
        current, problems = records.check_stored_record(
            bundle.book, metadataset.record, entity=to_identifier(metadataset)
        )
        bundle.values[metadataset.id] = current
        bundle.problems.extend(problems)
    fields = bundle.book.fields_of(None)
    named = [
        (metadataset, field, records.get_file_name(field, bundle.values[metadataset.id]))
        for field in fields
        if field.is_file
        for metadataset in bundle.metadatasets
    ]
    bundle.references, problems = match_files(bundle.files, named)
    bundle.problems.extend(problems)
    _check_unique_in_submission(bundle, fields)
    bundle.claims = [
        Claim(field.id, SITE_SCOPE, value, metadataset.id)
        for field in fields
        if field.is_site_unique
        for metadataset in bundle.metadatasets
        # What was submitted already holds its own values.
        if metadataset.submission_id is None
        and (value := bundle.values[metadataset.id].get(field.key)) is not None
        and records.is_claimable(field, value)
    ]
    # Who submits finds out by claiming them.
    if bundle.problems or not lock:
        bundle.problems.extend(_site_problems(claims.find_taken(db, bundle.claims), bundle))
    return bundle


def match_files(
    files: Sequence[Any], named: Iterable[tuple[Any, Field, str | None]]
) -> tuple[list[dict[str, int]], list[Problem]]:
    """Match files with the fields that name them, one to one.

    ``named`` holds a set, a file field and the name in it (None or empty: no file). Returns the rows
    of ``FileReference`` and every problem.
    """
    problems: list[Problem] = []
    by_name: dict[str, list[Any]] = defaultdict(list)
    for file in files:
        by_name[_file_key(file.name)].append(file)
    for same in by_name.values():
        if len(same) > 1:
            problems.extend(
                Problem(
                    f"Several of the files are named {file.name}.",
                    "duplicate_file_name",
                    field="fileIds",
                    entity=to_identifier(file),
                )
                for file in same
            )
    references: dict[str, list[tuple[Any, Field, str]]] = defaultdict(list)
    for metadataset, field, name in named:
        if name:
            references[_file_key(name)].append((metadataset, field, name))
    matched = []
    for key, places in references.items():
        for metadataset, field, name in places:
            if len(places) > 1:
                problems.append(
                    Problem(
                        f"The file {name} is named more than once.",
                        "duplicate_file_reference",
                        field=field.name,
                        entity=to_identifier(metadataset),
                    )
                )
            if key not in by_name:
                problems.append(
                    Problem(
                        f"There is no file named {name} in the submission.",
                        "file_missing",
                        field=field.name,
                        entity=to_identifier(metadataset),
                    )
                )
            elif len(places) == 1:
                matched.append(
                    {"metadataset_id": metadataset.id, "metadatum_id": field.id, "file_id": by_name[key][0].id}
                )
    for key, same in by_name.items():
        if key not in references:
            problems.extend(
                Problem(
                    f"No metadataset of the submission names the file {file.name}.",
                    "file_not_referenced",
                    field="fileIds",
                    entity=to_identifier(file),
                )
                for file in same
            )
    return matched, problems


def collect_files(db: Session, actor: Actor, file_ids: Sequence[str], problems: list[Problem]) -> list[Row[Any]]:
    """Lock and return the actor's confirmed, unbound files with these ids; add what is wrong to ``problems``."""
    return _collect(db, actor, File, file_ids, "fileIds", problems, True)


def insert_references(db: Session, references: Sequence[dict[str, int]]) -> None:
    """Note which field of which set names which file."""
    if references:
        insert_rows(db, FileReference, references)


def list_group_pages(db: Session, actor: Actor, *, group_id: str) -> list[list[int]]:
    """Return the row ids of a group's submissions, oldest first, in pages for ``read_submissions``.

    So many are on a page that their sets and files are not more than ``PAGE_MEMBERS``, but one at least.
    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    group = find_by_id(db, Group, group_id)
    if not may_view_group_submissions(actor, group.id):
        raise ForbiddenError
    query = (
        select(Submission.id, Submission.metadataset_count + Submission.file_count)
        .where(Submission.group_id == group.id)
        .order_by(Submission.submitted_at, Submission.id)
    )
    pages: list[list[int]] = []
    room = 0
    for number, count in db.execute(query):
        room -= count + 1
        if room < 0 or not pages:
            pages.append([])
            room = PAGE_MEMBERS - count - 1
        pages[-1].append(number)
    return pages


def read_submissions(db: Session, ids: Sequence[int]) -> list[Submitted]:
    """Return the submissions with these row ids (one at least) in their order, with their sets and files."""
    rows = {row.id: row for row in db.execute(_select_submissions().where(Submission.id == any_of(ids)))}
    return [Submitted(rows[number], rows[number].metadatasets, rows[number].files) for number in ids if number in rows]


def stream_submissions(sessions: sessionmaker[Session], pages: Iterable[Sequence[int]]) -> Iterator[list[Submitted]]:
    """Yield page after page of ``list_group_pages``, each read in a transaction of its own."""
    for ids in pages:
        with sessions() as db:
            page = read_submissions(db, ids)
        yield page


def list_page(
    db: Session, actor: Actor, *, group_id: str | None, limit: int, cursor: str | None
) -> tuple[Sequence[Row[Any]], str | None]:
    """Return up to ``limit`` submissions the actor may see, newest first and counted, and the next cursor.

    Raises ``ValidationError`` for an unknown group or cursor.
    """
    query = (
        select(
            Submission.id,
            Submission.uuid,
            Submission.site_id,
            Submission.label,
            Submission.submitted_at,
            Group.uuid.label("group_uuid"),
            Group.site_id.label("group_site_id"),
            User.uuid.label("user_uuid"),
            User.site_id.label("user_site_id"),
            Submission.metadataset_count,
            Submission.file_count,
        )
        .join(Group, Group.id == Submission.group_id)
        .join(User, User.id == Submission.user_id)
        .where(visible_submitted(actor))
        .order_by(Submission.submitted_at.desc(), Submission.id.desc())
        .limit(limit + 1)
    )
    if group_id is not None:
        query = query.where(Submission.group_id == _find_filter_group(db, group_id))
    if cursor is not None:
        query = query.where(tuple_(Submission.submitted_at, Submission.id) < parse_cursor(cursor, datetime, int))
    rows: Sequence[Any] = db.execute(query).all()
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], make_cursor(last.submitted_at, last.id)


def get_submission(db: Session, actor: Actor, *, submission_id: str) -> tuple[Submitted, Group, User]:
    """Return a submission with its content, its group, and who made it.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    submission = find_by_id(db, Submission, submission_id)
    if not may_view_group_submissions(actor, submission.group_id):
        raise ForbiddenError
    [submitted] = read_submissions(db, [submission.id])
    return submitted, db.get_one(Group, submission.group_id), db.get_one(User, submission.user_id)


def list_files(
    db: Session, actor: Actor, *, submission_id: str, limit: int, cursor: str | None
) -> tuple[Sequence[File], str | None]:
    """Return up to ``limit`` files of a submission in the order they were announced, and the next cursor.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ValidationError`` for an unknown cursor.
    """
    submission = find_by_id(db, Submission, submission_id)
    if not may_view_group_submissions(actor, submission.group_id):
        raise ForbiddenError
    query = select(File).where(File.submission_id == submission.id).order_by(File.id).limit(limit + 1)
    if cursor is not None:
        query = query.where(File.id > parse_cursor(cursor, int)[0])
    rows = db.scalars(query).all()
    return rows[:limit], make_cursor(rows[limit - 1].id) if len(rows) > limit else None


def count_content(db: Session, submission: Submission) -> None:
    counted = {
        "metadataset_count": select(func.count()).where(MetaDataSet.submission_id == submission.id),
        "file_count": select(func.count()).where(File.submission_id == submission.id),
        "byte_count": select(func.coalesce(func.sum(File.size), 0)).where(File.submission_id == submission.id),
    }
    values = {name: query.scalar_subquery() for name, query in counted.items()}
    statement = update(Submission).where(Submission.id == submission.id).values(values)
    db.execute(statement.execution_options(synchronize_session=False))


def _find_filter_group(db: Session, group_id: str) -> int:
    try:
        return find_by_id(db, Group, group_id).id
    except NotFoundError:
        message = "There is no group with this id."
        raise ValidationError(
            Problem(message, "not_found", field="groupId", entity=sent_identifier(group_id))
        ) from None


@cache
def _select_submissions() -> Select[Any]:
    """Return the query by which submissions are read, with the Identifiers of sets and files as JSON texts."""

    def list_members(model: type[Any]) -> Any:
        identifier = func.json_build_object("uuid", model.uuid, "site", model.site_id)
        listed = func.coalesce(cast(func.json_agg(aggregate_order_by(identifier, model.id)), Text), "[]")
        return select(listed).where(model.submission_id == Submission.id).scalar_subquery()

    return select(
        Submission.id,
        Submission.uuid,
        Submission.site_id,
        Submission.label,
        Submission.submitted_at,
        list_members(MetaDataSet).label("metadatasets"),
        list_members(File).label("files"),
    )


def _update(db: Session, statement: Update) -> None:
    db.execute(statement.execution_options(synchronize_session=False))


def _collect(
    db: Session,
    actor: Actor,
    model: type[Any],
    ids: Sequence[str],
    name: str,
    problems: list[Problem],
    lock: bool,
) -> list[Row[Any]]:
    """Return the actor's own rows with these ids in the order given, each once, and note the rest as problems."""
    if not ids:
        return []
    query = select(*COLUMNS[model]).where(matches_ids(model, ids), model.user_id == actor.id).order_by(model.id)
    if model is File:
        query = query.where(File.state.in_(EXISTING))
    if lock:
        query = query.with_for_update()
    rows = db.execute(query).all()
    by_id = {str(row.uuid): row for row in rows} | {row.site_id: row for row in rows}
    check = _check_file if model is File else _check_metadataset
    found: dict[int, Row[Any]] = {}
    for text in dict.fromkeys(ids):
        # A UUID may be written in other letters than ours.
        row = by_id.get(text) or by_id.get(str(parse_uuid(text)))
        if row is None:
            problem = Problem("You have nothing with this id.", "not_found", field=name, entity=sent_identifier(text))
            problems.append(problem)
        elif row.id not in found:
            found[row.id] = row
            problem_of_row = check(row, name)
            if problem_of_row is not None:
                problems.append(problem_of_row)
    return list(found.values())


def _check_file(row: Row[Any], name: str) -> Problem | None:
    if is_bound(row):
        return Problem("This file has been submitted already.", "already_submitted", name, to_identifier(row))
    if row.state != FileState.CONFIRMED:
        return Problem("This file is not confirmed yet.", "not_confirmed", name, to_identifier(row))
    return None


def _check_metadataset(row: Row[Any], name: str) -> Problem | None:
    if row.submission_id is not None:
        return Problem("This metadataset has been submitted already.", "already_submitted", name, to_identifier(row))
    return None


def _check_unique_in_submission(bundle: Bundle, fields: Iterable[Field]) -> None:
    for field in fields:
        if not (field.is_submission_unique or field.is_site_unique):
            continue
        holders: dict[str, list[Row[Any]]] = defaultdict(list)
        for metadataset in bundle.metadatasets:
            value = bundle.values[metadataset.id].get(field.key)
            if value is not None and records.is_claimable(field, value):
                holders[records.normalise_value(value)].append(metadataset)
        for same in holders.values():
            if len(same) > 1:
                bundle.problems.extend(
                    Problem(
                        "This value occurs more than once in the submission.",
                        "not_unique_in_submission",
                        field=field.name,
                        entity=to_identifier(metadataset),
                    )
                    for metadataset in same
                )


def _site_problems(refused: Iterable[Claim], bundle: Bundle) -> list[Problem]:
    entities = {metadataset.id: metadataset for metadataset in bundle.metadatasets}
    return [
        Problem(
            "Another submission of this site holds this value already.",
            "not_unique_in_site",
            field=bundle.book.by_id[claim.metadatum_id].name,
            entity=to_identifier(entities[claim.metadataset_id]),
        )
        for claim in refused
    ]


def _file_key(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)
