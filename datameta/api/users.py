"""Users."""

from typing import Any

from pyramid.request import Request

from datameta.api import link_next_page, no_content, operation, serialize
from datameta.logic import users


@operation("listUsers")
def list_users(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    views, cursor = users.list_users(
        request.db,
        request.actor,
        limit=parameters.get("limit", 100),
        cursor=parameters.get("cursor"),
        search=parameters.get("search"),
        group_id=parameters.get("groupId"),
    )
    link_next_page(request, cursor)
    return [serialize.show_user_view(view) for view in views]


@operation("createUser")
def create_user(request: Request) -> Any:
    body = request.openapi_validated.body
    user = users.create_user(
        request.db,
        request.actor,
        settings=request.portal_settings,
        vault=request.vault,
        name=body["name"],
        email=body["email"],
        group_id=body["groupId"],
        group_admin=body.get("groupAdmin", False),
        site_admin=body.get("siteAdmin", False),
        site_read=body.get("siteRead", False),
    )
    return serialize.show_user(request.actor, user)


@operation("userInformationRequest")
def get_user(request: Request) -> Any:
    user = users.get_user(request.db, request.actor, user_id=request.matchdict["id"])
    return serialize.show_user(request.actor, user)


@operation("userUpdateRequest")
def change_user(request: Request) -> Any:
    users.change_user(
        request.db, request.actor, user_id=request.matchdict["id"], changes=request.openapi_validated.body
    )
    return no_content(request)
