"""An upload reaches the application with its headers, and its body as it comes: bounded, whole or refused."""

import hashlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from random import randbytes
from typing import Any

import pytest

from datameta import server as server_module
from datameta.errors import DataMetaError
from datameta.server import BULK_BYTES, CHUNK_HEADER_MAX_BYTES, CONTINUE, MULTIPART_BYTES, Server
from datameta.streaming import BUFFER_BYTES, Body
from tests.unit.conftest import DEADLINE_SECONDS, UPLOAD_PREFIX, poll

MIB = 1 << 20
LARGE = 64 * MIB
READ = f"PUT {UPLOAD_PREFIX}read HTTP/1.1\r\n"
REFUSE = f"PUT {UPLOAD_PREFIX}refuse HTTP/1.1\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n\r\n"

Run = Callable[..., tuple[Server, socket.socket]]


def make_head(line: str, size: int, more: str = "") -> bytes:
    return f"{line}Content-Length: {size}\r\n{more}\r\n".encode()


def read_response(client: socket.socket) -> tuple[int, str, bytes]:
    """Read one answer: status, what it says of the connection, content."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, response.headers.get("Connection", ""), response.read()


def is_closed(client: socket.socket) -> bool:
    """Say whether the server has nothing more to say; waits for it."""
    return client.recv(1) == b""


class App:
    """Reads what is sent below ``…/read``, refuses below ``…/refuse``, and answers with the digest of the body."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.body: Body | None = None
        self.errors: list[str] = []
        self.done = threading.Event()

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        status, content = "200 OK", b"pong"
        if environ["PATH_INFO"].endswith("/refuse"):
            status, content = "404 Not Found", b"wrong token"
        elif environ["PATH_INFO"].endswith("/nothing"):
            start_response("204 No Content", [])
            return iter([])
        elif environ["PATH_INFO"].endswith("/read"):
            status, content = self.read_all(environ["wsgi.input"])
        start_response(status, [("Content-Length", str(len(content)))])
        return iter([content])

    def read_all(self, body: Body) -> tuple[str, bytes]:
        self.body = body
        digest = hashlib.sha256()
        try:
            digest.update(body.read(1))
            self.begun.set()
            assert self.go.wait(DEADLINE_SECONDS)
            while piece := body.read(MIB):
                digest.update(piece)
        except DataMetaError as error:
            self.errors.append(error.problems[0].code)
            self.done.set()
            return "400 Bad Request", error.problems[0].code.encode()
        return "200 OK", digest.hexdigest().encode()


@pytest.fixture
def app() -> App:
    return App()


def digest_of(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


@pytest.mark.parametrize("rest", [f"Content-Length: {LARGE}\r\n\r\n", CHUNKED])
def test_the_application_is_asked_before_the_body_is_sent(run_app: Run, app: App, rest: str) -> None:
    _, client = run_app(app, upload_max_bytes=LARGE)
    client.sendall((REFUSE + rest).encode())
    assert read_response(client) == (404, "close", b"wrong token")


def test_a_client_that_only_sends_can_read_the_refusal(run_app: Run, app: App) -> None:
    server, client = run_app(app, upload_max_bytes=LARGE)
    client.sendall(make_head(REFUSE, LARGE) + bytes(LARGE))
    assert read_response(client) == (404, "close", b"wrong token")
    assert is_closed(client)
    client.close()
    poll(lambda: not server.active_channels)


def test_a_refused_client_is_not_told_to_continue(run_app: Run, app: App) -> None:
    _, client = run_app(app, upload_max_bytes=LARGE)
    client.sendall(make_head(REFUSE, LARGE, "Expect: 100-continue\r\n"))
    assert client.recv(12) == b"HTTP/1.1 404"


@pytest.mark.parametrize(
    ("line", "connection"),
    [
        ("GET /nothing HTTP/1.1\r\n", ""),
        ("GET /nothing HTTP/1.1\r\nConnection: close\r\n", "close"),
        ("GET /nothing HTTP/1.0\r\nConnection: keep-alive\r\n", "close"),
        (f"PUT {UPLOAD_PREFIX}nothing HTTP/1.1\r\nContent-Length: 5\r\n", "close"),
    ],
)
def test_an_answer_without_content_ends_no_connection(run_app: Run, app: App, line: str, connection: str) -> None:
    _, client = run_app(app)
    client.sendall(f"{line}\r\n".encode())
    assert read_response(client) == (204, connection, b"")
    if connection:
        assert is_closed(client)
    else:
        client.sendall(b"GET /ping HTTP/1.1\r\n\r\n")
        assert read_response(client) == (200, "", b"pong")


def test_a_client_is_told_to_continue_once_the_application_reads(run_app: Run, app: App) -> None:
    _, client = run_app(app)
    client.sendall(make_head(READ, 3, "Expect: 100-continue\r\n"))
    assert client.recv(100) == CONTINUE
    client.sendall(b"abc")
    assert read_response(client) == (200, "", digest_of(b"abc"))
    # Who does not wait has continued already.
    client.sendall(make_head(READ, 3, "Expect: 100-continue\r\n") + b"abc")
    assert read_response(client) == (200, "", digest_of(b"abc"))


def test_what_an_application_does_not_read_waits_outside(run_app: Run, app: App) -> None:
    _, client = run_app(app, upload_max_bytes=LARGE)
    content = randbytes(LARGE)
    app.go.clear()
    sender = threading.Thread(target=client.sendall, args=(make_head(READ, LARGE) + content,))
    sender.start()
    assert app.begun.wait(DEADLINE_SECONDS)
    body = app.body
    assert body is not None
    poll(lambda: not body.wants_more)
    assert BUFFER_BYTES <= len(body) <= BUFFER_BYTES + BULK_BYTES
    app.go.set()
    sender.join()
    assert read_response(client) == (200, "", digest_of(content))


@pytest.mark.parametrize("head", [make_head(READ, 10), (READ + CHUNKED).encode() + b"a\r\n"])
def test_a_transfer_that_breaks_off_is_an_error_to_the_application(run_app: Run, app: App, head: bytes) -> None:
    server, client = run_app(app)
    client.sendall(head + b"12345")
    assert app.begun.wait(DEADLINE_SECONDS)
    client.shutdown(socket.SHUT_WR)
    assert is_closed(client)
    assert app.done.wait(DEADLINE_SECONDS)
    assert app.errors == ["incomplete_transfer"]
    poll(lambda: not server.active_channels)


def test_a_chunked_body_without_its_end_is_an_error(run_app: Run, app: App) -> None:
    _, client = run_app(app)
    client.sendall((READ + CHUNKED).encode() + b"3\r\nabc\r\n")
    assert app.begun.wait(DEADLINE_SECONDS)
    client.close()
    assert app.done.wait(DEADLINE_SECONDS)
    assert app.errors == ["incomplete_transfer"]


def test_a_sender_that_stalls_is_dropped(run_app: Run, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(server_module, "LINGER_SECONDS", 0)
    server, client = run_app(app)
    client.sendall(make_head(READ, 10) + b"12345")
    assert read_response(client) == (400, "close", b"incomplete_transfer")
    assert is_closed(client)
    poll(lambda: not server.active_channels)


@pytest.mark.parametrize(
    ("faulty", "code"),
    [
        (b"zz\r\n", "malformed_request"),
        (b"5;" + b"x" * (CHUNK_HEADER_MAX_BYTES + 1), "malformed_request"),
        (b"3\r\nabcd\r\n", "malformed_request"),
        (b"%x\r\n%s" % (MULTIPART_BYTES + 20, bytes(MULTIPART_BYTES + 20)), "too_large"),
    ],
)
def test_what_turns_out_to_be_wrong_is_refused_by_the_application(
    run_app: Run, app: App, faulty: bytes, code: str
) -> None:
    server, client = run_app(app)
    client.sendall((READ + CHUNKED).encode() + b"1\r\na\r\n")
    assert app.begun.wait(DEADLINE_SECONDS)
    # What follows the fault is no request, whatever it looks like.
    client.sendall(faulty + b"\r\nGET /ping HTTP/1.1\r\n\r\n")
    assert read_response(client) == (400, "close", code.encode())
    assert is_closed(client)
    client.close()
    poll(lambda: not server.active_channels)


def test_what_is_wrong_at_once_never_reaches_the_application(run_app: Run, app: App) -> None:
    _, client = run_app(app)
    client.sendall((READ + CHUNKED).encode() + b"zz\r\n")
    status, connection, content = read_response(client)
    assert (status, connection, b"malformed_request" in content) == (400, "close", True)
    assert app.body is None


def test_a_connection_goes_on_after_an_upload(run_app: Run, app: App) -> None:
    _, client = run_app(app, upload_max_bytes=8 * MIB)
    for content in (b"a", randbytes(3 * MIB + 1), b""):
        client.sendall(make_head(READ, len(content)) + content)
        assert read_response(client) == (200, "", digest_of(content))
        client.sendall((READ + CHUNKED).encode())
        for piece in (content[:1], content[1:]):
            client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"")
        client.sendall(b"0\r\nTrailer: x\r\n\r\n")
        assert read_response(client) == (200, "", digest_of(content))
    # A refused body that came with its headers is in nobody's way.
    client.sendall(make_head(REFUSE, 3) + b"abc")
    assert read_response(client)[:2] == (404, "")
    client.sendall(b"GET /ping HTTP/1.1\r\n\r\n")
    assert read_response(client) == (200, "", b"pong")


@pytest.mark.parametrize(
    ("first", "second"), [(make_head(READ, 6), b"abcdef"), ((READ + CHUNKED).encode(), b"6\r\nabcdef\r\n0\r\n\r\n")]
)
@pytest.mark.parametrize("cut", [0, 3, None])
def test_what_follows_a_body_is_the_next_request(
    run_app: Run, app: App, first: bytes, second: bytes, cut: int | None
) -> None:
    ping = b"GET /ping HTTP/1.1\r\n\r\n"
    server, client = run_app(app)
    begun = len(second) if cut is None else cut
    # The first request is answered before the upload may begin, and its answer comes first.
    client.sendall(ping + first + second[:begun])
    reader = client.makefile("rb")
    if begun < len(second):
        poll(lambda: app.body is not None)
    client.sendall(second[begun:] + ping + first + second + ping)
    expected = [b"pong", digest_of(b"abcdef"), b"pong", digest_of(b"abcdef"), b"pong"]
    found = b""
    while found.count(b"HTTP/1.1 ") < 5 or not found.endswith(b"pong"):
        piece = reader.read1()
        assert piece
        found += piece
    assert [answer.split(b"\r\n\r\n")[1] for answer in found.split(b"HTTP/1.1 200 OK")[1:]] == expected
    reader.close()
    assert list(server.active_channels)


def test_a_body_is_a_file() -> None:
    calls: list[bool] = []
    body = Body(lambda: calls.append(True), idle_seconds=DEADLINE_SECONDS)
    for piece in (b"one\ntwo", b"", b"\nthree", b"\nfour"):
        body.append(piece)
    body.end()
    assert body.readable()
    assert body.read(2) == b"on"
    assert body.readline() == b"e\n"
    assert list(body) == [b"two\n", b"three\n", b"four"]
    assert (body.read(), body.read(1), len(body), calls) == (b"", b"", 18, [])


def test_a_body_that_nobody_reads_keeps_nothing() -> None:
    body = Body(lambda: None, idle_seconds=0)
    body.append(b"abc")
    body.close()
    body.append(b"def")
    assert len(body) == 6
    assert not body._pieces
