"""What is done once for all requests gives what Pyramid would give each."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.urldispatch import RoutesMapper

from datameta.api import PREFIX, dispatch, load_spec
from datameta.api.dispatch import Routes

PATTERNS = [
    *(PREFIX + path for path in load_spec()["paths"]),
    PREFIX,
    f"{PREFIX}/",
    "/api",
    "/download/{token}",
    "/api/v1/fi{odd}/x",
    "/{path:.*}",
]
PATHS = [
    "",
    "/",
    "/api",
    "/api/",
    "//api/v1/files",
    "/api/v1",
    "/api/v1/",
    "/api/v1/file",
    "/api/v1/filesystem/x",
    "/api/v1/files/a/b/c/d",
    "/api/v1/files/",
    "/download/abc",
    "/download/a/b",
    "/submit/\u00c3\u00a9",
    *(re.sub(r"\{.*?\}", "some-id", pattern) for pattern in PATTERNS),
]


def connect(mapper: Any, patterns: list[str]) -> Any:
    for pattern in patterns:
        mapper.connect(pattern, pattern)
    return mapper


@pytest.mark.parametrize("patterns", [PATTERNS, PATTERNS[::-1], PATTERNS[:-1]], ids=["last", "first", "without"])
def test_a_path_finds_the_route_that_pyramid_finds(patterns: list[str]) -> None:
    routes, reference = connect(Routes(), patterns), connect(RoutesMapper(), patterns)
    routes.group()
    for path in PATHS:
        request = SimpleNamespace(
            path_info=path.encode("latin-1").decode(errors="replace"), environ={"PATH_INFO": path}
        )
        found, expected = routes(request), reference(request)
        assert found["match"] == expected["match"], path
        assert getattr(found["route"], "name", None) == getattr(expected["route"], "name", None), path


def test_few_routes_are_tried() -> None:
    routes = connect(Routes(), PATTERNS)
    tried: list[str] = []
    for route in routes.routelist:
        route.match = lambda path, name=route.name: tried.append(name)
    routes.group()
    routes(SimpleNamespace(path_info="/api/v1/server", environ={"PATH_INFO": "/api/v1/server"}))
    assert tried == ["/api/v1/server", "/download/{token}", "/api/v1/fi{odd}/x", "/{path:.*}"]


def test_requests_have_one_class_with_all_that_was_added() -> None:
    config = Configurator()
    dispatch.install_routes(config)
    config.add_request_method(lambda request: [], "kept", reify=True)
    config.add_request_method(lambda request: [], "made", property=True)
    config.add_request_method(lambda request, word: word, "say")
    seen: list[Any] = []

    def view(request: Any) -> Any:
        seen.append(request)
        return request.response

    config.add_route("x", "/x")
    config.add_view(view, route_name="x")
    dispatch.settle(config)
    app = config.make_wsgi_app()
    for _ in range(2):
        environ = {"PATH_INFO": "/x", "REQUEST_METHOD": "GET", "SERVER_NAME": "x", "SERVER_PORT": "80"}
        app({**environ, "wsgi.url_scheme": "http"}, lambda status, headers: None)
    first, second = seen
    assert type(first) is type(second)
    assert first.kept is first.kept is not second.kept
    assert first.made is not first.made
    assert first.say("word") == "word"
