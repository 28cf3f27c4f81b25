"""Every request is seen: a line in the log, a count, and what it takes, under the name of its operation.

An address may hold a token, so the log has the operation and never the address.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyramid.config import Configurator
from pyramid.events import ContextFound
from pyramid.request import Request

from datameta import logs
from datameta.metrics import REQUEST_SECONDS, REQUESTS

log = logging.getLogger("datameta.access")

UNKNOWN = "unknown"
"""The operation of requests for what there is not."""
QUIET = ("health-live", "health-ready", "metrics")
"""What asks every few seconds is logged in detail only."""


def includeme(config: Configurator) -> None:
    """Let what is logged know the operation as soon as that is known."""
    config.add_subscriber(_note_operation, ContextFound)


@contextmanager
def observed(request: Request) -> Iterator[Callable[[int], None]]:
    """Observe one request; yield the function that is told the status of its answer."""
    status, began = 500, time.monotonic()

    def answer(given: int) -> None:
        nonlocal status
        status = given

    with logs.about(request_id=request.origin.request_id):
        try:
            yield answer
        finally:
            seconds, operation = time.monotonic() - began, name_operation(request)
            REQUESTS.labels(operation, str(status)).inc()
            REQUEST_SECONDS.labels(operation).observe(seconds)
            actor = request.environ.get("datameta.actor")
            facts = {
                "operation": operation,
                "status": status,
                "ms": round(seconds * 1000, 1),
                "ip": request.origin.ip,
                "user": None if actor is None else str(actor.uuid),
            }
            level = logging.DEBUG if operation in QUIET else logging.INFO
            log.log(level, "%s %s", request.method, status, extra={"facts": facts})


def name_operation(request: Request) -> str:
    """Return the operation that a request is for, or for a page the name of its route."""
    route = getattr(request, "matched_route", None)
    if route is None:
        return UNKNOWN
    operations: dict[tuple[str, str], str] = request.registry["datameta.operations"]
    return operations.get((route.name, request.method)) or operations.get((route.name, ""), route.name)


def _note_operation(event: ContextFound) -> None:
    logs.note(operation=name_operation(event.request))
