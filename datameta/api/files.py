"""Files: announced, confirmed, changed, read, deleted. Their bytes are in ``transfers``."""

from typing import Any

from pyramid.request import Request

from datameta.api import PAGE_LIMIT, link_next_page, no_content, operation, serialize, wants_only_good
from datameta.api.errors import render_problems
from datameta.api.idempotency import idempotent
from datameta.identifiers import to_identifier
from datameta.logic import files
from datameta.logic.files import Announcement


@operation("createFile")
@idempotent("createFile")
def create_file(request: Request) -> Any:
    body = request.openapi_validated.body
    upload = files.announce_file(
        request.db,
        request.actor,
        sessions=request.database.sessions,
        storage=request.storage,
        settings=request.portal_settings,
        file=Announcement(
            body["name"], body["checksum"], request.openapi_validated.parameters.header.get("DataMeta-File-Size")
        ),
    )
    return serialize.show_upload(request.actor, upload)


@operation("bulkCreateFiles")
@idempotent("bulkCreateFiles")
def bulk_create_files(request: Request) -> Any:
    outcomes = files.announce_files(
        request.db,
        request.actor,
        sessions=request.database.sessions,
        storage=request.storage,
        settings=request.portal_settings,
        files=[
            Announcement(file["name"], file["checksum"], file.get("size"))
            for file in request.openapi_validated.body["files"]
        ],
        only_good=wants_only_good(request),
    )
    return {
        "results": [
            {
                "upload": None if outcome.made is None else serialize.show_upload(request.actor, outcome.made),
                "problems": render_problems(outcome.error),
            }
            for outcome in outcomes
        ]
    }


@operation("renewUploadUrl")
def renew_upload_url(request: Request) -> Any:
    upload = files.renew_upload(
        request.database.sessions,
        request.actor,
        storage=request.storage,
        settings=request.portal_settings,
        file_id=request.matchdict["id"],
    )
    return serialize.show_upload(request.actor, upload)


@operation("getFile")
def get_file(request: Request) -> Any:
    file = files.get_file(request.db, request.actor, file_id=request.matchdict["id"])
    return serialize.show_file(file, to_identifier(file.user))


@operation("listStagedFiles")
def list_staged_files(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    rows, cursor = files.list_staged(
        request.db, request.actor, limit=parameters.get("limit", PAGE_LIMIT), cursor=parameters.get("cursor")
    )
    link_next_page(request, cursor)
    return [serialize.show_file(file, to_identifier(request.actor)) for file in rows]


@operation("updateFile")
def update_file(request: Request) -> Any:
    body = request.openapi_validated.body
    file = files.update_file(
        request.database.sessions,
        request.actor,
        storage=request.storage,
        file_id=request.matchdict["id"],
        name=body.get("name"),
        checksum=body.get("checksum"),
        content_uploaded=body.get("contentUploaded", False),
        wait_seconds=request.portal_settings.verification_wait_seconds,
    )
    return serialize.show_file(file, to_identifier(request.actor))


@operation("deleteFile")
def delete_file(request: Request) -> Any:
    files.delete_files(
        request.database.sessions, request.actor, storage=request.storage, file_ids=[request.matchdict["id"]]
    )
    return no_content(request)


@operation("bulkDeleteStagedFiles")
def bulk_delete_staged_files(request: Request) -> Any:
    ids = request.openapi_validated.body["fileIds"]
    files.delete_files(request.database.sessions, request.actor, storage=request.storage, file_ids=ids)
    return no_content(request)


@operation("getFileUrl")
def get_file_url(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    download = files.make_download(
        request.db,
        request.actor,
        storage=request.storage,
        settings=request.portal_settings,
        file_id=request.matchdict["id"],
        minutes=parameters.get("expires", 1),
    )
    if parameters.get("redirect", False):
        request.response.status_int = 307
        request.response.headers["Location"] = download.url
    return serialize.show_download(download)
