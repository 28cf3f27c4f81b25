"""An upload survives whatever becomes of its process: it goes on where it was, and no byte is lost or changed.

``DATAMETA_RESUME_BYTES`` says how large the file is.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.client.conftest import PART_BYTES, serve_behind_proxy
from tests.e2e.conftest import DATAMETA, DEADLINE_SECONDS, Api, Served, make_environment
from tests.faults.proxy import CutError, Proxy, Way, pass_all

SIZE = int(os.environ.get("DATAMETA_RESUME_BYTES", str(512 << 20)))
KILLS = 20
PATCHES = 200
# What requests and their answers need beside the content, for each run.
OVERHEAD_BYTES = 64 << 10


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Proxy]]:
    with serve_behind_proxy(tmp_path_factory.mktemp("resume")) as both:
        yield both


def make_file(path: Path, size: int) -> str:
    """Write a large file that takes little of the disk, other for each name; return its SHA-256."""
    chance = random.Random(f"{path.name} {size}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(PATCHES):
            file.seek(chance.randrange(size - 4096))
            file.write(chance.randbytes(4096))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def uploading(path: Path, api: Api, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the uploader until the block ends."""
    environment = make_environment(DATAMETA_URL=api.address, DATAMETA_TOKEN=api.token)
    command = [DATAMETA, "upload", "--json", *words, path]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_bytes(process: "subprocess.Popen[str]", proxy: Proxy, number: int) -> None:
    """Wait until so many bytes in all have been sent by a process that has more to send."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while proxy.bytes_up < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, proxy.bytes_up
        time.sleep(0.002)


def finish(path: Path, api: Api, *words: str) -> Any:
    """Run the uploader to its end, which must be a good one, and return what it says."""
    with uploading(path, api, *words) as process:
        printed, log = process.communicate()
    assert process.returncode == 0, log
    return json.loads(printed)


def hash_download(api: Api, file: Any) -> str:
    """Return the SHA-256 of what the portal gives."""
    digest = hashlib.sha256()
    with requests.get(api.find_url(file), stream=True, timeout=DEADLINE_SECONDS) as answer:
        assert answer.status_code == 200
        for chunk in answer.iter_content(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@pytest.mark.parametrize("jobs", [1, 4])
def test_an_upload_that_is_killed_again_and_again_sends_little_twice(
    proxied: tuple[Served, Proxy], tmp_path: Path, jobs: int
) -> None:
    served, proxy = proxied
    api = served.open_lab()
    name = f"run-{jobs}.fastq.gz"
    expected = make_file(tmp_path / "here" / name, SIZE)
    (tmp_path / "there").mkdir()
    os.link(tmp_path / "here" / name, tmp_path / "there" / name)
    before = proxy.bytes_up
    points = sorted(random.Random(jobs).sample(range(SIZE), KILLS))
    for number, point in enumerate(points):
        folder = tmp_path / ("here", "there")[number % 2]
        with uploading(folder / name, api, "--jobs", str(jobs)) as process:
            wait_for_bytes(process, proxy, before + point)
    said = finish(tmp_path / "here" / name, api, "--jobs", str(jobs))
    assert (said["state"], said["size"]) == ("confirmed", SIZE)
    sent = proxy.bytes_up - before
    assert SIZE <= sent <= SIZE + KILLS * jobs * PART_BYTES + (KILLS + 1) * OVERHEAD_BYTES
    print(f"{sent:,} bytes sent of {SIZE:,}: {(sent - SIZE) / PART_BYTES:.1f} parts twice, after {KILLS} kills")
    assert hash_download(api, said) == expected
    assert [file["id"] for file in api.call("GET", "/staged/files") if file["name"] == name] == [said["id"]]


def test_an_upload_survives_a_closed_laptop(proxied: tuple[Served, Proxy], tmp_path: Path) -> None:
    served, proxy = proxied
    api = served.open_lab()
    path = tmp_path / "laptop.fastq.gz"
    size = 8 * PART_BYTES
    expected = make_file(path, size)
    before = proxy.bytes_up
    cut: list[int] = []

    def refuse(way: Way, piece: bytes, passed: int) -> None:
        cut.append(len(piece))
        raise CutError

    with uploading(path, api) as process:
        wait_for_bytes(process, proxy, before + size // 3)
        process.send_signal(signal.SIGSTOP)
        proxy.rule = refuse
        process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(cut) < 8:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        proxy.rule = pass_all
        printed, log = process.communicate()
    assert process.returncode == 0, log
    assert "trying again" in log
    assert hash_download(api, json.loads(printed)) == expected


def test_who_interrupts_an_upload_is_told_how_it_goes_on(proxied: tuple[Served, Proxy], tmp_path: Path) -> None:
    served, proxy = proxied
    api = served.open_lab()
    path = tmp_path / "interrupted.fastq.gz"
    size = 8 * PART_BYTES
    expected = make_file(path, size)
    with uploading(path, api) as process:
        wait_for_bytes(process, proxy, proxy.bytes_up + size // 3)
        process.send_signal(signal.SIGINT)
        printed, log = process.communicate()
    assert (process.returncode, printed) == (3, "")
    assert log == "Interrupted. Run the same command again: it goes on from here.\n"
    before = proxy.bytes_up
    assert hash_download(api, finish(path, api)) == expected
    assert proxy.bytes_up - before < size
