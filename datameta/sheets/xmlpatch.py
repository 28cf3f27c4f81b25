"""Changes in XML that leave every other byte as it was.

The rule this module guards: what a laboratory sent and we do not understand goes back as it came. So a part that is
long, or whose content is not ours, is not parsed and written anew; the places to change are found by a parser, and
changed in the text. Documents with a DTD are refused.
"""

import re
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from lxml import etree

from datameta.sheets.values import SheetError

_TAG = re.compile(rb"<[^\s/>]+(?:\s+[^\s=]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*/?>")
_ATTRIBUTE = re.compile(rb"(\s+)([^\s=/>]+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_DECLARATION = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.-]+)[\"']")


class Stop(Exception):  # noqa: N818
    """Raised by a handler that has seen enough."""


def parse_xml(data: bytes, *, recover: bool = False) -> Any:
    """Return the root of a small document. Raises ``SheetError`` if it has a DTD or is no XML."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=recover)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise _broken(error) from None
    if root is None:
        raise _broken("nothing in it")
    if root.getroottree().docinfo.doctype:
        raise _dtd()
    return root


def write_xml(root: Any) -> bytes:
    """Return a document as the formats want it."""
    written: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True, standalone=True)
    return written


def to_utf8(data: bytes) -> bytes:
    """Return a document in UTF-8, in which places are counted."""
    declared = _DECLARATION.match(data[:200].removeprefix(b"\xef\xbb\xbf"))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or (declared and declared[1].lower() not in (b"utf-8", b"us-ascii")):
        return write_xml(parse_xml(data))
    return data


def scan(
    data: bytes,
    start: Callable[[str, dict[str, str], int], None],
    end: Callable[[str, int], None],
    text: Callable[[str], None] | None = None,
    *,
    separator: str | None = None,
) -> None:
    """Call the handlers with each element's name and its place; ``separator`` if names shall have namespaces.

    The place of an end is that of its tag; of an element that ends itself, that behind it.
    """
    parser = expat.ParserCreate(namespace_separator=separator)
    parser.StartElementHandler = lambda name, attributes: start(name, attributes, parser.CurrentByteIndex)
    parser.EndElementHandler = lambda name: end(name, parser.CurrentByteIndex)
    if text is not None:
        parser.CharacterDataHandler = text

    def refuse(*_: object) -> None:
        raise _dtd()

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except Stop:
        pass
    except expat.ExpatError as error:
        raise _broken(error) from None


def get_tag(data: bytes, place: int) -> bytes:
    """Return the start tag at ``place``."""
    found = _TAG.match(data, place)
    assert found is not None, "the parser has seen a tag there"
    return found[0]


def set_attributes(tag: bytes, values: dict[bytes, str | None]) -> bytes:
    """Return a start tag with attributes set, or with None removed."""
    left = dict(values)

    def replace(match: re.Match[bytes]) -> bytes:
        if match[2] not in values:
            return match[0]
        left.pop(match[2], None)
        value = values[match[2]]
        return b"" if value is None else b'%s%s="%s"' % (match[1], match[2], escape(value))

    changed = _ATTRIBUTE.sub(replace, tag)
    added = b"".join(b' %s="%s"' % (name, escape(value)) for name, value in left.items() if value is not None)
    end = len(changed) - (2 if changed.endswith(b"/>") else 1)
    return changed[:end].rstrip() + added + changed[end:]


def open_tag(tag: bytes) -> tuple[bytes, bytes]:
    """Return a tag that ends itself as a start and an end tag."""
    name = re.split(rb"[\s/>]", tag[1:], maxsplit=1)[0]
    return tag.removesuffix(b"/>").rstrip() + b">", b"</" + name + b">"


def escape(text: str) -> bytes:
    """Return ``text`` as it stands in XML, in attributes too."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\n", "&#10;")):
        text = text.replace(character, entity)
    return text.encode()


def apply_edits(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Return ``data`` with each piece from one place to another replaced; no two overlap."""
    if not edits:
        return data
    pieces = []
    done = 0
    for first, last, new in sorted(edits, key=lambda edit: edit[:2]):
        pieces += [data[done:first], new]
        done = last
    pieces.append(data[done:])
    return b"".join(pieces)


def _dtd() -> SheetError:
    return SheetError("The file has a document type declaration, which no spreadsheet writes.", "dtd_refused")


def _broken(reason: object) -> SheetError:
    return SheetError(f"A part of the file is not what it should be: {reason}.", "broken_file")
