"""Mails: stored as jobs in the transaction that is their reason, written and sent by a worker.

What a mail says and to whom is kept from the job's table and from logs: it may hold a link that lets
its reader in, so it is encrypted with the site's key. A mail to an address that nobody has proved to
be the asker's holds nothing that the asker wrote.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from uuid import uuid4

from sqlalchemy.orm import Session

from datameta.clock import utc_now
from datameta.logic.addresses import is_address
from datameta.logic.appsettings import PLACEHOLDER, get_settings
from datameta.queue import store_job
from datameta.vault import Vault

TASK = "send_mail"


class MailError(Exception):
    """A mail can never be written."""


@dataclass(frozen=True)
class Order:
    """What is to be sent: a template, to whom, and what is filled in.

    The id stays the same however often the mail is tried, so that it can be known again.
    """

    template: str
    to: str
    values: Mapping[str, str]
    id: str = field(default_factory=lambda: uuid4().hex)


def store_mail(db: Session, vault: Vault, *, template: str, to: str, values: Mapping[str, str]) -> None:
    """Store the job that sends a mail, in this session's transaction.

    ``template`` is one of ``appsettings.PLACEHOLDERS``, which says what may be filled in;
    ``site_name`` comes by itself.
    """
    order = Order(template, to, dict(values))
    sealed = vault.encrypt(json.dumps(asdict(order)).encode())
    store_job(db, TASK, sealed=sealed.decode("ascii"))


def open_order(vault: Vault, sealed: str) -> Order:
    """Return what is to be sent; raises ``MailError`` if none of the site's keys opens it."""
    opened = vault.decrypt(sealed.encode("ascii"))
    if opened is None:
        raise MailError("none of the site's keys opens what is to be sent")
    return Order(**json.loads(opened))


def write_mail(db: Session, order: Order) -> EmailMessage:
    """Return the mail, in the words that the settings have today; raises ``MailError`` if it is for no address."""
    if not is_address(order.to):
        raise MailError("what it is to be sent to is no address")
    kind = f"mail_{order.template}"
    texts = get_settings(db, f"{kind}_subject", f"{kind}_body", "mail_sender", "site_name")
    values = {**order.values, "site_name": texts["site_name"]}
    subject, body = fill_mail(texts[f"{kind}_subject"], texts[f"{kind}_body"], values)
    sender, recipient = _to_address(texts["mail_sender"]), _to_address(order.to)
    message = EmailMessage()
    message["From"] = Address(texts["site_name"], sender.username, sender.domain)
    message["To"] = recipient
    message["Subject"] = subject
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = f"<{order.id}@{sender.domain.encode('idna').decode('ascii')}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body)
    return message


def fill_mail(subject: str, body: str, values: Mapping[str, str]) -> tuple[str, str]:
    """Return the subject and the text of a mail, with what they name in braces filled in."""
    # A header is one line, whatever a name holds.
    return " ".join(_fill(subject, values).split()), _fill(body, values).strip() + "\n"


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Fill in what ``text`` names in braces; what is filled in is not looked through again."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], ""), text)


def _to_address(address: str) -> Address:
    username, _, domain = address.partition("@")
    return Address(username=username, domain=domain)
