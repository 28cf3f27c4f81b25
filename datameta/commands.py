"""The commands of those who run a portal.

Each command works on the installation that ``--home``, ``--config`` and ``DATAMETA_*`` name, and may
be used while the portal runs.
"""

import configparser
import dataclasses
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import update_wrapper
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
from sqlalchemy.exc import OperationalError

from datameta import __version__, embedded, logs, metrics, migrations, server
from datameta.api import PREFIX
from datameta.app import StorageCheckError, make_app, open_database, open_replica, open_tested_storage
from datameta.checkup import check_site, show_settings
from datameta.clock import utc_now
from datameta.credentials import make_password
from datameta.database import SWEEP_LOCK, Database
from datameta.errors import DataMetaError
from datameta.jobs.tasks import Site
from datameta.jobs.worker import WorkerError, do_due_jobs, run_worker
from datameta.logic import demo, groups, keys, users
from datameta.logic.audit import find_broken_seal, seal_events
from datameta.logic.file_rows import store_errors
from datameta.logic.fsck import Finding, Proof, measure_content, prove_content, prove_site
from datameta.logic.ownership import ADVICE, adopt_store, find_obstacle
from datameta.logic.parts import MAX_SIZE, choose_part_size
from datameta.logic.sweep import check_store
from datameta.logic.sweep import sweep as run_sweep
from datameta.production import require_strength
from datameta.settings import Settings, SettingsError, list_given, read_settings
from datameta.storage import Finding as StorageFinding
from datameta.storage import Storage, open_storage
from datameta.supervisor import tell_ready
from datameta.vault import open_vault

THREADS = 8
WORKER_POOL = 4
FIXED = (
    "home",
    "database_url",
    "body_max_bytes",
    "upload_max_bytes",
    "sheet_max_bytes",
    "storage",
    "s3_endpoint",
    "s3_bucket",
    "storage_check",
)
"""The settings that a reload leaves as they were: what was opened and tried at the start, and the server's limits."""


REFUSALS = (
    SettingsError,
    DataMetaError,
    embedded.EmbeddedPostgresError,
    migrations.SchemaError,
    server.ServerError,
    WorkerError,
    StorageCheckError,
)


def installation(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--home`` and ``--config`` and hand it the settings; refusals end it with a sentence."""

    def run(home: Path | None, config: Path | None, **options: Any) -> Any:
        try:
            settings = _read_settings(home, config)
            logs.configure(settings.log_level)
            return command(settings, **options)
        except REFUSALS as error:
            raise click.ClickException(str(error)) from None
        except OperationalError as error:
            raise click.ClickException(f"The database does not answer: {_join_lines(error.orig)}") from None

    return update_wrapper(place(run), command)


def place(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options ``--home`` and ``--config``."""
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    folder = click.Path(path_type=Path, file_okay=False)
    command = click.option("--config", type=file, help="Settings file (ini).")(command)
    return click.option("--home", type=folder, help="Data folder; default ./var.")(command)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--workers", default=os.cpu_count() or 1, type=click.IntRange(1, 64), help="Processes; default one a core."
)
@click.option("--no-worker", is_flag=True, help="Do no jobs here: 'datameta worker' runs by itself.")
@click.option("--demo", "with_demo", is_flag=True, help="Add a small site to try, once.")
@installation
def serve(settings: Settings, host: str, port: int, workers: int, no_worker: bool, with_demo: bool) -> None:
    """Serve the portal until told to stop, and do its jobs (mails, cleaning up) in one process more."""
    logs.configure(settings.log_level, settings.log_format)
    require_strength(settings, host)
    port = port or _find_free_port(host)
    files_named = click.get_current_context().params

    def settle(settings: Settings) -> Settings:
        if settings.base_url == Settings.base_url:
            return dataclasses.replace(settings, base_url=f"http://{host}:{port}")
        return settings

    def read_again() -> Settings:
        """Return the settings as they are now, but for what the whole server goes by."""
        read = settle(_read_settings(files_named["home"], files_named["config"]))
        logs.configure(read.log_level, read.log_format)
        require_strength(read, host)
        return dataclasses.replace(read, **{name: getattr(settings, name) for name in FIXED})

    settings = settle(settings)
    with _open_url(settings) as url, metrics.shared(settings.home / "spool"):
        if settings.database_url:
            migrations.require_current(url)
        else:
            migrations.upgrade(url)
        lines = _prepare_demo(settings, url) if with_demo else ""
        # Every process opens the store anew, and believes what was found out here.
        proves_md5 = open_tested_storage(settings, url).proves_md5

        def open_worker() -> Any:
            settings = read_again()
            database = open_database(settings, url)
            store = open_storage(settings, proves_md5=proves_md5)
            return make_app(settings, database, store, open_replica(settings, database))

        def do_jobs(announce_ready: Callable[[server.Stop], None]) -> None:
            settings = read_again()
            database = open_database(settings, url, pool_size=WORKER_POOL + settings.verification_jobs)
            run_worker(_open_site(settings, database, open_storage(settings, proves_md5=proves_md5)), announce_ready)

        def announce(address: str) -> None:
            click.echo(f"DataMeta {__version__} serves {settings.base_url} (listening on {address}).")
            click.echo(lines, nl=False)
            tell_ready()

        code = server.serve(
            open_worker,
            host=host,
            port=port,
            workers=workers,
            threads=THREADS,
            body_max_bytes=settings.body_max_bytes,
            # A part may be larger than what a site takes in one piece; each has its own limit besides.
            upload_max_bytes=max(settings.upload_max_bytes, choose_part_size(MAX_SIZE)),
            upload_prefix=f"{PREFIX}/upload/",
            sheet_max_bytes=settings.sheet_max_bytes,
            sheet_prefix=f"{PREFIX}/sheets/",
            spool=settings.home / "spool",
            base_url=settings.base_url,
            announce=announce,
            companions=[] if no_worker else [do_jobs],
        )
    sys.exit(code)


@click.command()
@click.option("--once", is_flag=True, help="Do the jobs that are due, and end.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address to serve /metrics on.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Port to serve /metrics on, to all who reach it.")
@installation
def worker(settings: Settings, once: bool, metrics_host: str, metrics_port: int | None) -> None:
    """Do the portal's jobs until told to stop: send mails, finish what was left, clean up."""
    logs.configure(settings.log_level, settings.log_format)
    require_strength(settings)
    if metrics_port is not None:
        try:
            metrics.serve(metrics_host, metrics_port)
        except OSError as error:
            message = f"/metrics cannot be served on port {metrics_port} of {metrics_host}: {error.strerror}."
            raise click.ClickException(message) from None

    def announce(stop: server.Stop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop())
        click.echo("The worker is ready.", err=True)
        tell_ready()

    with _open_database(settings) as database:
        site = _open_site(settings, database, open_tested_storage(settings, database.url))
        if once:
            do_due_jobs(site)
        else:
            run_worker(site, announce)


@click.group()
def user() -> None:
    """Users."""


@user.command("add")
@click.argument("email")
@click.option("--name", required=True, help="The user's name.")
@click.option("--group", required=True, help="The group's name; it is added if there is none.")
@click.option("--site-admin", is_flag=True, help="May change the site.")
@click.option("--site-read", is_flag=True, help="May read all that was submitted.")
@click.option("--group-admin", is_flag=True, help="May administer the group.")
@installation
def add_user(settings: Settings, email: str, name: str, group: str, **roles: bool) -> None:
    """Add a user. The password is read from standard input, or else made and printed.

    The site's rules for passwords do not hold here; it has at most 256 characters.
    """
    sent = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    password = sent or make_password()
    for what, text, longest in (("password", password, 256), ("name", name, 255), ("group's name", group, 255)):
        if len(text) > longest or not text.strip() or "\0" in text:
            raise click.ClickException(f"A {what} has 1 to {longest} characters.")
    with _open_database(settings) as database, database.sessions.begin() as db:
        row, is_new = groups.find_or_add_group(db, name=group, site_id_format=settings.id_groups)
        added = users.add_user(db, settings=settings, email=email, name=name, group=row, password=password, **roles)
    if is_new:
        click.echo(f"Added the group {group} ({row.site_id}).", err=True)
    click.echo(f"Added the user {email} ({added.site_id}).", err=True)
    if not sent:
        click.echo(password)


@click.group()
def key() -> None:
    """API keys."""


@key.command("add")
@click.argument("email")
@click.option("--label", required=True, help="What the key is for.")
@click.option("--expires", help="When it ends, ISO 8601; default as late as the site allows.")
@installation
def add_key(settings: Settings, email: str, label: str, expires: str | None) -> None:
    """Make an API key for a user and print its token, and nothing else."""
    latest = utc_now() + timedelta(days=settings.api_key_max_days)
    expires_at = latest if expires is None else keys.parse_expiry(expires, latest)
    if not 1 <= len(label) <= keys.MAX_LABEL_LENGTH:
        raise click.ClickException(f"A label has 1 to {keys.MAX_LABEL_LENGTH} characters.")
    with _open_database(settings) as database, database.sessions.begin() as db:
        owner = users.get_user_by_email(db, email)
        if owner is None:
            raise click.ClickException(f"There is no user with the address {email}.")
        _, token = keys.add_key(db, user_id=owner.id, label=label, expires_at=expires_at)
    click.echo(token)


@click.group()
def db() -> None:
    """The database's schema."""


@db.command("upgrade")
@installation
def upgrade_database(settings: Settings) -> None:
    """Bring the schema up to date."""
    with _open_url(settings) as url:
        before = migrations.current(url)
        migrations.upgrade(url)
        click.echo(f"The schema was {before or 'empty'} and is {migrations.current(url)}.")


@db.command("check")
@installation
def check_database(settings: Settings) -> None:
    """Say whether the schema is what this version needs; exit code 1 if not."""
    with _open_url(settings) as url:
        migrations.require_current(url)
        drift = migrations.find_drift(url)
        for difference in drift:
            click.echo(f"differs: {difference}")
        if drift:
            raise click.ClickException("The tables differ from what this version made.")
        click.echo(f"The schema is {migrations.current(url)}, as this version needs it.")


@click.command()
@installation
def sweep(settings: Settings) -> None:
    """Finish or undo what was left half done; remove expired uploads and orphans."""
    with _open_database(settings) as database, database.locked(SWEEP_LOCK) as is_ours:
        if not is_ours:
            raise click.ClickException("Another sweep is running.")
        store = open_tested_storage(settings, database.url)
        done = run_sweep(database.sessions, store)
        done += check_store(database.sessions, store, orphan_days=settings.orphan_days)
        with store_errors():
            obstacle = find_obstacle(database.sessions, store)
    for kind, number in sorted((+done).items()):
        click.echo(f"{number:8,} {kind}")
    if obstacle is not None:
        raise click.ClickException(f"Nothing was removed. {obstacle} {ADVICE}")
    if not +done:
        click.echo("There was nothing to do.")


@click.command()
@click.option("--content", is_flag=True, help="Read every confirmed file, too, and compare it with its checksums.")
@installation
def fsck(settings: Settings, content: bool) -> None:
    """Prove that all rows, the store, the claims to unique values and the audit agree; exit code 1 if not.

    Nothing is changed; the portal may run meanwhile.
    """
    proofs: list[Proof] = []

    def show(reports: Iterable[Finding | Proof]) -> None:
        for report in reports:
            if isinstance(report, Proof):
                proofs.append(report)
            else:
                mark = "FAIL" if report.is_wrong else "note"
                click.echo(f"{mark:<5} {report.subject}: {report.message}. {report.advice}")

    with _open_database(settings) as database:
        store = open_storage(settings)
        show(prove_site(database.sessions, store, orphan_days=settings.orphan_days))
        if content:
            size = measure_content(database.sessions)
            with click.progressbar(length=size, label="Reading", file=sys.stderr) as bar:
                show(prove_content(database.sessions, store, advance=bar.update))
    for proof in proofs:
        mark = "FAIL" if proof.wrong else "ok"
        click.echo(f"{mark:<5}{proof.count:>14,} {proof.what}" + (f": {proof.wrong:,} wrong" if proof.wrong else ""))
    if any(proof.wrong for proof in proofs):
        raise click.ClickException("Not everything is as it should be.")


@click.group()
def config() -> None:
    """The settings."""


@config.command("check")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that 'datameta serve' shall listen on.")
@place
def check_config(home: Path | None, config: Path | None, host: str) -> None:
    """Say what is wrong with the settings, with what they name, and how to mend it; exit code 1 if anything is."""
    try:
        ini = _read_ini(config)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    if not _show_findings(check_site(ini, os.environ, home=home, host=host)):
        raise click.ClickException("The portal would not start, or not work, with these settings.")


@config.command("show")
@place
def show_config(home: Path | None, config: Path | None) -> None:
    """Print every setting with its value, and where it is from; no secret is shown."""
    try:
        ini = _read_ini(config)
        settings = read_settings(ini)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    given = list_given(ini, os.environ) | ({} if home is None else {"home": "--home"})
    for line in show_settings(settings if home is None else dataclasses.replace(settings, home=home), given):
        click.echo(line)


@click.group()
def storage() -> None:
    """The store of bytes."""


@storage.command("check")
@installation
def check_storage(settings: Settings) -> None:
    """Try every protection the portal relies on against the store; exit code 1 if one does not hold."""
    if not _show_findings(open_storage(settings).check()):
        raise click.ClickException("The store does not keep what the portal promises.")


@storage.command("adopt")
@installation
def adopt_storage(settings: Settings) -> None:
    """Make the store that of this database, after one of them was restored or moved; no other portal may use it.

    What the database does not know in it is then kept for some time (setting orphan_days), and removed.
    """
    with _open_database(settings) as database:
        store = open_storage(settings)
        with store_errors():
            obstacle = find_obstacle(database.sessions, store)
            adopt_store(database.sessions, store)
    click.echo(obstacle or "The store was this database's already.")
    click.echo(
        "It is this database's now. What has no file here is listed by 'datameta fsck' and kept for "
        f"{settings.orphan_days} days."
    )


@click.group()
def audit() -> None:
    """The record of what has happened."""


@audit.command("check")
@installation
def check_audit(settings: Settings) -> None:
    """Seal what is not sealed yet and walk the whole chain; exit code 1 if an event was changed or removed."""
    with _open_database(settings) as database:
        while True:
            with database.sessions.begin() as session:
                if seal_events(session) == 0:
                    break
        with database.sessions() as session:
            broken = find_broken_seal(session)
    if broken is not None:
        raise click.ClickException(f"The chain is broken at event {broken}: it is not what was sealed.")
    click.echo("The chain of events is whole.")


def _show_findings(findings: Iterable[StorageFinding]) -> bool:
    """Print a line for each finding, and say whether nothing fails."""
    is_well = True
    for finding in findings:
        mark = {True: "ok", False: "FAIL", None: "note"}[finding.ok]
        click.echo(f"{mark:<5} {finding.name}" + (f": {finding.detail}" if finding.detail else ""))
        is_well = is_well and finding.ok is not False
    return is_well


def _read_settings(home: Path | None, config: Path | None) -> Settings:
    settings = read_settings(_read_ini(config))
    return settings if home is None else dataclasses.replace(settings, home=home)


def _read_ini(config: Path | None) -> dict[str, str]:
    """Return what a settings file says of the portal; raises ``SettingsError``."""
    ini: dict[str, str] = {}
    if config is not None:
        parser = configparser.ConfigParser(defaults={"here": str(config.resolve().parent)})
        try:
            parser.read_string(config.read_text("utf-8"), str(config))
            ini = dict(parser["app:main"])
        except KeyError:
            raise SettingsError(f"{config} has no section [app:main].") from None
        except (configparser.Error, UnicodeDecodeError) as error:
            raise SettingsError(f"{config} is no settings file: {_join_lines(error)}") from None
    return ini


@contextmanager
def _open_url(settings: Settings) -> Iterator[str]:
    """Yield the address of the database, running the portal's own if none is configured."""
    if settings.database_url:
        yield settings.database_url
    else:
        with embedded.running(settings.home) as url:
            yield url


@contextmanager
def _open_database(settings: Settings) -> Iterator[Database]:
    """Yield the database with an up-to-date schema."""
    with _open_url(settings) as url:
        if settings.database_url:
            migrations.require_current(url)
        else:
            migrations.upgrade(url)
        database = open_database(settings, url)
        try:
            yield database
        finally:
            database.dispose()


def _open_site(settings: Settings, database: Database, store: Storage) -> Site:
    return Site(settings, database, store, open_vault(settings))


def _prepare_demo(settings: Settings, url: str) -> str:
    """Add the demo site if it is not there, and return what to print about it."""
    notes = settings.home / "demo.json"
    database = Database(url)
    try:
        with database.sessions.begin() as session:
            added = demo.add_demo(session, settings)
            if added is not None:
                notes.touch(mode=0o600)
                notes.write_text(json.dumps(demo.to_dict(added)), "utf-8")
    finally:
        database.dispose()
    if not notes.exists():
        return f"The demo site is there already, but its logins are not: {notes} is missing.\n"
    known = demo.Demo(**json.loads(notes.read_text("utf-8")))
    logins = "".join(f"  {email:<28}{password}\n" for email, password in known.passwords.items())
    walkthrough = files("datameta").joinpath("walkthrough.sh").read_text("utf-8")
    return (
        f"\nThe demo site's logins (kept in {notes}):\n{logins}\n"
        "The whole flow, to paste into another terminal (bash, curl, python3):\n\n"
        f"URL={settings.base_url}{PREFIX}\nKEY={known.lab_key}\nBOT={known.bot_key}\n{walkthrough}\n"
    )


def _join_lines(error: BaseException | None) -> str:
    return " ".join(str(error).split())


def _find_free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
