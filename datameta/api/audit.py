"""The audit, read."""

from typing import Any

from pyramid.request import Request

from datameta.api import PAGE_LIMIT, link_next_page, operation, serialize
from datameta.api.parameters import parse_instants
from datameta.logic import audit
from datameta.logic.audit import Search


@operation("listAuditEvents")
def list_audit_events(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    after, before = parse_instants(parameters, "after", "before")
    search = Search(
        after=after,
        before=before,
        event=parameters.get("event"),
        actor_id=parameters.get("actorId"),
        entity_id=parameters.get("entityId"),
    )
    rows, cursor = audit.list_events(
        request.db, request.actor, search, limit=parameters.get("limit", PAGE_LIMIT), cursor=parameters.get("cursor")
    )
    link_next_page(request, cursor)
    return [serialize.show_event(request.actor, event, seal) for event, seal in rows]


@operation("listUserEvents")
def list_user_events(request: Request) -> Any:
    parameters = request.openapi_validated.parameters.query
    rows, cursor = audit.list_user_events(
        request.db,
        request.actor,
        user_id=request.matchdict["id"],
        limit=parameters.get("limit", PAGE_LIMIT),
        cursor=parameters.get("cursor"),
    )
    link_next_page(request, cursor)
    return [serialize.show_event(request.actor, event, seal) for event, seal in rows]
