"""The ``datameta`` command itself, in processes of its own, spoken to over the network."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import requests

DATAMETA = Path(sys.executable).with_name("datameta")
REPOSITORY = Path(__file__).parents[2]
WALKTHROUGH = files("datameta").joinpath("walkthrough.sh").read_text("utf-8")
DEADLINE_SECONDS = 90
RECORD = {"Sampling date": "2026-03-14", "ZIPCode": "720", "Sequencing platform": "Illumina"}


def make_environment(**variables: str) -> dict[str, str]:
    """Return the environment without the machine's own settings, and with ``variables``."""
    foreign = ("DATAMETA_", "AWS_", "PG")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
    return kept | {"DATAMETA_BCRYPT_COST": "4"} | variables


def run_datameta(
    *words: str | Path, text: str = "", cwd: Path = REPOSITORY, variables: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end, with ``text`` as its input."""
    return subprocess.run(
        [DATAMETA, *words],
        check=False,
        capture_output=True,
        text=True,
        input=text,
        cwd=cwd,
        env=make_environment(**variables or {}),
        timeout=DEADLINE_SECONDS,
    )


@dataclass
class Served:
    """A portal that runs in processes of its own."""

    process: "subprocess.Popen[bytes]"
    home: Path
    folder: Path

    @property
    def printed(self) -> str:
        """What it wrote to standard output."""
        return (self.folder / "printed").read_text("utf-8")

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return (self.folder / "log").read_text("utf-8")

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.printed.split(" serves ")[1].split()[0]

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers (Linux)."""
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]

    def wait_for(self, words: str) -> None:
        """Wait until it has printed ``words``."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while words not in self.printed:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def stop(self) -> int:
        """Stop it as an operator does and return its exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE_SECONDS)

    def read_demo(self) -> dict[str, Any]:
        """Return the demo site's credentials."""
        demo: dict[str, Any] = json.loads((self.home / "demo.json").read_text("utf-8"))
        return demo

    def open_lab(self) -> "Api":
        """Return the demo site's lab."""
        return Api(self.address, self.read_demo()["lab_key"])

    def open_bot(self) -> "Api":
        """Return the demo site's service."""
        return Api(self.address, self.read_demo()["bot_key"])


@contextmanager
def serve(
    home: Path,
    folder: Path,
    *words: str,
    prefix: Sequence[str] = (),
    cwd: Path = REPOSITORY,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Run a portal until the block ends; what it prints and logs goes to ``folder``."""
    command = [*prefix, str(DATAMETA), "serve", "--home", str(home), "--port", "0", "--workers", "2", *words]
    with (folder / "printed").open("wb") as printed, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=log,
            cwd=cwd,
            env=make_environment(PYTHONUNBUFFERED="1", **variables or {}),
        )
    served = Served(process, home, folder)
    try:
        served.wait_for(WALKTHROUGH if "--demo" in words else " serves ")
        yield served
    finally:
        if process.poll() is None:
            served.stop()


@contextmanager
def serve_cleanly(
    home: Path, folder: Path, *words: str, variables: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Run a portal until the block ends, and check that it then ended well and had no crash to log."""
    with serve(home, folder, *words, variables=variables) as served:
        yield served
        assert served.stop() == 0
        assert "Traceback" not in served.log


@pytest.fixture(scope="session")
def served_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A demo portal with local storage, shared by all tests."""
    folder = tmp_path_factory.mktemp("demo")
    with serve_cleanly(folder / "home", folder, "--demo") as served:
        yield served


@dataclass(frozen=True)
class Api:
    """Somebody with an API key."""

    address: str
    token: str

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request below ``/api/v1``: JSON, or ``data`` as it is."""
        headers = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        url = f"{self.address}/api/v1{path}"
        with requests.Session() as session:
            # Proxies are for the world outside.
            session.trust_env = False
            return session.request(method, url, json=body, data=data, headers=headers, timeout=DEADLINE_SECONDS)

    def call(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """Send a request, check the answer's status, and return what it says."""
        answer = self.request(method, path, body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def announce(self, name: str, content: bytes, algorithm: str = "md5") -> Any:
        """Announce a file."""
        checksum = hashlib.new(algorithm, content).hexdigest()
        return self.call("POST", "/files", {"name": name, "checksum": checksum})

    def confirm(self, announced: Any, *, status: int = 200) -> Any:
        """Confirm an announced file."""
        return self.call("PUT", f"/files/{announced['id']['site']}", {"contentUploaded": True}, status=status)

    def upload(self, name: str, content: bytes, algorithm: str = "md5") -> Any:
        """Announce a file, send its bytes with curl, and confirm it."""
        announced = self.announce(name, content, algorithm)
        status, answer = send(announced, content)
        assert status in (200, 204), answer
        return self.confirm(announced)

    def fetch(self, file: Any) -> bytes:
        """Return a confirmed file's bytes, by its download address."""
        status, content = curl(self.find_url(file))
        assert status == 200, content
        return content

    def find_url(self, file: Any) -> str:
        """Return a download address."""
        url: str = self.call("GET", f"/rpc/get-file-url/{file['id']['site']}")["fileUrl"]
        return url


def curl(*words: str) -> tuple[int, bytes]:
    """Run curl and return the status and the body of the answer."""
    assert shutil.which("curl"), "install curl"
    command = ["curl", "-sS", "-w", "\n%{http_code}", *words]
    done = subprocess.run(command, check=True, capture_output=True, env=make_environment())
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def send(announced: Any, content: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Send bytes to where an announced file wants them, with its headers or others."""
    headers = announced["requestHeaders"] if headers is None else headers
    lines = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return curl("-T", file.name, *lines, announced["urlToUpload"])


def run_main_job(lab: Api, bot: Api, sample: str) -> Any:
    """Upload, stage, submit, let the service answer with an accession and a report; return the set as it sees it."""
    reads = {name: lab.upload(name, f"@{name}".encode()) for name in (f"{sample}_R1.fastq", f"{sample}_R2.fastq")}
    record = RECORD | {"Lab-ID": sample} | dict(zip(("FileR1", "FileR2"), reads, strict=True))
    staged = lab.call("POST", "/metadatasets", {"record": record})
    submission = {
        "metadatasetIds": [staged["id"]["site"]],
        "fileIds": [file["id"]["site"] for file in reads.values()],
        "label": sample,
    }
    lab.call("POST", "/presubvalidation", submission, status=204)
    lab.call("POST", "/submissions", submission)
    fields = {field["name"]: field for field in lab.call("GET", "/metadata")}
    service = fields["Accession"]["serviceId"]["site"]
    awaiting = bot.call("GET", f"/metadatasets?awaitingService={service}")
    assert staged["id"] in [waiting["id"] for waiting in awaiting]
    report = bot.upload(f"{sample}_report.txt", b"all is well")
    result = {
        "record": {"Accession": f"ACC-{sample}", "Report": report["name"]},
        "fileIds": [report["id"]["site"]],
    }
    bot.call("POST", f"/service-execution/{service}/{staged['id']['site']}", result)
    return bot.call("GET", f"/metadatasets/{staged['id']['site']}")
