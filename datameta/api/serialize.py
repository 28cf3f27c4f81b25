"""How things look on the wire: plain functions to plain dicts, with every key written out."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from datameta import __version__
from datameta.authz import Actor, may_view_service, may_view_user_roles
from datameta.clock import as_utc, to_wire, utc_now
from datameta.errors import Problem
from datameta.identifiers import to_identifier
from datameta.logic import records
from datameta.logic.appsettings import SettingView
from datameta.logic.fields import Condition, Field, Rulebook, Term
from datameta.logic.files import Download, Upload
from datameta.logic.jobs import JobView
from datameta.logic.metadatasets import MetaDataSetRow, NewSet
from datameta.logic.overview import Overview, SiteOverview
from datameta.logic.parts import count_parts
from datameta.logic.previews import Preview
from datameta.logic.refinements import RefinementView
from datameta.logic.registrations import RegistrationView
from datameta.logic.services import ServiceView
from datameta.logic.sheets import ReadRow, Report, StagedRow, TableReport
from datameta.logic.site import SiteView
from datameta.logic.submissions import Submitted
from datameta.logic.trials import RuleTrial, Trial
from datameta.logic.uploads import PartUpload
from datameta.logic.users import UserView
from datameta.models import ApiKey, AuditEvent, File, FileState, Group, User
from datameta.sheets.findings import Finding
from datameta.sheets.values import Severity, to_letters
from datameta.storage import Finding as StoreFinding
from datameta.storage import Part

SESSION_STATES = {
    FileState.ANNOUNCED: "open",
    FileState.CONFIRMING: "completing",
    FileState.VERIFYING: "verifying",
    FileState.FAILED: "failed",
    FileState.CONFIRMED: "verified",
}
"""What the state of a file is called for its upload in parts."""


def make_identifier(uuid: Any, site_id: str | None = None) -> dict[str, str]:
    """Return an Identifier; ``site`` is absent for things that have none."""
    return {"uuid": str(uuid)} if site_id is None else {"uuid": str(uuid), "site": site_id}


def show_whoami(actor: Actor) -> dict[str, Any]:
    """WhoamiResponse."""
    return {
        "id": to_identifier(actor),
        "name": actor.name,
        "groupAdmin": actor.group_admin,
        "siteAdmin": actor.site_admin,
        "siteRead": actor.site_read,
        "email": actor.email,
        "group": {"id": make_identifier(actor.group_uuid, actor.group_site_id), "name": actor.group_name},
    }


def show_user(actor: Actor, user: User) -> dict[str, Any]:
    """UserResponse; what the asker may not see is null."""
    is_open = may_view_user_roles(actor, user.group_id)
    return {
        "id": to_identifier(user),
        "name": user.name,
        "groupAdmin": user.group_admin if is_open else None,
        "siteAdmin": user.site_admin if is_open else None,
        "siteRead": user.site_read if is_open else None,
        "email": user.email if is_open else None,
        "groupId": to_identifier(user.group),
    }


def show_session(actor: Actor, key: ApiKey, token: str) -> dict[str, Any]:
    """UserSession: the one answer that holds the token."""
    return {
        "id": to_identifier(key),
        "userId": to_identifier(actor),
        "token": token,
        "label": key.label,
        "expires": to_wire(key.expires_at),
    }


def show_keys(keys: Iterable[ApiKey]) -> list[dict[str, Any]]:
    """ApiKeyList."""
    now = utc_now()
    return [
        {
            "id": to_identifier(key),
            "label": key.label,
            "expires": to_wire(key.expires_at),
            "hasExpired": as_utc(key.expires_at) <= now,
        }
        for key in keys
    ]


def show_group(group: Group) -> dict[str, Any]:
    """GroupResponse."""
    return {"id": to_identifier(group), "name": group.name}


def show_metadatum(metadatum: Any, services: Mapping[int, dict[str, str]]) -> dict[str, Any]:
    """MetaDataResponse of an entity or a row; ``services`` holds the Identifiers of services by row id."""
    return {
        "id": to_identifier(metadatum),
        "name": metadatum.name,
        "regexDescription": metadatum.regex_description,
        "longDescription": metadatum.long_description,
        "example": metadatum.example,
        "regExp": metadatum.reg_exp,
        "dateTimeFmt": metadatum.date_time_fmt,
        "isMandatory": metadatum.is_mandatory,
        "order": metadatum.order,
        "isFile": metadatum.is_file,
        "isSubmissionUnique": metadatum.is_submission_unique,
        "isSiteUnique": metadatum.is_site_unique,
        "serviceId": None if metadatum.service_id is None else services[metadatum.service_id],
    }


def show_refinement(view: RefinementView) -> dict[str, Any]:
    """RefinementResponse."""
    return {
        "metadatumId": to_identifier(view.metadatum),
        "kind": view.metadatum.kind,
        "unit": view.metadatum.unit or "",
        "minimum": view.metadatum.minimum,
        "maximum": view.metadatum.maximum,
        "isInteger": view.metadatum.is_integer,
        "missingTerms": view.metadatum.missing_terms,
        "termCount": view.term_count,
    }


def show_problems(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """ProblemList."""
    return [{"code": problem.code, "message": problem.message, "field": problem.field} for problem in problems]


def show_trial(trial: Trial, *, has_value: bool) -> dict[str, Any]:
    """FieldTrialResponse; without a value there is no verdict on one."""
    return {
        "definition": show_problems(trial.definition),
        "value": show_problems(trial.value) if has_value and trial.value is not None else None,
        "affectedStaged": trial.affected,
    }


def show_rule_trial(trial: RuleTrial) -> dict[str, Any]:
    """RuleTrialResponse."""
    return {name: show_problems(getattr(trial, name)) for name in ("rules", "values", "broken")}


def show_vocabulary(terms: Iterable[Term]) -> dict[str, Any]:
    """Vocabulary."""
    return {"terms": [{"term": term.term, "synonyms": list(term.synonyms)} for term in terms]}


def show_rules(book: Rulebook) -> dict[str, Any]:
    """RecordRules; fields are named, so that what is answered can be sent."""
    return {
        "rules": [
            {
                "message": rule.message,
                "when": [show_condition(condition, book.by_id) for condition in rule.when],
                "then": [show_condition(condition, book.by_id) for condition in rule.then],
            }
            for rule in book.rules
        ]
    }


def show_condition(condition: Condition, fields: Mapping[int, Field]) -> dict[str, Any]:
    """Condition."""
    return {
        "field": fields[condition.field_id].name,
        "operator": str(condition.operator),
        "values": list(condition.words),
        "otherField": None if condition.other_id is None else fields[condition.other_id].name,
    }


class MetaDataSetView:
    """How metadatasets look to one reader; ``fields`` are all there are. To make it takes longer than to use it.

    The record has every field of no service, and the fields of each service that has answered and
    whose values the reader may see.
    """

    def __init__(self, actor: Actor, fields: Sequence[Field]) -> None:
        visible = [field for field in fields if field.service_id is None or may_view_service(actor, field.service_id)]
        self._own = [(field.name, field.key) for field in visible if field.service_id is None]
        self._all = [(field.name, field.key, field.service_id) for field in visible]
        self._dates = [field for field in visible if field.date_time_fmt]
        self._files = [(field.name, field.id) for field in visible if field.is_file]
        self._answers = [(field.name, field.service_id) for field in visible if field.service_id is not None]

    def show(self, row: MetaDataSetRow | NewSet) -> dict[str, Any]:
        """MetaDataSetResponse."""
        get = row.record.get
        record = {name: get(key) for name, key in self._own}
        executions = {execution["service"]: execution for execution in row.executions or ()}
        if executions:
            stored = {None: row.record} | {service: each["record"] for service, each in executions.items()}
            record = {name: stored[service].get(key) for name, key, service in self._all if service in stored}
        for field in self._dates:
            if record.get(field.name) is not None:
                record[field.name] = records.show_value(field, record[field.name])
        files = {field_id: make_identifier(uuid, site_id) for field_id, uuid, site_id in row.files or ()}
        answers = {
            name: show_execution(executions[service]) if service in executions else None
            for name, service in self._answers
        }
        return {
            "record": record,
            "fileIds": {name: files.get(field_id) for name, field_id in self._files},
            "serviceExecutions": answers or None,
            "id": to_identifier(row),
            "submissionId": (
                None if row.submission_uuid is None else make_identifier(row.submission_uuid, row.submission_site_id)
            ),
            "userId": make_identifier(row.user_uuid, row.user_site_id),
        }


def show_metadataset(actor: Actor, row: MetaDataSetRow | NewSet, fields: Sequence[Field]) -> dict[str, Any]:
    """MetaDataSetResponse; ``fields`` are all there are."""
    return MetaDataSetView(actor, fields).show(row)


def show_execution(execution: Mapping[str, Any]) -> dict[str, Any]:
    """MetaDataSetServiceExecution."""
    return {
        "serviceExecutionId": make_identifier(execution["uuid"]),
        "executionTime": execution["executed_at"],
        "serviceId": make_identifier(execution["service_uuid"], execution["service_site_id"]),
        "userId": make_identifier(execution["user_uuid"], execution["user_site_id"]),
    }


def show_found(view: MetaDataSetView, row: MetaDataSetRow) -> dict[str, Any]:
    """FoundMetaDataSet; ``row`` is what ``search.read_page`` reads."""
    return {
        "metadataset": view.show(row),
        "submission": {
            "id": make_identifier(row.submission_uuid, row.submission_site_id),
            "label": row.label,
            "submittedAt": to_wire(row.submitted_at),
        },
        "group": _name_group(row),
        "user": _name_user(row),
    }


def show_past_event(row: Any) -> dict[str, Any]:
    """PastEvent; ``row`` is what ``history.list_history`` reads."""
    return {
        "at": to_wire(row.at),
        "event": row.event,
        "actor": None if row.user_uuid is None else _name_user(row),
        "before": row.before,
        "after": row.after,
    }


def show_overview(overview: Overview) -> dict[str, Any]:
    """Overview."""
    staged, submitted = overview.staged, overview.submissions
    usage = [{"bytes": used, "quota": quota} for used, quota in overview.usage]
    return {
        "staged": {
            "metadatasets": staged.metadatasets,
            "files": staged.files,
            "filesOpen": staged.files_open,
            "bytes": staged.bytes,
        },
        "submissions": {
            "count": submitted.submissions,
            "metadatasets": submitted.metadatasets,
            "files": submitted.files,
            "bytes": submitted.bytes,
        },
        "lastSubmissions": [
            {
                "id": to_identifier(row),
                "label": row.label,
                "submittedAt": to_wire(row.submitted_at),
                "group": _name_group(row),
                "user": _name_user(row),
                "metadatasets": row.metadatasets,
                "files": row.files,
                "bytes": row.bytes,
            }
            for row in overview.last_submissions
        ],
        "lastAnswers": [
            {
                "metadatasetId": to_identifier(row),
                "service": {
                    "id": make_identifier(row.service_uuid, row.service_site_id),
                    "name": row.service_name,
                },
                "at": to_wire(row.executed_at),
            }
            for row in overview.last_answers
        ],
        "usage": dict(zip(("user", "group"), usage, strict=True)),
        "site": None if overview.site is None else _show_site(overview.site),
    }


def show_file(file: File, user_id: dict[str, str]) -> dict[str, Any]:
    """FileResponse."""
    is_confirmed = file.state == FileState.CONFIRMED
    return {
        "id": to_identifier(file),
        "name": file.name,
        "contentUploaded": is_confirmed,
        "checksum": file.checksum,
        "filesize": file.size,
        "userId": user_id,
        "expires": None if is_confirmed else to_wire(file.upload_expires_at),
    }


def show_upload(actor: Actor, upload: Upload) -> dict[str, Any]:
    """FileUploadResponse."""
    return {
        "id": to_identifier(upload.file),
        "name": upload.file.name,
        "urlToUpload": upload.url,
        "requestHeaders": upload.headers,
        "userId": to_identifier(actor),
        "expires": to_wire(upload.expires_at),
    }


def show_upload_session(file: File) -> dict[str, Any]:
    """UploadSession."""
    return {
        "fileId": to_identifier(file),
        "state": SESSION_STATES[file.state],
        "size": file.announced_size,
        "partSize": file.part_size,
        "partCount": count_parts(file),
        "verifiedBytes": file.verified_bytes,
        "checksum": file.checksum,
        "expires": to_wire(file.upload_expires_at),
    }


def show_upload_part(part: Part) -> dict[str, Any]:
    """UploadPart."""
    return {"number": part.number, "size": part.size, "md5": part.md5}


def show_part_urls(uploads: Sequence[PartUpload], expires_at: datetime) -> dict[str, Any]:
    """PartUrls."""
    return {
        "expires": to_wire(expires_at),
        "parts": [
            {"number": upload.number, "url": upload.request.url, "requestHeaders": upload.request.headers}
            for upload in uploads
        ],
    }


def show_submitted_file(file: File) -> dict[str, Any]:
    """SubmittedFile."""
    return {
        "id": to_identifier(file),
        "name": file.name,
        "checksum": file.checksum,
        "filesize": file.size,
        "sha256": file.sha256,
    }


def show_download(download: Download) -> dict[str, Any]:
    """FileUrl."""
    return {
        "fileId": to_identifier(download.file),
        "fileUrl": download.url,
        "expires": to_wire(download.expires_at),
        "checksum": download.file.checksum,
    }


def show_service(view: ServiceView) -> dict[str, Any]:
    """ServiceResponse."""
    return {
        "id": to_identifier(view.service),
        "name": view.service.name,
        "userIds": [to_identifier(user) for user in view.users],
    }


def show_submission(submitted: Submitted) -> dict[str, Any]:
    """SubmissionResponse."""
    return {
        "id": to_identifier(submitted.submission),
        "label": submitted.submission.label,
        "metadatasetIds": _show_members(submitted.metadatasets),
        "fileIds": _show_members(submitted.files),
    }


def show_user_view(view: UserView) -> dict[str, Any]:
    """UserListItem."""
    user = view.user
    return {
        "id": to_identifier(user),
        "name": user.name,
        "groupAdmin": user.group_admin,
        "siteAdmin": user.site_admin,
        "siteRead": user.site_read,
        "email": user.email,
        "groupId": to_identifier(user.group),
        "enabled": user.enabled,
        "group": show_group(user.group),
        "secondFactor": user.totp_confirmed_at is not None,
        "lastSeenAt": None if view.last_seen_at is None else to_wire(view.last_seen_at),
    }


def show_site(view: SiteView) -> dict[str, Any]:
    """SiteResponse."""
    return {
        "name": view.name,
        "welcome": view.welcome,
        "notice": view.notice,
        "color": view.color,
        "logo": view.logo,
        "imprint": view.imprint,
        "contact": view.contact,
        "version": __version__,
        "uploadMode": "direct" if view.upload_is_direct else "gateway",
        "sheetMaxBytes": view.sheet_max_bytes,
        "passwordMinLength": view.password_min_length,
        "passwordMinLengthSecondFactor": view.password_min_length_second_factor,
        "isDemo": view.is_demo,
        "hasMail": view.has_mail,
        "hasRegistration": view.has_registration,
    }


def show_setting(view: SettingView, *, has_details: bool) -> dict[str, Any]:
    """AppSettingsResponse."""
    details = {"default": view.setting.default, "description": view.setting.doc} if has_details else {}
    return {
        "id": to_identifier(view.setting),
        "key": view.setting.key,
        "valueType": view.setting.value_type,
        "value": view.value,
        **details,
    }


def show_job(view: JobView) -> dict[str, Any]:
    """Job."""
    return {
        "id": view.id,
        "task": view.task,
        "status": view.status,
        "attempts": view.attempts,
        "queuedAt": to_wire(view.queued_at),
        "lastAt": None if view.last_at is None else to_wire(view.last_at),
        "detail": view.detail,
    }


def show_storage_check(backend: str, findings: Sequence[StoreFinding]) -> dict[str, Any]:
    """StorageCheck."""
    states = {True: "ok", None: "warning", False: "failed"}
    return {
        "backend": backend,
        "isReady": all(finding.ok is not False for finding in findings),
        "checks": [
            {"name": finding.name, "state": states[finding.ok], "message": finding.detail} for finding in findings
        ],
    }


def show_preview(preview: Preview) -> dict[str, Any]:
    """MailPreview."""
    return {"subject": preview.subject, "text": preview.text, "problems": show_problems(preview.problems)}


def show_registration(view: RegistrationView) -> dict[str, Any]:
    """RegistrationResponse."""
    registration = view.registration
    return {
        "id": to_identifier(registration),
        "name": registration.name,
        "email": registration.email,
        "groupId": None if view.group is None else to_identifier(view.group),
        "newGroupName": registration.new_group_name,
        "createdAt": to_wire(registration.created_at),
    }


def show_registration_settings(agreement: str | None, groups: Iterable[Group]) -> dict[str, Any]:
    """RegisterSettingsResponse."""
    return {"userAgreement": agreement, "groups": [show_group(group) for group in groups]}


def show_submission_summary(row: Any) -> dict[str, Any]:
    """SubmissionSummary; ``row`` is what ``submissions.list_page`` reads."""
    return {
        "id": to_identifier(row),
        "label": row.label,
        "groupId": make_identifier(row.group_uuid, row.group_site_id),
        "userId": make_identifier(row.user_uuid, row.user_site_id),
        "submittedAt": to_wire(row.submitted_at),
        "metadatasetCount": row.metadataset_count,
        "fileCount": row.file_count,
    }


def show_submission_detail(submitted: Submitted, group_id: dict[str, str], user_id: dict[str, str]) -> dict[str, Any]:
    """SubmissionDetail."""
    return {
        **show_submission(submitted),
        "groupId": group_id,
        "userId": user_id,
        "submittedAt": to_wire(submitted.submission.submitted_at),
    }


def show_event(actor: Actor, event: AuditEvent, seal: bytes | None) -> dict[str, Any]:
    """AuditEvent; from where and with which key somebody else acted is for site admins."""
    is_open = actor.site_admin or event.actor_uuid in (None, actor.uuid)
    return {
        "id": event.id,
        "at": to_wire(event.at),
        "event": event.event,
        "actorId": None if event.actor_uuid is None else make_identifier(event.actor_uuid, event.actor_site_id),
        "keyId": make_identifier(event.key_uuid) if is_open and event.key_uuid is not None else None,
        "requestId": event.request_id if is_open else None,
        "ip": event.ip if is_open else None,
        "entityType": event.entity_type,
        "entityId": None if event.entity_uuid is None else make_identifier(event.entity_uuid, event.entity_site_id),
        "before": event.before,
        "after": event.after,
        "hash": None if seal is None else seal.hex(),
    }


def show_sheet_report(report: Report) -> dict[str, Any]:
    """SheetReport."""
    read = [table for table in report.tables if table.state == "read"]
    template = None
    if report.template is not None:
        template = {"version": report.template, "isCurrent": report.is_template_current}
    return {
        "filename": report.filename,
        "format": report.format,
        "template": template,
        "sheets": [_show_table(table) for table in report.tables],
        "rows": sum(table.rows for table in read),
        "goodRows": sum(table.good_rows for table in read),
        "errors": report.findings.counts[Severity.ERROR],
        "warnings": report.findings.counts[Severity.WARNING],
        "notes": report.findings.counts[Severity.NOTE],
        "findings": [_show_finding(finding) for finding in report.findings],
        "findingsOmitted": report.findings.omitted,
        "files": [
            {"name": file.name, "sheet": file.sheet, "row": file.row, "cell": f"{to_letters(file.column)}{file.row}"}
            for file in report.files
        ],
    }


def show_sheet_row(row: ReadRow) -> dict[str, Any]:
    """ReadRow."""
    return {"sheet": row.sheet, "row": row.row, "values": row.values}


def show_staged_sheet(report: Report, rows: Iterable[StagedRow]) -> dict[str, Any]:
    """StagedSheet."""
    staged = [
        {
            "sheet": row.sheet,
            "row": row.row,
            "id": to_identifier(row.metadataset),
            "isNew": row.is_new,
            "submissionId": None if row.submission is None else to_identifier(row.submission),
        }
        for row in rows
    ]
    return {**show_sheet_report(report), "staged": staged}


def _show_members(members: Sequence[Any] | str) -> Any:
    return orjson.Fragment(members) if isinstance(members, str) else [to_identifier(row) for row in members]


def _show_table(table: TableReport) -> dict[str, Any]:
    columns = [
        {"column": to_letters(column["index"]), "header": column["header"], "field": column["field"]}
        for column in table.columns
    ]
    return {
        "name": table.name,
        "state": table.state,
        "headerRow": table.header_row,
        "rows": table.rows,
        "columns": columns,
    }


def _show_finding(finding: Finding) -> dict[str, Any]:
    return {
        "severity": str(finding.severity),
        "code": finding.code,
        "message": finding.message,
        "sheet": finding.sheet,
        "field": finding.field,
        "column": None if finding.column is None else to_letters(finding.column),
        "row": finding.rows[0] if finding.rows else None,
        "cell": finding.cell,
        "value": finding.value,
        "suggestion": finding.suggestion,
        "count": finding.count,
        "cells": finding.list_areas(),
    }


def _show_site(site: SiteOverview) -> dict[str, Any]:
    return {
        "months": [
            {
                "month": month.month,
                "submissions": month.submissions,
                "metadatasets": month.metadatasets,
                "files": month.files,
                "bytes": month.bytes,
            }
            for month in site.months
        ],
        "groups": [{**_name_group(row), "bytes": row.bytes, "submissions": row.submissions} for row in site.groups],
        "openRegistrations": site.counts.open_registrations,
        "failedJobs": site.counts.failed_jobs,
        "damagedFiles": site.counts.damaged_files,
        "users": site.counts.users,
        "groupCount": site.counts.group_count,
        "storageBytes": site.counts.storage_bytes,
    }


def _name_group(row: Any) -> dict[str, Any]:
    return {"id": make_identifier(row.group_uuid, row.group_site_id), "name": row.group_name}


def _name_user(row: Any) -> dict[str, Any]:
    return {"id": make_identifier(row.user_uuid, row.user_site_id), "name": row.user_name}
