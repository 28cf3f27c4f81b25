"""An installation in processes of its own: PostgreSQL, an object store, the portal with three workers, and a worker.

The rule: each part can be killed and started alone, and nothing is shared with the process of the test but what
went over a socket. Parts must be started by the main thread: the kernel ends a child with the thread that made it.
"""

import ctypes
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg
from botocore.config import Config
from sqlalchemy import make_url

from datameta import embedded, migrations
from datameta.clock import utc_now
from datameta.database import Database
from datameta.logic import groups, keys, users
from datameta.settings import Settings
from tests.rgw import PR_SET_PDEATHSIG, RGW, run_rgw

REPOSITORY = Path(__file__).parents[2]
WORKERS = 3
START_SECONDS = 60
ROOM_BYTES = 2 * 1024**3
REGION = "us-east-1"
AGE = """
UPDATE files SET
    state_changed_at = state_changed_at - interval '3 hours',
    lease_until = lease_until - interval '3 hours'
"""
"""Lets every state and every lease be three hours older; no upload expires by that."""


@dataclass
class Postgres:
    """A durable PostgreSQL that can be stopped as by a power failure."""

    home: Path
    url: str

    def stop_at_once(self) -> None:
        """End all its processes without a checkpoint; it will recover from its log."""
        self._cluster.run("pg_ctl", "stop", "-m", "immediate")

    def start(self) -> None:
        """Start it, and wait until it has recovered."""
        self._cluster.start(durable=True)

    def add_database(self) -> "Postgres":
        """Return the same server with an empty database that nobody has used."""
        name = f"faults_{secrets.token_hex(6)}"
        with psycopg.connect(_to_libpq(self.url, "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {embedded.NAME}")
        return Postgres(self.home, make_url(self.url).set(database=name).render_as_string(hide_password=False))

    def connect(self) -> "psycopg.Connection[Any]":
        """Connect to the database past the portal."""
        return psycopg.connect(_to_libpq(self.url))

    def execute(self, statements: str) -> list[Any]:
        """Read or change the database past the portal."""
        with self.connect() as connection:
            cursor = connection.execute(statements)
            return cursor.fetchall() if cursor.description else []

    @property
    def socket(self) -> str:
        """The path of the socket on which it listens."""
        return f"{make_url(self.url).query['host']}/.s.PGSQL.{embedded.PORT}"

    @property
    def _cluster(self) -> Any:
        return embedded._Cluster.find(self.home)


def _to_libpq(url: str, database: str | None = None) -> str:
    parts = make_url(url).set(drivername="postgresql")
    return (parts.set(database=database) if database else parts).render_as_string(hide_password=False)


@contextmanager
def run_postgres(home: Path) -> Iterator[Postgres]:
    """Run a PostgreSQL with the newest schema, until the block ends."""
    with embedded.running(home) as url:
        migrations.upgrade(url)
        yield Postgres(home, url)


@dataclass
class Program:
    """A command of the portal that is started again whenever it ends; what it says goes to a file."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    launcher: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, from now on."""
        libc = ctypes.CDLL(None)
        with self.log.open("ab") as log:
            self.launcher = subprocess.Popen(
                self.command,
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )

    @property
    def processes(self) -> list[int]:
        """The ids of the process that was started last and of its own children; empty between two."""
        if self.launcher is None:
            return []
        return [pid for parent in _list_children(self.launcher.pid) for pid in (parent, *_list_children(parent))]

    def kill(self) -> None:
        """Kill it and all its processes at once; another will be started."""
        processes = self.processes
        # The first is held first, so that it starts no other meanwhile.
        for pid in processes[:1]:
            _signal(pid, signal.SIGSTOP)
        for pid in reversed(processes):
            kill(pid)

    def end(self) -> None:
        """Kill it for good."""
        if self.launcher is not None:
            self.launcher.send_signal(signal.SIGSTOP)
            self.kill()
            self.launcher.kill()
            self.launcher.wait()
            self.launcher = None


def _list_children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def kill(pid: int) -> None:
    """Send SIGKILL; the process may have ended by itself."""
    _signal(pid, signal.SIGKILL)


@dataclass
class Site:
    """All parts, and how to look past the portal."""

    folder: Path
    postgres: Postgres
    rgw: RGW | None
    port: int
    bug: str
    bucket: str
    environment: dict[str, str]
    portal: Program = field(init=False)
    worker: Program = field(init=False)

    def __post_init__(self) -> None:
        serve = ("serve", "--port", str(self.port), "--workers", str(WORKERS), "--no-worker")
        self.portal = Program(self.command(*serve), self.environment, self.folder / "portal.log")
        self.worker = Program(self.command("worker"), self.environment, self.folder / "worker.log")

    @property
    def address(self) -> str:
        """Where the portal listens."""
        return f"http://127.0.0.1:{self.port}"

    def command(self, *words: str) -> list[str]:
        """Return the command line of ``datameta`` with the site's bug."""
        return [sys.executable, "-m", "tests.faults.launcher", self.bug, *words]

    def run(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the portal to its end."""
        return subprocess.run(
            self.command(*words),
            check=False,
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env={**self.environment, **variables},
        )

    @property
    def portal_starts(self) -> int:
        """How often the portal has said that it serves."""
        return self.portal.log.read_bytes().count(b" serves ")

    def answers(self) -> bool:
        """Say whether the portal answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.address}/api/v1/server", timeout=2):
                return True
        except (OSError, http.client.HTTPException):
            return False

    def wait_until_ready(self) -> None:
        """Wait until the portal answers."""
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                raise AssertionError(f"The portal does not answer:\n{self.portal.log.read_text()[-3000:]}")
            time.sleep(0.1)

    def open_store(self) -> Any:
        """Return an S3 client that knows nothing of the portal."""
        assert self.rgw is not None
        return make_s3_client(self.rgw)

    def add_user(self, **roles: bool) -> str:
        """Add a user and return an API key of theirs."""
        name = secrets.token_hex(8)
        database = Database(self.postgres.url)
        settings = Settings(home=self.folder, bcrypt_cost=4)
        try:
            with database.sessions.begin() as db:
                group, _ = groups.find_or_add_group(db, name="Lab", site_id_format=settings.id_groups)
                added = users.add_user(
                    db,
                    settings=settings,
                    email=f"{name}@example.org",
                    name=name,
                    group=group,
                    password=secrets.token_hex(16),
                    **roles,
                )
                expires_at = utc_now().replace(year=utc_now().year + 1, day=1)
                return keys.add_key(db, user_id=added.id, label="faults", expires_at=expires_at)[1]
        finally:
            database.dispose()


def make_s3_client(rgw: RGW) -> Any:
    """Return a client for all of the gateway."""
    return boto3.client(
        "s3",
        endpoint_url=rgw.endpoint,
        region_name=REGION,
        aws_access_key_id=rgw.access_key,
        aws_secret_access_key=rgw.secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={},
        ),
    )


@contextmanager
def run_site(
    folder: Path, *, postgres: Postgres, rgw: RGW | None, bug: str = "none", variables: Mapping[str, str] | None = None
) -> Iterator[Site]:
    """Run a portal on a database and on a store: RGW with a bucket of its own, or else a local folder."""
    bucket = f"faults-{secrets.token_hex(6)}"
    port = find_free_port()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DATAMETA_", "AWS_", "PG")) and not name.lower().endswith("_proxy")
    }
    environment = kept | {
        "PYTHONUNBUFFERED": "1",
        "DATAMETA_HOME": str(folder / "home"),
        "DATAMETA_BASE_URL": f"http://127.0.0.1:{port}",
        "DATAMETA_DATABASE_URL": postgres.url,
        "DATAMETA_BCRYPT_COST": "4",
        "DATAMETA_VERIFICATION_WAIT_SECONDS": "2",
    }
    if rgw is not None:
        make_s3_client(rgw).create_bucket(Bucket=bucket)
        environment |= {
            "AWS_ACCESS_KEY_ID": rgw.access_key,
            "AWS_SECRET_ACCESS_KEY": rgw.secret_key,
            "DATAMETA_STORAGE": "s3",
            "DATAMETA_S3_ENDPOINT": rgw.endpoint,
            "DATAMETA_S3_BUCKET": bucket,
            "DATAMETA_S3_REGION": REGION,
        }
    site = Site(folder, postgres, rgw, port, bug, bucket, environment | dict(variables or {}))
    with ExitStack() as parts:
        parts.callback(site.portal.end)
        parts.callback(site.worker.end)
        site.portal.start()
        site.wait_until_ready()
        yield site


def choose_memory() -> str | None:
    """Return a folder that is in memory, if there is room: recovering there is no race with the disk's other users."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES
    return str(memory) if has_room else None


def find_free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def run_everything(folder: Path, *, bug: str = "none", variables: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Run a site with a PostgreSQL and an RGW of its own."""
    (folder / "rgw").mkdir()
    with (
        run_rgw(folder / "rgw") as rgw,
        run_postgres(folder / "database") as postgres,
        run_site(folder, postgres=postgres, rgw=rgw, bug=bug, variables=variables) as site,
    ):
        site.worker.start()
        yield site
