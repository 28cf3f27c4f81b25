"""The job queue as site admins see it: what waits, what runs, what has failed; and another try for that.

What a mail holds stays sealed: an administrator sees which one it is and to whom it goes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.errors import ConflictError, ForbiddenError, NotFoundError
from datameta.identifiers import any_of, to_identifier
from datameta.logic.audit import record_event
from datameta.logic.mail import TASK as SEND_MAIL
from datameta.logic.mail import MailError, open_order
from datameta.logic.verification import TASK as VERIFY_FILE
from datameta.models import File
from datameta.vault import Vault

MOST_LISTED = 200
LONGEST_ID = 18
QUERY = """
    SELECT job.id, job.task_name, job.status::text, job.attempts, job.args, times.queued_at, times.last_at
    FROM (
        SELECT * FROM procrastinate_jobs
        WHERE (CAST(:status AS text) IS NULL OR status::text = :status) AND (CAST(:id AS bigint) IS NULL OR id = :id)
        ORDER BY id DESC LIMIT :most
    ) AS job
    CROSS JOIN LATERAL (
        SELECT min(at) FILTER (WHERE type = 'deferred') AS queued_at,
               -- When it is to be done is no time at which something happened.
               max(at) FILTER (WHERE type NOT IN ('deferred', 'scheduled')) AS last_at
        FROM procrastinate_events WHERE job_id = job.id
    ) AS times
    ORDER BY job.id DESC
"""
MEASURE = """
    SELECT job.queue_name, job.status::text, count(*) AS jobs,
           max(extract(epoch FROM now() - greatest(
               job.scheduled_at,
               (SELECT max(at) FROM procrastinate_events WHERE job_id = job.id AND type IN ('deferred', 'retried'))
           ))) FILTER (WHERE job.status = 'todo' AND coalesce(job.scheduled_at, now()) <= now()) AS waits
    FROM procrastinate_jobs AS job GROUP BY job.queue_name, job.status
"""


@dataclass(frozen=True)
class JobView:
    """A job; ``detail`` is what it is about, as far as that is told."""

    id: int
    task: str
    status: str
    attempts: int
    queued_at: datetime
    last_at: datetime | None
    detail: Mapping[str, Any]


def list_jobs(db: Session, actor: Actor, vault: Vault, *, status: str | None) -> Sequence[JobView]:
    """Return the newest jobs, those of one status or all.

    Raises ``ForbiddenError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    return _read_jobs(db, vault, status=status, id=None)


@dataclass(frozen=True)
class QueueView:
    """What a queue holds: how many jobs by status, and for how many seconds the one that is due longest has waited."""

    counts: Mapping[tuple[str, str], int]
    wait_seconds: Mapping[str, float]


def measure_queues(connection: Connection) -> QueueView:
    """Return what the queues hold, by name."""
    rows = connection.execute(text(MEASURE)).all()
    return QueueView(
        {(row.queue_name, row.status): row.jobs for row in rows},
        {row.queue_name: float(row.waits) for row in rows if row.waits is not None},
    )


def has_worker(connection: Connection) -> bool:
    """Say whether a worker has given a sign of life within the last minute; it gives six."""
    query = "SELECT EXISTS (SELECT FROM procrastinate_workers WHERE last_heartbeat > now() - interval '1 minute')"
    return bool(connection.scalar(text(query)))


def retry_job(db: Session, actor: Actor, vault: Vault, *, job_id: str) -> JobView:
    """Let a worker try a job again that has failed; return it as it is now.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ConflictError`` if it has not failed, or waits already under
    another number.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    number = int(job_id) if job_id.isascii() and job_id.isdigit() and len(job_id) <= LONGEST_ID else None
    query = text("SELECT status::text FROM procrastinate_jobs WHERE id = :id FOR UPDATE")
    status = db.scalar(query, {"id": number})
    if status is None:
        raise NotFoundError
    if status != "failed":
        raise ConflictError("Only a job that has failed is tried again.", code="job_not_failed")
    try:
        db.execute(text("SELECT procrastinate_retry_job_v2(:id, now(), NULL, NULL, NULL)"), {"id": number})
    except IntegrityError:
        # Of what the clock brings, only one may wait.
        raise ConflictError("The same job waits already, under another number.", code="job_waits") from None
    [job] = _read_jobs(db, vault, status=None, id=number)
    record_event(db, "job.retried", actor=actor, after={"job": str(job.id), "task": job.task})
    return job


def _read_jobs(db: Session, vault: Vault, **conditions: Any) -> list[JobView]:
    rows = db.execute(text(QUERY), {**conditions, "most": MOST_LISTED}).all()
    files = _find_files(db, [row.args["file_id"] for row in rows if row.task_name == VERIFY_FILE])
    return [
        JobView(
            id=row.id,
            task=row.task_name,
            status=row.status,
            attempts=row.attempts,
            queued_at=row.queued_at,
            last_at=row.last_at,
            detail=_describe(row, vault, files),
        )
        for row in rows
    ]


def _find_files(db: Session, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    """Return the Identifiers of files by row id; those that are gone have none."""
    query = select(File.id, File.uuid, File.site_id)
    rows: Iterable[Row[Any]] = db.execute(query.where(File.id == any_of(ids))) if ids else ()
    return {row.id: to_identifier(row) for row in rows}


def _describe(row: Row[Any], vault: Vault, files: Mapping[int, dict[str, str]]) -> dict[str, Any]:
    if row.task_name == VERIFY_FILE and row.args["file_id"] in files:
        return {"fileId": files[row.args["file_id"]]}
    if row.task_name == SEND_MAIL:
        try:
            order = open_order(vault, row.args["sealed"])
        except MailError:
            return {}
        return {"template": order.template, "to": order.to}
    return {}
