"""The process that reads one sheet: it takes its limits before it touches the file, does one thing, and ends.

Started by ``process.py`` as ``python -I -m datameta.sheets.child``; the order comes as JSON on standard input. Each
line on standard output is a pair of a kind and a value: any number of ``item``, then ``error`` or ``end``.
"""

import contextlib
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from datetime import date, datetime, time
from importlib import import_module
from typing import Any, BinaryIO

import orjson

from datameta.sheets.limits import Limits
from datameta.sheets.values import Fault, SheetError, Value

FLUSH_SIZE = 1 << 16


def main() -> int:
    """Do what standard input says."""
    message = orjson.loads(sys.stdin.buffer.read())
    limits = Limits(**message["limits"])
    take_limits(limits)
    # What is read makes no cycles, and looking for them takes a fifth of the time.
    gc.disable()
    say = Speaker(sys.stdout.fileno())
    try:
        for item in do(message["order"], message["fds"], limits):
            say("item", item)
        say("end", None)
    except SheetError as error:
        say("error", {"message": str(error), "code": error.code})
    except Exception as error:
        # Where, and what kind; what was read stays unsaid.
        print(type(error).__name__, *traceback.format_tb(error.__traceback__), file=sys.stderr)  # noqa: T201
        return 1
    say.flush()
    return 0


def take_limits(limits: Limits) -> None:
    """Limit this process for good."""
    # Ends the process if the one that watches it is gone.
    signal.setitimer(signal.ITIMER_REAL, limits.wall_seconds + 1)
    for kind, most in {
        resource.RLIMIT_AS: limits.address_space,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: limits.output_size,
        resource.RLIMIT_CORE: 0,
    }.items():
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def do(order: dict[str, Any], fds: list[int], limits: Limits) -> Iterator[dict[str, Any]]:
    """Yield what an order yields."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(os.fdopen(fds[0], "rb"))
        if order["do"] == "annotate":
            output = stack.enter_context(os.fdopen(fds[1], "r+b"))
            yield from annotate(order, file, output)
            return
        from datameta.sheets.reader import open_workbook

        workbook = open_workbook(file, order["filename"], limits)
        if order["do"] == "check":
            yield from import_module("datameta.sheets.check").run(workbook, order)
        else:
            yield from read(workbook)


def annotate(order: dict[str, Any], file: BinaryIO, output: BinaryIO) -> Iterator[dict[str, Any]]:
    """Write the annotated file, and yield its format."""
    from datameta.sheets.findings import Finding

    findings = [Finding.from_json(finding) for finding in order["findings"]]
    write = import_module("datameta.sheets.annotate").annotate
    details = {name: order[name] for name in ("filename", "omitted", "header_rows")}
    yield {"format": write(file, output, findings=findings, **details)}


def read(workbook: Any) -> Iterator[dict[str, Any]]:
    """Yield all that is in a workbook."""
    yield {"format": workbook.format, "template": workbook.template_version}
    for table in workbook.tables:
        yield {"table": table.name, "visibility": table.visibility}
        for number, values in table.iterate_rows():
            yield {"row": number, "values": [write_value(value) for value in values]}
        yield {"notices": [vars(notice) for notice in table.list_notices()]}


def write_value(value: Value) -> Any:
    """Return a value as JSON can write it."""
    if isinstance(value, datetime | date | time):
        return {"date": value.isoformat()}
    if isinstance(value, Fault):
        return {"fault": value.code, "shown": value.shown, "message": value.message}
    return value


class Speaker:
    """Writes lines to the parent, many at a time."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._buffer = bytearray()

    def __call__(self, kind: str, value: Any) -> None:
        """Write one line."""
        self._buffer += orjson.dumps([kind, value], option=orjson.OPT_APPEND_NEWLINE)
        if len(self._buffer) > FLUSH_SIZE:
            self.flush()

    def flush(self) -> None:
        """Send what was written."""
        while self._buffer:
            del self._buffer[: os.write(self._number, self._buffer)]


if __name__ == "__main__":
    sys.exit(main())
