"""docs/sheets.md explains every kind of finding, and every reason for which a sheet's file is refused."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import datameta

PACKAGE = Path(datameta.__file__).parent
DOCUMENT = PACKAGE.parent / "docs" / "sheets.md"
MAKERS = {"SheetError": 1, "Fault": 1, "Notice": 1, "Finding": 1, "_add": 1, "_add_value": 1, "_check_first": 4}
"""Where in a call the code stands."""
WORD = re.compile(r"[a-z]+(_[a-z0-9]+)*")


def list_codes() -> Iterator[str]:
    """Yield every code that the source writes down."""
    for path in [*(PACKAGE / "sheets").glob("*.py"), PACKAGE / "logic" / "sheets.py"]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                position = MAKERS.get(name, len(node.args))
                code = node.args[position] if position < len(node.args) else None
                if isinstance(code, ast.Constant):
                    yield str(code.value)
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "code":
                yield from (item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant))
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
                pairs = zip(node.targets[0].elts, getattr(node.value, "elts", ()), strict=False)
                yield from (
                    str(value.value)
                    for target, value in pairs
                    if getattr(target, "id", "") == "code" and isinstance(value, ast.Constant)
                )


def test_every_code_is_explained_and_no_other() -> None:
    codes = {code for code in list_codes() if WORD.fullmatch(code)}
    assert {"broken_file", "cell_error", "merged_cells", "old_template", "unknown_column"} <= codes
    explained = set()
    for line in DOCUMENT.read_text("utf-8").splitlines():
        if line.startswith("| `"):
            explained |= set(re.findall(r"`(\w+)`", line.split("|")[1]))
    assert explained == codes


def test_every_picture_is_shown() -> None:
    pictures = re.findall(r"!\[.+\]\((.+)\)", DOCUMENT.read_text("utf-8"))
    assert {DOCUMENT.parent / picture for picture in pictures} == set((DOCUMENT.parent / "pictures").iterdir())
