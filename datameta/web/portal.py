"""The browser application: files that ``frontend/build.py`` made, and one page for every address that is not the API's.

The page's policy lets the browser run nothing but these files, and speak to nobody but the portal and the store.
"""

import mimetypes
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import FileResponse, Response
from pyramid.security import NO_PERMISSION_REQUIRED

from datameta.errors import NotFoundError, UnavailableError
from datameta.storage import Storage

BUILT = Path(str(files("datameta.web"))) / "portal"
CACHE_SECONDS = 365 * 24 * 3600
SCRIPT_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'"
"""For workers, which take it from their script: they compute checksums, and speak to nobody but the page."""
ENCODINGS = {"br": ".br", "gzip": ".gz"}
"""How a file may be sent, best first, and what the file is called then."""


def includeme(config: Configurator) -> None:
    """Put the application's files and its page on their routes; all are public, as they hold no data."""
    config.add_route("portal-asset", "/assets/{name}")
    config.add_route("portal-icon", "/icon.svg")
    # That there is nothing below /api is the API's to say.
    config.add_route("portal", r"/{path:(?!api(?:/|$)|assets/).*}")
    for route, view in (("portal-asset", _send_asset), ("portal-icon", _send_icon), ("portal", _send_page)):
        config.add_view(view, route_name=route, request_method="GET", permission=NO_PERMISSION_REQUIRED)


def _send_page(context: Any, request: Request) -> Response:
    page = _read_page()
    response = Response(page, content_type="text/html", charset="utf-8")
    # The page names files that change with each version.
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = make_policy(find_origin(request.storage))
    return response


def _send_asset(context: Any, request: Request) -> Response:
    return _send_file(request, BUILT / "assets", request.matchdict["name"], CACHE_SECONDS)


def _send_icon(context: Any, request: Request) -> Response:
    return _send_file(request, BUILT, "icon.svg", 3600)


def _send_file(request: Request, folder: Path, name: str, seconds: int) -> Response:
    if name not in _list_files(folder):
        raise NotFoundError("There is nothing at this address.", code="unknown_address")
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    there = [encoding for encoding, suffix in ENCODINGS.items() if name + suffix in _list_files(folder)]
    accepted = {encoding for encoding, _ in request.accept_encoding.acceptable_offers(there)}
    best = next((encoding for encoding in there if encoding in accepted), None) if request.accept_encoding else None
    path = folder / (name + ENCODINGS[best] if best else name)
    response = FileResponse(str(path), request, seconds, content_type, best)
    response.vary = "Accept-Encoding"
    if name.endswith(".js"):
        response.headers["Content-Security-Policy"] = SCRIPT_POLICY
    return response


def make_policy(store: str | None) -> str:
    """Return the page's Content-Security-Policy; ``store`` is the origin that bytes are sent to."""
    return "; ".join(
        [
            "default-src 'none'",
            # Checksums are computed by WebAssembly.
            "script-src 'self' 'wasm-unsafe-eval'",
            "worker-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            f"connect-src 'self' {store}" if store else "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )


def find_origin(storage: Storage) -> str | None:
    """Return the origin of the addresses that the store signs, or None if bytes go through the portal."""
    if not storage.is_direct:
        return None
    parts = urlsplit(storage.presign_download(f"files/{UUID(int=0)}", disposition="attachment", seconds=60).url)
    return f"{parts.scheme}://{parts.netloc}"


@cache
def _read_page() -> str:
    try:
        return (BUILT / "index.html").read_text("utf-8")
    except FileNotFoundError:
        message = "The browser application has not been built. Run: python frontend/build.py."
        raise UnavailableError(message, code="not_built") from None


@cache
def _list_files(folder: Path) -> frozenset[str]:
    """Return the names of the files in a folder of the build; nothing else is ever opened."""
    return frozenset(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else frozenset()
