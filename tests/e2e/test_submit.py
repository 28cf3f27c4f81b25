"""A submission survives whatever becomes of its process: run again it is one, whole, and nothing else is left.

``DATAMETA_SUBMIT_KILLS`` says how often the process is killed at a point of chance.
"""

import hashlib
import json
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import PART_BYTES, serve_behind_proxy
from tests.client.sheets import make_row, write_csv
from tests.e2e.conftest import DATAMETA, DEADLINE_SECONDS, Api, Served, make_environment
from tests.faults.proxy import CutError, Proxy, Way, pass_all

KILLS = int(os.environ.get("DATAMETA_SUBMIT_KILLS", "8"))
ROWS = 12
LARGE_BYTES = 2 * PART_BYTES + 99
# A run may have been killed so often; the next one is left alone.
MOST_KILLS_OF_ONE = 3


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Proxy]]:
    with serve_behind_proxy(tmp_path_factory.mktemp("submit")) as both:
        yield both


@dataclass
class Killer:
    """Count the pieces that pass, and kill a process at one of them, which is lost or not."""

    point: int | None = None
    is_passed: bool = False
    pieces: int = 0
    process: "subprocess.Popen[str] | None" = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, way: Way, piece: bytes, before: int) -> None:
        with self.lock:
            self.pieces += 1
            if self.point is None or self.pieces < self.point:
                return
            is_passed = self.is_passed and self.pieces == self.point
            assert self.process is not None
            self.process.kill()
        raise CutError(is_passed=is_passed)


@dataclass(frozen=True)
class Work:
    """A sheet, the folder of its files, and who submits it."""

    sheet: Path
    folder: Path
    api: Api
    proxy: Proxy

    def run(self, killer: Killer) -> "subprocess.CompletedProcess[str]":
        """Run the command, which may be killed."""
        address = f"http://{self.proxy.netloc}"
        environment = make_environment(DATAMETA_URL=address, DATAMETA_TOKEN=self.api.token)
        command = [str(DATAMETA), "submit", "--json", str(self.sheet), "--files", str(self.folder), "--label", "kills"]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            killer.process = process
            self.proxy.rule = killer
            printed, log = process.communicate(timeout=DEADLINE_SECONDS)
        self.proxy.rule = pass_all
        return subprocess.CompletedProcess(command, process.returncode, printed, log)

    def check(self, said: Any) -> None:
        """Check that there is one submission of all rows and files, and nothing beside it."""
        group = self.api.call("GET", "/rpc/whoami")["group"]["id"]["site"]
        rows = {row["id"]["uuid"] for row in said["rows"]}
        assert len(rows) == ROWS
        holding = [
            each
            for each in self.api.call("GET", f"/groups/{group}/submissions")
            if rows & {each_id["uuid"] for each_id in each["metadatasetIds"]}
        ]
        [submission] = holding
        assert submission["id"] == said["submission"]["id"]
        assert {each["uuid"] for each in submission["metadatasetIds"]} == rows
        files = self.api.call("GET", f"/submissions/{submission['id']['site']}/files?limit=1000")
        assert {file["name"]: file["checksum"] for file in files} == {
            path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in self.folder.iterdir()
        }
        assert self.api.call("GET", "/staged/files") == []
        assert self.api.call("GET", "/staged/metadatasets") == []


def prepare(folder: Path, name: str, api: Api, proxy: Proxy) -> Work:
    """Write a sheet and its files, one of which goes in parts."""
    files = folder / "raw"
    files.mkdir(parents=True)
    rows = [make_row(f"{name}-{number}") for number in range(ROWS)]
    for number, row in enumerate(rows):
        content = random.Random(row["FileR1"]).randbytes(LARGE_BYTES if number == 5 else 1000 * number)
        (files / row["FileR1"]).write_bytes(content)
    return Work(write_csv(folder / "sheet.csv", *rows), files, api, proxy)


def test_a_submission_that_is_killed_anywhere_is_one_submission(proxied: tuple[Served, Proxy], tmp_path: Path) -> None:
    served, proxy = proxied
    api = served.open_lab()
    whole = prepare(tmp_path / "whole", "whole", api, proxy)
    counter = Killer()
    done = whole.run(counter)
    assert done.returncode == 0, done.stderr
    whole.check(json.loads(done.stdout))
    kills = 0
    taken_up = 0
    chance = random.Random(KILLS)
    for number in range(KILLS):
        work = prepare(tmp_path / str(number), f"killed-{number}", api, proxy)
        # The first point is of an even share of the way, so that each stage has its turn.
        share = (number + chance.random()) / KILLS
        for _ in range(MOST_KILLS_OF_ONE):
            done = work.run(Killer(max(1, round(share * counter.pieces)), chance.random() < 0.5))
            if done.returncode == 0:
                break
            assert done.returncode == -9, (done.returncode, done.stderr)
            kills += 1
            share = chance.random()
        else:
            done = work.run(Killer())
            assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        taken_up += said["alreadySubmitted"]
        work.check(said)
    assert kills >= KILLS / 2
    print(f"{kills} kills of {KILLS} submissions; {taken_up} had been made when they were killed")


# Of each of these the answer is lost with the process.
LAST_WORDS = (b"POST /api/v1/sheets/stage?", b"POST /api/v1/presubvalidation ", b"POST /api/v1/submissions ")


@pytest.mark.parametrize("words", LAST_WORDS)
def test_a_run_that_is_killed_when_the_portal_answers_is_gone_on_with(
    proxied: tuple[Served, Proxy], tmp_path: Path, words: bytes
) -> None:
    served, proxy = proxied
    api = served.open_lab()
    work = prepare(tmp_path, words.decode().split("/")[-1].strip("? "), api, proxy)

    class KillerAtAnswer(Killer):
        is_asked = False

        def __call__(self, way: Way, piece: bytes, before: int) -> None:
            self.is_asked = self.is_asked or (way is Way.UP and words in piece)
            if self.is_asked and way is Way.DOWN:
                assert self.process is not None
                self.process.kill()
                raise CutError

    assert work.run(KillerAtAnswer()).returncode == -9
    done = work.run(Killer())
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["alreadySubmitted"] == (words == LAST_WORDS[-1])
    assert not any(row["isNew"] for row in said["rows"])
    work.check(said)
