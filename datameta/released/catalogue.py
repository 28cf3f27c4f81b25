"""Services, the definitions of fields, and the site's settings."""

from typing import Any

from sqlalchemy import Row, insert, select

from datameta.logic.appsettings import CATALOGUE
from datameta.logic.definitions import check_date_format
from datameta.logic.records import compile_pattern
from datameta.models import AppSetting, MetaDatum, Service, ServiceUser
from datameta.released import report
from datameta.released.target import LONGEST_NAME, Target, free_name, name_rows, shorten

LONGEST_TEXT, LONGEST_PATTERN, LONGEST_FORMAT = 10_000, 1000, 100
LONGEST_SHOWN = 200
SETTINGS = {
    "user_agreement": "user_agreement",
    "renderer_page_title": "site_name",
    "subject_forgot_token": "mail_reset_subject",
    "template_forgot_token": "mail_reset_body",
    "subject_welcome_token": "mail_registration_accepted_subject",
    "template_welcome_token": "mail_registration_accepted_body",
    "subject_reject": "mail_registration_refused_subject",
    "template_reject": "mail_registration_refused_body",
}
"""What a setting is called there, and here."""
PLACEHOLDERS = {"{fullname}": "{name}", "{token_url}": "{link}"}


def move_services(target: Target) -> None:
    """Bring the services over with their users."""
    rows = target.old.list_rows("services")
    known = target.find_known(Service, rows)
    new = name_rows(target, Service, [(row, row.name or row.site_id) for row in rows if row.uuid not in known])
    added = target.add_rows(Service, new)
    known |= added
    target.ids.services = {row.id: known[row.uuid] for row in rows}
    target.report.count("services", found=len(rows), new=len(new))
    members = {
        (target.ids.services[row.service_id], target.ids.users[row.user_id])
        for row in target.old.list_rows("service_user", "service_id IS NOT NULL AND user_id IS NOT NULL")
    }
    pairs = [pair for pair in sorted(members) if pair[0] in added.values()]
    if pairs:
        target.db.execute(insert(ServiceUser), [{"service_id": pair[0], "user_id": pair[1]} for pair in pairs])


def move_fields(target: Target) -> None:
    """Bring the definitions over; an expression or a date format that does not work here is left out."""
    rows = target.old.list_rows("metadata")
    known = target.find_known(MetaDatum, rows)
    taken = set(target.db.scalars(select(MetaDatum.name)))
    new = [_make_field(target, row, taken) for row in rows if row.uuid not in known]
    known |= target.add_rows(MetaDatum, new)
    target.ids.fields = {row.id: known[row.uuid] for row in rows}
    target.report.count("fields", found=len(rows), new=len(new))


def _make_field(target: Target, row: Row[Any], taken: set[str]) -> dict[str, Any]:
    subject = f"field {row.name}"

    def fit(text: str | None, longest: int, what: str) -> str | None:
        return shorten(text, longest, target.report, subject, what) if text else None

    name = shorten(row.name if row.name.strip() else "unnamed", LONGEST_NAME, target.report, subject, "name")
    if name in taken:
        name = next(free for number in range(2, 10**6) if (free := free_name(name, taken, str(number))) not in taken)
        target.report.remark(subject, f"another field here has this name; it is called {name}")
    taken.add(name)
    return {
        "uuid": row.uuid,
        "name": name,
        "regex_description": fit(row.short_description, LONGEST_TEXT, "description"),
        "long_description": fit(row.long_description, LONGEST_TEXT, "long description"),
        "example": fit(row.example, LONGEST_TEXT, "example"),
        "reg_exp": _check_pattern(target, subject, row.regexp),
        "date_time_fmt": _check_format(target, subject, row.datetimefmt),
        "is_mandatory": row.mandatory,
        "order": row.order,
        "is_file": row.isfile,
        "is_submission_unique": row.submission_unique,
        "is_site_unique": row.site_unique,
        "service_id": None if row.service_id is None else target.ids.services[row.service_id],
    }


def _check_pattern(target: Target, subject: str, pattern: str | None) -> str | None:
    """Return an expression if it works here; say what is other."""
    if not pattern:
        return None
    reason = f"it has {len(pattern):,} characters, and {LONGEST_PATTERN:,} are the most"
    try:
        if len(pattern) <= LONGEST_PATTERN:
            compile_pattern(pattern)
            reason = ""
    except ValueError as error:
        reason = str(error)
    if reason:
        shown = report.shorten(pattern, LONGEST_SHOWN)
        message = f"the expression {shown} does not work here ({reason}); the field has none until it is written anew"
        target.report.remark(subject, message)
        return None
    if not (pattern.startswith("^") and pattern.endswith("$")):
        shown = report.shorten(pattern, LONGEST_SHOWN)
        message = f"the expression {shown} had to match the beginning of a value, and has to match all of it here"
        target.report.remark(subject, message)
    return pattern


def _check_format(target: Target, subject: str, date_format: str | None) -> str | None:
    if not date_format:
        return None
    if len(date_format) <= LONGEST_FORMAT and check_date_format(date_format):
        return date_format
    message = f"the date format {date_format} does not read what it writes; the field holds text until it has another"
    target.report.remark(subject, message)
    return None


def move_settings(target: Target) -> None:
    """Bring those settings over that mean something here, and that nobody has changed here."""
    rows = target.old.list_rows("appsettings")
    changed = set(target.db.scalars(select(AppSetting.key)))
    new, left = [], []
    for row in rows:
        if row.key not in SETTINGS:
            left.append(row.key)
            continue
        setting = CATALOGUE[SETTINGS[row.key]]
        value = (row.str_value or "").strip()
        for there, here in PLACEHOLDERS.items():
            value = value.replace(there, here)
        if setting.key in changed or not value:
            continue
        try:
            setting.parse(value)
        except ValueError as error:
            target.report.remark(f"setting {row.key}", f"is left out: here it must be {error}")
            continue
        new.append({"uuid": setting.uuid, "key": setting.key, "value": value})
    target.add_rows(AppSetting, new)
    target.report.count("settings", found=len(rows), new=len(new))
    if left:
        target.report.remark(
            "settings", f"this portal has none like these, which are left out: {', '.join(sorted(left))}"
        )
