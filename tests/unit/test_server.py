"""The server runs as a process of its own and is spoken to over real sockets."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waitress import utilities
from waitress.buffers import OverflowableBuffer
from waitress.receiver import ChunkedReceiver, FixedStreamReceiver

from datameta import server as server_module
from datameta.headers import ONLY_TLS, SECURITY_HEADERS
from datameta.server import (
    CHUNK_HEADER_MAX_BYTES,
    HEADER_MAX_BYTES,
    MULTIPART_BYTES,
    REFUSALS,
    UPLOAD_THREADS,
    Server,
    ServerError,
    bind,
)
from tests.unit.conftest import DEADLINE_SECONDS, poll

BODY_MAX = 2_000_000
UPLOAD_MAX = 3_000_000
SHEET_MAX = 2_500_000
UPLOAD = "/api/v1/upload/1"

PROGRAM = f"""
import json, logging, os, sys, tempfile, time
from pathlib import Path
from datameta.errors import DataMetaError, TooLargeError
from datameta.server import ServerError, serve

home, workers, port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
logging.basicConfig(level="INFO")

def app(environ, start_response):
    if environ["PATH_INFO"] == "/crash":
        raise RuntimeError("a secret")
    if environ["PATH_INFO"] == "/wait":
        (home / "running").touch()
        deadline = time.monotonic() + 60
        while not (home / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    body = environ["wsgi.input"]
    size = 0
    try:
        while piece := body.read(1 << 20):
            size += len(piece)
            (home / "reading").touch()
    except DataMetaError as error:
        status = "413 Too Large" if isinstance(error, TooLargeError) else "400 Bad Request"
        problem = {{"exception": type(error).__name__, "error_code": error.problems[0].code, "message": str(error)}}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps([problem]).encode()]
    is_spooled = size > 1 << 20 and not environ["PATH_INFO"].startswith("/api")
    links = os.fstat(body.fileno()).st_nlink if is_spooled else None
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr((os.getpid(), size, tempfile.gettempdir(), links)).encode()]

def make_app():
    if (home / "broken").exists():
        raise RuntimeError("the schema is too old")
    (home / "starting").touch()
    deadline = time.monotonic() + 60
    while (home / "held").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return app

try:
    code = serve(make_app, host="127.0.0.1", port=port, workers=workers, threads=4, body_max_bytes={BODY_MAX},
                 upload_max_bytes={UPLOAD_MAX}, upload_prefix="/api/v1/upload/", sheet_max_bytes={SHEET_MAX},
                 sheet_prefix="/api/v1/sheets/", spool=home / "spool", base_url="https://data.example.org",
                 announce=lambda url: print("ready at", url, flush=True))
except ServerError as error:
    sys.exit(str(error))
print("ended", flush=True)
sys.exit(code)
"""


def is_running(pid: int) -> bool:
    """Say whether a process still works; one that waits for its parent to take notice does not."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(shown.strip()) and not shown.strip().startswith("Z")


class Portal:
    """A server process, where it listens and what it has written."""

    def __init__(self, home: Path, workers: int = 1, port: int = 0) -> None:
        self.home = home
        with (home / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(home), str(workers), str(port)],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    def await_ready(self) -> "Portal":
        self.port = int(poll(lambda: re.search(r"ready at http://127\.0\.0\.1:(\d+)\n", self.log))[1])
        return self

    def await_log(self, text: str, times: int = 1) -> None:
        poll(lambda: self.log.count(text) >= times)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_SECONDS)

    def request(self, method: str = "GET", path: str = "/", **more: Any) -> tuple[int, Any]:
        """Send one request on its own connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, **more)
            return read_answer(connection.getresponse())
        finally:
            connection.close()

    def send(self, *pieces: bytes) -> tuple[int, Any]:
        """Send bytes as they are and read the one answer."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return read_answer(response)

    def pid(self) -> int:
        """Ask which worker answers."""
        return int(self.request()[1][0])

    def pids(self, count: int) -> set[int]:
        """Ask until ``count`` workers have answered."""
        found: set[int] = set()

        def ask() -> bool:
            found.add(self.pid())
            return len(found) == count

        poll(ask)
        return found


def read_answer(response: http.client.HTTPResponse) -> tuple[int, Any]:
    """Read the app's tuple, or a refusal, which must have the contract's shape."""
    body = response.read().decode()
    if response.status < 400:
        return response.status, eval(body)
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Content-Length"] == str(len(body))
    assert response.headers.get_all("Connection") == ["close"]
    assert response.headers["Server"] == "datameta"
    problems = json.loads(body)
    assert [set(problem) for problem in problems] == [{"exception", "error_code", "message"}]
    return response.status, problems[0]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Portal]]:
    """Start portals, and kill what is left of them."""
    portals: list[Portal] = []

    def start_portal(workers: int = 1, port: int = 0, state: str = "sound") -> Portal:
        home = tmp_path / str(len(portals))
        home.mkdir()
        (home / state).touch()
        portals.append(Portal(home, workers, port))
        return portals[-1]

    yield start_portal
    for portal in portals:
        portal.process.kill()
        portal.process.wait()


@pytest.fixture
def portal(start: Callable[..., Portal]) -> Portal:
    return start().await_ready()


def test_pins_what_the_server_relies_on_in_waitress() -> None:
    # Private to waitress in spirit: how much of a body, or of a chunk, is still to come.
    buffer = OverflowableBuffer(1)
    assert FixedStreamReceiver(5, buffer).remain == 5
    chunked = ChunkedReceiver(buffer)
    chunked.received(b"5;name=value\r\nab")
    assert chunked.chunk_remainder == 3
    chunked.received(b"cde\r\n7f")
    assert (chunked.control_line, chunked.trailer, len(chunked)) == (b"7f", b"", 5)
    # Every error waitress knows has its JSON.
    kinds: list[Any] = [kind for kind in vars(utilities).values() if isinstance(kind, type)]
    assert {kind.code for kind in kinds if issubclass(kind, utilities.Error)} == set(REFUSALS)


@pytest.mark.parametrize(
    ("request_bytes", "status", "error_code"),
    [
        (b"hello\r\n\r\n", 400, "malformed_request"),
        (b"get / HTTP/1.1\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer t0ken\n\r\n\r\n", 400, "malformed_request"),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "malformed_request"),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * HEADER_MAX_BYTES + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET /crash HTTP/1.1\r\n\r\n", 500, "internal_error"),
        (b"GET /crash HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 500, "internal_error"),
    ],
)
def test_every_refusal_of_the_server_is_json(
    portal: Portal, request_bytes: bytes, status: int, error_code: str
) -> None:
    answer, problem = portal.send(request_bytes)
    assert (answer, problem["error_code"]) == (status, error_code)
    assert "secret" not in str(problem)
    assert "t0ken" not in str(problem)


@pytest.mark.parametrize("request_bytes", [b"hello\r\n\r\n", b"GET /crash HTTP/1.1\r\n\r\n"])
def test_every_refusal_of_the_server_has_the_headers_of_every_answer(portal: Portal, request_bytes: bytes) -> None:
    with portal.connect() as connection:
        connection.sendall(request_bytes)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
    assert (SECURITY_HEADERS | ONLY_TLS).items() <= dict(answer.headers).items()
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_crash_is_logged(portal: Portal) -> None:
    assert portal.request(path="/crash")[0] == 500
    assert "RuntimeError: a secret" in portal.log


def chunk(size: int) -> bytes:
    return b"%x\r\n%s\r\n" % (size, bytes(size))


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("PUT", "/", BODY_MAX),
        ("PUT", UPLOAD, UPLOAD_MAX + MULTIPART_BYTES),
        ("PUT", "//api/v1/upload/1", BODY_MAX),
        ("POST", "/api/v1/sheets/check", SHEET_MAX),
    ],
)
def test_body_limit_depends_on_the_path(portal: Portal, method: str, path: str, limit: int) -> None:
    status, (_, size, _, _) = portal.request(method, path, body=bytes(limit))
    assert (status, size) == (200, limit)
    status, problem = portal.request(method, path, body=bytes(limit + 1))
    assert (status, problem["error_code"]) == (413, "too_large")
    assert f"{limit} bytes" in problem["message"]


def test_limit_of_chunked_bodies_is_on_their_content(portal: Portal) -> None:
    # Five bytes of framing for each byte of content.
    head = f"PUT {UPLOAD} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    size = UPLOAD_MAX // 4
    status, answer = portal.send(head, b"1\r\nx\r\n" * size, b"0\r\n\r\n")
    assert (status, answer[1]) == (200, size)
    status, answer = portal.send(head, chunk(UPLOAD_MAX), b"0\r\n\r\n")
    assert (status, answer[1]) == (200, UPLOAD_MAX)


def test_chunked_body_is_refused_as_it_grows(portal: Portal) -> None:
    head = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    # The last chunk never comes.
    assert portal.send(head, *[chunk(BODY_MAX // 10)] * 12)[0] == 413


@pytest.mark.parametrize("start_of_chunk", [b"5;", b"0\r\n"])
def test_framing_of_chunks_has_a_limit(portal: Portal, start_of_chunk: bytes) -> None:
    head = f"PUT {UPLOAD} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert portal.send(head, start_of_chunk, b"x" * (CHUNK_HEADER_MAX_BYTES + 1))[0] == 400


def test_too_long_a_body_is_refused_before_it_is_sent(portal: Portal) -> None:
    head = f"PUT {UPLOAD} HTTP/1.1\r\nContent-Length: {UPLOAD_MAX * 2}\r\n"
    assert portal.send(f"{head}\r\n".encode())[0] == 413
    assert portal.send(f"{head}Expect: 100-continue\r\n\r\n".encode())[0] == 413


def test_client_that_only_sends_can_still_read_the_refusal(portal: Portal) -> None:
    body = bytes(64 * 1024**2)
    head = f"PUT {UPLOAD} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    assert portal.send(head.encode(), body)[0] == 413


def test_expected_continue_is_answered(portal: Portal) -> None:
    with portal.connect() as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert read_answer(response)[1][1] == 3
    # Without a body there is nothing to continue with.
    assert portal.send(b"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n")[0] == 200


def test_large_bodies_wait_in_nameless_files_in_the_spool(portal: Portal) -> None:
    spool = portal.home / "spool"
    _, (_, size, folder, links) = portal.request("PUT", body=bytes(BODY_MAX))
    assert (size, folder, links) == (BODY_MAX, str(spool), 0)
    with portal.connect() as connection:
        connection.sendall(f"PUT / HTTP/1.1\r\nContent-Length: {BODY_MAX}\r\n\r\n".encode())
        connection.sendall(bytes(BODY_MAX - 1))
        assert portal.request()[0] == 200
        assert list(spool.iterdir()) == []


def test_slow_senders_keep_nobody_waiting(portal: Portal) -> None:
    stalled = [portal.connect() for _ in range(UPLOAD_THREADS + 1)]
    head = f"PUT {UPLOAD} HTTP/1.1\r\nContent-Length: 2\r\n\r\n".encode()
    for client in stalled:
        client.sendall(head + b"a")
    poll((portal.home / "reading").exists)
    assert portal.request()[0] == 200
    # A refusal that the server makes itself needs no thread of theirs.
    assert portal.request("PUT", UPLOAD, body=b"", headers={"Content-Length": str(1 << 40)})[0] == 413
    for client in stalled:
        client.sendall(b"b")
    for client in stalled:
        response = http.client.HTTPResponse(client)
        response.begin()
        assert read_answer(response)[1][1] == 2
        client.close()


def test_only_uploads_stream(portal: Portal) -> None:
    # Of another method the body is read whole, with the limit for such bodies; the last chunk never comes.
    head = f"DELETE {UPLOAD} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert portal.send(head, *[chunk(BODY_MAX // 10)] * 12)[0] == 413


def test_all_workers_serve_and_a_killed_one_is_replaced(start: Callable[..., Portal]) -> None:
    portal = start(workers=2).await_ready()
    before = portal.pids(2)
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    portal.await_log(f"worker {victim} ended with -9")
    after = portal.pids(2)
    assert before < after
    assert victim not in after


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_running_upload_outlives_a_stop_and_a_reload(portal: Portal, number: signal.Signals) -> None:
    with portal.connect() as client:
        client.sendall(f"PUT {UPLOAD} HTTP/1.1\r\nContent-Length: {UPLOAD_MAX}\r\n\r\na".encode())
        poll((portal.home / "reading").exists)
        portal.process.send_signal(number)
        portal.await_log("stopping;" if number == signal.SIGTERM else "reloaded: 1 new workers")
        client.sendall(bytes(UPLOAD_MAX - 1))
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.headers["Connection"] == "close"
        assert read_answer(response)[1][1] == UPLOAD_MAX
    if number == signal.SIGTERM:
        assert portal.process.wait(DEADLINE_SECONDS) == 0
        assert "cut off" not in portal.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_lets_a_running_request_finish(portal: Portal, number: signal.Signals) -> None:
    with portal.connect() as idle, portal.connect() as connection:
        idle.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = http.client.HTTPResponse(idle)
        answer.begin()
        assert read_answer(answer)[0] == 200
        connection.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        poll((portal.home / "running").exists)
        portal.process.send_signal(number)
        # A connection without a request is closed at once.
        assert idle.recv(1) == b""
        assert portal.process.poll() is None
        (portal.home / "go").touch()
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.headers["Connection"] == "close"
        assert read_answer(response)[0] == 200
    assert portal.process.wait(DEADLINE_SECONDS) == 0
    assert portal.log.endswith("ended\n")
    with pytest.raises(ConnectionRefusedError):
        portal.connect()


def test_second_signal_kills(portal: Portal) -> None:
    with portal.connect() as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        poll((portal.home / "running").exists)
        portal.process.send_signal(signal.SIGTERM)
        portal.await_log("stopping;")
        portal.process.send_signal(signal.SIGTERM)
        assert portal.process.wait(DEADLINE_SECONDS) == 1
        assert "killing the workers" in portal.log


def test_request_that_outlasts_the_grace_is_cut_off(portal: Portal) -> None:
    with portal.connect() as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        poll((portal.home / "running").exists)
        portal.process.send_signal(signal.SIGTERM)
        assert portal.process.wait(DEADLINE_SECONDS) == 0
        assert "cut off 1 busy connections" in portal.log


def test_signals_to_a_worker_alone_change_nothing(portal: Portal) -> None:
    pid = portal.pid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    assert portal.pid() == pid
    portal.process.send_signal(signal.SIGHUP)
    portal.await_log("reloaded: 1 new workers")


def test_workers_end_when_the_parent_is_killed(start: Callable[..., Portal]) -> None:
    portal = start(workers=2).await_ready()
    workers = portal.pids(2)
    portal.process.kill()
    portal.process.wait()
    poll(lambda: not any(is_running(pid) for pid in workers))


def test_worker_ends_when_the_parent_is_killed_before_it_knows_the_worker(start: Callable[..., Portal]) -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    portal = start(port=port, state="held")
    portal.port = port
    poll((portal.home / "starting").exists)
    portal.process.send_signal(signal.SIGSTOP)
    (portal.home / "held").unlink()
    worker = portal.pid()
    portal.process.kill()
    portal.process.wait()
    poll(lambda: not is_running(worker))


def test_taken_port_is_a_clear_error(portal: Portal, start: Callable[..., Portal]) -> None:
    other = start(port=portal.port)
    assert other.process.wait(DEADLINE_SECONDS) == 1
    assert other.log == f"Port {portal.port} on 127.0.0.1 is taken by another program; choose another port.\n"
    assert portal.request()[0] == 200


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("no-such-host.invalid", 0, r"Cannot listen on port 0 of no-such-host\.invalid: .+\."),
        ("192.0.2.1", 0, r"Cannot listen on port 0 of 192\.0\.2\.1: .+\."),
        # The C library would take this for port 0.
        ("127.0.0.1", 65536, r"Port 65536 does not exist; .+\."),
    ],
)
def test_impossible_address_is_a_clear_error(host: str, port: int, message: str) -> None:
    with pytest.raises(ServerError, match=f"^{message}$"):
        bind(host, port)


def test_app_that_cannot_start_ends_the_server(start: Callable[..., Portal]) -> None:
    portal = start(workers=2, state="broken")
    assert portal.process.wait(DEADLINE_SECONDS) == 1
    assert "a worker failed: the schema is too old" in portal.log
    assert "ready at" not in portal.log


def test_reload_replaces_the_workers_without_a_failed_request(start: Callable[..., Portal]) -> None:
    portal = start(workers=2).await_ready()
    before = portal.pids(2)
    done = threading.Event()
    statuses: list[int] = []
    failures: list[OSError | http.client.HTTPException] = []

    def ask() -> None:
        try:
            while not done.is_set():
                statuses.append(portal.request()[0])
        except (OSError, http.client.HTTPException) as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 4):
            portal.process.send_signal(signal.SIGHUP)
            portal.await_log("reloaded: 2 new workers", times=number)
        poll(lambda: not any(is_running(pid) for pid in before))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(statuses) > 4
    assert set(statuses) == {200}
    assert not before & portal.pids(2)


def test_failed_reload_leaves_the_workers_and_can_be_repeated(start: Callable[..., Portal]) -> None:
    portal = start(workers=2).await_ready()
    before = portal.pids(2)
    (portal.home / "broken").touch()
    portal.process.send_signal(signal.SIGHUP)
    portal.await_log("the reload failed")
    assert portal.pids(2) == before
    (portal.home / "broken").unlink()
    portal.process.send_signal(signal.SIGHUP)
    portal.await_log("reloaded: 2 new workers")
    poll(lambda: not any(is_running(pid) for pid in before))
    assert not before & portal.pids(2)


def test_worker_that_cannot_be_replaced_is_tried_again(start: Callable[..., Portal]) -> None:
    portal = start(workers=1).await_ready()
    (portal.home / "broken").touch()
    os.kill(portal.pid(), signal.SIGKILL)
    portal.await_log("a new one starts in 0.4 seconds")
    (portal.home / "broken").unlink()
    # The listening socket stays open all the time: this request waits for the new worker.
    assert portal.request()[0] == 200


def test_client_that_stops_reading_frees_its_thread(
    run_app: Callable[..., tuple[Server, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield bytes(1024**2)
        finally:
            closed.set()

    server, client = run_app(app)
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    watermark = server.adj.outbuf_high_watermark
    poll(lambda: any(channel.total_outbufs_len > watermark for channel in list(server.active_channels.values())))

    def clean_up() -> None:
        server.next_channel_cleanup = 0
        server.pull_trigger()
        poll(lambda: server.next_channel_cleanup)

    clean_up()
    assert not closed.is_set()
    monkeypatch.setattr(server_module, "IDLE_SECONDS", -1)
    clean_up()
    assert closed.wait(DEADLINE_SECONDS)


def test_connection_just_accepted_may_send_its_first_request_to_a_worker_that_stops(
    run_app: Callable[..., tuple[Server, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "FIRST_REQUEST_SECONDS", DEADLINE_SECONDS)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"()"]

    server, client = run_app(app)
    (channel,) = poll(lambda: list(server.active_channels.values()))
    server.stopping = True
    server.pull_trigger()
    poll(lambda: not server.accepting)
    assert not channel.is_idle()
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    answer = http.client.HTTPResponse(client)
    answer.begin()
    assert answer.headers["Connection"] == "close"
    assert read_answer(answer) == (200, ())
    poll(lambda: not server.active_channels)


def test_refused_client_that_goes_on_sending_is_dropped_in_the_end(
    run_app: Callable[..., tuple[Server, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LINGER_SECONDS", 0)
    server, client = run_app(None)
    client.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
    assert client.recv(10_000).startswith(b"HTTP/1.1 413 ")
    poll(lambda: not server.active_channels)
