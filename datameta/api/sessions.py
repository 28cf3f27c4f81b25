"""Sessions: signing in, signing out, and a list of where one is signed in."""

from typing import Any

from pyramid.request import Request

from datameta.api import no_content, operation
from datameta.authz import Actor
from datameta.clock import to_wire
from datameta.credentials import make_csrf_token
from datameta.identifiers import to_identifier
from datameta.logic import login, sessions
from datameta.models import LoginSession
from datameta.security import get_session_token, require_own_origin, set_cookie


@operation("createSession")
def create_session(request: Request) -> Any:
    require_own_origin(request)
    body = request.openapi_validated.body
    actor, second_factor = login.sign_in(
        request.db,
        request.database.sessions,
        settings=request.portal_settings,
        vault=request.vault,
        origin=request.origin,
        email=body["email"],
        password=body["password"],
        otp=body.get("otp"),
    )
    session, token = sessions.create_session(request.db, actor, user_agent=request.user_agent)
    set_cookie(request, request.response, token)
    return _show_session(actor, session, token, second_factor)


@operation("listSessions")
def list_sessions(request: Request) -> Any:
    found = sessions.list_sessions(request.db, request.actor)
    return [_show_item(request.actor, session) for session in found]


@operation("getCurrentSession")
def get_current_session(request: Request) -> Any:
    session = sessions.find_current_session(request.db, request.actor)
    token = get_session_token(request)
    assert token is not None, "a session without its cookie"
    return _show_session(request.actor, session, token, request.second_factor)


@operation("deleteCurrentSession")
def delete_current_session(request: Request) -> Any:
    sessions.end_current_session(request.db, request.actor)
    response = no_content(request)
    set_cookie(request, response, None)
    return response


@operation("deleteSession")
def delete_session(request: Request) -> Any:
    sessions.end_session(request.db, request.actor, session_id=request.matchdict["id"])
    return no_content(request)


def _show_session(actor: Actor, session: LoginSession, token: str, second_factor: str) -> dict[str, Any]:
    """Session: the one answer that holds the CSRF token."""
    return {
        "id": to_identifier(session),
        "userId": to_identifier(actor),
        "csrfToken": make_csrf_token(token),
        "expires": to_wire(session.expires_at),
        "secondFactor": second_factor,
    }


def _show_item(actor: Actor, session: LoginSession) -> dict[str, Any]:
    """SessionListItem."""
    return {
        "id": to_identifier(session),
        "createdAt": to_wire(session.created_at),
        "lastSeenAt": to_wire(session.last_seen_at),
        "expires": to_wire(session.expires_at),
        "ip": session.ip,
        "userAgent": session.user_agent,
        "isCurrent": session.id == actor.session_id,
    }
