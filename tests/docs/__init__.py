"""Documents that are made from the code, and the tests that they are what the code makes today."""

import os
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def check_document(name: str, text: str) -> None:
    """Fail if a document is not the text; with ``WRITE_DOCS`` set, as ``make docs`` does, write it."""
    path = DOCS / name
    if "WRITE_DOCS" in os.environ:
        path.write_text(text, "utf-8")
    assert path.read_text("utf-8") == text, f"docs/{name} is out of date: make docs"
