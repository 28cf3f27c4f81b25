"""The REST API: one thin view per operation of ``openapi.yaml``, and nothing that is not in it.

Route, method and publicity of a view come from the specification; a view only names its operation.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import orjson
import yaml
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from datameta.api import reading
from datameta.api.observing import UNKNOWN

PREFIX = "/api/v1"
SPEC_PATH = files("datameta.api").joinpath("openapi.yaml")
METHODS = ("get", "put", "post", "delete")
VIEW_MODULES = (
    "appsettings",
    "audit",
    "files",
    "groups",
    "jobs",
    "keys",
    "metadata",
    "metadatasets",
    "overview",
    "passwords",
    "registrations",
    "search",
    "server",
    "services",
    "sessions",
    "sheets",
    "site",
    "storage",
    "submissions",
    "totp",
    "transfers",
    "uploads",
    "users",
)

PAGE_LIMIT = 100
"""How many items a page of a list has, unless the client says."""

View = Callable[[Request], Any]
_views: dict[str, tuple[View, bool]] = {}


def operation(operation_id: str, *, validated: bool = True) -> Callable[[View], View]:
    """Make a function the view of an operation.

    ``validated=False`` keeps the specification's validation away from request and response: it reads
    bodies into memory, which transfers must not.
    """

    def register(view: View) -> View:
        _views[operation_id] = (view, validated)
        return view

    return register


def no_content(request: Request) -> Response:
    """Return the answer of an operation that has nothing to say: 204."""
    return Response(status=204, content_type=None)


def link_next_page(request: Request, cursor: str | None) -> None:
    """Tell where the next page of this list is, if there is one."""
    if cursor is not None:
        known = request.openapi_validated.parameters.query
        following = urlencode({**{name: request.GET[name] for name in request.GET if name in known}, "cursor": cursor})
        address = f"{request.portal_settings.base_url}{request.path}?{following}"
        request.response.headers["Link"] = f'<{address}>; rel="next"'


def stream_list(request: Request, pages: Iterable[list[Any]]) -> Response:
    """Return an answer with a list that is made page after page, as it is sent."""
    # The check of the answer would read all of it into memory first.
    request.environ["pyramid_openapi3.validate_response"] = False

    def write() -> Iterator[bytes]:
        separator = b"["
        for page in pages:
            if page:
                # A page's own brackets are left out.
                yield separator + orjson.dumps(page)[1:-1]
                separator = b","
        yield b"]"

    return Response(app_iter=write(), content_type="application/json", charset=None)


def wants_only_good(request: Request) -> bool:
    """Say whether, of many things, those that are right are to be made though others are wrong."""
    return bool(request.openapi_validated.parameters.query.get("only") == "good")


@cache
def load_spec() -> dict[str, Any]:
    """Return the specification as it was written; not to be changed."""
    spec: dict[str, Any] = yaml.load(SPEC_PATH.read_text("utf-8"), yaml.CSafeLoader)
    return spec


def iterate_operations(spec: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path (without the prefix), method in lower case, and the operation."""
    for path, item in spec["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def includeme(config: Configurator) -> None:
    """Put every operation of the specification on its route."""
    for name in VIEW_MODULES:
        import_module(f"datameta.api.{name}")
    config.add_renderer("json", lambda info: _render_json)
    config.include("datameta.api.validation")
    config.include("datameta.api.errors")
    config.include("datameta.api.observing")
    spec = load_spec()
    operations = config.registry["datameta.operations"] = {}
    for path, item in spec["paths"].items():
        config.add_route(path, PREFIX + path)
        allowed = ", ".join(method.upper() for method in METHODS if method in item)
        config.add_view(_make_method_refusal(allowed), route_name=path, permission=NO_PERMISSION_REQUIRED)
        operations[path, ""] = UNKNOWN
    for path, method, described in iterate_operations(spec):
        view, validated = _views[described["operationId"]]
        operations[path, method.upper()] = described["operationId"]
        if described["operationId"] in reading.OPERATIONS:
            view = reading.read_replica(view)
        is_public = described.get("security") == []
        config.add_view(
            lambda context, request, view=view: view(request),
            route_name=path,
            request_method=method.upper(),
            renderer="json",
            openapi=validated,
            **({"permission": NO_PERMISSION_REQUIRED} if is_public else {}),
        )
    config.add_route("api", "/api")
    config.add_view(_make_method_refusal("GET"), route_name="api", permission=NO_PERMISSION_REQUIRED)
    config.add_view(_redirect_to_version, route_name="api", request_method="GET", permission=NO_PERMISSION_REQUIRED)


def _render_json(value: Any, system: dict[str, Any]) -> bytes:
    system["request"].response.content_type = "application/json"
    return orjson.dumps(value)


def _make_method_refusal(allowed: str) -> Callable[[Any, Request], Any]:
    """Return the view for every method that a path does not have."""
    from datameta.api.errors import MethodNotAllowedError

    def refuse_method(context: Any, request: Request) -> Any:
        raise MethodNotAllowedError(allowed)

    return refuse_method


def _redirect_to_version(context: Any, request: Request) -> Response:
    return Response(status=302, location=request.portal_settings.base_url + PREFIX)
