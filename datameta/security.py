"""Who is asking: a bearer API key, looked up once per request; and nothing is open by default.

A view needs a known user unless the specification says that its operation is public. What a known
user may do is decided by the logic (``datameta.authz``), after the request has been understood.
"""

import re
from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request

from datameta.authz import Actor
from datameta.credentials import TOKEN_LENGTH
from datameta.logic.accounts import get_actor

AUTHENTICATED = "authenticated"
_BEARER = re.compile(rf"Bearer +([A-Za-z0-9]{{{TOKEN_LENGTH}}}) *", re.IGNORECASE)


class SecurityPolicy:
    """Pyramid's security policy: the identity is an ``Actor``, or None for a stranger."""

    def identity(self, request: Request) -> Actor | None:
        """Return the user whose live key the request carries."""
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
        """Return no headers: a key is sent with each request."""
        return []

    def forget(self, request: Request, **kw: Any) -> list[tuple[str, str]]:
        """Return the header that goes with a 401."""
        return [("WWW-Authenticate", "Bearer")]


def includeme(config: Configurator) -> None:
    """Install the policy, and deny by default."""
    config.set_security_policy(SecurityPolicy())
    config.set_default_permission(AUTHENTICATED)
    config.add_request_method(lambda request: request.identity, "actor", property=True)


def _identify(request: Request) -> Actor | None:
    match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    if match is None:
        return None
    with request.database.autocommit.connect() as connection:
        return get_actor(connection, match[1])
