"""The served portal: whoever runs it, whatever is killed, and however much or little a client sends."""

import hashlib
import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from datameta.clock import to_wire, utc_now
from tests.e2e.conftest import (
    DATAMETA,
    DEADLINE_SECONDS,
    Api,
    Served,
    make_environment,
    run_main_job,
    send,
    serve,
    serve_cleanly,
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 1024**2
BLOCK = bytes(MIB)
LARGE, MARGIN = 256, 32
RIGHT, OTHER = b"ACGT" * 50_000, b"TGCA" * 50_000


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that an ordinary user owns, where root runs the tests; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp())
    shutil.chown(folder, "nobody")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to become somebody else")
def test_an_ordinary_user_runs_a_portal(open_folder: Path, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    prefix = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    if subprocess.run([*prefix, DATAMETA, "--version"], check=False, cwd="/", capture_output=True).returncode:
        pytest.skip("an ordinary user may not read this environment")
    home = open_folder / "home"
    with serve(
        home, tmp_path, "--demo", prefix=prefix, cwd=open_folder, variables={"HOME": str(open_folder)}
    ) as served:
        seen = run_main_job(served.open_lab(), served.open_bot(), "N1")
        assert seen["record"]["Accession"] == "ACC-N1"
        assert {path.owner() for path in home.iterdir()} == {"nobody"}
        assert served.stop() == 0
        assert "Traceback" not in served.log


def test_a_killed_portal_starts_again_with_all_it_had(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    with serve(home, folders[0], "--demo") as served:
        run_main_job(served.open_lab(), served.open_bot(), "K1")
        before = served.read_demo()
        served.process.kill()
        served.process.wait()
    with serve_cleanly(home, folders[1], "--demo") as served:
        assert served.read_demo() == before
        [found] = served.open_bot().call("GET", "/metadatasets")
        assert found["record"]["Accession"] == "ACC-K1"
        assert served.open_lab().fetch({"id": found["fileIds"]["FileR1"]}) == b"@K1_R1.fastq"
        assert run_main_job(served.open_lab(), served.open_bot(), "K2")["record"]["Accession"] == "ACC-K2"
    assert not (home / "postgres" / "postmaster.pid").exists()


@on_linux
def test_the_death_of_a_worker_goes_unnoticed(served_demo: Served) -> None:
    before = served_demo.workers
    # Two that serve, and one that does the jobs.
    assert len(before) == 3
    os.kill(before[0], signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while before[0] in served_demo.workers:
        assert time.monotonic() < deadline
    while len(now := served_demo.workers) < 3:
        served_demo.open_lab().call("GET", "/rpc/whoami")
        assert time.monotonic() < deadline
    assert before[1] in now


def read_peaks(served: Served) -> dict[int, int]:
    """Return the most memory that each worker ever had, in MiB."""
    peaks = {}
    for pid in served.workers:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        peaks[pid] = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024
    return peaks


def send_stream(announced: Any, head: bytes, blocks: int, tail: bytes, method: str, content_type: str) -> int:
    """Send ``blocks`` MiB of zeros between ``head`` and ``tail``, and return the status."""
    url = urlsplit(announced["urlToUpload"])
    assert url.hostname
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=DEADLINE_SECONDS)
    length = len(head) + blocks * MIB + len(tail)
    headers = announced["requestHeaders"] | {"Content-Length": str(length), "Content-Type": content_type}
    connection.request(method, url.path, iter([head, *[BLOCK] * blocks, tail]), headers)
    status = connection.getresponse().status
    connection.close()
    return status


@on_linux
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_large_upload_takes_no_memory(served_demo: Served, method: str) -> None:
    lab = served_demo.open_lab()
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="zeros"\r\n\r\n' if method == "POST" else b""
    tail = b"\r\n--b--\r\n" if method == "POST" else b""
    content_type = "multipart/form-data; boundary=b" if method == "POST" else "application/octet-stream"
    digest = hashlib.md5()
    for _ in range(LARGE):
        digest.update(BLOCK)
    announced = lab.call("POST", "/files", {"name": f"zeros-{method}", "checksum": digest.hexdigest()})
    before = read_peaks(served_demo)
    assert send_stream(announced, head, LARGE, tail, method, content_type) == 204
    confirmed = lab.confirm(announced)
    after = read_peaks(served_demo)
    assert confirmed["filesize"] == LARGE * MIB
    assert {pid: after[pid] - before[pid] for pid in before if after[pid] - before[pid] >= MARGIN} == {}
    lab.call("DELETE", f"/files/{announced['id']['site']}", status=204)


def break_off(announced: Any, content: bytes) -> None:
    """Send half of the content and hang up; return when the portal has noticed."""
    url = urlsplit(announced["urlToUpload"])
    lines = [
        f"PUT {url.path} HTTP/1.1",
        f"Host: {url.netloc}",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in announced["requestHeaders"].items()),
    ]
    with socket.create_connection((url.hostname, url.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + content[: len(content) // 2])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_a_broken_transfer_leaves_the_former_content(served_demo: Served) -> None:
    lab = served_demo.open_lab()
    announced = lab.announce("kept", RIGHT)
    send(announced, RIGHT)
    break_off(announced, OTHER)
    assert lab.confirm(announced)["filesize"] == len(RIGHT)
    assert lab.fetch(announced) == RIGHT


def test_a_broken_transfer_is_not_taken_for_the_content(served_demo: Served) -> None:
    lab = served_demo.open_lab()
    announced = lab.announce("half", RIGHT)
    break_off(announced, RIGHT)
    assert lab.confirm(announced, status=400)[0]["error_code"] == "no_data"
    send(announced, OTHER)
    break_off(announced, RIGHT)
    assert lab.confirm(announced, status=409)[0]["error_code"] == "checksum_mismatch"
    send(announced, RIGHT)
    assert lab.fetch(lab.confirm(announced)) == RIGHT


def test_a_json_body_that_is_too_large_is_refused_in_json(served_demo: Served) -> None:
    lab = served_demo.open_lab()
    answer = lab.request("POST", "/metadatasets", {"record": {"Lab-ID": "x" * (17 * MIB)}})
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/json"
    [problem] = answer.json()
    assert problem["error_code"] == "too_large"


def test_every_refusal_of_the_served_portal_is_a_list_of_problems(served_demo: Served) -> None:
    lab = served_demo.open_lab()
    stranger = Api(served_demo.address, "x" * 64)
    path = "/metadatasets"
    answers = {
        401: stranger.request("GET", "/rpc/whoami"),
        404: lab.request("GET", "/nothing"),
        405: lab.request("PUT", "/server"),
        400: lab.request("POST", path, data=b"{", headers={"Content-Type": "application/json"}),
        415: lab.request("POST", path, data=b"a=b", headers={"Content-Type": "text/csv"}),
        431: lab.request("GET", path, headers={"X-Long": "x" * 100_000}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "application/json"
        assert {"exception", "error_code", "message"} <= json.loads(answer.content)[0].keys()


@on_linux
def test_a_reload_takes_up_the_settings_file_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    config = tmp_path / "portal.ini"

    def write(line: str) -> None:
        config.write_text(f"[app:main]\n{line}\n", "utf-8")

    write("datameta.api_key_max_days = 365")
    later = {"label": "x", "expires": to_wire(utc_now() + timedelta(days=100))}
    with serve(tmp_path / "home", tmp_path, "--demo", "--config", str(config)) as served:
        lab = served.open_lab()
        email, password = next(iter(served.read_demo()["passwords"].items()))

        def reload(words: str) -> None:
            served.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + DEADLINE_SECONDS
            while words not in served.log:
                lab.call("GET", "/rpc/whoami")
                assert time.monotonic() < deadline, served.log

        def add_key() -> int:
            stranger = Api(served.address, "")
            body = {"email": email, "password": password, **later}
            return stranger.request("POST", "/keys", body, headers={"Authorization": ""}).status_code

        assert add_key() == 200
        write("datameta.api_key_max_days = 10")
        reload("reloaded: 3 new workers")
        assert add_key() == 400
        write("datameta.api_key_max_days = many")
        reload("the reload failed; the former workers go on")
        assert "datameta.api_key_max_days must be a whole number" in served.log
        assert add_key() == 400
        assert served.stop() == 0


@pytest.mark.parametrize("name", ["a file", pytest.param("none", marks=on_linux)])
def test_whoever_starts_it_is_told_when_it_is_ready(tmp_path: Path, name: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        # Without a name, Linux gives it one that is no file's.
        line.bind(str(tmp_path / "notify") if name == "a file" else "")
        line.settimeout(DEADLINE_SECONDS)
        place = line.getsockname()
        variables = {"NOTIFY_SOCKET": place if isinstance(place, str) else "@" + place[1:].decode("ascii")}
        with serve_cleanly(tmp_path / "home", tmp_path, variables=variables):
            assert line.recv(100) == b"READY=1"


def test_a_worker_says_when_it_is_ready(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(DEADLINE_SECONDS)
        environment = make_environment(NOTIFY_SOCKET=str(tmp_path / "notify"))
        worker = subprocess.Popen([DATAMETA, "worker", "--home", tmp_path / "home"], env=environment)
        try:
            assert line.recv(100) == b"READY=1"
        finally:
            worker.terminate()
            assert worker.wait(DEADLINE_SECONDS) == 0
