"""Searching what was submitted, and taking what was found along as a table."""

from collections.abc import Mapping
from typing import Any

from pyramid.request import Request
from pyramid.response import Response

from datameta.api import operation, serialize
from datameta.api.parameters import parse_instants
from datameta.api.sheets import TYPES
from datameta.logic import export, search
from datameta.logic.appsettings import get_setting
from datameta.logic.file_names import make_disposition
from datameta.logic.search import Filters

SORT = "-submitted"
LIMIT = 50


@operation("searchMetaDataSets")
def search_meta_data_sets(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    found = search.prepare_search(
        request.db, request.actor, _read_filters(parameters), sort=parameters.get("sort", SORT)
    )
    rows, cursor = search.read_page(
        request.db, found, limit=parameters.get("limit", LIMIT), cursor=parameters.get("cursor")
    )
    view = serialize.MetaDataSetView(request.actor, found.fields)
    count = search.count_rows(request.db, found)
    return {
        # Pages go on where the count has ended.
        "total": max(count.number, len(rows)),
        "moreThanTotal": count.is_exceeded,
        "next": cursor,
        "rows": [serialize.show_found(view, row) for row in rows],
    }


@operation("exportMetaDataSets")
def export_meta_data_sets(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    kind = parameters.get("format", "xlsx")
    begun = export.begin_export(
        request.db,
        request.actor,
        _read_filters(parameters),
        sort=parameters.get("sort", SORT),
        columns=parameters.get("column"),
    )
    name = f"{get_setting(request.db, 'site_name')} metadatasets.{kind}"
    # The check of the answer would read all of it into memory first.
    request.environ["pyramid_openapi3.validate_response"] = False
    content = export.write_export(request.database.sessions, begun, file_format=kind)
    response = Response(app_iter=content, content_type=TYPES[kind], charset=None)
    response.headers["Content-Disposition"] = make_disposition(name)
    return response


def _read_filters(parameters: Mapping[str, Any]) -> Filters:
    after, before = parse_instants(parameters, "submittedAfter", "submittedBefore")
    return Filters(
        text=parameters.get("q"),
        where=parameters.get("where", ()),
        submitted_after=after,
        submitted_before=before,
        group_id=parameters.get("groupId"),
        user_id=parameters.get("userId"),
        submission_id=parameters.get("submissionId"),
        service_id=parameters.get("serviceId"),
        service_state=parameters.get("serviceState"),
        metadataset_ids=parameters.get("id"),
    )
