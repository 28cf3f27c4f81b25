"""Keys, users and groups."""

from typing import Any

from pyramid.request import Request

from datameta.api import no_content, operation, serialize
from datameta.errors import UnauthenticatedError
from datameta.logic import accounts


@operation("createApiKey")
def create_api_key(request: Request) -> Any:
    body = request.openapi_validated.body
    if request.actor is None:
        raise UnauthenticatedError
    key, token = accounts.create_key(
        request.db,
        request.actor,
        settings=request.portal_settings,
        label=body["label"],
        expires=body.get("expires"),
    )
    return serialize.show_session(request.actor, key, token)


@operation("deleteApiKey")
def delete_api_key(request: Request) -> Any:
    accounts.delete_key(request.db, request.actor, key_id=request.matchdict["id"])
    return request.response


@operation("getUserApiKeys")
def get_user_api_keys(request: Request) -> Any:
    return serialize.show_keys(accounts.list_keys(request.db, request.actor, user_id=request.matchdict["id"]))


@operation("getUserInformation")
def get_user_information(request: Request) -> Any:
    return serialize.show_whoami(request.actor)


@operation("userInformationRequest")
def get_user(request: Request) -> Any:
    user = accounts.get_user(request.db, request.actor, user_id=request.matchdict["id"])
    return serialize.show_user(request.actor, user)


@operation("groupInformationRequest")
def get_group(request: Request) -> Any:
    return serialize.show_group(accounts.get_group(request.db, request.actor, group_id=request.matchdict["id"]))


@operation("changeGroupName")
def change_group_name(request: Request) -> Any:
    name = request.openapi_validated.body["name"]
    accounts.rename_group(request.db, request.actor, group_id=request.matchdict["id"], name=name)
    return no_content(request)
