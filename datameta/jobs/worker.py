"""The worker: takes jobs from the queue and does them, several at a time, until it is told to stop.

It then finishes what it is at. If it is killed, another worker takes its jobs up again.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import procrastinate
import psycopg
from procrastinate.exceptions import ProcrastinateException
from sqlalchemy import make_url

from datameta import logs, metrics
from datameta.jobs import tasks
from datameta.jobs.tasks import PERIODIC, MailRetry, Site, StoreRetry
from datameta.logic import verification
from datameta.logic.mail import TASK as SEND_MAIL

CONCURRENCY = 4

Stop = Callable[[], None]


class WorkerError(Exception):
    """The worker cannot go on; the message is a sentence for the operator."""


def run_worker(site: Site, announce: Callable[[Stop], None]) -> None:
    """Do jobs until told to stop.

    ``announce`` gets the function that tells so, from any thread, once the queue answers.
    Raises ``WorkerError`` if the queue no longer does.
    """
    asyncio.run(_run(site, announce))


def do_due_jobs(site: Site) -> None:
    """Do the jobs that are due, but none that the clock would bring, and return."""
    asyncio.run(_run_once(site))


def make_queue(site: Site, *, has_clock: bool) -> procrastinate.App:
    """Return the queue of a site with what its jobs do; with a clock, it stores those that come by it."""
    url = make_url(site.database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    # Two connections listen for new jobs.
    queue = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=6))
    add_task = queue.task(name=SEND_MAIL, retry=MailRetry(), pass_context=True)
    add_task(observed(SEND_MAIL, partial(tasks.send_mail, site)))
    add_verification = queue.task(name=verification.TASK, retry=StoreRetry(), pass_context=True)
    add_verification(observed(verification.TASK, partial(tasks.verify_file, site)))
    for name, (cron, function) in PERIODIC.items():
        # The lock keeps jobs that nobody does from piling up.
        task = queue.task(name=name, queueing_lock=name, pass_context=True)(observed(name, partial(function, site)))
        if has_clock:
            queue.periodic(cron=cron)(task)
    return queue


def observed(name: str, action: Callable[..., Any]) -> Callable[..., Any]:
    """Return a job's action such that it is counted, and what it logs carries its name and number."""

    @contextmanager
    def observe(context: procrastinate.JobContext) -> Iterator[None]:
        with logs.about(operation=name, job_id=context.job.id), metrics.timed(name):
            yield

    def act(context: procrastinate.JobContext, **arguments: Any) -> Any:
        with observe(context):
            return action(context, **arguments)

    async def act_async(context: procrastinate.JobContext, **arguments: Any) -> Any:
        with observe(context):
            return await action(context, **arguments)

    return act_async if inspect.iscoroutinefunction(action) else act


async def _run(site: Site, announce: Callable[[Stop], None]) -> None:
    async with make_queue(site, has_clock=True).open_async() as queue:
        loop = asyncio.get_running_loop()
        work = loop.create_task(_work(site, queue, wait=True))
        announce(lambda: _stop(loop, work))
        try:
            await work
        except asyncio.CancelledError:
            return
        except (ProcrastinateException, psycopg.Error) as error:
            raise WorkerError(f"The job queue no longer answers: {type(error).__name__}.") from error
    raise WorkerError("The job queue no longer answers.")


async def _run_once(site: Site) -> None:
    async with make_queue(site, has_clock=False).open_async() as queue:
        await _work(site, queue, wait=False)


async def _work(site: Site, queue: procrastinate.App, *, wait: bool) -> None:
    """Work through two queues side by side: mails do not wait for the verification of large files."""
    queues = {"default": CONCURRENCY, verification.QUEUE: site.settings.verification_jobs}
    workers = [
        queue.run_worker_async(
            queues=[name],
            wait=wait,
            concurrency=concurrency,
            # A job that is done is of no further use, and may hold somebody's address.
            delete_jobs="successful",
            install_signal_handlers=False,
        )
        for name, concurrency in queues.items()
    ]
    await asyncio.gather(*workers)


def _stop(loop: asyncio.AbstractEventLoop, work: asyncio.Task[None]) -> None:
    # The loop may have ended by itself.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(work.cancel)
