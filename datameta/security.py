"""Who is asking: a bearer API key or a session's cookie, looked up once per request; nothing is open by default.

A view needs a known user unless the specification says that its operation is public. What a known
user may do is decided by the logic (``datameta.authz``), after the request has been understood.

A browser sends a cookie with whatever makes it send a request. A change by cookie therefore needs a
token that only our own pages know, from our own pages, in a form that no foreign form can send.
"""

import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from datameta.authz import Actor
from datameta.credentials import TOKEN_LENGTH, is_same_secret, make_csrf_token
from datameta.errors import ForbiddenError
from datameta.logic import throttle
from datameta.logic.identity import SETUP_REQUIRED, get_key_actor, get_session_actor

AUTHENTICATED = "authenticated"
COOKIE = "datameta"
SAFE_METHODS = ("GET", "HEAD")
ENROLMENT = {
    ("GET", "/rpc/whoami"),
    ("GET", "/sessions/current"),
    ("DELETE", "/sessions/current"),
    ("POST", "/users/{id}/totp"),
    ("PUT", "/users/{id}/totp"),
}
"""All that is open to a session whose user has yet to set up a second factor."""
TYPES_BY_COOKIE = ("application/json", "text/csv", "application/octet-stream")
"""Types that no page of another site can send unasked."""
_BEARER = re.compile(rf"Bearer +([A-Za-z0-9]{{{TOKEN_LENGTH}}}) *", re.IGNORECASE)
_COOKIE_VALUE = re.compile(rf"[A-Za-z0-9]{{{TOKEN_LENGTH}}}")
_PORTS = {"http": 80, "https": 443}


class SecurityPolicy:
    """Pyramid's security policy: the identity is an ``Actor``, or None for a stranger."""

    def identity(self, request: Request) -> Actor | None:
        """Return the user whose live key or session the request carries.

        Raises ``ForbiddenError`` for a change by cookie that was not made by our own pages, and for what
        a user may not do who has yet to set up a second factor; ``TooManyRequestsError``.
        """
        if "datameta.actor" not in request.environ:
            request.environ["datameta.actor"] = _identify(request)
        actor: Actor | None = request.environ["datameta.actor"]
        return actor

    def authenticated_userid(self, request: Request) -> str | None:
        """Return the user's UUID."""
        actor = self.identity(request)
        return None if actor is None else str(actor.uuid)

    def permits(self, request: Request, context: Any, permission: str) -> bool:
        """Grant the one permission there is to every known user, and no other to anybody."""
        return permission == AUTHENTICATED and self.identity(request) is not None

    def remember(self, request: Request, userid: str, **kw: Any) -> list[tuple[str, str]]:
        """Return no headers: ``set_cookie`` sets the session's cookie."""
        return []

    def forget(self, request: Request, **kw: Any) -> list[tuple[str, str]]:
        """Return the header that goes with a 401."""
        return [("WWW-Authenticate", "Bearer")]


def includeme(config: Configurator) -> None:
    """Install the policy, and deny by default."""
    config.set_security_policy(SecurityPolicy())
    config.set_default_permission(AUTHENTICATED)
    config.add_request_method(lambda request: request.identity, "actor", property=True)
    config.add_request_method(lambda request: request.environ["datameta.second_factor"], "second_factor", property=True)


def set_cookie(request: Request, response: Response, token: str | None) -> None:
    """Let the browser send the session's token from now on; None: nothing any more."""
    response.set_cookie(
        COOKIE,
        token or "",
        max_age=None if token else 0,
        httponly=True,
        samesite="Lax",
        secure=request.portal_settings.base_url.startswith("https:"),
        path="/",
    )


def get_session_token(request: Request) -> str | None:
    """Return the session's token that the request carries, or None; beside an API key it does not count."""
    if "Authorization" in request.headers:
        return None
    value = request.cookies.get(COOKIE, "")
    return value if _COOKIE_VALUE.fullmatch(value) else None


def require_own_origin(request: Request) -> None:
    """Raise ``ForbiddenError`` if a browser says that a foreign page makes the request."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    base = _origin_of(urlsplit(request.portal_settings.base_url))
    if site != "same-origin" or (origin is not None and _parse_origin(origin) != base):
        raise ForbiddenError("The request comes from a page of another site.", code="csrf_failed")


def _identify(request: Request) -> Actor | None:
    match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    if match is not None:
        return _identify_key(request, match[1])
    token = get_session_token(request)
    return None if token is None else _identify_session(request, token)


def _identify_key(request: Request, token: str) -> Actor | None:
    actor = get_key_actor(request.database, token, request.origin)
    if actor is None:
        # Whoever owns a key that has expired is not held to account for it: only the sender is.
        throttle.take(request.database.sessions, "bad_key", request.origin.ip)
    return actor


def _identify_session(request: Request, token: str) -> Actor | None:
    found = get_session_actor(request.database, token, request.origin)
    if found is None:
        return None
    actor, second_factor = found
    request.environ["datameta.second_factor"] = second_factor
    if request.method not in SAFE_METHODS:
        _require_own_page(request, token)
    if second_factor == SETUP_REQUIRED and (request.method, request.matched_route.name) not in ENROLMENT:
        raise ForbiddenError("Set up a second factor first; this site requires one.", code="second_factor_required")
    return actor


def _require_own_page(request: Request, token: str) -> None:
    require_own_origin(request)
    if not is_same_secret(request.headers.get("X-CSRF-Token", ""), make_csrf_token(token)):
        message = "A change by cookie needs the session's csrfToken in the header X-CSRF-Token."
        raise ForbiddenError(message, code="csrf_failed")
    # Not is_body_readable: under waitress that is true without a body as well.
    if request.content_length and request.content_type not in TYPES_BY_COOKIE:
        message = (
            "A change by cookie is sent as Content-Type: application/json; a table as text/csv, and a sample sheet as "
            "application/octet-stream."
        )
        raise ForbiddenError(message, code="csrf_failed")


def _parse_origin(text: str) -> tuple[str, str | None, int | None] | None:
    try:
        return _origin_of(urlsplit(text))
    except ValueError:
        return None


def _origin_of(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
