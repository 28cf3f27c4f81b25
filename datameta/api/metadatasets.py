"""Metadatasets: staged, read, searched, deleted."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from pyramid.request import Request
from pyramid.response import Response

from datameta.api import PREFIX, no_content, operation, serialize
from datameta.clock import as_utc
from datameta.errors import NotFoundError, Problem, ValidationError
from datameta.logic import metadatasets
from datameta.logic.definitions import list_definitions
from datameta.logic.metadatasets import MetaDataSetRow, Query


@operation("createMetaDataSet")
def create_meta_data_set(request: Request) -> Any:
    row = metadatasets.stage_metadataset(
        request.db,
        request.actor,
        record=request.openapi_validated.body["record"],
        site_id_format=request.portal_settings.id_metadatasets,
    )
    return serialize.show_metadataset(request.actor, row, list_definitions(request.db))


@operation("getMetaDataSet")
def get_meta_data_set(request: Request) -> Any:
    row = metadatasets.get_metadataset(request.db, request.actor, metadataset_id=request.matchdict["id"])
    return serialize.show_metadataset(request.actor, row, list_definitions(request.db))


@operation("getMetaDataSets")
def get_meta_data_sets(request: Request) -> Any:
    """Answer a page if a limit is given, else everything, streamed if it is more than one page."""
    parameters = request.openapi_validated.parameters.query
    problems: list[Problem] = []
    query = Query(
        _parse_instant(parameters, "submittedAfter", problems),
        _parse_instant(parameters, "submittedBefore", problems),
        parameters.get("awaitingService"),
    )
    if problems:
        raise ValidationError(problems)
    limit = parameters.get("limit")
    rows, cursor = metadatasets.list_page(
        request.db,
        request.actor,
        query,
        limit=limit or metadatasets.PAGE_SIZE,
        cursor=parameters.get("cursor"),
    )
    if not rows:
        raise NotFoundError("No metadataset was found.", code="nothing_found")
    if limit is None and cursor is not None:
        return _stream(request, query, rows, cursor)
    if cursor is not None:
        following = urlencode({**request.GET, "cursor": cursor})
        address = f"{request.portal_settings.base_url}{PREFIX}/metadatasets?{following}"
        request.response.headers["Link"] = f'<{address}>; rel="next"'
    fields = list_definitions(request.db)
    return [serialize.show_metadataset(request.actor, row, fields) for row in rows]


@operation("deleteMetadataSet")
def delete_metadata_set(request: Request) -> Any:
    metadatasets.delete_metadatasets(request.db, request.actor, metadataset_ids=[request.matchdict["id"]])
    return no_content(request)


@operation("bulkDeleteStagedMetaDataSets")
def bulk_delete_staged_meta_data_sets(request: Request) -> Any:
    ids = request.openapi_validated.body["metadatasetIds"]
    metadatasets.delete_metadatasets(request.db, request.actor, metadataset_ids=ids)
    return no_content(request)


def _stream(request: Request, query: Query, rows: Sequence[MetaDataSetRow], cursor: str) -> Response:
    # The check of the answer would read all of it into memory first.
    request.environ["pyramid_openapi3.validate_response"] = False
    actor = request.actor
    fields = list_definitions(request.db)
    request.db.expunge_all()
    pages = metadatasets.stream_pages(request.database.sessions, actor, query, cursor=cursor)

    def write() -> Iterator[bytes]:
        separator = b"["
        for page in _chain(rows, pages):
            shown = [orjson.dumps(serialize.show_metadataset(actor, row, fields)) for row in page]
            if shown:
                yield separator + b",".join(shown)
                separator = b","
        yield b"]"

    return Response(app_iter=write(), content_type="application/json", charset=None)


def _chain(
    first: Sequence[MetaDataSetRow], following: Iterator[Sequence[MetaDataSetRow]]
) -> Iterator[Sequence[MetaDataSetRow]]:
    yield first
    yield from following


def _parse_instant(parameters: dict[str, Any], name: str, problems: list[Problem]) -> datetime | None:
    text = parameters.get(name)
    if text is None:
        return None
    # A plus sign that was not escaped in the address arrives as a space.
    text = re.sub(r"(T\S+) (\d\d:?\d\d)$", r"\1+\2", text)
    try:
        return as_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        message = "Write the time as ISO 8601, such as 2030-01-31T12:00:00+01:00 (in an address, + is %2B)."
        problems.append(Problem(message, "invalid_date", field=name))
        return None
