"""What anybody may know of the site: what it calls itself, how it looks, and how bytes are sent here."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from datameta.logic.appsettings import get_settings
from datameta.logic.demo import has_demo
from datameta.settings import Settings


@dataclass(frozen=True)
class SiteView:
    """What a page needs before anybody has signed in; what is not set is None. ``logo`` is a data: address."""

    name: str
    welcome: str | None
    notice: str | None
    color: str | None
    logo: str | None
    imprint: str | None
    contact: str | None
    upload_is_direct: bool
    sheet_max_bytes: int
    password_min_length: int
    password_min_length_second_factor: int
    is_demo: bool
    has_mail: bool
    has_registration: bool


def describe_site(db: Session, settings: Settings) -> SiteView:
    """Return the site as it is set today."""
    shown = ("site_welcome", "site_notice", "site_color", "site_logo", "site_imprint", "support_email")
    lengths = ("password_min_length", "password_min_length_second_factor")
    values = get_settings(db, "site_name", "registration_open", *lengths, *shown)
    welcome, notice, color, logo, imprint, contact = (values[key] or None for key in shown)
    return SiteView(
        name=values["site_name"],
        welcome=welcome,
        notice=notice,
        color=color,
        logo=logo,
        imprint=imprint,
        contact=contact,
        upload_is_direct=settings.upload_is_direct,
        sheet_max_bytes=settings.sheet_max_bytes,
        password_min_length=values["password_min_length"],
        password_min_length_second_factor=values["password_min_length_second_factor"],
        is_demo=has_demo(db),
        has_mail=bool(settings.smtp_host),
        has_registration=bool(values["registration_open"]),
    )
