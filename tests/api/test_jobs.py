"""The job queue over the API: site admins see what waits and what failed, and let it be tried again."""

from typing import Any

import pytest
from sqlalchemy import text

from datameta.jobs.tasks import Site
from datameta.jobs.worker import do_due_jobs
from datameta.logic import jobs
from datameta.logic.mail import store_mail
from datameta.logic.verification import QUEUE
from datameta.queue import store_job
from datameta.vault import open_vault
from tests.conftest import Client, Portal, announce, assert_refused, list_events


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user(site_admin=True)


def add_job(portal: Portal, *states: str, task: str = "tidy", **values: Any) -> int:
    """Put a job into the queue, and bring it into other states, one after the other; return its number."""
    row = {"queue_name": "default", "task_name": task, **values}
    columns, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    with portal.database.sessions.begin() as db:
        query = text(f"INSERT INTO procrastinate_jobs ({columns}) VALUES ({marks}) RETURNING id")
        number = int(db.scalar(query, row))
    move(portal, number, *states)
    return number


def add_mail(portal: Portal) -> None:
    with portal.database.sessions.begin() as db:
        values = {"name": "Ada", "link": "https://secret.example.org", "expires": "soon"}
        store_mail(db, open_vault(portal.settings), template="reset", to="ada@example.org", values=values)


def move(portal: Portal, job_id: int, *states: str) -> None:
    """Bring a job into other states, as a worker would."""
    query = text("UPDATE procrastinate_jobs SET status = CAST(:status AS procrastinate_job_status) WHERE id = :id")
    with portal.database.sessions.begin() as db:
        for status in states:
            db.execute(query, {"id": job_id, "status": status})


def retry(client: Client, job_id: int | str) -> Any:
    return client.post(f"/jobs/{job_id}/retry")


def test_the_queue_is_for_site_admins(portal: Portal) -> None:
    job = add_job(portal, "doing", "failed")
    for user in (portal.add_user(group_admin=True), portal.add_user(site_read=True)):
        assert_refused(user.get("/jobs"), 403, ("forbidden", None))
        assert_refused(retry(user, job), 403, ("forbidden", None))
        assert_refused(retry(user, 0), 403, ("forbidden", None))
    assert_refused(portal.anonymous().get("/jobs"), 401, ("unauthenticated", None))


def test_jobs_are_listed_the_newest_first(portal: Portal, admin: Client) -> None:
    assert admin.get("/jobs").json == []
    states = ("doing", "succeeded", "failed", "cancelled", "todo")
    numbers = [add_job(portal, state) for state in states]
    listed = admin.get("/jobs").json
    assert [job["id"] for job in listed] == numbers[::-1]
    assert [job["status"] for job in listed] == list(states[::-1])
    assert listed[0].keys() == {"id", "task", "status", "attempts", "queuedAt", "lastAt", "detail"}
    assert (listed[0]["task"], listed[0]["attempts"], listed[0]["lastAt"], listed[0]["detail"]) == ("tidy", 0, None, {})
    for state, number in zip(states, numbers, strict=True):
        if state != "cancelled":
            assert [job["id"] for job in admin.get(f"/jobs?status={state}").json] == [number]
    assert_refused(admin.get("/jobs?status=cancelled"), 400, ("invalid_value", "status"))


def test_only_so_many_are_listed(portal: Portal, admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [add_job(portal) for _ in range(3)]
    monkeypatch.setattr(jobs, "MOST_LISTED", 2)
    assert [job["id"] for job in admin.get("/jobs").json] == numbers[:0:-1]


def test_what_last_happened_is_told_but_not_what_is_planned(portal: Portal, admin: Client) -> None:
    number = add_job(portal)
    with portal.database.sessions.begin() as db:
        planned = "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 day' WHERE id = :id"
        db.execute(text(planned), {"id": number})
    assert admin.get("/jobs").json[0]["lastAt"] is None
    move(portal, number, "doing")
    with portal.database.sessions() as db:
        query = text("SELECT type::text, at FROM procrastinate_events WHERE job_id = :id")
        times = dict(iter(db.execute(query, {"id": number})))
    assert set(times) == {"deferred", "scheduled", "started"}
    [job] = admin.get("/jobs").json
    assert (job["queuedAt"], job["lastAt"]) == (times["deferred"].isoformat(), times["started"].isoformat())


def test_a_mail_is_told_by_its_kind_and_whom_it_is_for(portal: Portal, admin: Client) -> None:
    add_mail(portal)
    answer = admin.get("/jobs")
    assert answer.json[0]["task"] == "send_mail"
    assert answer.json[0]["detail"] == {"template": "reset", "to": "ada@example.org"}
    assert "secret" not in answer.text
    # Sealed by a key that the site has no more.
    add_job(portal, "doing", "failed", task="send_mail", args='{"sealed": "x"}')
    assert admin.get("/jobs?status=failed").json[0]["detail"] == {}


def test_a_verification_names_its_file(portal: Portal, admin: Client) -> None:
    file = announce(admin)
    with portal.database.sessions.begin() as db:
        number = db.scalar(text("SELECT id FROM files WHERE uuid = :uuid"), {"uuid": file["id"]["uuid"]})
        for file_id in (number, 0):
            store_job(db, "verify_file", queue_name=QUEUE, file_id=file_id)
    gone, verified = admin.get("/jobs").json
    assert verified["detail"] == {"fileId": file["id"]}
    assert gone["detail"] == {}


def test_a_failed_job_is_done_after_all(portal: Portal, admin: Client) -> None:
    add_mail(portal)
    [job] = admin.get("/jobs").json
    move(portal, job["id"], "doing", "failed")
    answer = retry(admin, job["id"])
    assert answer.status_int == 200
    changed = {"status": "todo", "attempts": 1, "lastAt": answer.json["lastAt"]}
    assert answer.json == {**job, **changed}
    assert admin.get("/jobs").json == [answer.json]
    assert [event.after for event in list_events(portal, "job.")] == [{"job": str(job["id"]), "task": "send_mail"}]
    do_due_jobs(Site(portal.settings, portal.database, portal.storage, open_vault(portal.settings)))
    assert len(list((portal.settings.home / "mail").iterdir())) == 1
    assert admin.get("/jobs").json == []


@pytest.mark.parametrize("status", ["todo", "doing", "succeeded", "cancelled"])
def test_only_what_has_failed_is_tried_again(portal: Portal, admin: Client, status: str) -> None:
    number = add_job(portal, status)
    assert_refused(retry(admin, number), 409, ("job_not_failed", None))
    assert admin.get("/jobs").json[0]["status"] == status
    assert list_events(portal, "job.") == []


def test_of_what_the_clock_brings_only_one_waits(portal: Portal, admin: Client) -> None:
    failed = add_job(portal, "doing", "failed", queueing_lock="tidy")
    waiting = add_job(portal, queueing_lock="tidy")
    assert_refused(retry(admin, failed), 409, ("job_waits", None))
    assert [job["id"] for job in admin.get("/jobs?status=todo").json] == [waiting]
    assert list_events(portal, "job.") == []


@pytest.mark.parametrize(
    "job_id", ["0", "-1", "1.5", "x", "%C2%B2", "9" * 18, "9" * 19, "00000000-0000-4000-8000-000000000000"]
)
def test_an_unknown_job_is_not_found(admin: Client, job_id: str) -> None:
    assert_refused(retry(admin, job_id), 404, ("not_found", None))
