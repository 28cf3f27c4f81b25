"""Metadatasets: staged, read, searched, deleted."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from pyramid.request import Request
from pyramid.response import Response

from datameta.api import PAGE_LIMIT, link_next_page, no_content, operation, serialize, stream_list, wants_only_good
from datameta.api.errors import render_problems
from datameta.api.idempotency import idempotent
from datameta.api.parameters import parse_instants
from datameta.errors import NotFoundError
from datameta.identifiers import to_identifier
from datameta.logic import history, metadatasets
from datameta.logic.metadatasets import MetaDataSetRow, Query
from datameta.logic.rulebook import list_fields


@operation("createMetaDataSet")
@idempotent("createMetaDataSet")
def create_meta_data_set(request: Request) -> Any:
    row, fields = metadatasets.stage_metadataset(
        request.db,
        request.actor,
        record=request.openapi_validated.body["record"],
        site_id_format=request.portal_settings.id_metadatasets,
    )
    return serialize.show_metadataset(request.actor, row, fields)


@operation("bulkCreateMetaDataSets")
@idempotent("bulkCreateMetaDataSets")
def bulk_create_meta_data_sets(request: Request) -> Any:
    outcomes = metadatasets.stage_metadatasets(
        request.db,
        request.actor,
        records=request.openapi_validated.body["records"],
        only_good=wants_only_good(request),
        site_id_format=request.portal_settings.id_metadatasets,
    )
    return {
        "results": [
            {
                "id": None if outcome.made is None else to_identifier(outcome.made),
                "problems": render_problems(outcome.error),
            }
            for outcome in outcomes
        ]
    }


@operation("getMetaDataSet")
def get_meta_data_set(request: Request) -> Any:
    row = metadatasets.get_metadataset(request.db, request.actor, metadataset_id=request.matchdict["id"])
    return serialize.show_metadataset(request.actor, row, list_fields(request.db))


@operation("getMetaDataSetHistory")
def get_meta_data_set_history(request: Request) -> Any:
    events = history.list_history(request.db, request.actor, metadataset_id=request.matchdict["id"])
    return [serialize.show_past_event(event) for event in events]


@operation("getMetaDataSets")
def get_meta_data_sets(request: Request) -> Any:
    """Answer a page if a limit is given, else everything, streamed if it is more than one page."""
    parameters = request.openapi_validated.parameters.query
    after, before = parse_instants(parameters, "submittedAfter", "submittedBefore")
    query = Query(after, before, parameters.get("awaitingService"))
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
        return _stream(request, rows, metadatasets.list_ids(request.db, request.actor, query, cursor=cursor))
    link_next_page(request, cursor)
    return _show_page(request, rows)


@operation("listStagedMetaDataSets")
def list_staged_meta_data_sets(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    rows, cursor = metadatasets.list_staged(
        request.db, request.actor, limit=parameters.get("limit", PAGE_LIMIT), cursor=parameters.get("cursor")
    )
    link_next_page(request, cursor)
    return _show_page(request, rows)


@operation("updateMetaDataSet")
def update_meta_data_set(request: Request) -> Any:
    row = metadatasets.update_metadataset(
        request.db,
        request.actor,
        metadataset_id=request.matchdict["id"],
        record=request.openapi_validated.body["record"],
    )
    return serialize.show_metadataset(request.actor, row, list_fields(request.db))


@operation("deleteMetadataSet")
def delete_metadata_set(request: Request) -> Any:
    metadatasets.delete_metadatasets(request.db, request.actor, metadataset_ids=[request.matchdict["id"]])
    return no_content(request)


@operation("bulkDeleteStagedMetaDataSets")
def bulk_delete_staged_meta_data_sets(request: Request) -> Any:
    ids = request.openapi_validated.body["metadatasetIds"]
    metadatasets.delete_metadatasets(request.db, request.actor, metadataset_ids=ids)
    return no_content(request)


def _show_page(request: Request, rows: Sequence[MetaDataSetRow]) -> list[dict[str, Any]]:
    view = serialize.MetaDataSetView(request.actor, list_fields(request.db))
    return [view.show(row) for row in rows]


def _stream(request: Request, first: Sequence[MetaDataSetRow], ids: Sequence[int]) -> Response:
    """Answer with the sets of a first page, and those with these row ids, page after page."""
    view = serialize.MetaDataSetView(request.actor, list_fields(request.db))
    pages = chain([first], metadatasets.stream_pages(request.database.sessions, ids))
    return stream_list(request, ([view.show(row) for row in page] for page in pages))
