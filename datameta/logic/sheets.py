"""Sample sheets: checked against the site's fields and against what there is, staged row by row, given back.

A child process reads the file and checks what needs no database (``datameta/sheets``); what it says streams
through here, so that a sheet takes the same memory whatever its size. A row that says the same as a set which
its sender has staged already, or submitted, is that set: to stage a sheet again changes nothing.
"""

import dataclasses
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from tempfile import TemporaryFile
from threading import BoundedSemaphore
from typing import IO, Any, BinaryIO, Literal, TypeAlias

import orjson
from sqlalchemy import Text, bindparam, cast, column, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from datameta.authz import Actor
from datameta.errors import Problem, UnavailableError, ValidationError
from datameta.identifiers import any_of
from datameta.logic import claims, records
from datameta.logic.fields import Field
from datameta.logic.file_rows import EXISTING
from datameta.logic.metadatasets import insert_metadatasets
from datameta.logic.rulebook import load_rulebook
from datameta.models import SITE_SCOPE, File, FileState, MetaDataSet, Submission
from datameta.settings import Settings, SiteIdFormat
from datameta.sheets.findings import Finding, Findings
from datameta.sheets.limits import DEFAULT_LIMITS
from datameta.sheets.process import run_child
from datameta.sheets.template import example_row, template_version, write_template
from datameta.sheets.values import Severity, SheetError

Record: TypeAlias = dict[str, str]

STAGING_LOCK = 0x53484545
"""The first half of the advisory locks of those who stage sheets; the second is the user."""
MOST_PROBLEMS = 1000
"""Problems that a refusal lists; the check lists them all."""
WAIT_SECONDS = 30


@dataclass(frozen=True)
class Sheet:
    """A file that was sent: its bytes, its name, and which of its sheets is meant (None: all with a header)."""

    file: BinaryIO
    filename: str
    name: str | None = None


@dataclass
class TableReport:
    """One sheet of the file; ``state`` is ``read``, ``ignored`` (no header) or ``hidden``."""

    name: str
    state: str
    header_row: int | None
    columns: list[dict[str, Any]]
    rows: int = 0
    bad: set[int] = dataclasses.field(default_factory=set)
    is_all_bad: bool = False

    @property
    def good_rows(self) -> int:
        """How many rows can be staged."""
        return 0 if self.is_all_bad else self.rows - len(self.bad)

    def column_of(self, name: str) -> int | None:
        """Return the column (from 0) of a field."""
        return next((column["index"] for column in self.columns if column["field"] == name), None)


@dataclass(frozen=True)
class NamedFile:
    """A file that a cell names."""

    name: str
    sheet: str
    row: int
    column: int


@dataclass
class Report:
    """What a check has found; ``template`` is the version of the template that the sheet was made from."""

    filename: str
    format: str = ""
    template: str | None = None
    is_template_current: bool = False
    tables: list[TableReport] = dataclasses.field(default_factory=list)
    findings: Findings = dataclasses.field(default_factory=Findings)
    files: list[NamedFile] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class Ref:
    """A set or a submission, as far as its ids."""

    uuid: str
    site_id: str


@dataclass(frozen=True)
class Same:
    """A set of the sender's own that says what a row says; ``submission`` if it has been submitted."""

    id: int
    metadataset: Ref
    submission: Ref | None


@dataclass(frozen=True)
class StagedRow:
    """A row and the set that holds it; ``submission`` if that had been submitted before."""

    sheet: str
    row: int
    metadataset: Ref
    is_new: bool
    submission: Ref | None = None


@dataclass(frozen=True)
class ReadRow:
    """A row as it was understood: a value for each of ``list_fields``, None where there is none or it can't be read."""

    sheet: str
    row: int
    values: list[str | None]


class SheetReader:
    """What reads sheets, for one process: so many at once as the settings allow."""

    def __init__(self, settings: Settings) -> None:
        self.limits = dataclasses.replace(DEFAULT_LIMITS, file_size=settings.sheet_max_bytes)
        self._places = BoundedSemaphore(settings.sheet_jobs)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Wait until there is room for another child process.

        Raises ``UnavailableError``.
        """
        if not self._places.acquire(timeout=WAIT_SECONDS):
            message = "Many sample sheets are being read at the moment; try again shortly."
            raise UnavailableError(message, code="sheets_busy")
        try:
            yield
        finally:
            self._places.release()


def check_sheet(
    db: Session, actor: Actor, *, reader: SheetReader, sheet: Sheet, content: BinaryIO | None = None
) -> Report:
    """Check a sheet; nothing is staged. ``content`` takes the rows as they were understood, for ``read_content``.

    Raises ``ValidationError`` if the file can't be read as a sheet, ``UnavailableError``.
    """
    check = _Check(db, actor, sheet)
    for batch in check.run(reader):
        if content is not None:
            content.writelines(check.write_rows(batch))
    return check.report


def list_fields(report: Report) -> list[str]:
    """Return the names of the fields that have a column, in the order of the columns."""
    names = (column["field"] for table in report.tables for column in table.columns)
    return list(dict.fromkeys(name for name in names if name is not None))


def read_content(report: Report, content: BinaryIO) -> Iterator[ReadRow]:
    """Yield the rows that a check has written."""
    fields = list_fields(report)
    content.seek(0)
    for line in content:
        sheet, number, texts = orjson.loads(line)
        yield ReadRow(sheet, number, [texts.get(name) for name in fields])


def stage_sheet(
    db: Session, actor: Actor, *, reader: SheetReader, sheet: Sheet, only_good: bool, site_id_format: SiteIdFormat
) -> tuple[Report, list[StagedRow]]:
    """Stage the rows of a sheet, all or none; with ``only_good`` those without an error.

    Rows that are staged or submitted already stay what they are. Raises ``ValidationError`` if the file can't be
    read as a sheet, or (without ``only_good``) naming each cell that is wrong; ``UnavailableError``.
    """
    # Of two requests with the same rows, the second one finds those of the first.
    db.execute(select(func.pg_advisory_xact_lock(STAGING_LOCK, actor.id)))
    check = _Check(db, actor, sheet)
    with TemporaryFile() as rows:
        for batch in check.run(reader):
            rows.write(orjson.dumps([len(check.report.tables) - 1, batch]) + b"\n")
        if check.report.findings.counts[Severity.ERROR] and not only_good:
            raise ValidationError(list(_list_problems(check.report)))
        rows.seek(0)
        return check.report, list(_stage_rows(db, actor, check.report, rows, site_id_format))


def annotate_sheet(db: Session, actor: Actor, *, reader: SheetReader, sheet: Sheet, output: BinaryIO) -> str:
    """Write the sheet's own file, with what is wrong marked and explained, into ``output``; return its format.

    Of csv and tsv it is a csv with the findings. Raises as ``check_sheet``.
    """
    report = check_sheet(db, actor, reader=reader, sheet=sheet)
    findings = [finding.to_json() for finding in report.findings]
    order = {
        "do": "annotate",
        # What it is, its content has told.
        "filename": f"{PurePath(sheet.filename).stem}.{report.format}",
        "findings": findings,
        "omitted": report.findings.omitted,
        "header_rows": {table.name: table.header_row for table in report.tables if table.header_row is not None},
    }
    sheet.file.seek(0)
    with reader.place(), _sheet_errors():
        [done] = run_child(order, sheet.file, output=output, limits=reader.limits)
    written: str = done["format"]
    return written


def make_template(db: Session, *, site_name: str, file_format: Literal["xlsx", "csv"], output: BinaryIO) -> None:
    """Write a template for sample sheets, made from today's definitions, into ``output``: ``xlsx`` or ``csv``."""
    book = load_rulebook(db)
    write_template(book, site_name=site_name, version=template_version(book), output=output, format=file_format)


Batch: TypeAlias = list[tuple[int, Record, Same | None]]
"""Row numbers, records, and the set that each row is already."""


class _Check:
    """One check: what the child says, and what only the database knows."""

    def __init__(self, db: Session, actor: Actor, sheet: Sheet) -> None:
        self.report = Report(sheet.filename)
        self._db = db
        self._actor = actor
        self._sheet = sheet
        self._book = load_rulebook(db)
        self._fields = self._book.fields_of(None)
        self._used: set[int] = set()
        self._staged_values: dict[tuple[str, str], list[tuple[int, str]]] | None = None

    def run(self, reader: SheetReader) -> Iterator[Batch]:
        """Check the sheet; yield the rows of the last of ``report.tables``, batch by batch."""
        order = {
            "do": "check",
            "filename": self._sheet.filename,
            "sheet": self._sheet.name,
            "rulebook": self._book.to_json(),
            "example": {
                field.name: text for field, text in zip(self._fields, example_row(self._book), strict=True) if text
            },
        }
        with reader.place(), _sheet_errors():
            for said in run_child(order, self._sheet.file, limits=reader.limits):
                if "rows" in said:
                    yield self._check_rows(said["rows"])
                else:
                    self._take(said)
        self._check_template()

    def write_rows(self, batch: Batch) -> Iterator[bytes]:
        """Yield a line of JSON for each row of the last of ``report.tables``."""
        sheet = self.report.tables[-1].name
        for number, record, _ in batch:
            fields = (field for field in self._fields if field.key in record)
            texts = {field.name: records.show_value(field, record[field.key]) for field in fields}
            yield orjson.dumps([sheet, number, texts], option=orjson.OPT_APPEND_NEWLINE)

    def _take(self, said: dict[str, Any]) -> None:
        report = self.report
        if "table" in said:
            table = said["table"]
            report.tables.append(TableReport(table["name"], table["state"], table["headerRow"], table["columns"]))
        elif "end" in said:
            table = report.tables[-1]
            table.rows, table.is_all_bad = said["end"]["rows"], said["end"]["isAllBad"]
            table.bad.update(said["end"]["bad"])
        elif "findings" in said:
            for finding in said["findings"]:
                report.findings.add(Finding.from_json(finding), is_counted=False)
        else:
            done = said["done"]
            report.format, report.template = done["format"], done["template"]
            report.findings.count(done["counts"], omitted=done["omitted"])

    def _check_template(self) -> None:
        self.report.is_template_current = self.report.template == template_version(self._book)
        if self.report.template is not None and not self.report.is_template_current:
            message = (
                "The sheet was made from an older template; the fields have been changed since. "
                "Correct what else is found, or take today's template."
            )
            self.report.findings.add(Finding(Severity.WARNING, "old_template", message, ""))

    # What only the database knows.

    def _check_rows(self, rows: Sequence[tuple[int, Record]]) -> Batch:
        same = self._find_same([record for _, record in rows])
        batch: Batch = []
        for (number, record), candidates in zip(rows, same, strict=True):
            known = next((one for one in candidates if one.id not in self._used), None)
            if known is not None:
                self._used.add(known.id)
                if known.submission is not None:
                    message = f"This was submitted already, as part of {known.submission.site_id}."
                    self._add(Severity.WARNING, "already_submitted", message, number, None)
            batch.append((number, record, known))
        fresh = [(number, record) for number, record, known in batch if known is None]
        self._check_site_unique(fresh)
        self._check_staged(fresh)
        self._check_files([(number, record) for number, record, known in batch if not (known and known.submission)])
        return batch

    def _find_same(self, wanted: Sequence[Record]) -> list[list[Same]]:
        """Return for each record the sets of the actor's own that say the same: staged ones first, by age."""
        # One JSON text: as an array of them each would be escaped, which takes longer than all the rest.
        sent = func.jsonb_array_elements(bindparam(None, list(wanted), JSONB))
        rows = sent.table_valued(column("record", JSONB), with_ordinality="number", name="sent").render_derived()
        query = (
            select(
                rows.c.number,
                MetaDataSet.id,
                MetaDataSet.uuid,
                MetaDataSet.site_id,
                Submission.uuid.label("submission_uuid"),
                Submission.site_id.label("submission_site_id"),
            )
            .join(
                MetaDataSet,
                # The index finds the hash; the record itself decides.
                (MetaDataSet.user_id == self._actor.id)
                & (func.md5(cast(MetaDataSet.record, Text)) == func.md5(cast(rows.c.record, Text)))
                & (MetaDataSet.record == rows.c.record),
            )
            .outerjoin(Submission, Submission.id == MetaDataSet.submission_id)
            .order_by(MetaDataSet.submission_id.nulls_first(), MetaDataSet.id)
        )
        found: list[list[Same]] = [[] for _ in wanted]
        for row in self._db.execute(query):
            submission = None
            if row.submission_uuid is not None:
                submission = Ref(str(row.submission_uuid), row.submission_site_id)
            found[row.number - 1].append(Same(row.id, Ref(str(row.uuid), row.site_id), submission))
        return found

    def _check_site_unique(self, rows: Sequence[tuple[int, Record]]) -> None:
        for field in self._fields:
            if not field.is_site_unique:
                continue
            wanted = [
                claims.Claim(field.id, SITE_SCOPE, value, number)
                for number, record in rows
                if (value := record.get(field.key)) is not None and records.is_claimable(field, value)
            ]
            message = "Another submission of this site holds this value already; the field must be unique."
            for claim in claims.find_taken(self._db, wanted):
                self._add_value(Severity.ERROR, "not_unique_in_site", message, claim.metadataset_id, field, claim.value)

    def _check_staged(self, rows: Sequence[tuple[int, Record]]) -> None:
        unique = [field for field in self._fields if field.is_site_unique or field.is_submission_unique]
        if not unique or not rows:
            return
        if self._staged_values is None:
            self._staged_values = self._read_staged_values(unique)
        for number, record in rows:
            for field in unique:
                value = record.get(field.key)
                if value is None or not records.is_claimable(field, value):
                    continue
                holders = self._staged_values.get((field.key, records.normalise_value(value)), [])
                others = [site_id for set_id, site_id in holders if set_id not in self._used]
                if others:
                    message = (
                        f"Your staged metadataset {others[0]} has this value too, and says something else beside it. "
                        "Both can't be part of one submission: delete the one that is wrong."
                    )
                    self._add_value(Severity.WARNING, "value_staged", message, number, field, value)

    def _read_staged_values(self, unique: Sequence[Field]) -> dict[tuple[str, str], list[tuple[int, str]]]:
        """Return the actor's staged sets by field key and normalised value of the fields that are unique."""
        values: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        columns = [MetaDataSet.record[field.key].astext for field in unique]
        query = select(MetaDataSet.id, MetaDataSet.site_id, *columns).where(
            MetaDataSet.user_id == self._actor.id, MetaDataSet.submission_id.is_(None)
        )
        for set_id, site_id, *texts in self._db.execute(query):
            for field, text in zip(unique, texts, strict=True):
                if text is not None and records.is_claimable(field, text):
                    values[field.key, records.normalise_value(text)].append((set_id, site_id))
        return values

    def _check_files(self, rows: Sequence[tuple[int, Record]]) -> None:
        table = self.report.tables[-1]
        named: list[tuple[int, Field, str]] = []
        for field in self._fields:
            index = table.column_of(field.name) if field.is_file else None
            for number, record in rows if index is not None else ():
                if name := records.get_file_name(field, record):
                    assert index is not None, "a column that is read"
                    named.append((number, field, name))
                    self.report.files.append(NamedFile(name, table.name, number, index))
        if not named:
            return
        staged = self._read_staged_files({unicodedata.normalize("NFC", name) for _, _, name in named})
        for number, field, name in named:
            states = staged.get(unicodedata.normalize("NFC", name), [])
            if len(states) > 1:
                message = "You have several staged files of this name; delete those that are wrong."
                self._add_value(Severity.ERROR, "file_ambiguous", message, number, field, name)
            elif not states:
                message = "You have no staged file of this name yet; send it before you submit."
                self._add_value(Severity.WARNING, "file_not_staged", message, number, field, name)
            elif states[0] != FileState.CONFIRMED:
                message = "The file of this name is not confirmed yet."
                self._add_value(Severity.WARNING, "file_not_confirmed", message, number, field, name)

    def _read_staged_files(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return the states of the actor's files that are part of nothing yet, by name."""
        query = select(File.name, File.state).where(
            File.user_id == self._actor.id,
            File.submission_id.is_(None),
            File.service_execution_id.is_(None),
            File.state.in_(EXISTING),
            File.name == any_of(list(names)),
        )
        states: dict[str, list[str]] = defaultdict(list)
        for name, state in self._db.execute(query):
            states[unicodedata.normalize("NFC", name)].append(state)
        return states

    def _add_value(self, severity: Severity, code: str, message: str, number: int, field: Field, value: str) -> None:
        self._add(severity, code, message, number, field, records.show_value(field, value))

    def _add(
        self,
        severity: Severity,
        code: str,
        message: str,
        number: int,
        field: Field | None,
        value: str | None = None,
    ) -> None:
        table = self.report.tables[-1]
        index = None if field is None else table.column_of(field.name)
        name = None if field is None else field.name
        self.report.findings.add(Finding(severity, code, message, table.name, index, name, value, None, [number]))
        if severity is Severity.ERROR:
            table.bad.add(number)


@contextmanager
def _sheet_errors() -> Iterator[None]:
    """Turn what a file is refused for into a refusal of the request."""
    try:
        yield
    except SheetError as error:
        raise ValidationError(str(error), code=error.code) from None


def _list_problems(report: Report) -> Iterator[Problem]:
    """Yield the errors of a sheet as problems that name their cell."""
    listed = 0
    for finding in report.findings:
        if finding.severity is not Severity.ERROR:
            continue
        if listed == MOST_PROBLEMS:
            message = "There are more; check the sheet to see them all."
            yield Problem(message, "more_problems")
            return
        listed += 1
        place = finding.cell or (f"row {finding.rows[0]}" if finding.rows else "")
        place = "!".join(part for part in (finding.sheet, place) if part)
        more = f" (and {finding.count - 1} more cells)" if finding.count > 1 else ""
        yield Problem(f"{place}: {finding.message}{more}", finding.code, field=finding.field)


def _stage_rows(
    db: Session, actor: Actor, report: Report, lines: IO[bytes], site_id_format: SiteIdFormat
) -> Iterator[StagedRow]:
    """Insert the rows that are good and no set yet; yield each good row with its set."""
    for line in lines:
        index, batch = orjson.loads(line)
        table = report.tables[index]
        if table.is_all_bad:
            continue
        good = [(number, record, same) for number, record, same in batch if number not in table.bad]
        new = [record for _, record, same in good if same is None]
        staged = iter(insert_metadatasets(db, actor, new, site_id_format=site_id_format))
        for number, _, same in good:
            if same is None:
                metadataset = next(staged)
                yield StagedRow(table.name, number, Ref(str(metadataset.uuid), metadataset.site_id), True)
            else:
                submission = same["submission"] and Ref(**same["submission"])
                yield StagedRow(table.name, number, Ref(**same["metadataset"]), False, submission)
