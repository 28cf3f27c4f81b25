"""What this server is."""

from typing import Any

from pyramid.request import Request

from datameta import __version__
from datameta.api import load_spec, operation

API_VERSION = load_spec()["info"]["version"]


@operation("getServerInfo")
def get_server_info(request: Request) -> Any:
    return {"apiVersion": API_VERSION, "datametaVersion": __version__}
