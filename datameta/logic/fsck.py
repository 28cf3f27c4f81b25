"""The proof that what the portal has promised holds, for every row and every object; it changes nothing.

Each proof is one statement of the database or one pass over the store, however much there is. What changes
meanwhile is never taken for wrong: the store is compared as in ``logic/inventory.py``, all else in one
snapshot. A rule that a definition was given later binds only what was submitted after.
"""

from collections.abc import Callable, Iterable, Iterator
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
    String,
    Table,
    and_,
    case,
    cast,
    column,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    table,
    text,
)
from sqlalchemy.orm import Session, sessionmaker

from datameta.clock import utc_now
from datameta.identifiers import any_of
from datameta.logic import sweep
from datameta.logic.audit import find_broken_seal
from datameta.logic.claims import is_claimable, select_submitted_values
from datameta.logic.file_rows import store_errors
from datameta.logic.inventory import (
    ENTRIES,
    Inventory,
    Query,
    copy_rows,
    find_damaged,
    is_there,
    list_orphans,
    take_inventory,
)
from datameta.logic.records import hash_value, restore_value
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


def prove_site(sessions: sessionmaker[Session], storage: Storage) -> Iterator[Finding | Proof]:
    """Yield what is wrong with rows, store, claims and audit as it is found, and after each part its proof.

    Raises ``UnavailableError``.
    """
    with store_errors(), take_inventory(sessions, storage) as inventory:
        yield from _prove_contents(inventory, storage)
        yield from _prove_needed(inventory)
    with sessions() as db:
        # All is rolled back in the end, with the temporary table.
        connection = db.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        for rule in _list_rules(db):
            yield from _conclude(rule.what, _count(db, rule.model), _apply(db, rule))
        WANTED.create(connection)
        count = copy_rows(db, WANTED, _list_wanted(db))
        db.execute(text("ANALYZE wanted_claims"))
        yield from _conclude("values that have to be unique", count, _compare_claims(db))
        yield from _conclude("sealed events of the audit", _count(db, AuditSeal), _check_chain(db))


def prove_content(
    sessions: sessionmaker[Session], storage: Storage, *, advance: Callable[[int], Any]
) -> Iterator[Finding | Proof]:
    """Read every confirmed file and yield those that are not what was confirmed, and in the end the proof.

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
            message = _read_content(storage, file, advance)
            if message is not None and _is_still_confirmed(sessions, file):
                wrong += 1
                advice = f"Restore {file.storage_key} from a backup."
                yield Finding(_name("file", file), message, advice)
        count += len(files)
        last_id = files[-1].id
    yield Proof("confirmed files read and compared with their checksums", count, wrong)


def measure_content(sessions: sessionmaker[Session]) -> int:
    """Return the sum of the sizes of all confirmed files, in bytes."""
    with sessions() as db:
        return int(db.scalars(select(func.coalesce(func.sum(File.size), 0)).where(_is_confirmed())).one())


@dataclass(frozen=True)
class _Rule:
    """What must not be among the rows of a table: ``broken`` selects uuid, site_id and a detail for the message."""

    what: str
    model: Any
    kind: str
    message: str
    advice: str
    broken: Query


def _conclude(what: str, count: int, findings: Iterable[Finding]) -> Iterator[Finding | Proof]:
    wrong = 0
    for finding in findings:
        wrong += finding.is_wrong
        yield finding
    yield Proof(what, count, wrong)


def _apply(db: Session, rule: _Rule) -> Iterator[Finding]:
    for row in db.execute(rule.broken.execution_options(yield_per=PAGE)):
        yield Finding(_name(rule.kind, row), rule.message.format(row[2]), rule.advice)


def _count(db: Session, model: Any, *conditions: ColumnElement[bool]) -> int:
    return db.scalars(select(func.count()).select_from(model).where(*conditions)).one()


def _name(kind: str, row: Any) -> str:
    return f"{kind} {row.site_id} ({row.uuid})"


def _is_confirmed() -> ColumnElement[bool]:
    return File.state == FileState.CONFIRMED


# Rows and the store.


def _prove_contents(inventory: Inventory, storage: Storage) -> Iterator[Finding | Proof]:
    def check() -> Iterator[Finding]:
        messages = {"content_missing": "its content is not in the store", "content_changed": "its content has"}
        for damaged in find_damaged(inventory, storage, WITH_CONTENT):
            for row, problem in damaged:
                message = messages[problem]
                if problem == "content_changed":
                    message += f" not the {row.size:,} bytes that it had"
                yield Finding(_name("file", row), message, f"Restore {row.storage_key} from a backup.")
        # Of what is there with the right size, reading has told more.
        known = select(File.uuid, File.site_id, File.storage_key).where(
            _is_confirmed(), File.problem.is_not(None), is_there()
        )
        for row in inventory.db.execute(known):
            message = "its content was found damaged before"
            yield Finding(_name("file", row), message, f"Restore {row.storage_key} from a backup.")

    count = _count(inventory.db, File, File.state.in_(WITH_CONTENT))
    yield from _conclude("files with their content in the store", count, check())


def _prove_needed(inventory: Inventory) -> Iterator[Finding | Proof]:
    """Prove that the store holds nothing without a row; what is young may be on its way, or waits for the sweeper."""

    def check() -> Iterator[Finding]:
        now = utc_now()
        for row in list_orphans(inventory, before=now + timedelta(days=1)):
            kind = "object" if row.upload is None else "upload"
            age = max(now - row.changed_at, timedelta())
            message = f"no file needs it, and it is {age.total_seconds() / 3600:.1f} hours old"
            # The daily check of the store removes it at the first age.
            is_wrong = age > 2 * sweep.ORPHAN_AGE
            advice = "See that a worker runs, or run 'datameta sweep'." if is_wrong else "It will be swept."
            yield Finding(f"{kind} {row.key}", message, advice, is_wrong)

    yield from _conclude("objects and uploads that a file needs", _count(inventory.db, ENTRIES), check())


# Rows among themselves.


def _list_rules(db: Session) -> Iterator[_Rule]:
    """Yield what the schema cannot say."""
    lost = "No part of the portal does this: look for whoever writes to the database, and restore it from a backup."
    yield _Rule(
        "files that nothing keeps from going on",
        File,
        "file",
        "it has been {} for too long",
        "See that a worker runs, or run 'datameta sweep'.",
        select(File.uuid, File.site_id, File.state).where(
            or_(*(sweep.is_due(state, since=PATIENCE) for state in FileState if state != FileState.CONFIRMED))
        ),
    )
    for message, condition in _list_file_rules():
        yield _Rule(
            "files that agree with themselves", File, "file", message, lost, _select(File).where(condition)
        )
    yield _Rule(
        "parts of uploads",
        UploadPart,
        "file",
        "part {} belongs to no upload in parts, or is beyond its end",
        lost,
        select(File.uuid, File.site_id, UploadPart.number)
        .join(UploadPart, UploadPart.file_id == File.id)
        .where(or_(File.part_size.is_(None), UploadPart.number < 1, _is_beyond_the_end())),
    )
    yield from _list_submission_rules(lost)
    yield from _list_record_rules(db, lost)
    yield from _list_reference_rules(db, lost)


def _list_file_rules() -> Iterator[tuple[str, ColumnElement[bool]]]:
    length = func.length(File.checksum)
    yield (
        "its content has other digests than were announced",
        and_(
            _is_confirmed(),
            or_(and_(length == 32, File.md5 != File.checksum), and_(length == 64, File.sha256 != File.checksum)),
        ),
    )
    yield (
        "its content is at a key that is not its own",
        ~File.storage_key.startswith(literal("files/").concat(cast(File.uuid, String))),
    )
    yield (
        "it has another size than its upload in parts",
        and_(_is_confirmed(), File.part_size.is_not(None), File.size != File.announced_size),
    )
    yield (
        "it is part of a submission and of a service's answer",
        and_(File.submission_id.is_not(None), File.service_execution_id.is_not(None)),
    )


def _is_beyond_the_end() -> ColumnElement[bool]:
    last = func.greatest((File.announced_size + File.part_size - 1) / File.part_size, 1)
    return UploadPart.number > last


def _list_submission_rules(lost: str) -> Iterator[_Rule]:
    sets, files = (
        select(func.count()).where(model.submission_id == Submission.id).scalar_subquery()
        for model in (MetaDataSet, File)
    )
    said = {name: cast(AuditEvent.after[name].astext, BigInteger) for name in ("metadatasets", "files")}
    is_creation = and_(AuditEvent.entity_uuid == Submission.uuid, AuditEvent.event == "submission.created")
    yield _Rule(
        "submissions that are whole",
        Submission,
        "submission",
        "it does not hold what was submitted",
        lost,
        _select(Submission)
        .outerjoin(AuditEvent, is_creation)
        .where(or_(sets == 0, said["metadatasets"] != sets, said["files"] != files)),
    )
    for kind, model in (("file", File), ("metadataset", MetaDataSet)):
        yield _Rule(
            f"submitted {kind}s of who submitted them",
            model,
            kind,
            "it belongs to somebody else than its submission",
            lost,
            _select(model).join(Submission, Submission.id == model.submission_id).where(
                Submission.user_id != model.user_id
            ),
        )
    answered = _select(MetaDataSet).join(ServiceExecution, ServiceExecution.metadataset_id == MetaDataSet.id)
    yield _Rule(
        "answers of services for submitted metadatasets",
        ServiceExecution,
        "metadataset",
        "a service has answered for it, and it is not submitted",
        lost,
        answered.where(MetaDataSet.submission_id.is_(None)),
    )
    yield _Rule(
        "files in answers of services of who answered",
        File,
        "file",
        "it belongs to somebody else than the service's answer",
        lost,
        _select(File)
        .join(ServiceExecution, ServiceExecution.id == File.service_execution_id)
        .where(ServiceExecution.user_id != File.user_id),
    )


def _list_record_rules(db: Session, lost: str) -> Iterator[_Rule]:
    ids = [str(number) for number in db.scalars(select(MetaDatum.id))]
    entry = table("entry", column("key", String), column("value"))
    is_known = entry.c.key == any_of(ids or [""])
    for what, source, query in (
        ("records of metadatasets", MetaDataSet, _select(MetaDataSet)),
        (
            "records of services' answers",
            ServiceExecution,
            _select(MetaDataSet).join(ServiceExecution, ServiceExecution.metadataset_id == MetaDataSet.id),
        ),
    ):
        is_object = func.jsonb_typeof(source.record) == "object"
        # Of what is no object, there are no entries to be had.
        entries = func.jsonb_each(case((is_object, source.record), else_=text("'{\"\": null}'::jsonb")))
        entry = entries.table_valued("key", "value").render_derived("entry")
        is_known = entry.c.key == any_of(ids or [""])
        is_wrong = exists().select_from(entry).where(or_(func.jsonb_typeof(entry.c.value) != "string", ~is_known))
        message = "its record holds something else than texts of known fields"
        yield _Rule(what, source, "metadataset", message, lost, query.where(is_wrong))


def _list_reference_rules(db: Session, lost: str) -> Iterator[_Rule]:
    bound = or_(File.submission_id.is_not(None), File.service_execution_id.is_not(None))
    yield _Rule(
        "submitted files that a field names",
        File,
        "file",
        "it is submitted, and no field names it",
        lost,
        _select(File).where(bound, ~exists().where(FileReference.file_id == File.id)),
    )
    name = MetaDatum.id.cast(String)
    value = func.coalesce(
        case((File.service_execution_id.is_not(None), ServiceExecution.record[name].astext)),
        case((File.service_execution_id.is_(None), MetaDataSet.record[name].astext)),
    )
    is_in_place = func.coalesce(
        or_(File.submission_id == MetaDataSet.submission_id, ServiceExecution.metadataset_id == MetaDataSet.id), False
    )
    yield _Rule(
        "references from fields to files",
        FileReference,
        "file",
        "the field {} that refers to it is of another submission, or names another file",
        lost,
        select(File.uuid, File.site_id, MetaDatum.name)
        .join(FileReference, FileReference.file_id == File.id)
        .join(MetaDataSet, MetaDataSet.id == FileReference.metadataset_id)
        .join(MetaDatum, MetaDatum.id == FileReference.metadatum_id)
        .outerjoin(ServiceExecution, ServiceExecution.id == File.service_execution_id)
        .where(or_(~is_in_place, func.normalize(value).is_distinct_from(func.normalize(File.name)))),
    )
    changed_at = _list_changes(db, "isFile", "service")
    for metadatum in db.scalars(select(MetaDatum).where(MetaDatum.is_file)).all():
        came_at = ServiceExecution.executed_at if metadatum.service_id else Submission.submitted_at
        named = select_submitted_values(metadatum).with_only_columns(
            MetaDataSet.uuid, MetaDataSet.site_id, literal(metadatum.name)
        )
        source = ServiceExecution.record if metadatum.service_id else MetaDataSet.record
        refers = exists().where(
            FileReference.metadataset_id == MetaDataSet.id, FileReference.metadatum_id == metadatum.id
        )
        if not metadatum.service_id:
            named = named.join(Submission, Submission.id == MetaDataSet.submission_id)
        yield _Rule(
            "metadatasets whose files are there",
            MetaDataSet,
            "metadataset",
            "its field {} names a file, and refers to none",
            lost,
            named.where(source[str(metadatum.id)].astext != "", ~refers, came_at > _since(metadatum, changed_at)),
        )
    for column_of in (File.submission_id, File.service_execution_id):
        same = func.count().over(partition_by=[column_of, func.normalize(File.name)]).label("same")
        files = select(File.uuid, File.site_id, File.name, same).where(column_of.is_not(None)).subquery()
        yield _Rule(
            "file names that are unique where they were submitted",
            File,
            "file",
            "another file of its submission has its name, {}",
            lost,
            select(files.c.uuid, files.c.site_id, files.c.name).where(files.c.same > 1),
        )


def _select(model: Any) -> Query:
    return select(model.uuid, model.site_id, null())


def _list_changes(db: Session, *names: str) -> dict[int, datetime]:
    """Return when these properties of definitions were changed last, by the definition's id."""
    query = (
        select(MetaDatum.id, func.max(AuditEvent.at))
        .join(AuditEvent, AuditEvent.entity_uuid == MetaDatum.uuid)
        .where(AuditEvent.event == "metadatum.changed", or_(*(AuditEvent.after.has_key(name) for name in names)))
        .group_by(MetaDatum.id)
    )
    return {row[0]: row[1] for row in db.execute(query)}


def _since(metadatum: MetaDatum, changed_at: dict[int, datetime]) -> Any:
    """Return since when, for certain, what was submitted has been judged by today's definition."""
    return changed_at[metadatum.id] + LATENCY if metadatum.id in changed_at else literal("-infinity")


# Claims and audit.


def _list_wanted(db: Session) -> Iterator[tuple[int, int, bytes, int, bool, bool]]:
    """Yield the rows of ``WANTED``."""
    changed_at = _list_changes(db, "isSubmissionUnique", "isSiteUnique", "service")
    claimed = set(db.scalars(select(UniqueClaim.metadatum_id).where(UniqueClaim.scope != SITE_SCOPE).distinct()))
    for metadatum in db.scalars(select(MetaDatum).order_by(MetaDatum.id)).all():
        if metadatum.is_site_unique:
            for row in _stream(db, select_submitted_values(metadatum)):
                if is_claimable(row.value):
                    value = hash_value(restore_value(metadatum, row.value))
                    yield metadatum.id, SITE_SCOPE, value, row.id, True, True
        is_unique = metadatum.is_submission_unique
        since = _since(metadatum, changed_at)
        if metadatum.id in claimed or (is_unique and metadatum.service_id):
            # A claim in a submission stays when its field is given other rules, or to another service.
            is_due = and_(
                literal(is_unique),
                ServiceExecution.service_id == metadatum.service_id,
                ServiceExecution.executed_at > since,
            )
            value = ServiceExecution.record[str(metadatum.id)].astext
            query = select(MetaDataSet.id, MetaDataSet.submission_id, value.label("value"), is_due.label("is_due"))
            query = query.join(ServiceExecution, ServiceExecution.metadataset_id == MetaDataSet.id)
            yield from _list_in_submissions(db, metadatum, query, is_claimed=True)
        elif is_unique:
            value = MetaDataSet.record[str(metadatum.id)].astext
            is_due = Submission.submitted_at > since
            query = select(MetaDataSet.id, MetaDataSet.submission_id, value.label("value"), is_due.label("is_due"))
            query = query.join(Submission, Submission.id == MetaDataSet.submission_id)
            yield from _list_in_submissions(db, metadatum, query, is_claimed=False)
