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

from datameta.api.observing import name_operation, observed
from datameta.errors import (
    ConflictError,
    DataMetaError,
    ForbiddenError,
    GoneError,
    IdempotencyError,
    NotFoundError,
    Problem,
    TooLargeError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnavailableError,
    ValidationError,
)
from datameta.headers import make_headers

log = logging.getLogger("datameta.api")


class MethodNotAllowedError(DataMetaError):
    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This address takes {allowed}.")
        self.allowed = allowed


class UnsupportedTypeError(DataMetaError):
    code = "unsupported_type"
    message = "The body has a type that this address does not take."


class RangeError(DataMetaError):
    """``size`` is how many bytes the file has."""

    code = "range_not_satisfiable"
    message = "The file does not have the part that was asked for."

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


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
    IdempotencyError: 422,
    TooManyRequestsError: 429,
    InternalError: 500,
    UnavailableError: 503,
}
MAX_PROBLEMS = 100_000


def includeme(config: Configurator) -> None:
    """Render every error, wherever it is raised."""
    config.add_exception_view(view_exception, context=Exception)
    # Pyramid has views of its own for these.
    config.add_exception_view(view_exception, context=HTTPException)
    config.add_notfound_view(view_exception)
    config.add_forbidden_view(view_exception)
    config.add_tween("datameta.api.errors.guard_factory", under=INGRESS)


def guard_factory(handler: Any, registry: Any) -> Any:
    """Make the outermost tween: it catches what the exception views cannot, and sets the headers of every answer."""

    def guard(request: Request) -> Response:
        is_head = request.method == "HEAD"
        if is_head:
            # The specification knows no HEAD: it is a GET of which the server sends no body.
            request.method = "GET"
            # A range is of a body, and there is none.
            request.headers.pop("Range", None)
        with observed(request) as answer:
            try:
                response = handler(request)
            except Exception as error:
                response = view_exception(error, request)
            answer(response.status_int)
        if is_head:
            request.method = "HEAD"
        headers = response.headerlist
        given = {name.lower() for name, _ in headers}
        usual = make_headers(request.portal_settings.base_url).items()
        headers += [(name, value) for name, value in usual if name.lower() not in given]
        # Log, audit and client know the request by the same id.
        headers.append(("X-Request-Id", request.origin.request_id))
        return response

    return guard


def status_of(error: DataMetaError) -> int:
    """Return the status of an error: that of its class, or of the nearest base."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)


def render_error(error: DataMetaError) -> Response:
    """Return the response that tells every problem of ``error``."""
    response = Response(
        orjson.dumps(render_problems(error)), status=status_of(error), content_type="application/json", charset=None
    )
    if isinstance(error, UnauthenticatedError):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManyRequestsError):
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, RangeError):
        response.headers["Content-Range"] = f"bytes */{error.size}"
    if isinstance(error, UnavailableError):
        response.headers["Retry-After"] = "5"
    if isinstance(error, MethodNotAllowedError):
        response.headers["Allow"] = error.allowed
    return response


def render_problems(error: DataMetaError | None) -> list[dict[str, Any]]:
    """Return the problems of an error, if there is one, as the API writes them."""
    if error is None:
        return []
    return [render_problem(type(error).__name__, problem) for problem in error.problems[:MAX_PROBLEMS]]


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


def view_exception(error: Exception, request: Request) -> Response:
    """Return the response for whatever was raised."""
    refusal = _refusal_of(error, request)
    if isinstance(refusal, InternalError):
        request_id = request.origin.request_id
        log.error("%s %s failed (request %s)", request.method, name_operation(request), request_id, exc_info=error)
    return render_error(refusal)


def _refusal_of(error: Exception, request: Request) -> DataMetaError:
    """Return what a client hears of an exception: anything unforeseen is a failure of ours."""
    if isinstance(error, DataMetaError):
        return error
    if isinstance(error, HTTPForbidden):
        # The only permission there is, is to be known.
        return UnauthenticatedError()
    if isinstance(error, HTTPNotFound):
        return NotFoundError("There is nothing at this address.", code="unknown_address")
    if isinstance(error, UnicodeDecodeError) and not _is_readable(request):
        # The check of the answer would read the address again.
        request.environ["pyramid_openapi3.validate_response"] = False
        return ValidationError("The address is not valid UTF-8.", code="malformed")
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    ):
        log.warning("the database does not answer: %s", type(error).__name__)
        return UnavailableError()
    return InternalError()


def _is_readable(request: Request) -> bool:
    """Say whether the address can be decoded."""
    try:
        return request.path_info is not None and request.GET is not None
    except UnicodeDecodeError:
        return False
