"""A TCP proxy of the loopback that fails as told: it cuts, half-closes, delays, answers itself, and counts bytes.

The rule: without a rule it changes nothing. A rule sees each piece before it is passed on, and what it raises is done
to this one connection; so a test decides by what was said, never by the clock, where a connection breaks.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

PIECE_BYTES = 64 * 1024

Address = tuple[str, int] | str
"""A host and port, or the path of a socket."""


class Way(Enum):
    """Where a piece goes."""

    UP = "from the client"
    DOWN = "to the client"


class CutError(Exception):
    """Reset both sides; the piece is lost, or passed on first."""

    def __init__(self, *, is_passed: bool = False) -> None:
        super().__init__()
        self.is_passed = is_passed


class HalfCloseError(Exception):
    """Pass nothing more this way, and say so to whom it went; the other way goes on."""


class AnswerError(Exception):
    """Send the client these bytes and close, without asking the server."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


Rule = Callable[[Way, bytes, int], None]
"""Gets a piece, where it goes, and how many bytes went there before on this connection."""


def pass_all(way: Way, piece: bytes, before: int) -> None:
    """Change nothing."""


def cut_after(count: int, way: Way) -> Rule:
    """Cut a connection when so many bytes have gone one way; to the piece, not to the byte."""

    def rule(going: Way, piece: bytes, before: int) -> None:
        if going == way and before + len(piece) > count:
            raise CutError

    return rule


def half_close_after(count: int, way: Way) -> Rule:
    """End one way when so many bytes have gone it."""

    def rule(going: Way, piece: bytes, before: int) -> None:
        if going == way and before + len(piece) > count:
            raise HalfCloseError

    return rule


def delay(seconds: float, way: Way) -> Rule:
    """Hold each piece back that goes one way."""

    def rule(going: Way, piece: bytes, before: int) -> None:
        if going == way:
            time.sleep(seconds)

    return rule


@dataclass
class Once:
    """Wait for a piece with these words, then do something, once; ``action`` may raise what a rule raises."""

    words: bytes
    way: Way
    action: Callable[[], None]
    times: int = 1
    met: int = 0

    def __call__(self, way: Way, piece: bytes, before: int) -> None:
        if way == self.way and self.met < self.times and self.words in piece:
            self.met += 1
            self.action()


def cut(*, is_passed: bool = False) -> None:
    """Raise what cuts."""
    raise CutError(is_passed=is_passed)


def answer(content: bytes) -> None:
    """Raise what answers in the server's place."""
    raise AnswerError(content)


@dataclass
class Proxy:
    """A listening port, where it leads, the rule of the moment, and what has passed."""

    target: Address
    rule: Rule = pass_all
    bytes_up: int = 0
    bytes_down: int = 0
    connections: int = 0
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def port(self) -> int:
        """The port that clients are given instead of the target's."""
        number: int = self.listener.getsockname()[1]
        return number

    @property
    def netloc(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def accept(self) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = self._connect()
            except OSError:
                _reset(client)
                continue
            self._open += [client, server]
            pair = [
                threading.Thread(target=self._pass, args=(Way.UP, client, server), daemon=True),
                threading.Thread(target=self._pass, args=(Way.DOWN, server, client), daemon=True),
            ]
            for thread in pair:
                thread.start()
            self._threads += pair

    def close(self) -> None:
        """Cut what is open, and wait until nothing passes any more."""
        for connection in self._open:
            _reset(connection)
        for thread in self._threads:
            thread.join()

    def _connect(self) -> socket.socket:
        if isinstance(self.target, str):
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.target)
            except OSError:
                server.close()
                raise
            return server
        return socket.create_connection(self.target)

    def _pass(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        try:
            while piece := source.recv(PIECE_BYTES):
                self.rule(way, piece, passed)
                sink.sendall(piece)
                passed += len(piece)
                with self._lock:
                    self.bytes_up += len(piece) if way is Way.UP else 0
                    self.bytes_down += len(piece) if way is Way.DOWN else 0
            sink.shutdown(socket.SHUT_WR)
        except CutError as error:
            if error.is_passed:
                with suppress(OSError):
                    sink.sendall(piece)
            _reset(source)
            _reset(sink)
        except HalfCloseError:
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
                # What the other side still sends is read, so that it is not told.
                while source.recv(PIECE_BYTES):
                    continue
        except AnswerError as error:
            with suppress(OSError):
                source.sendall(error.answer)
                source.shutdown(socket.SHUT_WR)
                while source.recv(PIECE_BYTES):
                    continue
            _reset(sink)
        except OSError:
            _reset(source)
            _reset(sink)


@contextmanager
def run_proxy(target: Address, rule: Rule = pass_all) -> Iterator[Proxy]:
    """Run a proxy until the block ends."""
    proxy = Proxy(target, rule)
    with proxy.listener:
        thread = threading.Thread(target=proxy.accept, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            # Closing alone does not wake the thread.
            proxy.listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            proxy.close()


def _reset(connection: socket.socket) -> None:
    """Close so that the other side reads a reset, not an end."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Another thread may wait for bytes, and would keep the connection open.
        connection.shutdown(socket.SHUT_RD)
    connection.close()
