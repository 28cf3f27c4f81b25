"""What jobs do. Each may be cut off at any point and be done again, by another worker, from its beginning."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.jobs import Job, Status
from sqlalchemy import delete, func
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import InstrumentedAttribute

from datameta.database import CHECK_LOCK, SEAL_LOCK, SWEEP_LOCK, Database
from datameta.jobs.delivery import deliver, is_final
from datameta.logic import verification
from datameta.logic.appsettings import get_setting
from datameta.logic.audit import SEAL_BATCH, make_room, seal_events
from datameta.logic.file_rows import store_errors
from datameta.logic.mail import MailError, open_order, write_mail
from datameta.logic.registrations import remove_old_registrations
from datameta.logic.sweep import check_store as run_store_check
from datameta.logic.sweep import sweep as run_sweep
from datameta.logic.sweep import tell_of_damage
from datameta.logic.throttle import delete_empty_buckets
from datameta.models import IdempotentAnswer, LoginSession, PasswordToken
from datameta.settings import Settings
from datameta.storage import Storage, StorageUnavailableError
from datameta.vault import Vault

log = logging.getLogger(__name__)

FIRST_WAIT = 30
LONGEST_WAIT = 2 * 3600
MAIL_ATTEMPTS = 20
"""The waits double from half a minute to two hours; twenty attempts take 24 hours."""
READ_JOBS = 5
"""At this attempt, some quarter of an hour after the first, content that can't be read is refused."""
KEPT_FAILED_HOURS = 30 * 24
CHECK_SECONDS = 3000


@dataclass(frozen=True)
class Site:
    """What jobs work with."""

    settings: Settings
    database: Database
    storage: Storage
    vault: Vault


class MailRetry(BaseRetryStrategy):
    """Try for a day, ever more seldom."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when to try again, or None."""
        attempt = job.attempts + 1
        if isinstance(exception, MailError) or is_final(exception) or attempt >= MAIL_ATTEMPTS:
            return None
        wait = min(FIRST_WAIT * 2**job.attempts, LONGEST_WAIT)
        log.warning("the mail of job %s was not sent at attempt %s: %s", job.id, attempt, type(exception).__name__)
        return RetryDecision(retry_in={"seconds": wait})


def send_mail(site: Site, context: JobContext, *, sealed: str) -> None:
    """Send one mail."""
    order = open_order(site.vault, sealed)
    with site.database.sessions() as db:
        message = write_mail(db, order)
    deliver(site.settings, message, order.id)
    log.info("sent the mail of job %s", context.job.id)


class HeldError(Exception):
    """Another verifies the file, or has died over it."""


class StoreRetry(BaseRetryStrategy):
    """Try again, ever more seldom, for as long as the store or the database does not answer."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when to try again, or None: what else fails, fails for good, and the sweeper brings it again."""
        if isinstance(exception, HeldError):
            return RetryDecision(retry_in={"seconds": FIRST_WAIT})
        if not isinstance(exception, StorageUnavailableError | OperationalError | InterfaceError):
            return None
        wait = min(FIRST_WAIT * 2**job.attempts, LONGEST_WAIT)
        log.warning("job %s (%s) waits for the store: %s", job.id, job.task_name, exception)
        return RetryDecision(retry_in={"seconds": wait})


def verify_file(site: Site, context: JobContext, *, file_id: int) -> None:
    """Verify the content of a file."""
    gives_up = context.job.attempts + 1 >= READ_JOBS
    verification.verify_file(site.database.sessions, site.storage, file_id=file_id, gives_up=gives_up)
    if verification.is_held(site.database.sessions, file_id=file_id):
        raise HeldError


def check_contents(site: Site, context: JobContext, timestamp: int) -> None:
    """Read confirmed content again, as much as is due and takes less than an hour, and tell what was damaged."""
    with site.database.locked(CHECK_LOCK) as is_ours, telling_of_damage(site):
        if is_ours:
            with store_errors():
                verification.check_due_contents(site.database.sessions, site.storage, seconds=CHECK_SECONDS)


def sweep(site: Site, context: JobContext, timestamp: int) -> None:
    """Finish or undo what was left half done."""
    with site.database.locked(SWEEP_LOCK) as is_ours:
        if is_ours:
            run_sweep(site.database.sessions, site.storage)


def check_store(site: Site, context: JobContext, timestamp: int) -> None:
    """Compare what is in the store with what should be, and tell the site admins what was found damaged."""
    with telling_of_damage(site):
        run_store_check(site.database.sessions, site.storage, orphan_days=site.settings.orphan_days)


@contextmanager
def telling_of_damage(site: Site) -> Iterator[None]:
    """Tell the site admins in the end what was found damaged, also if the store falls silent before."""
    try:
        yield
    finally:
        with site.database.sessions.begin() as db:
            tell_of_damage(db, site.vault)


def seal_audit(site: Site, context: JobContext, timestamp: int) -> None:
    """Chain the events that are not sealed yet."""
    with site.database.locked(SEAL_LOCK) as is_ours:
        sealed = SEAL_BATCH if is_ours else 0
        while sealed == SEAL_BATCH:
            with site.database.sessions.begin() as db:
                sealed = seal_events(db)


def make_audit_room(site: Site, context: JobContext, timestamp: int) -> None:
    """Make the audit's next partitions, long before they are needed."""
    with site.database.sessions.begin() as db:
        make_room(db)


def tidy(site: Site, context: JobContext, timestamp: int) -> None:
    """Remove rows whose time is over."""
    with site.database.sessions.begin() as db:
        idle = timedelta(hours=get_setting(db, "session_idle_hours"))
        limits: list[tuple[InstrumentedAttribute[Any], timedelta]] = [
            (IdempotentAnswer.created_at, timedelta(hours=24)),
            (LoginSession.expires_at, timedelta()),
            (LoginSession.last_seen_at, idle),
            # Until then its link says that it has expired, rather than that there is none.
            (PasswordToken.expires_at, timedelta(days=30)),
        ]
        for column, age in limits:
            db.execute(delete(column.class_).where(column < func.now() - age))
        delete_empty_buckets(db)
        remove_old_registrations(db)


async def tend_jobs(site: Site, context: JobContext, timestamp: int) -> None:
    """Give jobs back whose worker has died, and remove those that ended long ago."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs():
        log.warning("job %s (%s) was left by its worker", job.id, job.task_name)
        if job.task_name in PERIODIC or job.attempts + 1 >= MAIL_ATTEMPTS:
            # The clock brings the next one; and what has brought down so many workers will bring down more.
            await manager.finish_job(job, status=Status.FAILED, delete_job=job.task_name in PERIODIC)
        else:
            await manager.retry_job(job)
    await manager.delete_old_jobs(KEPT_FAILED_HOURS, include_failed=True, include_cancelled=True, include_aborted=True)


PERIODIC: dict[str, tuple[str, Callable[..., Any]]] = {
    "sweep": ("*/10 * * * *", sweep),
    "check_store": ("41 3 * * *", check_store),
    "check_contents": ("23 * * * *", check_contents),
    "seal_audit": ("* * * * *", seal_audit),
    "tend_jobs": ("* * * * *", tend_jobs),
    "make_audit_room": ("17 * * * *", make_audit_room),
    "tidy": ("7 * * * *", tidy),
}
"""What the clock brings, and when (as cron writes it)."""
