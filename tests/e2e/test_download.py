"""A whole submission comes back as it was handed in, also if the first try was cut off."""

import hashlib
import json
import os
import pty
import subprocess
import time
from pathlib import Path

import pytest

from tests.client.test_download import check_sums
from tests.e2e.conftest import DATAMETA, DEADLINE_SECONDS, RECORD, Served, make_environment

SIZE = 200 << 20


@pytest.fixture
def environment(served_demo: Served) -> dict[str, str]:
    """The environment of the lab's computer."""
    return make_environment(DATAMETA_URL=served_demo.address, DATAMETA_TOKEN=served_demo.read_demo()["lab_key"])


def test_a_submission_is_handed_in_and_fetched(
    served_demo: Served, environment: dict[str, str], tmp_path: Path
) -> None:
    sources = tmp_path / "from"
    sources.mkdir()
    for name, size in (("fetch_R1.fastq.gz", SIZE), ("fetch_R2.fastq.gz", 20 << 20)):
        with (sources / name).open("wb") as file:
            file.write(os.urandom(1 << 20))
            file.truncate(size)
    paths = sorted(sources.iterdir())
    uploaded = subprocess.run([DATAMETA, "upload", "--json", *paths], env=environment, check=True, capture_output=True)
    ids = {said["name"]: said["id"]["site"] for said in map(json.loads, uploaded.stdout.splitlines())}
    lab = served_demo.open_lab()
    record = RECORD | {"Lab-ID": "fetch"} | dict(zip(("FileR1", "FileR2"), ids, strict=True))
    staged = lab.call("POST", "/metadatasets", {"record": record})
    body = {"metadatasetIds": [staged["id"]["site"]], "fileIds": list(ids.values())}
    submission = lab.call("POST", "/submissions", body)["id"]["site"]

    target = tmp_path / "to"
    command = [DATAMETA, "download", submission, "--to", target]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not any(part.stat().st_size > SIZE // 10 for part in target.glob("*.part")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
    assert not (target / "fetch_R1.fastq.gz").exists()
    done = subprocess.run([*command, "--json"], env=environment, check=True, capture_output=True, text=True)
    said = {file["name"]: file for file in map(json.loads, done.stdout.splitlines())}
    assert {name: file["id"]["site"] for name, file in said.items()} == ids
    assert all(file["error"] is None for file in said.values())
    assert sorted(check_sums(target)) == [f"{path.name}: OK" for path in paths]
    for path in paths:
        with path.open("rb") as was, (target / path.name).open("rb") as came:
            assert hashlib.file_digest(was, "sha256").digest() == hashlib.file_digest(came, "sha256").digest()
    assert {path.name for path in target.iterdir()} == {*ids, "manifest.json", "SHA256SUMS"}


def test_on_a_terminal_there_are_bars(environment: dict[str, str], tmp_path: Path) -> None:
    paths = [tmp_path / "seen", tmp_path / "also seen"]
    for path in paths:
        path.write_bytes(os.urandom(17 << 20))
    master, terminal = pty.openpty()
    environment |= {"TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen([DATAMETA, "upload", *paths], env=environment, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(master, 65536):
                shown += piece
        except OSError:
            # Linux says so when the other side is closed.
            pass
    os.close(master)
    assert process.returncode == 0
    text = shown.decode()
    assert all(words in text for words in ("all 2 files", "sending", "━", "confirmed")), text
