"""The shape of the code: imports point one way, and every error code is a stable word."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import datameta
from datameta import errors

PACKAGE = Path(datameta.__file__).parent
ABOVE_LOGIC = ("api", "web", "cli", "client", "commands", "keeping", "jobs", "app", "checkup", "server", "security")
SKIPPED = {"alembic"}


def parse_modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield each module's path below the package, and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.split("/")[0] not in SKIPPED:
            yield name, ast.parse(path.read_text("utf-8"))


def list_imports(tree: ast.Module) -> set[str]:
    """Return what a module imports, as dotted names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_rules_know_no_http() -> None:
    above = [f"datameta.{name}" for name in ABOVE_LOGIC]
    seen = 0
    for name, tree in parse_modules():
        top = name.split("/")[0].removesuffix(".py")
        if top in (*ABOVE_LOGIC, "__init__"):
            continue
        seen += 1
        wrong = [used for used in list_imports(tree) if is_within(used, "pyramid", "webob", "webtest", *above)]
        assert not wrong, f"{name} imports {wrong}"
    assert seen > 20


def test_models_and_storage_know_no_rules() -> None:
    for name, tree in parse_modules():
        if name.startswith(("models/", "storage/")):
            wrong = [used for used in list_imports(tree) if is_within(used, "datameta.logic", "datameta.authz")]
            assert not wrong, f"{name} imports {wrong}"


def test_the_ground_knows_nothing_above_it() -> None:
    for name, tree in parse_modules():
        if name in ("errors.py", "clock.py", "settings.py", "credentials.py"):
            wrong = [used for used in list_imports(tree) if is_within(used, "datameta")]
            assert not wrong, f"{name} imports {wrong}"


def list_error_codes() -> Iterator[tuple[str, str]]:
    """Yield each error code that the source writes down, and where."""
    for name, tree in parse_modules():
        for node in ast.walk(tree):
            code: ast.expr | None = None
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else ""
                code = next((word.value for word in node.keywords if word.arg == "code"), None)
                if called == "Problem" and len(node.args) > 1:
                    code = node.args[1]
            elif (
                isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "code"
            ):
                code = node.value
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                yield f"{name}:{node.lineno}", code.value


def test_every_error_code_is_a_word_in_snake_case() -> None:
    codes = dict(list_error_codes())
    assert {"not_found", "forbidden", "duplicate_name", "regex_mismatch", "ids_used_up"} <= set(codes.values())
    wrong = {place: code for place, code in codes.items() if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", code)}
    assert not wrong


def test_every_kind_of_error_has_a_code_and_a_sentence_of_its_own() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.DataMetaError)
    ]
    assert len(kinds) == len({kind.code for kind in kinds}) == len({kind.message for kind in kinds})
    assert all(kind.message.endswith(".") for kind in kinds)
