"""Requests and answers are checked against ``openapi.yaml``, and faults are told in our own words.

The validator's own messages quote the value at fault, which may be a password; ours never do.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from jsonschema_path import SchemaPath
from openapi_core import V31ResponseValidator
from openapi_core.templating.media_types.exceptions import MediaTypeNotFound
from openapi_core.unmarshalling.request.unmarshallers import V31RequestUnmarshaller
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid_openapi3.exceptions import RequestValidationError, ResponseValidationError

from datameta.api import PREFIX, SPEC_PATH, load_spec
from datameta.api.compiled import Compiled, RequestValidator, ResponseValidator
from datameta.api.errors import InternalError, UnsupportedTypeError, log, render_error
from datameta.api.observing import name_operation
from datameta.errors import DataMetaError, Problem, ValidationError
from datameta.logic.vocabularies import decode_csv

MESSAGES = {
    "additionalProperties": ("There is no such property.", "unknown_property"),
    "enum": ("The value is none of those that are allowed.", "invalid_value"),
    "maxItems": ("The list has more than {} items.", "too_many"),
    "maxLength": ("The text has more than {} characters.", "too_long"),
    "maxProperties": ("The object has more than {} properties.", "too_many"),
    "maximum": ("The number is larger than {}.", "out_of_range"),
    "minItems": ("The list has fewer than {} items.", "too_few"),
    "minLength": ("The text has fewer than {} characters.", "too_short"),
    "minimum": ("The number is smaller than {}.", "out_of_range"),
    "pattern": ("The text has a character that is not allowed here, or not the right form.", "invalid_text"),
    "required": ("This property is missing.", "missing"),
    "type": ("The value is not of the type {}.", "wrong_type"),
}
SPEC_ROUTE = "openapi.yaml"
MAX_DEPTH = 16
"""How deep a body may be nested; no documented one comes near, and the validator recurses."""
_HALF_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}|\\u[dD][c-fC-F][0-9a-fA-F]{2}")


class SentNumber(float):
    """A number with a fraction or exponent that still knows how it was written."""

    def __new__(cls, text: str) -> "SentNumber":
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __repr__(self) -> str:
        return self.text


def parse_json(body: bytes, **parameters: str) -> Any:
    """Return the value of a JSON text, and refuse what JSON is not, or what no database holds.

    Raises ``ValidationError``: the package would quote the body if it met a ``ValueError``.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_make_object,
            parse_float=SentNumber,
            parse_constant=_refuse_constant,
        )
        if _HALF_SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _refuse_depth([value], MAX_DEPTH)
    except (ValueError, RecursionError):
        raise ValidationError("The body is not valid JSON in UTF-8.", code="invalid_json") from None
    return value


def parse_csv(body: bytes, **parameters: str) -> str:
    """Return the text of a csv file.

    Raises ``ValidationError``, which names the line.
    """
    return decode_csv(body)


def includeme(config: Configurator) -> None:
    """Install the specification, its validation, and the rendering of what it refuses."""
    config.include("pyramid_openapi3")
    config.registry.settings["pyramid_openapi3"] = dict(_load_validators())
    config.registry.settings["pyramid_openapi3_apinames"] = ["pyramid_openapi3"]
    config.add_route(SPEC_ROUTE, f"{PREFIX}/openapi.yaml")
    config.add_view(_show_spec, route_name=SPEC_ROUTE, permission=NO_PERMISSION_REQUIRED)
    # The package's own view would log the rejected body. Configurations conflict only within one
    # include; from this one, which includes the package, its view can be replaced.
    config.add_exception_view(_refuse_request, context=RequestValidationError)
    config.add_exception_view(_report_response, context=ResponseValidationError)


class Checker(V31RequestUnmarshaller):
    """Check requests, and leave the values as JSON has them.

    The package would check each part of a body once more to make other types of it, which nothing in the
    specification asks for; that took nine tenths of the time.
    """

    def _unmarshal_schema(self, schema: Any, value: Any) -> Any:
        return value


@cache
def _load_validators() -> dict[str, Any]:
    """Return what pyramid_openapi3 keeps of a specification; they learn, so a process has them once.

    That the specification is valid is for the tests to see, not for every start.
    """
    spec = SchemaPath.from_dict(to_python_patterns(load_spec()))
    types: dict[str, Any] = {"application/json": parse_json, "text/csv": parse_csv}
    compiled = Compiled(load_spec())
    requests = Checker(spec, extra_media_type_deserializers=types)
    responses = V31ResponseValidator(spec, extra_media_type_deserializers=types)
    return {
        "filepath": str(SPEC_PATH),
        "spec_route_name": SPEC_ROUTE,
        "spec": spec,
        "request_validator": RequestValidator(compiled, requests, parse_json),
        "response_validator": ResponseValidator(compiled, responses),
    }


def to_python_patterns(node: Any) -> Any:
    """Return a copy of a specification whose patterns end where ECMA says: Python's ``$`` lets a newline follow."""
    if isinstance(node, dict):
        copied = {name: to_python_patterns(child) for name, child in node.items()}
        if isinstance(pattern := node.get("pattern"), str) and pattern.endswith("$"):
            copied["pattern"] = rf"{pattern[:-1]}\Z"
        return copied
    return [to_python_patterns(child) for child in node] if isinstance(node, list) else node


def _show_spec(request: Request) -> Response:
    return Response(SPEC_PATH.read_bytes(), content_type="text/yaml", charset="utf-8")


def explain_errors(errors: Iterable[Exception]) -> list[Problem]:
    """Return the validator's errors as problems, each once."""
    return list(dict.fromkeys(problem for error in errors for problem in _explain(error)))


def _explain(error: Any) -> Iterator[Problem]:
    cause = error.__cause__
    schema_errors = getattr(cause, "schema_errors", None)
    parameter = getattr(error, "name", None)
    if schema_errors is not None:
        for schema_error in schema_errors:
            yield from _explain_schema_error(schema_error, parameter)
    elif parameter is not None:
        yield Problem("The parameter is missing or does not have the right form.", "invalid_parameter", field=parameter)
    elif isinstance(cause, MediaTypeNotFound):
        yield Problem(f"Send the body as Content-Type: {' or '.join(cause.availableMimetypes)}.", "unsupported_type")
    elif "Body" in type(error).__name__:
        yield Problem("The request needs a body.", "missing_body")
    else:
        yield Problem("The request does not fit the specification.", "invalid")


def _explain_schema_error(error: Any, parameter: str | None) -> Iterator[Problem]:
    if error.validator in ("anyOf", "oneOf") and error.context:
        # The alternatives are "this, or null": what is wrong is what is wrong with "this".
        yield from _explain_schema_error(error.context[0], parameter)
        return
    path = [str(part) for part in error.absolute_path]
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        places = [[*path, name] for name in missing]
    elif error.validator == "additionalProperties" and error.validator_value is False:
        unknown = [name for name in error.instance if name not in error.schema.get("properties", {})]
        places = [[*path, name] for name in unknown]
    else:
        places = [path]
    message, code = MESSAGES.get(error.validator, ("The value does not fit the specification.", "invalid_value"))
    limit = error.validator_value
    if isinstance(limit, list):
        limit = " or ".join(map(str, limit))
    for place in places:
        # A fault inside a record is told by the name of its field, as the rules of fields are.
        shown = place[1:] if len(place) > 1 and place[0] == "record" else place
        yield Problem(message.format(limit), code, field="/".join(shown) or parameter)


def _refuse_request(context: RequestValidationError, request: Request) -> Response:
    problems = explain_errors(context.errors)
    error: DataMetaError = ValidationError(problems)
    if any(problem.code == "unsupported_type" for problem in problems):
        error = UnsupportedTypeError(problems)
    return render_error(error)


def _report_response(context: ResponseValidationError, request: Request) -> Response:
    # The faults are in what we made ourselves: the log names the places, the client hears of no detail.
    places = ", ".join(f"{problem.field}: {problem.code}" for problem in explain_errors(context.errors))
    asked = (request.method, name_operation(request), request.origin.request_id)
    log.error("the answer to %s %s (request %s) does not fit the specification: %s", *asked, places)
    return render_error(InternalError())


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        # A decoder would keep the last value and lose the others without a word.
        counts = Counter(name for name, _ in pairs)
        repeated = [name for name, count in counts.items() if count > 1]
        raise ValidationError(
            Problem("This key occurs more than once.", "duplicate_key", field=name) for name in repeated
        )
    return made


def _refuse_depth(value: Any, levels: int) -> None:
    if levels < 0:
        raise ValueError("nested too deeply")
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, (dict, list)):
            _refuse_depth(child, levels - 1)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
