"""Upload sessions: files sent in parts. The bytes of parts that go through the portal are in ``transfers``."""

from typing import Any

from pyramid.request import Request

from datameta.api import PAGE_LIMIT, link_next_page, no_content, operation, serialize
from datameta.logic import uploads


@operation("openUploadSession")
def open_upload_session(request: Request) -> Any:
    size = request.openapi_validated.body["size"]
    file = uploads.open_session(**_place(request), settings=request.portal_settings, size=size)
    return serialize.show_upload_session(file)


@operation("getUploadSession")
def get_upload_session(request: Request) -> Any:
    file = uploads.get_session(request.db, request.actor, file_id=request.matchdict["id"])
    return serialize.show_upload_session(file)


@operation("abortUploadSession")
def abort_upload_session(request: Request) -> Any:
    uploads.abort_session(**_place(request), settings=request.portal_settings)
    return no_content(request)


@operation("listUploadParts")
def list_upload_parts(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    limit, cursor = parameters.get("limit", PAGE_LIMIT), parameters.get("cursor")
    parts, following = uploads.list_parts(**_place(request), limit=limit, cursor=cursor)
    link_next_page(request, following)
    return [serialize.show_upload_part(part) for part in parts]


@operation("createPartUrls")
def create_part_urls(request: Request) -> Any:
    parts = [(part["number"], part["md5"]) for part in request.openapi_validated.body["parts"]]
    announced, expires_at = uploads.announce_parts(**_place(request), settings=request.portal_settings, parts=parts)
    return serialize.show_part_urls(announced, expires_at)


@operation("completeUploadSession")
def complete_upload_session(request: Request) -> Any:
    checksum = request.openapi_validated.body.get("checksum")
    return serialize.show_upload_session(uploads.complete_session(**_place(request), checksum=checksum))


def _place(request: Request) -> dict[str, Any]:
    """Return what every operation on a session begins with."""
    return {
        "sessions": request.database.sessions,
        "actor": request.actor,
        "storage": request.storage,
        "file_id": request.matchdict["id"],
    }
