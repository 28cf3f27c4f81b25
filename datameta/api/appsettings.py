"""The settings that are changed while the portal runs."""

from typing import Any

from pyramid.request import Request

from datameta.api import no_content, operation, serialize
from datameta.logic import appsettings, previews


@operation("appSettings")
def list_app_settings(request: Request) -> Any:
    return [serialize.show_setting(view) for view in appsettings.list_settings(request.db, request.actor)]


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
