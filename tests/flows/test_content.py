"""Content from files: read once and proven, then put into the store part by part, in the place of what is there."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from datameta.logic import content, parts
from datameta.logic.content import examine_file, put_content
from datameta.storage import ChecksumMismatchError, Storage

KEY = "files/00000000-0000-4000-8000-000000000000"
LONG = b"ACGT" * 5 + b"A"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let parts have ten bytes, and come in chunks of four."""
    monkeypatch.setattr(content, "choose_part_size", lambda size: 10)
    monkeypatch.setattr(content, "CHUNK_BYTES", 4)


@pytest.mark.parametrize("data", [b"", b"A", LONG[:10], LONG[:20], LONG])
def test_a_file_is_put_as_it_is(tmp_path: Path, storage: Storage, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    read: list[int] = []
    found = examine_file(tmp_path / "a", read.append)
    assert (found.size, sum(read)) == (len(data), len(data))
    assert (found.md5, found.sha256) == (hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest())
    assert len(found.part_md5s) == max(1, -(-len(data) // 10))
    put_content(storage, KEY, found)
    assert b"".join(storage.read(KEY)) == data
    assert list(storage.list_uploads()) == []


def test_what_is_there_is_replaced(tmp_path: Path, storage: Storage) -> None:
    for data in (LONG, b"TT"):
        (tmp_path / "a").write_bytes(data)
        put_content(storage, KEY, examine_file(tmp_path / "a", lambda size: None))
    assert b"".join(storage.read(KEY)) == b"TT"


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "a").write_bytes(LONG)
    found = examine_file(tmp_path / "a", lambda size: None)
    put_content(storage, KEY, found)
    (tmp_path / "a").write_bytes(LONG[:-1] + b"C")
    with pytest.raises(ChecksumMismatchError):
        put_content(storage, KEY, found)
    assert b"".join(storage.read(KEY)) == LONG
    assert list(storage.list_uploads()) == []


def test_a_file_that_becomes_shorter_while_it_is_read_is_another(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(LONG)

    def shorten(size: int) -> Any:
        path.write_bytes(LONG[:10])

    found = examine_file(path, shorten)
    assert (found.size, found.md5) == (10, hashlib.md5(LONG[:10]).hexdigest())


def test_parts_are_those_of_all_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "choose_part_size", parts.choose_part_size)
    (tmp_path / "a").write_bytes(b"A")
    assert examine_file(tmp_path / "a", lambda size: None).part_size == parts.SMALLEST_PART
