"""Confirmed content is read again: the first time for its baseline, then every thirty days; damage is told, once."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from datameta.database import CHECK_LOCK
from datameta.errors import UnavailableError
from datameta.jobs import tasks
from datameta.jobs.tasks import Site
from datameta.logic.verification import check_content, check_due_contents
from datameta.models import File
from datameta.storage import StorageUnavailableError
from datameta.vault import open_vault
from tests.conftest import Client, Portal, do_before, list_events

LONG_AGO = timedelta(days=31)


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user()


def find(portal: Portal, file: Any) -> File:
    with portal.database.sessions() as db:
        return db.scalars(select(File).where(File.uuid == file["id"]["uuid"])).one()


def change(portal: Portal, **values: Any) -> None:
    with portal.database.sessions.begin() as db:
        db.execute(update(File).values(**values))


def check(portal: Portal) -> int:
    return check_due_contents(portal.database.sessions, portal.storage, seconds=60)


def replace_content(portal: Portal, file: Any, content: bytes) -> None:
    """Change content past the portal, as a broken disk does: its name still says what it was."""
    [path] = (portal.settings.home / "storage" / "files").glob(f"*/{file['id']['uuid']}/*")
    path.write_bytes(content)


def test_content_without_a_baseline_gets_one(lab: Client) -> None:
    portal, file = lab.portal, lab.upload("a.fq", b"ACGT")
    known = find(portal, file)
    assert None not in (known.md5, known.sha256, known.checked_at)
    change(portal, md5=None, sha256=None, checked_at=None)
    assert check(portal) == 1
    again = find(portal, file)
    assert (again.md5, again.sha256) == (known.md5, known.sha256)
    assert check(portal) == 0


def test_content_is_read_again_after_thirty_days(lab: Client) -> None:
    portal, file = lab.portal, lab.upload("a.fq", b"ACGT")
    assert check(portal) == 0
    change(portal, checked_at=func.now() - LONG_AGO)
    assert check(portal) == 1
    checked_at = find(portal, file).checked_at
    assert checked_at is not None
    assert checked_at > find(portal, file).confirmed_at  # type: ignore[operator]


@pytest.mark.parametrize("content", [b"ACGA", b"ACG", b"ACGTA", b""])
def test_changed_content_is_an_alarm_and_stays_as_it_is(
    lab: Client, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    portal, file = lab.portal, lab.upload("a.fq", b"ACGT")
    replace_content(portal, file, content)
    change(portal, checked_at=None)
    with caplog.at_level(logging.ERROR):
        assert check(portal) == 1
    assert "content_changed" in caplog.text
    damaged = find(portal, file)
    assert (damaged.problem, damaged.state) == ("content_changed", "confirmed")
    assert check(portal) == 0
    assert not check_content(portal.database.sessions, portal.storage, damaged)
    [event] = list_events(portal, "file.damaged")
    assert event.after["problem"] == "content_changed"
    assert b"".join(portal.storage.read(damaged.storage_key or "")) == content


def test_restored_content_ends_the_alarm(lab: Client) -> None:
    portal, file = lab.portal, lab.upload("a.fq", b"ACGT")
    replace_content(portal, file, b"ACGA")
    change(portal, checked_at=None)
    check(portal)
    replace_content(portal, file, b"ACGT")
    assert check(portal) == 0
    change(portal, checked_at=func.now() - timedelta(days=2))
    assert check(portal) == 1
    assert find(portal, file).problem is None
    [event] = list_events(portal, "file.found_again")
    assert (event.before, event.after) == ({"problem": "content_changed"}, {"problem": None})
    assert check(portal) == 0


def test_missing_content_is_an_alarm(lab: Client) -> None:
    portal, file = lab.portal, lab.upload("a.fq", b"ACGT")
    portal.storage.delete(find(portal, file).storage_key or "")
    assert not check_content(portal.database.sessions, portal.storage, find(portal, file))
    assert find(portal, file).problem == "content_missing"


def test_content_that_cannot_be_read_is_an_alarm_and_the_others_are_read(
    lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datameta.logic.verification.FIRST_WAIT", 0)
    portal, files = lab.portal, [lab.upload(name, b"ACGT") for name in "ab"]
    change(portal, checked_at=None)
    [path] = (portal.settings.home / "storage" / "files").glob(f"*/{files[0]['id']['uuid']}/*")
    path.unlink()
    # To read a folder is refused, as a bad sector is.
    path.mkdir()
    assert check(portal) == 2
    assert [find(portal, file).problem for file in files] == ["content_unreadable", None]
    [event] = list_events(portal, "file.damaged")
    assert event.after["problem"] == "content_unreadable"
    assert check(portal) == 0
    path.rmdir()
    path.write_bytes(b"ACGT")
    change(portal, checked_at=func.now() - timedelta(days=2))
    assert check(portal) == 1
    assert find(portal, files[0]).problem is None


def test_content_that_vanishes_while_it_is_read_is_missing(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datameta.logic.verification.READ_ATTEMPTS", 1)
    portal, file = lab.portal, lab.upload("a.fq", b"ACGT")
    found = find(portal, file)

    def vanish(key: str, *span: int) -> Iterator[bytes]:
        portal.storage.delete(key)
        raise StorageUnavailableError("The content was deleted while it was read.")

    monkeypatch.setattr(portal.storage, "read", vanish)
    assert not check_content(portal.database.sessions, portal.storage, found)
    assert find(portal, file).problem == "content_missing"


def test_a_file_that_is_deleted_meanwhile_is_no_alarm(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    portal, file = lab.portal, lab.upload("a.fq", b"ACGT")
    change(portal, checked_at=None)
    do_before(monkeypatch, portal.storage, "read", lambda: lab.delete(f"/files/{file['id']['uuid']}"))
    assert check(portal) == 1
    assert list_events(portal, "file.damaged") == []


def test_the_clock_brings_the_check_and_one_does_it(lab: Client) -> None:
    portal, file = lab.portal, lab.upload("a.fq", b"ACGT")
    change(portal, sha256=None, checked_at=None)
    site = Site(portal.settings, portal.database, portal.storage, open_vault(portal.settings))
    with portal.database.locked(CHECK_LOCK):
        tasks.check_contents(site, None, 0)  # type: ignore[arg-type]
    assert find(portal, file).sha256 is None
    tasks.check_contents(site, None, 0)  # type: ignore[arg-type]
    assert find(portal, file).sha256 is not None


def test_a_check_ends_with_its_time_and_with_a_silent_store(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    portal = lab.portal
    lab.upload("a.fq", b"ACGT")
    change(portal, checked_at=None)
    assert check_due_contents(portal.database.sessions, portal.storage, seconds=0) == 0

    def refuse(*arguments: Any) -> Iterator[bytes]:
        raise StorageUnavailableError("silent")

    monkeypatch.setattr(portal.storage, "read", refuse)
    monkeypatch.setattr(portal.storage, "size", refuse)
    monkeypatch.setattr("datameta.logic.verification.FIRST_WAIT", 0)
    site = Site(portal.settings, portal.database, portal.storage, open_vault(portal.settings))
    with pytest.raises(UnavailableError):
        tasks.check_contents(site, None, 0)  # type: ignore[arg-type]
    assert list_events(portal, "file.damaged") == []
