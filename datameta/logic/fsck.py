"""The proof that what the portal has promised holds, for every row and every object; it changes nothing.

Each proof is one statement of the database or one pass over the store, however much there is. What changes
meanwhile is never taken for wrong: the store is compared as in ``logic/inventory.py``, all else in one
snapshot. A rule that a definition was given later binds only what was submitted after.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    LargeBinary,
    MetaData,
    Numeric,
    Row,
    String,
    Table,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.orm import Session, sessionmaker

from datameta.clock import utc_now
from datameta.identifiers import any_of
from datameta.logic import sweep
from datameta.logic.audit import find_broken_seal
from datameta.logic.claims import select_submitted_values
from datameta.logic.fields import Field
from datameta.logic.file_rows import store_errors
from datameta.logic.inventory import (
    ENTRIES,
    Inventory,
    Query,
    copy_rows,
    find_damaged,
    is_there,
    list_orphans,
    read_pages,
    take_inventory,
)
from datameta.logic.ownership import ADVICE, find_obstacle, get_owned_since
from datameta.logic.records import hash_value, is_claimable, restore_value
from datameta.logic.rulebook import read_rulebook
from datameta.logic.verification import hash_content
from datameta.models import (
    SITE_SCOPE,
    AuditEvent,
    AuditSeal,
    File,
    FileReference,
    FileState,
    MetaDataSet,
    MetaDatum,
    ServiceExecution,
    Submission,
    UniqueClaim,
    UploadPart,
)
from datameta.storage import Storage, StorageUnavailableError

PAGE = 500
WITH_CONTENT = (FileState.CONFIRMED, FileState.VERIFYING, FileState.FAILED)
PATIENCE = timedelta(minutes=20)
"""The worker sweeps every ten minutes: what it has passed by twice is stuck."""
LATENCY = timedelta(minutes=10)
"""A request that began so long before a change of a definition may have been judged by the former one."""

SWEEP = "See that a worker runs, or run 'datameta sweep'."
RESTORE = "The portal does no such thing: find out who else writes to the database, and restore a backup."

WANTED = Table(
    "wanted_claims",
    MetaData(),
    Column("metadatum_id", BigInteger),
    Column("scope", BigInteger),
    Column("value_hash", LargeBinary),
    Column("metadataset_id", BigInteger),
    Column("is_claimed", Boolean),
    Column("is_due", Boolean),
    prefixes=["TEMPORARY"],
)
"""The submitted values that have to be unique; ``is_claimed``: by a claim; ``is_due``: already when they came."""


@dataclass(frozen=True)
class Finding:
    """A thing that is wrong (or else worth a note), and what to do about it."""

    subject: str
    message: str
    advice: str
    is_wrong: bool = True


@dataclass(frozen=True)
class Proof:
    """What was looked at, how many, and of how many it does not hold."""

    what: str
    count: int
    wrong: int


def prove_site(sessions: sessionmaker[Session], storage: Storage, *, orphan_days: int) -> Iterator[Finding | Proof]:
    """Yield what is wrong with rows, store, claims and audit as it is found, and after each part its proof.

    Raises ``UnavailableError``.
    """
    with store_errors(), take_inventory(sessions, storage) as inventory:
        yield from _conclude("store that is this database's", 1, _check_owner(sessions, storage))
        count = _count(inventory.db, File, File.state.in_(WITH_CONTENT))
        yield from _conclude("files with their content in the store", count, _check_contents(inventory, storage))
        count = _count(inventory.db, ENTRIES)
        yield from _conclude("objects and uploads that a file needs", count, _check_needed(inventory, orphan_days))
    with sessions() as db:
        # All this is rolled back in the end, the temporary table, too.
        connection = db.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        for rule in _list_rules(db):
            yield from _conclude(rule.what, _count(db, rule.model), _apply(db, rule))
        WANTED.create(connection, checkfirst=False)
        copy_rows(db, WANTED, _list_wanted(db))
        db.execute(text("ANALYZE wanted_claims"))
        count = _count(db, WANTED, WANTED.c.is_due)
        yield from _conclude("values that have to be unique, and their claims", count, _compare_claims(db))
        yield from _conclude("sealed events of the audit", _count(db, AuditSeal), _check_chain(db))


def prove_content(
    sessions: sessionmaker[Session], storage: Storage, *, advance: Callable[[int], Any]
) -> Iterator[Finding | Proof]:
    """Read every confirmed file, yield those that are not what was confirmed, and in the end the proof.

    ``advance`` is called with numbers of bytes as they are read. Raises ``UnavailableError``.
    """
    count, wrong, last_id = 0, 0, 0
    while True:
        with sessions() as db:
            query = select(File).where(File.state == FileState.CONFIRMED, File.id > last_id)
            files = db.scalars(query.order_by(File.id).limit(PAGE)).all()
        if not files:
            break
        for file in files:
            with store_errors():
                message = _check_content(storage, file, advance)
            if message is not None and _is_confirmed(sessions, file):
                wrong += 1
                yield Finding(_name("file", file), message, _restore(file.storage_key))
        count += len(files)
        last_id = files[-1].id
    yield Proof("files whose content was read, and has the announced checksum", count, wrong)


def measure_content(sessions: sessionmaker[Session]) -> int:
    """Return the sum of the sizes of all confirmed files, in bytes."""
    with sessions() as db:
        return int(db.scalars(select(func.sum(File.size)).where(File.state == FileState.CONFIRMED)).one() or 0)


@dataclass(frozen=True)
class _Rule:
    """What holds for every row of a table; ``broken`` selects uuid, site_id, and the message, of rows that break it."""

    what: str
    model: Any
    kind: str
    broken: Sequence[Query]
    advice: str = RESTORE


def _conclude(what: str, count: int, findings: Iterable[Finding]) -> Iterator[Finding | Proof]:
    wrong = 0
    for finding in findings:
        wrong += finding.is_wrong
        yield finding
    yield Proof(what, count, wrong)


def _apply(db: Session, rule: _Rule) -> Iterator[Finding]:
    for query in rule.broken:
        for row in _stream(db, query):
            yield Finding(_name(rule.kind, row), row.message, rule.advice)


def _stream(db: Session, query: Query) -> Iterable[Row[Any]]:
    return db.execute(query.execution_options(yield_per=PAGE))


def _count(db: Session, model: Any, *conditions: ColumnElement[bool]) -> int:
    return db.scalars(select(func.count()).select_from(model).where(*conditions)).one()


def _name(kind: str, row: Any) -> str:
    return f"{kind} {row.site_id} ({row.uuid})"


def _restore(key: str | None) -> str:
    return f"Restore {key} from a backup of the store."


# Rows and the store.


def _check_owner(sessions: sessionmaker[Session], storage: Storage) -> Iterator[Finding]:
    obstacle = find_obstacle(sessions, storage)
    if obstacle is not None:
        message = f"{obstacle[0].lower()}{obstacle[1:].removesuffix('.')}, and nothing is removed from it"
        yield Finding("store", message, ADVICE)


def _check_contents(inventory: Inventory, storage: Storage) -> Iterator[Finding]:
    for damaged in find_damaged(inventory, storage, WITH_CONTENT):
        for row, problem in damaged:
            is_missing = problem == "content_missing"
            message = "its content is not in the store" if is_missing else f"its content has not {row.size:,} bytes"
            yield Finding(_name("file", row), message, _restore(row.storage_key))
    # Of what is there with the right size, reading has told more.
    is_known = and_(File.state == FileState.CONFIRMED, File.problem.is_not(None), is_there())
    query = select(File.id, File.uuid, File.site_id, File.storage_key).where(is_known)
    for page in read_pages(inventory.db, query, File.id):
        for row in page:
            yield Finding(_name("file", row), "its content was found damaged before", _restore(row.storage_key))


def _check_needed(inventory: Inventory, orphan_days: int) -> Iterator[Finding]:
    """Find what is in the store without a row; it may be on its way, and else is kept for some time and then swept."""
    now, owned_since = utc_now(), get_owned_since(inventory.db)
    kept: Counter[str] = Counter()
    for row in list_orphans(inventory, before=now + timedelta(days=1)):
        age = max(now - row.changed_at, timedelta())
        removal = sweep.find_removal(row, owned_since=owned_since, orphan_days=orphan_days)
        # The daily check of the store should have removed it by then.
        is_wrong = now > removal + sweep.ORPHAN_AGE
        if row.upload is None and row.deleted_at is not None and not is_wrong:
            kept.update(objects=1, bytes=row.size)
            continue
        advice = SWEEP if is_wrong else f"It is kept until {removal:%Y-%m-%d}, if it is not on its way to a file."
        message = f"no file needs it, and it is {age.total_seconds() / 3600:.1f} hours old"
        yield Finding(f"{'object' if row.upload is None else 'upload'} {row.key}", message, advice, is_wrong)
    if kept:
        message = f"the store has the content of {kept['objects']:,} of them, {kept['bytes']:,} bytes"
        advice = f"It is kept for {orphan_days} days, as a backup may need it."
        yield Finding("deleted files", message, advice, is_wrong=False)


# Rows among themselves.


def _list_rules(db: Session) -> Iterator[_Rule]:
    """Yield what the schema cannot say."""
    stuck = or_(*(sweep.is_due(state, since=PATIENCE) for state in FileState if state != FileState.CONFIRMED))
    message = func.concat("it has been ", File.state, " for too long").label("message")
    moving = [select(File.uuid, File.site_id, message).where(stuck)]
    yield _Rule("files that are done, or go on", File, "file", moving, SWEEP)
    yield _Rule("files that agree with themselves and with their submission", File, "file", _select_broken_files())
    yield _Rule("parts of uploads in parts", UploadPart, "file", [_select_broken_parts()])
    yield _Rule("submissions that are whole", Submission, "submission", [_select_broken_submissions()])
    yield _Rule("metadatasets", MetaDataSet, "metadataset", [*_select_broken_sets(db)])
    yield _Rule("answers of services", ServiceExecution, "metadataset", [_select_broken_answers(db)])
    yield _Rule("references from fields to files", FileReference, "file", [_select_broken_references()])


def _select_broken(model: Any, *rules: tuple[ColumnElement[bool], str]) -> Query:
    """Select the rows for which one of the conditions is true, with its message."""
    message = case(*((condition, literal(said)) for condition, said in rules))
    return select(model.uuid, model.site_id, message.label("message")).where(message.is_not(None))


def _select_broken_files() -> list[Query]:
    is_confirmed = File.state == FileState.CONFIRMED
    is_bound = or_(File.submission_id.is_not(None), File.service_execution_id.is_not(None))
    digest = case((func.length(File.checksum) == 32, File.md5), else_=File.sha256)
    own_key = literal("files/").concat(cast(File.uuid, String))
    broken = _select_broken(
        File,
        (and_(is_confirmed, digest != File.checksum), "its content has not the digest that was announced"),
        (~File.storage_key.startswith(own_key), "its content is not at a key of its own"),
        (
            and_(is_confirmed, File.part_size.is_not(None), File.size != File.announced_size),
            "it has another size than its upload in parts",
        ),
        (
            and_(File.submission_id.is_not(None), File.service_execution_id.is_not(None)),
            "it is in a submission, and in the answer of a service as well",
        ),
        (func.coalesce(Submission.user_id, ServiceExecution.user_id) != File.user_id, "somebody else submitted it"),
        (and_(is_bound, ~exists().where(FileReference.file_id == File.id)), "it is submitted, and no field names it"),
    )
    place = [File.submission_id, File.service_execution_id]
    count = func.count().over(partition_by=[*place, func.normalize(File.name)]).label("count")
    named = select(File.uuid, File.site_id, count).where(is_bound).subquery()
    message = literal("another file of its submission has the same name").label("message")
    return [
        broken.outerjoin(Submission, Submission.id == File.submission_id).outerjoin(
            ServiceExecution, ServiceExecution.id == File.service_execution_id
        ),
        select(named.c.uuid, named.c.site_id, message).where(named.c.count > 1),
    ]


def _select_broken_parts() -> Query:
    count = func.greatest(func.ceil(File.announced_size.cast(Numeric) / File.part_size), 1)
    message = func.concat("its part ", UploadPart.number, " belongs to no upload in parts").label("message")
    is_within = and_(UploadPart.number >= 1, UploadPart.number <= count)
    query = select(File.uuid, File.site_id, message).join(UploadPart, UploadPart.file_id == File.id)
    return query.where(or_(File.part_size.is_(None), ~is_within))


def _select_broken_submissions() -> Query:
    sets, files = (
        select(func.count()).where(model.submission_id == Submission.id).scalar_subquery()
        for model in (MetaDataSet, File)
    )
    said = {name: cast(AuditEvent.after[name].astext, BigInteger) for name in ("metadatasets", "files")}
    is_creation = and_(AuditEvent.entity_uuid == Submission.uuid, AuditEvent.event == "submission.created")
    return _select_broken(
        Submission,
        (sets == 0, "it is empty"),
        (or_(said["metadatasets"] != sets, said["files"] != files), "it does not hold what was submitted"),
    ).outerjoin(AuditEvent, is_creation)


def _select_broken_sets(db: Session) -> Iterator[Query]:
    yield _select_broken(
        MetaDataSet,
        (Submission.user_id != MetaDataSet.user_id, "somebody else submitted it"),
        (_is_no_record(db, MetaDataSet.record), "its record holds something else than texts of fields"),
    ).outerjoin(Submission, Submission.id == MetaDataSet.submission_id)
    changed_at = _list_changes(db, "isFile", "service", "missingTerms")
    for field in read_rulebook(db).fields:
        if field.is_file:
            query, value, came_at = _select_values(field)
            message = literal(f"its field {field.name} names a file, and refers to none").label("message")
            reference = and_(FileReference.metadataset_id == MetaDataSet.id, FileReference.metadatum_id == field.id)
            query = query.with_only_columns(MetaDataSet.uuid, MetaDataSet.site_id, message)
            is_name = and_(value != "", value.not_in(field.missing_terms))
            yield query.where(is_name, ~exists().where(reference), _is_after(came_at, changed_at.get(field.id)))


def _select_broken_answers(db: Session) -> Query:
    return _select_broken(
        MetaDataSet,
        (MetaDataSet.submission_id.is_(None), "a service has answered for it, and it is not submitted"),
        (_is_no_record(db, ServiceExecution.record), "a service's answer holds something else than texts of fields"),
    ).join(ServiceExecution, ServiceExecution.metadataset_id == MetaDataSet.id)


def _select_broken_references() -> Query:
    key = cast(MetaDatum.id, String)
    is_answer = File.service_execution_id.is_not(None)
    value = case((is_answer, ServiceExecution.record[key].astext), else_=MetaDataSet.record[key].astext)
    is_in_place = case(
        (is_answer, ServiceExecution.metadataset_id == MetaDataSet.id),
        else_=File.submission_id == MetaDataSet.submission_id,
    )
    return (
        _select_broken(
            File,
            (is_in_place.is_not(True), "the field that refers to it is not of its submission"),
            (
                func.normalize(value).is_distinct_from(func.normalize(File.name)),
                "the field that refers to it does not name it",
            ),
        )
        .join(FileReference, FileReference.file_id == File.id)
        .join(MetaDataSet, MetaDataSet.id == FileReference.metadataset_id)
        .join(MetaDatum, MetaDatum.id == FileReference.metadatum_id)
        .outerjoin(ServiceExecution, ServiceExecution.id == File.service_execution_id)
    )


def _is_no_record(db: Session, record: Any) -> ColumnElement[bool]:
    known = [str(number) for number in db.scalars(select(MetaDatum.id))]
    # Only an object has entries to look at.
    is_object = func.jsonb_typeof(record) == "object"
    entry = func.jsonb_each(case((is_object, record), else_=text("'{}'::jsonb"))).table_valued("key", "value")
    entry = entry.render_derived(name="entry")
    is_value = and_(func.jsonb_typeof(entry.c.value) == "string", entry.c.key == any_of([*known, ""]))
    return or_(~is_object, exists().select_from(entry).where(~is_value))


def _select_values(field: Field) -> tuple[Query, ColumnElement[str], Any]:
    """Return the query for the submitted values of a field, the value, and when it came."""
    query = select_submitted_values(field)
    if field.service_id:
        return query, ServiceExecution.record[field.key].astext, ServiceExecution.executed_at
    query = query.join(Submission, Submission.id == MetaDataSet.submission_id)
    return query, MetaDataSet.record[field.key].astext, Submission.submitted_at


def _list_changes(db: Session, *names: str) -> dict[int, datetime]:
    """Return when these properties of definitions were changed last, by the definition's id."""
    query = (
        select(MetaDatum.id, func.max(AuditEvent.at))
        .join(AuditEvent, AuditEvent.entity_uuid == MetaDatum.uuid)
        .where(AuditEvent.event == "metadatum.changed", or_(*(AuditEvent.after.has_key(name) for name in names)))
        .group_by(MetaDatum.id)
    )
    return {row[0]: row[1] for row in db.execute(query)}


def _is_after(instant: ColumnElement[datetime], change: datetime | None) -> ColumnElement[bool]:
    """Return the condition that what came then was, for certain, judged by what the definition says."""
    return true() if change is None else instant > change + LATENCY


# Claims and audit.


def _list_wanted(db: Session) -> Iterator[tuple[int, int, bytes, int, bool, bool]]:
    """Yield the rows of ``WANTED``."""
    changed_at = _list_changes(db, "isSubmissionUnique", "service", "missingTerms")
    claimed = set(db.scalars(select(UniqueClaim.metadatum_id).where(UniqueClaim.scope != SITE_SCOPE).distinct()))
    for field in read_rulebook(db).fields:
        query, _, came_at = _select_values(field)
        if field.is_site_unique:
            for row in _stream(db, query):
                if is_claimable(field, row.value):
                    value = restore_value(field, row.value)
                    yield field.id, SITE_SCOPE, hash_value(value), row.id, True, True
        is_due = _is_after(came_at, changed_at.get(field.id))
        if field.is_submission_unique:
            for row in _stream(db, query.add_columns(MetaDataSet.submission_id, is_due.label("is_due"))):
                if is_claimable(field, row.value):
                    is_claimed = field.service_id is not None
                    yield field.id, row.submission_id, hash_value(row.value), row.id, is_claimed, row.is_due
        if field.id in claimed:
            # Claims within a submission stay, whatever rules or service their field is given later.
            value = ServiceExecution.record[field.key].astext
            answers = select(MetaDataSet.id, MetaDataSet.submission_id, value.label("value"))
            answers = answers.join(ServiceExecution, ServiceExecution.metadataset_id == MetaDataSet.id)
            for row in _stream(db, answers.where(value.is_not(None))):
                yield field.id, row.submission_id, hash_value(row.value), row.id, True, False


def _compare_claims(db: Session) -> Iterator[Finding]:
    names = ("metadatum_id", "scope", "value_hash", "metadataset_id")
    is_same = and_(*(WANTED.c[name] == getattr(UniqueClaim, name) for name in names))
    is_claimed = exists().where(is_same).correlate(WANTED)
    is_held = exists().where(is_same, WANTED.c.is_claimed).correlate(UniqueClaim)
    count = func.count().over(partition_by=[WANTED.c[name] for name in names[:3]]).label("count")
    held = select(WANTED, count).where(~WANTED.c.is_claimed, WANTED.c.is_due).subquery()
    for holders, message in (
        (select(WANTED).where(WANTED.c.is_claimed, WANTED.c.is_due, ~is_claimed), "has no claim to its value"),
        (select(UniqueClaim.__table__).where(~is_held), "has a claim to a value that it does not hold"),
        (select(held).where(held.c.count > 1), "has the same value as another of its submission"),
    ):
        holder = holders.subquery()
        query = select(MetaDataSet.uuid, MetaDataSet.site_id, MetaDatum.name)
        query = query.join(holder, holder.c.metadataset_id == MetaDataSet.id)
        for row in _stream(db, query.join(MetaDatum, MetaDatum.id == holder.c.metadatum_id)):
            yield Finding(_name("metadataset", row), f"it {message} in the field {row.name}", RESTORE)


def _check_chain(db: Session) -> Iterator[Finding]:
    event_id = find_broken_seal(db)
    if event_id is not None:
        message = "it is not what was sealed, or it was added or removed"
        advice = "Compare the audit from here on with a backup of the database."
        yield Finding(f"audit event {event_id}", message, advice)


# Content.


def _check_content(storage: Storage, file: File, advance: Callable[[int], Any]) -> str | None:
    """Read the content of a confirmed file; return what is wrong with it."""
    assert file.storage_key is not None
    read, size = 0, file.size or 0

    def beat(done: int) -> None:
        nonlocal read
        advance(done - read)
        read = done

    try:
        found = hash_content(storage, file.storage_key, beat)
    except FileNotFoundError:
        beat(size)
        return "its content is not in the store"
    except StorageUnavailableError as error:
        # This raises, too, if it is not for the content alone.
        storage.size(file.storage_key)
        beat(size)
        return f"its content can't be read: {error}"
    beat(size)
    known = {file.checksum, file.md5, file.sha256} - {None}
    is_right = found.size == size and known <= {found.md5, found.sha256}
    return None if is_right else f"its content is another, of {found.size:,} bytes with the SHA-256 {found.sha256}"


def _is_confirmed(sessions: sessionmaker[Session], file: File) -> bool:
    """Say whether the file is still confirmed: who deletes it says so before its bytes go."""
    with sessions() as db:
        return bool(_count(db, File, File.id == file.id, File.state == FileState.CONFIRMED))
