"""Submissions."""

from typing import Any

from pyramid.request import Request

from datameta.api import PAGE_LIMIT, link_next_page, no_content, operation, serialize, stream_list
from datameta.api.idempotency import idempotent
from datameta.identifiers import to_identifier
from datameta.logic import submissions


@operation("createSubmission")
@idempotent("createSubmission")
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
    """Answer with everything, streamed if it is more than one page."""
    pages = submissions.list_group_pages(request.db, request.actor, group_id=request.matchdict["id"])
    if len(pages) > 1:
        read = submissions.stream_submissions(request.database.sessions, pages)
        return stream_list(request, ([serialize.show_submission(each) for each in page] for page in read))
    return [
        serialize.show_submission(submitted)
        for page in pages
        for submitted in submissions.read_submissions(request.db, page)
    ]


@operation("listSubmissions")
def list_submissions(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    rows, cursor = submissions.list_page(
        request.db,
        request.actor,
        group_id=parameters.get("groupId"),
        limit=parameters.get("limit", PAGE_LIMIT),
        cursor=parameters.get("cursor"),
    )
    link_next_page(request, cursor)
    return [serialize.show_submission_summary(row) for row in rows]


@operation("getSubmission")
def get_submission(request: Request) -> Any:
    submission_id = request.matchdict["id"]
    submitted, group, user = submissions.get_submission(request.db, request.actor, submission_id=submission_id)
    return serialize.show_submission_detail(submitted, to_identifier(group), to_identifier(user))


@operation("listSubmissionFiles")
def list_submission_files(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    rows, cursor = submissions.list_files(
        request.db,
        request.actor,
        submission_id=request.matchdict["id"],
        limit=parameters.get("limit", PAGE_LIMIT),
        cursor=parameters.get("cursor"),
    )
    link_next_page(request, cursor)
    return [serialize.show_submitted_file(file) for file in rows]


def _read_request(request: Request) -> dict[str, Any]:
    body = request.openapi_validated.body
    return {"metadataset_ids": body["metadatasetIds"], "file_ids": body["fileIds"]}
