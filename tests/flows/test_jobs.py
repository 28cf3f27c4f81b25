"""Jobs that come by the clock: each leaves the site as it should be, however often it is done."""

import asyncio
import logging
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update

from datameta.database import SEAL_LOCK, SWEEP_LOCK
from datameta.jobs import tasks
from datameta.jobs.tasks import MAIL_ATTEMPTS, PERIODIC, Site
from datameta.jobs.worker import WorkerError, do_due_jobs, run_worker
from datameta.logic.audit import find_broken_seal
from datameta.models import (
    AuditPending,
    AuditSeal,
    Base,
    IdempotentAnswer,
    LoginSession,
    PasswordToken,
    Registration,
    Throttle,
    User,
)
from datameta.vault import open_vault
from tests.conftest import Portal, announce, set_setting


@pytest.fixture
def site(portal: Portal) -> Site:
    return Site(portal.settings, portal.database, portal.storage, open_vault(portal.settings))


def do(site: Site, name: str, attempts: int = 0) -> None:
    """Let the clock bring one job, and do it."""
    store(site, name, attempts=attempts)
    do_due_jobs(site)


def store(site: Site, name: str, status: str = "todo", attempts: int = 0, age: str = "0 s") -> int:
    with site.database.sessions.begin() as db:
        query = (
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, attempts) VALUES ('default', :name, "
            "'{\"timestamp\": 0}', CAST(:status AS procrastinate_job_status), :attempts) RETURNING id"
        )
        job_id = db.execute(text(query), {"name": name, "status": status, "attempts": attempts}).scalar_one()
        db.execute(
            text("UPDATE procrastinate_events SET at = now() - CAST(:age AS interval) WHERE job_id = :id"),
            {"age": age, "id": job_id},
        )
        return int(job_id)


def list_jobs(site: Site) -> dict[int, tuple[str, int]]:
    with site.database.sessions() as db:
        rows = db.execute(text("SELECT id, status::text, attempts FROM procrastinate_jobs"))
        return {row.id: (row.status, row.attempts) for row in rows}


def count(site: Site, model: type[Base]) -> int:
    with site.database.sessions() as db:
        return db.scalar(select(func.count()).select_from(model)) or 0


def test_every_job_of_the_clock_is_done_without_a_fault(portal: Portal, site: Site) -> None:
    for name in PERIODIC:
        do(site, name)
    assert list_jobs(site) == {}


def test_the_audit_is_sealed(portal: Portal, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datameta.logic.audit.SEAL_BATCH", 2)
    monkeypatch.setattr(tasks, "SEAL_BATCH", 2)
    for _ in range(3):
        portal.add_user()
    pending = count(site, AuditPending)
    assert pending > 2
    with site.database.locked(SEAL_LOCK):
        do(site, "seal_audit")
    assert count(site, AuditSeal) == 0
    do(site, "seal_audit")
    assert (count(site, AuditSeal), count(site, AuditPending)) == (pending, 0)
    with site.database.sessions() as db:
        assert find_broken_seal(db) is None


def test_what_was_left_half_done_is_swept_by_one_at_a_time(portal: Portal, site: Site) -> None:
    user = portal.add_user()
    file = announce(user)["id"]["uuid"]
    with portal.database.sessions.begin() as db:
        db.execute(text("UPDATE files SET upload_expires_at = now() - interval '2 hours'"))
    with site.database.locked(SWEEP_LOCK):
        do(site, "sweep")
    assert user.get(f"/files/{file}").status_int == 200
    do(site, "sweep")
    assert user.get(f"/files/{file}").status_int == 404


def test_rows_whose_time_is_over_are_removed_and_no_others(portal: Portal, site: Site) -> None:
    portal.add_user()
    set_setting(portal, "session_idle_hours", "2")
    with portal.database.sessions.begin() as db:
        user_id = db.scalars(select(User.id)).one()

        def past(**age: float) -> Any:
            return func.now() - timedelta(**age)

        def add(model: type[Base], **values: Any) -> None:
            db.execute(insert(model).values(**values))

        for number, age in enumerate((23, 25)):
            add(IdempotentAnswer, user_id=user_id, operation="x", key=str(number), body_hash=bytes(32),
                created_at=past(hours=age))  # fmt: skip
        for number, (expires, seen) in enumerate([(-1, 1), (1, 1), (-1, 3)]):
            add(LoginSession, user_id=user_id, token_hash=bytes([number] * 32), expires_at=past(hours=expires),
                last_seen_at=past(hours=seen))  # fmt: skip
        add(Throttle, bucket="full", empty_at=past(hours=-1))
        add(Throttle, bucket="empty", empty_at=past(hours=1))
        add(PasswordToken, user_id=user_id, token_hash=bytes(32), expires_at=past(days=29))
        add(Registration, name="A", email="a@example.org", created_at=past(days=31))
        add(Registration, name="B", email="b@example.org", created_at=past(days=29))
    for _ in range(2):
        do(site, "tidy")
        with portal.database.sessions() as db:
            assert db.scalars(select(IdempotentAnswer.key)).all() == ["0"]
            assert db.scalars(select(LoginSession.token_hash)).all() == [bytes(32)]
            assert db.scalars(select(Throttle.bucket)).all() == ["full"]
            assert db.scalars(select(Registration.name)).all() == ["B"]
        assert count(site, PasswordToken) == 1
    with portal.database.sessions.begin() as db:
        db.execute(update(PasswordToken).values(expires_at=func.now() - timedelta(days=31)))
    do(site, "tidy")
    assert count(site, PasswordToken) == 0


def test_jobs_that_their_worker_left_are_taken_up_again(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    once = store(site, "unknown", "doing")
    hopeless = store(site, "unknown", "doing", attempts=MAIL_ATTEMPTS - 1)
    by_clock = store(site, "sweep", "doing")
    do(site, "tend_jobs")
    jobs = list_jobs(site)
    # Whether it was tried again already is the worker's business.
    assert jobs.pop(once) in [("todo", 1), ("failed", 2)]
    assert jobs == {hopeless: ("failed", MAIL_ATTEMPTS)}
    for job_id in (once, hopeless, by_clock):
        assert f"job {job_id} (" in caplog.text


def test_failed_jobs_are_kept_for_a_month(site: Site) -> None:
    fresh, old = store(site, "unknown"), store(site, "unknown")
    do_due_jobs(site)
    assert list_jobs(site) == {fresh: ("failed", 1), old: ("failed", 1)}
    with site.database.sessions.begin() as db:
        for job_id, days in ((fresh, 29), (old, 31)):
            db.execute(
                text("UPDATE procrastinate_events SET at = now() - make_interval(days => :days) WHERE job_id = :id"),
                {"days": days, "id": job_id},
            )
    do(site, "tend_jobs")
    assert set(list_jobs(site)) == {fresh}


def test_a_job_that_fails_is_logged_with_its_id(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "run_sweep", lambda *_: 1 / 0)
    job_id = store(site, "sweep")
    do_due_jobs(site)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"sweep[{job_id}]" in record.getMessage()
    assert record.exc_info is not None
    assert list_jobs(site) == {job_id: ("failed", 1)}


@pytest.mark.parametrize("table", ["procrastinate_jobs", "procrastinate_periodic_defers"])
def test_a_worker_whose_queue_is_gone_says_so(site: Site, table: str) -> None:
    def rename(old: str, new: str) -> None:
        with site.database.engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    try:
        with pytest.raises(WorkerError, match="no longer answers"):
            run_worker(site, lambda stop: rename(table, "gone"))
    finally:
        rename("gone", table)


def test_a_worker_goes_on_when_its_connections_were_cut(site: Site) -> None:
    """As after a restart of the database: it listens again, and misses nothing."""
    stops: list[Any] = []

    async def cut_and_stop() -> None:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        deadline = time.monotonic() + 30
        cut = job_id = 0
        while time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            if not cut:
                with site.database.autocommit.connect() as connection:
                    cut = len(connection.execute(text(query)).all())
            elif not job_id:
                job_id = store(site, "tidy")
            elif job_id not in list_jobs(site):
                done.append(job_id)
                break
        stops[0]()

    def announce_worker(stop: Any) -> None:
        stops.append(stop)
        cutter.append(asyncio.get_running_loop().create_task(cut_and_stop()))

    done: list[int] = []
    cutter: list[Any] = []
    run_worker(site, announce_worker)
    assert done
