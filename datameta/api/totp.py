"""The second factor of an account."""

from typing import Any

from pyramid.request import Request

from datameta.api import no_content, operation
from datameta.logic import second_factor


@operation("beginTotp")
def begin_totp(request: Request) -> Any:
    secret, uri = second_factor.begin_totp(
        request.db,
        request.database.sessions,
        request.actor,
        user_id=request.matchdict["id"],
        settings=request.portal_settings,
        vault=request.vault,
        password=request.openapi_validated.body["password"],
    )
    return {"secret": secret, "uri": uri}


@operation("confirmTotp")
def confirm_totp(request: Request) -> Any:
    codes = second_factor.confirm_totp(
        request.db,
        request.database.sessions,
        request.actor,
        user_id=request.matchdict["id"],
        vault=request.vault,
        code=request.openapi_validated.body["code"],
    )
    return {"recoveryCodes": codes}


@operation("renewRecoveryCodes")
def renew_recovery_codes(request: Request) -> Any:
    codes = second_factor.renew_recovery_codes(
        request.db, request.database.sessions, request.actor, **_read_proof(request)
    )
    return {"recoveryCodes": codes}


@operation("removeTotp")
def remove_totp(request: Request) -> Any:
    second_factor.remove_own_totp(request.db, request.database.sessions, request.actor, **_read_proof(request))
    return no_content(request)


@operation("deleteTotpSecret")
def delete_totp_secret(request: Request) -> Any:
    second_factor.remove_totp(request.db, request.actor, user_id=request.matchdict["id"], vault=request.vault)
    return request.response


def _read_proof(request: Request) -> dict[str, Any]:
    """Return whose second factor is meant, and what proves it."""
    body = request.openapi_validated.body
    return {
        "user_id": request.matchdict["id"],
        "settings": request.portal_settings,
        "vault": request.vault,
        "password": body["password"],
        "code": body["code"],
    }
