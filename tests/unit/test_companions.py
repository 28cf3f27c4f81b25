"""Companions of the server: processes beside its workers, kept alive, reloaded and stopped with them."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import DEADLINE_SECONDS, poll

PROGRAM = """
import logging, os, sys, threading
from pathlib import Path
from datameta import server, supervisor

home = Path(sys.argv[1])
supervisor.GRACE_SECONDS = float(sys.argv[2])
logging.basicConfig(level="INFO")

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served"]

def accompany(announce):
    if (home / "broken").exists():
        raise RuntimeError("no queue")
    told = threading.Event()
    announce(told.set)
    (home / "companions" / str(os.getpid())).touch()
    told.wait()
    (home / "told").touch()
    if (home / "busy").exists():
        threading.Event().wait()

sys.exit(server.serve(
    lambda: app, host="127.0.0.1", port=0, workers=1, threads=1, body_max_bytes=1000, upload_max_bytes=1000,
    upload_prefix="/upload", sheet_max_bytes=1000, sheet_prefix="/sheets",
    spool=home / "spool", announce=lambda url: (home / "url").write_text(url),
    companions=[accompany],
))
"""


def is_running(pid: int) -> bool:
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(shown.strip()) and not shown.strip().startswith("Z")


class Portal:
    """A server with one companion."""

    def __init__(self, home: Path, grace: float = 10) -> None:
        self.home = home
        (home / "companions").mkdir()
        with (home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(home), str(grace)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_serving(self) -> bool:
        url = self.home / "url"
        return url.exists() and bool(url.read_text())

    def companions(self) -> set[int]:
        """Return the companions that run."""
        return {pid for pid in (int(path.name) for path in (self.home / "companions").iterdir()) if is_running(pid)}

    def log(self) -> str:
        return (self.home / "log").read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Portal]]:
    started: list[Portal] = []

    def start_portal(**options: Any) -> Portal:
        started.append(Portal(tmp_path, **options))
        return started[-1]

    yield start_portal
    for portal in started:
        left = portal.companions()
        portal.process.kill()
        portal.process.wait()
        for pid in left:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def portal(start: Callable[..., Portal]) -> Portal:
    made = start()
    poll(made.is_serving)
    poll(made.companions)
    return made


def test_a_companion_serves_nothing_and_stops_when_told(portal: Portal) -> None:
    with urllib.request.urlopen((portal.home / "url").read_text()) as response:
        assert response.read() == b"served"
    portal.process.send_signal(signal.SIGTERM)
    assert portal.process.wait(DEADLINE_SECONDS) == 0
    assert (portal.home / "told").exists()
    assert portal.companions() == set()


def test_a_companion_that_died_is_replaced(portal: Portal) -> None:
    [former] = portal.companions()
    os.kill(former, signal.SIGKILL)
    [later] = poll(lambda: portal.companions() - {former})
    assert later != former
    assert f"worker {former} ended with -9" in portal.log()


def test_a_companion_is_reloaded_with_the_workers(portal: Portal) -> None:
    [former] = portal.companions()
    portal.process.send_signal(signal.SIGHUP)
    poll(lambda: portal.companions() and former not in portal.companions())
    assert (portal.home / "told").exists()
    assert "reloaded: 2 new workers" in portal.log()


def test_a_companion_that_cannot_start_ends_the_server(start: Callable[..., Portal], tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    portal = start()
    assert portal.process.wait(DEADLINE_SECONDS) == 1
    assert "no queue" in portal.log()
    assert not portal.is_serving()


def test_a_companion_ends_when_the_parent_is_killed(portal: Portal) -> None:
    portal.process.kill()
    portal.process.wait()
    poll(lambda: not portal.companions())
    assert (portal.home / "told").exists()


def test_a_busy_companion_is_cut_off_after_the_grace(start: Callable[..., Portal], tmp_path: Path) -> None:
    (tmp_path / "busy").touch()
    portal = start(grace=0.2)
    poll(portal.is_serving)
    poll(portal.companions)
    portal.process.send_signal(signal.SIGTERM)
    assert portal.process.wait(DEADLINE_SECONDS) == 0
    assert "cut off a companion" in portal.log()
