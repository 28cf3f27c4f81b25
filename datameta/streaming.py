"""The body of an upload, on its way from the event loop to the application.

The rule this module guards: an upload takes the same little memory whatever its size and whoever sends
it, and an application never takes a part of a body for the whole. The loop is told to receive only once
the application reads, and while there is room; whoever reads beyond what came of a torn body gets an error.
"""

import io
import threading
from collections import deque
from collections.abc import Callable

from datameta.errors import DataMetaError, ValidationError

BUFFER_BYTES = 1 << 20


class Body(io.RawIOBase):
    """A stream that one thread appends to and another one reads; waitress takes it for its buffer.

    ``resume`` is called by the reading thread when the loop may receive again.
    """

    wants_more = False

    def __init__(self, resume: Callable[[], None], *, idle_seconds: float) -> None:
        super().__init__()
        self._resume = resume
        self._idle_seconds = idle_seconds
        self._changed = threading.Condition()
        self._pieces: deque[bytes | memoryview] = deque()
        self._buffered = self._received = 0
        self._is_over = False
        self._error: DataMetaError | None = None

    def __len__(self) -> int:
        return self._received

    def getfile(self) -> "Body":
        """Return what the application reads."""
        return self

    def append(self, data: bytes) -> None:
        """Take what has been received."""
        with self._changed:
            self._received += len(data)
            # An empty piece would be read as the end.
            if not data or self.closed or self._is_over:
                return
            self._pieces.append(data)
            self._buffered += len(data)
            self.wants_more = self.wants_more and self._buffered < BUFFER_BYTES
            self._changed.notify()

    def end(self, error: DataMetaError | None = None) -> None:
        """Say that nothing more will come; the ``error`` is raised to who reads on."""
        with self._changed:
            if not self._is_over:
                self._is_over, self._error = True, error
                self.wants_more = False
                self._changed.notify()

    def break_off(self) -> None:
        """Say that the rest will not come."""
        self.end(ValidationError("The transfer ended too early; send the file again.", code="incomplete_transfer"))

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Return what is there, up to ``size`` bytes, once there is something; nothing at the end.

        Raises ``DataMetaError`` if the body ends too early, is malformed or too large, or its sender stalls.
        """
        if size is None or size < 0:
            return self.readall()
        self._ask_for_more()
        with self._changed:
            if not self._changed.wait_for(lambda: self._pieces or self._is_over, self._idle_seconds):
                self.break_off()
            if self._error is not None and not self._pieces:
                raise self._error
            data = self._take(size)
        self._ask_for_more()
        return data

    def close(self) -> None:
        """Drop what nobody will read."""
        with self._changed:
            self._pieces.clear()
            self.wants_more = False
        super().close()

    def _ask_for_more(self) -> None:
        with self._changed:
            # Not for every piece: to stop and to resume costs the loop a round each.
            if self.wants_more or self._is_over or self._buffered > BUFFER_BYTES // 2:
                return
            self.wants_more = True
        self._resume()

    def _take(self, size: int) -> bytes:
        taken = []
        while self._pieces and len(self._pieces[0]) <= size:
            taken.append(self._pieces.popleft())
            size -= len(taken[-1])
        if self._pieces and not taken:
            piece = memoryview(self._pieces.popleft())
            self._pieces.appendleft(piece[size:])
            taken.append(piece[:size])
        self._buffered -= sum(map(len, taken))
        return b"".join(taken)
