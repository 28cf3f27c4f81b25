"""What a file announces: its name is data, never part of a path here, and its checksum proves its content."""

import re
import unicodedata
from urllib.parse import quote

from datameta.errors import Problem

MAX_NAME_LENGTH = 255
MAX_NAME_BYTES = 1000
_BIDI_OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")


def check_name(name: str) -> list[Problem]:
    """Return what is wrong with a file name; it is data, and never part of a path here."""

    def refuse(message: str) -> list[Problem]:
        return [Problem(message, "invalid_name", field="name")]

    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        return refuse(f"A file name has 1 to {MAX_NAME_LENGTH} characters.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name) or _BIDI_OVERRIDES.search(name):
        return refuse("A file name has no control characters.")
    if len(name.encode()) > MAX_NAME_BYTES:
        return refuse(f"A file name has at most {MAX_NAME_BYTES:,} bytes in UTF-8.")
    if "/" in name or "\\" in name or name in (".", ".."):
        return refuse("A file name is no path: leave out folders.")
    if name != name.strip():
        return refuse("A file name does not begin or end with a space.")
    return []


def check_checksum(checksum: str) -> list[Problem]:
    """Return what is wrong with a checksum."""
    if re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{64}", checksum):
        return []
    message = "The checksum is the MD5 (32 hexadecimal digits) or the SHA-256 (64) of the file's content."
    return [Problem(message, "invalid_checksum", field="checksum")]


def make_disposition(name: str) -> str:
    """Return the Content-Disposition that saves a file under ``name`` (RFC 6266, RFC 8187)."""
    plain = re.sub(r"[^ !#-$&-\[\]-~]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
