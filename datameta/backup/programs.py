"""PostgreSQL's own programs, which alone can write and read its dumps.

They have to be of the server's major version: an older pg_dump refuses a newer server, and a newer one writes what an
older server does not understand.
"""

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from datameta import embedded
from datameta.backup.folder import BackupError, Hashed
from datameta.storage.base import CHUNK_BYTES

NAMES = ("pg_dump", "pg_restore", "psql")
NOT_KEPT = ("login_sessions", "password_tokens", "download_tokens", "throttles")
"""Tables whose rows live for hours, and should not come to life again: of sessions that have been ended, and links."""
BEGIN = "BEGIN; SET LOCAL client_min_messages = warning"
EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Programs:
    """The programs in one folder, for the database at one address."""

    major: int
    folder: Path
    conninfo: str
    password: str | None

    def dump(self, snapshot: str, target: Hashed, advance: Callable[[int], Any]) -> None:
        """Write the database as the snapshot shows it.

        Raises ``BackupError``.
        """
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        options += [f"--exclude-table-data={name}" for name in NOT_KEPT]
        with self._run("pg_dump", *options, f"--dbname={self.conninfo}", stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while chunk := process.stdout.read(CHUNK_BYTES):
                target.write(chunk)
                advance(len(chunk))

    def restore(self, source: Path, *, is_replacing: bool, advance: Callable[[int], Any]) -> None:
        """Bring a dump into the database in one transaction; what is there goes in the same one if ``is_replacing``.

        Raises ``BackupError``; then the database is as it was.
        """
        is_whole = False
        words = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={self.conninfo}"]
        with (
            source.open("rb") as file,
            self._run("psql", *words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader,
        ):
            assert reader.stdin is not None
            try:
                reader.stdin.write(f"{BEGIN};{EMPTY if is_replacing else ''};\n".encode())
                words = ["--no-owner", "--no-privileges", "--file=-"]
                with self._run("pg_restore", *words, stdin=file, stdout=subprocess.PIPE) as writer:
                    assert writer.stdout is not None
                    done = 0
                    while chunk := writer.stdout.read(CHUNK_BYTES):
                        reader.stdin.write(chunk)
                        # pg_restore shares the place up to which the file is read.
                        before, done = done, max(done, file.tell())
                        advance(done - before)
                # Without this nothing is kept; and it comes only after all of the dump.
                reader.stdin.write(b"\nCOMMIT;\n")
                is_whole = True
            except BrokenPipeError:
                # Why psql has ended, its own words tell.
                log.debug("psql took no more")
        if not is_whole:
            raise BackupError("psql ended before it had read all of the dump.")

    @contextmanager
    def _run(self, name: str, *words: str, **streams: Any) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a program until the block ends.

        Raises ``BackupError`` with what it said if it fails.
        """
        environment = {**os.environ, "LC_ALL": "C"}
        if self.password is not None:
            # Anybody may read the words of a command, and only its owner its environment.
            environment["PGPASSWORD"] = self.password
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [self.folder / name, *words],
                stderr=said,
                env=environment,
                **{"stdin": subprocess.DEVNULL, **streams},
            )
            try:
                yield process
            except BaseException:
                process.kill()
                raise
            finally:
                for stream in (process.stdin, process.stdout):
                    if stream is not None and not stream.closed:
                        with _broken_pipes():
                            stream.close()
                code = process.wait()
            if code:
                said.seek(0)
                reason = " ".join(said.read(2000).decode(errors="replace").split())
                raise BackupError(f"{name} failed: {reason or f'exit code {code}'}")


def find_programs(url: str, major: int) -> Programs:
    """Return the programs for a database and its server's version: those that came with the portal, or on the PATH.

    Raises ``BackupError`` where none are of that version.
    """
    arguments = PGDialect_psycopg().create_connect_args(make_url(url))[1]  # type: ignore[no-untyped-call]
    password = arguments.pop("password", None)
    return Programs(major, _find_folder(major), make_conninfo(**arguments), password)


def _find_folder(major: int) -> Path:
    own = embedded.find_programs_of(major)
    if own is not None:
        return own
    found = shutil.which(NAMES[0])
    missing = [name for name in NAMES if shutil.which(name) is None]
    advice = f"Install PostgreSQL's client of version {major} (Debian: postgresql-client-{major}) on the PATH."
    if found is None or missing:
        raise BackupError(f"{', '.join(missing)} of PostgreSQL {major} is needed, and missing. {advice}")
    answer = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = int(re.findall(r"\d+", answer)[0])
    if version != major:
        raise BackupError(f"The server is PostgreSQL {major}, and {found} is of PostgreSQL {version}. {advice}")
    return Path(found).parent


@contextmanager
def _broken_pipes() -> Iterator[None]:
    """Let it pass that the other side has ended before it took everything."""
    try:
        yield
    except BrokenPipeError:
        return
