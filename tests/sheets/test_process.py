"""The process that reads a sheet may fail in any way: who sent the sheet gets a sentence, and nobody else notices."""

import gc
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from datameta.sheets.limits import DEFAULT_LIMITS, Limits
from datameta.sheets.process import run_child
from datameta.sheets.values import SheetError
from tests.sheets.files import Xlsx, cell, ods, ods_row, ods_table, ods_text, row, text

MIB = 1 << 20
READ = {"do": "read", "filename": "x"}
LONG = Xlsx("".join(row(n, *(text(f"{letter}{n}", f"{letter}{n}") for letter in "ABCDEFGH")) for n in range(1, 20_000)))


def read(content: bytes, limits: Limits = DEFAULT_LIMITS) -> list[dict[str, Any]]:
    """Read a sheet in a child and return all that it says."""
    return list(run_child(READ, io.BytesIO(content), limits=limits))


def list_children() -> set[int]:
    """Return the processes that this one has started and that are not gone."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return {int(number) for number in children.read_text().split()}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Check that each test leaves no child and no open file behind."""
    gc.collect()
    children, files = list_children(), len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert list_children() == children
    assert len(os.listdir("/proc/self/fd")) == files


@contextmanager
def refused(code: str = "sheet_too_hard") -> Iterator[None]:
    """Expect an error."""
    with pytest.raises(SheetError) as caught:
        yield
    assert caught.value.code == code
    assert str(caught.value).endswith(".")


def test_what_a_child_reads() -> None:
    styled = cell("B2", "45322", style=1), cell("C2", "7.4", style=2), cell("D2", "45322.5", style=3)
    rows = row(1, text("A1", "id")) + row(2, text("A2", "日本"), *styled)
    assert read(Xlsx(rows, formats=["yyyy-mm-dd", "0", "yyyy-mm-dd hh:mm"]).build()) == [
        {"format": "xlsx", "template": None},
        {"table": "Samples", "visibility": "visible"},
        {"row": 1, "values": ["id"]},
        {
            "row": 2,
            "values": [
                "日本",
                {"date": "2024-01-31"},
                {
                    "fault": "cell_rounded",
                    "shown": "7",
                    "message": "The cell shows 7, but holds 7.4; round the value, or show all of its digits.",
                },
                {"date": "2024-01-31T12:00:00"},
            ],
        },
        {"notices": []},
    ]
    assert read(ods(ods_table(ods_row(ods_text("x")))))[2] == {"row": 1, "values": ["x"]}
    assert read(b"a,b\n")[2] == {"row": 1, "values": ["a", "b"]}


def test_a_file_that_the_system_knows_is_handed_over(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(b"a,b\n1,2\n")
    with path.open("rb") as file:
        # Whatever of it was read before.
        assert file.read(3) == b"a,b"
        assert [item["row"] for item in run_child(READ, file) if "row" in item] == [1, 2]
        assert not file.closed


def test_a_process_with_more_open_files_than_select_takes() -> None:
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert max(opened) > 1024
        assert read(b"Name\nx\n")
    finally:
        for number in opened:
            os.close(number)


def test_a_reason_of_the_child_is_ours() -> None:
    with refused("sheet_encoding"):
        read(b"a,b\n\xff")
    with pytest.raises(SheetError, match=r"byte 0xFF at offset 4 \(line 2\)"):
        read(b"a,b\n\xff")


def test_what_was_said_before_an_error_has_come() -> None:
    said = []
    with refused("broken_file"):
        for item in run_child(READ, io.BytesIO(Xlsx(row(1, text("A1", "x")) + row(1, text("A1", "x"))).build())):
            said.append(item)  # noqa: PERF402
    assert said[0] == {"format": "xlsx", "template": None}


def test_a_child_that_eats_memory() -> None:
    strings = [f"<t>{number:0>100}</t>" for number in range(300_000)]
    content = Xlsx(row(1, cell("A1", "0", "s")), strings=strings).build()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with refused():
        read(content, replace(DEFAULT_LIMITS, address_space=50 * MIB))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 * 1024
    assert read(content)[-1] == {"notices": []}


def test_a_child_that_eats_processor_time() -> None:
    content = Xlsx("".join(f"<row><c><v>{number}.5</v></c></row>" for number in range(100_000)) * 10, name="x").build()
    with refused():
        read(content, replace(DEFAULT_LIMITS, cpu_seconds=1, rows=10**7))


def test_a_child_that_sleeps() -> None:
    before = list_children()
    said = run_child(READ, io.BytesIO(LONG.build()), limits=replace(DEFAULT_LIMITS, wall_seconds=2))
    assert next(said)
    [child] = list_children() - before
    os.kill(child, signal.SIGSTOP)
    with refused():
        list(said)


def test_a_child_that_is_killed() -> None:
    before = list_children()
    said = run_child(READ, io.BytesIO(LONG.build()))
    assert next(said) == {"format": "xlsx", "template": None}
    [child] = list_children() - before
    os.kill(child, signal.SIGKILL)
    with refused():
        list(said)


def test_a_child_whose_words_nobody_wants() -> None:
    said = run_child(READ, io.BytesIO(LONG.build()))
    assert next(said)
    said.close()


def test_an_order_that_does_not_exist(caplog: pytest.LogCaptureFixture) -> None:
    with refused():
        list(run_child({"do": "read"}, io.BytesIO(b"secret,value\n")))
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text


def test_the_child_knows_nothing_of_our_secrets_and_limits_itself() -> None:
    script = """
import os, resource, sys
from datameta.sheets.child import take_limits
from datameta.sheets.limits import DEFAULT_LIMITS
take_limits(DEFAULT_LIMITS)
kinds = resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE
print(*(resource.getrlimit(kind)[0] for kind in kinds))
"""
    limits = DEFAULT_LIMITS
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    expected = limits.address_space, limits.cpu_seconds, limits.open_files, limits.output_size, 0
    assert [int(number) for number in done.stdout.split()] == list(expected)


def test_a_child_that_nobody_watches_ends(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.xlsx"
    sheet.write_bytes(LONG.build())
    with sheet.open("rb") as file, tempfile.TemporaryFile() as orders:
        limits = replace(DEFAULT_LIMITS, wall_seconds=1)
        orders.write(json.dumps({"order": READ, "limits": asdict(limits), "fds": [file.fileno()]}).encode())
        orders.seek(0)
        command = [sys.executable, "-I", "-m", "datameta.sheets.child"]
        # Nobody reads what it says.
        child = subprocess.Popen(command, stdin=orders, stdout=subprocess.PIPE, pass_fds=[file.fileno()])
        assert child.wait(60) == -signal.SIGALRM
        assert child.stdout is not None
        child.stdout.close()


def test_much_is_read_in_little_memory_of_ours() -> None:
    content = Xlsx("".join(f"<row>{'<c><v>12345</v></c>' * 10}</row>" for _ in range(20_000))).build()
    assert sum("row" in item for item in run_child(READ, io.BytesIO(content))) == 20_000
