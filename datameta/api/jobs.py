"""The job queue: what there is, and another try for what has failed."""

from typing import Any

from pyramid.request import Request

from datameta.api import operation, serialize
from datameta.logic import jobs


@operation("listJobs")
def list_jobs(request: Request) -> Any:
    status = request.openapi_validated.parameters.query.get("status")
    return [serialize.show_job(job) for job in jobs.list_jobs(request.db, request.actor, request.vault, status=status)]


@operation("retryJob")
def retry_job(request: Request) -> Any:
    job_id = request.matchdict["id"]
    return serialize.show_job(jobs.retry_job(request.db, request.actor, request.vault, job_id=job_id))
