"""What fits ``openapi.yaml`` is seen at once, by validators compiled from it; only what may not is looked at twice.

openapi-core walks the specification for each request and each answer, which takes longer than all the rest of a small
one. It stays the judge: here a request or an answer is either accepted, or left to it. So these validators may be
stricter than openapi-core, at the price of time, but never more lenient; ``tests/unit/test_compiled.py`` compares them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import orjson
from jsonschema_rs import Draft202012Validator
from openapi_core.datatypes import Parameters
from openapi_core.unmarshalling.request.datatypes import RequestUnmarshalResult

from datameta.api import PREFIX, iterate_operations

JSON = "application/json"
KEPT_ANSWERS, KEPT_LENGTH = 64, 1 << 16
"""So many answers of up to so many bytes are known again."""
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
_BOOLEANS = {"true": True, "false": False}
_ABSENT = object()
"""There is no such value, and no default."""


class _Schema:
    """A schema of the specification, compiled when it is needed first."""

    def __init__(self, spec: dict[str, Any], schema: dict[str, Any]) -> None:
        self._spec, self._schema = spec, schema

    @cached_property
    def _compiled(self) -> Draft202012Validator:
        # References lead into the components.
        return Draft202012Validator({**self._schema, "components": self._spec["components"]}, validate_formats=False)

    def is_valid(self, value: Any) -> bool:
        try:
            return self._compiled.is_valid(value)
        except ValueError:
            # It does not know numbers with their texts. To leave thousands of records to openapi-core would take long.
            return self._compiled.is_valid(_make_plain(value))


def _make_plain(value: Any) -> Any:
    """Return a copy whose numbers are Python's own."""
    if isinstance(value, dict):
        return {name: _make_plain(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_make_plain(child) for child in value]
    return float(value) if isinstance(value, float) else value


def _is_valid_text(schema: _Schema, text: bytes) -> bool:
    return schema.is_valid(orjson.loads(text))


class _NotAcceptedError(Exception):
    """This is for openapi-core to judge."""


@dataclass(frozen=True)
class _Parameter:
    """A parameter or header; ``kind`` is the type that its text is read as, "array" for one of texts."""

    name: str
    place: str
    kind: str
    is_required: bool
    default: Any
    schema: _Schema

    def read(self, sent: Any) -> Any:
        """Return the value; raise ``_NotAcceptedError`` for what is not plainly right."""
        texts = sent.getall(self.name) if hasattr(sent, "getall") else [sent[self.name]] if self.name in sent else []
        if not texts:
            if self.is_required:
                raise _NotAcceptedError
            return self.default
        if self.kind == "array":
            value: Any = texts
        elif len(texts) > 1 or (texts[0] == "" and self.place == "query"):
            raise _NotAcceptedError
        else:
            value = _read_text(self.kind, texts[0])
        if not self.schema.is_valid(value):
            raise _NotAcceptedError
        return value


def _read_text(kind: str, text: str) -> Any:
    if kind == "integer" and _INTEGER.fullmatch(text):
        return int(text)
    if kind == "boolean" and text in _BOOLEANS:
        return _BOOLEANS[text]
    if kind == "string":
        return text
    raise _NotAcceptedError


@dataclass(frozen=True)
class _Answer:
    """What the specification says of one status; ``schema`` is None for an answer that is no JSON."""

    headers: tuple[_Parameter, ...]
    schema: _Schema | None
    types: frozenset[str]


@dataclass(frozen=True)
class _Operation:
    parameters: tuple[_Parameter, ...]
    has_body: bool
    body: _Schema | None
    answers: Mapping[str, _Answer] = field(default_factory=dict)


class Compiled:
    """The operations of a specification that can be judged at once, by path and method; the others are left out."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._schemas: dict[int, _Schema] = {}
        self.operations: dict[tuple[str, str], _Operation] = {}
        for path, method, described in iterate_operations(spec):
            common = spec["paths"][path].get("parameters", [])
            self.operations[path, method] = self._compile_operation(described, common)

    def find(self, request: Any) -> _Operation:
        """Return the operation of a request as the package wraps it."""
        try:
            return self.operations[request.path_pattern.removeprefix(PREFIX), request.method]
        except KeyError:
            raise _NotAcceptedError from None

    def _resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target: Any = self._spec
            for name in node["$ref"].removeprefix("#/").split("/"):
                target = target[name]
            node = target
        return node

    def _compile(self, schema: dict[str, Any]) -> _Schema:
        # Most refusals are described once and referred to everywhere.
        return self._schemas.setdefault(id(schema), _Schema(self._spec, schema))

    def _compile_parameter(self, node: dict[str, Any], name: str = "", place: str = "header") -> _Parameter:
        node = self._resolve(node)
        schema = self._resolve(node["schema"])
        return _Parameter(
            node.get("name", name),
            node.get("in", place),
            schema.get("type", ""),
            node.get("required", False),
            schema.get("default", _ABSENT),
            self._compile(node["schema"]),
        )

    def _compile_operation(self, described: dict[str, Any], common: list[dict[str, Any]]) -> _Operation:
        own = [self._compile_parameter(node) for node in described.get("parameters", [])]
        known = {(parameter.name, parameter.place) for parameter in own}
        inherited = [self._compile_parameter(node) for node in common]
        body = self._resolve(described.get("requestBody", {}))
        content = body.get("content", {})
        return _Operation(
            (*own, *(parameter for parameter in inherited if (parameter.name, parameter.place) not in known)),
            bool(body),
            self._compile(content[JSON]["schema"]) if JSON in content else None,
            {status: self._compile_answer(node) for status, node in described["responses"].items()},
        )

    def _compile_answer(self, node: dict[str, Any]) -> _Answer:
        node = self._resolve(node)
        content = node.get("content", {})
        headers = node.get("headers", {}).items()
        return _Answer(
            tuple(self._compile_parameter(header, name) for name, header in headers),
            self._compile(content[JSON]["schema"]) if JSON in content else None,
            frozenset(name for name, described in content.items() if not described),
        )


class RequestValidator:
    """Stands where pyramid_openapi3 has openapi-core's validator of requests, and asks that one in doubt."""

    def __init__(self, compiled: Compiled, reference: Any, parse: Any) -> None:
        self._compiled, self.reference, self._parse = compiled, reference, parse

    def unmarshal(self, request: Any) -> Any:
        """Return what pyramid_openapi3 expects: errors, or the parameters and the body."""
        accepted = self.accept(request)
        return self.reference.unmarshal(request) if accepted is None else accepted

    def accept(self, request: Any) -> RequestUnmarshalResult | None:
        """Return the request's parameters and body if it plainly fits, else None. Raises what ``parse`` does."""
        try:
            operation = self._compiled.find(request)
            parameters = Parameters()
            for parameter in operation.parameters:
                value = parameter.read(getattr(request.parameters, parameter.place))
                if value is not _ABSENT:
                    getattr(parameters, parameter.place)[parameter.name] = value
            return RequestUnmarshalResult(errors=[], body=self._read_body(operation, request), parameters=parameters)
        except _NotAcceptedError:
            return None

    def _read_body(self, operation: _Operation, request: Any) -> Any:
        if not operation.has_body:
            return None
        body = request.body
        if not body or operation.body is None or request.mimetype != JSON:
            raise _NotAcceptedError
        value = self._parse(body)
        if not operation.body.is_valid(value):
            raise _NotAcceptedError
        return value


class ResponseValidator:
    """Stands where pyramid_openapi3 has openapi-core's validator of answers, and asks that one in doubt."""

    def __init__(self, compiled: Compiled, reference: Any) -> None:
        self._compiled, self.reference = compiled, reference
        # Some answers, such as the fields of the site, are the same again and again.
        self._knows = lru_cache(maxsize=KEPT_ANSWERS)(_is_valid_text)

    def iter_errors(self, *, request: Any, response: Any) -> Iterator[Exception]:
        """Yield what does not fit the specification."""
        if not self.accepts(request, response):
            yield from self.reference.iter_errors(request=request, response=response)

    def accepts(self, request: Any, response: Any) -> bool:
        """Say whether an answer plainly fits."""
        try:
            answers = self._compiled.find(request).answers
            answer = answers.get(str(response.status_code)) or answers["default"]
            for header in answer.headers:
                header.read(response.headers)
        except _NotAcceptedError:
            return False
        if answer.schema is not None and response.mimetype == JSON:
            judge = self._knows if len(response.data) <= KEPT_LENGTH else _is_valid_text
            return judge(answer.schema, response.data)
        # What is no JSON is not described further; a streamed body is not even looked at.
        return response.mimetype in answer.types or not (answer.types or answer.schema)
