"""API keys, and who the user is."""

from typing import Any

from pyramid.request import Request

from datameta.api import operation, serialize
from datameta.errors import ForbiddenError, UnauthenticatedError
from datameta.logic import keys, login
from datameta.logic.identity import SETUP_REQUIRED


@operation("createApiKey")
def create_api_key(request: Request) -> Any:
    body = request.openapi_validated.body
    actor = request.actor or _sign_in(request, body)
    key, token = keys.create_key(
        request.db, actor, settings=request.portal_settings, label=body["label"], expires=body.get("expires")
    )
    return serialize.show_session(actor, key, token)


@operation("deleteApiKey")
def delete_api_key(request: Request) -> Any:
    keys.delete_key(request.db, request.actor, key_id=request.matchdict["id"])
    return request.response


@operation("getUserApiKeys")
def get_user_api_keys(request: Request) -> Any:
    return serialize.show_keys(keys.list_keys(request.db, request.actor, user_id=request.matchdict["id"]))


@operation("getUserInformation")
def get_user_information(request: Request) -> Any:
    return serialize.show_whoami(request.actor)


def _sign_in(request: Request, body: dict[str, Any]) -> Any:
    """Return whom the e-mail address and password in the body stand for."""
    if "email" not in body or "password" not in body:
        raise UnauthenticatedError
    actor, second_factor = login.sign_in(
        request.db,
        request.database.sessions,
        settings=request.portal_settings,
        vault=request.vault,
        origin=request.origin,
        email=body["email"],
        password=body["password"],
        otp=request.headers.get("DataMeta-OTP"),
    )
    if second_factor == SETUP_REQUIRED:
        message = "This site requires a second factor: sign in with a browser and set one up."
        raise ForbiddenError(message, code="second_factor_required")
    return actor
