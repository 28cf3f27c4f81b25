"""Mails leave the portal here: to the mail server, or, where none is set, as files for whoever runs the site.

The way to the server is as secret as the settings say: a certificate that does not hold is a failure.
"""

import logging
import os
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path

from datameta.settings import Settings

log = logging.getLogger(__name__)

REJECTED = 500
"""From this code on a mail server's refusal is for good."""


def deliver(settings: Settings, message: EmailMessage, mail_id: str) -> None:
    """Hand a mail over; the same ``mail_id`` written twice as a file is one file.

    Raises ``OSError`` and its kin of ``smtplib`` when it is not taken.
    """
    if settings.smtp_host:
        with open_server(settings) as server:
            server.send_message(message)
    else:
        path = _write(settings.home / "mail", message, mail_id)
        log.warning("no mail server is set (datameta.smtp_host): a mail was written to %s", path)


def is_final(error: BaseException) -> bool:
    """Say whether trying again is of no use: the server knows the mail or its reader, and wants neither."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= REJECTED for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= REJECTED


@contextmanager
def open_server(settings: Settings) -> Iterator[smtplib.SMTP]:
    """Sign in at the mail server; leaving the block says good-bye. Raises as ``deliver``."""
    host, port, timeout = settings.smtp_host, settings.smtp_port, settings.smtp_timeout
    context = ssl.create_default_context()
    if settings.smtp_tls == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=timeout, context=context)
    else:
        server = smtplib.SMTP(host, port, timeout=timeout)
    with server:
        if settings.smtp_tls == "starttls":
            server.starttls(context=context)
        if settings.smtp_user:
            server.login(settings.smtp_user, settings.smtp_password)
        yield server


def _write(folder: Path, message: EmailMessage, mail_id: str) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, draft = folder / f"{mail_id}.eml", folder / f".{mail_id}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(message.as_bytes(policy=SMTPUTF8))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return path
