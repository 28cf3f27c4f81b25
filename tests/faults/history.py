"""What clients sent and what they were answered, in the order of the answers.

The rule: an answer is in the history before its client does anything else; a request without an answer is there
too, with status 0, because what it asked for may or may not have happened.
"""

import hashlib
import json
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CUT = 0
UNSURE = (CUT, 503)
"""Statuses after which the client does not know whether the thing was done."""


@dataclass(frozen=True)
class Event:
    """One request and its answer; ``facts`` is what the client knows of it and did not send in the body."""

    client: int
    operation: str
    started: float
    ended: float
    sent: Any
    status: int
    answer: Any
    facts: dict[str, Any] = field(default_factory=dict)


class History:
    """All events, also written to a file, a line each."""

    def __init__(self, path: Path | None = None) -> None:
        self.events: list[Event] = []
        self._file = path.open("a", encoding="utf-8", buffering=1) if path else None
        self._lock = threading.Lock()

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def add(self, event: Event) -> None:
        """Take one event down."""
        with self._lock:
            self.events.append(event)
            if self._file:
                self._file.write(json.dumps(asdict(event)) + "\n")


def now() -> float:
    """Return the instant, comparable between all clients."""
    return time.monotonic()


def make_content(name: str, size: int) -> bytes:
    """Return the one right content of the file with this name."""
    block = hashlib.shake_256(name.encode()).digest(4088)
    # The number at the head of each block keeps the parts of one file apart.
    return b"".join(number.to_bytes(8, "big") + block for number in range(-(-size // 4096)))[:size]
