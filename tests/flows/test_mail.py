"""Mails: they go out if and only if their reason was committed, and none is lost on the way."""

import asyncio
import datetime as dt
import email
import email.policy
import ipaddress
import logging
import os
import signal
import smtplib
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import procrastinate
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from datameta.jobs import delivery
from datameta.jobs.tasks import MAIL_ATTEMPTS, MailRetry, Site
from datameta.jobs.worker import do_due_jobs, run_worker
from datameta.logic.mail import MailError, store_mail
from datameta.settings import Settings
from datameta.vault import open_vault
from tests.conftest import Crash, Portal, set_setting


class Mailbox:
    """What a mail server does with mails: it keeps them, or answers as it was told to."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.data_answer = self.rcpt_answer = "250 OK"
        self.logins: list[str] = []

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.rcpt_answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.data_answer.startswith("2"):
            assert isinstance(envelope.content, bytes)
            self.envelopes.append(envelope)
            self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return self.data_answer

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.logins.append(f"{data.login.decode()}:{data.password.decode()}")
        return AuthResult(success=data.password == b"secret")


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(mailbox: Mailbox, port: int, **options: Any) -> Iterator[Controller]:
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


@pytest.fixture
def server(mailbox: Mailbox) -> Iterator[Controller]:
    with serving(mailbox, free_port()) as controller:
        yield controller


def site_of(portal: Portal, **settings: Any) -> Site:
    changed = replace(portal.settings, **settings)
    return Site(changed, portal.database, portal.storage, open_vault(changed))


def with_server(portal: Portal, server: Controller, **settings: Any) -> Site:
    return site_of(portal, **{"smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_tls": "none", **settings})


def order(portal: Portal, template: str = "registration_received", to: str = "new@example.org", **values: str) -> None:
    with portal.database.sessions.begin() as db:
        store_mail(db, open_vault(portal.settings), template=template, to=to, values=values)


def list_jobs(portal: Portal) -> list[tuple[str, int]]:
    """Return the status and the attempts of each job that there is."""
    with portal.database.sessions() as db:
        rows = db.execute(text("SELECT status::text, attempts FROM procrastinate_jobs ORDER BY id"))
        return [(row.status, row.attempts) for row in rows]


def make_due(portal: Portal) -> None:
    """Let the time pass until every job is due."""
    with portal.database.sessions.begin() as db:
        db.execute(text("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE status = 'todo'"))


def read_files(portal: Portal) -> list[EmailMessage]:
    folder = portal.settings.home / "mail"
    paths = sorted(folder.iterdir()) if folder.exists() else []
    return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths]


def test_a_mail_goes_out_as_the_settings_say(portal: Portal, server: Controller, mailbox: Mailbox) -> None:
    set_setting(portal, "site_name", "Genomë Depot")
    set_setting(portal, "mail_sender", "portal@depot.example")
    set_setting(portal, "mail_reset_subject", "{site_name}: for {name}")
    set_setting(portal, "mail_reset_body", "{name}: {link} {expires}")
    order(portal, "reset", "änne@example.org", name="Änne {link}", link="http://x/#secret", expires="soon")
    order(portal, to="lab@example.org")
    do_due_jobs(with_server(portal, server))
    by_address = {envelope.rcpt_tos[0]: mail for envelope, mail in zip(mailbox.envelopes, mailbox.mails, strict=True)}
    mail = by_address["änne@example.org"]
    assert mail["Subject"] == "Genomë Depot: for Änne {link}"
    # What is filled in is not filled in again.
    assert mail.get_content().strip() == "Änne {link}: http://x/#secret soon"
    # With an address beyond ASCII all headers are UTF-8, which the parser of this test does not read.
    [sender] = by_address["lab@example.org"]["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Genomë Depot", "portal@depot.example")
    assert mail["Message-ID"].endswith("@depot.example>")
    assert mail["Date"].datetime.tzinfo is not None
    assert mail["Auto-Submitted"] == "auto-generated"
    assert by_address["lab@example.org"].get_content().startswith("Hello,\r\n\r\nyour request")
    # What was sent leaves nothing behind.
    assert list_jobs(portal) == []


def test_a_name_cannot_write_a_header(portal: Portal, server: Controller, mailbox: Mailbox) -> None:
    set_setting(portal, "mail_welcome_subject", "Hello {name}")
    name = "A\r\nBcc: victim@example.org\r\n\r\nBuy!\u2028\x0bX-Evil: 1"
    order(portal, "welcome", name=name, link="http://x/", expires="soon")
    do_due_jobs(with_server(portal, server))
    [mail] = mailbox.mails
    assert not {"Bcc", "X-Evil"} & set(mail)
    assert mail["Subject"] == "Hello A Bcc: victim@example.org Buy! X-Evil: 1"
    [envelope] = mailbox.envelopes
    assert envelope.rcpt_tos == ["new@example.org"]


@pytest.mark.parametrize(
    "address", ["a@b\r\nBcc: c@d", "a@b, c@d", "a@b\nx", '"a\r\nb"@c', "A <a@b>", "a b@c", "", "@b"]
)
def test_what_is_not_one_address_gets_no_mail(portal: Portal, address: str) -> None:
    order(portal, to=address)
    do_due_jobs(site_of(portal))
    assert read_files(portal) == []
    assert [status for status, _ in list_jobs(portal)] == ["failed"]


def test_a_rolled_back_transaction_sends_no_mail(portal: Portal) -> None:
    with portal.database.sessions() as db:
        store_mail(db, open_vault(portal.settings), template="reset", to="a@example.org", values={})
        assert db.scalar(text("SELECT count(*) FROM procrastinate_jobs")) == 1
        db.rollback()
    do_due_jobs(site_of(portal))
    assert (list_jobs(portal), read_files(portal)) == ([], [])


def test_a_refused_request_sends_no_mail(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = portal.add_user(site_admin=True)
    wish = {"name": "New", "email": "new@example.org", "groupId": admin.group}
    monkeypatch.setattr("datameta.api.serialize.show_user", lambda actor, user: {"not": "specified"})
    assert admin.post("/users", wish).status_int == 500
    assert list_jobs(portal) == []
    assert [user["email"] for user in admin.get("/users").json] == [admin.email]


def test_nothing_of_a_mail_can_be_read_in_the_queue(portal: Portal) -> None:
    order(portal, "reset", "reader@example.org", name="Rita", link="http://x/#secret", expires="soon")
    with portal.database.sessions() as db:
        [row] = db.execute(text("SELECT * FROM procrastinate_jobs")).all()
    assert not any(word in str(row) for word in ("reader", "Rita", "secret", "reset"))


def test_without_a_mail_server_mails_are_files_that_only_the_owner_reads(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    order(portal, "reset", "ä@example.org", name="Ärin", link="http://portal.test/setpass#x", expires="soon")
    with caplog.at_level(logging.WARNING):
        do_due_jobs(site_of(portal))
    [path] = (portal.settings.home / "mail").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    [mail] = read_files(portal)
    assert "To: ä@example.org" in path.read_text("utf-8")
    assert "http://portal.test/setpass#x" in mail.get_content()
    [said] = [record.getMessage() for record in caplog.records if record.name == delivery.__name__]
    assert "no mail server is set" in said
    assert str(path) in said
    assert "setpass" not in caplog.text


def test_a_mail_waits_until_the_server_is_back(
    portal: Portal, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    site = site_of(portal, smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none")
    for number in range(3):
        order(portal, to=f"user{number}@example.org")
    do_due_jobs(site)
    assert list_jobs(portal) == [("todo", 1)] * 3
    assert "was not sent at attempt 1: ConnectionRefusedError" in caplog.text
    # Not yet due.
    do_due_jobs(site)
    assert list_jobs(portal) == [("todo", 1)] * 3
    make_due(portal)
    with serving(mailbox, port):
        mailbox.data_answer = "451 later"
        do_due_jobs(site)
        assert list_jobs(portal) == [("todo", 2)] * 3
        make_due(portal)
        mailbox.data_answer = "250 OK"
        do_due_jobs(site)
    assert sorted(mail["To"] for mail in mailbox.mails) == [f"user{number}@example.org" for number in range(3)]
    assert list_jobs(portal) == []


def test_a_mail_that_the_server_refuses_for_good_is_not_tried_again(
    portal: Portal, server: Controller, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox.rcpt_answer = "550 no such user"
    order(portal)
    do_due_jobs(with_server(portal, server))
    assert list_jobs(portal) == [("failed", 1)]
    with portal.database.sessions() as db:
        job_id = db.scalar(text("SELECT id FROM procrastinate_jobs"))
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"send_mail[{job_id}]" in record.getMessage()
    mailbox.rcpt_answer, mailbox.data_answer = "250 OK", "554 spam"
    order(portal)
    do_due_jobs(with_server(portal, server))
    assert [status for status, _ in list_jobs(portal)] == ["failed", "failed"]


def test_waits_double_and_end_after_a_day() -> None:
    waits = []
    for attempts in range(MAIL_ATTEMPTS):
        job = procrastinate.jobs.Job(
            id=1, queue="default", lock=None, queueing_lock=None, task_name="send_mail", attempts=attempts
        )
        before = dt.datetime.now(dt.UTC)
        decision = MailRetry().get_retry_decision(exception=OSError(), job=job)
        if decision is None:
            assert attempts == MAIL_ATTEMPTS - 1
        else:
            assert decision.retry_at is not None
            waits.append(round((decision.retry_at - before).total_seconds()))
    assert waits[:4] == [30, 60, 120, 240]
    assert 23 * 3600 < sum(waits) < 27 * 3600
    assert MailRetry().get_retry_decision(exception=MailError(), job=job) is None


def test_a_mail_sealed_with_a_lost_key_fails_at_once(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    order(portal)
    do_due_jobs(site_of(portal, secret_key="another key that nobody has written down"))
    assert list_jobs(portal) == [("failed", 1)]
    assert "none of the site's keys" in caplog.text


def test_a_worker_killed_on_the_way_leaves_the_mail_to_another(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mail is sent again, since nobody knows; under the same id, so that as a file it is one."""
    order(portal)
    child = os.fork()
    if not child:
        try:
            real = delivery._write

            def write_and_die(*arguments: Any) -> Path:
                real(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
                return Path()

            monkeypatch.setattr(delivery, "_write", write_and_die)
            own = Portal(type(portal.database)(portal.database.url), portal.settings, portal.storage)
            do_due_jobs(site_of(own))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list_jobs(portal) == [("doing", 0)]
    [former] = read_files(portal)
    with portal.database.sessions.begin() as db:
        db.execute(text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'"))
        db.execute(text("INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('default', 'tend_jobs', "
                        "'{\"timestamp\": 0}')"))  # fmt: skip
    do_due_jobs(site_of(portal))
    do_due_jobs(site_of(portal))
    [again] = read_files(portal)
    assert again["Message-ID"] == former["Message-ID"]
    assert list_jobs(portal) == []


def test_a_crash_while_sending_is_tried_again(
    portal: Portal, server: Controller, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    order(portal)

    def crash(*arguments: Any) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(smtplib.SMTP, "send_message", crash)
        do_due_jobs(with_server(portal, server))
    assert list_jobs(portal) == [("todo", 1)]
    make_due(portal)
    do_due_jobs(with_server(portal, server))
    assert len(mailbox.mails) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody else knows, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    return made


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_mail_goes_only_to_a_server_whose_certificate_holds(
    portal: Portal,
    mailbox: Mailbox,
    certificate: Path,
    context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tls: str,
) -> None:
    options: dict[str, Any] = {"tls_context": context} if tls == "starttls" else {"ssl_context": context}
    options |= {"authenticator": mailbox.authenticate, "auth_require_tls": tls == "starttls"}
    # The controller itself looks whether it answers.
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(mailbox, free_port(), **options) as controller:
        site = with_server(portal, controller, smtp_tls=tls, smtp_user="portal", smtp_password="secret")
        order(portal)
        do_due_jobs(site)
        assert len(mailbox.mails) == 1
        assert mailbox.logins == ["portal:secret"]
        monkeypatch.delenv("SSL_CERT_FILE")
        order(portal)
        do_due_jobs(site)
    assert "SSLCertVerificationError" in caplog.text
    assert len(mailbox.mails) == len(mailbox.logins) == 1
    assert list_jobs(portal) == [("todo", 1)]


def test_a_server_without_tls_gets_nothing_where_tls_is_wanted(
    portal: Portal, server: Controller, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    order(portal)
    do_due_jobs(with_server(portal, server, smtp_tls="starttls"))
    assert mailbox.mails == []
    assert "SMTPNotSupportedError" in caplog.text


def test_a_worker_that_runs_sends_what_comes_and_stops_when_told(
    portal: Portal, server: Controller, mailbox: Mailbox
) -> None:
    stops: list[Any] = []

    async def wait_for_the_mail() -> None:
        deadline = time.monotonic() + 30
        while not mailbox.mails and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        stops[0]()

    def announce(stop: Any) -> None:
        stops.append(stop)
        order(portal)
        tasks.append(asyncio.get_running_loop().create_task(wait_for_the_mail()))

    tasks: list[asyncio.Task[None]] = []
    run_worker(with_server(portal, server), announce)
    assert len(mailbox.mails) == 1
    # Once more, when there is nothing left to stop.
    stops[0]()


def test_the_command_does_due_jobs_and_ends(portal: Portal) -> None:
    order(portal)
    settings: Settings = portal.settings
    environ = {**os.environ, "DATAMETA_DATABASE_URL": portal.database.url, "DATAMETA_HOME": str(settings.home)}
    run = [Path(sys.executable).with_name("datameta"), "worker", "--once"]
    done = subprocess.run(run, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read_files(portal)) == 1
