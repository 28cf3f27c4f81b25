"""The pages that the portal serves to browsers: the explorer of the API at ``/api/v1/``, here, and ``portal.py``; and
what those read who watch it (``monitoring.py``).

The rule this module guards: a page takes everything from the portal itself, and its policy lets the browser
take nothing else. Only the files named here are served; each goes by an address that changes with its content.
"""

import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import FileResponse, Response
from pyramid.security import NO_PERMISSION_REQUIRED

from datameta.api import PREFIX
from datameta.api.errors import MethodNotAllowedError

# The package is only where Swagger UI's files come from; its code, which needs Flask, is never imported.
SWAGGER_UI = Path(str(distribution("flask-swagger-ui").locate_file("flask_swagger_ui/dist")))
OWN = Path(str(files("datameta.web")))
EXPLORER_FILES = {
    "explorer.css": (OWN, "text/css; charset=utf-8"),
    "explorer.js": (OWN, "text/javascript; charset=utf-8"),
    "favicon-32x32.png": (SWAGGER_UI, "image/png"),
    "swagger-ui.css": (SWAGGER_UI, "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": (SWAGGER_UI, "text/javascript; charset=utf-8"),
}
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
CACHE_SECONDS = 365 * 24 * 3600

View = Callable[[Any, Request], Response]


def includeme(config: Configurator) -> None:
    """Put the explorer on its routes; all of them are public, as the specification is."""
    _add_page(config, PREFIX, _redirect_to_explorer)
    _add_page(config, f"{PREFIX}/", _show_explorer)
    for name, (folder, content_type) in EXPLORER_FILES.items():
        _add_page(config, f"{PREFIX}/explorer/{name}", _make_file_view(folder / name, content_type))
    config.include("datameta.web.monitoring")
    # The last of all: its page is the answer to any other address.
    config.include("datameta.web.portal")


def _add_page(config: Configurator, path: str, view: View) -> None:
    config.add_route(path, path)
    config.add_view(_refuse_method, route_name=path, permission=NO_PERMISSION_REQUIRED)
    config.add_view(view, route_name=path, request_method="GET", permission=NO_PERMISSION_REQUIRED)


def _refuse_method(context: Any, request: Request) -> Response:
    raise MethodNotAllowedError("GET")


def _redirect_to_explorer(context: Any, request: Request) -> Response:
    return Response(status=302, location=f"{request.portal_settings.base_url}{PREFIX}/")


def _show_explorer(context: Any, request: Request) -> Response:
    response = Response(_render_explorer(), content_type="text/html", charset="utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    return response


@cache
def _render_explorer() -> str:
    """Return the explorer's page with the addresses of its files."""
    addresses = {re.sub(r"\W", "_", name): _address(name) for name in EXPLORER_FILES}
    return Template((OWN / "explorer.html").read_text("utf-8")).substitute(addresses)


def _address(name: str) -> str:
    """Return a file's address as the page gives it: relative, and another one when the content is."""
    folder, _ = EXPLORER_FILES[name]
    return f"explorer/{name}?v={hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12]}"


def _make_file_view(path: Path, content_type: str) -> View:
    """Return the view of one file."""

    def send_file(context: Any, request: Request) -> Response:
        return FileResponse(str(path), request, content_type=content_type, cache_max_age=CACHE_SECONDS)

    return send_file
