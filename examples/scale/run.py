"""Run a whole site on this machine: nginx, three portals, two workers, PostgreSQL with a replica, and Ceph's RGW.

    .venv/bin/python -m examples.scale.run

It needs Debian's packages nginx, postgresql, ceph-mon, ceph-osd, radosgw and ceph-common. Everything runs in the
foreground below one folder, listens on the loopback only, and ends with Ctrl-C. On machines of your own, systemd
starts each of these processes; what they are told is the same.
"""

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import click
import psycopg
from botocore.config import Config

from tests.rgw import RGW, missing_programs, run_rgw

HERE = Path(__file__).parent
DATAMETA = Path(sys.executable).with_name("datameta")
PORTALS, WORKERS = 3, 2
START_SECONDS = 60
PR_SET_PDEATHSIG = 1


def find_missing() -> str:
    """Say which packages to install, or return an empty string if everything is there."""
    missing = [] if shutil.which("nginx", path=search_path()) else ["nginx"]
    missing += [] if find_postgres() else ["postgresql"]
    return missing_programs() or (f"install the Debian packages {' '.join(missing)}" if missing else "")


def search_path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin"


def find_postgres() -> Path | None:
    """Return the folder of Debian's newest PostgreSQL."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "pg_basebackup").exists()]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def make_environment(**variables: str) -> dict[str, str]:
    """Return the environment without what would redirect the programs, and with ``variables``."""
    foreign = ("DATAMETA_", "AWS_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")} | variables


@dataclass
class Program:
    """A process of the site, which ends with this one, however it ends."""

    words: list[str]
    folder: Path
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it in a process group of its own; what it writes goes into a file beside the others."""
        libc = ctypes.CDLL(None)
        log_path = self.folder / f"{self.name}.log"
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=make_environment(**self.environment),
                user=self.user,
                group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
                extra_groups=None if self.user is None else [],
                process_group=0,
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            )

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / f"{self.name}.log").read_text("utf-8", "replace")

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        assert self.process is not None
        return self.process.wait(START_SECONDS)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it as an operator does and return its exit code."""
        self.send(number)
        return self.wait()

    def kill(self) -> None:
        """End it, and all that it has started, at once."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def await_that(self, is_true: Callable[[], Any]) -> None:
        """Wait until something holds; raises ``RuntimeError`` if the process ends before, or it takes too long."""
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while not is_true():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not run:\n{self.log[-3000:]}")
            time.sleep(0.05)


@dataclass
class Postgres:
    """Debian's PostgreSQL: a database, and a replica that it streams its log to."""

    folder: Path
    port: int
    replica_port: int
    passwords: dict[str, str] = field(default_factory=lambda: {name: secrets.token_hex(16) for name in ROLES})

    def __post_init__(self) -> None:
        programs = find_postgres()
        assert programs is not None
        self.programs = programs
        # PostgreSQL refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        self.primary = self._make_program("primary", self.port)
        self.replica = self._make_program("replica", self.replica_port)

    def _make_program(self, name: str, port: int) -> Program:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            # For all processes of the site together, see portal.ini.
            "max_connections": "200",
            # The replica's queries do not have to end for what the database removes.
            "hot_standby_feedback": "on",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        words = [str(self.programs / "postgres"), "-D", name, *options]
        return Program(words, self.folder, name, {"LC_ALL": "C"}, self.user)

    def run(self, program: str, *words: str, **environment: str) -> None:
        """Run one of PostgreSQL's programs to its end."""
        done = subprocess.run(
            [self.programs / program, *words],
            cwd=self.folder,
            env=make_environment(LC_ALL="C", **environment),
            user=self.user,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")

    def make_url(self, role: str, port: int, database: str = "datameta") -> str:
        """Return an address of the database."""
        return f"postgresql://{role}:{self.passwords[role]}@127.0.0.1:{port}/{database}"

    def is_up(self, port: int) -> bool:
        """Say whether a server takes connections."""
        try:
            psycopg.connect(self.make_url("postgres", port, "postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def start(self) -> None:
        """Make the database and its replica, and start both."""
        password = self.folder / "password"
        password.write_text(self.passwords["postgres"])
        if self.user is not None:
            for path in (self.folder, password):
                shutil.chown(path, self.user)
        self.run(
            "initdb", "-D", "primary", "-U", "postgres", "--pwfile=password", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums",
        )  # fmt: skip
        password.unlink()
        self.primary.start()
        self.primary.await_that(lambda: self.is_up(self.port))
        with psycopg.connect(self.make_url("postgres", self.port, "postgres"), autocommit=True) as connection:
            for role, rights in ROLES.items():
                if role != "postgres":
                    connection.execute(f"CREATE ROLE {role} LOGIN {rights} PASSWORD '{self.passwords[role]}'".encode())
            connection.execute("CREATE DATABASE datameta OWNER datameta")
        # -R writes where the log comes from; the slot keeps what the replica has not received yet.
        self.run(
            "pg_basebackup", "-D", "replica", "-d", self.make_url("replicator", self.port, "postgres"), "-R",
            "-X", "stream", "-c", "fast", "-C", "-S", "replica",
        )  # fmt: skip
        self.replica.start()
        self.replica.await_that(lambda: self.is_up(self.replica_port))


ROLES = {"postgres": "SUPERUSER", "datameta": "", "replicator": "REPLICATION"}
"""The portal's own role owns its database and has no other right."""


@dataclass
class Site:
    """A running site."""

    folder: Path
    port: int
    postgres: Postgres
    rgw: RGW
    environment: dict[str, str]
    portals: list[Program]
    workers: list[Program]
    nginx: Program

    @property
    def address(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    def start_portal(self, portal: Program) -> None:
        """Start a portal and wait until it serves."""
        seen = portal.log.count(" serves ") if (self.folder / f"{portal.name}.log").exists() else 0
        portal.start()
        portal.await_that(lambda: portal.log.count(" serves ") > seen)

    def run_command(self, *words: str, text: str = "") -> str:
        """Run one of the portal's commands, and return what it prints."""
        done = subprocess.run(
            [DATAMETA, *words],
            env=make_environment(**self.environment),
            input=text,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"datameta {words[0]} failed: {done.stderr}")
        return done.stdout.strip()


@contextmanager
def run_site(folder: Path, port: int = 8080, processes: int = 2) -> Iterator[Site]:
    """Run a site in ``folder`` until the block ends. Its parts listen on the ports that follow ``port``.

    Each portal has so many ``processes``.
    """
    with ExitStack() as stack:
        # The parts that others need are ended last.
        (folder / "rgw").mkdir()
        rgw = stack.enter_context(run_rgw(folder / "rgw"))
        (folder / "postgres").mkdir()
        postgres = Postgres(folder / "postgres", port + PORTALS + 1, port + PORTALS + 2)
        stack.callback(_end, [postgres.replica, postgres.primary], signal.SIGINT)
        postgres.start()
        make_bucket(rgw)
        environment = {
            "DATAMETA_BASE_URL": f"http://127.0.0.1:{port}",
            "DATAMETA_DATABASE_URL": postgres.make_url("datameta", postgres.port),
            "DATAMETA_DATABASE_REPLICA_URL": postgres.make_url("datameta", postgres.replica_port),
            "DATAMETA_S3_ENDPOINT": rgw.endpoint,
            "AWS_ACCESS_KEY_ID": rgw.access_key,
            "AWS_SECRET_ACCESS_KEY": rgw.secret_key,
            "DATAMETA_SECRET_KEY": secrets.token_hex(32),
            "DATAMETA_HOME": str(folder / "home"),
            "PYTHONUNBUFFERED": "1",
        }
        common = ["--config", str(HERE / "portal.ini")]
        serving = [str(DATAMETA), "serve", *common, "--no-worker", "--workers", str(processes)]
        portals = [
            Program(
                [*serving, "--port", str(port + number)],
                folder,
                f"portal{number}",
                # A folder for each: they share nothing.
                environment | {"DATAMETA_HOME": str(folder / f"portal{number}")},
            )
            for number in range(1, PORTALS + 1)
        ]
        workers = [
            Program([str(DATAMETA), "worker", *common], folder, f"worker{number}", environment)
            for number in range(1, WORKERS + 1)
        ]
        nginx = Program(["nginx", "-p", f"{folder}/", "-c", "nginx.conf", "-g", "daemon off;"], folder, "nginx")
        nginx.environment = {"PATH": search_path()}
        site = Site(folder, port, postgres, rgw, environment, portals, workers, nginx)
        site.run_command("db", "upgrade", *common)
        stack.callback(_end, [*workers, *portals], signal.SIGTERM)
        for program in [*portals, *workers]:
            program.start()
        for portal in portals:
            portal.await_that(lambda portal=portal: " serves " in portal.log)
        configuration = (HERE / "nginx.conf").read_text("utf-8")
        for number in range(PORTALS, -1, -1):
            configuration = configuration.replace(f"127.0.0.1:{8080 + number}", f"127.0.0.1:{port + number}")
        (folder / "nginx.conf").write_text(configuration, "utf-8")
        shutil.copy(HERE.parent / "nginx" / "datameta-proxy.conf", folder)
        stack.callback(_end, [nginx], signal.SIGQUIT)
        nginx.start()
        nginx.await_that(lambda: _answers(site.address))
        yield site


def make_bucket(rgw: RGW) -> Any:
    """Make the bucket, and return its owner's client; a site does this once, by hand."""
    client = boto3.client(
        "s3",
        endpoint_url=rgw.endpoint,
        region_name="us-east-1",
        aws_access_key_id=rgw.access_key,
        aws_secret_access_key=rgw.secret_key,
        config=Config(request_checksum_calculation="when_required", proxies={}),
    )
    client.create_bucket(Bucket="datameta")
    return client


def _answers(address: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/api/v1/server", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _end(programs: list[Program], number: int) -> None:
    running = [program for program in programs if program.process is not None and program.process.poll() is None]
    for program in running:
        program.send(number)
    for program in running:
        try:
            program.wait()
        except subprocess.TimeoutExpired:
            program.kill()


def add_admin(site: Site) -> tuple[str, str]:
    """Add a site admin, and return the password and an API key."""
    common = ("--config", str(HERE / "portal.ini"))
    roles = ("--group", "Office", "--site-admin", "--site-read", "--group-admin")
    password = site.run_command("user", "add", "admin@example.org", "--name", "Ada Admin", *roles, *common)
    return password, site.run_command("key", "add", "admin@example.org", "--label", "laptop", *common)


@click.command(help=__doc__)
@click.option("--port", default=8080, show_default=True, help="nginx's; the others follow.")
def main(port: int) -> None:
    if message := find_missing():
        raise click.ClickException(message)
    folder = Path(tempfile.mkdtemp(prefix="datameta-scale-"))
    # PostgreSQL runs as a user of its own, where root starts all this.
    folder.chmod(0o711)
    try:
        with run_site(folder, port) as site:
            password, key = add_admin(site)
            click.echo(f"{site.address} is served. Sign in as admin@example.org with {password}")
            click.echo(f"An API key: {key}\nEverything is in {folder}; Ctrl-C ends it.")
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            with suppress(KeyboardInterrupt):
                signal.pause()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
