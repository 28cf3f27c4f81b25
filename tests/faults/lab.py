"""A laboratory at a served portal: one user who does one thing at a time, and a look at what is left of it."""

import hashlib
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any

import pytest

from datameta import crash
from datameta.database import Database
from datameta.jobs.tasks import Site as JobSite
from datameta.jobs.worker import do_due_jobs
from datameta.logic import sweep as sweeper
from datameta.logic.fsck import Proof, prove_site
from datameta.settings import Settings, read_settings
from datameta.storage import Storage, open_storage
from datameta.vault import open_vault
from tests.faults.clients import READS, SAMPLE, Answer, Client, SentFile, Values
from tests.faults.history import History
from tests.faults.site import AGE, Site

CRASH_FILE = "crash"
CONTENT = b"ACGT" * 1000


@dataclass
class Lab:
    """A user of a site, whose requests are not repeated unless they say so."""

    site: Site
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        token = self.site.add_user()
        history, stop = History(), threading.Event()
        self.client = Client(0, self.site.address, token, history, random.Random(0), Values(), stop)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Call the API; header names have underscores for hyphens."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.call(f"{method} {path}", method, path, body, {}, headers)

    def get(self, path: str) -> Any:
        """Read something that there is."""
        answer = self.call("GET", path)
        assert answer.is_good, answer
        return answer.json()

    def name_file(self) -> str:
        """Return a file name nobody has used."""
        return f"{random.getrandbits(60):x}.fq"

    def announce(self, content: bytes = CONTENT, algorithm: str = "md5", name: str = "") -> SentFile:
        """Announce a file."""
        checksum = hashlib.new(algorithm, content).hexdigest()
        answer = self.call("POST", "/files", {"name": name or self.name_file(), "checksum": checksum})
        assert answer.is_good, answer
        return self.to_file(answer, content)

    def to_file(self, answer: Answer, content: bytes = CONTENT) -> SentFile:
        """Return a file as it was announced."""
        told = answer.json()
        url, headers = told["urlToUpload"], told["requestHeaders"]
        return SentFile(told["id"]["uuid"], told["name"], content, url, headers, is_sha256=False)

    def send(self, file: SentFile, content: bytes | None = None) -> Answer:
        """Send the bytes of a file."""
        return self.client.send(file, file.content if content is None else content)

    def announce_and_send(self, content: bytes = CONTENT, algorithm: str = "md5") -> SentFile:
        """Announce a file and send its bytes."""
        file = self.announce(content, algorithm)
        answer = self.send(file)
        assert answer.is_good, answer
        return file

    def confirm(self, file: SentFile) -> Answer:
        """Confirm a file."""
        return self.client.confirm(file)

    def upload(self, content: bytes = CONTENT) -> SentFile:
        """Announce, send and confirm a file."""
        file = self.announce_and_send(content)
        answer = self.confirm(file)
        assert answer.is_good, answer
        return file

    def download(self, file: SentFile) -> bytes:
        """Return the content of a file as the portal gives it."""
        url = self.get(f"/rpc/get-file-url/{file.id}")["fileUrl"]
        answer = self.client.exchange("download", "GET", url, None, {}, {})
        assert answer.status == 200, answer
        return answer.body

    def prepare_submission(self) -> dict[str, Any]:
        """Upload a file and describe it; return the submission that is left to do."""
        file = self.upload()
        record = {SAMPLE: file.name, READS: file.name}
        answer = self.call("POST", "/metadatasets", {"record": record})
        assert answer.is_good, answer
        return {"metadatasetIds": [answer.json()["id"]["uuid"]], "fileIds": [file.id], "label": file.name}

    # What is left

    def read_state(self, file: SentFile | str) -> str | None:
        """Return the state of a file's row, found by its name, or None without one."""
        name = file if isinstance(file, str) else file.name
        rows = self.site.postgres.execute(f"SELECT state FROM files WHERE name = '{name}'")
        assert len(rows) < 2, rows
        return str(rows[0][0]) if rows else None

    def crash_at(self, point: str) -> None:
        """Let the next process end that passes this point."""
        (self.site.folder / CRASH_FILE).write_text(point)

    def has_crashed(self) -> bool:
        """Say whether the process has ended since."""
        return not (self.site.folder / CRASH_FILE).exists()


def crash_variables(site_folder: Any) -> dict[str, str]:
    """Return the variables of a portal that can be told to crash."""
    return {crash.VARIABLE: str(site_folder / CRASH_FILE)}


@dataclass
class Keeper:
    """Who looks after a site from another process: sweeps, does jobs, proves."""

    site: Site
    settings: Settings
    storage: Storage

    @cached_property
    def database(self) -> Database:
        """A way to the database that does not go through what fails."""
        return Database(self.site.postgres.url)

    def sweep(self) -> Counter[str]:
        """Let three hours pass, and sweep once."""
        self.site.postgres.execute(AGE)
        return +sweeper.sweep(self.database.sessions, self.storage)

    def sweep_store(self, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
        """Let five weeks pass for the store alone, and remove its orphans."""
        monkeypatch.setattr(sweeper, "ORPHAN_AGE", timedelta(seconds=-60))
        monkeypatch.setattr(sweeper, "find_removal", lambda orphan, **more: orphan.changed_at - timedelta(seconds=60))
        return +sweeper.check_store(self.database.sessions, self.storage, orphan_days=self.settings.orphan_days)

    def do_jobs(self) -> None:
        """Do the jobs that are due."""
        do_due_jobs(JobSite(self.settings, self.database, self.storage, open_vault(self.settings)))

    def find_wrong(self) -> list[Any]:
        """Return what the check of everything finds wrong."""
        reports = prove_site(self.database.sessions, self.storage, orphan_days=self.settings.orphan_days)
        return [report for report in reports if (report.wrong if isinstance(report, Proof) else report.is_wrong)]


@contextmanager
def open_keeper(site: Site) -> Iterator[Keeper]:
    """Open a keeper, which needs the credentials of the store in this process's environment."""
    credentials = {name: value for name, value in site.environment.items() if name.startswith("AWS_")}
    former = {name: os.environ.get(name) for name in credentials}
    os.environ.update(credentials)
    try:
        # The keeper goes straight to where the site's parts are, past any proxy.
        environment = site.environment | ({"DATAMETA_S3_ENDPOINT": site.rgw.endpoint} if site.rgw else {})
        settings = read_settings(environ=environment)
        keeper = Keeper(site, settings, open_storage(settings))
        # Credentials are read when the first request is signed.
        list(keeper.storage.list_uploads())
        yield keeper
        keeper.database.dispose()
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
