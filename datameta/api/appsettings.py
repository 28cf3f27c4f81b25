"""The settings that are changed while the portal runs."""

from typing import Any

from pyramid.request import Request

from datameta.api import no_content, operation, serialize
from datameta.logic import appsettings, previews


@operation("appSettings")
def list_app_settings(request: Request) -> Any:
    has_details = request.openapi_validated.parameters.query.get("details", False)
    views = appsettings.list_settings(request.db, request.actor)
    return [serialize.show_setting(view, has_details=has_details) for view in views]


@operation("updateAppSettings")
def change_app_setting(request: Request) -> Any:
    value = request.openapi_validated.body["value"]
    appsettings.change_setting(request.db, request.actor, setting_id=request.matchdict["id"], value=value)
    return no_content(request)


@operation("previewAppSetting")
def preview_app_setting(request: Request) -> Any:
    preview = previews.preview_mail(
        request.db,
        request.actor,
        settings=request.portal_settings,
        setting_id=request.matchdict["id"],
        value=request.openapi_validated.body["value"],
    )
    return serialize.show_preview(preview)
