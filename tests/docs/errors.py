"""The error codes, read from the source: wherever a message stands beside a code, the message is the meaning."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from datameta.api import errors as http_errors
from datameta.api.errors import MethodNotAllowedError, status_of
from datameta.errors import DataMetaError, ValidationError
from datameta.server import REFUSALS
from tests.unit.test_architecture import parse_modules

INTRODUCTION = """\
# Error codes

Made from the source by `make docs`; a test keeps it whole.

Every answer of 400 and above is `application/json`, and a list of all problems that were found:

```json
[{"exception": "ValidationError", "error_code": "regex_mismatch", "message": "…", "entity": {"uuid": "…", "site": "…"}, "field": "ZIPCode"}]
```

`exception`, `error_code` and `message` are always there, `entity` and `field` where they apply. Programs go by
`error_code`, which stays as it is; messages are for people and may be reworded. The order of refusals is: who are you
(401), does the request fit the specification (400), does the thing exist (404) and may you (403), the rules (400, 409).

| error_code | status and exception | message |
|---|---|---|
"""  # noqa: E501
WORD = re.compile(r"[a-z]+(_[a-z0-9]+)*")


@dataclass
class Entry:
    """What is known of one code."""

    answers: set[tuple[int, str]] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)

    def add(self, status: int, exception: str, message: str) -> None:
        self.answers.add((status, exception))
        if message not in self.messages:
            self.messages.append(message)


def list_kinds(kind: type[DataMetaError] = DataMetaError) -> Iterator[type[DataMetaError]]:
    """Yield every class of refusals."""
    for child in kind.__subclasses__():
        if child.__module__.startswith("datameta."):
            yield child
            yield from list_kinds(child)


def collect_codes() -> dict[str, Entry]:
    """Return every code with what it means; raises ``ValueError`` where the source cannot be read."""
    kinds = {kind.__name__: kind for kind in list_kinds()}
    found: dict[str, Entry] = {}
    for kind in kinds.values():
        # The one that has no message of its own names what it would take instead.
        message = "This address takes …." if kind is MethodNotAllowedError else kind.message
        found.setdefault(kind.code, Entry()).add(_status(kind), kind.__name__, message)
    general = set(found)
    # Some kinds exist for one purpose only, which may be found before the error is made.
    of_http = {kind.code: kind for kind in kinds.values() if kind.__module__ == http_errors.__name__}
    for name, tree in parse_modules():
        # By what stands in the source; a list of problems is a ``ValidationError`` where nothing else is said.
        for code, kind_name, message in Reader(name, tree, set(kinds)).read(tree):
            kind = of_http.get(code, kinds[kind_name])
            entry = found.setdefault(code, Entry())
            # What a whole class is called has the message of the class; single ones only make it more exact.
            entry.add(_status(kind), kind.__name__, entry.messages[0] if code in general else message)
    for status, (exception, code, message) in REFUSALS.items():
        entry = found.setdefault(code, Entry())
        entry.add(status, exception, entry.messages[0] if entry.messages else re.sub(r"{\w+}", "…", message))
    return found


def _status(kind: type[DataMetaError]) -> int:
    return status_of(kind.__new__(kind))


class Reader:
    """Finds, in one module, the messages that stand beside a code: in problems, errors and pairs of the two."""

    def __init__(self, module: str, tree: ast.Module, kinds: set[str]) -> None:
        self.module = module
        self.tree = tree
        self.kinds = kinds

    def read(
        self, node: ast.AST, kind: str = ValidationError.__name__, scope: ast.FunctionDef | None = None
    ) -> Iterator[tuple[str, str, str]]:
        """Yield code, class and message; ``kind`` is the error that is being made around ``node``."""
        if isinstance(node, ast.FunctionDef):
            scope, kind = node, self.find_raised(node) or kind
        found: tuple[ast.expr, ast.expr] | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in self.kinds:
                kind = node.func.id
                codes = [word.value for word in node.keywords if word.arg == "code"]
                found = (node.args[0], codes[0]) if codes else None
            elif node.func.id == "Problem":
                found = node.args[0], node.args[1]
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            message, code = node.elts
            is_word = isinstance(code, ast.Constant) and WORD.fullmatch(str(code.value))
            is_sentence = any(text.endswith(".") for text in self.list_texts(message, scope))
            found = (message, code) if is_word and is_sentence else None
        if found is not None and isinstance(found[1], ast.Constant) and isinstance(found[1].value, str):
            messages = self.list_texts(found[0], scope)
            if not all(messages) or not messages:
                raise ValueError(f"{self.module}:{found[0].lineno}: what is the message of {found[1].value}?")
            for message in messages:
                yield found[1].value, kind, message
        for child in ast.iter_child_nodes(node):
            yield from self.read(child, kind, scope)

    def find_raised(self, function: ast.FunctionDef) -> str | None:
        """Return the one class that a function raises with problems it has gathered under a name."""
        calls = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise)]
        found = {
            call.func.id
            for call in calls
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self.kinds
            if [type(argument) for argument in call.args] == [ast.Name] and not call.keywords
        }
        return found.pop() if len(found) == 1 else None

    def list_texts(self, node: ast.expr, scope: ast.FunctionDef | None) -> list[str]:
        """Return the texts that an expression may be, with … for what only the run knows."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [re.sub(r"{\w*}", "…", node.value)]
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            return ["".join(map(str, parts))]
        if isinstance(node, ast.IfExp):
            return self.list_texts(node.body, scope) + self.list_texts(node.orelse, scope)
        if isinstance(node, ast.BoolOp):
            # What a site has written itself, or else our own words.
            return self.list_texts(node.values[-1], scope)
        if isinstance(node, ast.Name) and scope is not None:
            names = [argument.arg for argument in scope.args.args]
            if node.id in names:
                return self.list_passed(scope, names.index(node.id))
            return [text for value in _list_values(scope, node) for text in self.list_texts(value, scope)]
        return []

    def list_passed(self, function: ast.FunctionDef, position: int) -> list[str]:
        """Return the texts with which a function is called in this module."""
        return [
            text
            for call in ast.walk(self.tree)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == function.name
            for text in self.list_texts(call.args[position], None)
        ]


def _list_values(scope: ast.FunctionDef, used: ast.Name) -> list[ast.expr]:
    """Return what a name may stand for where it is used: its last value, and others if that one was conditional."""
    before = [place for place in ast.walk(scope) if isinstance(place, ast.stmt) and place.lineno < used.lineno]
    branches = [place for place in before if isinstance(place, ast.If) and (place.end_lineno or 0) < used.lineno]
    values: list[ast.expr] = []
    for place in sorted(before, key=lambda place: -place.lineno):
        if not isinstance(place, ast.Assign):
            continue
        target, value = place.targets[0], place.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=True))
        made = [value for name, value in pairs if isinstance(name, ast.Name) and name.id == used.id]
        values = made + values
        if made and not any(branch.lineno < place.lineno <= (branch.end_lineno or 0) for branch in branches):
            break
    return values


def render_errors(found: dict[str, Entry]) -> str:
    """Return the document."""
    lines = []
    for code, entry in sorted(found.items()):
        answers = "<br>".join(f"{status} {exception}" for status, exception in sorted(entry.answers))
        messages = "<br>".join(message.replace("|", "\\|") for message in entry.messages)
        lines.append(f"| `{code}` | {answers} | {messages} |\n")
    return INTRODUCTION + "".join(lines)
