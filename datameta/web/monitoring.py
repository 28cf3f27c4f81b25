"""For those who watch the portal: is it alive, is it ready, and what has it counted.

``/health/live`` and ``/health/ready`` answer everybody, a load balancer above all, and tell no more than which
part is well. ``/metrics`` is for who has the monitoring token (a setting); without one set there is no such page.
"""

import hmac
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from datameta import __version__, metrics
from datameta.database import Database
from datameta.errors import NotFoundError, UnauthenticatedError
from datameta.logic.health import PARTS, Health
from datameta.logic.jobs import measure_queues


def includeme(config: Configurator) -> None:
    """Put the three on their routes."""
    for name, path, view in (
        ("health-live", "/health/live", _show_life),
        ("health-ready", "/health/ready", _show_readiness),
        ("metrics", "/metrics", _show_metrics),
    ):
        config.add_route(name, path)
        config.add_view(view, route_name=name, request_method="GET", renderer="json", permission=NO_PERMISSION_REQUIRED)


def _show_life(context: Any, request: Request) -> Any:
    return {"status": "live"}


def _show_readiness(context: Any, request: Request) -> Any:
    """Answer 200 or 503; ``?exclude=worker`` leaves a part out of the verdict."""
    found, excluded = request.health.examine(), request.GET.getall("exclude")
    is_ready = not any(problem for part, problem in found.items() if part not in excluded)
    request.response.status_int = 200 if is_ready else 503
    parts = {part: "failing" if found[part] else "ok" for part in PARTS}
    return {"status": "ready" if is_ready else "not ready", "parts": parts}


def _show_metrics(context: Any, request: Request) -> Response:
    token = request.portal_settings.monitoring_token
    if not token:
        raise NotFoundError("There is nothing at this address.", code="unknown_address")
    sent = request.headers.get("Authorization", "")
    if not hmac.compare_digest(sent.encode("latin-1", "replace"), f"Bearer {token}".encode()):
        raise UnauthenticatedError
    site = CollectorRegistry()
    site.register(SiteCollector(request.health, request.database))
    response = Response(metrics.render() + generate_latest(site))
    response.headers["Content-Type"] = metrics.CONTENT_TYPE
    return response


class SiteCollector:
    """What is not counted but looked up: which parts are well, what waits in the queues."""

    def __init__(self, health: Health, database: Database) -> None:
        self._health = health
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now; of a database that does not answer there are none."""
        version = InfoMetricFamily("datameta_build", "The version of the portal.")
        version.add_metric([], {"version": __version__})
        yield version
        ready = GaugeMetricFamily("datameta_ready", "1 where a part of the portal is well, else 0.", labels=["part"])
        for part, problem in self._health.examine().items():
            ready.add_metric([part], 0 if problem else 1)
        yield ready
        jobs = GaugeMetricFamily("datameta_jobs", "Jobs in the queue, by status.", labels=["queue", "status"])
        waits = GaugeMetricFamily(
            "datameta_job_wait_seconds", "Seconds that the job that is due longest has waited.", labels=["queue"]
        )
        try:
            with self._database.autocommit.connect() as connection:
                view = measure_queues(connection)
        except (DBAPIError, PoolTimeoutError):
            return
        for (queue, status), count in view.counts.items():
            jobs.add_metric([queue, status], count)
        for queue, seconds in view.wait_seconds.items():
            waits.add_metric([queue], seconds)
        yield jobs
        yield waits
