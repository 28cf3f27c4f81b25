"""The schema: one line of versions, the same as the models, and never served if it is another."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Row, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from datameta import migrations
from datameta.app import open_app
from datameta.database import Database
from datameta.logic import groups, users
from datameta.logic.blocks import MOST_PIECES
from datameta.migrations import SchemaError
from datameta.models import Base
from datameta.settings import Settings, SiteIdFormat
from datameta.storage import open_storage
from tests.conftest import Portal

NUMBERS = count(1)


def run(url: str, statement: str) -> None:
    """Run one statement outside any transaction."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    """The address of an empty database."""
    name = f"migrations_{next(NUMBERS)}"
    run(database_url, f"CREATE DATABASE {name}")
    yield make_url(database_url).set(database=name).render_as_string(hide_password=False)
    run(database_url, f"DROP DATABASE {name} WITH (FORCE)")


def list_tables(url: str) -> set[str]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        query = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        return set(connection.scalars(text(f"{query} AND NOT relispartition")))


def test_the_versions_are_one_line() -> None:
    scripts = ScriptDirectory.from_config(migrations.make_config(""))
    assert scripts.get_heads() == [migrations.head()]
    assert len(scripts.get_bases()) == 1


def test_the_migrations_make_what_the_models_say(url: str) -> None:
    migrations.upgrade(url)
    assert migrations.find_drift(url) == []
    ours = {table for table in list_tables(url) if not table.startswith("procrastinate_")}
    assert ours == set(Base.metadata.tables) | {"alembic_version"}


def test_a_difference_from_the_models_is_found(url: str) -> None:
    migrations.upgrade(url)
    run(url, "ALTER TABLE groups ADD COLUMN motto text")
    assert migrations.find_drift(url) != []


def test_every_version_goes_down_and_up_again_with_data_in_it(url: str) -> None:
    scripts = ScriptDirectory.from_config(migrations.make_config(""))
    for script in reversed(list(scripts.walk_revisions())):
        migrations.upgrade(url, script.revision)
        migrations.downgrade(url, "-1")
        migrations.upgrade(url, script.revision)
    add_user(url)
    migrations.downgrade(url, "base")
    assert list_tables(url) == {"alembic_version"}
    migrations.upgrade(url)
    assert migrations.find_drift(url) == []
    add_user(url)


def add_user(url: str) -> None:
    """Write a little into the newest schema."""
    database = Database(url)
    with database.sessions.begin() as db:
        group, _ = groups.find_or_add_group(db, name="Lab", site_id_format=SiteIdFormat("DMG-", 8))
        settings = Settings(bcrypt_cost=4)
        users.add_user(db, settings=settings, email="a@example.org", name="A", group=group, password="x")
    database.dispose()


def test_a_new_database_has_no_account(url: str) -> None:
    migrations.upgrade(url)
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM users")) == 0


def test_an_upgrade_of_the_newest_schema_keeps_the_data(url: str) -> None:
    migrations.upgrade(url)
    add_user(url)
    migrations.upgrade(url)
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM users")) == 1


def test_blocks_are_made_of_what_was_submitted_before_as_of_what_is_submitted_after(url: str, tmp_path: Path) -> None:
    migrations.upgrade(url)
    database = Database(url)
    settings = Settings(home=tmp_path, bcrypt_cost=4)
    portal = Portal(database, settings, open_storage(settings))
    admin, lab = portal.add_user("Office", site_admin=True), portal.add_user("Lab")
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    admin.put(f"/services/{service}", {"userIds": [lab.uuid]})
    for name, service_id in (("ID", None), ("Day", None), ("Note", None), ("Verdict", service)):
        admin.add_field(name, serviceId=service_id, dateTimeFmt="%d.%m.%Y" if name == "Day" else "")
    long = "".join(map(chr, range(0x4E00, 0x4E00 + MOST_PIECES)))[:10_000]
    notes = ("", None, "ÄÖÜ straße", "日本", "a\tb", long, long[::-1])
    lots = [range(1), range(20), range(20, 65)]
    for lot in lots:
        records = [{"ID": f"S-{n}", "Day": "14.03.2026", "Note": notes[n % len(notes)]} for n in lot]
        sets = [lab.stage(**record) for record in records]
        assert lab.submit(sets, label="Run É" if len(lot) > 1 else None).status_int == 200
        for number, one in enumerate(sets[::2]):
            body = {"record": {"Verdict": f"Fine {number % 3}"} if number % 5 else {}, "fileIds": []}
            assert lab.post(f"/service-execution/{service}/{one['id']['site']}", body).status_int == 200
    lab.stage(ID="staged")
    before = read_blocks(database)
    assert [bool(block.answered) for block in before] == [True] * 5
    database.dispose()
    migrations.downgrade(url, "0005")
    migrations.upgrade(url)
    assert read_blocks(database) == before
    database.dispose()


def read_blocks(database: Database) -> Sequence[Row[Any]]:
    query = """
        SELECT b.submission_id, first_id, last_id, size, filled, a.service_id, answered,
            ARRAY(SELECT unnest(b.pieces) ORDER BY 1) AS pieces, ARRAY(SELECT unnest(a.pieces) ORDER BY 1) AS said
        FROM search_blocks b LEFT JOIN search_answers a ON a.block_id = b.id ORDER BY 1, 2
    """
    with database.engine.connect() as connection:
        return connection.execute(text(query)).all()


def test_only_the_schema_of_this_version_is_served(url: str) -> None:
    head = migrations.head()
    with pytest.raises(SchemaError, match=r"^The database is empty\. Run 'datameta db upgrade' first\.$"):
        migrations.require_current(url)
    migrations.upgrade(url)
    assert migrations.current(url) == head
    migrations.require_current(url)
    run(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match=r"schema 9999, which is newer than this DataMeta\. Upgrade DataMeta\."):
        migrations.require_current(url)
    with pytest.raises(SchemaError, match="9999"):
        open_app(Settings(database_url=url))


def test_an_older_schema_is_not_served(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations.upgrade(url)
    found = migrations.head()
    # The next version of the portal, before its database has been upgraded.
    monkeypatch.setattr(migrations, "head", lambda: "next")
    with pytest.raises(SchemaError, match=f"schema {found}; this version needs next. Run 'datameta db upgrade'"):
        migrations.require_current(url)


def test_two_upgrades_at_once_are_one_upgrade(url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for upgrade in [pool.submit(migrations.upgrade, url) for _ in range(4)]:
            upgrade.result(60)
    migrations.require_current(url)
    assert migrations.find_drift(url) == []


def test_a_broken_upgrade_leaves_nothing_and_no_lock_behind(url: str) -> None:
    run(url, "CREATE TABLE submissions (x int)")
    with pytest.raises(Exception, match="submissions"):
        migrations.upgrade(url)
    assert list_tables(url) <= {"submissions", "alembic_version"}
    run(url, "DROP TABLE submissions")
    migrations.upgrade(url)
    migrations.require_current(url)


def test_a_password_with_a_percent_sign_reaches_the_database_unharmed() -> None:
    config = migrations.make_config("postgresql://u:p%40ss@db/x")
    assert config.get_main_option("sqlalchemy.url") == "postgresql://u:p%40ss@db/x"
