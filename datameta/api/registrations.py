"""Registrations."""

from typing import Any

from pyramid.request import Request

from datameta.api import no_content, operation, serialize
from datameta.logic import registrations
from datameta.logic.registrations import Wish


@operation("postRegistration")
def post_registration(request: Request) -> Any:
    body = request.openapi_validated.body
    wish = Wish(
        name=body["name"] or "",
        email=body["email"] or "",
        group_id=body["org_select"] or "",
        wants_new_group=bool(body["org_create"]),
        new_group_name=body["org_new_name"] or "",
        accepts_agreement=bool(body["check_user_agreement"]),
    )
    registrations.register(
        request.db,
        request.database.sessions,
        request.vault,
        settings=request.portal_settings,
        origin=request.origin,
        wish=wish,
    )
    return no_content(request)


@operation("listRegistrations")
def list_registrations(request: Request) -> Any:
    return [serialize.show_registration(view) for view in registrations.list_registrations(request.db, request.actor)]


@operation("answerRegistration")
def answer_registration(request: Request) -> Any:
    body = request.openapi_validated.body
    registrations.answer_registration(
        request.db,
        request.actor,
        settings=request.portal_settings,
        vault=request.vault,
        registration_id=request.matchdict["id"],
        is_accepted=body["accept"],
        group_id=body.get("groupId"),
        new_group_name=body.get("newGroupName"),
        message=body.get("message") or "",
    )
    return no_content(request)


@operation("getRegistrationSettings")
def get_registration_settings(request: Request) -> Any:
    return serialize.show_registration_settings(*registrations.describe_registration(request.db))
