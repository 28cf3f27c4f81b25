"""Serve the portal: worker processes behind one listening socket, each running waitress.

The rule this module guards: no client ever sees a torn answer. Every refusal that waitress makes itself
is the contract's JSON list, and a body over its limit is refused before it is stored.

Waitress gives the application a request once all of it is there. An upload is given at once, so that
the credential is looked at first, and its body streams (``streaming.py``). Uploads have threads of
their own: senders that are slow keep nobody else waiting.

Companions are processes that do something else than to serve HTTP; they are started, replaced,
reloaded and stopped along with the workers (``supervisor.py``).
"""

import errno
import gc
import json
import logging
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.receiver import ChunkedReceiver
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import BadRequest

from datameta.errors import TooLargeError, ValidationError
from datameta.headers import SECURITY_HEADERS, make_headers
from datameta.metrics import REQUESTS
from datameta.streaming import Body
from datameta.supervisor import Supervisor, await_end

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

logger = logging.getLogger(__name__)

IDLE_SECONDS = 300
LINGER_SECONDS = 30
FIRST_REQUEST_SECONDS = 1
MULTIPART_BYTES = 64 * 1024
HEADER_MAX_BYTES = 64 * 1024
CHUNK_HEADER_MAX_BYTES = 8 * 1024
BULK_BYTES = 256 * 1024
UPLOAD_THREADS = 32
UPLOAD_METHODS = ("PUT", "POST")
REFUSED = "refused"
"""The operation of what never reached the application."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

REFUSALS = {
    400: ("ValidationError", "malformed_request", "The request is not valid HTTP: {reason}."),
    413: ("TooLargeError", "too_large", "The body is larger than the {limit} bytes accepted here."),
    431: ("TooLargeError", "headers_too_large", f"The headers are larger than {HEADER_MAX_BYTES} bytes."),
    500: ("InternalError", "internal_error", "The portal failed to answer. The failure was logged."),
    501: ("NotImplementedError", "not_implemented", "The portal does not know this transfer encoding."),
}

Stop = Callable[[], None]
Companion = Callable[[Callable[[Stop], None]], None]
"""What another process does: it is called with a function to call, once ready, with the one that stops it."""


class ServerError(Exception):
    """The server cannot start; the message is a sentence for the operator."""


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Reads one request, with the body limit of its path; an upload is complete for waitress with its headers."""

    adj: Any
    expect_continue: bool
    # Waitress logs the path even of a request whose first line it could not parse.
    path = ""
    is_upload = False
    is_continue_due = False
    body: Body

    def __init__(self, adj: Any, channel: "Channel") -> None:
        super().__init__(adj)
        self.channel = channel

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the headers and choose the limit for the body, and the way it takes."""
        super().parse_header(header_plus)
        if self.command == "POST" and self.path.startswith(self.adj.sheet_prefix):
            self.adj = self.adj.for_sheets
        elif self.command in UPLOAD_METHODS and self.path.startswith(self.adj.upload_prefix):
            self.adj = self.adj.for_uploads
            if self.body_rcv is not None:
                self.is_upload = True
                self.body_rcv.buf = self.body = Body(self.resume, idle_seconds=IDLE_SECONDS)

    def received(self, data: bytes) -> int:
        """Take bytes off the wire and say how many."""
        consumed = self.parse(data)
        if self.is_upload and not self.completed:
            self.is_continue_due = self.expect_continue
            self.channel.upload = self
            consumed += self.receive_body(data[consumed:])
        if self.completed:
            # Waitress would answer 100 to a request it has refused, and to one without a body, and then wait for more.
            self.expect_continue = False
        return consumed

    def receive_body(self, data: bytes) -> int:
        """Take bytes of an upload off the wire and say how many."""
        self.completed = False
        consumed = self.parse(data)
        if self.error:
            _, code, message = self.explain()
            kind = TooLargeError if self.error.code == 413 else ValidationError
            self.body.end(kind(message, code=code))
        elif self.completed:
            # In this order: who has read it all must not be told that the connection ends.
            self.channel.upload = None
            self.body.end()
        self.completed = True
        return consumed

    def parse(self, data: bytes) -> int:
        """Take bytes as waitress does, with a limit to the framing of chunks."""
        consumed: int = super().received(data)
        if isinstance(self.body_rcv, ChunkedReceiver):
            # The limit is on content, not on its framing, and waitress sets the framing no limit at all.
            self.body_bytes_received = len(self.body_rcv)
            if len(self.body_rcv.control_line) + len(self.body_rcv.trailer) > CHUNK_HEADER_MAX_BYTES:
                self.error = BadRequest("Chunk header too long")
                self.completed = True
        return consumed

    def resume(self) -> None:
        """Have more of an upload received; the thread that reads it calls this."""
        if self.is_continue_due:
            self.is_continue_due = False
            with suppress(ClientDisconnected):
                self.channel.write_soon(CONTINUE)
        self.channel.server.pull_trigger()

    def explain(self) -> tuple[str, str, str]:
        """Return the exception, code and message of what is wrong with the request."""
        exception, code, message = REFUSALS.get(self.error.code, REFUSALS[500])
        # Waitress quotes the faulty header after its reason; that may be a credential.
        reason = str(self.error.body).split(' "')[0]
        return exception, code, message.format(reason=reason, limit=self.adj.max_request_body_size - 1)


class RefusalTask(ErrorTask):  # type: ignore[misc]
    """Answers a request that never reached the application, or crashed it."""

    def execute(self) -> None:
        """Write the contract's error list and close."""
        error = self.request.error
        exception, code, message = self.request.explain()
        body = json.dumps([{"exception": exception, "error_code": code, "message": message}]).encode()
        self.status = f"{error.code} {error.reason}"
        self.content_length = len(body)
        request_id = uuid4().hex
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id, **self.channel.server.adj.headers}
        self.response_headers += headers.items()
        self.request.headers.pop("CONNECTION", None)
        self.set_close_on_finish()
        self.channel.lingers = True
        self.write(body)
        REQUESTS.labels(REFUSED, str(error.code)).inc()
        facts = {"request_id": request_id, "operation": REFUSED, "status": error.code, "ip": self.channel.addr[0]}
        logger.info("refused a request of %s: %s", self.channel.addr[0], code, extra={"facts": facts})


class RequestTask(WSGITask):  # type: ignore[misc]
    """Answers a request with the application."""

    keeps_connection = False

    def set_close_on_finish(self) -> None:
        """End the connection, but not as waitress does for want of a length of what has no body."""
        if not self.keeps_connection:
            super().set_close_on_finish()

    def build_response_header(self) -> bytes:
        """Tell the client not to send another request to a worker that is stopping, or behind a body nobody reads."""
        is_early = self.channel.upload is self.request
        self.channel.lingers = self.channel.lingers or is_early
        if is_early or self.channel.server.stopping:
            self.set_close_on_finish()
        is_over = self.close_on_finish or self.request.connection_close or self.version != "1.1"
        self.keeps_connection = not is_over and not self.has_body
        header: bytes = super().build_response_header()
        return header


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    task_class = RequestTask
    error_task_class = RefusalTask

    upload: Parser | None = None
    """The upload whose body is still to be received."""
    lingers = False
    linger_until: float | None = None

    def parser_class(self, adj: Any) -> Parser:
        """Make the parser of a request."""
        return Parser(adj, self)

    def recv(self, buffer_size: int) -> bytes:
        """Read a body in large pieces, but never past its end: what follows may be thousands of requests."""
        request = self.upload or self.request
        body = request.body_rcv if request else None
        if body is not None:
            ahead = body.chunk_remainder if isinstance(body, ChunkedReceiver) else body.remain
            buffer_size = max(buffer_size, min(ahead, BULK_BYTES))
        data: bytes = super().recv(buffer_size)
        return data

    def received(self, data: bytes) -> bool:
        """Take bytes off the wire, or discard them after a refusal."""
        if self.linger_until is not None:
            return False
        if self.upload is not None:
            data = data[self.upload.receive_body(data) :]
        return bool(super().received(data))

    def readable(self) -> bool:
        """Say whether to wait for bytes; asked of each connection at each event."""
        if self.upload is None and self.linger_until is None:
            is_readable: bool = HTTPChannel.readable(self)
            return is_readable
        if self.linger_until is not None and time.monotonic() > self.linger_until:
            self.will_close = True
        if self.upload is not None and self.linger_until is None:
            return self.upload.body.wants_more and not (self.will_close or self.close_when_flushed)
        return bool(super().readable())

    def handle_close(self) -> None:
        """Close; after a refusal only once the client has stopped sending.

        Closing while bytes are in flight resets the connection, and the client reads
        "broken pipe" instead of the refusal.
        """
        if self.upload is not None:
            self.upload.body.break_off()
        if self.lingers and self.linger_until is None:
            self.linger_until = time.monotonic() + LINGER_SECONDS
            self.will_close = False
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                return
        super().handle_close()

    def is_idle(self) -> bool:
        """Say whether closing now takes nothing from the client."""
        if self.requests or self.request or self.total_outbufs_len or self.close_when_flushed:
            return self.linger_until is not None
        # A connection just accepted is about to send its first request.
        return bool(self.last_activity > self.creation_time or time.time() > self.creation_time + FIRST_REQUEST_SECONDS)


class Limits(Adjustments):  # type: ignore[misc]
    """Waitress's settings, with further sets for paths that take uploads and sample sheets."""

    def __init__(
        self,
        *,
        threads: int,
        body_max_bytes: int,
        upload_max_bytes: int,
        upload_prefix: str,
        sheet_max_bytes: int,
        sheet_prefix: str,
        headers: Mapping[str, str] = SECURITY_HEADERS,
    ) -> None:
        common: dict[str, Any] = {
            "threads": threads,
            "ident": "datameta",
            # The application does that (``proxies.py``), for every server it runs under.
            "clear_untrusted_proxy_headers": False,
            "channel_timeout": IDLE_SECONDS,
            "max_request_header_size": HEADER_MAX_BYTES,
            # Each connection takes up to two of the 1,024 file descriptors a process has by default.
            "connection_limit": 400,
        }
        # Waitress refuses from this size on.
        super().__init__(**common, max_request_body_size=body_max_bytes + 1)
        self.headers = headers
        self.upload_prefix = upload_prefix
        self.sheet_prefix = sheet_prefix
        self.for_sheets = Adjustments(**common, max_request_body_size=sheet_max_bytes + 1)
        self.for_uploads = Adjustments(**common, max_request_body_size=upload_max_bytes + MULTIPART_BYTES + 1)


class Server(TcpWSGIServer):  # type: ignore[misc]
    """One worker's event loop."""

    channel_class = Channel
    stopping = False

    def __init__(self, application: "WSGIApplication", listener: socket.socket, limits: Limits) -> None:
        where = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(application, map={}, _sock=listener, adj=limits, sockinfo=where, bind_socket=False)
        self.upload_dispatcher = ThreadedTaskDispatcher()
        self.upload_dispatcher.set_thread_count(UPLOAD_THREADS)

    def add_task(self, channel: Channel) -> None:
        """Have a thread answer the next request of a connection."""
        request = channel.requests[0]
        is_upload = request.is_upload and not request.error
        (self.upload_dispatcher if is_upload else self.task_dispatcher).add_task(channel)

    def maintenance(self, now: float) -> None:
        """Close idle connections, also of clients that stopped reading an answer that is still being made."""
        super().maintenance(now)
        for channel in self.active_channels.values():
            if channel.total_outbufs_len and channel.last_activity < now - IDLE_SECONDS:
                # Waitress would wait for the client to take more before it closes.
                self.trigger.pull_trigger(channel.handle_close)

    def run(self) -> None:
        """Serve until told to stop, then finish what is running."""
        while not self.stopping:
            wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)
        self.accept_rest()
        wasyncore.dispatcher.close(self)
        while self.active_channels:
            # What has already arrived is read before idleness is judged.
            wasyncore.loop(timeout=0.1, use_poll=True, map=self._map, count=1)
            for channel in self.active_channels.values():
                channel.will_close = channel.will_close or channel.is_idle()

    def accept_rest(self) -> None:
        """Take the connections that the kernel has made and nobody has seen yet; closing would reset them."""
        while select.select([self.socket], [], [], 0)[0] and self.readable():
            self.handle_accept()

    def stop(self) -> None:
        """Begin to stop; any thread may call this."""
        self.stopping = True
        self.pull_trigger()


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address; raises ``ServerError``."""
    if not 0 <= port <= 65535:
        raise ServerError(f"Port {port} does not exist; choose one from 1 to 65535.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost has several addresses; the older kind is what clients try in any case.
        family, address = min((entry[0], entry[4]) for entry in found)
        return socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServerError(f"Port {port} on {host} is taken by another program; choose another port.") from None
        raise ServerError(f"Cannot listen on port {port} of {host}: {error.strerror}.") from None


def serve(
    make_app: Callable[[], "WSGIApplication"],
    *,
    host: str,
    port: int,
    workers: int,
    threads: int,
    body_max_bytes: int,
    upload_max_bytes: int,
    upload_prefix: str,
    sheet_max_bytes: int,
    sheet_prefix: str,
    spool: Path,
    base_url: str = "",
    announce: Callable[[str], None] | None = None,
    companions: Sequence[Companion] = (),
) -> int:
    """Serve until told to stop and return the exit code; raises ``ServerError`` if the address cannot be had.

    ``make_app`` runs once in each worker. ``announce`` gets the address once all workers are
    ready. Bodies too large for memory, uploads apart, wait in nameless files in ``spool``. Each of
    ``companions`` runs in a process of its own.
    """
    # With more requests than threads some wait; that is no event.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    limits = Limits(
        threads=threads,
        body_max_bytes=body_max_bytes,
        upload_max_bytes=upload_max_bytes,
        upload_prefix=upload_prefix,
        sheet_max_bytes=sheet_max_bytes,
        sheet_prefix=sheet_prefix,
        headers=make_headers(base_url),
    )
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = bind(host, port)

    def work(line: socket.socket) -> None:
        tempfile.tempdir = str(spool)
        server = Server(make_app(), listener, limits)
        # The application lives as long as the process: it is not to be looked through for garbage again and again.
        gc.freeze()

        def describe_rest() -> str:
            return f"{len(server.active_channels)} busy connections"

        threading.Thread(target=await_end, args=(line, server.stop, describe_rest), daemon=True).start()
        line.send(b"1")
        server.run()

    def accompany(companion: Companion, line: socket.socket) -> None:
        listener.close()

        def announce_ready(stop: Stop) -> None:
            threading.Thread(target=await_end, args=(line, stop, lambda: "a companion"), daemon=True).start()
            line.send(b"1")

        companion(announce_ready)

    def announce_address() -> None:
        if announce:
            shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 # nosec B104
            announce(f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}")

    with listener:
        works = [work] * workers + [partial(accompany, companion) for companion in companions]
        return Supervisor(listener, works, announce_address).run()
