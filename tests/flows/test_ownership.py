"""Whose the store is: no database removes from it what another one put there, or a later state of itself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from datameta.app import StorageCheckError, open_app
from datameta.cli import main
from datameta.errors import UnavailableError
from datameta.logic import fsck, ownership
from datameta.logic import sweep as sweeper
from datameta.models import AppSetting
from datameta.storage import Finding, StorageUnavailableError
from datameta.storage.local import LocalStorage
from tests.conftest import Client, FaultyStorage, Portal, announce, empty_tables


@pytest.fixture
def lab(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A user with three confirmed files, two months later."""
    lab = portal.add_user()
    for name in "abc":
        lab.upload(name, b"ACGT")
    pass_days(monkeypatch, 60)
    return lab


def pass_days(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    for module in (sweeper, fsck):
        monkeypatch.setattr(module, "utc_now", lambda: datetime.now(UTC) + timedelta(days=days))


def check_store(portal: Portal, storage: Any = None) -> dict[str, int]:
    sessions = portal.database.sessions
    return dict(+sweeper.check_store(sessions, storage or portal.storage, orphan_days=35))


def count_objects(portal: Portal) -> int:
    return len(list(portal.storage.list_objects()))


def find_wrong(portal: Portal) -> list[str]:
    reports = fsck.prove_site(portal.database.sessions, portal.storage, orphan_days=35)
    return [f"{each.subject.split()[0]}: {each.message}" for each in reports if getattr(each, "is_wrong", False)]


def copy_mark(portal: Portal) -> Any:
    """Return what puts the database's knowledge of the store back to what it is now, as a backup would."""
    with portal.database.sessions() as db:
        value = db.query(AppSetting).filter_by(key=ownership.KEY).one().value

    def restore() -> None:
        with portal.database.sessions.begin() as db:
            db.query(AppSetting).filter_by(key=ownership.KEY).update({"value": value})

    return restore


def run(portal: Portal, *words: str) -> Any:
    environment = {"DATAMETA_DATABASE_URL": portal.database.url, "DATAMETA_HOME": str(portal.settings.home)}
    return CliRunner().invoke(main, words, env=environment)


def test_a_new_database_removes_nothing_until_it_adopts_the_store(
    lab: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    portal = lab.portal
    empty_tables(portal.database)
    # Neither does it claim the store at its start.
    ownership.claim_store(portal.database.sessions, portal.storage)
    for _ in range(2):
        assert check_store(portal) == {}
    assert count_objects(portal) == 3
    assert "ALARM: nothing is removed from the store. The store is that of another database. See that" in caplog.text
    message = "store: the store is that of another database, and nothing is removed from it"
    assert find_wrong(portal)[0] == message
    done = run(portal, "sweep")
    assert done.exit_code == 1
    assert "Error: Nothing was removed. The store is that of another database. See that" in done.stderr
    done = run(portal, "storage", "adopt")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].endswith("listed by 'datameta fsck' and kept for 35 days.")
    pass_days(monkeypatch, 34)
    assert find_wrong(portal) == []
    assert check_store(portal) == {}
    pass_days(monkeypatch, 38)
    assert [message.split(":")[0] for message in find_wrong(portal)] == ["object"] * 3
    assert check_store(portal) == {"orphaned objects removed": 3}


def test_what_expires_stays_too_where_the_store_is_another_s(portal: Portal) -> None:
    lab = portal.add_user()
    announce(lab)
    sessions = portal.database.sessions
    with sessions.begin() as db:
        db.execute(sweeper.update(sweeper.File).values(upload_expires_at=datetime.now(UTC) - timedelta(days=9)))
    portal.storage.write_mark("another 0")
    assert +sweeper.sweep(sessions, portal.storage) == {}
    silent = FaultyStorage(portal.storage, "read_mark", StorageUnavailableError("silent"))
    assert +sweeper.sweep(sessions, silent) == {}  # type: ignore[arg-type]
    ownership.adopt_store(sessions, portal.storage)
    assert +sweeper.sweep(sessions, portal.storage) == {"uploads expired": 1, "files removed": 1}


def test_a_store_without_a_mark_is_claimed_only_while_it_is_empty(lab: Client) -> None:
    portal = lab.portal
    (portal.settings.home / "storage" / "site-id").unlink()
    ownership.claim_store(portal.database.sessions, portal.storage)
    empty_tables(portal.database)
    assert check_store(portal) == {}
    message = "store: the store holds content, and no mark says of which database, and nothing is removed from it"
    assert find_wrong(portal)[0] == message
    for entry in list(portal.storage.list_objects()):
        portal.storage.delete(entry.key)
    assert find_wrong(portal) == []
    assert check_store(portal) == {}
    assert portal.storage.read_mark() is not None
    assert "The store was this database's already." in run(portal, "storage", "adopt").stdout


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_database_that_was_restored_removes_nothing(lab: Client, is_damaged: bool) -> None:
    portal = lab.portal
    restore = copy_mark(portal)
    assert check_store(portal) == {}
    restore()
    with portal.database.sessions.begin() as db:
        db.execute(sweeper.delete(sweeper.File))
    if is_damaged:
        mark = portal.storage.read_mark()
        assert mark is not None
        portal.storage.write_mark(mark.partition(" ")[0])
    assert check_store(portal) == {}
    assert count_objects(portal) == 3
    assert find_wrong(portal)[0] == (
        "store: the store has been used with a later state, or with another copy, of this database, "
        "and nothing is removed from it"
    )


def test_once_adopted_a_store_is_no_copy_s(lab: Client) -> None:
    portal = lab.portal
    become_copy = copy_mark(portal)
    ownership.adopt_store(portal.database.sessions, portal.storage)
    become_copy()
    assert find_wrong(portal) == ["store: the store is that of another database, and nothing is removed from it"]


def test_the_mark_is_no_setting(portal: Portal) -> None:
    admin = portal.add_user(site_admin=True)
    assert ownership.KEY not in admin.get("/appsettings").text


def fail(*arguments: Any) -> None:
    raise StorageUnavailableError


def test_every_start_tries_the_store(portal: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = portal.settings.__class__(home=tmp_path / "new", database_url=portal.database.url)
    monkeypatch.setattr(LocalStorage, "check", lambda self: [Finding("promise", False, "broken")])
    monkeypatch.setattr(LocalStorage, "read_mark", fail)
    with pytest.raises(StorageCheckError, match="promise: broken"):
        open_app(settings)


def test_a_silent_store_is_adopted_by_nobody(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalStorage, "write_mark", fail)
    with pytest.raises(UnavailableError):
        check_store(portal)
    done = run(portal, "storage", "adopt")
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    assert done.stderr.splitlines()[-1].startswith("Error: ")
