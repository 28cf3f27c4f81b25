"""openapi.yaml is one whole, bounded description of v1: no string, list, number or object in it is without a limit."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from openapi_spec_validator.readers import read_from_filename

SPEC_FILE = Path(__file__).parents[2] / "openapi.yaml"
PUBLIC_OPERATIONS = {
    ("post", "/keys"),
    ("post", "/sessions"),
    ("put", "/users/{id}/password"),
    ("post", "/rpc/request-password-reset"),
    ("put", "/upload/{id}"),
    ("post", "/upload/{id}"),
    ("put", "/upload/{id}/{number}"),
    ("get", "/download/{token}"),
    ("get", "/server"),
    ("post", "/registrations"),
    ("get", "/registrationsettings"),
    ("get", "/site"),
}
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
RAW_BYTES = {"application/octet-stream", "*/*"}
FREE_FORM = "#/components/schemas/Record/additionalProperties"
# A schema may use nothing that the lint does not understand: a limit could hide behind it.
KEYWORDS = {
    "$ref", "additionalProperties", "anyOf", "contentMediaType", "default", "description", "enum", "example", "items",
    "maxItems", "maxLength", "maxProperties", "maximum", "minimum", "pattern", "properties", "propertyNames",
    "required", "type",
}  # fmt: skip


def lint_spec(spec: dict[str, Any]) -> list[str]:
    """List every breach of the rules, each as ``JSON pointer: what is wrong``."""
    return [*lint_document(spec, "#"), *lint_operations(spec)]


def lint_document(node: Any, path: str) -> Iterator[str]:
    """Lint all that lies under a node outside of schemas, and hand its schemas on."""
    if isinstance(node, list):
        for number, child in enumerate(node):
            yield from lint_document(child, f"{path}/{number}")
    elif isinstance(node, dict):
        if "$ref" in node:
            yield from lint_reference(node, path)
        elif path.startswith(("#/paths", "#/components")) and ({"in", "schema"} & node.keys()):
            yield from lint_description(node, path) if "/content/" not in path else ()
        for key, child in node.items():
            child_path = f"{path}/{escape_pointer(key)}"
            if path == "#/components/schemas" or key == "schema":
                yield from lint_schema(child, child_path)
                if path == "#/components/schemas":
                    yield from lint_description(child, child_path)
            else:
                yield from lint_document(child, child_path)
                if key == "content":
                    for media_type in sorted(child.keys() - RAW_BYTES):
                        if "schema" not in child[media_type]:
                            yield f"{child_path}/{escape_pointer(media_type)}: a body needs a schema"


def lint_schema(schema: Any, path: str) -> Iterator[str]:
    """List what a schema and the schemas inside it leave without a limit."""
    if not isinstance(schema, dict):
        yield f"{path}: {schema!r} allows anything"
        return
    for keyword in sorted(schema.keys() - KEYWORDS):
        yield f"{path}: the lint does not know {keyword!r}"
    if "$ref" in schema:
        yield from lint_reference(schema, path)
    elif "anyOf" in schema:
        for number, child in enumerate(schema["anyOf"]):
            yield from lint_schema(child, f"{path}/anyOf/{number}")
    elif "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        for name in types:
            yield from LIMITS[name](schema, path)
    elif path == FREE_FORM:
        yield from lint_string(schema, path)
    elif "contentMediaType" not in schema:
        yield f"{path}: a schema needs a type"


def lint_string(schema: dict[str, Any], path: str) -> Iterator[str]:
    """List what a string lacks: a greatest length, and words or a pattern without NUL."""
    if "maxLength" not in schema:
        yield f"{path}: a string needs maxLength"
    if "enum" in schema:
        if any("\0" in word for word in schema["enum"]):
            yield f"{path}: a string may not contain NUL"
    elif not excludes_nul(schema.get("pattern", "")):
        yield f"{path}: a string needs a pattern that excludes NUL"


def excludes_nul(pattern: str) -> bool:
    """Say whether a pattern surely matches no string with NUL; a pattern too clever to tell does not count."""
    if not pattern.startswith("^") or not pattern.endswith("$") or pattern.endswith(r"\$"):
        return False
    classes = re.compile(r"\[(\^?)[^\]]*\]")
    for character_class in classes.finditer(pattern):
        if character_class[1]:
            if r"\x00" not in character_class[0]:
                return False
        elif re.search(r"\\[DSWux0]|\0", character_class[0]):
            return False
    return not re.search(r"[.|]|\\[DSWux0]|\0", classes.sub("", pattern))


def lint_array(schema: dict[str, Any], path: str) -> Iterator[str]:
    """List what an array lacks: a greatest length, and a schema of its items."""
    if "maxItems" not in schema:
        yield f"{path}: an array needs maxItems"
    yield from lint_schema(schema.get("items", True), f"{path}/items")


def lint_number(schema: dict[str, Any], path: str) -> Iterator[str]:
    """List the bounds a number lacks."""
    for bound in ("minimum", "maximum"):
        if bound not in schema:
            yield f"{path}: a number needs {bound}"


def lint_object(schema: dict[str, Any], path: str) -> Iterator[str]:
    """List what leaves an object open: it is closed, or a map whose keys, values and size have limits."""
    for name, child in schema.get("properties", {}).items():
        child_path = f"{path}/properties/{escape_pointer(name)}"
        yield from lint_schema(child, child_path)
        yield from lint_description(child, child_path)
    if schema.get("additionalProperties") is False:
        return
    if "additionalProperties" not in schema:
        yield f"{path}: an object needs additionalProperties: false"
        return
    if "maxProperties" not in schema:
        yield f"{path}: a map needs maxProperties"
    yield from lint_schema(schema["additionalProperties"], f"{path}/additionalProperties")
    yield from lint_schema(schema.get("propertyNames", True), f"{path}/propertyNames")


def lint_nothing(schema: dict[str, Any], path: str) -> Iterator[str]:
    """List nothing: booleans and null are bounded by nature."""
    yield from ()


LIMITS: dict[str, Callable[[dict[str, Any], str], Iterator[str]]] = {
    "string": lint_string,
    "array": lint_array,
    "integer": lint_number,
    "number": lint_number,
    "object": lint_object,
    "boolean": lint_nothing,
    "null": lint_nothing,
}


def lint_reference(node: dict[str, Any], path: str) -> Iterator[str]:
    """List a reference that leaves the file."""
    if not node["$ref"].startswith("#/components/"):
        yield f"{path}: {node['$ref']} leaves the file's components"


def lint_description(node: Any, path: str) -> Iterator[str]:
    """List a node without description."""
    if not (isinstance(node, dict) and node.get("description")):
        yield f"{path}: a description is missing"


def lint_operations(spec: dict[str, Any]) -> Iterator[str]:
    """List what operations lack: name, description, their refusals, and bodies that cannot be left out."""
    names: set[str] = set()
    for method, path, operation in iterate_operations(spec):
        pointer = f"#/paths/{escape_pointer(path)}/{method}"
        name = operation.get("operationId")
        if not name or name in names:
            yield f"{pointer}: a unique operationId is missing"
        names.add(name or "")
        yield from lint_description(operation, pointer)
        responses = operation["responses"]
        if "default" not in responses:
            yield f"{pointer}: a default response is missing"
        if "401" not in responses and operation.get("security") != []:
            yield f"{pointer}: the response 401 is missing"
        for status, response in responses.items():
            if status[0] in "45d" and get_error_schema(spec, response) != "#/components/schemas/ErrorList":
                yield f"{pointer}/responses/{status}: a refusal is an ErrorList"
        if not operation.get("requestBody", {}).get("required", "requestBody" not in operation):
            yield f"{pointer}/requestBody: a body needs required: true"


def get_error_schema(spec: dict[str, Any], response: dict[str, Any]) -> str | None:
    """Get the name of the JSON schema of a response, or None."""
    if "$ref" in response:
        response = spec["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema: dict[str, str] = response.get("content", {}).get("application/json", {}).get("schema", {})
    return schema.get("$ref")


def iterate_operations(spec: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Iterate over (method, path, operation)."""
    for path, item in spec["paths"].items():
        for method in item.keys() & METHODS:
            yield method, path, item[method]


def escape_pointer(key: str) -> str:
    """Write a key as part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


@pytest.fixture(scope="module")
def spec() -> Any:
    """Read the specification."""
    return read_from_filename(str(SPEC_FILE))[0]


def test_spec_is_valid_openapi(spec: Any) -> None:
    validate(spec)
    assert spec["openapi"] == "3.1.0"
    assert spec["servers"][0]["url"] == "/api/v1"


def test_spec_has_limits_everywhere(spec: Any) -> None:
    assert lint_spec(spec) == []


def test_public_operations_are_those_of_the_contract(spec: Any) -> None:
    public = {
        (method, path)
        for method, path, operation in iterate_operations(spec)
        if operation.get("security", spec["security"]) == []
    }
    assert public == PUBLIC_OPERATIONS


def test_one_credential_is_enough(spec: Any) -> None:
    assert spec["security"] == [{"bearerAuth": []}, {"cookieAuth": []}]
    others = [name for *_, name in iterate_operations(spec) if name.get("security", []) != []]
    assert others == []


def test_no_path_hides_a_method_of_another(spec: Any) -> None:
    # A request goes to the path that is spelt out, and is 405 there if only the template has its method.
    paths = {path: item.keys() & METHODS for path, item in spec["paths"].items()}
    hidden = [
        (path, template)
        for path, methods in paths.items()
        for template, others in paths.items()
        if path != template and re.fullmatch(re.sub("{[^}]+}", "[^/]+", template), path) and others - methods
    ]
    assert hidden == []


def test_writes_by_session_may_be_forbidden(spec: Any) -> None:
    # Without its CSRF token, any of them is.
    silent = [
        (method, path)
        for method, path, operation in iterate_operations(spec)
        if method != "get" and operation.get("security") != [] and "403" not in operation["responses"]
    ]
    assert silent == []


def test_pages_say_how_to_go_on(spec: Any) -> None:
    cursor = {"$ref": "#/components/parameters/Cursor"}
    link = {"Link": {"$ref": "#/components/headers/NextPage"}}
    for _, path, operation in iterate_operations(spec):
        is_page = cursor in operation.get("parameters", [])
        assert (operation["responses"].get("200", {}).get("headers") == link) == is_page, path


def test_every_component_is_used(spec: Any) -> None:
    used = set(re.findall(r"'\$ref': '([^']+)'", repr(spec)))
    kinds = spec["components"].keys() - {"securitySchemes"}
    assert {f"#/components/{kind}/{name}" for kind in kinds for name in spec["components"][kind]} == used


def test_package_carries_the_same_file() -> None:
    link = SPEC_FILE.parent / "datameta" / "api" / "openapi.yaml"
    assert link.is_symlink()
    assert str(link.readlink()) == "../../openapi.yaml"
    assert link.samefile(SPEC_FILE)


GOOD_SPEC: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Small", "version": "1"},
    "paths": {
        "/things": {
            "post": {
                "operationId": "createThing",
                "description": "Create a thing.",
                "parameters": [
                    {"name": "many", "in": "query", "description": "How many.", "schema": {"type": "boolean"}}
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}},
                },
                "responses": {
                    "200": {
                        "description": "Created.",
                        "headers": {"Count": {"description": "How many.", "schema": {"type": "boolean"}}},
                        "content": {"application/octet-stream": {}},
                    },
                    "401": {"$ref": "#/components/responses/Refused"},
                    "default": {"$ref": "#/components/responses/Refused"},
                },
            },
            "get": {
                "operationId": "getThing",
                "description": "Get a thing.",
                "security": [],
                "responses": {"default": {"$ref": "#/components/responses/Refused"}},
            },
        }
    },
    "components": {
        "responses": {
            "Refused": {
                "description": "Refused.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorList"}}},
            }
        },
        "schemas": {
            "ErrorList": {"type": "array", "maxItems": 1, "items": {"type": "null"}, "description": "Problems."},
            "Thing": {
                "type": "object",
                "additionalProperties": False,
                "description": "A thing.",
                "properties": {
                    "name": {"type": ["string", "null"], "maxLength": 1, "pattern": r"^[^\x00]*$", "description": "N."},
                    "kind": {"type": "string", "maxLength": 1, "enum": ["a", "b"], "description": "K."},
                    "size": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 1}], "description": "S."},
                    "words": {
                        "type": "object",
                        "maxProperties": 1,
                        "propertyNames": {"type": "string", "maxLength": 1, "pattern": "^[a-z]*$"},
                        "additionalProperties": {"type": "null"},
                        "description": "W.",
                    },
                },
            },
            "Record": {
                "type": "object",
                "maxProperties": 1,
                "propertyNames": {"type": "string", "maxLength": 1, "pattern": "^[a-z]*$"},
                "additionalProperties": {"maxLength": 1, "pattern": r"^[^\x00]*$"},
                "description": "Values.",
            },
        },
    },
}
REMOVED = object()
POST = "#/paths/~1things/post"
THING = "#/components/schemas/Thing"


def change_spec(pointer: str, value: Any) -> dict[str, Any]:
    """Copy the good spec with one node replaced or removed."""
    changed = deepcopy(GOOD_SPEC)
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    node: Any = changed
    for part in parents:
        node = node[int(part) if isinstance(node, list) else part]
    if value is REMOVED:
        del node[last]
    else:
        node[last] = value
    return changed


def test_lint_accepts_a_good_spec() -> None:
    validate(GOOD_SPEC)
    assert lint_spec(GOOD_SPEC) == []


@pytest.mark.parametrize(
    ("pointer", "value", "problem"),
    [
        (f"{THING}/properties/name/maxLength", REMOVED, f"{THING}/properties/name: a string needs maxLength"),
        (f"{THING}/properties/name/pattern", REMOVED, f"{THING}/properties/name: a string needs a pattern that"),
        (f"{THING}/properties/kind/enum", ["\0"], f"{THING}/properties/kind: a string may not contain NUL"),
        (f"{THING}/properties/size/anyOf/0/minimum", REMOVED, "/size/anyOf/0: a number needs minimum"),
        (f"{THING}/properties/size/anyOf/0/maximum", REMOVED, "/size/anyOf/0: a number needs maximum"),
        (f"{THING}/properties/words/maxProperties", REMOVED, "/properties/words: a map needs maxProperties"),
        (f"{THING}/properties/words/propertyNames", REMOVED, "/words/propertyNames: True allows anything"),
        (f"{THING}/properties/words/propertyNames/maxLength", REMOVED, "/propertyNames: a string needs maxLength"),
        (f"{THING}/properties/words/additionalProperties", True, "/words/additionalProperties: True allows anything"),
        (f"{THING}/properties/words/additionalProperties", {}, "/words/additionalProperties: a schema needs a type"),
        (f"{THING}/properties/words/additionalProperties", REMOVED, "/words: an object needs additionalProperties"),
        (f"{THING}/properties/words/description", REMOVED, f"{THING}/properties/words: a description is missing"),
        (f"{THING}/additionalProperties", REMOVED, f"{THING}: an object needs additionalProperties: false"),
        (f"{THING}/description", REMOVED, f"{THING}: a description is missing"),
        (f"{THING}/allOf", [], f"{THING}: the lint does not know 'allOf'"),
        (f"{FREE_FORM}/maxLength", REMOVED, f"{FREE_FORM}: a string needs maxLength"),
        (f"{FREE_FORM}/pattern", REMOVED, f"{FREE_FORM}: a string needs a pattern"),
        ("#/components/schemas/ErrorList/maxItems", REMOVED, "/ErrorList: an array needs maxItems"),
        ("#/components/schemas/ErrorList/items", REMOVED, "/ErrorList/items: True allows anything"),
        ("#/components/schemas/ErrorList/items/$ref", "other.yaml", "/items: other.yaml leaves the file's components"),
        (f"{POST}/parameters/0/$ref", "https://x/y", f"{POST}/parameters/0: https://x/y leaves the file's components"),
        (f"{POST}/parameters/0/description", REMOVED, f"{POST}/parameters/0: a description is missing"),
        (f"{POST}/parameters/0/schema", {"type": "number", "minimum": 0}, "/0/schema: a number needs maximum"),
        (f"{POST}/requestBody/required", REMOVED, f"{POST}/requestBody: a body needs required: true"),
        (f"{POST}/requestBody/content/application~1json", {}, "/content/application~1json: a body needs a schema"),
        (f"{POST}/responses/200/headers/Count/description", REMOVED, "/headers/Count: a description is missing"),
        (f"{POST}/responses/200/headers/Count/schema/type", REMOVED, "/Count/schema: a schema needs a type"),
        (f"{POST}/responses/401", REMOVED, f"{POST}: the response 401 is missing"),
        (f"{POST}/responses/default", REMOVED, f"{POST}: a default response is missing"),
        (f"{POST}/responses/404", {"description": "No."}, f"{POST}/responses/404: a refusal is an ErrorList"),
        (f"{POST}/description", REMOVED, f"{POST}: a description is missing"),
        (f"{POST}/operationId", REMOVED, f"{POST}: a unique operationId is missing"),
        (f"{POST}/operationId", "getThing", ": a unique operationId is missing"),
    ],
)
def test_lint_refuses(pointer: str, value: Any, problem: str) -> None:
    problems = lint_spec(change_spec(pointer, value))
    assert len(problems) == 1, problems
    assert problem in problems[0]


@pytest.mark.parametrize("pattern", [r"^[^\x00]*$", "^[A-Za-z0-9]{64}$", "^[0-9]+([.][0-9]+)?$", r"^\d\w\s$"])
def test_pattern_excludes_nul(pattern: str) -> None:
    assert excludes_nul(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["", "[a-z]", "^[a-z]", "[a-z]$", r"^a\$", "^a|b$", "^.*$", "^[^a]*$", r"^\W$", r"^[\S]$", "^\0$", r"^[\x00-z]$"],
)
def test_pattern_does_not_exclude_nul(pattern: str) -> None:
    assert not excludes_nul(pattern)
