"""Submissions, files, metadatasets with their records, and what services have answered.

A value goes over as it was stored: text, and dates in ISO 8601. A set that was staged at a former import and has been
submitted there since is submitted here, too.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert

from datameta.errors import ConflictError
from datameta.identifiers import any_of
from datameta.logic import audit, blocks, claims
from datameta.logic.claims import Claim
from datameta.logic.definitions import claim_submitted
from datameta.logic.records import hash_value, is_claimable
from datameta.logic.rulebook import list_fields
from datameta.logic.submissions import count_content
from datameta.logic.verification import MISSING, report_damage
from datameta.models import (
    File,
    FileReference,
    FileState,
    MetaDataSet,
    MetaDatum,
    ServiceExecution,
    Submission,
)
from datameta.released.contents import Content
from datameta.released.old import to_utc
from datameta.released.target import Target, shorten

LONGEST_NAME = 255
NAMED = 5
"""How many things a remark names."""


def move_submissions(target: Target) -> None:
    """Bring the submissions over; whose they are, their metadatasets tell."""
    rows = target.old.list_rows("submissions")
    known = target.find_known(Submission, rows)
    submitters = target.old.find_submitters()
    new = []
    for row in rows:
        users = submitters.get(row.id, [])
        if row.uuid in known:
            continue
        subject = f"submission {row.site_id}"
        if not users:
            target.report.remark(subject, "is left out: nothing was submitted with it")
            continue
        if len(users) > 1:
            target.report.remark(subject, "has metadatasets of several users; here it is the first one's")
        new.append(
            {
                "uuid": row.uuid,
                "site_id": row.site_id,
                "label": row.label or None,
                "user_id": target.ids.users[min(users)],
                "group_id": target.ids.groups[row.group_id],
                "submitted_at": to_utc(row.date) or target.now,
            }
        )
    added = target.add_rows(Submission, new)
    known |= added
    target.ids.new_submissions = list(added.values())
    target.ids.submissions = {row.id: known[row.uuid] for row in rows if row.uuid in known}
    target.report.count("submissions", found=len(rows), new=len(new))


def move_files(target: Target, contents: Mapping[UUID, Content]) -> None:
    """Bring the confirmed files over; one whose content was not right is here as one that has lost it."""
    rows = target.old.list_rows("files")
    confirmed = [row for row in rows if row.content_uploaded and len(row.name) <= LONGEST_NAME]
    removed = target.find_removed(confirmed)
    if removed:
        submitted = target.old.find_submitted_files()
        confirmed = [row for row in confirmed if row.uuid not in removed or row.id in submitted]
    known = target.find_known(File, confirmed)
    new = [_make_file(target, row, contents.get(row.uuid)) for row in confirmed if row.uuid not in known]
    added = target.add_rows(File, new)
    lost = [number for uuid, number in added.items() if uuid not in contents]
    if lost:
        for file in target.db.scalars(select(File).where(File.id == any_of(lost)).order_by(File.id)).all():
            report_damage(target.db, file, MISSING)
    _find_again(target, {known[uuid]: content for uuid, content in contents.items() if uuid in known})
    known |= added
    target.ids.files = {row.id: known[row.uuid] for row in confirmed}
    target.report.count("files", found=len(rows), new=len(new))
    open_ones = sum(not row.content_uploaded for row in rows)
    if open_ones:
        target.report.remark("files", f"{open_ones:,} that were announced and never confirmed are left out")
    for row in rows:
        if row.content_uploaded and len(row.name) > LONGEST_NAME:
            target.report.remark(f"file {row.site_id}", f"is left out: its name has {len(row.name):,} characters")


def _make_file(target: Target, row: Row[Any], content: Content | None) -> dict[str, Any]:
    return {
        "uuid": row.uuid,
        "site_id": row.site_id,
        "user_id": target.ids.users[row.user_id],
        "name": row.name,
        "checksum": shorten(row.checksum.lower(), 64, target.report, f"file {row.site_id}", "checksum"),
        "state": FileState.CONFIRMED,
        "state_changed_at": target.now,
        "upload_expires_at": to_utc(row.upload_expires) or target.now,
        "storage_key": f"files/{row.uuid}",
        "size": (row.filesize or 0) if content is None else content.size,
        "md5": None if content is None else content.md5,
        "sha256": None if content is None else content.sha256,
        "confirmed_at": target.now,
        "checked_at": None if content is None else target.now,
    }


def _find_again(target: Target, contents: Mapping[int, Content]) -> None:
    """End the alarm for files that had lost their content at a former import, and have it now."""
    query = select(File).where(File.id.in_(list(contents)), File.problem.is_not(None)).order_by(File.id)
    for file in target.db.scalars(query).all():
        content, former = contents[file.id], file.problem
        file.problem, file.checked_at = None, target.now
        file.size, file.md5, file.sha256 = content.size, content.md5, content.sha256
        target.db.flush()
        before, after = {"problem": former}, {"problem": None}
        audit.record_event(target.db, "file.found_again", actor=None, entity=file, before=before, after=after)


@dataclass
class _Record:
    """What is known of one set: its values by the old field's id, and the old ids of the files that they name."""

    values: dict[int, str] = field(default_factory=dict)
    files: dict[int, int] = field(default_factory=dict)


class DataMover:
    """Brings metadatasets over, a page at a time, and remembers what the rules of this portal would refuse."""

    def __init__(self, target: Target) -> None:
        self._target, self._db, self._ids = target, target.db, target.ids
        fields = target.old.list_rows("metadata")
        self._service_of = {row.id: row.service_id for row in fields}
        self._is_file = {row.id for row in fields if row.isfile}
        self._names = {row.id: row.name for row in fields}
        self._unreferenced: defaultdict[int, list[str]] = defaultdict(list)
        self._claims: list[Claim] = []
        self._executions: list[int] = []
        self._is_changed = False

    def move(self) -> None:
        """Bring all of it over, then see to what has to be unique."""
        for page in self._target.old.list_pages("metadatasets"):
            self._target.report.count("metadatasets", found=len(page), new=0)
            removed = self._target.find_removed(row for row in page if row.submission_id is None)
            if kept := [row for row in page if row.uuid not in removed]:
                self._move_page(kept)
        self._index()
        self._tell_unreferenced()
        if self._is_changed:
            self._claim()

    def _move_page(self, page: Sequence[Row[Any]]) -> None:
        known = {
            row.uuid: row
            for row in self._db.execute(
                select(MetaDataSet.uuid, MetaDataSet.id, MetaDataSet.submission_id).where(
                    MetaDataSet.uuid == any_of([row.uuid for row in page])
                )
            )
        }
        records = self._read_records([row.id for row in page])
        executions = self._read_executions([row.id for row in page])
        new = [row for row in page if row.uuid not in known]
        moved = [row for row in page if row.uuid in known and self._is_submitted_since(row, known[row.uuid])]
        values = [self._make_set(row, records[row.id], executions) for row in new]
        set_ids = {uuid: each.id for uuid, each in known.items()} | self._target.add_rows(MetaDataSet, values)
        for row in moved:
            changed = self._make_set(row, records[row.id], executions)
            kept = {name: changed[name] for name in ("submission_id", "record")}
            self._db.execute(update(MetaDataSet).where(MetaDataSet.id == set_ids[row.uuid]).values(kept))
        self._is_changed |= bool(new or moved)
        self._target.report.count("metadatasets", found=0, new=len(new) + len(moved))
        added = self._move_executions(page, set_ids, records, executions)
        for row in (*new, *moved):
            self._bind_files(row, set_ids[row.uuid], records[row.id], None)
        for row, execution_id, service in added:
            self._bind_files(row, set_ids[row.uuid], records[row.id], (service, execution_id))

    def _is_submitted_since(self, row: Row[Any], here: Any) -> bool:
        return here.submission_id is None and row.submission_id in self._ids.submissions

    def _read_records(self, set_ids: list[int]) -> defaultdict[int, _Record]:
        records: defaultdict[int, _Record] = defaultdict(_Record)
        for row in self._target.old.list_rows("metadatumrecords", "metadataset_id = ANY(:ids)", ids=set_ids):
            record = records[row.metadataset_id]
            if row.value is None:
                continue
            if record.values.get(row.metadatum_id, row.value) != row.value:
                message = f"has two values of {self._names[row.metadatum_id]}; here it has the later one"
                self._target.report.remark(f"metadataset number {row.metadataset_id}", message)
            record.values[row.metadatum_id] = row.value
            if row.file_id is not None:
                record.files[row.metadatum_id] = row.file_id
        return records

    def _read_executions(self, set_ids: list[int]) -> dict[tuple[int, int], Row[Any]]:
        """Return the executions by set and service; of several the last."""
        rows = self._target.old.list_rows("serviceexecutions", "metadataset_id = ANY(:ids)", ids=set_ids)
        found: dict[tuple[int, int], Row[Any]] = {}
        for row in rows:
            place = (row.metadataset_id, row.service_id)
            if place in found:
                message = "answered twice for one metadataset; here it has the last answer"
                self._target.report.remark(f"service execution {found[place].uuid}", message)
            found[place] = row
        return found

    def _make_set(
        self, row: Row[Any], record: _Record, executions: Mapping[tuple[int, int], Row[Any]]
    ) -> dict[str, Any]:
        values = {}
        for number, value in record.values.items():
            service = self._service_of[number]
            is_answer = (row.id, service) in executions and row.submission_id in self._ids.submissions
            if is_answer:
                continue
            if service is not None:
                message = f"has a value of {self._names[number]}, and no answer of the service is here; nobody sees it"
                self._target.report.remark(f"metadataset {row.site_id}", message)
            values[str(self._ids.fields[number])] = value
        submission_id = self._ids.submissions.get(row.submission_id)
        return {
            "uuid": row.uuid,
            "site_id": row.site_id,
            "user_id": self._ids.users[row.user_id],
            "submission_id": submission_id,
            "record": values,
        }

    def _move_executions(
        self,
        page: Sequence[Row[Any]],
        set_ids: Mapping[UUID, int],
        records: Mapping[int, _Record],
        executions: Mapping[tuple[int, int], Row[Any]],
    ) -> list[tuple[Row[Any], int, int]]:
        """Add what services have answered; return sets with the new execution's id and the old service's."""
        report, sets = self._target.report, {row.id: row for row in page}
        known = self._target.find_known(ServiceExecution, executions.values())
        answered = select(ServiceExecution.metadataset_id, ServiceExecution.service_id).where(
            ServiceExecution.metadataset_id == any_of(list(set_ids.values()))
        )
        taken = {tuple(row) for row in self._db.execute(answered)}
        new, places = [], {}
        for (set_id, service), row in executions.items():
            if row.uuid in known:
                continue
            place = (set_ids[sets[set_id].uuid], self._ids.services[service])
            if place in taken or sets[set_id].submission_id not in self._ids.submissions:
                message = "is left out: its metadataset is not submitted, or the service has answered for it here"
                report.remark(f"service execution {row.uuid}", message)
                continue
            values = {
                self._ids.fields[number]: value
                for number, value in records[set_id].values.items()
                if self._service_of[number] == service
            }
            new.append(
                {
                    "uuid": row.uuid,
                    "service_id": place[1],
                    "metadataset_id": place[0],
                    "user_id": self._ids.users[row.user_id],
                    "record": {str(number): value for number, value in values.items()},
                    "executed_at": to_utc(row.datetime) or self._target.now,
                }
            )
            places[row.uuid] = (sets[set_id], service)
            self._note_claims(sets[set_id], place[0], values)
        added = self._target.add_rows(ServiceExecution, new)
        self._executions += added.values()
        self._is_changed |= bool(added)
        report.count("service executions", found=len(executions), new=len(added))
        return [(places[uuid][0], number, places[uuid][1]) for uuid, number in added.items()]

    def _note_claims(self, row: Row[Any], set_id: int, values: Mapping[int, str]) -> None:
        scope = self._ids.submissions[row.submission_id]
        self._claims += [Claim(number, scope, value, set_id) for number, value in values.items()]

    def _bind_files(self, row: Row[Any], set_id: int, record: _Record, execution: tuple[int, int] | None) -> None:
        """Refer from the fields of a submitted set to their files: those staged with it, or those of an execution."""
        submission_id = self._ids.submissions.get(row.submission_id)
        if submission_id is None:
            return
        for number in record.values:
            if self._service_of[number] != (None if execution is None else execution[0]):
                continue
            file_id = self._ids.files.get(record.files.get(number, -1))
            if file_id is None:
                if number in self._is_file and record.values[number]:
                    self._unreferenced[number].append(row.site_id)
                continue
            reference = {
                "metadataset_id": set_id,
                "metadatum_id": self._ids.fields[number],
                "file_id": file_id,
            }
            statement = insert(FileReference).values(reference).on_conflict_do_nothing()
            if self._db.scalar(statement.returning(FileReference.file_id)) is None:
                self._unreferenced[number].append(row.site_id)
                continue
            place = {"submission_id": submission_id} if execution is None else {"service_execution_id": execution[1]}
            self._db.execute(update(File).where(File.id == file_id).values(place))

    def _index(self) -> None:
        """Count what submissions hold, and make it be found, as is done for each that is made here."""
        for number in self._ids.new_submissions:
            submission = self._db.get_one(Submission, number)
            count_content(self._db, submission)
            query = select(MetaDataSet.id, MetaDataSet.site_id, MetaDataSet.record)
            sets = self._db.execute(query.where(MetaDataSet.submission_id == number)).all()
            blocks.add_blocks(self._db, submission, sets, {row.id: row.record for row in sets})
        for number in self._executions:
            execution = self._db.get_one(ServiceExecution, number)
            metadataset = self._db.get_one(MetaDataSet, execution.metadataset_id)
            blocks.add_answer(self._db, metadataset, service_id=execution.service_id, record=execution.record)

    # What the rules of this portal would refuse.

    def _tell_unreferenced(self) -> None:
        """Let fields hold names without files, as they do, in what is here already."""
        for number, site_ids in self._unreferenced.items():
            message = f"names files that are not there or are named twice, in {_name(site_ids)}; the names stay"
            self._target.report.remark(f"field {self._names[number]}", message)
            self._begin_rule(self._ids.fields[number], "isFile")

    def _claim(self) -> None:
        """Claim what has to be unique; a rule that is broken already is given up, or holds from now on."""
        fields = {each.id: each for each in list_fields(self._db)}
        wanted = [
            claim
            for claim in self._claims
            if fields[claim.metadatum_id].is_submission_unique and is_claimable(fields[claim.metadatum_id], claim.value)
        ]
        broken = {claim.metadatum_id for claim in claims.insert_claims(self._db, wanted)}
        for each in fields.values():
            if each.is_submission_unique and each.service_id is None and self._has_twice(each):
                broken.add(each.id)
        for number in sorted(broken):
            message = "has a value twice in a submission, and may not; it stays, and the rule holds from now on"
            self._target.report.remark(f"field {fields[number].name}", message)
            self._begin_rule(number, "isSubmissionUnique")
        for metadatum in self._db.scalars(
            select(MetaDatum).where(MetaDatum.is_site_unique).order_by(MetaDatum.id)
        ).all():
            self._claim_in_site(metadatum)

    def _has_twice(self, each: Any) -> bool:
        """Say whether a field has a value twice in one submission."""
        value = MetaDataSet.record[each.key].astext
        query = select(MetaDataSet.submission_id, value.label("value"))
        query = query.where(MetaDataSet.submission_id.is_not(None), value.is_not(None))
        seen = Counter(
            (row.submission_id, hash_value(row.value))
            for row in self._db.execute(query.execution_options(yield_per=1000))
            if is_claimable(each, row.value)
        )
        return any(number > 1 for number in seen.values())

    def _claim_in_site(self, metadatum: MetaDatum) -> None:
        try:
            with self._db.begin_nested():
                claim_submitted(self._db, metadatum)
        except ConflictError as error:
            sets = [str((problem.entity or {}).get("site")) for problem in error.problems]
            message = (
                f"has to be unique in the site, and is not: {_name(sets)} have values that others have. The values "
                "stay, and the field need not be unique here"
            )
            self._target.report.remark(f"field {metadatum.name}", message)
            metadatum.is_site_unique = False
            self._db.flush()
            claim_submitted(self._db, metadatum)
            before, after = {"isSiteUnique": True}, {"isSiteUnique": False}
            audit.record_event(self._db, "metadatum.changed", actor=None, entity=metadatum, before=before, after=after)

    def _begin_rule(self, field_id: int, name: str) -> None:
        """Let the audit say that a field has a rule from now on, so that what came before is not judged by it."""
        metadatum = self._db.get_one(MetaDatum, field_id)
        audit.record_event(
            self._db, "metadatum.changed", actor=None, entity=metadatum, before={name: False}, after={name: True}
        )


def _name(site_ids: Sequence[str]) -> str:
    """Return some of the ids, and how many more there are."""
    more = f" and {len(site_ids) - NAMED:,} more" if len(site_ids) > NAMED else ""
    return ", ".join(site_ids[:NAMED]) + more
