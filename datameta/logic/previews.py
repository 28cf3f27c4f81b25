"""A mail as it would be sent, before its text is saved; what is filled in is made up."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.clock import utc_now
from datameta.errors import ForbiddenError, NotFoundError, Problem
from datameta.logic.appsettings import check_value, find_setting, get_settings, list_mail_keys
from datameta.logic.links import fill_link
from datameta.logic.mail import fill_mail
from datameta.settings import Settings

LIFETIME = timedelta(hours=72)
SAMPLES = {
    "message": "Write to us if you have a question.",
    "count": "2",
    "files": "DMF-00000001, DMF-00000002",
}
"""What mails name beside a person, a link and the site."""


@dataclass(frozen=True)
class Preview:
    """A mail, and what keeps the value that it was made with from being saved."""

    subject: str
    text: str
    problems: list[Problem]


def preview_mail(db: Session, actor: Actor, *, settings: Settings, setting_id: str, value: str) -> Preview:
    """Return the mail that a setting with this value would make; its other part is as it is set today.

    Raises ``ForbiddenError``, ``NotFoundError`` for a setting that is no part of a mail.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    setting = find_setting(setting_id)
    keys = list_mail_keys(setting.key)
    if keys is None:
        raise NotFoundError("The setting is no part of a mail.")
    texts = get_settings(db, "site_name", *keys) | {setting.key: value}
    samples = SAMPLES | fill_link(settings, "Ada Example", "EXAMPLE", utc_now() + LIFETIME)
    samples["site_name"] = texts["site_name"]
    subject, text = fill_mail(texts[keys[0]], texts[keys[1]], samples)
    return Preview(subject, text, check_value(setting, value))
