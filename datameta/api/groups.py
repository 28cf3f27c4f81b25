"""Groups."""

from typing import Any

from pyramid.request import Request

from datameta.api import no_content, operation, serialize
from datameta.logic import groups


@operation("listGroups")
def list_groups(request: Request) -> Any:
    return [serialize.show_group(group) for group in groups.list_groups(request.db, request.actor)]


@operation("createGroup")
def create_group(request: Request) -> Any:
    name = request.openapi_validated.body["name"]
    site_id_format = request.portal_settings.id_groups
    return serialize.show_group(
        groups.create_group(request.db, request.actor, name=name, site_id_format=site_id_format)
    )


@operation("groupInformationRequest")
def get_group(request: Request) -> Any:
    return serialize.show_group(groups.get_group(request.db, request.actor, group_id=request.matchdict["id"]))


@operation("changeGroupName")
def change_group_name(request: Request) -> Any:
    name = request.openapi_validated.body["name"]
    groups.rename_group(request.db, request.actor, group_id=request.matchdict["id"], name=name)
    return no_content(request)
