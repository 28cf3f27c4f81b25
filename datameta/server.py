"""Serve the portal: worker processes behind one listening socket, each running waitress.

The rule this module guards: no client ever sees a torn answer. Every refusal that waitress
makes itself is the contract's JSON list, a body over its limit is refused before it is stored,
and workers are started, replaced, reloaded and stopped without cutting off a running request.

The parent never builds the application; it binds, forks and watches. A socket pair joins it to
each worker: the worker writes one byte when it is ready, and stops gracefully at end of file,
which the kernel also delivers when the parent is killed. Companions are workers that do something
else than to serve HTTP; they are started, replaced, reloaded and stopped along with the others.

Signals to the parent: SIGTERM and SIGINT stop gracefully, a second one kills; SIGHUP replaces
the workers, or stops if the portal runs in a terminal, because then the terminal was closed.
"""

import errno
import json
import logging
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.receiver import ChunkedReceiver
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import BadRequest

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

logger = logging.getLogger(__name__)

GRACE_SECONDS = 10
IDLE_SECONDS = 300
LINGER_SECONDS = 30
FIRST_REQUEST_SECONDS = 1
STABLE_SECONDS = 60
LONGEST_BACKOFF_SECONDS = 30
MULTIPART_BYTES = 64 * 1024
HEADER_MAX_BYTES = 64 * 1024
CHUNK_HEADER_MAX_BYTES = 8 * 1024
BULK_BYTES = 256 * 1024

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
    """Reads one request, with the body limit of its path."""

    adj: Any
    # Waitress logs the path even of a request whose first line it could not parse.
    path = ""

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the headers and choose the limit for the body."""
        super().parse_header(header_plus)
        if self.path.startswith(self.adj.upload_prefix):
            self.adj = self.adj.for_uploads

    def received(self, data: bytes) -> int:
        """Take bytes off the wire and say how many."""
        consumed: int = super().received(data)
        if isinstance(self.body_rcv, ChunkedReceiver):
            # The limit is on content, not on its framing, and waitress sets the framing no limit at all.
            self.body_bytes_received = len(self.body_rcv)
            if len(self.body_rcv.control_line) + len(self.body_rcv.trailer) > CHUNK_HEADER_MAX_BYTES:
                self.error = BadRequest("Chunk header too long")
                self.completed = True
        if self.completed:
            # Waitress would answer 100 to a request it has refused, and to one without a body, and then wait for more.
            self.expect_continue = False
        return consumed


class RefusalTask(ErrorTask):  # type: ignore[misc]
    """Answers a request that never reached the application, or crashed it."""

    def execute(self) -> None:
        """Write the contract's error list and close."""
        error = self.request.error
        exception, code, message = REFUSALS.get(error.code, REFUSALS[500])
        # Waitress quotes the faulty header after its reason; that may be a credential.
        reason = str(error.body).split(' "')[0]
        message = message.format(reason=reason, limit=self.request.adj.max_request_body_size - 1)
        body = json.dumps([{"exception": exception, "error_code": code, "message": message}]).encode()
        self.status = f"{error.code} {error.reason}"
        self.content_length = len(body)
        self.response_headers += [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        self.request.headers.pop("CONNECTION", None)
        self.set_close_on_finish()
        self.channel.lingers = True
        self.write(body)
        logger.info("refused a request of %s: %s", self.channel.addr[0], code)


class RequestTask(WSGITask):  # type: ignore[misc]
    """Answers a request with the application."""

    def build_response_header(self) -> bytes:
        """Tell the client not to send another request to a worker that is stopping."""
        if self.channel.server.stopping:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    task_class = RequestTask
    error_task_class = RefusalTask
    parser_class = Parser

    lingers = False
    linger_until: float | None = None

    def recv(self, buffer_size: int) -> bytes:
        """Read a body in large pieces, but never past its end: what follows may be thousands of requests."""
        body = self.request.body_rcv if self.request else None
        if body is not None:
            ahead = body.chunk_remainder if isinstance(body, ChunkedReceiver) else body.remain
            buffer_size = max(buffer_size, min(ahead, BULK_BYTES))
        data: bytes = super().recv(buffer_size)
        return data

    def received(self, data: bytes) -> bool:
        """Take bytes off the wire, or discard them after a refusal."""
        return self.linger_until is None and super().received(data)

    def readable(self) -> bool:
        """Say whether to wait for bytes."""
        if self.linger_until is not None and time.monotonic() > self.linger_until:
            self.will_close = True
        return bool(super().readable())

    def handle_close(self) -> None:
        """Close; after a refusal only once the client has stopped sending.

        Closing while bytes are in flight resets the connection, and the client reads
        "broken pipe" instead of the refusal.
        """
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
    """Waitress's settings, with a second set for paths that take uploads."""

    def __init__(self, *, threads: int, body_max_bytes: int, upload_max_bytes: int, upload_prefix: str) -> None:
        common: dict[str, Any] = {
            "threads": threads,
            "ident": "datameta",
            "clear_untrusted_proxy_headers": True,
            "channel_timeout": IDLE_SECONDS,
            "max_request_header_size": HEADER_MAX_BYTES,
            # Each connection takes up to two of the 1,024 file descriptors a process has by default.
            "connection_limit": 400,
        }
        # Waitress refuses from this size on.
        super().__init__(**common, max_request_body_size=body_max_bytes + 1)
        self.upload_prefix = upload_prefix
        self.for_uploads = Adjustments(**common, max_request_body_size=upload_max_bytes + MULTIPART_BYTES + 1)


class Server(TcpWSGIServer):  # type: ignore[misc]
    """One worker's event loop."""

    channel_class = Channel
    stopping = False

    def __init__(self, application: "WSGIApplication", listener: socket.socket, limits: Limits) -> None:
        where = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(application, map={}, _sock=listener, adj=limits, sockinfo=where, bind_socket=False)

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
        wasyncore.dispatcher.close(self)
        while self.active_channels:
            # What has already arrived is read before idleness is judged.
            wasyncore.loop(timeout=0.1, use_poll=True, map=self._map, count=1)
            for channel in self.active_channels.values():
                channel.will_close = channel.will_close or channel.is_idle()

    def stop_at_end_of(self, line: socket.socket) -> None:
        """Wait for the parent to stop this worker, or to die, and see to it that the worker ends."""
        # A parent killed before it has read the byte of readiness resets the connection.
        with suppress(OSError):
            line.recv(1)
        self.stopping = True
        self.pull_trigger()
        time.sleep(GRACE_SECONDS)
        logger.warning("cut off %d busy connections after %d seconds", len(self.active_channels), GRACE_SECONDS)
        os._exit(0)


@dataclass(eq=False)
class Worker:
    """A child process as the parent sees it; ``kill_at`` is set once it has been told to stop."""

    pid: int
    work: Callable[[socket.socket], None]
    line: socket.socket
    generation: int
    started: float
    ready: bool | None = None
    kill_at: float | None = None


class Supervisor:
    """Keeps one worker for each of ``works``, all of the newest generation that could start."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

    def __init__(
        self,
        listener: socket.socket,
        works: Sequence[Callable[[socket.socket], None]],
        announce: Callable[[], None],
    ) -> None:
        self.listener, self.works, self.announce = listener, works, announce
        self.workers: list[Worker] = []
        self.restarts: list[tuple[float, Callable[[socket.socket], None]]] = []
        self.newest = self.serving = self.crashes = self.exit_code = 0
        self.stopping = False
        self.in_terminal = os.isatty(0)

    def run(self) -> int:
        """Supervise until all workers have ended and return the exit code."""
        signals, write_end = os.pipe()
        os.set_blocking(write_end, False)
        # A signal that whoever started us chose to ignore, as nohup does, stays ignored.
        handled = [number for number in self.SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        former = {number: signal.signal(number, lambda *_: None) for number in handled}
        former_fd = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        try:
            self.start_generation()
            while self.workers or self.restarts:
                self.wait(signals)
            return self.exit_code
        finally:
            for worker in self.workers:
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
            signal.set_wakeup_fd(former_fd)
            for number, handler in former.items():
                signal.signal(number, handler)
            os.close(signals)
            os.close(write_end)

    def wait(self, signals: int) -> None:
        """Wait for one thing to happen and act on it."""
        due = [*(moment for moment, _ in self.restarts), *(worker.kill_at for worker in self.workers if worker.kill_at)]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        starting = [worker for worker in self.workers if worker.ready is None]
        sources: list[int | socket.socket] = [signals, *(worker.line for worker in starting)]
        readable = select.select(sources, [], [], timeout)[0]
        for number in os.read(signals, 1024) if signals in readable else b"":
            self.handle_signal(number)
        for worker in starting:
            if worker.line in readable:
                worker.ready = worker.line.recv(1) == b"1"
        self.promote()
        for worker in list(self.workers):
            if worker.kill_at and worker.kill_at <= time.monotonic():
                os.kill(worker.pid, signal.SIGKILL)
            self.reap(worker)
        for restart in [restart for restart in self.restarts if restart[0] <= time.monotonic()]:
            self.restarts.remove(restart)
            self.start_worker(self.serving, restart[1])

    def handle_signal(self, number: int) -> None:
        """Do what an operator's signal asks for."""
        if number == signal.SIGHUP and not self.in_terminal:
            if self.stopping or self.newest != self.serving:
                logger.warning("not reloading: the last change is still under way")
            else:
                self.start_generation()
        elif number != signal.SIGCHLD:
            if self.stopping:
                logger.warning("killing the workers after a second signal")
                self.stop_all(1, grace=0)
            else:
                logger.info("stopping; requests that are running have %d seconds", GRACE_SECONDS)
                self.stop_all(0)

    def start_generation(self) -> None:
        """Start a full set of workers."""
        self.newest += 1
        for work in self.works:
            self.start_worker(self.newest, work)

    def start_worker(self, generation: int, work: Callable[[socket.socket], None]) -> None:
        """Fork one worker."""
        ours, theirs = socket.socketpair()
        # Until the child has let go of the wake-up pipe, its signals would look like the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, self.SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                self.become_worker(work, ours, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)
        theirs.close()
        self.workers.append(Worker(pid, work, ours, generation, time.monotonic()))

    def become_worker(
        self, work: Callable[[socket.socket], None], ours: socket.socket, theirs: socket.socket
    ) -> NoReturn:
        """Work, and leave without running what the parent has in store for its own end."""
        code = 1
        try:
            # The handlers stay, and do nothing: Ctrl-C reaches every process, but only the parent decides.
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)
            for line in [ours, *(worker.line for worker in self.workers)]:
                line.close()
            work(theirs)
            code = 0
        except BaseException as error:
            logger.critical("a worker failed: %s", error, exc_info=True)
        finally:
            try:
                logging.shutdown()
                sys.stdout.flush()
            finally:
                os._exit(code)

    def promote(self) -> None:
        """Put the newest generation into service once all of it is ready."""
        current = [worker for worker in self.workers if not worker.kill_at]
        newest = [worker for worker in current if worker.generation == self.newest]
        if self.stopping or self.newest == self.serving or not all(worker.ready for worker in newest):
            return
        first = not self.serving
        self.serving = self.newest
        self.restarts.clear()
        self.stop([worker for worker in current if worker not in newest])
        if first:
            self.announce()
        else:
            logger.info("reloaded: %d new workers", len(self.works))

    def reap(self, worker: Worker) -> None:
        """Notice that a worker has ended and decide what follows."""
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if not pid:
            return
        worker.line.close()
        self.workers.remove(worker)
        if worker.kill_at:
            return
        code = os.waitstatus_to_exitcode(status)
        if not self.serving:
            logger.error("a worker could not start; giving up")
            self.stop_all(1)
        elif worker.generation != self.serving:
            logger.error("the reload failed; the former workers go on")
            self.stop([other for other in self.workers if other.generation == self.newest])
            self.newest = self.serving
        else:
            now = time.monotonic()
            self.crashes = 0 if now - worker.started > STABLE_SECONDS else self.crashes + 1
            delay = min(0.1 * 2**self.crashes, LONGEST_BACKOFF_SECONDS)
            logger.error("worker %d ended with %d; a new one starts in %.1f seconds", pid, code, delay)
            self.restarts.append((now + delay, worker.work))

    def stop(self, workers: list[Worker], *, grace: float = GRACE_SECONDS + 1) -> None:
        """Tell workers to stop, and set the time when they are killed."""
        for worker in workers:
            worker.kill_at = time.monotonic() + grace
            with suppress(OSError):
                worker.line.shutdown(socket.SHUT_WR)

    def stop_all(self, exit_code: int, *, grace: float = GRACE_SECONDS + 1) -> None:
        """Stop for good."""
        self.stopping = True
        self.exit_code = exit_code
        self.restarts.clear()
        self.listener.close()
        self.stop(self.workers, grace=grace)


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
    spool: Path,
    announce: Callable[[str], None] | None = None,
    companions: Sequence[Companion] = (),
) -> int:
    """Serve until told to stop and return the exit code; raises ``ServerError`` if the address cannot be had.

    ``make_app`` runs once in each worker. ``announce`` gets the address once all workers are
    ready. Bodies too large for memory wait in nameless files in ``spool``. Each of ``companions``
    runs in a process of its own.
    """
    limits = Limits(
        threads=threads, body_max_bytes=body_max_bytes, upload_max_bytes=upload_max_bytes, upload_prefix=upload_prefix
    )
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = bind(host, port)

    def work(line: socket.socket) -> None:
        tempfile.tempdir = str(spool)
        server = Server(make_app(), listener, limits)
        threading.Thread(target=server.stop_at_end_of, args=(line,), daemon=True).start()
        line.send(b"1")
        server.run()

    def accompany(companion: Companion, line: socket.socket) -> None:
        listener.close()

        def announce_ready(stop: Stop) -> None:
            threading.Thread(target=stop_at_end_of, args=(line, stop), daemon=True).start()
            line.send(b"1")

        companion(announce_ready)

    def announce_address() -> None:
        if announce:
            shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
            announce(f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}")

    with listener:
        works = [work] * workers + [partial(accompany, companion) for companion in companions]
        return Supervisor(listener, works, announce_address).run()


def stop_at_end_of(line: socket.socket, stop: Stop) -> None:
    """Wait for the parent to stop this companion, or to die, and see to it that the companion ends."""
    with suppress(OSError):
        line.recv(1)
    stop()
    time.sleep(GRACE_SECONDS)
    logger.warning("cut off a companion that was busy for %d seconds more", GRACE_SECONDS)
    os._exit(0)
