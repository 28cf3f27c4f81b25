"""Passwords: changed with the old one, or set with a mailed link."""

from typing import Any

from pyramid.request import Request

from datameta.api import no_content, operation
from datameta.errors import UnauthenticatedError
from datameta.logic import login, passwords

NOBODY = "0"
"""The id of the user in a request that comes with a reset token."""


@operation("setUserPassword")
def set_user_password(request: Request) -> Any:
    user_id, body = request.matchdict["id"], request.openapi_validated.body
    credential, new = body["passwordChangeCredential"], body["newPassword"]
    settings = request.portal_settings
    if user_id == NOBODY:
        passwords.reset_password(request.db, settings=settings, origin=request.origin, token=credential, new=new)
    elif request.actor is None:
        raise UnauthenticatedError
    else:
        passwords.change_password(
            request.db,
            request.database.sessions,
            request.actor,
            settings=settings,
            user_id=user_id,
            old=credential,
            new=new,
        )
    return no_content(request)


@operation("requestPasswordReset")
def request_password_reset(request: Request) -> Any:
    login.request_reset(
        request.db,
        request.database.sessions,
        settings=request.portal_settings,
        vault=request.vault,
        origin=request.origin,
        email=request.openapi_validated.body["email"],
    )
    return no_content(request)
