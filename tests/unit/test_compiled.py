"""The compiled validators and openapi-core, which is the reference, come to the same verdict."""

import copy
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema_path import SchemaPath
from openapi_core.validation.schemas.exceptions import InvalidSchemaValue
from pyramid.request import Request
from pyramid.response import Response
from pyramid_openapi3.wrappers import PyramidOpenAPIRequest, PyramidOpenAPIResponse

from datameta.api import PREFIX, iterate_operations, load_spec
from datameta.api.compiled import JSON, Compiled, RequestValidator, ResponseValidator
from datameta.api.validation import _load_validators, parse_json, to_python_patterns

MUTATIONS = 100
EXAMPLES = 220
# fmt: off
WORDS = [
    "a", "A", "x1", "DMU1", "DMU-00000001", "0" * 32, "a" * 64, "Z2" * 32, "#0b6b6f", "2026-11", "1.5", "17", "B17",
    "B17:C", "en_GB.utf8", "2026-03-14T12:00:00+00:00", "2026-03-14T12:00:00.123456+01:00",
    "data:image/png;base64,AAAA",
    "JBSWY3DPEHPK3PXP", "user@example.org", "2f1c9a52-0b1c-4f5e-9d6a-0123456789ab", "spaces, ümläuts and 漢字", "",
]
JUNK = [
    None, True, False, 0, 1, -1, 1.0, 1.5, 1e300, 10**12, 10**19, 10**30, "", "a", "a\n", "\n", " ", "\x00", "é", "１",
    "x" * 101, "x" * 256, "x" * 1001, "0" * 31, "0" * 33, [], [None], ["a"], ["a", 1], [{}], {}, {"": ""}, {"a": 1},
    {"record": {}},
]
TEXTS = [
    "5", "05", "%205", "+5", "-5", "5.0", "5e0", "%EF%BC%95", "1_0", "", "x", "true", "True", "1", "0", "%00",
    "x" * 300, "2026-03-14T12:00:00%2B00:00",
]
# fmt: on


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return Compiled(load_spec())


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = load_spec()
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


@cache
def fitting(pattern: str, longest: int) -> list[str]:
    """Return words that a pattern takes; each pattern of the specification has some."""
    found = [word for word in WORDS if re.search(pattern, word) and len(word) <= longest]
    assert found, pattern
    return found


def make_value(schema: dict[str, Any], rnd: random.Random) -> Any:
    """Return a value that fits a schema of the specification."""
    schema = resolve(schema)
    if "enum" in schema or "const" in schema:
        return rnd.choice(schema.get("enum") or [schema["const"]])
    if "anyOf" in schema:
        return make_value(rnd.choice(schema["anyOf"]), rnd)
    kinds = schema.get("type", "string")
    kind = rnd.choice(kinds) if isinstance(kinds, list) else kinds
    if kind == "object":
        return make_object(schema, rnd)
    if kind == "array":
        count = rnd.randint(schema.get("minItems", 0), 2 + schema.get("minItems", 0))
        return [make_value(schema.get("items", {}), rnd) for _ in range(count)]
    if kind == "string":
        return rnd.choice(fitting(schema.get("pattern", ""), schema.get("maxLength", 10**6)))
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", -5), schema.get("maximum", 10**6)
        return rnd.choice([low, high, rnd.randint(int(low), int(high))])
    return {"boolean": rnd.random() < 0.5, "null": None}[kind]


def make_object(schema: dict[str, Any], rnd: random.Random) -> dict[str, Any]:
    required = schema.get("required", [])
    known = schema.get("properties", {})
    value = {name: make_value(known[name], rnd) for name in known if name in required or rnd.random() < 0.6}
    if isinstance(more := schema.get("additionalProperties", {}), dict) and not known:
        value |= {name: make_value(more, rnd) for name in rnd.sample(["A", "Lab-ID", "b c"], rnd.randint(0, 3))}
    return value


def list_places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a value: what holds it, and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield value, key
        yield from list_places(child)


def mutate(value: Any, rnd: random.Random) -> Any:
    """Return a copy that differs at one or two places, mostly no longer right."""
    box = [copy.deepcopy(value)]
    for _ in range(rnd.randint(1, 2)):
        holder, key = rnd.choice(list(list_places(box)))
        at_it = holder[key]
        deed = rnd.randrange(4)
        if deed == 0 and isinstance(holder, dict):
            del holder[key]
        elif deed == 1 and isinstance(at_it, dict):
            at_it[rnd.choice(["a", "Lab-ID", "", "x" * 300])] = rnd.choice(JUNK)
        elif deed == 2 and isinstance(at_it, str):
            holder[key] = rnd.choice(
                [at_it + "\n", at_it.upper(), at_it * 40, at_it[:-1], f" {at_it}", at_it + "\x00", at_it + "٣"]
            )
        elif deed == 3 and isinstance(at_it, list):
            at_it.append(rnd.choice(JUNK))
        else:
            holder[key] = copy.deepcopy(rnd.choice(JUNK))
    return box[0]


Judges = tuple[dict[str, Any], Callable[[Any], bool], Callable[[Any], bool]]


def make_judge(validator: Any) -> Callable[[Any], bool]:
    """Return what a validator of openapi-core says of a value."""

    def judge(value: Any) -> bool:
        try:
            validator.validate(value)
        except InvalidSchemaValue:
            return False
        return True

    return judge


@cache
def list_judges() -> list[Judges]:
    """Return each JSON body and answer of the specification: its schema, and what both say of a value."""
    spec = SchemaPath.from_dict(to_python_patterns(load_spec()))
    validators = _load_validators()
    judged = Compiled(load_spec())
    found: list[Judges] = []
    for path, method, described in iterate_operations(load_spec()):
        operation = judged.operations[path, method]
        parts = [(validators["request_validator"].reference, described.get("requestBody", {}), operation.body)]
        for status, answer in described["responses"].items():
            # A refusal is the same everywhere.
            if status == "200":
                parts.append((validators["response_validator"].reference, answer, operation.answers[status].schema))
        for reference, node, fast in parts:
            if fast is None:
                continue
            schema = resolve(node)["content"][JSON]["schema"]
            whole = SchemaPath.from_dict(to_python_patterns({**schema, "components": load_spec()["components"]}))
            found.append((schema, fast.is_valid, make_judge(reference.schema_validators_factory.create(spec, whole))))
    return found


def test_every_operation_is_compiled(compiled: Compiled) -> None:
    operations = {(path, method) for path, method, _ in iterate_operations(load_spec())}
    assert set(compiled.operations) == operations
    for path, method, described in iterate_operations(load_spec()):
        # What the compiled form relies on.
        operation = compiled.operations[path, method]
        assert resolve(described.get("requestBody", {"required": True}))["required"] is True
        assert "default" in operation.answers
        headers = [header for answer in operation.answers.values() for header in answer.headers]
        for parameter in (*operation.parameters, *headers):
            assert parameter.kind in ("string", "integer", "boolean", "array"), parameter


def test_what_fits_is_accepted_by_both() -> None:
    rnd = random.Random(1)
    for schema, fast, slow in list_judges():
        for _ in range(5):
            value = make_value(schema, rnd)
            assert fast(value), (schema, value)
            assert slow(value), (schema, value)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(min_value=0))
def test_both_come_to_the_same_verdict_on_what_was_changed(seed: int) -> None:
    rnd = random.Random(seed)
    schema, fast, slow = rnd.choice(list_judges())
    for _ in range(MUTATIONS):
        value = mutate(make_value(schema, rnd), rnd)
        assert fast(value) == slow(value), (schema, value)


def wrap(path: str, pattern: str, matched: dict[str, str], method: str = "GET", **rest: Any) -> Any:
    """Return a request as pyramid_openapi3 has it."""
    request = Request.blank(PREFIX + path, method=method, headers={"Authorization": f"Bearer {'a' * 64}"}, **rest)
    request.matchdict = matched
    request.matched_route = type("Route", (), {"pattern": PREFIX + pattern})()
    return PyramidOpenAPIRequest(request)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("/metadatasets", ["limit", "cursor", "submittedAfter", "awaitingService"]),
        ("/users", ["limit", "cursor"]),
        ("/search", ["where", "q", "limit", "serviceState"]),
        ("/sheets/template", ["format"]),
        ("/rpc/get-file-url/{id}", ["expires", "redirect"]),
    ],
)
def test_parameters_are_read_alike(pattern: str, names: list[str]) -> None:
    validator: RequestValidator = _load_validators()["request_validator"]
    accepted = 0
    for name in names:
        for query in [f"{name}={text}" for text in TEXTS] + [f"{name}=5&{name}=6", f"unknown=1&{name}=5", ""]:
            for identifier in ("DMF-1", "a" * 300, "a\n"):
                request = wrap(f"{pattern.format(id='x')}?{query}", pattern, {"id": identifier})
                fast = validator.accept(request)
                slow = validator.reference.unmarshal(request)
                if fast is None:
                    continue
                accepted += 1
                assert slow.errors == [], query
                assert (fast.parameters, fast.body) == (slow.parameters, slow.body), query
    assert accepted > len(names)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"name": "a", "checksum": "' + b"0" * 32 + b'"}', JSON),
        (b'{"name": "a", "checksum": "' + b"0" * 32 + b'"}', "application/json; charset=utf-8"),
        (b'{"name": "a", "checksum": "' + b"0" * 32 + b'"}', "text/plain"),
        (b'{"name": "a"}', JSON),
        (b'{"name": 1.50, "checksum": ""}', JSON),
        (b"[]", JSON),
        (b"", JSON),
    ],
)
def test_bodies_are_read_alike(body: bytes, content_type: str) -> None:
    validator: RequestValidator = _load_validators()["request_validator"]
    request = wrap("/files", "/files", {}, "POST", body=body, content_type=content_type)
    fast, slow = validator.accept(request), validator.reference.unmarshal(request)
    assert (fast is not None) == (slow.errors == [])
    if fast is not None:
        assert (fast.parameters, fast.body) == (slow.parameters, slow.body)


def test_what_both_might_refuse_is_refused_by_the_reference() -> None:
    validator: ResponseValidator = _load_validators()["response_validator"]
    request = wrap("/server", "/server", {})
    for status, body, content_type, is_right in (
        (200, {"apiVersion": "1", "datametaVersion": "2"}, JSON, True),
        (200, {"apiVersion": 1}, JSON, False),
        (200, {"apiVersion": "1", "datametaVersion": "2"}, "text/plain", False),
        (404, [{"exception": "E", "error_code": "x", "message": "m"}], JSON, True),
        (404, [{"exception": "E"}], JSON, False),
    ):
        response = PyramidOpenAPIResponse(
            Response(orjson.dumps(body), status=status, content_type=content_type, charset=None)
        )
        assert validator.accepts(request, response) is is_right
        assert (list(validator.iter_errors(request=request, response=response)) == []) is is_right


def test_an_answer_that_is_no_json_is_not_read() -> None:
    validator: ResponseValidator = _load_validators()["response_validator"]
    request = wrap("/sheets/template", "/sheets/template", {})

    def explode() -> Iterator[bytes]:
        raise AssertionError
        yield b""

    answer = Response(app_iter=explode(), content_type="application/octet-stream")
    answer.headers["Content-Disposition"] = "attachment; filename=template.xlsx"
    assert list(validator.iter_errors(request=request, response=PyramidOpenAPIResponse(answer))) == []


def test_numbers_that_know_how_they_were_written_are_accepted_at_once() -> None:
    validator: RequestValidator = _load_validators()["request_validator"]
    for number in (b"1.50", b"-2e-3", b"1" + b"0" * 40):
        body = b'{"records": [{"a": "x"}, {"a": %s}]}' % number
        request = wrap("/rpc/stage-metadatasets", "/rpc/stage-metadatasets", {}, "POST", body=body, content_type=JSON)
        fast, slow = validator.accept(request), validator.reference.unmarshal(request)
        assert slow.errors == []
        assert fast is not None
        assert repr(fast.body["records"][1]["a"]) == number.decode() == repr(slow.body["records"][1]["a"])


def test_an_unknown_place_is_left_to_the_reference(compiled: Compiled) -> None:
    validator = RequestValidator(compiled, None, parse_json)
    assert validator.accept(wrap("/nothing", "/nothing", {})) is None


def test_a_parameter_that_is_missing_is_left_to_the_reference() -> None:
    validator: RequestValidator = _load_validators()["request_validator"]
    request = wrap("/sheets/check", "/sheets/check", {}, "POST", body=b"x", content_type="application/octet-stream")
    assert validator.accept(request) is None
    assert validator.unmarshal(request).errors != []


def test_a_header_that_is_wrong_is_refused() -> None:
    validator: ResponseValidator = _load_validators()["response_validator"]
    answer = Response(b"", content_type="application/octet-stream")
    answer.headers["Content-Disposition"] = "x" * 10_000
    request = wrap("/sheets/template", "/sheets/template", {})
    assert list(validator.iter_errors(request=request, response=PyramidOpenAPIResponse(answer))) != []
