"""The local store: what a crash, a full disk and other programs may do to its folder."""

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datameta.settings import Settings
from datameta.storage import ChecksumMismatchError, StorageUnavailableError, UploadGoneError, open_storage
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


def test_there_is_no_address(tmp_path: Path) -> None:
    backend = Backend(LocalStorage(tmp_path), "local")
    upload = backend.begin(digest("md5", RIGHT))
    assert upload.request is None
    with pytest.raises(NotImplementedError):
        backend.storage.presign_upload(upload.key, upload.reference, digest("md5", RIGHT), seconds=1)
    with pytest.raises(NotImplementedError):
        backend.storage.presign_download(upload.key, disposition="attachment", seconds=1)


def test_check_names_a_folder_it_cannot_use(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("a file where the folder should be")
    [finding] = LocalStorage(tmp_path / "storage").check()
    assert (finding.name, finding.ok) == ("folder", False)
    assert os.strerror(17) in finding.detail
