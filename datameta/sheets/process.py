"""Sheets are read in a process of their own, which may fail in any way without anybody noticing but who sent the sheet.

The child limits itself before it touches the file (``child.py``) and dies with the kernel's clock whatever happens
to us. We take no more of it than one line at a time, kill it at the wall limit, and believe that it is done only when
it says so: everything else, a crash, a kill, a want of memory, is a sheet that is too hard.
"""

import io
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import IO, Any, BinaryIO

import orjson

from datameta.sheets.limits import DEFAULT_LIMITS, Limits
from datameta.sheets.values import SheetError

logger = logging.getLogger(__name__)

LONGEST_LINE = 1 << 26
READ_SIZE = 1 << 16
INHERITED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""What a child needs to know of our environment; our secrets are not among it."""
TOO_HARD = "The sheet is too large or too complicated to be read; send it in several files, or without its formats."


def run_child(
    order: dict[str, Any], file: BinaryIO, *, output: BinaryIO | None = None, limits: Limits = DEFAULT_LIMITS
) -> Iterator[dict[str, Any]]:
    """Do ``order`` with ``file`` in a child process and yield what it says, one thing at a time.

    What the child writes for annotated workbooks goes to ``output``. Positions in both files are moved. Raises
    ``SheetError``: the child's own, or ``sheet_too_hard`` if it did not come to its end.
    """
    with ExitStack() as stack:
        orders, words = stack.enter_context(tempfile.TemporaryFile()), stack.enter_context(tempfile.TemporaryFile())
        source = with_number(file, stack)
        target = None if output is None else with_number(output, stack, is_empty=True)
        fds = [source.fileno(), *([] if target is None else [target.fileno()])]
        # A file, not a pipe: a child that never reads it can't keep us waiting.
        orders.write(orjson.dumps({"order": order, "limits": asdict(limits), "fds": fds}))
        orders.seek(0)
        deadline = time.monotonic() + limits.wall_seconds
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "datameta.sheets.child"],
            stdin=orders,
            stdout=subprocess.PIPE,
            stderr=words,
            pass_fds=fds,
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            is_done = False
            for line in read_lines(process.stdout, deadline):
                try:
                    kind, value = orjson.loads(line)
                except ValueError as error:
                    raise SheetError(TOO_HARD, "sheet_too_hard") from error
                if kind == "item":
                    yield value
                elif kind == "error":
                    raise SheetError(value["message"], value["code"])
                else:
                    is_done = True
            if not is_done:
                raise SheetError(TOO_HARD, "sheet_too_hard")
        except SheetError as error:
            if error.code == "sheet_too_hard":
                process.kill()
                process.wait()
                report_end(process.returncode, words)
            raise
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        if output is not None and target is not None and target is not output:
            copy(target, output)


def read_lines(pipe: IO[bytes], deadline: float) -> Iterator[bytes]:
    """Yield whole lines until the pipe is closed. Raises ``SheetError`` at the deadline."""
    number = pipe.fileno()
    # Unlike select(), it takes any descriptor, also the two thousandth of a busy portal.
    poll = select.poll()
    poll.register(number, select.POLLIN)
    pieces: list[bytes] = []
    size = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise SheetError(TOO_HARD, "sheet_too_hard")
        data = os.read(number, READ_SIZE)
        if not data:
            return
        *whole, rest = data.split(b"\n")
        for piece in whole:
            yield b"".join([*pieces, piece])
            pieces.clear()
            size = 0
        pieces.append(rest)
        size += len(rest)
        if size > LONGEST_LINE:
            raise SheetError(TOO_HARD, "sheet_too_hard")


def with_number(file: BinaryIO, stack: ExitStack, *, is_empty: bool = False) -> BinaryIO:
    """Return the file if the system knows it, else one that it knows with the same content, until ``stack`` ends."""
    try:
        file.flush()
        file.fileno()
    except (AttributeError, OSError, io.UnsupportedOperation):
        known = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        if not is_empty:
            file.seek(0)
            copy(file, known)
        return known
    return file


def copy(source: BinaryIO, target: Any) -> None:
    """Copy a file from its beginning."""
    source.seek(0)
    while data := source.read(READ_SIZE):
        target.write(data)
    target.flush()


def report_end(code: int, words: IO[bytes]) -> None:
    """Log how a child ended; it writes where it failed, never what it read."""
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
    words.seek(0)
    logger.warning("A sheet's reader ended with %s: %s", how, words.read(4000).decode("utf-8", "replace").strip())
