"""Definitions under concurrency: a name is given once, and a submission is judged by one set of rules."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from datameta.authz import Actor
from datameta.database import Database
from datameta.errors import ConflictError, ValidationError
from datameta.logic import definitions, submissions
from datameta.logic.definitions import Definition
from datameta.models import MetaDataSet, MetaDatum
from datameta.settings import SiteIdFormat
from tests.conftest import Portal, actor_of

PLAIN = Definition("ID", "", "", "", "", "", False, 1, False, False, False, None)
UNIQUE = replace(PLAIN, is_site_unique=True)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def wait_until_blocked(database: Database, waiting: Future[Any]) -> None:
    """Return once a transaction waits for the lock of another one."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    deadline = time.monotonic() + 20
    with database.autocommit.connect() as connection:
        while not waiting.done() and time.monotonic() < deadline:
            if connection.scalar(query):
                return
    pytest.fail("nobody waits for the lock")


def submit(db: Session, actor: Actor, *staged: dict[str, Any]) -> submissions.Submitted:
    return submissions.create_submission(
        db,
        actor,
        metadataset_ids=[item["id"]["uuid"] for item in staged],
        file_ids=[],
        label=None,
        site_id_format=SiteIdFormat("DMS-", 8),
    )


def commit_submission(database: Database, actor: Actor, *staged: dict[str, Any]) -> None:
    with database.sessions.begin() as db:
        submit(db, actor, *staged)


def commit_update(database: Database, actor: Actor, metadatum_id: str, definition: Definition) -> int:
    with database.sessions.begin() as db:
        return definitions.update_definition(db, actor, metadatum_id, definition)[1]


def commit_creation(database: Database, actor: Actor, definition: Definition) -> None:
    with database.sessions.begin() as db:
        definitions.create_definition(db, actor, definition)


def test_of_two_racing_definitions_with_one_name_the_first_wins(portal: Portal, pool: ThreadPoolExecutor) -> None:
    actor = actor_of(portal.add_user(site_admin=True))
    with portal.database.sessions.begin() as db:
        definitions.create_definition(db, actor, PLAIN)
        second = pool.submit(commit_creation, portal.database, actor, PLAIN)
        wait_until_blocked(portal.database, second)
    with pytest.raises(ValidationError) as refused:
        second.result(20)
    assert [(problem.code, problem.field) for problem in refused.value.problems] == [("duplicate_name", "name")]


def test_of_two_fields_that_race_for_a_name_the_first_gets_it(portal: Portal, pool: ThreadPoolExecutor) -> None:
    admin = portal.add_user(site_admin=True)
    actor = actor_of(admin)
    first, second = (admin.add_field(name)["id"]["uuid"] for name in ("A", "B"))
    with portal.database.sessions.begin() as db:
        definitions.update_definition(db, actor, first, PLAIN)
        waiting = pool.submit(commit_update, portal.database, actor, second, PLAIN)
        wait_until_blocked(portal.database, waiting)
    with pytest.raises(ValidationError):
        waiting.result(20)
    assert [field["name"] for field in admin.get("/metadata").json] == ["ID", "B"]


def test_a_change_waits_for_a_running_submission_and_claims_its_values(
    portal: Portal, pool: ThreadPoolExecutor
) -> None:
    admin = portal.add_user(site_admin=True)
    actor = actor_of(admin)
    field = admin.add_field("ID")["id"]["uuid"]
    first, second = admin.stage(ID="x"), admin.stage(ID="x")
    with portal.database.sessions.begin() as db:
        submit(db, actor, first)
        change = pool.submit(commit_update, portal.database, actor, field, UNIQUE)
        wait_until_blocked(portal.database, change)
    # The second set is staged still, and the value of the first is taken.
    assert change.result(20) == 1
    with pytest.raises(ValidationError) as refused:
        commit_submission(portal.database, actor, second)
    assert [problem.code for problem in refused.value.problems] == ["not_unique_in_site"]


def test_a_change_that_waited_sees_the_collision_the_submission_made(portal: Portal, pool: ThreadPoolExecutor) -> None:
    admin = portal.add_user(site_admin=True)
    actor = actor_of(admin)
    field = admin.add_field("ID")["id"]["uuid"]
    with portal.database.sessions.begin() as db:
        submit(db, actor, admin.stage(ID="x"), admin.stage(ID="x"))
        change = pool.submit(commit_update, portal.database, actor, field, UNIQUE)
        wait_until_blocked(portal.database, change)
    with pytest.raises(ConflictError):
        change.result(20)
    assert not admin.get("/metadata").json[0]["isSiteUnique"]


def test_a_submission_waits_for_a_change_and_is_judged_by_the_new_rules(
    portal: Portal, pool: ThreadPoolExecutor
) -> None:
    admin = portal.add_user(site_admin=True)
    actor = actor_of(admin)
    field = admin.add_field("ID")["id"]["uuid"]
    staged = admin.stage(ID="x")
    with portal.database.sessions.begin() as db:
        definitions.update_definition(db, actor, field, replace(PLAIN, reg_exp="[0-9]+"))
        submission = pool.submit(commit_submission, portal.database, actor, staged)
        wait_until_blocked(portal.database, submission)
    with pytest.raises(ValidationError) as refused:
        submission.result(20)
    assert [problem.code for problem in refused.value.problems] == ["regex_mismatch"]


def test_the_records_of_a_refused_change_are_as_they_were(portal: Portal) -> None:
    admin = portal.add_user(site_admin=True)
    actor = actor_of(admin)
    field = admin.add_field("ID")["id"]["uuid"]
    commit_submission(portal.database, actor, admin.stage(ID="x"), admin.stage(ID="x"))
    with portal.database.sessions() as db:
        before = db.scalars(select(MetaDataSet.record).order_by(MetaDataSet.id)).all()
    with pytest.raises(ConflictError):
        commit_update(portal.database, actor, field, replace(UNIQUE, name="Else", is_mandatory=True))
    with portal.database.sessions() as db:
        assert db.scalars(select(MetaDataSet.record).order_by(MetaDataSet.id)).all() == before
        assert db.scalars(select(MetaDatum.name)).all() == ["ID"]
