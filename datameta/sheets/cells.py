"""What any format's cell has to hold to that its text is a value: all of it can be seen, and it is not endless."""

import re

from datameta.sheets.values import Fault

LONGEST_SHOWN = 100
"""Characters of a faulty cell that are repeated to who sent it."""

UNSEEN = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Control characters but tab and line breaks; what is there without being seen, or turns what follows; half pairs."""


def read_text(text: str, longest: int) -> str | Fault | None:
    """Return a cell's text as a value."""
    if not text:
        return None
    if len(text) > longest:
        message = f"The cell has {len(text):,} characters; a value can have {longest:,}."
        return Fault(message, "cell_too_long", shorten(text))
    found = UNSEEN.search(text)
    if found is None:
        return text
    character = f"U+{ord(found[0]):04X}"
    message = f"The cell has a character that can't be seen ({character}, the {found.start() + 1}. of the cell)."
    return Fault(message, "cell_unseen_character", shorten(UNSEEN.sub("\ufffd", text)))


def shorten(text: str) -> str:
    """Return what is shown of a faulty cell's text."""
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
