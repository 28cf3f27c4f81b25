"""What the user sees: on a terminal a bar for each file under way and one for all, else a line for each that ended."""

import math
import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

NAME_WIDTH = 40
REPORT_SECONDS = 60


class Display:
    """Standard error, with or without bars."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[phase]}", style="cyan"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._total: Total | None = None
        self._reported_at = -math.inf

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stop(self) -> None:
        """Draw no bars any more, as they would write into what standard output shows."""
        self._progress.stop()

    def announce(self, files: int, size: int) -> None:
        """Tell how much there is to do; several files get a bar for all."""
        if files > 1:
            self._total = Total(self._progress, files, size)

    def add(self, name: str, size: int, *, is_counted: bool = True) -> "Bar":
        """Show a file; it is one of those announced, unless it is not counted."""
        shown = make_printable(name)
        shown = shown if len(shown) <= NAME_WIDTH else f"{shown[: NAME_WIDTH // 2]}…{shown[1 - NAME_WIDTH // 2 :]}"
        return Bar(self._progress, self._total if is_counted else None, shown, size)

    def report(self, message: str) -> None:
        """Say what is being waited for, but not all the time."""
        if time.monotonic() - self._reported_at > REPORT_SECONDS:
            self._reported_at = time.monotonic()
            self.print(message)

    def print(self, line: str) -> None:
        """Write a line above the bars."""
        self._console.print(Text(make_printable(line)), soft_wrap=True)


class Total:
    """The bar of all files: what is sent or fetched of what there is to send or fetch."""

    def __init__(self, progress: Progress, files: int, size: int) -> None:
        self._progress = progress
        self._size = size
        self._lock = threading.Lock()
        self._task = progress.add_task(f"all {files} files", total=size, phase="")

    def advance(self, size: int) -> None:
        """Count bytes that have moved."""
        self._progress.advance(self._task, size)

    def leave_out(self, size: int) -> None:
        """Take away bytes that need not move, so that rate and remaining time stay true."""
        with self._lock:
            self._size -= size
            self._progress.update(self._task, total=self._size)


class Bar:
    """A file that is under way."""

    def __init__(self, progress: Progress, total: Total | None, name: str, size: int) -> None:
        self._progress = progress
        self._total = total
        self._size = size
        self._to_move = size
        self._moves = True
        self._lock = threading.Lock()
        self._task = progress.add_task(name, total=size, phase="", start=False)

    def start(self, phase: str, done: int, *, moves: bool = False) -> None:
        """Begin a phase, of which so many bytes were done before; in one that ``moves``, bytes travel."""
        self._moves = moves
        self._progress.reset(self._task, completed=done, phase=phase)
        if moves:
            self._leave(self._size - done)

    def advance(self, size: int) -> None:
        """Count bytes; fewer than none if they have to be sent again."""
        self._progress.advance(self._task, size)
        if self._moves:
            with self._lock:
                self._to_move -= size
            if self._total is not None:
                self._total.advance(size)

    def finish(self) -> None:
        """Take the bar away."""
        self._progress.remove_task(self._task)
        self._leave(0)

    def _leave(self, size: int) -> None:
        """Set how many bytes are still to move."""
        with self._lock:
            fewer, self._to_move = self._to_move - size, size
        if self._total is not None:
            self._total.leave_out(fewer)


def make_printable(text: str) -> str:
    """Return a text of others without what would steer a terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)
