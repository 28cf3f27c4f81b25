"""The local store: what a crash, a full disk and other programs may do to its folder."""

import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from datameta.settings import Settings
from datameta.storage import (
    ChecksumMismatchError,
    Finding,
    NoDataError,
    StorageUnavailableError,
    UploadGoneError,
    open_storage,
)
from datameta.storage.local import LocalStorage
from tests.storage.backends import Backend, digest, new_key

RIGHT, OTHER = b"right content", b"other content"

# Writes part of a transfer, says so, and never ends.
WRITER = """
import sys
from pathlib import Path
from datameta.storage.local import LocalStorage

def chunks():
    yield b"torn"
    print("written", flush=True)
    sys.stdin.read()

LocalStorage(Path(sys.argv[1])).write(sys.argv[2], sys.argv[3], chunks())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "storage"


@pytest.fixture
def storage(folder: Path) -> LocalStorage:
    return LocalStorage(folder)


def fill(storage: LocalStorage, data: bytes) -> tuple[str, str]:
    key = new_key()
    upload = storage.begin_upload(key, digest("md5", data))
    storage.write(key, upload, [data])
    return key, upload


def all_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``limit`` bytes."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def test_open_storage_reads_and_writes_nothing(tmp_path: Path) -> None:
    storage = open_storage(Settings(home=tmp_path / "home"))
    assert isinstance(storage, LocalStorage)
    assert list(storage.list_uploads()) == []
    assert list(storage.list_objects()) == []
    assert not (tmp_path / "home").exists()


def test_nobody_else_may_read(storage: LocalStorage, folder: Path) -> None:
    key, upload = fill(storage, RIGHT)
    fill(storage, OTHER)
    storage.complete(key, upload, digest("md5", RIGHT))
    for path in [folder, *all_below(folder)]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_killed_writer_leaves_the_former_content(storage: LocalStorage, folder: Path) -> None:
    key, upload = fill(storage, RIGHT)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), key, upload], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    assert len(all_below(folder / "uploads")) == 3
    storage.complete(key, upload, digest("sha256", RIGHT))
    assert b"".join(storage.read(key)) == RIGHT
    assert len(all_below(folder / "files")) == 3
    assert all_below(folder / "uploads") == []


def test_crash_between_two_transfers_lets_either_be_completed(storage: LocalStorage, folder: Path) -> None:
    for data in (RIGHT, OTHER):
        key, upload = fill(storage, OTHER)
        # The crash came before the former transfer was removed.
        [entry] = (folder / "uploads").iterdir()
        (entry / f"{digest('md5', RIGHT)}-{digest('sha256', RIGHT)}").write_bytes(RIGHT)
        storage.complete(key, upload, digest("md5", data))
        assert b"".join(storage.read(key)) == data


def test_refused_completion_keeps_what_was_sent(storage: LocalStorage, folder: Path) -> None:
    key, upload = fill(storage, RIGHT)
    before = all_below(folder)
    with pytest.raises(ChecksumMismatchError):
        storage.complete(key, upload, digest("md5", OTHER))
    assert all_below(folder / "uploads") == [path for path in before if path.is_relative_to(folder / "uploads")][1:]


def test_second_upload_for_a_key_never_replaces_its_content(storage: LocalStorage) -> None:
    key, upload = fill(storage, RIGHT)
    storage.complete(key, upload, digest("md5", RIGHT))
    for data in (OTHER, RIGHT):
        upload = storage.begin_upload(key, digest("md5", data))
        storage.write(key, upload, [data])
        if data == OTHER:
            with pytest.raises(UploadGoneError):
                storage.complete(key, upload, digest("md5", data))
        else:
            assert storage.complete(key, upload, digest("md5", data)).size == len(RIGHT)
        storage.abort(key, upload)
        assert b"".join(storage.read(key)) == RIGHT


def test_what_a_crash_in_delete_left_is_listed_and_harmless(storage: LocalStorage, folder: Path) -> None:
    key, upload = fill(storage, RIGHT)
    storage.complete(key, upload, digest("md5", RIGHT))
    [content] = (path for path in all_below(folder / "files") if path.is_file())
    content.unlink()
    assert storage.size(key) is None
    assert [(entry.key, entry.size) for entry in storage.list_objects()] == [(key, 0)]
    with pytest.raises(UploadGoneError):
        storage.complete(key, upload, digest("md5", RIGHT))
    storage.delete(key)
    assert list(storage.list_objects()) == []


def test_foreign_files_are_left_alone(storage: LocalStorage, folder: Path) -> None:
    key, upload = fill(storage, RIGHT)
    for place in ("uploads", "files", "files/aa"):
        (folder / place / "lost+found").mkdir(parents=True)
        (folder / place / "notes.txt").write_text("not ours")
        (folder / place / f"notes.{'0' * 32}").mkdir()
    assert [(each.key, each.upload) for each in storage.list_uploads()] == [(key, upload)]
    assert list(storage.list_objects()) == []


@pytest.mark.parametrize("reference", ["", "..", "../../etc", "0" * 31, "0" * 32 + "\n", "0" * 31 + "/", "put"])
def test_references_the_portal_did_not_make(storage: LocalStorage, reference: str) -> None:
    key, checksum = new_key(), digest("md5", RIGHT)
    with pytest.raises(ValueError, match="32 hex digits"):
        storage.write(key, reference, [RIGHT])
    with pytest.raises(ValueError, match="32 hex digits"):
        storage.complete(key, reference, checksum)
    with pytest.raises(ValueError, match="32 hex digits"):
        storage.abort(key, reference)


def test_reference_of_another_key(storage: LocalStorage) -> None:
    _, upload = fill(storage, RIGHT)
    with pytest.raises(UploadGoneError):
        storage.write(new_key(), upload, [OTHER])


def test_a_link_in_place_of_an_upload_is_not_followed(storage: LocalStorage, folder: Path, tmp_path: Path) -> None:
    key, upload = fill(storage, RIGHT)
    [entry] = (folder / "uploads").iterdir()
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageUnavailableError):
        storage.write(key, upload, [OTHER])


def test_full_disk(storage: LocalStorage, folder: Path) -> None:
    key, upload = fill(storage, RIGHT)
    before = all_below(folder)
    with full_disk(2**20), pytest.raises(StorageUnavailableError):
        storage.write(key, upload, [bytes(2**21)])
    assert all_below(folder) == before
    storage.complete(key, upload, digest("md5", RIGHT))
    assert b"".join(storage.read(key)) == RIGHT


def test_broken_folder(storage: LocalStorage, folder: Path) -> None:
    key, upload = fill(storage, RIGHT)
    name = key.removeprefix("files/")
    (folder / "files" / name[:2]).mkdir()
    (folder / "files" / name[:2] / name).write_text("a file where a folder should be")
    with pytest.raises(StorageUnavailableError):
        storage.complete(key, upload, digest("md5", RIGHT))
    with pytest.raises(StorageUnavailableError):
        storage.delete(key)


class CrashError(BaseException):
    """The process died."""


class Steps:
    """Counts the changes to the disk, and lets the process die at one: neither that one nor any later comes about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
        self.left = last
        for name in ("fsync", "link", "mkdir", "open", "rename", "rmdir", "unlink"):
            monkeypatch.setattr(os, name, self.count(getattr(os, name)))

    def count(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def take(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise CrashError
            return step(*arguments, **options)

        return take


def live_again_after_each_crash(act: Callable[[], object], recover: Callable[[], None]) -> int:
    """Let ``act`` die at each of its steps in turn, and ``recover`` after each; return how many there were."""
    for last in count():
        with pytest.MonkeyPatch.context() as monkeypatch:
            steps = Steps(monkeypatch, last)
            with suppress(CrashError):
                act()
        recover()
        if steps.left >= 0:
            return last
    raise AssertionError


def test_crash_anywhere_in_a_session_loses_and_changes_nothing(storage: LocalStorage, folder: Path) -> None:
    contents = [RIGHT, b"second part", OTHER]
    md5s = [digest("md5", data) for data in contents]
    begun: list[tuple[str, str]] = []

    def send(key: str, upload: str, number: int, data: bytes) -> None:
        storage.write_part(key, upload, number, [data], md5=digest("md5", data), size=len(data))

    def act() -> None:
        begun.append((new_key(), ""))
        key = begun[-1][0]
        begun[-1] = (key, storage.begin_parts(key))
        # The second part is sent with other bytes first.
        for number, data in [(3, OTHER), (2, OTHER), (2, contents[1]), (1, RIGHT)]:
            send(*begun[-1], number, data)
        storage.complete_parts(*begun[-1], md5s)

    def recover() -> None:
        key, upload = begun[-1]
        if not upload:
            # Nobody knows the reference; the sweeper finds the upload.
            for orphan in storage.list_uploads():
                storage.abort(orphan.key, orphan.upload)
            return
        with suppress(UploadGoneError):
            arrived = {part.number: part.md5 for part in storage.list_parts(key, upload)}
            for path in all_below(folder / "uploads"):
                if path.is_file() and not path.name.startswith("part-"):
                    assert digest("md5", path.read_bytes()) == path.name[6:]
            for number, (md5, data) in enumerate(zip(md5s, contents, strict=True), 1):
                if arrived.get(number) != md5:
                    send(key, upload, number, data)
        assert storage.complete_parts(key, upload, md5s).size == sum(map(len, contents))
        assert b"".join(storage.read(key)) == b"".join(contents)
        assert all_below(folder / "uploads") == []
        assert len([path for path in all_below(folder / "files") if path.is_file()]) == 3
        storage.delete(key)

    assert live_again_after_each_crash(act, recover) > 30


def test_crash_anywhere_in_a_single_upload_loses_and_changes_nothing(storage: LocalStorage, folder: Path) -> None:
    begun: list[tuple[str, str]] = []

    def act() -> None:
        key = new_key()
        begun[:] = []
        begun.append((key, storage.begin_upload(key, digest("md5", RIGHT))))
        storage.write(*begun[0], [OTHER])
        storage.write(*begun[0], [RIGHT])
        storage.complete(*begun[0], digest("md5", RIGHT))

    def recover() -> None:
        for key, upload in begun:
            try:
                storage.complete(key, upload, digest("md5", RIGHT))
            except (NoDataError, ChecksumMismatchError):
                storage.write(key, upload, [RIGHT])
                stored = storage.complete(key, upload, digest("md5", RIGHT))
                assert (stored.md5, stored.sha256) == (digest("md5", RIGHT), digest("sha256", RIGHT))
            assert b"".join(storage.read(key)) == RIGHT
            storage.delete(key)
        for orphan in storage.list_uploads():
            storage.abort(orphan.key, orphan.upload)
        assert all_below(folder / "uploads") == []

    assert live_again_after_each_crash(act, recover) > 15


@pytest.mark.parametrize("is_completed", [False, True])
def test_crash_anywhere_in_removing_leaves_what_can_be_removed_again(
    storage: LocalStorage, folder: Path, is_completed: bool
) -> None:
    begun: list[tuple[str, str]] = []

    def prepare() -> None:
        key = new_key()
        begun[:] = [(key, storage.begin_parts(key))]
        for number in (1, 2, 3):
            storage.write_part(key, begun[0][1], number, [RIGHT], md5=digest("md5", RIGHT), size=len(RIGHT))
        if is_completed:
            storage.complete_parts(*begun[0], [digest("md5", RIGHT)] * 3)

    def remove() -> None:
        storage.abort(*begun[0])
        storage.delete(begun[0][0])

    def recover() -> None:
        # What is left is found, so that it can be removed.
        if any(path.is_file() for path in all_below(folder)):
            listed = [entry.key for entry in storage.list_objects()] + [each.key for each in storage.list_uploads()]
            assert listed == [begun[0][0]]
        remove()
        assert not any(path.is_file() for path in all_below(folder))
        assert list(storage.list_objects()) == list(storage.list_uploads()) == []
        prepare()

    prepare()
    assert live_again_after_each_crash(remove, recover) >= 5


def test_crash_between_two_versions_of_a_part_lets_the_later_count(storage: LocalStorage, folder: Path) -> None:
    key = new_key()
    upload = storage.begin_parts(key)
    [entry] = (folder / "uploads").iterdir()
    for data, changed_at in ((RIGHT, 1), (OTHER, 2)):
        path = entry / f"00001.{digest('md5', data)}"
        path.write_bytes(data)
        os.utime(path, (changed_at, changed_at))
    assert [part.md5 for part in storage.list_parts(key, upload)] == [digest("md5", OTHER)]
    storage.complete_parts(key, upload, [digest("md5", RIGHT)])
    assert b"".join(storage.read(key)) == RIGHT


def test_session_never_replaces_content_and_content_never_a_session(storage: LocalStorage) -> None:
    key, upload = fill(storage, RIGHT)
    session = storage.begin_parts(key)
    storage.write_part(key, session, 1, [OTHER], md5=digest("md5", OTHER), size=len(OTHER))
    storage.complete(key, upload, digest("md5", RIGHT))
    with pytest.raises(UploadGoneError):
        storage.complete_parts(key, session, [digest("md5", OTHER)])
    storage.abort(key, session)
    assert b"".join(storage.read(key)) == RIGHT


def test_part_in_flight_while_a_completion_fails(storage: LocalStorage) -> None:
    key, upload = fill(storage, RIGHT)
    session = storage.begin_parts(key)
    storage.write_part(key, session, 1, [OTHER], md5=digest("md5", OTHER), size=len(OTHER))
    storage.complete(key, upload, digest("md5", RIGHT))

    def complete_midway() -> Iterator[bytes]:
        with pytest.raises(UploadGoneError):
            storage.complete_parts(key, session, [digest("md5", OTHER)])
        yield OTHER

    with pytest.raises(UploadGoneError):
        storage.write_part(key, session, 2, complete_midway(), md5=digest("md5", OTHER), size=len(OTHER))
    assert b"".join(storage.read(key)) == RIGHT


def test_ten_thousand_parts(storage: LocalStorage, folder: Path) -> None:
    key = new_key()
    upload = storage.begin_parts(key)
    [entry] = (folder / "uploads").iterdir()
    parts = [b"%05d" % number for number in range(1, 10_001)]
    for number, part in enumerate(parts, 1):
        (entry / f"{number:05d}.{digest('md5', part)}").write_bytes(part)
    assert [part.number for part in storage.list_parts(key, upload, after=9_998)] == [9_999, 10_000]
    assert storage.complete_parts(key, upload, [digest("md5", part) for part in parts]).size == 50_000
    assert storage.size(key) == 50_000
    assert b"".join(storage.read(key)) == b"".join(parts)
    assert b"".join(storage.read(key, 24_998, 25_007)) == b"".join(parts)[24_998:25_007]


def test_content_that_is_deleted_while_it_is_read(storage: LocalStorage) -> None:
    key = new_key()
    upload = storage.begin_parts(key)
    for number in (1, 2):
        storage.write_part(key, upload, number, [RIGHT], md5=digest("md5", RIGHT), size=len(RIGHT))
    storage.complete_parts(key, upload, [digest("md5", RIGHT)] * 2)
    chunks = storage.read(key)
    storage.delete(key)
    assert next(chunks) == RIGHT
    with pytest.raises(StorageUnavailableError):
        next(chunks)


def test_content_that_is_deleted_while_it_is_measured(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    key, upload = fill(storage, RIGHT)
    storage.complete(key, upload, digest("md5", RIGHT))
    stat = os.stat

    def delete_first(path: Any, **options: Any) -> os.stat_result:
        monkeypatch.setattr(os, "stat", stat)
        storage.delete(key)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", delete_first)
    assert storage.size(key) is None


def test_full_disk_leaves_the_former_part(storage: LocalStorage, folder: Path) -> None:
    key = new_key()
    upload = storage.begin_parts(key)
    storage.write_part(key, upload, 1, [RIGHT], md5=digest("md5", RIGHT), size=len(RIGHT))
    before = all_below(folder)
    large = bytes(2**21)
    with full_disk(2**20), pytest.raises(StorageUnavailableError):
        storage.write_part(key, upload, 1, [large], md5=digest("md5", large), size=len(large))
    assert all_below(folder) == before


def test_check_finds_a_disk_that_does_not_sync(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(22, "no fsync here")

    monkeypatch.setattr(os, "fsync", refuse)
    assert storage.check()[-1] == Finding("the check ran to its end", False, "no fsync here")


def test_check_finds_a_disk_that_renames_over_content(
    storage: LocalStorage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def replace(path: Path, target: Path) -> Path:
        if target.is_dir():
            shutil.rmtree(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", replace)
    failed = [finding.name for finding in storage.check() if finding.ok is False]
    assert failed[0] == "content is never replaced"
    assert not any(path.is_file() for path in all_below(folder))


def test_there_is_no_address(tmp_path: Path) -> None:
    backend = Backend(LocalStorage(tmp_path), "local")
    upload = backend.begin(digest("md5", RIGHT))
    assert upload.request is None
    with pytest.raises(NotImplementedError):
        backend.storage.presign_upload(upload.key, upload.reference, digest("md5", RIGHT), seconds=1)
    with pytest.raises(NotImplementedError):
        backend.begin_session().presign(1, RIGHT)
    with pytest.raises(NotImplementedError):
        backend.storage.presign_download(upload.key, disposition="attachment", seconds=1)


def test_check_names_a_folder_it_cannot_use(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("a file where the folder should be")
    [finding] = LocalStorage(tmp_path / "storage").check()
    assert (finding.name, finding.ok) == ("the check ran to its end", False)
    assert os.strerror(17) in finding.detail


def test_content_that_is_deleted_while_it_is_completed_is_gone(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_sync_parents", storage.delete)
    key, checksum = new_key(), digest("md5", b"ACGT")
    upload = storage.begin_upload(key, checksum)
    storage.write(key, upload, [b"ACGT"])
    with pytest.raises(UploadGoneError):
        storage.complete(key, upload, checksum)
    key = new_key()
    upload = storage.begin_parts(key)
    storage.write_part(key, upload, 1, [b"ACGT"], md5=checksum, size=4)
    with pytest.raises(UploadGoneError):
        storage.complete_parts(key, upload, [checksum])
