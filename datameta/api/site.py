"""What pages need of the site before anybody has signed in."""

from typing import Any

from pyramid.request import Request

from datameta.api import operation, serialize
from datameta.logic.site import describe_site


@operation("getSite")
def get_site(request: Request) -> Any:
    return serialize.show_site(describe_site(request.db, request.portal_settings))
