"""XML that strangers wrote: one streaming pass, and nothing is ever declared, expanded or fetched.

A document type is refused as soon as it begins; so neither entities nor external references exist, and what is not
well-formed is never half read in silence: the error comes before the last element is believed.
"""

from collections.abc import Callable, Iterable, Iterator
from xml.parsers import expat

from datameta.sheets.values import SheetError

Attributes = dict[str, str]
Start = Callable[[str, Attributes], None]
End = Callable[[str], None]

LONGEST_RUN = 1 << 20
"""Characters of one piece of text; spreadsheets themselves end at 32,767 for a cell."""
LONGEST_TAG = 1 << 20
"""Bytes of a tag with its attributes: what has not ended is read again with each chunk."""


def scan(
    chunks: Iterable[bytes],
    name: str,
    *,
    start: Start | None = None,
    end: End | None = None,
    texts: list[str] | None = None,
) -> Iterator[None]:
    """Parse a document, yielding after each of its chunks.

    ``texts`` gets every piece of character data; the handlers empty it where a text begins. ``name`` tells the
    document in messages. Raises ``SheetError``.
    """
    # Expat is called directly: of the standard library's parsers only it costs no object for each element,
    # and takes 2 µs for a cell.
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse_document_type
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    if texts is not None:
        parser.CharacterDataHandler = texts.append
    try:
        size = 0
        for chunk in chunks:
            parser.Parse(chunk, False)
            size += len(chunk)
            if size - parser.CurrentByteIndex > LONGEST_TAG:
                raise SheetError(f"A tag in {name} has more than a million bytes.", "cell_too_large")
            if texts and sum(map(len, texts)) > LONGEST_RUN:
                raise SheetError(f"A text in {name} has more than a million characters.", "cell_too_large")
            yield
        parser.Parse(b"", True)
        yield
    except expat.ExpatError as error:
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_NO_MEMORY]:
            raise MemoryError from None
        place = f"line {error.lineno}, column {error.offset + 1}: {expat.errors.messages[error.code]}"
        raise SheetError(f"The file is broken: {name} is not well-formed ({place}).", "broken_file") from None
    except (LookupError, ValueError):
        raise SheetError(f"The file is broken: {name} is in an encoding that is not known.", "broken_file") from None
    finally:
        # The handlers refer to what holds the parser.
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None


def parse(chunks: Iterable[bytes], name: str, *, start: Start, end: End | None = None) -> None:
    """Parse a whole document."""
    for _ in scan(chunks, name, start=start, end=end):
        pass


def find_root(chunks: Iterable[bytes], name: str) -> tuple[str, Attributes]:
    """Return name and attributes of a document's first element."""
    roots: list[tuple[str, Attributes]] = []
    steps = scan(chunks, name, start=lambda root, attributes: roots.append((root, attributes)))
    while not roots:
        # A document without any is an error, so this ends.
        next(steps)
    return roots[0]


def refuse_document_type(*_: object) -> None:
    """Refuse a document type declaration."""
    raise SheetError(
        "The file declares a document type, which no spreadsheet program writes; it is not read.", "dtd_refused"
    )


def local(name: str) -> str:
    """Return an element's or attribute's name without its prefix."""
    return name.rpartition(":")[2]


def is_true(text: str | None) -> bool:
    """Say whether an attribute that holds a truth value is set."""
    return text in ("1", "true", "on")
