"""Whatever a crash leaves, the sweeper ends: each row of its table, and each point at which a process can die."""

import hashlib
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from datameta.errors import UnavailableError
from datameta.jobs import tasks
from datameta.jobs.tasks import Site as Jobs
from datameta.jobs.worker import do_due_jobs
from datameta.logic import inventory
from datameta.logic import sweep as sweeper
from datameta.logic.mail import write_mail
from datameta.storage import StorageUnavailableError
from datameta.vault import open_vault
from tests.conftest import (
    Client,
    Crash,
    FaultyStorage,
    Portal,
    announce,
    confirm,
    do_before,
    list_events,
    read_mails,
    send,
)

MD5 = hashlib.md5(b"ACGT").hexdigest()
OTHER = "0" * 32


class Site(SimpleNamespace):
    """A portal with one user, whose store can fail, and the means to let time pass."""

    portal: Portal
    lab: Client
    storage: FaultyStorage
    monkeypatch: pytest.MonkeyPatch

    def break_at(self, method: str, *, is_after: bool = False, error: BaseException | None = None) -> None:
        self.storage.method, self.storage.is_after = method, is_after
        self.storage.error = error or Crash()

    def age(self, **duration: int) -> None:
        """Let every row and every object get older."""
        age = timedelta(**duration)
        self.execute("UPDATE files SET state_changed_at = state_changed_at - :age", age=age)
        self.execute("UPDATE files SET upload_expires_at = upload_expires_at - :age", age=age)
        self.execute("UPDATE files SET lease_until = lease_until - :age", age=age)
        self.execute("UPDATE download_tokens SET expires_at = expires_at - :age", age=age)
        self.monkeypatch.setattr(sweeper, "utc_now", lambda: datetime.now(UTC) + age)

    def execute(self, statement: str, **values: Any) -> None:
        with self.portal.database.engine.begin() as connection:
            connection.execute(text(statement), values)

    def sweep(self) -> dict[str, int]:
        """Sweep, and then again: the second time finds nothing. Return what the first time did."""
        self.storage.method = ""
        done = self.sweep_once()
        assert self.sweep_once() == {}
        return done

    def sweep_once(self) -> dict[str, int]:
        sessions: Any = self.portal.database.sessions
        done = sweeper.sweep(sessions, self.storage)
        return dict(+(done + sweeper.check_store(sessions, self.storage, orphan_days=35)))

    @property
    def states(self) -> list[str]:
        with self.portal.database.engine.connect() as connection:
            return list(connection.scalars(text("SELECT state FROM files ORDER BY id")))

    @property
    def uploads(self) -> list[str]:
        return [upload.key for upload in self.storage.list_uploads()]

    @property
    def objects(self) -> list[str]:
        return [entry.key for entry in self.storage.list_objects()]

    @property
    def contents(self) -> list[bytes]:
        return [b"".join(self.storage.read(key)) for key in self.objects]

    def put_object(self, key: str) -> None:
        """Leave an object in the store that no row says anything of."""
        upload = self.storage.begin_upload(key, OTHER)
        self.storage.write(key, upload, [b"stray"])
        self.storage.complete(key, upload, "26c13a46b2188ad7f01d83e2bfe25a77")


@pytest.fixture
def site(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Site:
    storage = FaultyStorage(portal.storage)
    portal = Portal(portal.database, portal.settings, storage)  # type: ignore[arg-type]
    return Site(portal=portal, lab=portal.add_user(), storage=storage, monkeypatch=monkeypatch)


def key_of(file: dict[str, Any]) -> str:
    return f"files/{file['id']['uuid']}"


# What the table says.


def test_a_sweep_of_nothing_does_nothing(site: Site) -> None:
    assert site.sweep() == {}


def test_nothing_is_touched_before_its_time(site: Site) -> None:
    for state in ("new", "announced", "confirming", "deleting", "confirmed"):
        file = site.lab.upload(state, b"ACGT") if state == "confirmed" else announce(site.lab, name=state)
        site.execute("UPDATE files SET state = :state WHERE name = :state", state=state)
    site.lab.get(f"/rpc/get-file-url/{file['id']['uuid']}")
    site.put_object("files/00000000-0000-4000-8000-000000000000")
    site.storage.begin_upload("files/00000000-0000-4000-8000-000000000001", OTHER)
    before = site.states, sorted(site.uploads), sorted(site.contents)
    assert site.sweep() == {}
    site.age(minutes=1)
    assert site.sweep() == {}
    assert (site.states, sorted(site.uploads), sorted(site.contents)) == before


def test_an_upload_that_expired_an_hour_ago_is_removed(site: Site) -> None:
    file = announce(site.lab)
    send(site.lab, file)
    site.age(hours=20, minutes=59)
    assert site.sweep() == {}
    assert confirm(site.lab, file).status_int == 200
    announce(site.lab)
    site.age(hours=21, minutes=1)
    assert site.sweep() == {"uploads expired": 1, "files removed": 1}
    assert (site.states, site.uploads, site.contents) == (["confirmed"], [], [b"ACGT"])


def test_a_download_address_is_forgotten_a_day_after_it_expired(site: Site) -> None:
    file = site.lab.upload("a", b"ACGT")
    url = site.lab.get(f"/rpc/get-file-url/{file['id']['uuid']}").json["fileUrl"]
    site.age(hours=23)
    assert site.sweep() == {}
    assert site.portal.app.get(url, expect_errors=True).status_int == 410
    site.age(hours=2)
    assert site.sweep() == {"download addresses removed": 1}
    assert site.portal.app.get(url, expect_errors=True).status_int == 404


def test_what_has_no_row_is_removed_after_two_days_an_object_after_five_weeks(site: Site) -> None:
    file = site.lab.upload("a", b"ACGT")
    for name in ("a", "b"):
        site.put_object(f"{key_of(file)}.{name * 32}")
    site.put_object("files/00000000-0000-4000-8000-000000000000")
    site.storage.begin_upload(key_of(file), OTHER)
    site.storage.begin_upload("files/00000000-0000-4000-8000-000000000001", OTHER)
    site.age(hours=47)
    assert site.sweep() == {}
    site.age(hours=49)
    assert site.sweep() == {"orphaned uploads removed": 2}
    site.age(days=34, hours=23)
    assert site.sweep() == {}
    site.age(days=35, hours=1)
    assert site.sweep() == {"orphaned objects removed": 3}
    assert (site.uploads, site.contents) == ([], [b"ACGT"])


def test_what_an_open_file_may_still_need_stays(site: Site) -> None:
    file = announce(site.lab)
    send(site.lab, file)
    site.put_object(f"{key_of(file)}.{'a' * 32}")
    site.storage.begin_upload(key_of(file), OTHER)
    site.age(hours=49)
    site.execute("UPDATE files SET upload_expires_at = now()")
    assert site.sweep() == {"orphaned uploads removed": 1}
    assert site.contents == [b"stray"]
    assert confirm(site.lab, file).status_int == 200


def test_many_are_swept_in_batches(site: Site) -> None:
    site.monkeypatch.setattr(sweeper, "BATCH", 2)
    site.monkeypatch.setattr(inventory, "PAGE", 2)
    site.monkeypatch.setattr(inventory, "COPIED", 2)
    for _ in range(5):
        send(site.lab, announce(site.lab))
        site.put_object(f"files/{announce(site.lab)['id']['uuid']}")
    site.execute("UPDATE files SET state = 'confirming' WHERE id % 2 = (SELECT min(id) % 2 FROM files)")
    site.execute("UPDATE files SET state = 'deleting' WHERE state <> 'confirming'")
    site.age(minutes=3)
    assert site.sweep() == {"files confirmed": 5, "files removed": 5}
    site.execute("DELETE FROM files")
    site.age(days=36)
    assert site.sweep() == {"orphaned objects removed": 10}


def test_a_session_stays_for_its_time_and_then_goes_with_its_parts(site: Site) -> None:
    file = announce(site.lab)
    assert site.lab.post(f"/files/{file['id']['uuid']}/upload-session", {"size": 4}).status_int == 200
    [upload] = site.storage.list_uploads()
    site.storage.write_part(upload.key, upload.upload, 1, [b"ACGT"], md5=MD5, size=4)
    days = (expires_at(site) - datetime.now(UTC)).days
    assert days > 2
    site.age(days=days)
    assert site.sweep() == {}
    site.age(days=1, hours=2)
    assert site.sweep() == {"uploads expired": 1, "files removed": 1}
    assert (site.states, site.uploads, site.contents) == ([], [], [])


def expires_at(site: Site) -> datetime:
    with site.portal.database.engine.connect() as connection:
        return connection.execute(text("SELECT upload_expires_at FROM files")).scalar_one()


def test_a_verification_that_nobody_does_is_begun_again_once(site: Site) -> None:
    site.lab.upload("a", b"ACGT")
    site.execute("UPDATE files SET state = 'verifying', lease_until = now() + interval '30 seconds'")
    site.age(minutes=2)
    assert site.sweep() == {}
    site.age(minutes=1)
    assert site.sweep() == {"verifications begun again": 1}
    do_due_jobs(Jobs(site.portal.settings, site.portal.database, site.portal.storage, open_vault(site.portal.settings)))
    assert site.states == ["confirmed"]
    site.execute("UPDATE files SET state = 'verifying'")
    site.age(minutes=3)
    assert site.sweep() == {"verifications begun again": 1}


def test_a_failed_file_is_kept_for_a_week(site: Site) -> None:
    site.lab.upload("a", b"ACGT")
    site.execute("UPDATE files SET state = 'failed', confirmed_at = NULL")
    site.age(days=6, hours=23)
    assert site.sweep() == {}
    site.age(hours=2)
    assert site.sweep() == {"failed files expired": 1, "files removed": 1}
    assert (site.states, site.contents) == ([], [])
    [event] = list_events(site.portal, "file.deleted")
    assert (event.actor_uuid, event.before["state"]) == (None, "failed")


@pytest.mark.parametrize("state", ["confirming", "verifying", "failed"])
def test_nothing_is_an_orphan_while_its_file_is_on_its_way(site: Site, state: str) -> None:
    file = site.lab.upload("a", b"ACGT")
    site.put_object(f"{key_of(file)}.{'a' * 32}")
    site.storage.begin_upload(key_of(file), OTHER)
    site.execute("UPDATE files SET state = :state", state=state)
    site.monkeypatch.setattr(sweeper, "utc_now", lambda: datetime.now(UTC) + timedelta(days=36))
    assert site.sweep() == {}
    site.execute("UPDATE files SET state = 'confirmed'")
    site.age(days=36)
    assert site.sweep() == {"orphaned uploads removed": 1, "orphaned objects removed": 1}


# The alarm.


def read_problems(site: Site) -> list[tuple[str | None, bool]]:
    """Return the problem of each file, and whether its content has been proven."""
    with site.portal.database.engine.connect() as connection:
        rows = connection.execute(text("SELECT problem, checked_at IS NOT NULL FROM files ORDER BY id"))
        return [(row[0], row[1]) for row in rows]


def test_lost_content_is_told_once_and_never_repaired(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    files = [site.lab.upload(name, b"ACGT") for name in "abc"]
    site.monkeypatch.setattr(inventory, "PAGE", 1)
    for file in files[:2]:
        site.storage.delete(key_of(file))
    assert site.sweep() == {"files found damaged": 2}
    assert read_problems(site) == [("content_missing", True)] * 2 + [(None, True)]
    events = list_events(site.portal, "file.damaged")
    assert [(event.entity_site_id, event.after["problem"]) for event in events] == [
        (file["id"]["site"], "content_missing") for file in files[:2]
    ]
    assert {record.levelname for record in caplog.records if files[0]["id"]["uuid"] in record.getMessage()} >= {"ERROR"}
    caplog.clear()
    site.sweep_once()
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 2
    assert site.states == ["confirmed"] * 3


def test_content_of_another_size_is_an_alarm_too_and_what_comes_back_ends_it(site: Site) -> None:
    file = site.lab.upload("a", b"ACGT")
    site.storage.delete(key_of(file))
    site.put_object(key_of(file))
    assert site.sweep() == {"files found damaged": 1}
    assert read_problems(site) == [("content_changed", True)]
    site.storage.delete(key_of(file))
    assert site.sweep() == {"files found damaged": 1}
    upload = site.storage.begin_upload(key_of(file), MD5)
    site.storage.write(key_of(file), upload, [b"ACGT"])
    site.storage.complete(key_of(file), upload, MD5)
    assert site.sweep() == {"files found again": 1}
    assert read_problems(site) == [(None, False)]
    assert [event.event for event in list_events(site.portal, "file.")][-3:] == [
        "file.damaged",
        "file.damaged",
        "file.found_again",
    ]


def test_site_admins_are_told_of_damage_by_mail(site: Site) -> None:
    admins = [site.portal.add_user(site_admin=True) for _ in range(2)]
    site.execute("UPDATE users SET enabled = FALSE WHERE email = :email", email=admins[1].email)
    files = [site.lab.upload(name, b"ACGT") for name in "abc"]
    jobs = Jobs(site.portal.settings, site.portal.database, site.portal.storage, open_vault(site.portal.settings))
    check_store: Any = tasks.check_store
    check_store(jobs, None, 0)
    assert read_mails(site.portal) == []
    for file in files[:2]:
        site.storage.delete(key_of(file))
    site.monkeypatch.setattr(sweeper, "LISTED", 1)
    check_store(jobs, None, 0)
    [mail] = read_mails(site.portal)
    assert (mail.template, mail.to) == ("files_damaged", admins[0].email)
    assert (mail.values["count"], mail.values["files"]) == ("2", f"{files[0]['id']['site']}, …")
    with site.portal.database.sessions() as db:
        message = write_mail(db, mail)
    assert message["Subject"] == "ALARM: 2 damaged files at DataMeta"
    check_store(jobs, None, 0)
    assert len(read_mails(site.portal)) == 1
    # However late it is, and even if the store has fallen silent since.
    site.storage.delete(key_of(files[2]))
    sweeper.check_store(site.portal.database.sessions, site.storage, orphan_days=35)  # type: ignore[arg-type]
    site.break_at("list_objects", error=StorageUnavailableError())
    with pytest.raises(UnavailableError):
        check_store(jobs, None, 0)
    assert read_mails(site.portal)[1].values["files"] == files[2]["id"]["site"]
    # What was found again before anybody was told is no news.
    site.execute("UPDATE files SET problem = NULL")
    site.storage.method = ""
    sweeper.check_store(site.portal.database.sessions, site.storage, orphan_days=35)  # type: ignore[arg-type]
    site.execute("UPDATE files SET problem = NULL")
    site.break_at("list_objects", error=StorageUnavailableError())
    with pytest.raises(UnavailableError):
        check_store(jobs, None, 0)
    assert len(read_mails(site.portal)) == 2


@pytest.mark.parametrize("method", ["list_objects", "size"])
def test_what_is_deleted_while_the_store_is_checked_is_no_loss(site: Site, method: str) -> None:
    file = site.lab.upload("a", b"ACGT")
    if method == "size":
        site.storage.delete(key_of(file))
    path = f"/files/{file['id']['uuid']}"
    do_before(site.monkeypatch, site.portal.storage.real, method, lambda: site.lab.delete(path))
    assert site.sweep() == {}
    assert site.states == []


def test_what_is_confirmed_while_the_store_is_checked_is_no_loss_and_no_orphan(site: Site) -> None:
    file = announce(site.lab)
    send(site.lab, file)
    site.monkeypatch.setattr(sweeper, "utc_now", lambda: datetime.now(UTC) + timedelta(hours=49))
    do_before(site.monkeypatch, site.portal.storage.real, "list_objects", lambda: confirm(site.lab, file))
    assert site.sweep() == {}
    assert (site.states, site.contents) == (["confirmed"], [b"ACGT"])


@pytest.mark.parametrize("method", ["complete", "abort", "delete", "list_uploads", "list_objects"])
def test_a_silent_store_leaves_everything_for_the_next_sweep(site: Site, method: str) -> None:
    send(site.lab, announce(site.lab))
    announce(site.lab)
    site.execute("UPDATE files SET state = 'deleting' WHERE id > (SELECT min(id) FROM files)")
    site.execute("UPDATE files SET state = 'confirming' WHERE state <> 'deleting'")
    site.age(minutes=3)
    site.break_at(method, error=StorageUnavailableError())
    with pytest.raises(UnavailableError) if method.startswith("list") else nullcontext():
        site.sweep_once()
    site.sweep()
    assert (site.states, site.uploads, site.contents) == (["confirmed"], [], [b"ACGT"])


# Where a process can die.


def test_a_crash_in_an_announcement_before_the_store_knew(site: Site) -> None:
    site.break_at("begin_upload")
    with pytest.raises(Crash):
        announce(site.lab)
    assert site.states == ["new"]
    site.age(minutes=9)
    assert site.sweep() == {}
    site.age(minutes=2)
    assert site.sweep() == {"uploads expired": 1, "files removed": 1}
    assert site.states == []


def test_a_crash_in_an_announcement_after_the_store_knew(site: Site) -> None:
    site.break_at("begin_upload", is_after=True)
    with pytest.raises(Crash):
        announce(site.lab)
    assert (site.states, len(site.uploads)) == (["new"], 1)
    site.age(hours=49)
    assert site.sweep() == {"uploads expired": 1, "files removed": 1, "orphaned uploads removed": 1}
    assert (site.states, site.uploads) == ([], [])


@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_in_a_transfer(site: Site, is_after: bool) -> None:
    file = announce(site.lab)
    site.break_at("write", is_after=is_after)
    with pytest.raises(Crash):
        send(site.lab, file)
    assert site.sweep() == {}
    assert confirm(site.lab, file).status_int == (200 if is_after else 400)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_crash_in_a_confirmation_ends_in_a_confirmed_file(site: Site, is_after: bool, algorithm: str) -> None:
    file = announce(site.lab, algorithm=algorithm)
    send(site.lab, file)
    site.break_at("complete", is_after=is_after)
    with pytest.raises(Crash):
        confirm(site.lab, file, name="b.fq")
    assert site.states == ["confirming"]
    assert site.sweep() == {}
    site.age(minutes=3)
    assert site.sweep() == {"files confirmed": 1}
    assert (site.states, site.uploads, site.contents) == (["confirmed"], [], [b"ACGT"])
    read = site.lab.get(f"/files/{file['id']['uuid']}").json
    assert (read["name"], read["contentUploaded"], read["filesize"]) == ("b.fq", True, 4)


@pytest.mark.parametrize("content", [None, b"other"])
def test_a_crash_in_a_confirmation_that_must_fail_ends_in_an_announced_file(site: Site, content: bytes | None) -> None:
    file = announce(site.lab)
    if content is not None:
        send(site.lab, file, content)
    site.break_at("complete")
    with pytest.raises(Crash):
        confirm(site.lab, file)
    site.age(minutes=3)
    assert site.sweep() == {"files not confirmed": 1}
    assert site.states == ["announced"]
    send(site.lab, file)
    assert confirm(site.lab, file).status_int == 200


@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_after_a_confirmation(site: Site, is_after: bool) -> None:
    file = announce(site.lab)
    send(site.lab, file)
    site.break_at("abort", is_after=is_after)
    with pytest.raises(Crash):
        confirm(site.lab, file)
    site.age(hours=49)
    assert site.sweep() == {}
    assert (site.states, site.uploads, site.contents) == (["confirmed"], [], [b"ACGT"])


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize(("state", "method"), [("announced", "abort"), ("failed", "abort"), ("failed", "delete")])
def test_a_crash_in_a_deletion_ends_in_nothing(site: Site, method: str, is_after: bool, state: str) -> None:
    file = announce(site.lab)
    send(site.lab, file)
    if state == "failed":
        confirm(site.lab, file)
        site.execute("UPDATE files SET state = 'failed', confirmed_at = NULL")
    site.break_at(method, is_after=is_after)
    with pytest.raises(Crash):
        site.lab.delete(f"/files/{file['id']['uuid']}")
    assert site.states == ["deleting"]
    assert site.lab.get(f"/files/{file['id']['uuid']}").status_int == 404
    assert site.sweep() == {}
    site.age(minutes=3)
    assert site.sweep() == {"files removed": 1}
    assert (site.states, site.uploads, site.contents) == ([], [], [])


def test_confirmed_content_is_kept_for_five_weeks_after_its_deletion(site: Site) -> None:
    path = f"/files/{site.lab.upload('a', b'ACGT')['id']['uuid']}"
    site.execute("UPDATE files SET confirmed_at = confirmed_at - interval '100 days'")
    later = datetime.now(UTC) + timedelta(days=60)
    assert site.lab.delete(path).status_int == 204
    with site.portal.database.engine.begin() as connection:
        # Audit events can't be changed: the deletion was 60 days after the content came.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("UPDATE audit_events SET at = :later WHERE event = 'file.deleted'"), {"later": later})
    assert (site.states, site.contents) == ([], [b"ACGT"])
    site.age(days=60 + 34)
    assert site.sweep() == {}
    assert site.contents == [b"ACGT"]
    site.age(days=60 + 36)
    assert site.sweep() == {"orphaned objects removed": 1}
    assert site.contents == []


@pytest.mark.parametrize(
    ("method", "is_after"), [("begin_upload", False), ("begin_upload", True), ("abort", False), ("abort", True)]
)
def test_a_crash_in_a_change_of_checksum_leaves_the_old_or_the_new(site: Site, method: str, is_after: bool) -> None:
    file = announce(site.lab)
    path = f"/files/{file['id']['uuid']}"
    before = site.lab.get(path).json
    site.break_at(method, is_after=is_after)
    with pytest.raises(Crash):
        site.lab.put(path, {"checksum": "0" * 64})
    read = site.lab.get(path).json
    assert read == before if method == "begin_upload" else read["checksum"] == "0" * 64
    site.age(hours=49)
    site.execute("UPDATE files SET upload_expires_at = now() + interval '1 hour'")
    site.sweep()
    [upload] = site.uploads
    assert (upload == key_of(file)) == (method == "begin_upload")
    send(site.lab, file)
    assert confirm(site.lab, file).status_int == (200 if method == "begin_upload" else 409)


def test_a_confirmation_that_a_deletion_overtook_leaves_no_bytes_for_good(site: Site) -> None:
    file = announce(site.lab)
    send(site.lab, file)
    site.break_at("complete", is_after=True)
    with pytest.raises(Crash):
        confirm(site.lab, file)
    site.storage.method = ""
    assert site.lab.delete(f"/files/{file['id']['uuid']}").status_int == 204
    assert (site.states, site.uploads, site.contents) == ([], [], [b"ACGT"])
    site.age(days=36)
    assert site.sweep() == {"orphaned objects removed": 1}
    assert site.contents == []
