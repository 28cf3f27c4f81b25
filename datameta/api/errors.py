"""Every refusal has one shape: a JSON list of problems, whatever raised it.

One table maps the class of an error to its status. Nothing here shows a trace, SQL, a path or a secret.
"""

import logging
from typing import Any

import orjson
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPException, HTTPForbidden, HTTPNotFound
from pyramid.request import Request
from pyramid.response import Response
from pyramid.tweens import INGRESS
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from datameta.errors import (
    ConflictError,
    DataMetaError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    Problem,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
    ValidationError,
)

log = logging.getLogger("datameta.api")


class MethodNotAllowedError(DataMetaError):
    code = "method_not_allowed"


class UnsupportedTypeError(DataMetaError):
    code = "unsupported_type"
    message = "The body has a type that this address does not take."


class RangeError(DataMetaError):
    code = "range_not_satisfiable"
    message = "The file does not have the part that was asked for."


class NotOfferedError(DataMetaError):
    code = "not_offered"
    message = "This version of the portal does not offer this operation."


class InternalError(DataMetaError):
    code = "internal_error"
    message = "The portal failed. Nothing was changed; the failure has been logged."


STATUS: dict[type[DataMetaError], int] = {
    ValidationError: 400,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    MethodNotAllowedError: 405,
    ConflictError: 409,
    GoneError: 410,
    TooLargeError: 413,
    UnsupportedTypeError: 415,
    RangeError: 416,
    InternalError: 500,
    NotOfferedError: 501,
    UnavailableError: 503,
}
MAX_PROBLEMS = 100_000
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def includeme(config: Configurator) -> None:
    """Render every error, wherever it is raised."""
    config.add_exception_view(_view_error, context=DataMetaError)
    config.add_exception_view(_view_database_error, context=DBAPIError)
    config.add_exception_view(_view_database_error, context=PoolTimeoutError)
    config.add_exception_view(_view_http_error, context=HTTPException)
    config.add_exception_view(_view_crash, context=Exception)
    config.add_notfound_view(_view_http_error)
    config.add_forbidden_view(_view_http_error)
    config.add_tween("datameta.api.errors.guard_factory", under=INGRESS)


def guard_factory(handler: Any, registry: Any) -> Any:
    """Make the outermost tween: it catches what the exception views cannot, and sets the headers of every answer."""

    def guard(request: Request) -> Response:
        is_head = request.method == "HEAD"
        if is_head:
            # The specification knows no HEAD: it is a GET of which the server sends no body.
            request.method = "GET"
        try:
            response = handler(request)
        except Exception as error:
            response = _view_crash(error, request)
        if is_head:
            request.method = "HEAD"
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return guard


def status_of(error: DataMetaError) -> int:
    """Return the status of an error: that of its class, or of the nearest base."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)


def render_error(error: DataMetaError, request: Request) -> Response:
    """Return the response that tells every problem of ``error``."""
    name = type(error).__name__
    body = [render_problem(name, problem) for problem in error.problems[:MAX_PROBLEMS]]
    response = Response(orjson.dumps(body), status=status_of(error), content_type="application/json", charset=None)
    if isinstance(error, UnauthenticatedError):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, UnavailableError):
        response.headers["Retry-After"] = "5"
    if isinstance(error, MethodNotAllowedError):
        response.headers["Allow"] = request.response.headers["Allow"]
    return response


def render_problem(exception: str, problem: Problem) -> dict[str, Any]:
    """Return one problem as the API writes it."""
    rendered: dict[str, Any] = {
        "exception": exception,
        "error_code": problem.code,
        "message": _printable(problem.message, 100_000),
    }
    if problem.entity is not None:
        rendered["entity"] = {key: _printable(value, 100) for key, value in problem.entity.items()}
    if problem.field is not None:
        rendered["field"] = _printable(problem.field, 1000)
    return rendered


def _printable(text: str, length: int) -> str:
    """Return text as an answer may hold it: what was sent wrong can come back in a message."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\\0")[:length]


def _view_error(error: DataMetaError, request: Request) -> Response:
    return render_error(error, request)


def _view_http_error(error: HTTPException, request: Request) -> Response:
    if isinstance(error, HTTPForbidden):
        # The only permission there is, is to be known.
        return render_error(UnauthenticatedError(), request)
    if isinstance(error, HTTPNotFound):
        return render_error(NotFoundError("There is nothing at this address.", code="unknown_address"), request)
    if error.status_code < 400:
        return error
    if error.status_code < 500:
        # Pyramid's own refusals: an address or header that cannot be decoded.
        return render_error(ValidationError("The request cannot be read.", code="malformed"), request)
    return _view_crash(error, request)


def _view_database_error(error: Exception, request: Request) -> Response:
    """Answer 503 for a database that is away or too busy; anything else it says is a fault of ours."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    ):
        log.warning("the database does not answer: %s", type(error).__name__)
        return render_error(UnavailableError(), request)
    return _view_crash(error, request)


def _view_crash(error: Exception, request: Request) -> Response:
    log.error("%s %s failed", request.method, _path_of(request), exc_info=error)
    return render_error(InternalError(), request)


def _path_of(request: Request) -> str:
    return ascii(request.environ.get("PATH_INFO", ""))
