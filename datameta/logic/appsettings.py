"""What site admins set while the portal runs: the catalogue of settings, and their values.

A setting that nobody has changed has its default, and no row. Its UUID comes from its key, so that it
has one all the same. Every value is text in the form of its type, and within the setting's bounds.
"""

import base64
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.errors import ForbiddenError, NotFoundError, Problem, ValidationError
from datameta.identifiers import parse_uuid
from datameta.logic.addresses import is_address
from datameta.logic.audit import record_event
from datameta.models import AppSetting

NAMESPACE = UUID("6b0f0d5e-6a3c-4a53-9d1c-6e2c6f1d2a77")
MAX_MAIL_BODY = 10_000
MAX_LINE = 255
MAX_WELCOME = 10_000
MAX_NOTICE = 1000
MAX_LOGO_BYTES = 64 * 1024
COLOR = re.compile("#[0-9A-Fa-f]{6}")
LOGO = re.compile(r"data:image/(png|jpeg|webp);base64,([A-Za-z0-9+/]+={0,2})")
"""Pictures only that hold nothing but dots: an SVG can hold a program."""
BEGINNINGS = {"png": rb"\x89PNG\r\n\x1a\n", "jpeg": rb"\xff\xd8\xff", "webp": rb"RIFF.{4}WEBP"}
"""How the files of each kind begin."""
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
"""How a mail's text names what is filled in."""
PLACEHOLDERS = {
    "reset": ("name", "link", "site_name", "expires"),
    "welcome": ("name", "link", "site_name", "expires"),
    "totp_removed": ("name", "site_name"),
    "registration_received": ("site_name",),
    "registration_known": ("name", "link", "site_name"),
    "registration_accepted": ("name", "link", "site_name", "expires", "message"),
    "registration_refused": ("site_name", "message"),
    "files_damaged": ("name", "site_name", "count", "files"),
}
"""What each kind of mail may name."""


def parse_float(text: str) -> float:
    """Return the number that ``text`` writes; infinity is none."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "int": (int, "a whole number"),
    "string": (str, "a text"),
    "float": (parse_float, "a number"),
    "date": (date.fromisoformat, "a date such as 2030-01-31"),
    "time": (time.fromisoformat, "a time such as 17:30:00"),
}
"""How a value of each type is read, and what it must be."""


@dataclass(frozen=True)
class Setting:
    """One setting: ``check`` returns what is expected of a value that does not fit, or None."""

    key: str
    value_type: str
    default: str
    doc: str
    check: Callable[[Any], str | None]

    @property
    def uuid(self) -> UUID:
        """Return the setting's UUID, the same in every installation."""
        return uuid5(NAMESPACE, self.key)

    def parse(self, text: str) -> Any:
        """Return the value that ``text`` writes; raises ``ValueError`` with what is expected instead."""
        parse, form = PARSERS[self.value_type]
        try:
            value = parse(text)
        except ValueError:
            raise ValueError(form) from None
        if expected := self.check(value):
            raise ValueError(expected)
        return value


@dataclass(frozen=True)
class SettingView:
    """A setting and the text of its present value."""

    setting: Setting
    value: str


def _integer(key: str, default: int, low: int, high: int, doc: str) -> Setting:
    def check(value: int) -> str | None:
        return None if low <= value <= high else f"a whole number from {low} to {high}"

    return Setting(key, "int", str(default), doc, check)


def _text(key: str, default: str, doc: str, check: Callable[[str], str | None]) -> Setting:
    return Setting(key, "string", default, doc, check)


def _accept(value: str) -> str | None:
    return None


def _check_line(value: str) -> str | None:
    is_line = len(value) <= MAX_LINE and value.isprintable() and value == value.strip()
    return None if is_line else f"one line of at most {MAX_LINE} characters"


def _check_name(value: str) -> str | None:
    return _check_line(value) if value else "a name"


def _check_address(value: str) -> str | None:
    return None if is_address(value) else "an e-mail address"


def _check_optional_address(value: str) -> str | None:
    return _check_address(value) if value else None


def _longest(most: int) -> Callable[[str], str | None]:
    """Return the check of a text that may have several lines."""
    return lambda value: None if len(value) <= most else f"a text of at most {most:,} characters"


def _check_color(value: str) -> str | None:
    return None if not value or COLOR.fullmatch(value) else "a colour such as #0a7d5c"


def _check_logo(value: str) -> str | None:
    found = LOGO.fullmatch(value)
    if not value or (found and _is_picture(found[1], found[2])):
        return None
    return f"a PNG, JPEG or WebP picture of at most {MAX_LOGO_BYTES // 1024} KiB, as data:image/png;base64,…"


def _is_picture(kind: str, encoded: str) -> bool:
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    return len(content) <= MAX_LOGO_BYTES and bool(re.match(BEGINNINGS[kind], content, re.DOTALL))


def _check_link(value: str) -> str | None:
    return None if not value or _is_link(value) else "an address such as https://www.example.org/imprint"


def _is_link(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    return is_web and _check_line(value) is None and " " not in value


def _mail(kind: str, subject: str, body: str, doc: str) -> list[Setting]:
    """Return the two settings of one kind of mail."""
    known = PLACEHOLDERS[kind]

    def check_names(value: str) -> str | None:
        unknown = [name for name in PLACEHOLDER.findall(value) if name not in known]
        listed = ", ".join(f"{{{name}}}" for name in known)
        return f"a text that names no other placeholders than {listed}" if unknown else None

    def check_subject(value: str) -> str | None:
        return _check_name(value) or check_names(value)

    def check_body(value: str) -> str | None:
        if not value.strip() or len(value) > MAX_MAIL_BODY:
            return f"a text of at most {MAX_MAIL_BODY} characters"
        return check_names(value)

    listed = ", ".join(f"{{{name}}}" for name in known)
    return [
        _text(f"mail_{kind}_subject", subject, f"Subject of {doc}", check_subject),
        _text(f"mail_{kind}_body", body, f"Text of {doc} Filled in: {listed}.", check_body),
    ]


CATALOGUE: Mapping[str, Setting] = {
    setting.key: setting
    for setting in [
        _integer("password_min_length", 15, 8, 128, "Fewest characters of a password."),
        _integer(
            "password_min_length_second_factor",
            8,
            8,
            128,
            "Fewest characters of a password of a user who has a second factor.",
        ),
        _integer("password_history", 5, 0, 10, "How many former passwords may not come again."),
        _integer("second_factor_required", 0, 0, 1, "1: every user must set up a second factor."),
        _integer("session_idle_hours", 8, 1, 168, "Hours after which an unused session ends."),
        _integer("session_max_hours", 24, 1, 720, "Hours after which every session ends."),
        _integer("password_token_minutes", 30, 10, 1440, "Minutes a link to reset a password lives."),
        _integer("welcome_token_hours", 72, 1, 720, "Hours the link in a welcome mail lives."),
        _integer("api_key_max_live", 50, 1, 1000, "Most API keys a user may have at once."),
        _integer("quota_user_bytes", 0, 0, 10**18, "Most bytes a user's files may have in all; 0: no limit."),
        _integer("quota_group_bytes", 0, 0, 10**18, "Most bytes the files of a group's users may have; 0: no limit."),
        _integer("registration_open", 1, 0, 1, "1: strangers may ask for an account."),
        _integer("registration_days", 30, 1, 365, "Days after which a request for an account lapses."),
        _text("user_agreement", "", "What one accepts who asks for an account; empty: nothing.", _accept),
        _text("site_name", "DataMeta", "What the site calls itself.", _check_name),
        _text(
            "site_welcome",
            "",
            "What the first page says, in paragraphs; empty: only the site's name.",
            _longest(MAX_WELCOME),
        ),
        _text("site_notice", "", "What every page says on top, such as when the site is closed.", _longest(MAX_NOTICE)),
        _text("site_color", "", "The colour of the site's pages, such as #0a7d5c; empty: the portal's.", _check_color),
        _text("site_logo", "", "The site's logo: a PNG, JPEG or WebP picture, as a data: address.", _check_logo),
        _text("site_imprint", "", "The address of the site's imprint; empty: there is no link.", _check_link),
        _text("support_email", "", "Whom users may ask for help; empty: nobody is named.", _check_optional_address),
        _text("mail_sender", "datameta@localhost", "The sender of every mail.", _check_address),
        *_mail(
            "reset",
            "Set a new password for {site_name}",
            "Hello {name},\n\nsomebody, probably you, asked for a new password for {site_name}. "
            "Set it here before {expires}:\n\n{link}\n\n"
            "If that was not you, do nothing: your password stays as it is.\n",
            "the mail to somebody who has forgotten the password.",
        ),
        *_mail(
            "welcome",
            "Welcome to {site_name}",
            "Hello {name},\n\nyou have an account at {site_name}. Set your password here before {expires}:\n\n{link}\n",
            "the mail to a user whom an administrator has added.",
        ),
        *_mail(
            "totp_removed",
            "Your second factor at {site_name} was removed",
            "Hello {name},\n\nan administrator has removed the second factor of your account at {site_name}. "
            "If you have not asked for that, tell your administrator.\n",
            "the mail to a user whose second factor was removed.",
        ),
        *_mail(
            "registration_received",
            "Your request for an account at {site_name}",
            "Hello,\n\nyour request for an account at {site_name} has been received. "
            "You will hear of the answer by mail.\n\nIf you have not asked for one, do nothing.\n",
            "the mail to somebody who has asked for an account.",
        ),
        *_mail(
            "registration_known",
            "Your account at {site_name}",
            "Hello {name},\n\nsomebody, probably you, asked for an account at {site_name}. "
            "You have one already. If you have forgotten the password, you can set a new one:\n\n{link}\n",
            "the mail to somebody who has asked for an account and has one.",
        ),
        *_mail(
            "registration_accepted",
            "Your account at {site_name}",
            "Hello {name},\n\nyour request for an account at {site_name} has been accepted. "
            "Set your password here before {expires}:\n\n{link}\n\n{message}\n",
            "the mail to somebody whose request has been accepted.",
        ),
        *_mail(
            "registration_refused",
            "Your request for an account at {site_name}",
            "Hello,\n\nyour request for an account at {site_name} has been refused.\n\n{message}\n",
            "the mail to somebody whose request has been refused.",
        ),
        *_mail(
            "files_damaged",
            "ALARM: {count} damaged files at {site_name}",
            "Hello {name},\n\nthe content of {count} confirmed files of {site_name} is not in the store any more, "
            "can't be read, or is another than before:\n\n{files}\n\nNothing has been repaired. "
            "'datameta fsck' says what is wrong; restore the content from a backup of the store.\n",
            "the mail to site admins when confirmed files have been found damaged.",
        ),
    ]
}


def get_setting(db: Session | Connection, key: str) -> Any:
    """Return the value of one setting, as its type."""
    return get_settings(db, key)[key]


def get_settings(db: Session | Connection, *keys: str) -> dict[str, Any]:
    """Return the values of several settings by key, each as its type; one query."""
    rows = db.execute(select(AppSetting.key, AppSetting.value).where(AppSetting.key.in_(keys)))
    stored = {row.key: row.value for row in rows}
    return {key: read_value(key, stored.get(key)) for key in keys}


def read_value(key: str, text: str | None) -> Any:
    """Return the value of a setting of which ``text`` is stored, or None."""
    setting = CATALOGUE[key]
    return setting.parse(_valid_text(setting, text))


def list_settings(db: Session, actor: Actor) -> list[SettingView]:
    """Return all settings in the order of the catalogue.

    Raises ``ForbiddenError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    stored = {row.key: row.value for row in db.execute(select(AppSetting.key, AppSetting.value))}
    return [SettingView(setting, _valid_text(setting, stored.get(setting.key))) for setting in CATALOGUE.values()]


def change_setting(db: Session, actor: Actor, *, setting_id: str, value: str) -> None:
    """Give a setting another value.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ValidationError`` for a value that does not fit.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    setting = find_setting(setting_id)
    if problems := check_value(setting, value):
        raise ValidationError(problems)
    text = _to_text(setting.parse(value))
    db.execute(
        insert(AppSetting)
        .values(uuid=setting.uuid, key=setting.key, value=setting.default)
        .on_conflict_do_nothing(index_elements=["key"])
    )
    row = db.scalars(select(AppSetting).where(AppSetting.key == setting.key).with_for_update()).one()
    if row.value != text:
        before, row.value = row.value, text
        db.flush()
        record_event(
            db, "setting.changed", actor=actor, entity=row, before={setting.key: before}, after={setting.key: text}
        )


def find_setting(setting_id: str) -> Setting:
    """Return the setting with this UUID.

    Raises ``NotFoundError``.
    """
    uuid = parse_uuid(setting_id)
    setting = next((setting for setting in CATALOGUE.values() if setting.uuid == uuid), None)
    if setting is None:
        raise NotFoundError
    return setting


def check_value(setting: Setting, value: str) -> list[Problem]:
    """Return what is wrong with a value."""
    try:
        setting.parse(value)
    except ValueError as error:
        return [Problem(f"The value of {setting.key} must be {error}.", "invalid_setting", field="value")]
    return []


def list_mail_keys(key: str) -> tuple[str, str] | None:
    """Return the settings with the subject and the text of the mail that a setting is a part of; None: of none."""
    pairs = ((f"mail_{kind}_subject", f"mail_{kind}_body") for kind in PLACEHOLDERS)
    return next((pair for pair in pairs if key in pair), None)


def _valid_text(setting: Setting, text: str | None) -> str:
    """Return what is stored, or the default where nothing is, or what this version's bounds do not allow."""
    if text is None:
        return setting.default
    try:
        setting.parse(text)
    except ValueError:
        return setting.default
    return text


def _to_text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | time) else str(value)
