"""What there is, at a glance."""

from typing import Any

from pyramid.request import Request

from datameta.api import operation, serialize
from datameta.logic import overview


@operation("getOverview")
def get_overview(request: Request) -> Any:
    return serialize.show_overview(overview.get_overview(request.db, request.actor))
