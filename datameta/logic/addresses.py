"""E-mail addresses: one address, in a form that no mail program can read as more than one, or as a header."""

import re

MAX_EMAIL_LENGTH = 254
_ATOM = r"[^@\s.,:;<>()\[\]\\\"]+"
_ADDRESS = re.compile(rf"{_ATOM}(\.{_ATOM})*@{_ATOM}(\.{_ATOM})*")


def is_address(text: str) -> bool:
    """Say whether a mail can go to ``text``."""
    return len(text) <= MAX_EMAIL_LENGTH and text.isprintable() and _ADDRESS.fullmatch(text) is not None
