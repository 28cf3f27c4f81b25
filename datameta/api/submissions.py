"""Submissions."""

from typing import Any

from pyramid.request import Request

from datameta.api import no_content, operation, serialize
from datameta.logic import submissions


@operation("createSubmission")
def create_submission(request: Request) -> Any:
    submitted = submissions.create_submission(
        request.db,
        request.actor,
        **_read_request(request),
        label=request.openapi_validated.body.get("label"),
        site_id_format=request.portal_settings.id_submissions,
    )
    return serialize.show_submission(submitted)


@operation("prevalidateSubmission")
def prevalidate_submission(request: Request) -> Any:
    submissions.prevalidate_submission(request.db, request.actor, **_read_request(request))
    return no_content(request)


@operation("getGroupSubmissions")
def get_group_submissions(request: Request) -> Any:
    group_id = request.matchdict["id"]
    return [
        serialize.show_submission(submitted)
        for submitted in submissions.list_group_submissions(request.db, request.actor, group_id=group_id)
    ]


def _read_request(request: Request) -> dict[str, Any]:
    body = request.openapi_validated.body
    return {"metadataset_ids": body["metadatasetIds"], "file_ids": body["fileIds"]}
