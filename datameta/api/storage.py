"""The store of bytes, as far as it can be tried."""

from typing import Any

from pyramid.request import Request

from datameta.api import operation, serialize
from datameta.logic.storage_check import check_storage


@operation("checkStorage")
def try_storage(request: Request) -> Any:
    settings = request.portal_settings
    return serialize.show_storage_check(settings.storage, check_storage(request.actor, settings))
