"""docs/asvs.md has each item of the two levels once, and names tests that exist."""

import ast
import re
from collections import Counter
from functools import cache

from tests.docs import DOCS

TEXT = (DOCS / "asvs.md").read_text("utf-8")
ITEM = re.compile(r"\b\d{1,2}\.\d\.\d{1,2}\b")
TEST = re.compile(r"`((?:\w+/)?\w+/test_\w+\.py)(?:::(\w+))?`")
# Levels 1 and 2 of ASVS 5.0.0, as section: numbers. Chapters 10 and 17 are left out as a whole.
ITEMS = """
    1.1: 1-2  1.2: 1-9  1.3: 1-11  1.4: 1-3  1.5: 1-2
    2.1: 1-3  2.2: 1-3  2.3: 1-4  2.4: 1
    3.2: 1-2  3.3: 1-4  3.4: 1-6  3.5: 1-5  3.7: 1-2
    4.1: 1-3  4.2: 1  4.3: 1-2  4.4: 1-4
    5.1: 1  5.2: 1-3  5.3: 1-2  5.4: 1-3
    6.1: 1-3  6.2: 1-12  6.3: 1-4  6.4: 1-4  6.5: 1-5  6.6: 1-3  6.8: 1-4
    7.1: 1-3  7.2: 1-4  7.3: 1-2  7.4: 1-5  7.5: 1-2  7.6: 1-2
    8.1: 1-2  8.2: 1-3  8.3: 1  8.4: 1
    9.1: 1-3  9.2: 1-4
    11.1: 1-2  11.2: 1-3  11.3: 1-3  11.4: 1-4  11.5: 1  11.6: 1
    12.1: 1-3  12.2: 1-2  12.3: 1-4
    13.1: 1  13.2: 1-5  13.3: 1-2  13.4: 1-5
    14.1: 1-2  14.2: 1-4  14.3: 1-3
    15.1: 1-3  15.2: 1-3  15.3: 1-7
    16.1: 1  16.2: 1-5  16.3: 1-4  16.4: 1-3  16.5: 1-3
"""


def list_items() -> list[str]:
    found = []
    for section, first, last in re.findall(r"(\d+\.\d): (\d+)(?:-(\d+))?", ITEMS):
        found += [f"{section}.{number}" for number in range(int(first), int(last or first) + 1)]
    return found


@cache
def list_tests(name: str) -> frozenset[str]:
    """Return the names of the tests in a file below ``tests``."""
    tree = ast.parse((DOCS.parent / "tests" / name).read_text("utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def test_each_item_stands_there_once() -> None:
    cells = [line.split("|")[1] for line in TEXT.splitlines() if line.startswith("| ")]
    counted = Counter(item for cell in cells for item in ITEM.findall(cell))
    assert {item: count for item, count in counted.items() if count > 1} == {}
    assert set(counted) == set(list_items())


def test_each_item_that_is_met_is_shown_by_something() -> None:
    met = TEXT.split("## Met")[1].split("\n## ")[0]
    rows = [line for line in met.splitlines() if line.startswith("| ") and ITEM.search(line)]
    assert len(rows) > 100
    assert [row for row in rows if not re.search(r"\.py|\]\(|`make ", row.rsplit("|", 2)[1])] == []


def test_each_test_that_is_named_exists() -> None:
    named = TEST.findall(TEXT)
    assert len(named) > 100
    assert [f"{file}::{name}" for file, name in named if name and name not in list_tests(file)] == []
    assert [file for file, name in named if not name and not list_tests(file)] == []


def test_each_document_that_is_named_exists() -> None:
    assert [link for link in re.findall(r"\]\((?!https?:)([^)#]+)", TEXT) if not (DOCS / link).exists()] == []
