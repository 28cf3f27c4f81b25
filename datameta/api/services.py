"""Services, and what they answer."""

from typing import Any

from pyramid.request import Request

from datameta.api import operation, serialize
from datameta.logic import services
from datameta.logic.rulebook import list_fields


@operation("getServiceInfo")
def get_service_info(request: Request) -> Any:
    return [serialize.show_service(view) for view in services.list_services(request.db, request.actor)]


@operation("postService")
def post_service(request: Request) -> Any:
    view = services.create_service(
        request.db,
        request.actor,
        name=request.openapi_validated.body["name"],
        site_id_format=request.portal_settings.id_services,
    )
    return serialize.show_service(view)


@operation("putService")
def put_service(request: Request) -> Any:
    body = request.openapi_validated.body
    view = services.update_service(
        request.db,
        request.actor,
        service_id=request.matchdict["id"],
        name=body.get("name"),
        user_ids=body.get("userIds"),
    )
    return serialize.show_service(view)


@operation("serviceSetMetaDatum")
def execute_service(request: Request) -> Any:
    body = request.openapi_validated.body
    row = services.execute_service(
        request.db,
        request.actor,
        service_id=request.matchdict["serviceId"],
        metadataset_id=request.matchdict["metadatasetId"],
        record=body["record"],
        file_ids=body["fileIds"],
    )
    return serialize.show_metadataset(request.actor, row, list_fields(request.db))
