"""A child process that does one thing with one sheet, and can do no harm: in bounded memory, processor and wall time.

Files that people send are hostile until they have been read, and the libraries that read them give way in other
ways than by an exception. Whatever becomes of the child, its parent goes on, and who sent the file gets a sentence.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

import orjson

from datameta.sheets.values import SheetError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What a child may take: bytes of address space, seconds of processor and of wall time, bytes of a result."""

    memory: int = 1 << 30
    cpu_seconds: int = 90
    wall_seconds: float = 120
    output_bytes: int = 1 << 30


def run_child(
    order: Mapping[str, Any], file: IO[bytes], *, output: IO[bytes] | None = None, limits: Limits = Limits()
) -> Iterator[dict[str, Any]]:
    """Yield what a child says, line by line, that does ``order`` with ``file`` and may write into ``output``.

    Raises ``SheetError`` with what the child found wrong with the file, or because it went beyond its limits.
    """
    file.seek(0)
    descriptors = [file.fileno(), *([output.fileno()] if output is not None else [])]
    command = [sys.executable, "-I", "-m", "datameta.sheets.child", *map(str, descriptors)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        # Nothing of the portal's settings, among them its secrets, is the child's business.
        env={"PATH": os.defpath, "LANG": "C.UTF-8"},
    ) as process:
        timer = threading.Timer(limits.wall_seconds, process.kill)
        timer.start()
        try:
            yield from _listen(process, {**order, "limits": asdict(limits)})
        finally:
            timer.cancel()
            process.kill()
    # The child ended its work before it was killed, or this would not be reached.


def _listen(process: "subprocess.Popen[bytes]", order: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    assert process.stdin is not None, "a pipe"
    assert process.stdout is not None, "a pipe"
    try:
        with process.stdin as stream:
            stream.write(orjson.dumps(order))
    except BrokenPipeError:
        pass
    for line in process.stdout:
        said = orjson.loads(line)
        if "error" in said:
            raise SheetError(said["error"]["message"], said["error"]["code"])
        if "over" in said:
            return
        yield said
    log.warning("the reader of a sheet ended with %s", process.wait())
    message = (
        "The file could not be read within the limits of time and memory for sheets. "
        "Save the rows that are needed as a new workbook, and send that."
    )
    raise SheetError(message, "sheet_too_hard")
